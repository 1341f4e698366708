//! A token taken apart: the compact serialization of RFC 7515 3.1. Nothing of it is believed yet. Pure.

use crate::access::Denial;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A token whose signature has not been looked at.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    pub(super) header: Header,
    /// What is signed.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    payload: &'a [u8],
}

/// The members of a header that count (RFC 7515 4.1). A member that is there twice is an error.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// What has to be understood, of which nothing is.
    #[serde(default, deserialize_with = "stands")]
    crit: bool,
    /// Content that is not what is signed (RFC 7797).
    #[serde(default, deserialize_with = "stands")]
    b64: bool,
}

/// It is there, whatever it says: `null`, too.
fn stands<'de, D: Deserializer<'de>>(said: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(said).map(|_| true)
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Denial::Malformed`]
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, Denial> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denial::Malformed);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Denial::Malformed);
        };
        let message = token.get(..header.len() + 1 + payload.len()).ok_or(Denial::Malformed)?;
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| Denial::Malformed)?;
        if header.crit || header.b64 {
            return Err(Denial::Malformed);
        }
        Ok(Self { header, message, signature: decoded(signature)?, payload })
    }

    /// What it claims; only for who has verified its signature.
    ///
    /// # Errors
    /// [`Denial::Malformed`]
    pub(super) fn payload(&self) -> Result<serde_json::Map<String, serde_json::Value>, Denial> {
        serde_json::from_slice(&decoded(self.payload)?).map_err(|_| Denial::Malformed)
    }
}

/// base64url without padding, and without bits that say nothing.
fn decoded(part: &[u8]) -> Result<Vec<u8>, Denial> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denial::Malformed)
}
