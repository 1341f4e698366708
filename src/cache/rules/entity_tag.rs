//! Entity tags and their comparison (RFC 9110 8.8.3).

use http::header::ETAG;
use http::{HeaderMap, HeaderName, HeaderValue};

/// An entity tag, its quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    opaque: &'a [u8],
    strength: Strength,
}

/// Whether equal tags mean equal bytes (8.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strength {
    Strong,
    Weak,
}

impl<'a> EntityTag<'a> {
    /// The tag of a representation; `None` where there is none that can be read.
    #[must_use]
    pub fn of(fields: &'a HeaderMap) -> Option<Self> {
        Self::parse(fields.get(ETAG)?.as_bytes())
    }

    /// Reads one whole tag.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::first(text.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// Whether both mean the same bytes.
    #[must_use]
    pub fn matches_strongly(&self, other: &Self) -> bool {
        let strong = self.strength == Strength::Strong && other.strength == Strength::Strong;
        strong && self.opaque == other.opaque
    }

    /// Whether both mean the same for a cache that validates.
    #[must_use]
    pub fn matches_weakly(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }

    /// Whether it names bytes.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        self.strength == Strength::Strong
    }

    fn first(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (strength, opaque) = match text.strip_prefix(b"W/") {
            Some(rest) => (Strength::Weak, rest),
            None => (Strength::Strong, text),
        };
        let inner = opaque.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        let (opaque, rest) = opaque.split_at_checked(end + 2)?;
        Some((Self { opaque, strength }, rest))
    }
}

/// If-None-Match or If-Match (13.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagList<'a> {
    /// `*`.
    Any,
    /// These; what cannot be read is left out, so it matches nothing.
    Tags(Vec<EntityTag<'a>>),
}

impl<'a> TagList<'a> {
    /// Reads all lines of a field; `None` where it is absent.
    #[must_use]
    pub fn of(fields: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        fields.get(name)?;
        let lines = || fields.get_all(name).iter().map(HeaderValue::as_bytes);
        if lines().any(|line| line.trim_ascii() == b"*") {
            return Some(Self::Any);
        }
        Some(Self::Tags(lines().flat_map(tags_of_line).collect()))
    }
}

/// The tags of a line: commas within quotes are part of a tag, unreadable text ends at the next comma.
fn tags_of_line(line: &[u8]) -> Vec<EntityTag<'_>> {
    let mut tags = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if let Some((tag, after)) = EntityTag::first(rest) {
            rest = after.trim_ascii_start();
            if rest.is_empty() || rest.starts_with(b",") {
                tags.push(tag);
            }
        }
        let Some(comma) = rest.iter().position(|byte| *byte == b',') else { return tags };
        rest = rest.get(comma + 1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::IF_NONE_MATCH;

    #[test]
    fn rfc9110_8_8_3_2_comparison() {
        for (one, other, strongly, weakly) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            let (one, other) = (EntityTag::parse(one.as_bytes()), EntityTag::parse(other.as_bytes()));
            let (one, other) = (one.unwrap(), other.unwrap());
            assert_eq!((one.matches_strongly(&other), one.matches_weakly(&other)), (strongly, weakly));
        }
        for (line, strong) in [("\"1\"", Some(true)), ("W/\"1\"", Some(false)), ("1", None)] {
            let fields: HeaderMap = [(ETAG, line.parse().unwrap())].into_iter().collect();
            assert_eq!(EntityTag::of(&fields).map(|tag| tag.is_strong()), strong, "{line}");
        }
        assert_eq!(EntityTag::of(&HeaderMap::new()), None);
        for wrong in ["", "1", "\"1", "1\"", "w/\"1\"", "\"1\"x", "W/1"] {
            assert_eq!(EntityTag::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn rfc9110_13_1_2_lists() {
        let count = |lines: &[&str]| {
            let fields: HeaderMap =
                lines.iter().map(|line| (IF_NONE_MATCH, line.parse::<HeaderValue>().unwrap())).collect();
            match TagList::of(&fields, &IF_NONE_MATCH) {
                None => "absent".to_owned(),
                Some(TagList::Any) => "any".to_owned(),
                Some(TagList::Tags(tags)) => tags.len().to_string(),
            }
        };
        for (lines, expected) in [
            (&[][..], "absent"),
            (&["*"], "any"),
            (&["\"a\" , W/\"b,c\",,\"d\""], "3"),
            (&["\"a\"", "\"b\""], "2"),
            (&["a, \"b\""], "1"),
            (&["\"a\"b, \"c\""], "1"),
            (&["\"a"], "0"),
            (&[""], "0"),
        ] {
            assert_eq!(count(lines), expected, "{lines:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_ends_and_never_panics(line in "[ -~]{0,60}") {
            let _tags = tags_of_line(line.as_bytes());
        }
    }
}
