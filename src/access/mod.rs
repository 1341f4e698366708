//! Who may come in: keys, tokens, certificates and addresses, any one of which suffices (`[[access]]`).
//!
//! ```text
//! certificate named? key known? token good?  -> admitted, with a name
//! address within a range?                    -> admitted, without one
//! token of an unknown signer                 -> the keys are fetched, at a bounded rate; asked once more
//! else                                       -> denied, by the reason that says most
//! ```
//!
//! What is presented is looked at here; what becomes of its fields is the gateway's affair (`gateway/door.rs`).

mod denial;
mod identity;
mod jwt;
mod keys;
mod settings;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub use jwt::fuzzing;

pub use denial::Denial;
pub use identity::{Identity, Way};
pub use jwt::{Algorithm, JwksOrigin, KeySet, KeySetFault};
pub use keys::{ApiKey, KEYS_MAX, KeyDigest};
pub use settings::{Certificates, Credentials, Jwt, Preflight, Settings};

use crate::clock::Timestamp;
use jwt::{Keyring, Unjudged};
use keys::ApiKeys;
use std::net::IpAddr;
use std::sync::Arc;

/// What a request shows of who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The client's address, behind trusted proxies.
    pub address: IpAddr,
    /// The name in the client's certificate, which was verified.
    pub certificate: Option<&'a str>,
    /// What stands in the field of keys.
    pub key: Credential<'a>,
    /// What stands behind `Bearer` in Authorization.
    pub bearer: Credential<'a>,
}

/// A credential as a field has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// There is none.
    None,
    /// One.
    One(&'a [u8]),
    /// There are several, or it cannot be read: nobody knows which one another reader would take.
    Ambiguous,
}

/// Whether a request comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does; with a name, unless its address is all that is known.
    Admitted(Option<Identity>),
    /// It does not.
    Denied(Denial),
    /// The keys that could tell are not known: fetch them ([`Access::renewed`]), and ask again.
    KeysNeeded,
}

/// An `[[access]]` at work.
#[derive(Debug)]
pub struct Access {
    settings: Settings,
    keys: ApiKeys,
    keyring: Option<Arc<Keyring>>,
}

impl Access {
    /// At work by `settings`. Goes on with the signers' keys of the one before, where they come from the same
    /// place.
    #[must_use]
    pub fn new(settings: Settings, before: Option<&Self>, now: Timestamp) -> Arc<Self> {
        let keyring = settings.jwt.as_ref().map(|jwt| {
            let kept = before.and_then(|before| before.keyring.as_ref()).filter(|held| held.is_of(jwt));
            kept.map_or_else(|| Keyring::new(jwt, now), Arc::clone)
        });
        Arc::new(Self { keys: ApiKeys::new(&settings.keys), keyring, settings })
    }

    /// How it is configured.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a request comes in, by what is known now.
    #[must_use]
    pub fn judge(&self, shown: &Shown<'_>, now: Timestamp) -> Verdict {
        let certificate = shown.certificate.filter(|name| self.settings.certificates.include(name));
        if let Some(name) = certificate {
            return self.admitted(Way::Certificate, name);
        }
        if let Credential::One(key) = shown.key
            && let Some(name) = self.keys.name_of(key)
        {
            return self.admitted(Way::Key, name);
        }
        let by_token = self.by_token(shown, now);
        if let Verdict::Admitted(_) = by_token {
            return by_token;
        }
        if self.settings.addresses.iter().any(|range| range.contains(&shown.address.to_canonical())) {
            return Verdict::Admitted(None);
        }
        match by_token {
            Verdict::Denied(Denial::Missing) => Verdict::Denied(self.without_token(shown)),
            other => other,
        }
    }

    fn admitted(&self, way: Way, name: &str) -> Verdict {
        Verdict::Admitted(Some(Identity::new(&self.settings.name, way, name)))
    }

    fn by_token(&self, shown: &Shown<'_>, now: Timestamp) -> Verdict {
        let (Some(jwt), Some(keyring)) = (&self.settings.jwt, &self.keyring) else {
            return Verdict::Denied(Denial::Missing);
        };
        let token = match shown.bearer {
            Credential::None => return Verdict::Denied(Denial::Missing),
            Credential::Ambiguous => return Verdict::Denied(Denial::Malformed),
            Credential::One(token) => token,
        };
        match keyring.subject(token, jwt, now) {
            Ok(subject) => self.admitted(Way::Token, &subject),
            Err(Unjudged::Denied(denial)) => Verdict::Denied(denial),
            Err(Unjudged::KeysNeeded) => Verdict::KeysNeeded,
        }
    }

    /// Why nobody comes in who shows no token.
    fn without_token(&self, shown: &Shown<'_>) -> Denial {
        match shown.key {
            _ if !self.settings.has_credentials() => match shown.certificate {
                Some(_) if self.settings.addresses.is_empty() => Denial::Certificate,
                _ if self.settings.addresses.is_empty() => Denial::NoCertificate,
                _ => Denial::Address,
            },
            Credential::One(_) if !self.settings.keys.is_empty() => Denial::UnknownKey,
            Credential::None | Credential::One(_) => Denial::Missing,
            Credential::Ambiguous => Denial::Malformed,
        }
    }

    /// Fetches the signers' keys where that is due for a token of an unknown signer; then [`Access::judge`] knows
    /// as much as there is to know: [`Verdict::KeysNeeded`] becomes a denial ([`Access::unknown_signer`]).
    pub async fn renewed(&self, now: Timestamp) {
        if let Some(keyring) = &self.keyring {
            keyring.renewed(now).await;
        }
    }

    /// What a token is denied by whose signer is not known after [`Access::renewed`] either.
    #[must_use]
    pub fn unknown_signer(&self, now: Timestamp) -> Denial {
        match &self.keyring {
            Some(keyring) if keyring.has_keys(now) => Denial::Signer,
            _ => Denial::KeysUnavailable,
        }
    }
}
