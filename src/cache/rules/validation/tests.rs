use super::*;
use crate::cache::purge::Fence;
use crate::clock::Timestamp;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, IF_NONE_MATCH, SET_COOKIE, VARY};

/// Sun, 06 Nov 1994 08:49:37 GMT.
const THEN: Timestamp = Timestamp::from_millis(784_111_777_000);
const NOW: Timestamp = Timestamp::from_millis(784_111_877_000);
const MODIFIED: &str = "Sun, 06 Nov 1994 08:00:00 GMT";

type Lines<'a> = &'a [(&'a str, &'a str)];

fn fields(lines: Lines<'_>) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn exchange(at: Timestamp) -> Exchange {
    Exchange { requested_at: at, received_at: at, fence: Fence(at.as_millis()), jitter: 0.0 }
}

fn get(fields: &HeaderMap) -> RequestHead<'_> {
    RequestHead { method: &Method::GET, fields }
}

/// What a 200 with these fields, received THEN, became.
fn stored(lines: Lines<'_>) -> StoredResponse {
    let fields = fields(lines);
    let response = ResponseHead { status: StatusCode::OK, fields: &fields };
    let request = HeaderMap::new();
    admit(get(&request), response, &Policy::default(), &exchange(THEN))
        .unwrap()
        .into_stored(Bytes::from_static(b"12345"))
}

fn freshened(stored: &StoredResponse, lines: Lines<'_>) -> Freshened {
    freshen(stored, get(&HeaderMap::new()), &fields(lines), &Policy::default(), &exchange(NOW))
}

#[test]
fn rfc9111_4_3_1_conditions() {
    let stored = stored(&[("etag", "W/\"a\""), ("last-modified", MODIFIED)]);
    let mut request =
        fields(&[("range", "bytes=0-1"), ("if-none-match", "\"x\""), ("if-range", "\"x\""), ("x", "1")]);
    add_conditions(&stored, &mut request);
    let expected = fields(&[("if-none-match", "W/\"a\""), ("if-modified-since", MODIFIED), ("x", "1")]);
    assert_eq!(request, expected);
    remove_conditions(&mut request);
    assert!(!request.contains_key(IF_NONE_MATCH));
}

#[test]
fn rfc9111_4_3_4_which_response_a_304_speaks_of() {
    let control = ("cache-control", "max-age=1");
    for (section, kept, given, speaks) in [
        ("strong", &[("etag", "\"a\""), control][..], &[("etag", "\"a\"")][..], true),
        ("strong, other", &[("etag", "\"a\""), control], &[("etag", "\"b\"")], false),
        ("weak", &[("etag", "W/\"a\""), control], &[("etag", "W/\"a\"")], true),
        ("weak to strong", &[("etag", "\"a\""), control], &[("etag", "W/\"a\"")], true),
        ("strong to weak", &[("etag", "W/\"a\""), control], &[("etag", "\"a\"")], false),
        (
            "strong tag before date",
            &[("etag", "\"a\""), ("last-modified", MODIFIED)],
            &[("etag", "\"b\""), ("last-modified", MODIFIED)],
            false,
        ),
        ("a tag that was not asked about", &[("last-modified", MODIFIED)], &[("etag", "\"a\"")], false),
        ("date", &[("last-modified", MODIFIED)], &[("last-modified", MODIFIED)], true),
        (
            "other date",
            &[("last-modified", MODIFIED)],
            &[("last-modified", "Sun, 06 Nov 1994 08:00:01 GMT")],
            false,
        ),
        ("nothing", &[("etag", "\"a\"")], &[], true),
        ("unquoted, the same", &[("etag", "a")], &[("etag", "a")], true),
        ("unquoted, other", &[("etag", "a")], &[("etag", "b")], false),
    ] {
        let freshened = freshened(&stored(kept), given);
        assert_eq!(matches!(freshened, Freshened::Kept(_)), speaks, "{section}");
        assert_eq!(freshened == Freshened::Mismatch, !speaks, "{section}");
    }
}

