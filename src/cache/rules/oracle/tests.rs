use super::*;
use crate::cache::Policy;
use crate::cache::purge::Fence;
use crate::cache::rules::reuse::{Failure, Verdict, assess, may_use_on_failure};
use crate::cache::rules::storable::{admit, may_share};
use crate::cache::rules::{Exchange, RequestHead, ResponseHead, date};
use crate::cache::stored::StoredResponse;
use crate::clock::Timestamp;
use bytes::Bytes;
use fastrand::Rng;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::time::Duration;

/// Sun, 22 Nov 2026 12:00:00.400 GMT.
const RECEIVED_MILLIS: i64 = 1_795_348_800_400;

/// Each is a case of its own; a failure names its seed.
const CASES: u64 = 40_000;

const FLAGS: [&str; 8] = [
    "public",
    "private",
    "no-store",
    "no-cache",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "public",
];
const NUMBERS: [&str; 6] =
    ["max-age", "s-maxage", "max-age", "stale-while-revalidate", "stale-if-error", "max-age"];
const STATUSES: [u16; 29] = [
    200, 200, 200, 200, 200, 200, 103, 201, 203, 204, 206, 299, 301, 302, 304, 399, 404, 410, 412, 416, 429,
    431, 451, 499, 500, 501, 503, 511, 599,
];
const SECONDS: [u64; 8] = [0, 1, 5, 60, 3600, 90_000, 2_147_483_648, 99_999_999_999_999];
const NO_NUMBERS: [&str; 10] = ["", "=", "=x", "=-1", "=1.5", "=\"\"", "='60'", "=+1", "=\"60", " = 60"];
const NO_DATES: [&str; 6] = ["0", "-1", "", "yesterday", "Sun, 22 Nov 2026 12:00:00 PST", "1795348800"];
/// Directives that nobody knows.
const UNKNOWN: [&str; 7] = [
    "foo",
    "FOO=bar",
    "foo=\"a, no-store, public, max-age=1\"",
    "foo=\"a\\\", private, no-cache, s-maxage=9\"",
    "x-public",
    "no-stores",
    "foo=\"\"",
];
/// What the syntax of Cache-Control does not have.
const BROKEN: [&str; 8] = ["foo=\"bar", "=", "foo = bar", "@", "foo=\"a\"b", ";", "foo=", "\""];
/// What is no structured dictionary, or an empty one.
const UNREADABLE: [&str; 6] = ["", "  ", "no-store,", "Max-Age=60", "no-store, =", "public, max-age=\"60"];

/// Facts, and the fields that tell them.
struct Case {
    facts: Facts,
    fields: HeaderMap,
    /// Whether the RFCs leave nothing open about the facts: then what may be used must be used.
    is_definite: bool,
}

fn one_of<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn any_case(rng: &mut Rng, text: &str) -> String {
    text.chars().map(|letter| if rng.u8(..4) == 0 { letter.to_ascii_uppercase() } else { letter }).collect()
}

fn written_number(rng: &mut Rng, number: u64) -> String {
    match rng.u8(..5) {
        0 => format!("=\"{number}\""),
        1 => format!("=000{number}"),
        2 => format!("=\"\\{number}\""),
        _ => format!("={number}"),
    }
}

fn directive(rng: &mut Rng) -> Directive {
    match rng.u8(..10) {
        0..4 => Directive::Alone(one_of(rng, &FLAGS)),
        4 => Directive::WithNonsense(one_of(rng, &FLAGS)),
        5 => Directive::Seconds(one_of(rng, &NUMBERS), None),
        _ => Directive::Seconds(one_of(rng, &NUMBERS), Some(one_of(rng, &SECONDS))),
    }
}

fn written(rng: &mut Rng, directive: Directive) -> String {
    match directive {
        Directive::Alone(name) => any_case(rng, name),
        Directive::WithNonsense(name) => {
            any_case(rng, name) + one_of(rng, &["=x", "=\"a, b\"", "=", " = x", ";x", "=\"a\"b", "/1"])
        }
        Directive::Seconds(name, Some(number)) => any_case(rng, name) + &written_number(rng, number),
        Directive::Seconds(name, None) => any_case(rng, name) + one_of(rng, &NO_NUMBERS),
    }
}

