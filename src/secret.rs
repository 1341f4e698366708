//! Secrets, URLs that may carry one, and hashes that stand for them: types that print redacted everywhere
//! (I12).

mod keyed;

pub use keyed::{HASH_BYTES, KeyedHash};

use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use url::Url;

/// What stands in the place of a secret in every output.
pub const REDACTED: &str = "redacted";

/// A secret text. `Debug`, `Display` and `Serialize` give [`REDACTED`].
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The secret itself; only for where it is used.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// The URL of another system. User info and query print redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Wraps a URL.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole URL, secrets included; only for where it is used.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        let has_user = !url.username().is_empty() || url.password().is_some();
        // Only cannot-be-a-base URLs refuse user info, and those have none to hide.
        if has_user && url.set_username(REDACTED).is_ok() {
            url.set_password(None).unwrap_or_default();
        }
        if url.query().is_some() {
            url.set_query(Some(REDACTED));
        }
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i12_secrets_print_redacted() {
        let secret = Secret::new("canary".into());
        assert_eq!(format!("{secret} {secret:?}"), "redacted redacted");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"redacted\"");
        let url = Endpoint::new(Url::parse("http://me:canary@host:1/p?token=canary").unwrap());
        for shown in [url.to_string(), format!("{url:?}"), serde_json::to_string(&url).unwrap()] {
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains("host:1/p"), "{shown}");
        }
        assert_eq!(url.expose().password(), Some("canary"));
    }
}
