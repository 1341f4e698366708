use super::*;
use crate::cache::purge::Fence;
use crate::cache::rules::early::Early;
use crate::cache::stored::{Few, Millis, Reuse, Span, Uses};
use crate::clock::Timestamp;
use http::HeaderName;
use proptest::prop_oneof;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const SENT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn stored(length: usize, lines: &[(&str, &str)]) -> StoredResponse {
    StoredResponse {
        status: StatusCode::OK,
        fields: fields(lines).into(),
        body: Bytes::from(vec![b'x'; length]),
        received_at: Timestamp::from_millis(784_111_777_000),
        initial_age: Millis::ZERO,
        freshness_lifetime: Span::ZERO,
        reuse: Reuse::WhileFresh,
        selecting_fields: Few::default(),
        tags: Few::default(),
        fence: Fence(0),
        early: Early::NEVER,
        uses: Uses::default(),
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
        ("all of it, by a suffix", 10, "bytes=-10", Single(0..10)),
        ("the last byte", 10, "bytes=9-", Single(9..10)),
        ("one byte", 1, "bytes=0-0", Single(0..1)),
        ("leading zeros", 10, "bytes=000-0000000000000000000000004", Single(0..5)),
        ("suffix beyond any length", 10, "bytes=-99999999999999999999999", Single(0..10)),
        ("beyond the length", 10, "bytes=10-", Unsatisfiable),
        ("beyond the length", 10, "bytes=10-20", Unsatisfiable),
        ("the largest number", 10, "bytes=18446744073709551615-18446744073709551615", Unsatisfiable),
        ("all beyond the length", 10, "bytes=10-,20-30,-0", Unsatisfiable),
        ("beyond any length", 10, "bytes=99999999999999999999999-", Unsatisfiable),
        ("empty suffix", 10, "bytes=-0", Unsatisfiable),
        ("nothing stored", 0, "bytes=0-", Unsatisfiable),
        ("nothing stored", 0, "bytes=0-0", Unsatisfiable),
        ("nothing stored, empty suffix", 0, "bytes=-0", Unsatisfiable),
        ("nothing stored, suffix", 0, "bytes=-1", Whole),
        ("nothing stored, one is a suffix", 0, "bytes=0-,-1", Whole),
        ("5.6.1.2: empty members", 10, "bytes=,,0-1, ,\t,", Single(0..2)),
        ("5.6.1.2: empty members first", 10, "bytes=, 0-1", Single(0..2)),
        ("5.6.1.2: space around commas", 10, "bytes=0-1 ,\t4-5", Several(vec![0..2, 4..6])),
        ("several", 10, "bytes=0-1, 4-5,-1", Several(vec![0..2, 4..6, 9..10])),
        ("in the order asked for", 10, "bytes=4-5,0-1", Several(vec![4..6, 0..2])),
        ("some unsatisfiable", 10, "bytes=20-,0-1", Single(0..2)),
        ("14.2: overlapping", 10, "bytes=0-5,3-7", Single(0..8)),
        ("14.2: touching", 10, "bytes=0-4,5-7", Single(0..8)),
        ("14.2: joined by a third", 10, "bytes=6-7,0-1,1-6", Single(0..8)),
        ("14.2: the others keep their order", 20, "bytes=0-1,4-5,8-9,1-2", Several(vec![0..3, 4..6, 8..10])),
        ("14.2: five", 20, "bytes=0-0,2-2,4-4,6-6,8-8", Several(vec![0..1, 2..3, 4..5, 6..7, 8..9])),
        ("14.2: six", 20, "bytes=0-0,2-2,4-4,6-6,8-8,10-10", Whole),
    ] {
        assert_eq!(of(length, range), answer, "{section}: {range}");
    }
}

