//! The cache key (RFC 9111 2, RFC 10008 2.7). Equal keys mean equal requests (I8).

use crate::target::Target;
use http::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use sha2::{Digest, Sha256};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// Drawn at start, so that nobody can prepare keys that collide.
static SEED: LazyLock<RapidSecrets> = LazyLock::new(|| RapidSecrets::seed(fastrand::u64(..)));

/// Request fields that say what the content of a QUERY means (RFC 9110 8): part of its key.
const CONTENT_FIELDS: [HeaderName; 5] =
    [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_RANGE];

/// Bytes of a digest that are shown.
const SHOWN_BYTES: usize = 8;

/// What a QUERY asks of its target: SHA-256 of its content and of the fields that describe it
/// (RFC 10008 2.7). Nothing is normalised: two ways to write the same query are two keys, which costs a
/// forward, while two queries taken for one would be a wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryDigest([u8; 32]);

impl QueryDigest {
    /// The digest of a content and of the request's fields.
    #[must_use]
    pub fn new(content: &[u8], fields: &HeaderMap) -> Self {
        let mut hash = Sha256::new();
        // Numbers and lengths stand in front, so that nothing runs into what follows.
        for name in CONTENT_FIELDS {
            let lines = fields.get_all(name);
            hash.update((lines.iter().count() as u64).to_be_bytes());
            for line in lines {
                hash.update((line.len() as u64).to_be_bytes());
                hash.update(line.as_bytes());
            }
        }
        hash.update(content);
        Self(hash.finalize().into())
    }
}

/// What a stored response is found by. GET and HEAD share a key; a QUERY never has theirs.
///
/// The key's text is scheme, authority, path, query, identity and for a QUERY its digest, each with its
/// length in front, so that no two different requests have the same text. The whole text is compared,
/// the hashes only spread. What purges look at comes first: they cover both kinds.
#[derive(Clone, Debug)]
pub struct CacheKey {
    text: Arc<[u8]>,
    hash: u64,
}

impl CacheKey {
    /// The key of a target, and of the identity that splits its responses, if any.
    #[must_use]
    pub fn new(target: &Target, identity: Option<&[u8]>) -> Self {
        Self::with(target, identity, None)
    }

    /// The key of a QUERY for a target.
    #[must_use]
    pub fn of_query(target: &Target, identity: Option<&[u8]>, query: QueryDigest) -> Self {
        Self::with(target, identity, Some(query))
    }

    fn with(target: &Target, identity: Option<&[u8]>, query: Option<QueryDigest>) -> Self {
        let parts: [Option<&[u8]>; 5] = [
            Some(target.scheme().as_str().as_bytes()),
            Some(target.authority().as_str().as_bytes()),
            Some(target.path().as_bytes()),
            target.query().map(str::as_bytes),
            identity,
        ];
        // The others have no sixth part at all, nor a seventh and eighth for bytes that are forwarded as they came.
        let digest = query.as_ref().map(|QueryDigest(digest)| Some(digest.as_slice()));
        let came = target.came().into_iter().flat_map(|came| [Some(&b"opaque"[..]), Some(came.as_bytes())]);
        let mut text = Vec::with_capacity(target.path_and_query().len() + 64);
        for part in parts.into_iter().chain(digest).chain(came) {
            // Absent and empty differ: a length of u32::MAX never occurs.
            let length = part.map_or(u32::MAX, |part| u32::try_from(part.len()).unwrap_or(u32::MAX - 1));
            text.extend_from_slice(&length.to_be_bytes());
            text.extend_from_slice(part.unwrap_or_default());
        }
        let hash = rapidhash_v3_seeded(&text, &SEED);
        Self { text: text.into(), hash }
    }

    /// The key of a text that another gateway has stored; `None` where it is no key's.
    pub(crate) fn of_text(text: &[u8]) -> Option<Self> {
        let key = Self { text: text.into(), hash: rapidhash_v3_seeded(text, &SEED) };
        let is_whole = key.part(0).is_some() && key.part(1).is_some() && key.part(2).is_some();
        is_whole.then_some(key)
    }

    /// Where parts of what this key finds are kept: another key, covered by the same purges.
    #[must_use]
    pub fn of_parts(&self) -> Self {
        self.beside(b"parts")
    }

    /// Where what is known by HEAD alone is kept: another key, covered by the same purges.
    #[must_use]
    pub fn of_head(&self) -> Self {
        self.beside(b"head")
    }

    fn beside(&self, marker: &[u8]) -> Self {
        let length = u32::try_from(marker.len()).unwrap_or_default();
        let text = [&self.text[..], &length.to_be_bytes(), marker].concat();
        let hash = rapidhash_v3_seeded(&text, &SEED);
        Self { text: text.into(), hash }
    }

