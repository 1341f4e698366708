//! Who came in, as quotas count and stored responses are split.

use http::HeaderValue;
use std::fmt;

/// How somebody was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a key.
    Key,
    /// By a token.
    Token,
    /// By a certificate.
    Certificate,
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
            Self::Certificate => "certificate",
        }
    }
}

/// The name of somebody who came in. One of another `[[access]]`, or recognised in another way, is another.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    way: Way,
    whole: String,
    name_at: usize,
}

impl Identity {
    /// Somebody of a name.
    #[must_use]
    pub fn new(access: &str, way: Way, name: &str) -> Self {
        // The length keeps an access and a name from being cut otherwise.
        let mut whole = format!("{}:{}:{access}:", way.as_str(), access.len());
        let name_at = whole.len();
        whole.push_str(name);
        Self { way, whole, name_at }
    }

    /// The owner of a certificate, whoever may come in.
    #[must_use]
    pub fn of_certificate(name: &str) -> Self {
        Self::new("", Way::Certificate, name)
    }

    /// How it was recognised.
    #[must_use]
    pub const fn way(&self) -> Way {
        self.way
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.whole.get(self.name_at..).unwrap_or_default()
    }

    /// What tells it from all others, fit for a field; it never prints.
    ///
    /// `None` where the name has a control character.
    #[must_use]
    pub fn value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(self.whole.as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}