#[test]
fn rfc9110_14_1_1_what_is_no_range_is_ignored() {
    use RangeAnswer::{Unsatisfiable, Whole};
    for (section, length, range, answer) in [
        ("14.2: other unit", 10, "lines=0-4", Whole),
        ("14.2: other unit", 10, "byte=0-4", Whole),
        ("14.2: other unit, its own ranges", 10, "chapters=one~two", Whole),
        ("no unit", 10, "=0-4", Whole),
        ("14.1.1: last before first", 10, "bytes=4-3", Whole),
        ("14.1.1: last before first, in one of several", 10, "bytes=0-1,4-3", Whole),
        (
            "14.1.1: last before first, beyond 64 bits",
            10,
            "bytes=99999999999999999999999-99999999999999999999998",
            Whole,
        ),
        (
            "14.1.1: the same beyond 64 bits",
            10,
            "bytes=99999999999999999999-99999999999999999999",
            Unsatisfiable,
        ),
        ("only empty members", 10, "bytes=,", Whole),
        ("malformed", 10, "bytes", Whole),
        ("malformed", 10, "bytes =0-4", Whole),
        ("malformed", 10, "bytes= 0-4", Whole),
        ("malformed", 10, "bytes=0-4;x", Whole),
        ("malformed", 10, "bytes=+0-4", Whole),
        ("malformed", 10, "bytes=0-0x4", Whole),
        ("malformed", 10, "bytes=0-4-5", Whole),
        ("malformed", 10, "bytes=0--4", Whole),
        ("malformed", 10, "bytes=4", Whole),
        ("malformed", 10, "bytes=0-1 4-5", Whole),
        ("malformed", 10, "", Whole),
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
    let part = StoredResponse { status: StatusCode::PARTIAL_CONTENT, ..stored(9, &[]) };
    assert_eq!(evaluate(&Method::GET, &request, &part), RangeAnswer::Whole);
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
        ("13.1.5: later date is another", both, SENT, false),
        ("13.1.5: earlier date is another", both, "Sun, 06 Nov 1994 08:49:35 GMT", false),
        ("5.6.7: the same date in another form", both, "Sun Nov  6 08:49:36 1994", true),
        ("8.8.3: one tag, not a list", both, "\"a\", \"b\"", false),
        ("8.8.3: any tag is no tag", both, "*", false),
        ("weak in the request only", both, "W/\"a\"", false),
        ("nothing stored to compare with", &[], "\"a\"", false),
        ("nothing stored to compare with", &[("date", SENT)], MODIFIED, false),
        ("tags are case-sensitive", both, "\"A\"", false),
        ("empty", both, "", false),
        ("8.8.2.2: weak date", changing, SENT, false),
        ("no date", both, "a", false),
    ] {
        let request = fields(&[("range", "bytes=0-1"), ("if-range", validator)]);
        let expected = if applies { RangeAnswer::Single(0..2) } else { RangeAnswer::Whole };
        let answer = evaluate(&Method::GET, &request, &stored(9, kept));
        assert_eq!(answer, expected, "{section}: {validator}");
    }
    let twice = fields(&[("range", "bytes=0-1"), ("if-range", "\"a\""), ("if-range", "\"a\"")]);
    assert_eq!(evaluate(&Method::GET, &twice, &stored(9, both)), RangeAnswer::Whole, "two lines");
    let false_and_beyond = fields(&[("range", "bytes=90-"), ("if-range", "\"b\"")]);
    assert_eq!(evaluate(&Method::GET, &false_and_beyond, &stored(9, both)), RangeAnswer::Whole, "no 416");
}

#[test]
fn rfc9110_14_6_multipart() {
    let body = Bytes::from_static(b"0123456789");
    let text = multipart(&body, &[0..2, 8..10], Some(b"text/plain"), "B").concat();
    let expected = "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
                    \r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--B--\r\n";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    let untyped = multipart(&body, &[0..2, 8..10], None, "B").concat();
    let expected = "--B\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n--B\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--B--\r\n";
    assert_eq!(String::from_utf8(untyped).unwrap(), expected);
    assert_eq!(multipart_type("B"), "multipart/byteranges; boundary=B");
    assert_eq!(unsatisfied_range(10), "bytes */10");
}

/// No representation of the property tests is longer.
const LENGTH_MAX: u8 = 60;

/// A member of a set as the tests write it: `first-last`, `first-`, `-count`, or what is none of them.
#[derive(Clone, Debug)]
enum Member {
    Between(u8, u8),
    From(u8),
    Last(u8),
    Empty,
    Malformed(&'static str),
}

impl Member {
    fn text(&self) -> String {
        match self {
            Self::Between(first, last) => format!("{first}-{last}"),
            Self::From(first) => format!("{first}-"),
            Self::Last(count) => format!("-{count}"),
            Self::Empty => String::new(),
            Self::Malformed(text) => (*text).to_owned(),
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::Between(first, last) => first <= last,
            Self::Malformed(_) => false,
            _ => true,
        }
    }

