//! RFC 9111 4.2, 5.1, 5.2, 5.3; RFC 9213.

use super::{Row, Turn, get, play, row};
use crate::support::{Reply, http_date};

type Lines<'a> = &'a [(&'a str, &'a str)];

fn reply(status: u16, lines: Lines<'_>) -> Reply {
    lines.iter().fold(Reply::new(status, "a"), |reply, (name, value)| reply.field(name, value))
}

/// The source's answer is used again without asking it.
fn reused(name: &str, lines: Lines<'_>) -> Row {
    row(name).filled(reply(200, lines)).then(get().reused().text("a"))
}

/// The source is asked again.
fn forwarded(name: &str, lines: Lines<'_>) -> Row {
    row(name).filled(reply(200, lines)).then(get().forwarded())
}

fn controlled(rows: &[(&str, &str)], as_row: fn(&str, Lines<'_>) -> Row) -> Vec<Row> {
    rows.iter()
        .map(|(name, control)| as_row(&format!("{name}: {control}"), &[("Cache-Control", control)]))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_2_1_which_lifetime_counts() {
    let fresh = controlled(
        &[
            ("5.2.2.10 before max-age", "s-maxage=60, max-age=0"),
            ("5.2.2.10 before max-age", "max-age=0, s-maxage=60"),
            ("5.2.2.1", "max-age=60"),
            ("5.2 any case", "MaX-aGe=60"),
            ("5.2 quoted", "max-age=\"60\""),
            ("5.6.4 of 9110", "max-age=\"\\60\""),
            ("5.6.1 of 9110", ", ,\tmax-age=60 ,"),
            ("1.2.2 zeros", "max-age=0000060"),
            ("1.2.2 over 2^31", "max-age=2147483649"),
            ("1.2.2 over 2^64", "max-age=99999999999999999999"),
            ("5.2.3 unknown", "foo, max-age=60, bar=\"baz\""),
            ("5.2.3 unknown, quoted", "foo=\"a, no-store, max-age=0\", max-age=60"),
            ("5.2.3 unknown, escaped", "foo=\"\\\", no-store, max-age=0\", max-age=60"),
            ("5.2.3 unknown, malformed", "foo = a/b, max-age=60"),
        ],
        reused,
    );
    let stale = controlled(
        &[
            ("5.2.2.10 before max-age", "max-age=60, s-maxage=0"),
            ("4.2.1 negative", "max-age=-1"),
            ("4.2.1 decimal", "max-age=60.0"),
            ("4.2.1 letters", "max-age=60s"),
            ("4.2.1 nothing", "max-age"),
            ("4.2.1 nothing", "max-age="),
            ("4.2.1 single quotes", "max-age='60'"),
            ("4.2.1 a space before =", "max-age =60"),
            ("4.2.1 a space after =", "max-age= 60"),
            ("4.2.1 the most restrictive", "max-age=0, max-age=60"),
            ("4.2.1 the most restrictive", "max-age=60, no-store"),
            ("4.2.1 the most restrictive", "max-age=60, no-cache"),
            ("an open quote hides nothing", "max-age=60, foo=\"bar, no-store"),
            ("a semicolon hides nothing", "max-age=60; no-store"),
            ("no word on it", "foo"),
        ],
        forwarded,
    );
    let lines = [
        reused("5.2 several lines", &[("Cache-Control", "foo"), ("Cache-Control", "max-age=60")]),
        forwarded("5.2 several lines", &[("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")]),
        reused("5.4 Pragma says nothing", &[("Cache-Control", "max-age=60"), ("Pragma", "no-cache")]),
    ];
    play("", fresh.into_iter().chain(stale).chain(lines)).await;
}

/// A time as the two old forms have it.
fn old_forms(seconds_from_now: i64) -> (String, String) {
    let date = http_date(seconds_from_now);
    let words: Vec<&str> = date.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let [weekday, day, month, year, time, _] = words[..] else { panic!("{date}") };
    let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let long = days.iter().find(|name| name.starts_with(weekday)).expect("a weekday");
    let rfc850 = format!("{long}, {day}-{month}-{} {time} GMT", &year[2..]);
    let asctime = format!("{weekday} {month} {:>2} {time} {year}", day.trim_start_matches('0'));
    (rfc850, asctime)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_3_expires() {
    let (past, now, later, tomorrow) = (http_date(-600), http_date(0), http_date(600), http_date(86_400));
    let (rfc850, asctime) = old_forms(600);
    let lower = later.to_lowercase();
    let (other_zone, no_zone) = (later.replace("GMT", "PST"), later.replace(" GMT", ""));
    let rows = [
        reused("5.3 to come", &[("Expires", &later)]),
        reused("5.3 to come", &[("Expires", &later), ("Date", &now)]),
        reused("5.3 far ahead", &[("Expires", "Fri, 31 Dec 9999 23:59:59 GMT")]),
        reused("5.6.7 of 9110: RFC 850", &[("Expires", &rfc850)]),
        reused("5.6.7 of 9110: asctime", &[("Expires", &asctime)]),
        reused("4.2 any case", &[("Expires", &lower)]),
        reused("4.2.1 Date unreadable", &[("Expires", &later), ("Date", "now")]),
        reused("4.2.1 minus Date", &[("Expires", &later), ("Date", &past)]),
        forwarded("5.3 past", &[("Expires", &past)]),
        forwarded("5.3 equal to Date", &[("Expires", &later), ("Date", &later)]),
        forwarded("4.2.1 minus Date", &[("Expires", &later), ("Date", &tomorrow)]),
        forwarded("5.3 zero", &[("Expires", "0")]),
        forwarded("5.3 negative", &[("Expires", "-1")]),
        forwarded("5.3 empty", &[("Expires", "")]),
        forwarded("5.3 garbage", &[("Expires", "tomorrow")]),
        forwarded("5.3 garbage behind it", &[("Expires", &format!("{later}, foo"))]),
        forwarded("4.2 another zone", &[("Expires", &other_zone)]),
        forwarded("4.2 no zone", &[("Expires", &no_zone)]),
        forwarded("5.3 several, one past", &[("Expires", &past), ("Expires", &later)]),
        forwarded(
            "4.2.2 no guess over it",
            &[("Expires", "0"), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
        ),
        reused("5.3 max-age wins", &[("Expires", &past), ("Cache-Control", "max-age=60")]),
        forwarded("5.3 max-age wins", &[("Expires", &later), ("Cache-Control", "max-age=0")]),
        forwarded("5.3 a bad max-age too", &[("Expires", &later), ("Cache-Control", "max-age=x")]),
        reused("5.3 s-maxage wins", &[("Expires", &past), ("Cache-Control", "s-maxage=60")]),
    ];
    play("", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_2_3_age() {
    let (hour_ago, in_an_hour) = (http_date(-3600), http_date(3600));
    let fresh = |name: &str, lines: Lines<'_>, age: u64| {
        row(name).filled(reply(200, lines).cache_control("max-age=7200")).then(get().reused().aged(age))
    };
    let stale = |name: &str, lines: Lines<'_>| {
        row(name).filled(reply(200, lines).cache_control("max-age=1800")).then(get().forwarded())
    };
    let rows = [
        fresh("4.2.3 age_value", &[("Age", "3600")], 3600),
        fresh("4.2.3 apparent_age", &[("Date", &hour_ago)], 3600),
        fresh("4.2.3 the larger", &[("Date", &hour_ago), ("Age", "60")], 3600),
        fresh("4.2.3 the larger", &[("Date", &hour_ago), ("Age", "5400")], 5400),
        fresh("4.2.3 a Date ahead", &[("Date", &in_an_hour)], 0),
        fresh("6.6.1 of 9110 no Date", &[("Date", "x")], 0),
        fresh("5.1 the first", &[("Age", "60, 7200")], 60),
        fresh("5.1 the first", &[("Age", "60"), ("Age", "7200")], 60),
        fresh("5.1 ignored", &[("Age", "x, 7200")], 0),
        fresh("5.1 ignored", &[("Age", "-7200")], 0),
        fresh("5.1 ignored", &[("Age", "7200.0")], 0),
        fresh("5.1 ignored", &[("Age", "7200s")], 0),
        fresh("5.1 ignored", &[("Age", "\"7200\"")], 0),
        stale("4.2.3 age_value", &[("Age", "1801")]),
        stale("4.2 equal is stale", &[("Age", "1800")]),
        stale("4.2.3 apparent_age", &[("Date", &hour_ago)]),
        stale("5.1 the first", &[("Age", "7200, 0")]),
        stale("5.1 the first", &[("Age", "7200"), ("Age", "0")]),
        stale("1.2.2 over 2^31", &[("Age", "2147483649")]),
        stale("1.2.2 over 2^64", &[("Age", "99999999999999999999")]),
    ];
    play("", rows).await;
}

/// Who is the first to hear it hears it as the source said it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_1_an_answer_that_passes_through_keeps_its_age() {
    let hour_ago = http_date(-3600);
    let fresh = |lines: Lines<'_>| reply(200, lines).cache_control("max-age=7200");
    play(
        "",
        [
            row("5.1 zero").source(fresh(&[("Age", "0")])).then(get().has("Age", "0")),
            row("5.1 some").source(fresh(&[("Age", "60"), ("Date", &hour_ago)])).then(get().has("Age", "60")),
            row("5.1 none")
                .source(fresh(&[("Date", &hour_ago)]))
                .then(get().lacks("Age").has("Date", &hour_ago)),
            row("5.1 what is not shared")
                .source(reply(200, &[("Age", "7")]).cache_control("private"))
                .then(get().has("Age", "7")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_2_2_guesses() {
    let old = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let to_come = http_date(3600);
    let guessed = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501].map(|status: u16| {
        row(format!("15.1 of 9110: {status}"))
            .filled(reply(status, &[old]))
            .then(get().reused().status(status))
    });
    let not_guessed =
        [201, 202, 302, 303, 307, 400, 401, 403, 418, 499, 500, 502, 503, 504, 599].map(|status: u16| {
            row(format!("15.1 of 9110: {status}")).filled(reply(status, &[old])).then(get().forwarded())
        });
    let public = [201, 302, 403, 503, 599].map(|status: u16| {
        row(format!("5.2.2.9: {status}"))
            .filled(reply(status, &[old]).cache_control("public"))
            .then(get().reused().status(status))
    });
    let none = [
        forwarded("4.2.2 nothing to guess from", &[]),
        forwarded("4.2.2 still to come", &[("Last-Modified", &to_come)]),
        forwarded("4.2.2 unreadable", &[("Last-Modified", "1994")]),
        forwarded("5.2.2.9 malformed", &[("Cache-Control", "public=x")]),
    ];
    play("", guessed.into_iter().chain(not_guessed).chain(public).chain(none)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9213_targeted_control() {
    let both = |control: &'static str, targeted: &'static str| {
        [("Cache-Control", control), ("CDN-Cache-Control", targeted)]
    };
    let fresh = [
        ("2.2 replaces a lifetime", "max-age=0", "max-age=60"),
        ("2.2 replaces a prohibition", "no-store", "max-age=60"),
        ("2.2 replaces a prohibition", "private, no-cache", "max-age=60"),
        ("2.1 parameters", "no-store", "max-age=60;a=1, foo;b"),
        ("2.1 unknown ones", "no-store", "foo=(1 2), max-age=60, bar=:aGk=:"),
        ("2.1 unreadable: ignored", "max-age=60", "no-store,"),
        ("2.1 unreadable: ignored", "max-age=60", "No-Store"),
        ("2.1 unreadable: ignored", "max-age=60", "no-store, &"),
        ("2.1 empty: ignored", "max-age=60", ""),
        ("2.2 falls back", "max-age=60", "max-age=0, ="),
    ];
    let stale = [
        ("2.2 replaces a lifetime", "max-age=60", "max-age=0"),
        ("2.2 says nothing of it", "max-age=60", "none"),
        ("2.2", "max-age=60", "no-store"),
        ("2.2", "max-age=60", "no-cache"),
        ("2.2", "max-age=60", "private"),
        ("2.2", "max-age=60", "max-age=60, private=\"a\""),
        ("2.1 a decimal", "max-age=60", "max-age=60.0"),
        ("2.1 a string", "max-age=60", "max-age=\"60\""),
        ("2.1 a token", "max-age=60", "max-age=a60"),
        ("2.1 unreadable: ignored", "no-store", "max-age=60,"),
    ];
    let expires = http_date(600);
    let rows = fresh
        .map(|(name, control, targeted)| reused(&format!("{name}: {targeted}"), &both(control, targeted)));
    let rows = rows
        .into_iter()
        .chain(stale.map(|(name, control, targeted)| {
            forwarded(&format!("{name}: {targeted}"), &both(control, targeted))
        }))
        .chain([
            forwarded("2.2 Expires does not count", &[("Expires", &expires), ("CDN-Cache-Control", "none")]),
            reused(
                "2.1 several lines",
                &[("CDN-Cache-Control", "none"), ("CDN-Cache-Control", "max-age=60")],
            ),
            reused(
                "2.2 other targets",
                &[("Cache-Control", "max-age=60"), ("Surrogate-Control", "no-store")],
            ),
        ]);
    play("", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9213_2_2_is_passed_on_unchanged() {
    let both =
        [("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=60;a,  foo=1"), ("ETag", "\"a\"")];
    let unreadable = [("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=60;a,  Foo=1")];
    let unchanged = |turn: Turn| turn.has("CDN-Cache-Control", both[1].1).has("Cache-Control", "no-store");
    let rows = [
        row("2.1 unreadable too")
            .source(reply(200, &unreadable))
            .then(get().has("CDN-Cache-Control", unreadable[1].1).has("Cache-Control", "no-store")),
        row("2.2 from the source, stored, and in a 304")
            .source(reply(200, &both))
            .then(unchanged(get().forwarded()))
            .then(unchanged(get().reused()))
            .then(unchanged(get().field("If-None-Match", "\"a\"").reused().status(304))),
    ];
    play("", rows).await;
}
