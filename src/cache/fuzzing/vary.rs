//! Vary and the fields that select, of any content.

use super::lines;
use crate::cache::rules::vary::{self, SELECTING_FIELDS_MAX, Vary};
use http::header::{ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};

/// Checks one input: up to the first NUL it is Vary, then the lines of one request's fields, then those of
/// another.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let names = match Vary::of_response(&lines(part(), &VARY)) {
        Vary::Anything => return,
        Vary::Fields(names) => names,
    };
    assert!(names.len() <= SELECTING_FIELDS_MAX);
    let (one, other) = (request(part()), request(part()));
    let selecting = vary::selecting_fields(names.clone(), &one);
    assert!(vary::matches(&selecting, &one), "a request selects its own response");
    let same = vary::selecting_fields(names, &other) == selecting;
    assert_eq!(vary::matches(&selecting, &other), same, "stored and looked up by one rule");
    for (name, value) in &selecting {
        let absent = !one.contains_key(name);
        assert_eq!(value.is_none(), absent, "absent is not empty (RFC 9111 4.1): {name}");
        if let Some(value) = value {
            let again = HeaderMap::from_iter([(name.clone(), value.clone())]);
            assert_eq!(vary::normalised(&again, name).as_ref(), Some(value), "normal is normal: {name}");
        }
    }
}

/// `name: value` lines; a line without a name is a language.
fn request(data: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(super::LINES_MAX) {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => line.split_at(colon),
            None => (&b""[..], line),
        };
        let name = HeaderName::from_bytes(name).unwrap_or(ACCEPT_LANGUAGE);
        fields.extend(lines(value.strip_prefix(b":").unwrap_or(value), &name).drain());
    }
    fields
}
