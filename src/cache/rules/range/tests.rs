use super::*;
use crate::cache::purge::Fence;
use crate::cache::stored::Reuse;
use crate::clock::Timestamp;
use http::HeaderName;
use std::time::Duration;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const SENT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn stored(length: usize, lines: &[(&str, &str)]) -> StoredResponse {
    StoredResponse {
        status: StatusCode::OK,
        fields: fields(lines),
        body: Bytes::from(vec![b'x'; length]),
        received_at: Timestamp::from_millis(784_111_777_000),
        initial_age: Duration::ZERO,
        freshness_lifetime: Duration::ZERO,
        reuse: Reuse::WhileFresh,
        selecting_fields: Vec::new(),
        tags: Vec::new(),
        fence: Fence(0),
    }
}

fn of(length: usize, range: &str) -> RangeAnswer {
    evaluate(&Method::GET, &fields(&[("range", range)]), &stored(length, &[]))
}

#[test]
fn rfc9110_14_1_2_ranges() {
    use RangeAnswer::{Several, Single, Unsatisfiable, Whole};
    for (section, length, range, answer) in [
        ("first and last", 10, "bytes=0-4", Single(0..5)),
        ("open", 10, "bytes=4-", Single(4..10)),
        ("suffix", 10, "bytes=-3", Single(7..10)),
        ("suffix beyond the length", 10, "bytes=-30", Single(0..10)),
        ("last beyond the length", 10, "bytes=4-99999999999999999999999", Single(4..10)),
        ("all of it", 10, "bytes=0-9", Single(0..10)),
        ("unit in any case", 10, "Bytes=0-4", Single(0..5)),
        ("beyond the length", 10, "bytes=10-", Unsatisfiable),
        ("beyond any length", 10, "bytes=99999999999999999999999-", Unsatisfiable),
        ("empty suffix", 10, "bytes=-0", Unsatisfiable),
        ("nothing stored", 0, "bytes=0-", Unsatisfiable),
        ("nothing stored, suffix", 0, "bytes=-1", Whole),
        ("several", 10, "bytes=0-1, 4-5,-1", Several(vec![0..2, 4..6, 9..10])),
        ("in the order asked for", 10, "bytes=4-5,0-1", Several(vec![4..6, 0..2])),
        ("some unsatisfiable", 10, "bytes=20-,0-1", Single(0..2)),
        ("14.2: overlapping", 10, "bytes=0-5,3-7", Single(0..8)),
        ("14.2: touching", 10, "bytes=0-4,5-7", Single(0..8)),
        ("14.2: joined by a third", 10, "bytes=6-7,0-1,1-6", Single(0..8)),
        ("14.2: the others keep their order", 20, "bytes=0-1,4-5,8-9,1-2", Several(vec![0..3, 4..6, 8..10])),
        ("14.2: five", 20, "bytes=0-0,2-2,4-4,6-6,8-8", Several(vec![0..1, 2..3, 4..5, 6..7, 8..9])),
        ("14.2: six", 20, "bytes=0-0,2-2,4-4,6-6,8-8,10-10", Whole),
        ("other unit", 10, "lines=0-4", Whole),
        ("last before first", 10, "bytes=4-3", Whole),
        ("one malformed", 10, "bytes=0-1,x", Whole),
        ("malformed", 10, "bytes=-", Whole),
        ("malformed", 10, "bytes=", Whole),
        ("malformed", 10, "bytes=--1", Whole),
        ("malformed", 10, "bytes=0 - 4", Whole),
        ("malformed", 10, "0-4", Whole),
    ] {
        assert_eq!(of(length, range), answer, "{section}: {range}");
    }
}

#[test]
fn rfc9110_14_2_only_get_of_a_complete_200() {
    let request = fields(&[("range", "bytes=0-1")]);
    assert_eq!(evaluate(&Method::HEAD, &request, &stored(9, &[])), RangeAnswer::Whole);
    let missing = StoredResponse { status: StatusCode::NOT_FOUND, ..stored(9, &[]) };
    assert_eq!(evaluate(&Method::GET, &request, &missing), RangeAnswer::Whole);
    let twice = fields(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
    assert_eq!(evaluate(&Method::GET, &twice, &stored(9, &[])), RangeAnswer::Whole);
}

#[test]
fn rfc9110_13_1_5_if_range() {
    let both: &[(&str, &str)] = &[("etag", "\"a\""), ("last-modified", MODIFIED), ("date", SENT)];
    let weak: &[(&str, &str)] = &[("etag", "W/\"a\"")];
    let changing: &[(&str, &str)] = &[("last-modified", SENT), ("date", SENT)];
    for (section, kept, validator, applies) in [
        ("strong", both, "\"a\"", true),
        ("other", both, "\"b\"", false),
        ("weak is not enough", weak, "W/\"a\"", false),
        ("weak is not enough", weak, "\"a\"", false),
        ("date", both, MODIFIED, true),
        ("later date is another", both, SENT, false),
        ("8.8.2.2: weak date", changing, SENT, false),
        ("no date", both, "a", false),
    ] {
        let request = fields(&[("range", "bytes=0-1"), ("if-range", validator)]);
        let answer = evaluate(&Method::GET, &request, &stored(9, kept));
        assert_eq!(answer == RangeAnswer::Single(0..2), applies, "{section}: {validator}");
    }
}

#[test]
fn rfc9110_14_6_multipart() {
    let body = Bytes::from_static(b"0123456789");
    let content_type = HeaderValue::from_static("text/plain");
    let text = multipart(&body, &[0..2, 8..10], Some(&content_type), "B").concat();
    let expected = "\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
                    \r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--B--\r\n";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    assert_eq!(multipart_type("B"), "multipart/byteranges; boundary=B");
    assert_eq!(unsatisfied_range(10), "bytes */10");
}

proptest::proptest! {
    #[test]
    fn i10_never_more_than_the_representation(length in 0usize..40, range in "bytes=([0-9]{0,2}-[0-9]{0,2},?){1,6}") {
        let sent = match of(length, &range) {
            RangeAnswer::Whole => length as u64,
            RangeAnswer::Unsatisfiable => 0,
            RangeAnswer::Single(range) => range.end - range.start,
            RangeAnswer::Several(ranges) => {
                proptest::prop_assert!(ranges.len() > 1 && ranges.len() <= RANGES_MAX);
                ranges.iter().map(|range| range.end - range.start).sum()
            }
        };
        proptest::prop_assert!(sent <= length as u64);
    }

    #[test]
    fn reading_never_panics(range in "[ -~]{0,40}") {
        let _answer = of(10, &range);
    }
}
