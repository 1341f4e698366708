//! Cache-Control and CDN-Cache-Control of any content.

use super::lines;
use crate::cache::rules::cache_control::{CDN_CACHE_CONTROL, Directives, Flag, Origin};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use std::time::Duration;

/// RFC 9111 1.2.2: what larger numbers become.
const LARGEST: Duration = Duration::from_secs(1 << 31);

/// Checks one input.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let fields = lines(data, &CACHE_CONTROL);
    let read = Directives::of_response(&fields);
    assert_eq!(read.origin, Origin::Untargeted);
    let seconds = [read.max_age, read.s_maxage, read.stale_while_revalidate, read.stale_if_error];
    assert!(seconds.iter().flatten().all(|lifetime| *lifetime <= LARGEST));
    assert_eq!(Directives::of_response(&in_capitals(&fields)), read, "case counts nowhere (5.2)");
    nothing_hides_a_prohibition(&fields);
    targeted_replaces(data);
}

fn in_capitals(fields: &HeaderMap) -> HeaderMap {
    let mut capitals = HeaderMap::new();
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_bytes(&value.as_bytes().to_ascii_uppercase()) {
            capitals.append(name.clone(), value);
        }
    }
    capitals
}

/// Whatever stands before it on its line.
fn nothing_hides_a_prohibition(fields: &HeaderMap) {
    for value in fields.get_all(CACHE_CONTROL) {
        let line = [value.as_bytes(), b", no-store, private"].concat();
        let Ok(line) = HeaderValue::from_bytes(&line) else { continue };
        let read = Directives::of_response(&HeaderMap::from_iter([(CACHE_CONTROL, line)]));
        assert!(read.has(Flag::NoStore) && read.has(Flag::Private), "{value:?}");
    }
}

/// RFC 9213 2.2: all of Cache-Control, or nothing of it.
fn targeted_replaces(data: &[u8]) {
    let mut fields = lines(data, &CDN_CACHE_CONTROL);
    let alone = Directives::of_response(&fields);
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=5, must-revalidate"));
    let beside = Directives::of_response(&fields);
    match beside.origin {
        Origin::Targeted => assert_eq!(beside, alone),
        Origin::Untargeted => {
            assert_eq!(alone, Directives::default());
            assert_eq!(beside.max_age, Some(Duration::from_secs(5)));
        }
    }
}
