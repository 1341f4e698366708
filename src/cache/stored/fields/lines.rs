//! Stored fields as the lines of an HTTP/1 head, without a map between.

use super::StoredFields;
use http::HeaderName;
use http::header::{AGE, CONNECTION, CONTENT_LENGTH, DATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

/// Names that an answer takes out, or puts another value in the place of: what has one of them is made anew.
const CHANGED: [HeaderName; 9] = [
    AGE,
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
];

/// Between a name and its value.
const BETWEEN: &[u8] = b": ";
/// Behind a value.
const END: &[u8] = b"\r\n";

/// How fields of some names are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// As a map that the answer is made of.
    MadeAnew,
    /// As they stand, with what each answer adds behind them.
    AsTheyStand,
    /// As they stand, with the length of the content besides.
    WithLength,
}

impl Sending {
    pub(super) fn of(names: &[HeaderName]) -> Self {
        if !names.contains(&DATE) || names.iter().any(|name| CHANGED.contains(name)) {
            Self::MadeAnew
        } else if names.contains(&CONTENT_LENGTH) {
            Self::AsTheyStand
        } else {
            Self::WithLength
        }
    }
}

impl StoredFields {
    /// How they are sent.
    #[must_use]
    pub fn sending(&self) -> Sending {
        self.names.sending
    }

    /// Writes the lines of some names behind what is written already.
    pub fn write(&self, out: &mut Vec<u8>, is_wanted: impl Fn(&HeaderName) -> bool) {
        let mut beginnings = &*self.names.beginnings;
        for (name, value) in self.iter() {
            let (beginning, rest) =
                beginnings.split_at_checked(name.as_str().len() + BETWEEN.len()).unwrap_or_default();
            beginnings = rest;
            if !is_wanted(name) {
                continue;
            }
            if beginning.is_empty() {
                write_line(out, name.as_str(), value);
            } else {
                out.extend_from_slice(beginning);
                out.extend_from_slice(value);
                out.extend_from_slice(END);
            }
        }
    }
}

/// `name: ` of each name.
pub(super) fn beginnings(names: &[HeaderName]) -> Box<[u8]> {
    names.iter().flat_map(|name| [name.as_str().as_bytes(), BETWEEN]).flatten().copied().collect()
}

/// Writes a line of a head.
pub fn write_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(BETWEEN);
    out.extend_from_slice(value);
    out.extend_from_slice(END);
}

#[cfg(test)]
mod tests {
    use super::super::NameLists;
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn stored(names: &[&'static str]) -> StoredFields {
        let lines = names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("a")));
        let map: HeaderMap = lines.collect();
        NameLists::default().shared(StoredFields::from(&map))
    }

    #[test]
    fn what_an_answer_changes_is_made_anew() {
        for (names, sending) in [
            (&["date", "content-length", "x-a"][..], Sending::AsTheyStand),
            (&["date", "cache-status"], Sending::WithLength),
            (&["content-length"], Sending::MadeAnew),
            (&["date", "age"], Sending::MadeAnew),
            (&["date", "trailer"], Sending::MadeAnew),
            (&["date", "x-request-id"], Sending::MadeAnew),
            (&["date", "ratelimit-policy"], Sending::MadeAnew),
        ] {
            assert_eq!(stored(names).sending(), sending, "{names:?}");
        }
        let own = StoredFields::from(HeaderMap::from_iter([(DATE, HeaderValue::from_static("a"))]));
        assert_eq!(own.sending(), Sending::MadeAnew, "nobody has looked at names that are not shared");
    }

    #[test]
    fn lines_are_those_of_a_head() {
        let mut out = b"before".to_vec();
        stored(&["date", "x-a", "etag"]).write(&mut out, |name| *name != DATE);
        assert_eq!(out, b"beforex-a: a\r\netag: a\r\n");
        let own = StoredFields::from(HeaderMap::from_iter([(DATE, HeaderValue::from_static("b"))]));
        own.write(&mut out, |_| true);
        assert_eq!(out, b"beforex-a: a\r\netag: a\r\ndate: b\r\n", "names that are not shared");
    }
}