fn is_repeated(directives: &[Directive]) -> bool {
    let name = |directive: &Directive| match directive {
        Directive::Alone(name) | Directive::WithNonsense(name) | Directive::Seconds(name, _) => *name,
    };
    let repeats = |at: usize| directives[..at].iter().any(|before| name(before) == name(&directives[at]));
    (0..directives.len()).any(repeats)
}

/// Draws Cache-Control; whether it is definite.
fn cache_control(rng: &mut Rng, fields: &mut HeaderMap) -> (Vec<Directive>, bool) {
    let directives: Vec<_> = (0..rng.usize(..5)).map(|_| directive(rng)).collect();
    let mut members: Vec<String> = directives.iter().map(|directive| written(rng, *directive)).collect();
    let is_good = |directive: &Directive| match directive {
        Directive::Alone(_) | Directive::Seconds(_, Some(_)) => true,
        Directive::WithNonsense(_) | Directive::Seconds(_, None) => false,
    };
    let mut is_definite = directives.iter().all(is_good) && !is_repeated(&directives);
    for _ in 0..rng.usize(..3) {
        members.insert(rng.usize(..=members.len()), one_of(rng, &UNKNOWN).to_owned());
    }
    // One at most: two open quotes are a quoted string, and what it holds is no directive.
    if is_definite && rng.u8(..5) == 0 {
        members.insert(rng.usize(..=members.len()), one_of(rng, &BROKEN).to_owned());
        is_definite = false;
    }
    let mut line = String::new();
    for member in members {
        if rng.u8(..6) == 0 {
            append(fields, "cache-control", &line);
            line.clear();
        }
        line += one_of(rng, &["", " ", "\t", ",", " , "]);
        line += &member;
        line += one_of(rng, &[",", ", ", " ,", "\t,,"]);
    }
    if !line.is_empty() {
        append(fields, "cache-control", &line);
    }
    (directives, is_definite)
}

/// Draws a valid CDN-Cache-Control: in it a name counts once, and a number of another type not at all.
fn targeted(rng: &mut Rng, fields: &mut HeaderMap) -> Vec<Directive> {
    let mut directives = Vec::new();
    let mut members = vec![one_of(rng, &["none", "foo=?0", "foo=(1 2);x", "b=:aGk=:"]).to_owned()];
    for _ in 0..rng.usize(..4) {
        let drawn = directive(rng);
        if is_repeated(&[&directives[..], &[drawn]].concat()) {
            continue;
        }
        let member = match drawn {
            Directive::Alone(name) => name.to_owned() + one_of(rng, &["", "=?1", ";a=1"]),
            Directive::WithNonsense(name) => {
                name.to_owned() + one_of(rng, &["=x", "=\"a, b\"", "=1", "=(a)"])
            }
            Directive::Seconds(name, Some(number)) => format!("{name}={number}{}", one_of(rng, &["", ";a"])),
            Directive::Seconds(name, None) => {
                members.push(name.to_owned() + one_of(rng, &["=1.5", "=x", "=\"60\"", "=(60)", ""]));
                continue;
            }
        };
        directives.push(drawn);
        members.push(member);
    }
    if is_repeated(&directives)
        || members.iter().enumerate().any(|(at, one)| is_named_before(&members[..at], one))
    {
        // The later of two counts: drawn again instead.
        return targeted(rng, fields);
    }
    fields.remove("cdn-cache-control");
    for line in members.chunks(rng.usize(1..=members.len())) {
        append(fields, "cdn-cache-control", &line.join(one_of(rng, &[",", ", ", " ,\t"])));
    }
    directives
}

fn is_named_before(before: &[String], member: &str) -> bool {
    let name = |member: &str| member.split(['=', ';']).next().unwrap_or_default().to_owned();
    before.iter().any(|other| name(other) == name(member))
}

