use super::*;
use crate::cache::policy::RequestDirectives;
use crate::cache::purge::Fence;
use crate::clock::Timestamp;
use http::Method;
use std::time::Duration;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const WHOLE: &[u8] = b"0123456789";
const BYTES_MAX: u64 = 1000;

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    fields
}

/// An exchange so many seconds after [`DATE`].
fn exchange(seconds: u64) -> Exchange {
    let at = Timestamp::from_millis(784_111_777_000).plus(Duration::from_secs(seconds));
    Exchange { requested_at: at, received_at: at, fence: Fence(seconds), jitter: 0.0 }
}

fn admitted(status: u16, asked: &[(&str, &str)], lines: &[(&str, &str)]) -> Result<Piece, NoStoreReason> {
    let response = fields(&[lines, &[("date", DATE)]].concat());
    let head = ResponseHead { status: StatusCode::from_u16(status).unwrap(), fields: &response };
    let request = fields(&[asked, &[("range", "bytes=0-")]].concat());
    let request = RequestHead { method: &Method::GET, fields: &request };
    let policy = Policy { request_directives: RequestDirectives::Honour, ..Policy::default() };
    admit(Forwarded { request, policy: &policy, exchange: &exchange(0) }, head)
}

#[test]
fn rfc9111_3_3_what_is_stored_of_the_answer_to_a_range() {
    use NoStoreReason::{
        Authorization, ClientNoStore, NoFreshness, NoStore, Partial, Private, SetCookie, Status, VaryStar,
    };
    const FRESH: (&str, &str) = ("cache-control", "max-age=60");
    const PART: (&str, &str) = ("content-range", "bytes 0-4/10");
    const ALL: (&str, &str) = ("content-range", "bytes 0-9/10");
    const TAG: (&str, &str) = ("etag", "\"a\"");
    for (section, status, asked, response, expected) in [
        ("3.3 a part", 206, &[][..], &[FRESH, PART][..], Ok(5)),
        ("3.3 a part that is the whole", 206, &[], &[FRESH, ALL], Ok(10)),
        ("3.3 a whole for a range", 200, &[], &[FRESH, ("content-length", "10")], Ok(10)),
        (
            "3.3 a whole after If-Range",
            200,
            &[("if-range", "\"b\"")],
            &[FRESH, ("content-length", "10")],
            Ok(10),
        ),
        (
            "4.2.2 206 is heuristically cacheable",
            206,
            &[],
            &[PART, ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT")],
            Ok(5),
        ),
        (
            "3.5 shared with authorization",
            206,
            &[("authorization", "a")],
            &[("cache-control", "s-maxage=9"), PART],
            Ok(5),
        ),
        (
            "4.3 the whole may wait for validation",
            206,
            &[],
            &[("cache-control", "no-cache"), ALL, TAG],
            Ok(10),
        ),
        (
            "5.2.2.4 a part may not",
            206,
            &[],
            &[("cache-control", "no-cache, max-age=60"), PART, TAG],
            Err(NoFreshness),
        ),
        ("4.2.2 no freshness", 206, &[], &[PART, TAG], Err(NoFreshness)),
        ("3 no-store", 206, &[], &[("cache-control", "max-age=60, no-store"), PART], Err(NoStore)),
        ("3 private", 206, &[], &[("cache-control", "max-age=60, private"), PART], Err(Private)),
        ("3.5 authorization", 206, &[("authorization", "a")], &[FRESH, PART], Err(Authorization)),
        ("4.1 Vary: *", 206, &[], &[FRESH, PART, ("vary", "*")], Err(VaryStar)),
        ("7.3 Set-Cookie", 206, &[], &[FRESH, PART, ("set-cookie", "a=b")], Err(SetCookie)),
        ("5.2.1.5 no-store", 206, &[("cache-control", "no-store")], &[FRESH, PART], Err(ClientNoStore)),
        ("9110 14.4 no Content-Range", 206, &[], &[FRESH, TAG], Err(Partial)),
        ("9110 14.4 invalid", 206, &[], &[FRESH, ("content-range", "bytes 0-10/10")], Err(Partial)),
        ("9110 14.4 length unknown", 206, &[], &[FRESH, ("content-range", "bytes 0-4/*")], Err(Partial)),
        (
            "9110 8.6 a length beyond 64 bits",
            200,
            &[],
            &[FRESH, ("content-length", "99999999999999999999999")],
            Err(Partial),
        ),
        ("9110 14.4 other unit", 206, &[], &[FRESH, ("content-range", "lines 0-4/10")], Err(Partial)),
        (
            "9110 15.3.7.2 several parts",
            206,
            &[],
            &[FRESH, ("content-type", "multipart/byteranges; boundary=b")],
            Err(Partial),
        ),
        (
            "9110 15.3.7.2 several parts",
            206,
            &[],
            &[FRESH, PART, ("content-type", "Multipart/ByteRanges;boundary=b")],
            Err(Partial),
        ),
        ("9110 15.3.7 fields are left out", 206, &[("if-range", "\"a\"")], &[FRESH, PART, TAG], Err(Partial)),
        ("coded for this client", 206, &[], &[FRESH, PART, ("content-encoding", "gzip")], Err(Partial)),
        (
            "coded for this client",
            200,
            &[],
            &[FRESH, ("content-length", "9"), ("content-encoding", "x")],
            Err(Partial),
        ),
        ("3.3 length unknown", 200, &[], &[FRESH], Err(Partial)),
        ("no content to wait for", 200, &[], &[FRESH, ("content-length", "0")], Err(Partial)),
        ("not for this", 404, &[], &[FRESH, ("content-length", "9")], Err(Status)),
        ("not for this", 416, &[], &[FRESH, ("content-range", "bytes */10")], Err(Status)),
        ("not for this", 304, &[], &[FRESH], Err(Status)),
    ] {
        let outcome = admitted(status, asked, response).map(|piece| piece.bytes());
        assert_eq!(outcome, expected, "{section}: {status} {response:?}");
    }
}

/// A part of [`WHOLE`] as it comes `seconds` after [`DATE`], and what it makes of what is stored.
fn add(
    stored: Option<&StoredResponse>,
    range: Range<usize>,
    seconds: u64,
    asked: &[(&str, &str)],
    lines: &[(&str, &str)],
) -> Combined {
    let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, WHOLE.len());
    let own = [("content-range", content_range.as_str()), ("cache-control", "max-age=60")];
    let response = fields(&[lines, &own].concat());
    let request = fields(asked);
    let request = RequestHead { method: &Method::GET, fields: &request };
    let head = ResponseHead { status: StatusCode::PARTIAL_CONTENT, fields: &response };
    let forwarded = Forwarded { request, policy: &Policy::default(), exchange: &exchange(seconds) };
    let piece = admit(forwarded, head).unwrap();
    combine(piece, Bytes::from_static(&WHOLE[range]), stored, forwarded, BYTES_MAX)
}

