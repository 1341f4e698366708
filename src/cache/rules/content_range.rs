//! Content-Range: which bytes of how many a part is (RFC 9110 14.4).

use super::range::{UNIT, position};
use http::header::CONTENT_RANGE;
use http::{HeaderMap, HeaderValue};
use std::ops::Range;

/// Bytes of a representation whose length is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The bytes; at least one.
    pub range: Range<u64>,
    /// Bytes of the whole representation.
    pub length: u64,
}

impl ContentRange {
    /// What a part is of; `None` where the field is absent, repeated, invalid, of another unit, or does
    /// not tell the whole length: such a part is never combined with anything.
    #[must_use]
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let mut lines = fields.get_all(CONTENT_RANGE).iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) => Self::parse(line),
            _ => None,
        }
    }

    fn parse(line: &HeaderValue) -> Option<Self> {
        let (unit, range) = line.to_str().ok()?.split_once(' ')?;
        let (range, length) = range.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, length) = (position(first)?, position(last)?, position(length)?);
        // What does not fit into 64 bits is `u64::MAX`, and no last byte is smaller than that length.
        let is_valid = unit.eq_ignore_ascii_case(UNIT) && first <= last && last < length && length < u64::MAX;
        is_valid.then(|| Self { range: first..last + 1, length })
    }

    /// All bytes of a representation that has some.
    #[must_use]
    pub fn whole(length: u64) -> Option<Self> {
        (length > 0).then_some(Self { range: 0..length, length })
    }

    /// Whether it is all there is.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.range.start == 0 && self.range.end == self.length
    }

    /// How many bytes it is.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether these bytes are all within it.
    #[must_use]
    pub fn contains(&self, range: &Range<u64>) -> bool {
        self.range.start <= range.start && range.end <= self.range.end
    }

    /// Both together, where no byte is missing between them and both are of equally long wholes.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Option<Self> {
        let (one, another) = (&self.range, &other.range);
        let touch = one.start <= another.end && another.start <= one.end;
        let range = one.start.min(another.start)..one.end.max(another.end);
        (touch && self.length == other.length).then_some(Self { range, length: self.length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<(Range<u64>, u64)> {
        let lines = lines.iter().map(|line| (CONTENT_RANGE, line.parse().unwrap()));
        ContentRange::of(&lines.collect()).map(|found| (found.range, found.length))
    }

    #[test]
    fn rfc9110_14_4_content_range() {
        for (section, line, expected) in [
            ("a part", "bytes 0-4/10", Some((0..5, 10))),
            ("the end", "bytes 9-9/10", Some((9..10, 10))),
            ("the whole", "bytes 0-9/10", Some((0..10, 10))),
            ("unit in any case", "Bytes 0-4/10", Some((0..5, 10))),
            ("length unknown", "bytes 0-4/*", None),
            ("unsatisfied", "bytes */10", None),
            ("last before first", "bytes 4-3/10", None),
            ("length not beyond last", "bytes 0-10/10", None),
            ("other unit", "lines 0-4/10", None),
            ("beyond 64 bits", "bytes 0-99999999999999999999998/99999999999999999999999", None),
            ("a length beyond 64 bits", "bytes 0-4/99999999999999999999999", None),
            ("as in a request", "bytes=0-4/10", None),
            ("no length", "bytes 0-4", None),
            ("space", "bytes 0 - 4/10", None),
            ("space", "bytes  0-4/10", None),
            ("sign", "bytes +0-4/10", None),
            ("empty", "", None),
            ("empty", "bytes -/", None),
        ] {
            assert_eq!(of(&[line]), expected, "{section}: {line}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["bytes 0-4/10", "bytes 0-4/10"]), None, "repeated");
    }

    #[test]
    fn rfc9110_15_3_7_3_only_what_touches_is_joined() {
        let range = |range, length| ContentRange { range, length };
        let one = range(4..6, 10);
        for (other, expected) in [
            (range(6..8, 10), Some(4..8)),
            (range(0..4, 10), Some(0..6)),
            (range(5..9, 10), Some(4..9)),
            (range(0..10, 10), Some(0..10)),
            (range(7..8, 10), None),
            (range(0..3, 10), None),
            (range(6..8, 11), None),
        ] {
            assert_eq!(one.joined(&other).map(|both| both.range), expected, "{other:?}");
            assert_eq!(other.joined(&one).map(|both| both.range), expected, "{other:?}");
        }
    }

    #[test]
    fn rfc9110_14_4_how_much_a_part_is_and_what_it_holds() {
        for (part, is_whole, bytes) in
            [(0..10, true, 10), (0..9, false, 9), (1..10, false, 9), (3..4, false, 1)]
        {
            let part = ContentRange { range: part, length: 10 };
            assert_eq!((part.is_whole(), part.bytes()), (is_whole, bytes), "{part:?}");
        }
        assert_eq!(ContentRange::whole(0), None);
        for length in [1, 10] {
            assert_eq!(ContentRange::whole(length), Some(ContentRange { range: 0..length, length }));
        }
        let part = ContentRange { range: 2..6, length: 10 };
        for (asked, held) in
            [(2..6, true), (3..5, true), (1..6, false), (2..7, false), (0..2, false), (6..8, false)]
        {
            assert_eq!(part.contains(&asked), held, "{asked:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(line in "(bytes )?[ -~]{0,40}") {
            if let Some((range, length)) = of(&[&line]) {
                proptest::prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
