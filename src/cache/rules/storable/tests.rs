use super::*;
use crate::cache::purge::Fence;
use crate::cache::stored::{Reuse, Span};
use crate::clock::Timestamp;
use http::header::{AGE, DATE};

const NOW: Timestamp = Timestamp::from_millis(784_111_777_000);
const EXCHANGE: Exchange = Exchange { requested_at: NOW, received_at: NOW, fence: Fence(7), jitter: 0.0 };
const TAGGED: (&str, &str) = ("etag", "\"a\"");
const OLD: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT");

type Lines<'a> = &'a [(&'a str, &'a str)];

fn fields(lines: Lines<'_>) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

struct Case<'a> {
    method: Method,
    request: Lines<'a>,
    status: u16,
    response: Lines<'a>,
}

fn get(status: u16, response: Lines<'_>) -> Case<'_> {
    Case { method: Method::GET, request: &[], status, response }
}

impl Case<'_> {
    fn heads<T>(&self, rule: impl FnOnce(RequestHead<'_>, ResponseHead<'_>) -> T) -> T {
        let (request, response) = (fields(self.request), fields(self.response));
        let status = StatusCode::from_u16(self.status).unwrap();
        let request = RequestHead { method: &self.method, fields: &request };
        rule(request, ResponseHead { status, fields: &response })
    }

    fn admit(&self, policy: &Policy) -> Result<Admitted, NoStoreReason> {
        self.heads(|request, response| admit(request, response, policy, &EXCHANGE))
    }

    fn share(&self, policy: &Policy) -> Result<(), NoStoreReason> {
        self.heads(|request, response| may_share(request, response, policy, &EXCHANGE))
    }
}

/// Cache-Control alone.
fn cc(value: &'static str) -> [(&'static str, &'static str); 1] {
    [("cache-control", value)]
}