fn part(combined: Combined) -> StoredResponse {
    match combined {
        Combined::Part(part) => part,
        Combined::Whole(whole) => panic!("a whole: {whole:?}"),
    }
}

fn text(stored: &StoredResponse) -> &str {
    std::str::from_utf8(&stored.body).unwrap()
}

#[test]
fn rfc9111_3_4_what_is_combined() {
    const STRONG: &[(&str, &str)] = &[("etag", "\"a\"")];
    const WEAK: &[(&str, &str)] = &[("etag", "W/\"a\"")];
    const OTHER: &[(&str, &str)] = &[("etag", "\"b\"")];
    const DATED: &[(&str, &str)] = &[("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT")];
    for (section, old, old_lines, new, new_lines, expected) in [
        ("3.4 after it", 2..5, STRONG, 5..7, STRONG, "23456"),
        ("3.4 before it", 5..7, STRONG, 2..5, STRONG, "23456"),
        ("3.4 overlapping", 2..6, STRONG, 4..8, STRONG, "234567"),
        ("3.4 within it", 2..8, STRONG, 4..5, STRONG, "234567"),
        ("3.4 around it", 4..5, STRONG, 2..8, STRONG, "234567"),
        ("9110 15.3.7.3 apart: the newer alone", 2..4, STRONG, 5..7, STRONG, "56"),
        ("3.4 another validator", 2..5, STRONG, 5..7, OTHER, "56"),
        ("3.4 weak validators", 2..5, WEAK, 5..7, WEAK, "56"),
        ("3.4 weak validator", 2..5, STRONG, 5..7, WEAK, "56"),
        ("3.4 weak validator", 2..5, WEAK, 5..7, STRONG, "56"),
        ("3.4 no validator", 2..5, &[], 5..7, &[], "56"),
        ("3.4 no validator", 2..5, STRONG, 5..7, &[], "56"),
        ("8.8.2.2 a date is not taken for strong", 2..5, DATED, 5..7, DATED, "56"),
    ] {
        let before = part(add(None, old, 0, &[], old_lines));
        let after = part(add(Some(&before), new, 1, &[], new_lines));
        assert_eq!(text(&after), expected, "{section}");
        assert_eq!(after.status, StatusCode::PARTIAL_CONTENT);
    }
}

