//! The names of keys in Redis, and the whole keys that stand in their values.

use crate::cache::CacheKey;
use http::{HeaderName, HeaderValue};
use ring::hmac;
use sha2::{Digest, Sha256};

/// What a keyed hash is for, besides its text: the secret authenticates values too.
const PURPOSE: &[u8] = b"tidegate name\0";

/// How keys are named.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    namespace: String,
    style: Style,
    /// With a secret nobody can try out what a name stands for.
    secret: Option<hmac::Key>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Nothing readable: a hash.
    Hashed,
    /// Authority and path in front of the hash.
    Readable,
}

/// A key in Redis, and the whole key that its value must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedKey {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
}

impl Naming {
    pub(crate) fn new(settings: &crate::cache::SharedSettings) -> Self {
        let style = if settings.hash_keys { Style::Hashed } else { Style::Readable };
        let secret = settings.secret.as_ref();
        let secret = secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()));
        Self { namespace: settings.namespace.clone(), style, secret }
    }

    /// Where the response is, or what leads to its variants.
    pub(crate) fn primary(&self, key: &CacheKey) -> SharedKey {
        self.key('c', key, key.text().to_vec())
    }

    /// Where a variant is.
    pub(crate) fn variant(
        &self,
        key: &CacheKey,
        generation: u64,
        selecting: &[(HeaderName, Option<HeaderValue>)],
    ) -> SharedKey {
        let mut text = key.text().to_vec();
        text.extend_from_slice(&generation.to_be_bytes());
        for (name, value) in selecting {
            push_part(&mut text, Some(name.as_str().as_bytes()));
            push_part(&mut text, value.as_ref().map(HeaderValue::as_bytes));
        }
        self.key('v', key, text)
    }

    /// Where a piece of the body of what is at `place` is.
    pub(crate) fn piece(&self, key: &CacheKey, place: &SharedKey, digest: &[u8], index: u32) -> SharedKey {
        let mut text = place.text.clone();
        push_part(&mut text, Some(digest));
        text.extend_from_slice(&index.to_be_bytes());
        self.key('p', key, text)
    }

    fn key(&self, kind: char, key: &CacheKey, text: Vec<u8>) -> SharedKey {
        let namespace = &self.namespace;
        let hash = match &self.secret {
            None => hex(&Sha256::digest(&text)),
            Some(secret) => hex(hmac::sign(secret, &[PURPOSE, &text].concat()).as_ref()),
        };
        let name = match self.style {
            Style::Hashed => format!("{namespace}:{kind}:{hash}"),
            Style::Readable => format!("{namespace}:{kind}:{}{}:{hash}", key.authority(), key.path()),
        };
        SharedKey { name, text }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn push_part(text: &mut Vec<u8>, part: Option<&[u8]>) {
    let length = part.map_or(u32::MAX, |part| u32::try_from(part.len()).unwrap_or(u32::MAX - 1));
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(part.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::key;

    #[test]
    fn i8_different_variants_have_different_keys() {
        let naming = Naming { namespace: "n".into(), style: Style::Hashed, secret: None };
        let key = key("http://h/secret");
        let one = |value: Option<&'static str>| [(http::header::ACCEPT, value.map(HeaderValue::from_static))];
        let keyed = Naming { secret: Some(hmac::Key::new(hmac::HMAC_SHA256, b"secret")), ..naming.clone() };
        let mut keys = vec![
            naming.primary(&key),
            naming.piece(&key, &naming.primary(&key), &[1], 0),
            naming.piece(&key, &naming.primary(&key), &[1], 1),
            naming.piece(&key, &naming.variant(&key, 1, &one(None)), &[1], 1),
            naming.variant(&key, 1, &one(None)),
            naming.variant(&key, 1, &one(Some(""))),
            naming.variant(&key, 1, &one(Some("a"))),
            naming.variant(&key, 2, &one(Some("a"))),
        ];
        assert!(keys.iter().all(|key| key.name.starts_with("n:") && !key.name.contains("secret")));
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        keys.dedup_by(|one, other| one.name == other.name || one.text == other.text);
        assert_eq!(keys.len(), 8);
        assert_ne!(keyed.primary(&key).name, naming.primary(&key).name);
        let readable = Naming { style: Style::Readable, ..naming.clone() };
        assert!(readable.primary(&key).name.starts_with("n:c:h/secret:"));
    }
}
