//! RFC 9111 4.3, 3.2; RFC 9110 13, 15.4.5.

use super::{Row, Turn, ask, get, play, row};
use crate::support::{Ask, Gate, Reply, ScriptedSource, Step, gateway_for, http_date};

const STALE: &str = "max-age=0";
const FRESH: &str = "max-age=600";
const MODIFIED: &str = "Mon, 02 Mar 2020 10:00:00 GMT";
const EARLIER: &str = "Sun, 01 Mar 2020 10:00:00 GMT";
const TAG: &str = "\"1\"";
const EMPTY: &str = "";

fn head() -> Turn {
    ask("HEAD")
}

/// Stale at once, with this validator.
fn stale(name: &str, value: &str) -> Reply {
    Reply::ok("body").cache_control(STALE).field(name, value)
}

fn not_modified() -> Reply {
    Reply::new(304, "").cache_control(FRESH)
}

fn whole() -> Reply {
    Reply::ok("whole").cache_control(FRESH)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_4_what_a_304_freshens() {
    let freshened = |name: &str, stored: Reply, given: Reply| {
        row(format!("4.3.4 {name}"))
            .filled(stored)
            .source(given.field("X", "2"))
            .source(whole())
            .then(get().forwarded().status(200).text("body").says("fwd-status=304").says("stored"))
            .then(get().reused().text("body").has("X", "2"))
    };
    // A mismatch takes two requests, which `not_used` below counts; what matters here is what is answered.
    let not_used = |name: &str, stored: Reply, given: Reply| {
        row(format!("4.3.4 {name}"))
            .filled(stored)
            .source(given)
            .source(whole())
            .then(get().status(200).text("whole"))
            .then(get().reused().text("whole"))
    };
    play(
        "",
        [
            freshened("strong tag", stale("ETag", TAG), not_modified().field("ETag", TAG)),
            freshened("weak tag", stale("ETag", "W/\"1\""), not_modified().field("ETag", "W/\"1\"")),
            freshened(
                "weak tag for a strong one",
                stale("ETag", TAG),
                not_modified().field("ETag", "W/\"1\""),
            ),
            freshened(
                "date",
                stale("Last-Modified", MODIFIED),
                not_modified().field("Last-Modified", MODIFIED),
            ),
            freshened("no validator, asked by tag", stale("ETag", TAG), not_modified()),
            freshened("no validator, asked by date", stale("Last-Modified", MODIFIED), not_modified()),
            not_used("another strong tag", stale("ETag", TAG), not_modified().field("ETag", "\"2\"")),
            not_used("another weak tag", stale("ETag", TAG), not_modified().field("ETag", "W/\"2\"")),
            not_used(
                "a strong tag for a weak one",
                stale("ETag", "W/\"1\""),
                not_modified().field("ETag", TAG),
            ),
            not_used(
                "another date",
                stale("Last-Modified", MODIFIED),
                not_modified().field("Last-Modified", EARLIER),
            ),
            not_used(
                "another tag, the same date",
                stale("ETag", TAG).field("Last-Modified", MODIFIED),
                not_modified().field("ETag", "\"2\"").field("Last-Modified", MODIFIED),
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_1_what_is_asked_and_how_old_the_answer_is() {
    play(
        "",
        [
            row("4.3.1 both validators are sent")
                .filled(stale("ETag", TAG).field("Last-Modified", MODIFIED))
                .then(get().forwarded().sends("If-None-Match", TAG).sends("If-Modified-Since", MODIFIED)),
            row("4.3.1 without validators the whole is asked for")
                .filled(Reply::ok("body").cache_control("max-age=0, stale-if-error=60"))
                .then(get().forwarded().withholds("If-None-Match").withholds("If-Modified-Since")),
            row("4.3.3 a full answer takes its place")
                .filled(stale("ETag", TAG))
                .source(whole())
                .then(get().forwarded().text("whole"))
                .then(get().reused().text("whole")),
            row("4.2.3 the age of the 304 counts")
                .filled(stale("ETag", TAG))
                .source(not_modified().field("Age", "599"))
                .then(get().forwarded())
                .then(get().reused().text("body")),
            row("4.2.3 and may be all of its freshness")
                .filled(stale("ETag", TAG))
                .source(not_modified().field("Age", "600"))
                .then(get().forwarded().text("body"))
                .then(get().forwarded().text("body")),
            row("4.2.3 and its Date")
                .filled(stale("ETag", TAG))
                .source(not_modified().field("Date", &http_date(-700)))
                .then(get().forwarded().text("body"))
                .then(get().forwarded().text("body")),
            row("4.2.3 an old Age is over with the validation")
                .filled(stale("ETag", TAG).field("Age", "9000"))
                .source(not_modified().field("ETag", TAG))
                .then(get().forwarded())
                .then(get().reused().text("body")),
            row("4.3.4 all that could have been chosen and have the strong tag")
                .source(stale("ETag", TAG).field("Vary", "A"))
                .source(stale("ETag", TAG).field("Vary", "B"))
                .source(not_modified().field("ETag", TAG).field("X", "2"))
                .then(get().field("A", "1").field("B", "1").forwarded())
                .then(get().field("A", "2").field("B", "1").forwarded())
                .then(get().field("A", "1").field("B", "1").forwarded().text("body"))
                .then(get().field("A", "1").field("B", "2").reused().has("X", "2").has("Vary", "A"))
                .then(get().field("A", "2").field("B", "1").reused().has("X", "2").has("Vary", "B")),
            row("4.3.4 what the 304 does not say stays")
                .filled(Reply::ok("body").cache_control(FRESH).field("ETag", TAG).field("Age", "700"))
                .source(Reply::new(304, "").field("ETag", TAG))
                .then(get().forwarded())
                .then(get().reused().text("body").has("Cache-Control", FRESH)),
        ],
    )
    .await;
}

/// RFC 9111 4.3.4: a 304 that names something else is not used, and the whole is asked for without
/// conditions, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_4_after_a_304_that_matches_nothing_the_whole_is_asked_for() {
    let source = ScriptedSource::start().await;
    source.sequence("/a", vec![stale("ETag", TAG), not_modified().field("ETag", "\"2\""), whole()]);
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    assert_eq!(gateway.get("/a").await.text(), "whole");
    let conditions: Vec<_> =
        source.received("/a").iter().map(|request| request.fields.has("If-None-Match")).collect();
    assert_eq!(conditions, [false, true, false]);
}

/// RFC 9110 15.4.5: a 304 answers a condition. One that comes again where none was sent is no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_4_5_a_304_that_fits_nothing_twice_is_no_answer() {
    let wrong = || not_modified().field("ETag", "\"2\"");
    play(
        "",
        [
            row("15.4.5 after one that did not match")
                .filled(Reply::ok("body").cache_control("max-age=0, must-revalidate").field("ETag", TAG))
                .source(wrong())
                .then(get().status(502)),
            row("5861 4 what is stale covers for it")
                .filled(Reply::ok("body").cache_control("max-age=0, stale-if-error=60").field("ETag", TAG))
                .source(wrong())
                .then(get().status(200).text("body").says("detail=stale-if-error")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_2_which_fields_a_304_updates() {
    let updated = |name: &'static str, before: &str, given: &str, after: Option<&str>| {
        let turn = get().reused().text("body");
        let turn = match after {
            Some(after) => turn.has(name, after),
            None => turn.lacks(name),
        };
        row(format!("3.2 {name}"))
            .filled(stale("ETag", TAG).field(name, before))
            .source(not_modified().field("ETag", TAG).field(name, given))
            .then(get().forwarded())
            .then(turn)
    };
    let replaced = |name| updated(name, "old", "new", Some("new"));
    let kept = |name| updated(name, "old", "new", Some("old"));
    let last = "Tue, 03 Mar 2020 10:00:00 GMT";
    play(
        "",
        [
            replaced("X"),
            replaced("Link"),
            replaced("Content-Foo"),
            replaced("Content-Security-Policy"),
            replaced("Content-Security-Policy-Report-Only"),
            replaced("Surrogate-Control"),
            kept("Content-Type"),
            replaced("Content-Location"),
            replaced("Content-Language"),
            replaced("Content-Disposition"),
            replaced("Content-MD5"),
            replaced("Content-Digest"),
            kept("Content-Encoding"),
            updated("Last-Modified", MODIFIED, last, Some(last)),
            updated("Keep-Alive", "timeout=1", "timeout=2", None),
            updated("Proxy-Authenticate", "a", "b", None),
            row("3.2 Content-Length is left")
                .filled(stale("ETag", TAG))
                .source(not_modified().field("ETag", TAG).field("Content-Length", "9"))
                .then(get().forwarded().text("body").has("Content-Length", "4"))
                .then(get().reused().text("body").has("Content-Length", "4")),
            row("3.2 all lines take the place of all lines")
                .filled(stale("ETag", TAG).field("X", "1").field("X", "2").field("Y", "1"))
                .source(not_modified().field("ETag", TAG).field("X", "3").field("X", "4"))
                .then(get().forwarded().has("X", "3, 4"))
                .then(get().reused().has("X", "3, 4").has("Y", "1")),
            row("3.1 what Connection names is not stored")
                .filled(stale("ETag", TAG).field("X", "1"))
                .source(not_modified().field("ETag", TAG).field("Connection", "X").field("X", "2"))
                .then(get().forwarded())
                .then(get().reused().has("X", "1")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_4_a_304_may_take_the_permission_back() {
    let once = |name: &str, given: Reply, says| {
        row(format!("3 {name}"))
            .filled(stale("ETag", TAG))
            .source(given.field("ETag", TAG))
            .source(whole())
            .then(get().forwarded().status(200).text("body").says(says))
            .then(get().forwarded().withholds("If-None-Match").text("whole"))
    };
    play(
        "",
        [
            once("private", not_modified().cache_control("private"), "detail=private"),
            once("no-store", not_modified().cache_control("no-store"), "detail=no-store"),
            once("Vary: *", not_modified().field("Vary", "*"), "detail=vary-star"),
            once("Set-Cookie", not_modified().field("Set-Cookie", "a=b"), "detail=set-cookie"),
            row("3.5 Authorization without permission: for that one alone, the stored one stays")
                .filled(stale("ETag", TAG))
                .source(not_modified().field("ETag", TAG))
                .then(get().field("Authorization", "Basic YQ==").forwarded().text("body"))
                .then(get().forwarded().sends("If-None-Match", TAG).text("body"))
                .then(get().reused().text("body")),
            row("5.2.2.4 no-cache: validated each time")
                .filled(Reply::ok("body").cache_control(STALE).field("ETag", TAG))
                .source(Reply::new(304, "").cache_control("no-cache, max-age=600").field("ETag", TAG))
                .then(get().forwarded().says("stored"))
                .then(get().forwarded().sends("If-None-Match", TAG).text("body")),
            row("4.1 another Vary: what the request had selects from now on")
                .filled(stale("ETag", TAG))
                .source(not_modified().field("ETag", TAG).field("Vary", "A"))
                .source(whole().field("Vary", "A"))
                .then(get().field("A", "1").forwarded().text("body"))
                .then(get().field("A", "1").reused().text("body"))
                .then(get().field("A", "2").forwarded().text("whole"))
                .then(get().field("A", "1").reused().text("body")),
            row("4.1 more Vary: the old selecting fields find it no more")
                .source(stale("ETag", "W/\"1\"").field("Vary", "A"))
                .source(not_modified().field("ETag", "W/\"1\"").field("Vary", "A, B"))
                .source(whole().field("Vary", "A, B"))
                .then(get().field("A", "1").forwarded())
                .then(get().field("A", "1").field("B", "1").forwarded().text("body"))
                .then(get().field("A", "1").field("B", "1").reused().text("body"))
                .then(
                    get()
                        .field("A", "1")
                        .field("B", "2")
                        .forwarded()
                        .withholds("If-None-Match")
                        .says("fwd=vary-miss")
                        .text("whole"),
                ),
        ],
    )
    .await;
}

/// RFC 9110 13.2.2: what is stored answers the client's own conditions, fresh or just validated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_13_2_2_a_clients_conditions() {
    let tagged = || Reply::ok("body").field("ETag", TAG).field("Last-Modified", MODIFIED);
    let dated = || Reply::ok("body").field("Date", MODIFIED);
    let (none_match, since) = ("If-None-Match", "If-Modified-Since");
    let cases = [
        ("13.1.2 the tag", tagged(), vec![(none_match, TAG)], 304),
        ("13.1.2 weakly the tag", tagged(), vec![(none_match, "W/\"1\"")], 304),
        ("13.1.2 in a list", tagged(), vec![(none_match, "\"0\", \"1\"")], 304),
        ("13.1.2 in a list with commas in tags", tagged(), vec![(none_match, "\"0,\" , W/\"1\"")], 304),
        ("13.1.2 in lines", tagged(), vec![(none_match, "\"0\""), (none_match, TAG)], 304),
        ("13.1.2 *", tagged(), vec![(none_match, "*")], 304),
        ("13.1.2 * without a tag", dated(), vec![(none_match, "*")], 304),
        ("13.1.2 another", tagged(), vec![(none_match, "\"0\"")], 200),
        ("13.1.2 malformed", tagged(), vec![(none_match, "1")], 200),
        ("13.1.2 never closed", tagged(), vec![(none_match, "\"1")], 200),
        ("13.1.2 case", Reply::ok("body").field("ETag", "\"a\""), vec![(none_match, "\"A\"")], 200),
        ("13.1.2 weak is stored", Reply::ok("body").field("ETag", "W/\"1\""), vec![(none_match, TAG)], 304),
        ("13.1.3 same", tagged(), vec![(since, MODIFIED)], 304),
        ("13.1.3 later", tagged(), vec![(since, "Tue, 03 Mar 2020 10:00:00 GMT")], 304),
        ("13.1.3 earlier", tagged(), vec![(since, EARLIER)], 200),
        ("13.1.3 no date", tagged(), vec![(since, "yesterday")], 200),
        ("13.1.3 rfc850-date", tagged(), vec![(since, "Monday, 02-Mar-20 10:00:00 GMT")], 304),
        ("13.1.3 two lines", tagged(), vec![(since, MODIFIED), (since, MODIFIED)], 200),
        ("13.2.2 ignored after If-None-Match", tagged(), vec![(none_match, "\"0\""), (since, MODIFIED)], 200),
        ("13.2.2 though that is malformed", tagged(), vec![(none_match, "0"), (since, MODIFIED)], 200),
        ("13.2.2 which may hold alone", tagged(), vec![(none_match, TAG), (since, EARLIER)], 304),
        ("9111 4.3.2 against Date", dated(), vec![(since, MODIFIED)], 304),
        ("9111 4.3.2 earlier than Date", dated(), vec![(since, EARLIER)], 200),
    ];
    let asking = |turn: Turn, conditions: &[(&str, &str)]| {
        conditions.iter().fold(turn, |turn, (name, value)| turn.field(name, value))
    };
    let answered =
        |turn: Turn, status: u16| turn.status(status).text(if status == 304 { EMPTY } else { "body" });
    let mut rows = Vec::new();
    for (name, reply, conditions, status) in cases {
        let fresh = reply.clone().cache_control("max-age=999999999");
        rows.push(
            row(format!("{name}, stored"))
                .filled(fresh.clone())
                .then(answered(asking(get(), &conditions), status).reused())
                .then(asking(head(), &conditions).reused().status(status)),
        );
        rows.push(
            row(format!("{name}, on its way"))
                .source(fresh.clone())
                .then(
                    answered(asking(get(), &conditions), status)
                        .forwarded()
                        .withholds(none_match)
                        .withholds(since),
                )
                .then(get().reused().text("body")),
        );
        rows.push(
            row(format!("{name}, private"))
                .source(reply.clone().cache_control("private"))
                .then(answered(asking(get(), &conditions), status).forwarded().says("detail=private")),
        );
        rows.push(
            row(format!("{name}, just validated"))
                .filled(reply.clone().cache_control("max-age=0, stale-if-error=60"))
                .source(Reply::new(304, "").cache_control("max-age=999999999").field("Date", MODIFIED))
                .then(answered(asking(get(), &conditions), status).forwarded())
                .then(get().reused().text("body")),
        );
    }
    play("", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_13_2_1_conditions_count_only_where_the_answer_is_successful() {
    let kept = |status| Reply::new(status, "body").cache_control(FRESH).field("ETag", TAG);
    let rows = [301, 404, 410].into_iter().map(|status| {
        row(format!("13.2.1 {status}"))
            .filled(kept(status))
            .then(get().field("If-None-Match", TAG).reused().status(status).text("body"))
    });
    let successful = row("13.2.1 203")
        .filled(kept(203))
        .then(get().field("If-None-Match", TAG).reused().status(304).text(EMPTY));
    let private = row("13.2.1 private error")
        .source(Reply::new(403, "no").cache_control("private").field("ETag", TAG))
        .then(get().field("If-None-Match", TAG).forwarded().status(403).text("no"));
    let for_the_source = |name: &'static str, value: &'static str| {
        row(format!("13.1.1, 13.1.4 {name} is the source's"))
            .filled(kept(200))
            .source(Reply::new(412, "failed"))
            .then(get().field(name, value).forwarded().sends(name, value).status(412).text("failed"))
            .then(get().field(name, value).field("If-None-Match", TAG).forwarded().status(412))
            .then(get().reused().text("body"))
    };
    let asked_early = row("13.1.1 If-Match with nothing stored")
        .source(Reply::new(412, "failed"))
        .then(get().field("If-Match", "\"0\"").forwarded().sends("If-Match", "\"0\"").status(412));
    let last = [
        successful,
        private,
        for_the_source("If-Match", "\"0\""),
        for_the_source("If-Unmodified-Since", EARLIER),
        asked_early,
    ];
    play("", rows.chain(last)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_4_5_what_our_304_carries() {
    let full = |reply: Reply| {
        reply
            .field("Date", MODIFIED)
            .field("Expires", "Mon, 02 Mar 2099 10:00:00 GMT")
            .field("Vary", "A")
            .field("Content-Location", "/a")
            .field("Content-Type", "text/plain")
            .field("Content-Language", "de")
            .field("Last-Modified", EARLIER)
            .field("X", "1")
    };
    let carries = |turn: Turn, control: &str| {
        turn.status(304)
            .text(EMPTY)
            .has("Cache-Control", control)
            .has("Date", MODIFIED)
            .has("Expires", "Mon, 02 Mar 2099 10:00:00 GMT")
            .has("Vary", "A")
            .has("Content-Location", "/a")
            .lacks("Content-Type")
            .lacks("Content-Language")
            .lacks("Content-Length")
            .lacks("Transfer-Encoding")
            .lacks("X")
    };
    let long = "max-age=999999999";
    let by_tag = || get().field("If-None-Match", TAG);
    play(
        "",
        [
            row("15.4.5 with a tag")
                .filled(full(Reply::ok("body").cache_control(long).field("ETag", TAG)))
                .then(carries(by_tag(), long).reused().has("ETag", TAG).lacks("Last-Modified")),
            row("15.4.5 with a date").filled(full(Reply::ok("body").cache_control(long))).then(
                carries(get().field("If-Modified-Since", EARLIER), long)
                    .reused()
                    .lacks("ETag")
                    .has("Last-Modified", EARLIER),
            ),
            row("15.4.5 for one client: with what is said to it")
                .source(
                    full(Reply::ok("body").cache_control("private").field("ETag", TAG))
                        .field("Set-Cookie", "a=b"),
                )
                .then(carries(by_tag(), "private").forwarded().has("ETag", TAG).has("Set-Cookie", "a=b")),
            row("13.1.2 no-store")
                .source(Reply::ok("body").cache_control("no-store").field("ETag", TAG))
                .then(by_tag().forwarded().status(304).text(EMPTY).has("Cache-Control", "no-store")),
            row("13.1.2 Set-Cookie")
                .source(Reply::ok("body").cache_control(FRESH).field("ETag", TAG).field("Set-Cookie", "a=b"))
                .then(by_tag().forwarded().status(304).has("Set-Cookie", "a=b")),
            row("13.1.2 HEAD has none of it: the source answers")
                .source(Reply::new(304, "").field("ETag", TAG))
                .then(head().field("If-None-Match", TAG).forwarded().sends("If-None-Match", TAG).status(304)),
        ],
    )
    .await;
}

/// A stored response, a HEAD that the source answers, and what a GET then finds.
fn by_head(name: &str, stored: Reply, answer: Reply) -> Row {
    row(format!("4.3.5 {name}"))
        .filled(stored)
        .source(answer)
        .source(whole())
        .then(head().forwarded().text(EMPTY))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_5_head_freshens_or_makes_stale() {
    let same = || Reply::ok("body").cache_control(FRESH).field("X", "2");
    let must = "max-age=0, stale-if-error=60";
    play(
        "",
        [
            row("9.3.2 a miss stays a HEAD, and stores nothing")
                .source(Reply::ok("body").cache_control(FRESH))
                .then(head().forwarded().status(200).has("Content-Length", "4").says("fwd=uri-miss"))
                .then(get().forwarded().text("body"))
                .then(head().reused().has("Content-Length", "4")),
            by_head("same tag", stale("ETag", TAG), same().field("ETag", TAG))
                .then(get().reused().text("body").has("X", "2")),
            by_head("same date", stale("Last-Modified", MODIFIED), same().field("Last-Modified", MODIFIED))
                .then(get().reused().text("body").has("X", "2")),
            by_head("no validators, the same length", Reply::ok("body").cache_control(must), same())
                .then(get().reused().text("body").has("X", "2")),
            by_head(
                "no validators, another length",
                Reply::ok("body").cache_control(must),
                Reply::ok("longer").cache_control(FRESH),
            )
            .then(get().forwarded().text("whole")),
            by_head("another tag", stale("ETag", TAG), same().field("ETag", "\"2\""))
                .then(get().forwarded().sends("If-None-Match", TAG).text("whole")),
            by_head("another length", stale("ETag", TAG), Reply::ok("longer").field("ETag", TAG))
                .then(get().forwarded().sends("If-None-Match", TAG)),
            by_head(
                "now no-store",
                stale("ETag", TAG),
                Reply::ok("body").cache_control("no-store").field("ETag", TAG),
            )
            .then(get().forwarded().withholds("If-None-Match").text("whole")),
            by_head("not found says nothing", stale("ETag", TAG), Reply::new(404, "none"))
                .then(get().forwarded().sends("If-None-Match", TAG)),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_what_a_head_was_told_answers_the_next() {
    let told = || Reply::ok("body").cache_control(FRESH).field("ETag", TAG);
    let known = |name: &str, reply: Reply| row(format!("4 {name}")).source(reply).then(head().forwarded());
    play(
        "",
        [
            known("fresh", told())
                .then(head().reused().status(200).text(EMPTY).has("Content-Length", "4").says("hit"))
                .then(head().field("If-None-Match", TAG).reused().status(304))
                .then(get().forwarded().text("body"))
                .then(head().reused()),
            known("chunked", Reply::chunks([Step::Bytes(b"body".to_vec())]).cache_control(FRESH))
                .then(head().reused().lacks("Content-Length")),
            known("stale", told().cache_control("max-age=0")).then(head().forwarded()),
            known("private", told().cache_control("private"))
                .then(head().forwarded().says("detail=hit-for-miss")),
            known("another variant", told().field("Vary", "X")).then(head().field("X", "1").forwarded()),
            known("invalidated", told()).then(ask("PUT").body("x").forwarded()).then(head().forwarded()),
        ],
    )
    .await;
}

/// RFC 9111 5.2.2.2: disconnected, it is a 504 rather than what may only be used validated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_2_2_2_who_must_validate_and_cannot_gets_504() {
    let gone = |control: &str| {
        let stored = Reply::ok("old").cache_control(control).field("ETag", TAG);
        row(format!("5.2.2.2 {control}")).filled(stored).source(Reply::none(Step::Cut))
    };
    let must = |control: &str| {
        let error = get().status(504).has("Proxy-Status", "tidegate; error=connection_terminated");
        gone(control).then(error.says("fwd=stale"))
    };
    let zero = "[route.cache]\nstale_if_error = \"0s\"\n";
    play(
        zero,
        [
            must("max-age=0, must-revalidate"),
            must("max-age=0, proxy-revalidate"),
            gone("no-cache").then(get().status(502)),
            gone("max-age=0").then(get().status(502)),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_5_which_responses_a_head_speaks_of() {
    let same = || Reply::ok("body").cache_control(FRESH).field("X", "2");
    let must = "max-age=0, stale-if-error=60";
    play(
        "",
        [
            row("4.3.5 a stale HEAD is forwarded as one, without our conditions")
                .filled(stale("ETag", TAG))
                .source(same().field("ETag", TAG))
                .then(head().forwarded().withholds("If-None-Match").says("fwd=stale").has("X", "2"))
                .then(head().reused().has("X", "2")),
            row("12.5.3 a HEAD asks for the codings that a GET would ask for")
                .source(Reply::ok("body"))
                .then(head().field("Accept-Encoding", "x, gzip").sends("Accept-Encoding", "gzip, identity")),
            row("4.3.5 all that could have been chosen")
                .source(stale("ETag", TAG).field("Vary", "A"))
                .source(stale("ETag", TAG).field("Vary", "B"))
                .source(same().field("ETag", TAG).field("Vary", "A"))
                .source(whole())
                .then(get().field("A", "1").field("B", "1").forwarded())
                .then(get().field("A", "2").field("B", "1").forwarded())
                .then(head().field("A", "1").field("B", "1").forwarded())
                .then(get().field("A", "1").field("B", "2").reused().text("body").has("X", "2")),
            row("4.3.5 not what could not")
                .source(Reply::ok("1").cache_control(FRESH).field("ETag", "\"1\"").field("Vary", "A"))
                .source(Reply::ok("2").cache_control(FRESH).field("ETag", "\"2\"").field("Vary", "A"))
                .then(get().field("A", "1").forwarded())
                .then(head().field("A", "2").forwarded().says("fwd=vary-miss"))
                .then(get().field("A", "1").reused().text("1")),
            row("4.3.4 a HEAD with the client's condition: its 304 names what is stored")
                .filled(stale("ETag", TAG))
                .source(not_modified().field("ETag", TAG))
                .then(head().field("If-None-Match", TAG).forwarded().sends("If-None-Match", TAG).status(304))
                .then(get().reused().text("body")),
            row("4.3.4 or something else")
                .filled(stale("ETag", TAG))
                .source(not_modified().field("ETag", "\"2\""))
                .source(whole())
                .then(head().field("If-None-Match", "\"2\"").forwarded().status(304))
                .then(get().forwarded().sends("If-None-Match", TAG)),
            row("4.3.5 a HEAD whose condition is the source's")
                .filled(Reply::ok("body").cache_control(FRESH).field("ETag", TAG))
                .source(Reply::ok("longer").cache_control(FRESH).field("ETag", "\"2\""))
                .then(head().field("If-Match", "*").forwarded().status(200))
                .then(get().forwarded().sends("If-None-Match", TAG)),
            row("5861 4 stale-if-error answers a HEAD too")
                .filled(Reply::ok("body").cache_control(must))
                .source(Reply::new(503, "down"))
                .source(Reply::none(Step::Cut))
                .then(head().forwarded().status(200).says("detail=stale-if-error").has("Content-Length", "4"))
                .then(head().status(200).says("detail=stale-if-error")),
            row("4.2.4 no window, no stale answer")
                .filled(Reply::ok("body").cache_control("max-age=0, must-revalidate").field("ETag", TAG))
                .source(Reply::new(503, "down"))
                .then(head().forwarded().status(503)),
        ],
    )
    .await;
}

/// RFC 5861 3: a HEAD that is answered stale has it validated in the background, by a GET.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_3_a_stale_hit_by_head_is_validated_in_the_background() {
    let source = ScriptedSource::start().await;
    let stale = Reply::ok("body").cache_control("max-age=0, stale-while-revalidate=60").field("ETag", TAG);
    source.sequence("/a", vec![stale, not_modified().field("ETag", TAG)]);
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    let answer = gateway.send(Ask::new("HEAD", "/a")).await;
    assert!(answer.is_hit() && answer.says("detail=stale-while-revalidate"), "{answer:?}");
    source.wait_for("/a", 2).await;
    let second = &source.received("/a")[1];
    assert_eq!((second.method.as_str(), second.fields.get("If-None-Match")), ("GET", Some(TAG)));
}

/// What one user was told of a response becomes nobody else's, unless it says so itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_rfc9111_3_5_an_update_with_authorization_needs_its_own_permission() {
    let stored = || Reply::ok("body").cache_control("public, max-age=0").field("ETag", TAG);
    let bobs = |status: u16| Reply::new(status, "").field("ETag", TAG).field("X-User", "bob");
    let by_bob = |turn: Turn| turn.field("Authorization", "Basic Ym9i").forwarded();
    let last = || Reply::new(304, "").field("ETag", TAG).cache_control("public, max-age=60");
    let of = |name: &str, update: Reply, turn: Turn| {
        row(name).filled(stored()).source(update).source(last()).then(turn)
    };
    play(
        "",
        [
            of("HEAD", Reply::ok("body").field("ETag", TAG).field("X-User", "bob"), by_bob(head()))
                .then(get().forwarded().sends("If-None-Match", TAG).text("body").lacks("X-User")),
            of("304", bobs(304), by_bob(get()).text("body").has("X-User", "bob"))
                .then(get().forwarded().sends("If-None-Match", TAG).text("body").lacks("X-User")),
            of("304 that says so", bobs(304).cache_control("public, max-age=60"), by_bob(get()))
                .then(get().reused().text("body").has("X-User", "bob")),
        ],
    )
    .await;
}

/// RFC 9110 7.6.3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_6_3_an_update_passes_through_this_gateway_too() {
    let stored = || Reply::ok("body").cache_control("max-age=0").field("ETag", TAG);
    let not_modified = Reply::new(304, "").cache_control(FRESH).field("ETag", TAG).field("Via", "1.1 up");
    let by_head = Reply::ok("body").cache_control(FRESH).field("ETag", TAG).field("Via", "1.1 up");
    play(
        "",
        [
            row("304")
                .filled(stored())
                .source(not_modified)
                .then(get().forwarded().has("Via", "1.1 up, 1.1 tidegate"))
                .then(get().reused().has("Via", "1.1 up, 1.1 tidegate")),
            row("HEAD")
                .filled(stored())
                .source(by_head)
                .then(head().forwarded().has("Via", "1.1 up, 1.1 tidegate"))
                .then(get().reused().has("Via", "1.1 up, 1.1 tidegate")),
        ],
    )
    .await;
}

/// Purged while the source was asked, it is as if absent, even on error; and what confirms it is kept for
/// nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_was_purged_while_it_was_validated_answers_nobody_else() {
    let failing = Reply::new(503, "trouble");
    let confirming = Reply::new(304, "").cache_control(FRESH).field("ETag", TAG);
    for (path, answer, status) in [("/error", failing, 503), ("/304", confirming, 200)] {
        let source = ScriptedSource::start().await;
        let gate = Gate::closed();
        let stale = Reply::ok("old").cache_control("max-age=0, stale-if-error=60").field("ETag", TAG);
        let new = Reply::ok("new").cache_control(FRESH);
        source.sequence(path, vec![stale, answer.after(Step::Wait(gate.clone())), new]);
        let gateway = gateway_for(&source, "").await;
        assert_eq!(gateway.get(path).await.text(), "old");
        let (asked, ()) = tokio::join!(gateway.get(path), async {
            source.wait_for(path, 2).await;
            let url = format!("http://{}{path}", gateway.public);
            let purged = gateway.admin_post("/v1/purge", &serde_json::json!({ "urls": [url] })).await;
            assert_eq!(purged.status, 202, "{purged:?}");
            gate.open();
        });
        assert_eq!(asked.status, status, "{path}: {asked:?}");
        assert!(!asked.says("stored"), "{path}: {asked:?}");
        assert_eq!(gateway.get(path).await.text(), "new", "{path}");
    }
}
