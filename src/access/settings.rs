//! What an access is built from (`[[access]]`).

use super::jwt::{Algorithm, JwksOrigin};
use super::keys::ApiKey;
use http::HeaderName;
use http::header::AUTHORIZATION;
use ipnet::IpNet;
use std::time::Duration;

/// Who may come in by any of these ways.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Clients of these addresses.
    pub addresses: Vec<IpNet>,
    /// Clients with these names in their certificates.
    pub certificates: Certificates,
    /// Clients with one of these keys.
    pub keys: Vec<ApiKey>,
    /// Where keys are looked for; Authorization: behind `Bearer`.
    pub key_field: HeaderName,
    /// Clients with a token.
    pub jwt: Option<Jwt>,
    /// What becomes of a credential that was looked at.
    pub credentials: Credentials,
    /// The field that tells the source who asks.
    pub identity_field: Option<HeaderName>,
    /// What becomes of CORS preflights, which browsers send without credentials.
    pub preflight: Preflight,
}

/// Whose certificates suffice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// Nobody's.
    None,
    /// Everybody's that the authorities vouch for, if it has a name.
    Any,
    /// Those of these names.
    Of(Vec<String>),
}

impl Certificates {
    pub(super) fn include(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::Of(names) => names.iter().any(|own| own == name),
        }
    }
}

/// What becomes of a credential that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// It goes no further.
    Remove,
    /// The source gets it.
    Forward,
}

/// What becomes of CORS preflights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// They need a credential, as all others.
    Refuse,
    /// They pass.
    Pass,
}

/// Tokens that are good (RFC 7519).
#[derive(Clone, Debug)]
pub struct Jwt {
    /// Their `iss`.
    pub issuer: String,
    /// Their `aud` has one of these.
    pub audience: Vec<String>,
    /// They are signed in one of these ways.
    pub algorithms: Vec<Algorithm>,
    /// Where the signers' keys are.
    pub jwks: JwksOrigin,
    /// How far the clocks may differ.
    pub leeway: Duration,
    /// The claim that names who it is.
    pub claim: String,
    /// How old the signers' keys become before they are fetched anew.
    pub refresh: Duration,
}

impl Settings {
    /// Whether a credential in a field could let somebody in.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        !self.keys.is_empty() || self.jwt.is_some()
    }

    /// Whether what stands behind `Bearer` in Authorization is looked at.
    #[must_use]
    pub fn looks_at_bearer(&self) -> bool {
        self.jwt.is_some() || (!self.keys.is_empty() && self.key_field == AUTHORIZATION)
    }

    /// Whether anybody who comes in has a name.
    #[must_use]
    pub fn names_anybody(&self) -> bool {
        self.has_credentials() || self.certificates != Certificates::None
    }
}
