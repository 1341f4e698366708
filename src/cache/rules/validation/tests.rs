use super::*;
use crate::cache::purge::Fence;
use crate::cache::rules::reuse::{Verdict, assess};
use crate::clock::Timestamp;
use bytes::Bytes;
use http::header::{ACCEPT_LANGUAGE, AGE, CACHE_CONTROL, IF_NONE_MATCH, SET_COOKIE, VARY};

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

/// The same, selected by this language.
fn varying(language: &str, lines: Lines<'_>) -> Arc<StoredResponse> {
    let selecting_fields = vec![(ACCEPT_LANGUAGE, Some(language.parse().unwrap()))].into();
    Arc::new(StoredResponse { selecting_fields, ..stored(lines) })
}

fn freshened(stored: &StoredResponse, lines: Lines<'_>) -> Freshened {
    freshen(stored, get(&HeaderMap::new()), &fields(lines), &Policy::default(), &exchange(NOW))
}

const CONTROL: (&str, &str) = ("cache-control", "max-age=1");

#[test]
fn rfc9111_4_3_1_conditions() {
    let tagged = |tag: &str| varying("x", &[("etag", tag), CONTROL]);
    let many: Vec<_> = (0..40).map(|number| tagged(&format!("\"{number:0>200}\""))).collect();
    for (section, asked, expected) in [
        ("nothing", Asked::Nothing, &[][..]),
        (
            "both validators of one",
            Asked::Selected(Arc::new(stored(&[("etag", "W/\"a\""), ("last-modified", MODIFIED)]))),
            &[("if-none-match", "W/\"a\""), ("if-modified-since", MODIFIED)],
        ),
        ("none to send", Asked::Selected(Arc::new(stored(&[CONTROL]))), &[]),
        (
            "the tags of several, no date",
            Asked::Others(vec![
                tagged("\"a\""),
                varying("y", &[("etag", "\"b\""), ("last-modified", MODIFIED)]),
                tagged("\"a\""),
            ]),
            &[("if-none-match", "\"a\", \"b\"")],
        ),
    ] {
        let mut request =
            fields(&[("range", "bytes=0-1"), ("if-none-match", "\"x\""), ("if-range", "\"x\""), ("x", "1")]);
        add_conditions(&asked, &mut request);
        assert_eq!(request, fields(&[expected, &[("x", "1")]].concat()), "{section}");
    }
    let mut request = HeaderMap::new();
    add_conditions(&Asked::Others(many), &mut request);
    let sent = request.get(IF_NONE_MATCH).unwrap().len();
    assert!(sent > 3000 && sent <= TAGS_BYTES_MAX + 100, "I10: {sent}");
}

#[test]
fn rfc9111_4_1_which_variants_may_be_asked_about() {
    let by = |name: &str, value: Option<&str>, tag: &str| {
        let selecting = vec![(name.parse().unwrap(), value.map(|value| value.parse().unwrap()))];
        StoredResponse { selecting_fields: selecting.into(), ..stored(&[("etag", tag), CONTROL]) }
    };
    let strong = "\"a\"";
    for (section, variant, asked) in [
        ("another language", by("accept-language", Some("de"), strong), true),
        ("another value of what is not known", by("x", None, strong), true),
        ("weak", by("x", Some("1"), "W/\"a\""), false),
        ("no tag that can be read", by("x", Some("1"), "a"), false),
        ("another coding", by("accept-encoding", Some("gzip, identity"), strong), false),
        ("the same coding", by("accept-encoding", Some("br, identity"), strong), true),
        ("another user", by("authorization", Some("Basic YQ=="), strong), false),
        ("nobody", by("cookie", None, strong), false),
        ("the same user", by("cookie", Some("a=b"), strong), true),
        ("an error", StoredResponse { status: StatusCode::NOT_FOUND, ..by("x", None, strong) }, false),
    ] {
        let request = fields(&[
            ("accept-encoding", "br"),
            ("accept-language", "en"),
            ("authorization", "Basic Yg=="),
            ("cookie", "a=b"),
            ("x", "2"),
        ]);
        let expected = if asked { Asked::Others(vec![Arc::new(variant.clone())]) } else { Asked::Nothing };
        assert_eq!(askable(vec![Arc::new(variant)], &request), expected, "{section}");
    }
}