    /// Whether it asks for this byte of a representation: 14.1.2, byte by byte.
    fn wants(&self, at: usize, length: usize) -> bool {
        match *self {
            Self::Between(first, last) => usize::from(first) <= at && at <= usize::from(last),
            Self::From(first) => usize::from(first) <= at,
            Self::Last(count) => at + usize::from(count) >= length,
            Self::Empty | Self::Malformed(_) => false,
        }
    }
}

fn member() -> impl proptest::strategy::Strategy<Value = Member> {
    use proptest::prelude::{Just, Strategy, any};
    let number = || 0u8..LENGTH_MAX;
    prop_oneof![
        20 => (number(), 0u8..6).prop_map(|(first, more)| Member::Between(first, first + more)),
        2 => number().prop_map(Member::From),
        3 => (0u8..6).prop_map(Member::Last),
        1 => number().prop_map(Member::Last),
        2 => Just(Member::Empty),
        1 => (number(), any::<u8>()).prop_map(|(first, last)| Member::Between(first, last)),
        1 => proptest::sample::select(&["x", "1", "-", "1-2-3", "1 -2", "+1-2", "--1"][..])
            .prop_map(Member::Malformed),
    ]
}

/// What must be sent, told byte by byte, apart from the implementation: `None` is the whole, otherwise
/// whether each byte is sent.
fn oracle(members: &[Member], length: usize) -> Option<Vec<bool>> {
    let named = members.iter().filter(|member| !matches!(member, Member::Empty));
    let count = named.clone().count();
    if count == 0 || count > RANGES_MAX || !named.clone().all(Member::is_valid) {
        return None;
    }
    if length == 0 && named.clone().any(|member| matches!(member, Member::Last(1..))) {
        return None;
    }
    Some((0..length).map(|at| named.clone().any(|member| member.wants(at, length))).collect())
}

proptest::proptest! {
    #[test]
    fn rfc9110_14_what_is_sent_is_what_was_asked_for(
        length in prop_oneof![1 => 0usize..4, 9 => 0..usize::from(LENGTH_MAX)],
        members in proptest::collection::vec(member(), 0..8),
    ) {
        let text: Vec<String> = members.iter().map(Member::text).collect();
        let answer = of(length, &format!("bytes={}", text.join(",")));
        let body: Bytes = (0..LENGTH_MAX).take(length).collect::<Vec<u8>>().into();
        let ranges = match (oracle(&members, length), answer) {
            (None, answer) => {
                proptest::prop_assert_eq!(answer, RangeAnswer::Whole);
                return Ok(());
            }
            (Some(wanted), RangeAnswer::Unsatisfiable) => {
                proptest::prop_assert!(!wanted.contains(&true));
                return Ok(());
            }
            (Some(_), RangeAnswer::Whole) => return Err(proptest::test_runner::TestCaseError::fail("whole")),
            (Some(_), RangeAnswer::Single(range)) => vec![range],
            (Some(_), RangeAnswer::Several(ranges)) => {
                proptest::prop_assert!(ranges.len() > 1 && ranges.len() <= RANGES_MAX);
                ranges
            }
        };
        // Each byte that was asked for is sent once, no other is; what is sent are slices of the body.
        let sent: Vec<u8> = ranges.iter().flat_map(|range| part(&body, range).to_vec()).collect();
        let mut sorted = sent.clone();
        sorted.sort_unstable();
        let wanted = oracle(&members, length).unwrap_or_default();
        let bytes = (0u8..).zip(&wanted).filter(|(_, wanted)| **wanted).map(|(byte, _)| byte);
        proptest::prop_assert_eq!(sorted, bytes.collect::<Vec<u8>>());
        proptest::prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= length as u64));
        let slices = ranges.iter().flat_map(|range| range.clone().map(|at| u8::try_from(at).unwrap()));
        proptest::prop_assert_eq!(sent, slices.collect::<Vec<u8>>());
        // In the order of the members that asked for them (15.3.7.2).
        let asked_at = |range: &Range<u64>| {
            let wants = |member: &Member| range.clone().any(|at| member.wants(usize::try_from(at).unwrap(), length));
            members.iter().position(wants)
        };
        proptest::prop_assert!(ranges.is_sorted_by_key(asked_at));
    }

    #[test]
    fn reading_never_panics(range in "[ -~]{0,40}") {
        let _answer = of(10, &range);
    }

    #[test]
    fn i10_heads_of_parts_are_all_that_is_added(length in 1usize..64, range in "bytes=([0-9]{1,2}-[0-9]{0,2},){2,5}") {
        if let RangeAnswer::Several(ranges) = of(length, &range) {
            let body = Bytes::from(vec![b'x'; length]);
            let sent: usize = multipart(&body, &ranges, None, "B").iter().map(Bytes::len).sum();
            let heads = ranges.len() * "\r\n--B\r\nContent-Range: bytes 00-00/00\r\n\r\n".len();
            proptest::prop_assert!(sent <= length + heads + "\r\n--B--\r\n".len());
        }
    }
}

#[test]
fn rfc9110_14_4_what_is_the_same_whatever_the_length() {
    use RangeAnswer::{Single, Whole};
    for (range, answer) in [
        ("bytes=0-4", Some(Single(0..5))),
        ("bytes=4-4", Some(Single(4..5))),
        ("bytes=0-4,3-9", Some(Single(0..10))),
        ("bytes=0-4,8-9", None),
        ("bytes=4-", None),
        ("bytes=-4", None),
        ("bytes=-0", None),
        ("bytes=0-18446744073709551614", None),
        ("bytes=0-99999999999999999999999", None),
        ("bytes=9-4", Some(Whole)),
        ("lines=0-4", Some(Whole)),
    ] {
        let request = fields(&[("range", range)]);
        assert_eq!(asked_of_unknown(&Method::GET, &request, &stored(0, &[])), answer, "{range}");
    }
    let request = fields(&[("range", "bytes=0-4"), ("if-range", "\"b\"")]);
    let other = stored(0, &[("etag", "\"a\"")]);
    assert_eq!(asked_of_unknown(&Method::GET, &request, &other), Some(Whole), "If-Range");
    assert_eq!(content_range_of_unknown(&(1..3)), "bytes 1-2/*");
}
