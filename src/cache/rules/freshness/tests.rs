use super::*;
use crate::cache::purge::Fence;
use http::{HeaderName, HeaderValue};

/// Sun, 06 Nov 1994 08:49:37 GMT, and 400 ms.
const RECEIVED: Timestamp = Timestamp::from_millis(784_111_777_400);

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect()
}

fn of(status: u16, lines: &[(&str, &str)], policy: &Policy) -> Option<(u64, LifetimeSource)> {
    let fields = fields(lines);
    let response = ResponseHead { status: StatusCode::from_u16(status).unwrap(), fields: &fields };
    lifetime(response, &Directives::of_response(&fields), policy, RECEIVED)
        .map(|lifetime| (lifetime.duration.as_secs(), lifetime.source))
}

const DATED: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
const IN_A_MINUTE: (&str, &str) = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
const OLD: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT");

#[test]
fn rfc9111_4_2_1_explicit() {
    use LifetimeSource::{Expires, Heuristic, MaxAge, SMaxAge};
    for (section, lines, expected) in [
        ("5.2.2.10", &[("cache-control", "max-age=1, s-maxage=2"), IN_A_MINUTE][..], Some((2, SMaxAge))),
        ("5.2.2.1", &[("cache-control", "max-age=1"), DATED, IN_A_MINUTE], Some((1, MaxAge))),
        ("5.3", &[DATED, IN_A_MINUTE], Some((60, Expires))),
        ("5.3: received where there is no Date", &[IN_A_MINUTE], Some((60, Expires))),
        ("5.3: unreadable is the past", &[("expires", "0"), DATED, OLD], Some((0, Expires))),
        ("5.3: the earliest", &[IN_A_MINUTE, ("expires", "-1")], Some((0, Expires))),
        ("5.3: unreadable is the past", &[("expires", ""), OLD], Some((0, Expires))),
        (
            "5.3: unreadable is the past",
            &[("expires", "Sun, 06 Nov 1994 08:50:37 GMT;"), OLD],
            Some((0, Expires)),
        ),
        ("5.3: before Date", &[DATED, ("expires", OLD.1)], Some((0, Expires))),
        ("4.2: any case", &[DATED, ("expires", "sun, 06 nov 1994 08:50:37 gmt")], Some((60, Expires))),
        ("5.6.7 of 9110", &[DATED, ("expires", "Sunday, 06-Nov-94 08:50:37 GMT")], Some((60, Expires))),
        ("5.6.7 of 9110", &[DATED, ("expires", "Sun Nov  6 08:50:37 1994")], Some((60, Expires))),
        ("5.3: arrival where Date is unreadable", &[("date", "now"), IN_A_MINUTE], Some((60, Expires))),
        (
            "4.2.1: a Date behind",
            &[("date", "Sun, 06 Nov 1994 08:48:37 GMT"), IN_A_MINUTE],
            Some((120, Expires)),
        ),
        (
            "4.2.1: a Date ahead",
            &[("date", "Sun, 06 Nov 1994 08:50:07 GMT"), IN_A_MINUTE],
            Some((30, Expires)),
        ),
        (
            "1.2.2: far ahead",
            &[DATED, ("expires", "Fri, 31 Dec 9999 23:59:59 GMT")],
            Some((1 << 31, Expires)),
        ),
        ("4.2.1: the earliest", &[DATED, ("expires", OLD.1), IN_A_MINUTE], Some((0, Expires))),
        ("5.3: max-age wins", &[("cache-control", "max-age=9"), ("expires", "0")], Some((9, MaxAge))),
        ("5.3: a bad max-age too", &[("cache-control", "max-age=x"), IN_A_MINUTE], Some((0, MaxAge))),
        ("5.3: s-maxage wins", &[("cache-control", "s-maxage=9"), ("expires", "0")], Some((9, SMaxAge))),
        ("4.2.1: a bad s-maxage", &[("cache-control", "max-age=9, s-maxage=x")], Some((0, SMaxAge))),
        ("5.3: equal to Date", &[DATED, ("expires", DATED.1)], Some((0, Expires))),
        (
            "9213 2.2",
            &[("cdn-cache-control", "max-age=9"), ("cache-control", "s-maxage=1")],
            Some((9, MaxAge)),
        ),
        ("9213 2.2: no Expires", &[("cdn-cache-control", "foo"), IN_A_MINUTE], None),
        ("4.2.2 after 9213", &[("cdn-cache-control", "foo"), IN_A_MINUTE, OLD], Some((100, Heuristic))),
    ] {
        assert_eq!(of(200, lines, &Policy::default()), expected, "{section}");
    }
}