#[test]
fn rfc9111_4_3_4_which_response_a_304_speaks_of() {
    for (section, kept, given, speaks) in [
        ("strong", &[("etag", "\"a\""), CONTROL][..], &[("etag", "\"a\"")][..], true),
        (
            "a date in another of its forms",
            &[("last-modified", MODIFIED), CONTROL],
            &[("last-modified", "Sunday, 06-Nov-94 08:00:00 GMT")],
            true,
        ),
        ("strong, other", &[("etag", "\"a\""), CONTROL], &[("etag", "\"b\"")], false),
        ("weak", &[("etag", "W/\"a\""), CONTROL], &[("etag", "W/\"a\"")], true),
        ("weak to strong", &[("etag", "\"a\""), CONTROL], &[("etag", "W/\"a\"")], true),
        ("strong to weak", &[("etag", "W/\"a\""), CONTROL], &[("etag", "\"a\"")], false),
        (
            "strong tag before date",
            &[("etag", "\"a\""), ("last-modified", MODIFIED)],
            &[("etag", "\"b\""), ("last-modified", MODIFIED)],
            false,
        ),
        ("a tag that was not asked about", &[("last-modified", MODIFIED)], &[("etag", "\"a\"")], false),
        (
            "a date that was not asked about",
            &[("etag", "\"a\""), CONTROL],
            &[("last-modified", MODIFIED)],
            false,
        ),
        ("date", &[("last-modified", MODIFIED)], &[("last-modified", MODIFIED)], true),
        ("no date, the same", &[("last-modified", "x"), CONTROL], &[("last-modified", "x")], true),
        (
            "other date",
            &[("last-modified", MODIFIED)],
            &[("last-modified", "Sun, 06 Nov 1994 08:00:01 GMT")],
            false,
        ),
        ("nothing", &[("etag", "\"a\""), CONTROL], &[], true),
        ("unquoted, the same", &[("etag", "a"), CONTROL], &[("etag", "a")], true),
        ("unquoted, other", &[("etag", "a"), CONTROL], &[("etag", "b")], false),
    ] {
        let kept = Arc::new(stored(kept));
        let found = identified(&kept, &[Arc::clone(&kept)], &fields(given));
        assert_eq!(!found.is_empty(), speaks, "{section}");
    }
}

