use super::*;
use crate::cache::purge::Fence;
use crate::cache::rules::early::Early;
use crate::cache::rules::freshness::LifetimeSource;
use crate::cache::stored::{Few, Uses};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CACHE_CONTROL;

const RECEIVED: Timestamp = Timestamp::from_millis(1_000_000);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn directives(line: &str) -> Directives {
    let fields: HeaderMap = [(CACHE_CONTROL, line.parse().unwrap())].into_iter().collect();
    Directives::of_response(&fields)
}

fn request(line: &str) -> Directives {
    let fields: HeaderMap = [(CACHE_CONTROL, line.parse().unwrap())].into_iter().collect();
    Directives::of_request(&fields)
}

/// Fresh for 60 s from age zero, and 10 s old when it came.
fn stored(reuse: Reuse) -> StoredResponse {
    StoredResponse {
        status: StatusCode::OK,
        fields: HeaderMap::new().into(),
        body: Bytes::new(),
        received_at: RECEIVED,
        initial_age: seconds(10).into(),
        freshness_lifetime: seconds(60).into(),
        reuse,
        selecting_fields: Few::default(),
        tags: Few::default(),
        fence: Fence(0),
        early: Early::NEVER,
        uses: Uses::default(),
    }
}

fn windows(while_revalidate: u64, if_error: u64, on_disconnect: u64) -> Reuse {
    Reuse::WithStale {
        while_revalidate: seconds(while_revalidate).into(),
        if_error: seconds(if_error).into(),
        on_disconnect: seconds(on_disconnect).into(),
        on_request: Span::MAX,
    }
}

/// As [`windows`], but no request's `max-stale` extends them.
fn only(while_revalidate: u64, if_error: u64, on_disconnect: u64) -> Reuse {
    Reuse::WithStale {
        while_revalidate: seconds(while_revalidate).into(),
        if_error: seconds(if_error).into(),
        on_disconnect: seconds(on_disconnect).into(),
        on_request: Span::ZERO,
    }
}

#[test]
fn rfc9111_4_2_fresh_until_age_reaches_the_lifetime() {
    use Verdict::{Fresh, MustValidate, StaleWhileRevalidate};
    for (section, reuse, after_millis, verdict) in [
        ("4.2", Reuse::WhileFresh, 0, Fresh),
        ("4.2: lifetime > age", Reuse::WhileFresh, 49_999, Fresh),
        ("4.2: equal is stale", Reuse::WhileFresh, 50_000, MustValidate),
        ("5.2.2.4", Reuse::ValidateAlways, 0, MustValidate),
        ("5861 3", windows(5, 0, 0), 50_000, StaleWhileRevalidate),
        ("5861 3", windows(5, 0, 0), 54_999, StaleWhileRevalidate),
        ("5861 3: after the window", windows(5, 9, 9), 55_000, MustValidate),
    ] {
        let now = RECEIVED.plus(Duration::from_millis(after_millis));
        assert_eq!(assess(&stored(reuse), now), verdict, "{section}, {after_millis}");
    }
}

#[test]
fn rfc5861_4_use_on_failure() {
    use Failure::{Disconnected, NoGoodAnswer};
    for (section, reuse, after, failure, usable) in [
        ("fresh", Reuse::WhileFresh, 49, NoGoodAnswer, true),
        ("5.2.2.2", Reuse::WhileFresh, 50, Disconnected, false),
        ("5.2.2.4", Reuse::ValidateAlways, 0, Disconnected, false),
        ("5861 4", windows(0, 5, 0), 54, NoGoodAnswer, true),
        ("5861 4", windows(0, 5, 0), 54, Disconnected, true),
        ("5861 4: after the window", windows(9, 5, 0), 55, NoGoodAnswer, false),
        ("4.2.4: disconnected", windows(0, 5, 9), 55, Disconnected, true),
        ("4.2.4: only disconnected", windows(0, 5, 9), 55, NoGoodAnswer, false),
    ] {
        let now = RECEIVED.plus(seconds(after));
        assert_eq!(may_use_on_failure(&stored(reuse), now, failure), usable, "{section}, {after}");
    }
    let failures = [500, 501, 502, 503, 504, 404, 200]
        .map(|status| Failure::of_status(StatusCode::from_u16(status).unwrap()).is_some());
    assert_eq!(failures, [true, false, true, true, true, false, false]);
}

