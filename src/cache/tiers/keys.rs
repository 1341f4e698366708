//! The names of keys in Redis, and the whole keys that stand in their values.

use crate::cache::CacheKey;
use http::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// How keys are named.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    namespace: String,
    style: Style,
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
        Self { namespace: settings.namespace.clone(), style }
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

    fn key(&self, kind: char, key: &CacheKey, text: Vec<u8>) -> SharedKey {
        let namespace = &self.namespace;
        let hash = hex(&Sha256::digest(&text));
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
        let naming = Naming { namespace: "n".into(), style: Style::Hashed };
        let key = key("http://h/secret");
        let one = |value: Option<&'static str>| [(http::header::ACCEPT, value.map(HeaderValue::from_static))];
        let mut keys = vec![
            naming.primary(&key),
            naming.variant(&key, 1, &one(None)),
            naming.variant(&key, 1, &one(Some(""))),
            naming.variant(&key, 1, &one(Some("a"))),
            naming.variant(&key, 2, &one(Some("a"))),
        ];
        assert!(keys.iter().all(|key| key.name.starts_with("n:") && !key.name.contains("secret")));
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        keys.dedup_by(|one, other| one.name == other.name || one.text == other.text);
        assert_eq!(keys.len(), 5);
        let readable = Naming { namespace: "n".into(), style: Style::Readable };
        assert!(readable.primary(&key).name.starts_with("n:c:h/secret:"));
    }
}