#[test]
fn rfc9111_3_4_the_newer_fields_are_those_of_the_whole() {
    let old = [("etag", "\"a\""), ("x-old", "1"), ("x-both", "1"), ("x-both", "2"), ("surrogate-key", "old")];
    let new = [("etag", "\"a\""), ("x-new", "1"), ("x-both", "3"), ("content-type", "b/b"), ("date", DATE)];
    let before = part(add(None, 0..5, 0, &[], &old));
    let Combined::Whole(whole) = add(Some(&before), 5..10, 7, &[], &new) else { panic!("not all of it") };
    assert_eq!(whole.status, StatusCode::OK);
    assert_eq!(text(&whole), "0123456789");
    let fields = whole.fields.to_map();
    assert_eq!(fields["content-length"], "10", "9110 15.3.7.3");
    assert!(!fields.contains_key("content-range"));
    assert_eq!((&fields["x-old"], &fields["x-new"]), (&"1".parse().unwrap(), &"1".parse().unwrap()));
    assert_eq!(fields.get_all("x-both").iter().collect::<Vec<_>>(), ["3"], "3.2: all instances");
    assert_eq!(whole.fence, Fence(7), "I5: the newer forward's");
    assert_eq!(whole.received_at, exchange(7).received_at);
    assert_eq!(whole.tags, ["old"], "a purge of it still reaches the bytes that it named");
}

#[test]
fn rfc9111_3_4_all_of_it_at_once_is_a_whole_of_its_own() {
    let before = part(add(None, 0..5, 0, &[], &[("etag", "\"a\""), ("x-old", "1")]));
    let Combined::Whole(whole) = add(Some(&before), 0..10, 1, &[], &[("etag", "\"a\"")]) else {
        panic!("part")
    };
    assert!(!whole.fields.to_map().contains_key("x-old"), "9110 15.3.7.3: nothing had to be combined");
}

#[test]
fn i10_no_part_grows_beyond_its_bound() {
    let before = part(add(None, 0..4, 0, &[], &[("etag", "\"a\"")]));
    let response =
        fields(&[("etag", "\"a\""), ("content-range", "bytes 4-7/10"), ("cache-control", "max-age=9")]);
    let request = HeaderMap::new();
    let request = RequestHead { method: &Method::GET, fields: &request };
    let head = ResponseHead { status: StatusCode::PARTIAL_CONTENT, fields: &response };
    let forwarded = Forwarded { request, policy: &Policy::default(), exchange: &exchange(1) };
    for (bytes_max, expected) in [(8, "01234567"), (7, "4567")] {
        let piece = admit(forwarded, head).unwrap();
        let body = Bytes::from_static(b"4567");
        let after = combine(piece, body, Some(&before), forwarded, bytes_max);
        assert_eq!(text(&part(after)), expected, "{bytes_max}");
    }
}

#[test]
fn rfc9111_3_3_whom_a_part_answers() {
    let stored = part(add(None, 2..6, 0, &[], &[("etag", "\"a\""), ("date", DATE)]));
    for (section, asked, expected) in [
        ("3.3 within it", &[("range", "bytes=3-4")][..], Some("34")),
        ("3.3 all of it", &[("range", "bytes=2-5")], Some("2345")),
        ("3.3 begins before it", &[("range", "bytes=1-4")], None),
        ("3.3 ends after it", &[("range", "bytes=3-6")], None),
        ("3.3 open", &[("range", "bytes=3-")], None),
        ("3.3 suffix", &[("range", "bytes=-1")], None),
        ("3.3 elsewhere", &[("range", "bytes=7-8")], None),
        ("3.3 beyond the end", &[("range", "bytes=10-")], None),
        ("3.3 several", &[("range", "bytes=2-2,4-4")], None),
        ("3.3 several that become one", &[("range", "bytes=2-3,4-4")], Some("234")),
        ("3.3 no range", &[], None),
        ("3.3 malformed", &[("range", "bytes=4-3")], None),
        ("9110 13.1.5 the tag", &[("range", "bytes=3-4"), ("if-range", "\"a\"")], Some("34")),
        ("9110 13.1.5 another tag", &[("range", "bytes=3-4"), ("if-range", "\"b\"")], None),
        ("9110 13.1.5 a weak tag", &[("range", "bytes=3-4"), ("if-range", "W/\"a\"")], None),
    ] {
        let request = fields(asked);
        let request = RequestHead { method: &Method::GET, fields: &request };
        let slice = answer(request, &stored).map(|slice| slice.body);
        assert_eq!(slice.as_deref(), expected.map(str::as_bytes), "{section}");
    }
    let end = part(add(None, 6..10, 0, &[], &[]));
    let request = fields(&[("range", "bytes=-2")]);
    let slice = answer(RequestHead { method: &Method::GET, fields: &request }, &end).unwrap();
    assert_eq!((&slice.body[..], slice.content.range), (&b"89"[..], 8..10), "a suffix of what ends with it");
    assert_eq!(answer(RequestHead { method: &Method::HEAD, fields: &request }, &end), None, "14.2");
}