#[test]
fn rfc9111_3_2_fields_are_updated() {
    let before = stored(&[
        ("etag", "\"a\""),
        ("cache-control", "max-age=1"),
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("x-kept", "1"),
        ("x-new", "1"),
        ("x-new", "2"),
        ("cache-tag", "one"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ]);
    let Freshened::Kept(after) = freshened(
        &before,
        &[
            ("etag", "\"a\""),
            ("cache-control", "max-age=60"),
            ("content-length", "0"),
            ("content-type", "text/html"),
            ("content-encoding", "gzip"),
            ("content-security-policy", "x"),
            ("x-new", "3"),
            ("cache-tag", "two"),
            ("age", "4"),
            ("connection", "x-hop, x-kept"),
            ("x-kept", "9"),
            ("x-hop", "1"),
        ],
    ) else {
        panic!("must be kept")
    };
    let expected = fields(&[
        ("etag", "\"a\""),
        ("cache-control", "max-age=60"),
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("content-security-policy", "x"),
        ("x-kept", "1"),
        ("x-new", "3"),
        ("date", "Sun, 06 Nov 1994 08:51:17 GMT"),
    ]);
    assert_eq!(after.fields, expected);
    assert_eq!(after.body, "12345");
    assert_eq!((after.received_at, after.fence), (NOW, Fence(NOW.as_millis())), "I5");
    assert_eq!((after.initial_age.as_secs(), after.freshness_lifetime.as_secs()), (4, 60));
    assert_eq!(after.tags, ["two", "one"]);
}

#[test]
fn i7_a_304_may_take_the_permission_back() {
    let before = stored(&[("etag", "\"a\""), ("cache-control", "max-age=1")]);
    for (lines, expected) in [
        (&[("cache-control", "no-store")][..], NoStoreReason::NoStore),
        (&[("cache-control", "private, max-age=9")], NoStoreReason::Private),
        (&[("vary", "*")], NoStoreReason::VaryStar),
        (&[("set-cookie", "a=b")], NoStoreReason::SetCookie),
    ] {
        let Freshened::NotKept(once, reason) = freshened(&before, lines) else { panic!("{lines:?}") };
        assert_eq!(reason, expected);
        assert_eq!((once.body, once.reuse), (before.body.clone(), Reuse::ValidateAlways));
    }
}

#[test]
fn rfc9111_4_1_a_304_may_change_what_selects() {
    let before = stored(&[("etag", "\"a\""), ("cache-control", "max-age=1")]);
    let request = fields(&[("x", "1")]);
    let update = [(VARY, "X".parse().unwrap())].into_iter().collect();
    let Freshened::Kept(after) = freshen(&before, get(&request), &update, &Policy::default(), &exchange(NOW))
    else {
        panic!("must be kept")
    };
    assert_eq!(after.selecting_fields, [("x".parse().unwrap(), Some("1".parse().unwrap()))]);
}

#[test]
fn rfc9111_4_3_5_head() {
    let before = stored(&[("etag", "\"a\""), ("cache-control", "max-age=1")]);
    let effect = |status, lines: Lines<'_>| {
        let fields = fields(lines);
        let response = ResponseHead { status, fields: &fields };
        let request = HeaderMap::new();
        let head = RequestHead { method: &Method::HEAD, fields: &request };
        match head_effect(&before, head, response, &Policy::default(), &exchange(NOW)) {
            HeadEffect::Freshened(_) => "freshened",
            HeadEffect::Invalidates => "invalidates",
            HeadEffect::None => "none",
        }
    };
    for (section, status, lines, expected) in [
        ("same", StatusCode::OK, &[("etag", "\"a\""), ("content-length", "5")][..], "freshened"),
        ("same tag, no length", StatusCode::OK, &[("etag", "\"a\"")], "freshened"),
        ("other tag", StatusCode::OK, &[("etag", "\"b\"")], "invalidates"),
        ("other length", StatusCode::OK, &[("etag", "\"a\""), ("content-length", "6")], "invalidates"),
        ("no validator", StatusCode::OK, &[("content-length", "5")], "none"),
        ("other status", StatusCode::NOT_FOUND, &[("etag", "\"b\"")], "none"),
        ("now private", StatusCode::OK, &[("etag", "\"a\""), ("cache-control", "private")], "invalidates"),
    ] {
        assert_eq!(effect(status, lines), expected, "{section}");
    }
}

proptest::proptest! {
    /// Without new evidence the end of freshness does not move beyond one lifetime from now, and a 304
    /// never brings what it may not: Age, cookies, the connection's fields.
    #[test]
    fn freshening_gives_at_most_what_is_stated(before in 0u64..1000, after in proptest::option::of(0u64..1000)) {
        let control = format!("max-age={before}");
        let kept = stored(&[("etag", "\"a\""), ("cache-control", &control)]);
        let update = after.map(|seconds| (CACHE_CONTROL, format!("max-age={seconds}").parse().unwrap()));
        let update: HeaderMap = update.into_iter().collect();
        let stated = after.unwrap_or(before);
        match freshen(&kept, get(&HeaderMap::new()), &update, &Policy::default(), &exchange(NOW)) {
            Freshened::Kept(fresh) => {
                proptest::prop_assert_eq!(fresh.freshness_lifetime.as_secs(), stated);
                proptest::prop_assert!(!fresh.fields.contains_key(AGE) && !fresh.fields.contains_key(SET_COOKIE));
            }
            other => proptest::prop_assert!(false, "{:?}", other),
        }
    }
}
