//! Hashes that stand for what must not be read where it is kept: who asked, in keys and in Redis.

use super::Secret;
use hmac::{Hmac, KeyInit, Mac};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::Sha256;
use std::fmt;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// HMAC-SHA-256 under a key of this gateway, or of all gateways that share a namespace.
#[derive(Clone)]
pub struct KeyedHash(Option<Hmac<Sha256>>);

impl KeyedHash {
    /// A key that all gateways of a namespace come to: the secret, where there is one. Without, it is made of
    /// the namespace: nothing can be read from a hash, but whoever knows the namespace can test guesses.
    #[must_use]
    pub fn of_namespace(namespace: &str, secret: Option<&Secret>) -> Self {
        let key =
            secret.map_or_else(|| format!("tidegate namespace {namespace}"), |secret| secret.expose().into());
        Self::new(key.as_bytes())
    }

    /// A key that is drawn now: what is hashed means something to this process only.
    #[must_use]
    pub fn drawn() -> Self {
        let mut key = [0; HASH_BYTES];
        // A system without random numbers has no TLS either; what these keys guard stays in memory.
        if SystemRandom::new().fill(&mut key).is_err() {
            fastrand::fill(&mut key);
        }
        Self::new(&key)
    }

    fn new(key: &[u8]) -> Self {
        // A key of any length is taken.
        Self(Hmac::new_from_slice(key).ok())
    }

    /// The hash of these parts for a purpose: parts that are cut otherwise, and other purposes, have others.
    #[must_use]
    pub fn digest<'a>(
        &self,
        purpose: &'a str,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> [u8; HASH_BYTES] {
        let Some(mut mac) = self.0.clone() else { return [0; HASH_BYTES] };
        for part in std::iter::once(purpose.as_bytes()).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_keys_purposes_and_parts_have_other_hashes() {
        let secret = Secret::new("s".into());
        let of = |hash: &KeyedHash, purpose: &str, parts: &[&str]| {
            hash.digest(purpose, parts.iter().map(|part| part.as_bytes()))
        };
        let plain = KeyedHash::of_namespace("n", None);
        assert_eq!(of(&plain, "p", &["a", "b"]), of(&KeyedHash::of_namespace("n", None), "p", &["a", "b"]));
        let with_secret = KeyedHash::of_namespace("n", Some(&secret));
        assert_eq!(
            of(&with_secret, "p", &["a"]),
            of(&KeyedHash::of_namespace("m", Some(&secret)), "p", &["a"]),
            "the secret is the key"
        );
        let drawn = KeyedHash::drawn();
        let mut hashes = vec![
            of(&plain, "p", &["a", "b"]),
            of(&plain, "p", &["ab"]),
            of(&plain, "p", &["ab", ""]),
            of(&plain, "pa", &["b"]),
            of(&KeyedHash::of_namespace("m", None), "p", &["a", "b"]),
            of(&with_secret, "p", &["a", "b"]),
            of(&drawn, "p", &["a", "b"]),
            of(&KeyedHash::drawn(), "p", &["a", "b"]),
        ];
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 8);
        assert_eq!(format!("{drawn:?}"), "KeyedHash");
    }
}