#[test]
fn i7_rfc9111_3_what_may_be_stored_and_shared() {
    use NoStoreReason as No;
    let policy = Policy::default();
    let both = |reason| (Err(reason), Err(reason));
    let fine = (Ok(()), Ok(()));
    for (section, case, (stored, shared)) in [
        ("3: explicit", get(200, &cc("max-age=1")), fine),
        ("3: any final status", get(599, &cc("max-age=1")), fine),
        ("3: unknown 3xx", get(399, &cc("s-maxage=1")), fine),
        ("3: freshness of zero", get(200, &cc("max-age=0")), fine),
        ("3: validator only", get(200, &[TAGGED]), (Ok(()), Err(No::NoFreshness))),
        ("3: neither", get(200, &[]), both(No::NoFreshness)),
        ("3: not by default", get(302, &[TAGGED]), both(No::NoFreshness)),
        ("3: public", get(302, &[TAGGED, ("cache-control", "public")]), (Ok(()), Err(No::NoFreshness))),
        (
            "an event stream",
            get(200, &[("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "max-age=1")]),
            (Ok(()), Err(No::TooLarge)),
        ),
        ("3: 5xx only if stated", get(503, &[TAGGED]), (Err(No::Status), Ok(()))),
        ("3: 5xx stated", get(503, &cc("max-age=1")), fine),
        ("3: HEAD is no GET", Case { method: Method::HEAD, ..get(200, &cc("max-age=1")) }, both(No::Method)),
        ("3: POST", Case { method: Method::POST, ..get(200, &cc("max-age=1")) }, both(No::Method)),
        ("3.3: parts", get(206, &cc("max-age=1")), both(No::Status)),
        ("4.3.4: 304", get(304, &cc("max-age=1")), both(No::Status)),
        ("3: a fill has no condition", get(412, &cc("max-age=1")), fine),
        ("3: a fill has no range", get(416, &cc("max-age=1")), fine),
        ("3: final ones", get(103, &cc("max-age=1")), both(No::Status)),
        ("6585 3", get(428, &cc("max-age=1")), both(No::Status)),
        ("6585 4", get(429, &cc("public, max-age=1")), both(No::Status)),
        ("6585 5", get(431, &cc("max-age=1")), both(No::Status)),
        ("6585 6", get(511, &cc("max-age=1")), both(No::Status)),
        ("3: a guess", get(501, &[OLD]), fine),
        ("3: Expires", get(404, &[("expires", "Sun, 06 Nov 1994 09:49:37 GMT")]), fine),
        ("3: Expires in the past", get(403, &[("expires", "0")]), fine),
        ("5.2.2.9: malformed", get(302, &[TAGGED, ("cache-control", "public=x")]), both(No::NoFreshness)),
        ("5.2.2.5", get(200, &cc("no-store, max-age=1")), both(No::NoStore)),
        ("5.2.2.3: understood", get(200, &cc("must-understand, no-store, max-age=1")), fine),
        (
            "5.2.2.3: malformed allows nothing",
            get(200, &cc("must-understand=x, no-store, max-age=1")),
            both(No::NoStore),
        ),
        ("5.2.2.3: malformed", get(599, &cc("must-understand=x, max-age=1")), both(No::Status)),
        ("5.2.2.3: not understood", get(599, &cc("must-understand, no-store, max-age=1")), both(No::Status)),
        ("5.2.2.3: not understood", get(599, &cc("must-understand, max-age=1")), both(No::Status)),
        ("5.2.2.7", get(200, &cc("private, s-maxage=1")), both(No::Private)),
        ("5.2.2.7: field names", get(200, &cc("private=\"a\", max-age=1")), both(No::Private)),
        ("5.2.2.4", get(200, &[TAGGED, ("cache-control", "no-cache")]), (Ok(()), Err(No::NoFreshness))),
        ("5.2.2.4: no validator", get(200, &cc("no-cache, max-age=1")), both(No::NoFreshness)),
        ("4.1", get(200, &[("vary", "a, *"), ("cache-control", "max-age=1")]), both(No::VaryStar)),
        ("7.3", get(200, &[("set-cookie", "a=b"), ("cache-control", "max-age=1")]), both(No::SetCookie)),
    ] {
        assert_eq!(case.admit(&policy).map(drop), stored, "{section}: stored");
        assert_eq!(case.share(&policy), shared, "{section}: shared");
    }
}

#[test]
fn i7_rfc9213_2_2_a_targeted_field_decides_on_storing() {
    use NoStoreReason as No;
    let policy = Policy::default();
    let both = |reason| (Err(reason), Err(reason));
    let fine = (Ok(()), Ok(()));
    for (section, case, (stored, shared)) in [
        (
            "9213 2.2",
            get(200, &[("cdn-cache-control", "max-age=1"), ("cache-control", "no-store, private")]),
            fine,
        ),
        (
            "9213 2.2",
            get(200, &[("cdn-cache-control", "no-store"), ("cache-control", "public, max-age=1")]),
            both(No::NoStore),
        ),
        (
            "9213 2.2: says nothing of freshness",
            get(200, &[("cdn-cache-control", "none"), ("cache-control", "public, max-age=1")]),
            both(No::NoFreshness),
        ),
        ("9213 2.1: unreadable", get(200, &[("cdn-cache-control", "no-store,"), cc("max-age=1")[0]]), fine),
    ] {
        assert_eq!(case.admit(&policy).map(drop), stored, "{section}: stored");
        assert_eq!(case.share(&policy), shared, "{section}: shared");
    }
}

#[test]
fn i7_rfc9111_3_5_authorization() {
    let request: Lines<'_> = &[("authorization", "Basic eDp5")];
    for (control, expected) in [
        ("max-age=1", Err(NoStoreReason::Authorization)),
        ("max-age=1, proxy-revalidate", Err(NoStoreReason::Authorization)),
        ("max-age=1, public", Ok(())),
        ("s-maxage=1", Ok(())),
        ("max-age=1, s-maxage=x", Err(NoStoreReason::Authorization)),
        ("max-age=1, public=x", Err(NoStoreReason::Authorization)),
        ("public, private, max-age=1", Err(NoStoreReason::Private)),
        ("public, no-store, max-age=1", Err(NoStoreReason::NoStore)),
        ("max-age=1, must-revalidate", Ok(())),
    ] {
        let response = [("cache-control", control)];
        let case = Case { request, ..get(200, &response) };
        assert_eq!(case.admit(&Policy::default()).map(drop), expected, "{control}");
        assert_eq!(case.share(&Policy::default()), expected, "{control}");
    }
    for (control, targeted, expected) in [
        ("max-age=1", "max-age=1, public", Ok(())),
        ("public, max-age=1", "max-age=1", Err(NoStoreReason::Authorization)),
        ("public, max-age=1", "max-age=1, public=1", Err(NoStoreReason::Authorization)),
        ("public, max-age=1", "s-maxage=1.0, max-age=1", Err(NoStoreReason::Authorization)),
    ] {
        let response = [("cache-control", control), ("cdn-cache-control", targeted)];
        let case = Case { request, ..get(200, &response) };
        assert_eq!(case.admit(&Policy::default()).map(drop), expected, "9213 2.2: {targeted}");
    }
}

#[test]
fn the_route_decides_what_is_left_open() {
    let cookie = get(200, &[("set-cookie", "a=b"), ("cache-control", "max-age=1")]);
    let stores = Policy { set_cookie: SetCookie::Stored, ..Policy::default() };
    assert!(cookie.admit(&stores).is_ok());
    let disabled = Policy { storing: Storing::Disabled, ..Policy::default() };
    assert_eq!(get(200, &cc("max-age=1")).admit(&disabled).map(drop), Err(NoStoreReason::Bypass));
    let fresh = cc("max-age=1");
    let asked = Case { request: &cc("no-store"), ..get(200, &fresh) };
    assert!(asked.admit(&Policy::default()).is_ok(), "ignored");
    let honours = Policy { request_directives: RequestDirectives::Honour, ..Policy::default() };
    assert_eq!(asked.admit(&honours).map(drop), Err(NoStoreReason::ClientNoStore), "5.2.1.5");
    let negative =
        Policy { negative: vec![(StatusCode::FORBIDDEN, Duration::from_secs(9))], ..Policy::default() };
    let refused = get(403, &[]).admit(&negative).unwrap();
    assert_eq!(refused.head().freshness_lifetime.as_secs(), 9);
}

#[test]
fn what_is_decided_when_stored() {
    let case = Case {
        request: &[("accept-encoding", "gzip"), ("x", "1")],
        ..get(
            200,
            &[
                ("cache-control", "max-age=60"),
                ("vary", "X, Accept-Encoding"),
                ("age", "5"),
                ("cache-tag", "a"),
            ],
        )
    };
    let policy = Policy { tags: vec!["r".into()], ..Policy::default() };
    let stored = case.admit(&policy).unwrap().into_stored(Bytes::from_static(b"body"));
    assert_eq!(stored.body, "body");
    assert_eq!(stored.fence, Fence(7));
    assert_eq!(stored.tags, ["r", "a"]);
    assert_eq!((stored.initial_age.as_secs(), stored.freshness_lifetime.as_secs()), (5, 60));
    assert!(stored.fields.get(&AGE).is_none() && stored.fields.get(&DATE).is_some());
    let selecting: Vec<_> = stored
        .selecting_fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_ref().map(|value| value.to_str().unwrap())))
        .collect();
    assert_eq!(selecting, [("accept-encoding", Some("gzip, identity")), ("x", Some("1"))]);
    let only_validated = get(200, &[TAGGED]).admit(&policy).unwrap();
    assert_eq!(only_validated.lifetime(), None);
    let none = Span::ZERO;
    let expected =
        Reuse::WithStale { while_revalidate: none, if_error: none, on_disconnect: none, on_request: none };
    assert_eq!(only_validated.head().reuse, expected, "no window without freshness");
}

#[test]
fn the_lifetime_says_what_it_was_taken_from() {
    let admitted = get(200, &cc("s-maxage=60")).admit(&Policy::default()).unwrap();
    let lifetime = admitted.lifetime().map(|lifetime| lifetime.duration);
    assert_eq!(lifetime, Some(Duration::from_mins(1)));
}

/// Every reason, and whether the next answers for the key will have it too.
#[test]
fn who_may_be_spared_the_wait_for_what_is_never_stored() {
    use NoStoreReason as No;
    for (reason, lasts) in [
        (No::Private, true),
        (No::NoStore, true),
        (No::SetCookie, true),
        (No::Authorization, true),
        (No::VaryStar, true),
        (No::Status, true),
        (No::NoFreshness, true),
        (No::TooLarge, false),
        (No::Overload, false),
        (No::Purged, false),
        (No::Method, false),
        (No::Bypass, false),
        (No::ClientNoStore, false),
        (No::Partial, false),
        (No::HitForMiss, false),
    ] {
        for (status, tells) in [
            (200, true),
            (404, true),
            (401, true),
            (206, false),
            (304, false),
            (412, false),
            (416, false),
            (503, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(leaves_marker(reason, status), lasts && tells, "{reason:?} {status}");
        }
    }
}

/// RFC 9111 4.3.3: only what says what the resource is now, whoever asked.
#[test]
fn i7_what_turned_private_takes_what_is_stored_away() {
    use NoStoreReason as No;
    for (reason, status, away) in [
        (No::Private, 200, true),
        (No::NoStore, 301, true),
        (No::NoStore, 404, true),
        (No::NoStore, 410, true),
        (No::Private, 401, false),
        (No::Private, 403, false),
        (No::NoStore, 503, false),
        (No::NoStore, 206, false),
        (No::NoStore, 304, false),
        (No::Authorization, 200, false),
        (No::TooLarge, 200, false),
        (No::ClientNoStore, 200, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(supersedes(reason, status), away, "{reason:?} {status}");
    }
}