proptest::proptest! {
    /// Whatever comes in whatever order: what is stored and what is answered are bytes of the one
    /// representation that carries the validator.
    #[test]
    fn rfc9111_3_4_nothing_but_slices_of_one_representation(
        pieces in proptest::collection::vec((0usize..10, 1usize..11, 0u8..3), 1..8),
        first in 0usize..10,
        last in 0usize..10,
    ) {
        let mut stored: Option<StoredResponse> = None;
        for (start, length, version) in pieces {
            let range = start..(start + length).min(WHOLE.len());
            // Each version has other bytes: the digits turned by its number.
            let turned: Vec<u8> = (0u8..10).map(|digit| b'0' + (digit + version) % 10).collect();
            let tag = format!("\"{version}\"");
            let content_range = format!("bytes {}-{}/10", range.start, range.end - 1);
            let response = fields(&[("etag", &tag), ("content-range", &content_range), ("cache-control", "max-age=9")]);
            let request = HeaderMap::new();
            let request = RequestHead { method: &Method::GET, fields: &request };
            let head = ResponseHead { status: StatusCode::PARTIAL_CONTENT, fields: &response };
            let forwarded = Forwarded { request, policy: &Policy::default(), exchange: &exchange(0) };
            let piece = admit(forwarded, head).unwrap();
            let body = Bytes::copy_from_slice(&turned[range.clone()]);
            match combine(piece, body, stored.as_ref(), forwarded, BYTES_MAX) {
                Combined::Whole(whole) => {
                    proptest::prop_assert_eq!(&whole.body[..], &turned[..]);
                    stored = None;
                }
                Combined::Part(part) => {
                    let kept = ContentRange::of(&part.fields.to_map()).unwrap();
                    let kept = usize::try_from(kept.range.start).unwrap()..usize::try_from(kept.range.end).unwrap();
                    proptest::prop_assert!(kept.start <= range.start && range.end <= kept.end);
                    proptest::prop_assert_eq!(&part.body[..], &turned[kept.clone()]);
                    let asked = fields(&[("range", &format!("bytes={first}-{last}"))]);
                    let slice = answer(RequestHead { method: &Method::GET, fields: &asked }, &part);
                    let within = first <= last && kept.start <= first && last < kept.end;
                    let expected = within.then(|| turned[first..=last].to_vec());
                    proptest::prop_assert_eq!(slice.map(|slice| slice.body.to_vec()), expected);
                    stored = Some(part);
                }
            }
        }
    }
}

#[test]
fn i7_who_sends_the_same_range_and_nothing_else_may_share() {
    const RANGE: (&str, &str) = ("range", "bytes=0-4");
    for (lines, sole) in [
        (&[RANGE][..], true),
        (&[RANGE, ("accept-language", "de")], true),
        (&[], false),
        (&[RANGE, RANGE], false),
        (&[RANGE, ("if-range", "\"a\"")], false),
        (&[RANGE, ("if-none-match", "\"a\"")], false),
        (&[RANGE, ("if-modified-since", DATE)], false),
        (&[RANGE, ("if-match", "\"a\"")], false),
        (&[RANGE, ("if-unmodified-since", DATE)], false),
    ] {
        assert_eq!(sole_range(&fields(lines)).is_some(), sole, "{lines:?}");
    }
    let (exchange, request) = (exchange(0), fields(&[RANGE]));
    let request = RequestHead { method: &Method::GET, fields: &request };
    let forwarded = Forwarded { request, policy: &Policy::default(), exchange: &exchange };
    for (control, shared) in
        [("max-age=60", true), ("max-age=0", true), ("private", false), ("no-store", false)]
    {
        let response =
            fields(&[("cache-control", control), ("content-range", "bytes 0-4/10"), ("date", DATE)]);
        let head = ResponseHead { status: StatusCode::PARTIAL_CONTENT, fields: &response };
        assert_eq!(may_share(forwarded, head).is_ok(), shared, "{control}");
    }
}

#[test]
fn rfc9110_15_3_7_the_head_of_a_piece_says_which_bytes_it_is() {
    let head = |content_range| {
        let lines = [("cache-control", "max-age=60"), ("content-range", content_range)];
        admitted(206, &[], &lines).unwrap().head()
    };
    let (part, whole) = (head("bytes 2-4/10"), head("bytes 0-9/10"));
    assert_eq!((part.status.as_u16(), part.fields.get(&CONTENT_RANGE)), (206, Some(&b"bytes 2-4/10"[..])));
    assert_eq!((whole.status.as_u16(), whole.fields.get(&CONTENT_LENGTH)), (200, Some(&b"10"[..])));
    assert_eq!(whole.fields.get(&CONTENT_RANGE), None);
}
