//! Tokens: JSON Web Tokens (RFC 7519), signed (RFC 7515), by keys of a set (RFC 7517). Verified by ring, which
//! TLS uses too (`docs/decisions/0010-tokens.md`).
//!
//! A token is judged by what the configuration says, never by what it says of itself: its algorithm must be one
//! that is configured and its key one that fits that algorithm. Symmetric ones are not implemented, so that no
//! public key can be taken for a secret.

mod algorithm;
mod claims;
mod fetch;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod key_set;
mod keyring;
mod token;

pub use algorithm::Algorithm;
pub use fetch::JwksOrigin;
pub use key_set::{KeySet, KeySetFault};
pub(super) use keyring::{Keyring, Unjudged};