#[test]
fn rfc9111_4_2_2_route_and_guess() {
    use LifetimeSource::{Expires, Heuristic, MaxAge, Negative, Ttl};
    let seconds = Duration::from_secs;
    let guessing = Policy::default();
    let not_guessing = Policy { heuristic: false, ..Policy::default() };
    let given = Policy {
        ttl: Some(seconds(30)),
        negative: vec![(StatusCode::NOT_FOUND, seconds(10)), (StatusCode::BAD_GATEWAY, seconds(10))],
        ..Policy::default()
    };
    for (section, status, lines, policy, expected) in [
        ("4.2.2: a tenth", 200, &[DATED, OLD][..], &guessing, Some((100, Heuristic))),
        ("4.2.2: only such statuses", 403, &[DATED, OLD], &guessing, None),
        ("4.2.2: or public", 403, &[OLD, ("cache-control", "public")], &guessing, Some((100, Heuristic))),
        ("heuristic = false", 200, &[DATED, OLD], &not_guessing, None),
        ("ttl", 200, &[DATED, OLD], &given, Some((30, Ttl))),
        ("ttl after what is stated", 200, &[IN_A_MINUTE], &given, Some((60, Expires))),
        ("negative", 404, &[OLD], &given, Some((10, Negative))),
        ("never for 5xx", 502, &[OLD], &given, None),
        ("5xx: a guess where the RFC has one", 501, &[OLD], &given, Some((100, Heuristic))),
        ("5xx: or public", 503, &[OLD, ("cache-control", "public")], &given, Some((100, Heuristic))),
        ("5.2.2.9: well-formed only", 403, &[OLD, ("cache-control", "public=x")], &guessing, None),
        ("4.2.2: unknown", 599, &[OLD], &guessing, None),
        ("4.2.2: public", 599, &[OLD, ("cache-control", "public")], &guessing, Some((100, Heuristic))),
        ("4.2.2: without Date", 200, &[OLD], &guessing, Some((100, Heuristic))),
        (
            "4.2.2: a Date ahead lengthens nothing",
            200,
            &[OLD, ("date", "Mon, 06 Nov 2034 08:49:37 GMT")],
            &guessing,
            Some((100, Heuristic)),
        ),
        ("4.2.2: still to come", 200, &[DATED, ("last-modified", IN_A_MINUTE.1)], &guessing, None),
        ("4.2.2: unreadable", 200, &[DATED, ("last-modified", "yesterday")], &guessing, None),
        ("4.2.2: Expires is explicit", 200, &[OLD, ("expires", "0")], &guessing, Some((0, Expires))),
        (
            "4.2.2: max-age is explicit",
            200,
            &[OLD, ("cache-control", "max-age=x")],
            &guessing,
            Some((0, MaxAge)),
        ),
        (
            "9213 2.2",
            200,
            &[OLD, ("cdn-cache-control", "max-age=1.5"), IN_A_MINUTE],
            &guessing,
            Some((100, Heuristic)),
        ),
        ("ttl only for cacheable statuses", 401, &[OLD], &given, None),
        ("4.2.1: any status if stated", 599, &[IN_A_MINUTE], &guessing, Some((60, Expires))),
    ] {
        assert_eq!(of(status, lines, policy), expected, "{section}");
    }
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501] {
        assert_eq!(of(status, &[DATED, OLD], &guessing), Some((100, Heuristic)), "15.1 of 9110: {status}");
    }
    for status in [201, 202, 205, 302, 303, 307, 400, 401, 403, 406, 409, 413, 418, 500, 502, 503, 504, 299] {
        assert_eq!(of(status, &[DATED, OLD], &guessing), None, "15.1 of 9110: {status}");
    }
    let day = [DATED, ("last-modified", "Thu, 06 Nov 1980 08:49:37 GMT")];
    assert_eq!(of(200, &day, &guessing), Some((24 * 3600, Heuristic)), "4.2.2: a day at most");
}

