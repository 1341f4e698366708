//! Range fields of any content, on representations of any length.

use super::stored;
use crate::cache::rules::range::{self, RANGES_MAX, RangeAnswer};
use bytes::Bytes;
use http::header::RANGE;
use http::{HeaderMap, HeaderValue, Method};

/// Checks one input: its first byte is the length of the representation, the rest the field.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let Some((length, field)) = data.split_first() else { return };
    let Ok(field) = HeaderValue::from_bytes(field) else { return };
    let body: Bytes = (0..*length).collect();
    let stored = stored(body.clone());
    let request = HeaderMap::from_iter([(RANGE, field)]);
    assert_eq!(range::evaluate(&Method::HEAD, &request, &stored), RangeAnswer::Whole, "RFC 9110 14.2");
    let whole = u64::from(*length);
    match range::evaluate(&Method::GET, &request, &stored) {
        RangeAnswer::Whole | RangeAnswer::Unsatisfiable => {}
        RangeAnswer::Single(range) => {
            assert!(range.start < range.end && range.end <= whole);
            assert!(range::part(&body, &range).iter().copied().map(u64::from).eq(range));
        }
        RangeAnswer::Several(ranges) => {
            assert!((2..=RANGES_MAX).contains(&ranges.len()));
            assert!(ranges.iter().all(|range| range.start < range.end && range.end <= whole));
            let sent: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            assert!(sent <= whole, "no byte is sent twice");
            let chunks = range::multipart(&body, &ranges, None, "boundary");
            let parts = chunks.iter().skip(1).step_by(2).map(Bytes::len);
            assert_eq!(parts.sum::<usize>() as u64, sent);
        }
    }
}
