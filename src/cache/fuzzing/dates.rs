//! HTTP dates of any content.

use crate::cache::rules::date;
use crate::clock::Timestamp;
use http::HeaderValue;

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// Sun, 22 Nov 2026 12:00:00 GMT: what years of two digits are read by.
const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_000);

/// Checks one input.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let Some(read) = date::parse(&value, NOW) else { return };
    let seconds = date::whole_seconds(read);
    assert!(seconds <= LAST_SECOND, "{value:?}");
    assert_eq!(read.as_millis() % 1000, 0, "a date has no finer unit: {value:?}");
    let written = date::format(read);
    assert_eq!(date::parse(&written, NOW), Some(read), "{value:?} written as {written:?}");
    assert_eq!(written.len(), 29, "RFC 9110 5.6.7: IMF-fixdate");
}