/// Draws a date around now.
fn drawn_date(rng: &mut Rng, fields: &mut HeaderMap, name: &str) -> Moment {
    match rng.u8(..8) {
        0 | 1 => return Moment::Absent,
        2 => {
            append(fields, name, one_of(rng, &NO_DATES));
            return Moment::Unreadable;
        }
        _ => {}
    }
    let distance = one_of(rng, &[1, 5, 60, 3_600, 100_000, 10_000_000]);
    let at = RECEIVED_MILLIS / 1000 + rng.i64(-distance..=distance);
    append(fields, name, &written_date(rng, at));
    Moment::At(at)
}

fn written_date(rng: &mut Rng, at: i64) -> String {
    let fixdate = date::format(Timestamp::from_millis(at.unsigned_abs() * 1000));
    let words: Vec<&str> =
        fixdate.to_str().unwrap().split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let [weekday, day, month, year, time, zone] = words[..] else { panic!("{fixdate:?}") };
    let long = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let long = long.iter().find(|name| name.starts_with(weekday)).unwrap();
    let text = match rng.u8(..4) {
        0 => format!("{long}, {day}-{month}-{} {time} {zone}", &year[2..]),
        1 => format!("{weekday} {month} {:>2} {time} {year}", day.trim_start_matches('0')),
        _ => format!("{weekday}, {day} {month} {year} {time} {zone}"),
    };
    any_case(rng, &text)
}

fn drawn_age(rng: &mut Rng, fields: &mut HeaderMap) -> u64 {
    let age = one_of(rng, &SECONDS);
    match rng.u8(..6) {
        0 => append(fields, "age", &age.to_string()),
        1 => append(fields, "age", &format!(" , {age}, 7, x")),
        2 => {
            append(fields, "age", &age.to_string());
            append(fields, "age", "3");
        }
        3 => {
            append(fields, "age", one_of(rng, &["-1", "1.5", "x, 9", "\"7\"", "", "7s"]));
            return 0;
        }
        _ => return 0,
    }
    age
}

fn append(fields: &mut HeaderMap, name: &str, value: &str) {
    fields.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
}

impl Case {
    fn drawn(rng: &mut Rng) -> Self {
        let mut fields = HeaderMap::new();
        let (mut directives, mut is_definite) = cache_control(rng, &mut fields);
        let mut expires = drawn_date(rng, &mut fields, "expires");
        match rng.u8(..6) {
            0 => {
                directives = targeted(rng, &mut fields);
                is_definite = directives.iter().all(|one| !matches!(one, Directive::WithNonsense(_)));
                expires = Moment::Absent;
            }
            1 => append(&mut fields, "cdn-cache-control", one_of(rng, &UNREADABLE)),
            _ => {}
        }
        let varies_on_anything = rng.u8(..10) == 0;
        if varies_on_anything {
            append(&mut fields, "vary", one_of(rng, &["*", "a, *", "*,b"]));
        }
        let sets_cookie = rng.u8(..12) == 0;
        if sets_cookie {
            append(&mut fields, "set-cookie", "a=b");
        }
        if rng.bool() {
            append(&mut fields, "etag", "\"a\"");
        }
        let facts = Facts {
            status: one_of(rng, &STATUSES),
            is_authorized: rng.u8(..4) == 0,
            directives,
            expires,
            date: drawn_date(rng, &mut fields, "date").readable(),
            modified: drawn_date(rng, &mut fields, "last-modified").readable(),
            age: drawn_age(rng, &mut fields),
            varies_on_anything,
            sets_cookie,
            received_millis: RECEIVED_MILLIS,
            delay_millis: one_of(rng, &[0, 0, 3, 1_500]),
        };
        Self { facts, fields, is_definite }
    }

