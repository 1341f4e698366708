//! The cache key (RFC 9111 2). Equal keys mean equal requests (I8).

use crate::target::Target;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// Drawn at start, so that nobody can prepare keys that collide.
static SEED: LazyLock<RapidSecrets> = LazyLock::new(|| RapidSecrets::seed(fastrand::u64(..)));

/// What a stored response is found by. GET and HEAD share a key.
///
/// The key's text is scheme, authority, path, query and identity, each with its length in front,
/// so that no two different requests have the same text. The whole text is compared, the hashes
/// only spread.
#[derive(Clone, Debug)]
pub struct CacheKey {
    text: Arc<[u8]>,
    hash: u64,
}

impl CacheKey {
    /// The key of a target, and of the identity that splits its responses, if any.
    #[must_use]
    pub fn new(target: &Target, identity: Option<&[u8]>) -> Self {
        let parts: [Option<&[u8]>; 5] = [
            Some(target.scheme().as_str().as_bytes()),
            Some(target.authority().as_str().as_bytes()),
            Some(target.path().as_bytes()),
            target.query().map(str::as_bytes),
            identity,
        ];
        let mut text = Vec::with_capacity(target.path_and_query().len() + 64);
        for part in parts {
            // Absent and empty differ: a length of u32::MAX never occurs.
            let length = part.map_or(u32::MAX, |part| u32::try_from(part.len()).unwrap_or(u32::MAX - 1));
            text.extend_from_slice(&length.to_be_bytes());
            text.extend_from_slice(part.unwrap_or_default());
        }
        let hash = rapidhash_v3_seeded(&text, &SEED);
        Self { text: text.into(), hash }
    }

    /// The whole key, length-prefixed part by part.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The authority, for purges.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.part(1).unwrap_or_default()
    }

    /// The path, for purges.
    #[must_use]
    pub fn path(&self) -> &str {
        self.part(2).unwrap_or_default()
    }

    /// The query, for purges.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.part(3)
    }

    fn part(&self, index: usize) -> Option<&str> {
        let mut rest: &[u8] = &self.text;
        for position in 0..=index {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = u32::from_be_bytes(*length);
            if length == u32::MAX {
                if position == index {
                    return None;
                }
                rest = after;
                continue;
            }
            let (part, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
            if position == index {
                return std::str::from_utf8(part).ok();
            }
            rest = after;
        }
        None
    }
}

impl PartialEq for CacheKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for CacheKey {}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_parts_cannot_run_into_each_other() {
        let key = |url: &str, identity: Option<&[u8]>| {
            CacheKey::new(&Target::parse_absolute(url).unwrap(), identity)
        };
        let plain = key("http://h/a?b", None);
        assert_eq!(plain, key("http://H:80/%61?b", None));
        for other in [
            key("http://h/a", None),
            key("http://h/a?", None),
            key("https://h/a?b", None),
            key("http://h/a?b", Some(b"")),
            key("http://h/ab", None),
            key("http://h:81/a?b", None),
        ] {
            assert_ne!(plain, other);
        }
        assert_eq!((plain.authority(), plain.path(), plain.query()), ("h", "/a", Some("b")));
        assert_eq!(key("http://h/a", None).query(), None);
        assert_eq!(key("http://h/a?", None).query(), Some(""));
    }
}
