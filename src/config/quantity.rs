//! Durations ("250ms") and sizes ("64MiB") as people write them. Pure.

use std::time::Duration;

/// The longest duration: ten years, so that no deadline overflows.
const DURATION_MAX: Duration = Duration::from_hours(10 * 366 * 24);

/// The largest size: what databases and file systems count in signed 64 bits.
const BYTES_MAX: u64 = i64::MAX as u64;

/// Reads a duration; `None` where it is none, has no unit, or is longer than ten years.
pub(super) fn duration(text: &str) -> Option<Duration> {
    // A bare 0 has no unit either.
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    humantime::parse_duration(text).ok().filter(|duration| has_unit && *duration <= DURATION_MAX)
}

/// Reads a size in bytes; `None` where it is none.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    let size: bytesize::ByteSize = text.parse().ok()?;
    (has_unit && size.as_u64() <= BYTES_MAX).then_some(size.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_bound() {
        for (text, expected) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("0s", Some(Duration::ZERO)),
            ("1h 30m", Some(Duration::from_mins(90))),
            ("72h", Some(Duration::from_hours(72))),
            ("10", None),
            ("0", None),
            ("", None),
            ("-1s", None),
            ("1.5x", None),
            ("99999y", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_need_a_unit_and_a_bound() {
        for (text, expected) in [
            ("64MiB", Some(64 << 20)),
            ("1KiB", Some(1024)),
            ("1kB", Some(1000)),
            ("0B", Some(0)),
            ("1.5 GiB", Some(3 << 29)),
            ("64", None),
            ("", None),
            ("-1B", None),
            ("many MiB", None),
            ("99999EiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