#[test]
fn rfc9111_4_3_4_which_of_several_are_updated() {
    let strong = |language, tag| varying(language, &[("etag", tag), CONTROL]);
    let (a1, a2, b) = (strong("1", "\"a\""), strong("2", "\"a\""), strong("3", "\"b\""));
    let dated = |language| varying(language, &[("last-modified", MODIFIED)]);
    for (section, asked, selected, given, expected) in [
        ("strong: all that have it", &a1, vec![&a1, &a2, &b], &[("etag", "\"a\"")][..], vec!["1", "2"]),
        ("strong: not only what was asked", &b, vec![&b, &a1], &[("etag", "\"a\"")], vec!["1"]),
        ("strong: none", &a1, vec![&a1, &b], &[("etag", "\"c\"")], vec![]),
        ("weak: the most recent", &a1, vec![&a1, &a2], &[("etag", "W/\"a\"")], vec!["1"]),
        ("weak: none", &a1, vec![&a1, &b], &[("etag", "W/\"c\"")], vec![]),
        (
            "date: the most recent",
            &dated("5"),
            vec![&dated("5"), &dated("6")],
            &[("last-modified", MODIFIED)],
            vec!["5"],
        ),
        ("none: the one that was asked about", &a1, vec![&a1, &a2], &[], vec!["1"]),
        ("memory has it no more", &a1, vec![], &[("etag", "\"a\"")], vec!["1"]),
    ] {
        let selected: Vec<_> = selected.into_iter().cloned().collect();
        let found = identified(asked, &selected, &fields(given));
        let languages: Vec<_> = found
            .iter()
            .map(|found| found.selecting_fields[0].1.as_ref().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(languages, expected, "{section}");
    }
    let others = [a1, a2, b];
    for (section, given, expected) in [
        ("strong", &[("etag", "\"b\"")][..], Some("3")),
        ("the first of several", &[("etag", "\"a\"")], Some("1")),
        ("weak names no content", &[("etag", "W/\"b\"")], None),
        ("nothing is named", &[], None),
        ("none of them", &[("etag", "\"c\"")], None),
    ] {
        let given = fields(given);
        let found = named(&others, &given).map(|found| found.selecting_fields[0].1.as_ref().unwrap());
        assert_eq!(found.map(|value| value.to_str().unwrap()), expected, "others: {section}");
    }
    assert_eq!(by_validator(&others, &HeaderMap::new()), [], "a client's own condition");
}

#[test]
fn rfc9111_3_2_fields_are_updated() {
    let before = stored(&[
        ("etag", "\"a\""),
        ("cache-control", "max-age=1"),
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("content-security-policy", "old"),
        ("content-location", "/old"),
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
            ("content-language", "de"),
            ("content-location", "/new"),
            ("content-disposition", "attachment"),
            ("content-digest", "sha-256=::"),
            ("content-range", "bytes 0-1/5"),
            ("content-security-policy", "x"),
            ("content-security-policy-report-only", "y"),
            ("content-foo", "z"),
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
        ("content-language", "de"),
        ("content-location", "/new"),
        ("content-disposition", "attachment"),
        ("content-digest", "sha-256=::"),
        ("content-security-policy", "x"),
        ("content-security-policy-report-only", "y"),
        ("content-foo", "z"),
        ("x-kept", "1"),
        ("x-new", "3"),
        ("date", "Sun, 06 Nov 1994 08:51:17 GMT"),
    ]);
    assert_eq!(after.fields.to_map(), expected);
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
fn rfc9111_4_1_a_304_gives_a_variant_to_other_selecting_fields() {
    let before = varying("de", &[("etag", "\"a\""), CONTROL, ("vary", "accept-language")]);
    let request = fields(&[("accept-language", "EN")]);
    let update = fields(&[("etag", "\"a\""), ("cache-control", "max-age=9")]);
    let Freshened::Kept(after) = freshen(&before, get(&request), &update, &Policy::default(), &exchange(NOW))
    else {
        panic!("must be kept")
    };
    assert_eq!(after.selecting_fields, [(ACCEPT_LANGUAGE, Some("en".parse().unwrap()))]);
    assert_eq!((after.body, after.freshness_lifetime.as_secs()), (before.body.clone(), 9));
}

#[test]
fn rfc9111_3_5_what_lies_in_the_request_takes_nothing_from_others() {
    let request = fields(&[("authorization", "Basic YQ=="), ("x", "1")]);
    let update = fields(&[("etag", "\"a\""), ("vary", "x")]);
    // What it updates may have been for everybody: that word is not its own.
    for control in ["max-age=1", "public, max-age=1"] {
        let before = stored(&[("etag", "\"a\""), ("cache-control", control)]);
        let Freshened::NotKept(once, reason) =
            freshen(&before, get(&request), &update, &Policy::default(), &exchange(NOW))
        else {
            panic!("must not be kept")
        };
        assert_eq!((reason, removes(reason)), (NoStoreReason::Authorization, false));
        assert!(vary::matches(&once.selecting_fields, &request), "it answers the request");
        let response = ResponseHead { status: StatusCode::OK, fields: &update };
        let head = RequestHead { method: &Method::HEAD, fields: &request };
        let effect = head_effect(&before, head, response, &Policy::default(), &exchange(NOW));
        assert!(matches!(effect, HeadEffect::None), "{effect:?}");
    }
    for reason in [NoStoreReason::Private, NoStoreReason::NoStore, NoStoreReason::SetCookie] {
        assert!(removes(reason), "{reason:?}");
    }
}

#[test]
fn rfc9111_4_3_5_head() {
    let tagged: Lines<'_> = &[("etag", "\"a\""), ("cache-control", "max-age=200, stale-while-revalidate=9")];
    let dated: Lines<'_> = &[("last-modified", MODIFIED), CONTROL];
    let bare: Lines<'_> = &[CONTROL];
    let (same, other) = (("etag", "\"a\""), ("etag", "\"b\""));
    for (section, kept, status, lines, expected) in [
        ("same", tagged, 200, &[same, ("content-length", "5")][..], "freshened"),
        ("same tag, no length", tagged, 200, &[same], "freshened"),
        ("other tag", tagged, 200, &[other], "stale"),
        ("other length", tagged, 200, &[same, ("content-length", "6")], "stale"),
        ("a length that is none", tagged, 200, &[same, ("content-length", "x")], "stale"),
        ("a tag that is not stored", dated, 200, &[same], "stale"),
        ("same date", dated, 200, &[("last-modified", MODIFIED)], "freshened"),
        ("other date", dated, 200, &[("last-modified", "Sun, 06 Nov 1994 08:00:01 GMT")], "stale"),
        ("same tag, a date besides", tagged, 200, &[same, ("last-modified", MODIFIED)], "stale"),
        ("length alone", tagged, 200, &[("content-length", "5")], "freshened"),
        ("nothing to compare", tagged, 200, &[("x", "1")], "stale"),
        ("nothing to compare, nor stored", bare, 200, &[("x", "1")], "freshened"),
        ("no validators, other length", bare, 200, &[("content-length", "6")], "stale"),
        ("other status", tagged, 404, &[other], "none"),
        ("now private", tagged, 200, &[same, ("cache-control", "private")], "removed"),
    ] {
        let before = stored(kept);
        let fields = fields(lines);
        let response = ResponseHead { status: StatusCode::from_u16(status).unwrap(), fields: &fields };
        let request = HeaderMap::new();
        let head = RequestHead { method: &Method::HEAD, fields: &request };
        let effect = match head_effect(&before, head, response, &Policy::default(), &exchange(NOW)) {
            HeadEffect::Freshened(after) => {
                assert_eq!((after.received_at, after.fence), (NOW, Fence(NOW.as_millis())), "I5: {section}");
                "freshened"
            }
            HeadEffect::Stale(after) => {
                assert_eq!(assess(&after, NOW), Verdict::MustValidate, "{section}");
                assert_eq!(
                    (after.received_at, after.fence),
                    (before.received_at, before.fence),
                    "I5: {section}"
                );
                "stale"
            }
            HeadEffect::Removed => "removed",
            HeadEffect::None => "none",
        };
        assert_eq!(effect, expected, "{section}");
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
                proptest::prop_assert!(fresh.fields.get(&AGE).is_none() && fresh.fields.get(&SET_COOKIE).is_none());
            }
            other @ Freshened::NotKept(..) => proptest::prop_assert!(false, "{:?}", other),
        }
    }
}
