//! Who may call what: tokens, their names for the audit log, and their roles. Pure.

use super::Settings;
use crate::secret::Secret;
use http::Method;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What the one without a name is called in the audit log.
pub const ONLY_TOKEN: &str = "token";

/// Who calls without a token, in the audit log.
pub const NOBODY: &str = "none";

/// An operator with a token of its own (`[[admin.operator]]`).
#[derive(Clone, Debug)]
pub struct Operator {
    /// Its name, for the audit log.
    pub name: String,
    /// What it shows.
    pub token: Secret,
    /// What it may do.
    pub role: Role,
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read.
    Read,
    /// Read and purge.
    Purge,
    /// Everything.
    All,
}

impl Role {
    /// Whether it may make this call.
    pub(super) fn may(self, method: &Method, path: &str) -> bool {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match self {
            Self::All => true,
            Self::Purge => reads || (*method == Method::POST && path == "/v1/purge"),
            Self::Read => reads,
        }
    }
}

/// The tokens, by digest: digests are of one length, and each is compared in constant time with every one.
#[derive(Debug)]
pub(super) struct Operators(Vec<Known>);

#[derive(Debug)]
struct Known {
    digest: [u8; 32],
    name: Arc<str>,
    role: Role,
}

impl Operators {
    pub(super) fn new(settings: &Settings) -> Self {
        let known = |token: &Secret, name: &str, role| Known {
            digest: Sha256::digest(token.expose()).into(),
            name: name.into(),
            role,
        };
        let one = settings.token.iter().map(|token| known(token, ONLY_TOKEN, Role::All));
        let named = settings.operators.iter().map(|own| known(&own.token, &own.name, own.role));
        Self(one.chain(named).collect())
    }

    /// Whether anybody may do everything: there is no token.
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token it is.
    pub(super) fn of(&self, token: &str) -> Option<(&str, Role)> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let (mut found, mut place) = (Choice::from(0), 0_u64);
        for (at, known) in (0_u64..).zip(&self.0) {
            let is = known.digest.ct_eq(&digest);
            place = u64::conditional_select(&place, &at, is);
            found |= is;
        }
        let known =
            usize::try_from(place).ok().filter(|_| bool::from(found)).and_then(|at| self.0.get(at))?;
        Some((&known.name, known.role))
    }
}