#[test]
fn rfc9111_4_2_3_initial_age() {
    for (section, lines, delay, expected) in [
        ("no Date, no Age", &[][..], 0, 0),
        ("milliseconds of our clock are no age", &[DATED], 0, 0),
        ("apparent_age", &[("date", "Sun, 06 Nov 1994 08:49:07 GMT")], 0, 30_000),
        ("a Date ahead is no age", &[("date", "Sun, 06 Nov 1994 09:49:07 GMT")], 0, 0),
        ("age_value", &[("age", "7")], 0, 7_000),
        ("response_delay", &[("age", "7")], 1_500, 8_500),
        ("the larger", &[("age", "7"), ("date", "Sun, 06 Nov 1994 08:49:07 GMT")], 0, 30_000),
        ("5.1: the first member", &[("age", "7, 60")], 0, 7_000),
        ("5.1: the first line", &[("age", "7"), ("age", "60")], 0, 7_000),
        ("5.1: unreadable first", &[("age", "x, 60")], 0, 0),
        ("5.1: empty ones are no members", &[("age", " , 7")], 0, 7_000),
        ("5.1: empty ones are no members", &[("age", ""), ("age", "7")], 0, 7_000),
        ("5.1: zero", &[("age", "0")], 0, 0),
        ("5.1: leading zeros", &[("age", "007")], 0, 7_000),
        ("5.1: not quoted", &[("age", "\"7\"")], 0, 0),
        ("5.1: no sign", &[("age", "+7")], 0, 0),
        ("5.1: no unit", &[("age", "7s")], 0, 0),
        ("5.1: no parameters", &[("age", "7;a=1")], 0, 0),
        ("a Date that is none", &[("date", "now"), ("age", "7")], 0, 7_000),
        ("5.1: negative is ignored", &[("age", "-7")], 0, 0),
        ("5.1: a decimal is ignored", &[("age", "7.5")], 0, 0),
        ("1.2.2: huge", &[("age", "99999999999999999999")], 0, (1u64 << 31) * 1000),
    ] {
        let exchange = Exchange {
            requested_at: Timestamp::from_millis(RECEIVED.as_millis() - delay),
            received_at: RECEIVED,
            fence: Fence(0),
            jitter: 0.0,
        };
        let age = initial_age(&fields(lines), &exchange);
        assert_eq!(age, Duration::from_millis(expected), "{section}");
    }
}

#[test]
fn what_tidegate_chose_is_shortened_by_its_share_of_a_tenth() {
    let jittered = |source, jitter| Lifetime { duration: Duration::from_secs(1000), source }.jittered(jitter);
    for (jitter, seconds) in [(0.0, 1000), (0.5, 950), (1.0, 900), (2.0, 900)] {
        for source in [LifetimeSource::Ttl, LifetimeSource::Heuristic] {
            assert_eq!(jittered(source, jitter).duration.as_millis().div_ceil(1000), seconds, "{jitter}");
        }
        assert_eq!(jittered(LifetimeSource::MaxAge, jitter).duration.as_secs(), 1000);
    }
}

proptest::proptest! {
    #[test]
    fn jitter_only_shortens_and_only_what_we_chose(jitter in proptest::num::f64::ANY, seconds in 0u64..1 << 32) {
        let duration = Duration::from_secs(seconds);
        for source in [LifetimeSource::Ttl, LifetimeSource::Heuristic, LifetimeSource::MaxAge] {
            let jittered = Lifetime { duration, source }.jittered(jitter);
            proptest::prop_assert!(jittered.duration <= duration);
            proptest::prop_assert!(jittered.duration >= duration.mul_f64(0.899));
            proptest::prop_assert!(source != LifetimeSource::MaxAge || jittered.duration == duration);
        }
    }
}