    /// The whole key, length-prefixed part by part.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Its hash in this process: what it is looked up by, before the text is compared.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The scheme, for purges.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.part(0).unwrap_or_default()
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
        self.bytes(index).and_then(|part| std::str::from_utf8(part).ok())
    }

    fn bytes(&self, index: usize) -> Option<&[u8]> {
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
                return Some(part);
            }
            rest = after;
        }
        None
    }
}

/// The URL; behind it what else tells keys apart, as digests: an identity may be a credential (I12).
impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path())?;
        if let Some(query) = self.query() {
            write!(f, "?{query}")?;
        }
        for (name, part) in [("identity", self.bytes(4)), ("query", self.bytes(5))] {
            let Some(part) = part else { continue };
            write!(f, " {name}=")?;
            for byte in Sha256::digest(part).iter().take(SHOWN_BYTES) {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl CacheKey {
    /// The same text with another key's hash: what chance does not do.
    pub(crate) fn with_hash_of(self, other: &Self) -> Self {
        Self { hash: other.hash, ..self }
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
            plain.of_parts(),
            plain.of_head(),
            key("http://h/a?b", Some(b"parts")),
        ] {
            assert_ne!(plain, other);
        }
        assert_eq!((plain.authority(), plain.path(), plain.query()), ("h", "/a", Some("b")));
        let parts = plain.of_parts();
        assert_eq!((parts.authority(), parts.path(), parts.query()), ("h", "/a", Some("b")));
        assert_ne!(parts, key("http://h/a", None).of_parts());
        assert_eq!(key("http://h/a", None).query(), None);
        assert_eq!(key("http://h/a?", None).query(), Some(""));
    }

    #[test]
    fn i8_a_text_of_another_gateway_is_a_key_only_where_it_is_whole() {
        let target = Target::parse_absolute("http://h/a?b").unwrap();
        let key = CacheKey::new(&target, Some(b"u"));
        assert_eq!(CacheKey::of_text(key.text()), Some(key.clone()));
        // Scheme, authority and path, each behind its length of four bytes.
        let (scheme, authority, path) = (4 + 4, 4 + 1, 4 + 2);
        for cut in
            [0, scheme - 1, scheme, scheme + authority - 1, scheme + authority, scheme + authority + path - 1]
        {
            assert_eq!(CacheKey::of_text(&key.text()[..cut]), None, "{cut} bytes");
        }
    }

    /// Two texts of one hash are two keys.
    #[test]
    fn i8_a_hash_alone_makes_no_key() {
        let key = |text: &[u8], hash| CacheKey { text: text.into(), hash };
        assert_eq!(key(b"a", 1), key(b"a", 1));
        assert_ne!(key(b"a", 1), key(b"b", 1));
    }

    #[test]
    fn i12_a_key_is_shown_without_whom_it_is_for() {
        let key = CacheKey::new(&Target::parse_absolute("http://h/a").unwrap(), Some(b"secret"));
        let shown = key.to_string();
        assert!(shown.starts_with("http://h/a identity=") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn rfc10008_2_7_a_query_is_known_by_its_content_and_what_describes_it() {
        let target = Target::parse_absolute("http://h/a?b").unwrap();
        let key = |content: &str, lines: &[(HeaderName, &'static str)]| {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(name, http::HeaderValue::from_static(value));
            }
            CacheKey::of_query(&target, None, QueryDigest::new(content.as_bytes(), &fields))
        };
        let plain = key("q", &[(CONTENT_TYPE, "a/b")]);
        assert_eq!(plain, key("q", &[(http::header::ACCEPT, "c/d"), (CONTENT_TYPE, "a/b")]), "Vary decides");
        for (what, other) in [
            ("the target's own", CacheKey::new(&target, None)),
            ("content", key("r", &[(CONTENT_TYPE, "a/b")])),
            ("no content", key("", &[(CONTENT_TYPE, "a/b")])),
            ("no type", key("q", &[])),
            ("empty type", key("q", &[(CONTENT_TYPE, "")])),
            ("another type", key("q", &[(CONTENT_TYPE, "a/c")])),
            ("two types", key("q", &[(CONTENT_TYPE, "a/b"), (CONTENT_TYPE, "a/b")])),
            ("a type in another field", key("q", &[(CONTENT_ENCODING, "a/b")])),
            ("coding", key("q", &[(CONTENT_TYPE, "a/b"), (CONTENT_ENCODING, "gzip")])),
            ("language", key("q", &[(CONTENT_TYPE, "a/b"), (CONTENT_LANGUAGE, "de")])),
            ("a type's end in the content", key("bq", &[(CONTENT_TYPE, "a/")])),
        ] {
            assert_ne!(plain, other, "{what}");
        }
        assert_eq!((plain.scheme(), plain.authority(), plain.path()), ("http", "h", "/a"));
        assert_eq!(plain.query(), Some("b"), "purges cover it");
    }
}
