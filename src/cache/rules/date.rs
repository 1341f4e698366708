//! HTTP dates (RFC 9110 5.6.7): all three forms are read, IMF-fixdate is written.

use crate::clock::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, UNIX_EPOCH};

/// 9999-12-31T23:59:59Z, the last second that an HTTP date can name.
const LAST_SECOND: u64 = 253_402_300_799;

/// Reads a date; `None` where it is none.
#[must_use]
pub fn parse(value: &HeaderValue) -> Option<Timestamp> {
    httpdate::parse_http_date(value.to_str().ok()?).ok().map(Timestamp::from_system_time)
}

/// The date of a field that stands at most once: with several lines, the first.
#[must_use]
pub fn of_field(fields: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    fields.get(name).and_then(parse)
}

/// Writes a date, cut to whole seconds.
#[must_use]
pub fn format(at: Timestamp) -> HeaderValue {
    let seconds = whole_seconds(at).min(LAST_SECOND);
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Seconds since the epoch: dates have no finer unit, so arithmetic between our clock and a date must
/// not see the milliseconds either.
#[must_use]
pub const fn whole_seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_5_6_7_reads_three_forms_and_writes_one() {
        for form in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            let at = parse(&HeaderValue::from_static(form)).unwrap();
            assert_eq!(at.as_millis(), 784_111_777_000, "{form}");
            assert_eq!(format(at), "Sun, 06 Nov 1994 08:49:37 GMT");
        }
        for wrong in ["0", "", "-1", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 25:49:37 GMT", "1994"]
        {
            assert_eq!(parse(&HeaderValue::from_static(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn no_timestamp_is_too_late_to_be_written() {
        assert_eq!(format(Timestamp::from_millis(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text in "[ -~]{0,40}") {
            let _read = HeaderValue::try_from(text).map(|value| parse(&value));
        }
    }
}