    /// What the rules decide when it arrives: whether it may be shared, and what is stored.
    fn admitted(&self, policy: &Policy) -> (bool, Option<StoredResponse>) {
        let at = |millis: i64| Timestamp::from_millis(millis.unsigned_abs());
        let exchange = Exchange {
            requested_at: at(RECEIVED_MILLIS - self.facts.delay_millis),
            received_at: at(RECEIVED_MILLIS),
            fence: Fence(0),
            jitter: 0.0,
        };
        let mut asked = HeaderMap::new();
        if self.facts.is_authorized {
            asked.insert(AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
        }
        let request = RequestHead { method: &Method::GET, fields: &asked };
        let status = StatusCode::from_u16(self.facts.status).unwrap();
        let response = ResponseHead { status, fields: &self.fields };
        let shared = may_share(request, response, policy, &exchange).is_ok();
        let admitted = admit(request, response, policy, &exchange).ok();
        (shared, admitted.map(|admitted| admitted.into_stored(Bytes::new())))
    }
}

fn drawn_route(rng: &mut Rng) -> (Route, Policy) {
    let route = Route {
        while_revalidate: one_of(rng, &[0, 30]),
        if_error: one_of(rng, &[0, 300]),
        on_disconnect: one_of(rng, &[0, DAY]),
        guesses: rng.u8(..4) > 0,
    };
    let policy = Policy {
        stale_while_revalidate: Duration::from_secs(route.while_revalidate),
        stale_if_error: Duration::from_secs(route.if_error),
        stale_on_disconnect: route.on_disconnect > 0,
        heuristic: route.guesses,
        ..Policy::default()
    };
    (route, policy)
}

/// Instants around those at which something ends.
fn instants(rng: &mut Rng, facts: &Facts, route: Route) -> Vec<i64> {
    let stale_at = RECEIVED_MILLIS + facts.lifetime_millis(route) - facts.age_millis(RECEIVED_MILLIS);
    let windows =
        [0, 1, 5, 30, 60, 300, 3_600, DAY, 90_000].map(|seconds| stale_at + seconds.cast_signed() * 1000);
    let around = windows.into_iter().flat_map(|at| [at - 1, at]);
    let later = RECEIVED_MILLIS + rng.i64(0..100_000_000);
    around.chain([RECEIVED_MILLIS, later]).filter(|at| *at >= RECEIVED_MILLIS).collect()
}

#[test]
fn i7_rfc9111_what_the_rules_do_is_what_the_law_allows() {
    let (mut stored_count, mut used_count) = (0, 0);
    for seed in 0..CASES {
        let rng = &mut Rng::with_seed(seed);
        let case = Case::drawn(rng);
        let (route, policy) = drawn_route(rng);
        let facts = &case.facts;
        let told = || format!("seed {seed}: {facts:?}, {route:?}, {:?}", case.fields);
        let (shared, stored) = case.admitted(&policy);
        // Who waited may have a source's error as well, though nobody who comes later.
        let may_be_shared = facts.nothing_forbids()
            && !facts.names("no-cache")
            && (facts.may_be_stored() || facts.status >= 500);
        assert!(!shared || may_be_shared, "shared: {}", told());
        let Some(stored) = stored else {
            // What is stale from the start and cannot be validated is of little use.
            let is_fresh = facts.lifetime_millis(route) > facts.age_millis(RECEIVED_MILLIS);
            let is_useful = is_fresh && facts.may_be_used(route, Situation::Asked, RECEIVED_MILLIS);
            assert!(!is_useful || !case.is_definite, "not stored: {}", told());
            continue;
        };
        assert!(facts.may_be_stored(), "stored: {}", told());
        stored_count += 1;
        for at in instants(rng, facts, route) {
            let now = Timestamp::from_millis(at.unsigned_abs());
            for (situation, used) in [
                (Situation::Asked, assess(&stored, now) != Verdict::MustValidate),
                (Situation::Failed, may_use_on_failure(&stored, now, Failure::NoGoodAnswer)),
                (Situation::Disconnected, may_use_on_failure(&stored, now, Failure::Disconnected)),
            ] {
                let allowed = facts.may_be_used(route, situation, at);
                assert!(!used || allowed, "used at {at}, {situation:?}: {}", told());
                assert!(used || !allowed || !case.is_definite, "not used at {at}, {situation:?}: {}", told());
                used_count += u32::from(used);
            }
        }
    }
    // Cases that never come to anything would prove nothing.
    assert!(stored_count > CASES / 10 && used_count > 50_000, "{stored_count} stored, {used_count} uses");
}
