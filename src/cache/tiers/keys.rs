//! The names of keys in Redis, and the whole keys that stand in their values.

use crate::cache::CacheKey;
use crate::secret::{HASH_BYTES, KeyedHash};
use http::{HeaderName, HeaderValue};

/// Bytes of the tag of a lease: it stands for a second.
const LEASE_TAG_BYTES: usize = 8;

/// How keys are named.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    namespace: String,
    style: Style,
    hash: KeyedHash,
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
        Self { namespace: settings.namespace.clone(), style, hash: settings.keyed_hash() }
    }

    /// Where the response is, or what leads to its variants.
    pub(crate) fn primary(&self, key: &CacheKey) -> SharedKey {
        self.key('c', key, key.text().to_vec())
    }

    /// Where a variant is. What selects it is hashed: it may be a credential (I12).
    pub(crate) fn variant(
        &self,
        key: &CacheKey,
        generation: u64,
        selecting: &[(HeaderName, Option<HeaderValue>)],
    ) -> SharedKey {
        let mut text = key.text().to_vec();
        text.extend_from_slice(&generation.to_be_bytes());
        let selecting = selecting.iter().flat_map(|(name, value)| {
            let value = value.as_ref().map_or([&b"-"[..], b""], |value| [b"+", value.as_bytes()]);
            std::iter::once(name.as_str().as_bytes()).chain(value)
        });
        text.extend_from_slice(&self.hash.digest("variant", selecting));
        self.key('v', key, text)
    }

    /// Where a piece of the body of what is at `place` is.
    pub(crate) fn piece(&self, key: &CacheKey, place: &SharedKey, digest: &[u8], index: u32) -> SharedKey {
        let mut text = place.text.clone();
        text.extend_from_slice(digest);
        text.extend_from_slice(&index.to_be_bytes());
        self.key('p', key, text)
    }

    /// Where it is said who fills a key.
    pub(crate) fn lease(&self, key: &CacheKey) -> String {
        self.key('l', key, key.text().to_vec()).name
    }

    /// What somebody says in the place of a lease, with a tag that only who has the secret can make.
    pub(crate) fn vouched(&self, name: &str, word: &str) -> String {
        let tag = self.hash.digest("lease", [name.as_bytes(), word.as_bytes()]);
        format!("{word}-{}", hex(tag.get(..LEASE_TAG_BYTES).unwrap_or_default()))
    }

    /// Where the list of the hottest places is.
    pub(crate) fn hottest(&self) -> String {
        format!("{}:hottest", self.namespace)
    }

    /// The key of a response, and its place, by what stands in its value; `None` where it is in another's
    /// place.
    pub(crate) fn belongs(
        &self,
        name: &str,
        text: &[u8],
        selecting: &[(HeaderName, Option<HeaderValue>)],
    ) -> Option<(CacheKey, SharedKey)> {
        // What a variant's has behind its key's, whatever selects it.
        let behind = if selecting.is_empty() { 0 } else { size_of::<u64>() + HASH_BYTES };
        let (key, rest) = text.split_at_checked(text.len().checked_sub(behind)?)?;
        let key = CacheKey::of_text(key)?;
        let place = match rest.first_chunk::<8>() {
            Some(generation) => self.variant(&key, u64::from_be_bytes(*generation), selecting),
            None => self.primary(&key),
        };
        (place.name == name && place.text == text).then_some((key, place))
    }

    fn key(&self, kind: char, key: &CacheKey, text: Vec<u8>) -> SharedKey {
        let namespace = &self.namespace;
        // With a secret nobody can try out what a name stands for.
        let hash = hex(&self.hash.digest("name", [&text[..]]));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::key;

    #[test]
    fn i8_different_variants_have_different_keys() {
        let hash = KeyedHash::of_namespace("n", None);
        let naming = Naming { namespace: "n".into(), style: Style::Hashed, hash };
        let key = key("http://h/secret");
        let one = |value: Option<&'static str>| [(http::header::ACCEPT, value.map(HeaderValue::from_static))];
        let secret = crate::secret::Secret::new("secret".into());
        let keyed = Naming { hash: KeyedHash::of_namespace("n", Some(&secret)), ..naming.clone() };
        let mut keys = vec![
            naming.primary(&key),
            naming.piece(&key, &naming.primary(&key), &[1], 0),
            naming.piece(&key, &naming.primary(&key), &[1], 1),
            naming.piece(&key, &naming.variant(&key, 1, &one(None)), &[1], 1),
            naming.variant(&key, 1, &one(None)),
            naming.variant(&key, 1, &one(Some(""))),
            naming.variant(&key, 1, &one(Some("a"))),
            naming.variant(&key, 2, &one(Some("a"))),
            naming.variant(&key, 1, &one(Some("canary"))),
        ];
        assert!(keys.iter().all(|key| key.name.starts_with("n:") && !key.name.contains("secret")));
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        keys.dedup_by(|one, other| one.name == other.name || one.text == other.text);
        assert_eq!(keys.len(), 9);
        assert_ne!(keyed.primary(&key).name, naming.primary(&key).name);
        let readable = |key: &SharedKey| key.text.windows(6).any(|window| window == b"canary");
        assert!(!keys.iter().any(readable), "what a client sent is not readable");
        let readable = Naming { style: Style::Readable, ..naming.clone() };
        assert!(readable.primary(&key).name.starts_with("n:c:h/secret:"));
    }

    #[test]
    fn what_stands_in_its_own_place_tells_its_key_and_nothing_else_does() {
        let hash = KeyedHash::of_namespace("n", None);
        let naming = Naming { namespace: "n".into(), style: Style::Hashed, hash };
        let key = key("http://h/a?b");
        let selecting =
            [(http::header::ACCEPT, Some(HeaderValue::from_static("a"))), (http::header::TE, None)];
        for (place, selecting) in
            [(naming.primary(&key), &selecting[..0]), (naming.variant(&key, 7, &selecting), &selecting[..])]
        {
            let belongs = |name: &str, text: &[u8]| naming.belongs(name, text, selecting);
            assert_eq!(belongs(&place.name, &place.text), Some((key.clone(), place.clone())));
            assert_eq!(belongs("n:c:other", &place.text), None);
            for cut in 0..place.text.len() {
                assert_eq!(belongs(&place.name, &place.text[..cut]), None, "{cut}");
            }
        }
    }
}