#[test]
fn windows_of_response_and_route() {
    let policy = Policy {
        stale_while_revalidate: seconds(3),
        stale_if_error: seconds(300),
        stale_on_disconnect: true,
        ..Policy::default()
    };
    let stated = Some(Lifetime { duration: seconds(1), source: LifetimeSource::MaxAge });
    let day = 24 * 3600;
    for (section, line, lifetime, expected) in [
        ("route", "max-age=1", stated, windows(3, 300, day)),
        ("5861 3", "max-age=1, stale-while-revalidate=7", stated, windows(7, 300, day)),
        ("5861 4", "max-age=1, stale-if-error=0", stated, windows(3, 0, day)),
        ("a day at most", "max-age=1, stale-if-error=999999", stated, windows(3, day, day)),
        ("5.2.2.10", "s-maxage=1", stated, only(0, 0, 0)),
        ("5.2.2.10: stated ones stand", "s-maxage=1, stale-if-error=7", stated, only(0, 7, 0)),
        ("5861 3: malformed", "max-age=1, stale-while-revalidate=7.0", stated, windows(0, 300, day)),
        ("5861 4: malformed", "max-age=1, stale-if-error", stated, windows(3, 0, day)),
        ("5861 4: the smaller", "max-age=1, stale-if-error=9, stale-if-error=7", stated, windows(3, 7, day)),
        ("5.2.2.10: malformed", "max-age=1, s-maxage=x", stated, only(0, 0, 0)),
        ("5.2.2.2: malformed", "max-age=1, must-revalidate=x", stated, Reuse::WhileFresh),
        ("5.2.2.4: field names", "max-age=1, no-cache=\"a\"", stated, Reuse::ValidateAlways),
        ("5.2.2.2", "must-revalidate, stale-if-error=7", stated, Reuse::WhileFresh),
        ("5.2.2.8", "proxy-revalidate, stale-while-revalidate=7", stated, Reuse::WhileFresh),
        ("5.2.2.4", "no-cache, stale-if-error=7", stated, Reuse::ValidateAlways),
        ("no freshness, no reuse", "foo", None, only(0, 0, 0)),
    ] {
        assert_eq!(decide(&directives(line), lifetime, &policy), expected, "{section}: {line}");
    }
}

#[test]
fn rfc9111_5_2_1_demands() {
    use Demand::{AsUsual, StaleIsFine, Validate};
    for (section, line, after, demanded) in [
        ("none", "foo", 0, AsUsual),
        ("5.2.1.4", "no-cache", 0, Validate),
        ("5.2.1.5", "no-store", 0, AsUsual),
        ("5.2.1.1", "max-age=10", 0, AsUsual),
        ("5.2.1.1", "max-age=10", 1, Validate),
        ("5.2.1.1: no stale", "max-age=100", 50, Validate),
        ("5.2.1.2", "max-age=100, max-stale=5", 55, StaleIsFine),
        ("5.2.1.2", "max-stale", 5_000, StaleIsFine),
        ("5.2.1.2: exceeded", "max-stale=5", 56, AsUsual),
        ("5.2.1.3", "min-fresh=20", 30, AsUsual),
        ("5.2.1.3", "min-fresh=20", 31, Validate),
    ] {
        let now = RECEIVED.plus(seconds(after));
        assert_eq!(demand(&stored(windows(9, 9, 0)), &request(line), now), demanded, "{section}: {line}");
    }
    let (none, on_request) = (Span::ZERO, seconds(10).into());
    let bounded =
        Reuse::WithStale { while_revalidate: none, if_error: none, on_disconnect: none, on_request };
    for (after, demanded) in [(59, StaleIsFine), (60, AsUsual)] {
        let now = RECEIVED.plus(seconds(after));
        assert_eq!(
            demand(&stored(bounded), &request("max-stale"), now),
            demanded,
            "the route's bound: {after}"
        );
    }
    let late = RECEIVED.plus(seconds(60));
    assert_eq!(demand(&stored(Reuse::WhileFresh), &request("max-stale"), late), AsUsual, "5.2.2.2 wins");
    assert_eq!(demand(&stored(only(9, 9, 0)), &request("max-stale"), late), AsUsual, "5.2.2.10 wins");
    assert_eq!(demand(&stored(Reuse::ValidateAlways), &request("max-stale"), late), Validate, "5.2.2.4 wins");
}

#[test]
fn rfc9111_5_2_1_who_waits_for_no_forward_but_its_own() {
    for (line, expected) in [
        ("no-cache", true),
        ("max-age=0", true),
        ("max-age=1", false),
        ("max-stale", false),
        ("no-store", false),
    ] {
        assert_eq!(insists(&request(line)), expected, "{line}");
    }
}

#[test]
fn retention_covers_freshness_the_larger_window_and_validation() {
    assert_eq!(retention(&stored(Reuse::ValidateAlways)), seconds(50 + 600));
    assert_eq!(retention(&stored(windows(5, 300, 7))), seconds(50 + 300 + 600));
    let old = StoredResponse { initial_age: seconds(90).into(), ..stored(windows(5, 0, 7)) };
    assert_eq!(retention(&old), seconds(7 + 600));
}
