//! RFC 9111 4, 4.1; RFC 9110 12.5.

use super::{By, Row, Turn, ask, get, play, row};
use crate::support::{Ask, EVERYTHING, RedisServer, Reply, ScriptedSource, Setup, eventually, gateway_for};

/// Fresh whatever its Date.
const LONG: &str = "max-age=999999999";
const IN_2020: &str = "Mon, 02 Mar 2020 10:00:00 GMT";
const IN_2021: &str = "Tue, 02 Mar 2021 10:00:00 GMT";

fn varying(vary: &str, text: &str) -> Reply {
    Reply::ok(text).cache_control(LONG).field("Vary", vary)
}

fn with(turn: Turn, lines: &[(&str, &str)]) -> Turn {
    lines.iter().fold(turn, |turn, (name, value)| turn.field(name, value))
}

type Lines<'a> = &'a [(&'a str, &'a str)];

/// Two requests: the response to the first, which varies so, answers the second, or does not.
fn pair(name: &str, vary: &str, one: Lines<'_>, other: Lines<'_>, by: By) -> Row {
    let row = row(name).source(varying(vary, "one")).source(varying(vary, "other"));
    let second = with(get(), other);
    let second = match by {
        By::Store => second.reused().text("one"),
        By::Source => second.forwarded().text("other"),
    };
    row.then(with(get(), one).forwarded()).then(second)
}

/// One more than is looked at.
fn many_names() -> String {
    (0..33).map(|number| format!("X-{number}")).collect::<Vec<_>>().join(", ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_1_what_selects() {
    let foo = |value| ("Foo", value);
    play(
        "",
        [
            pair("4.1 equal", "Foo", &[foo("1")], &[foo("1")], By::Store),
            pair("4.1 other value", "Foo", &[foo("1")], &[foo("2")], By::Source),
            pair("4.1 absent in both", "Foo", &[], &[], By::Store),
            pair("4.1 absent in one", "Foo", &[foo("1")], &[], By::Source),
            pair("4.1 absent in the first", "Foo", &[], &[foo("1")], By::Source),
            pair("4.1 absent is not empty", "Foo", &[foo("")], &[], By::Source),
            pair("4.1 empty in both", "Foo", &[foo("")], &[foo("")], By::Store),
            pair("4.1 not named", "Foo", &[foo("1"), ("Bar", "1")], &[foo("1"), ("Bar", "2")], By::Store),
            pair("4.1 names have no case", "fOO", &[foo("1")], &[("foo", "1")], By::Store),
            pair("4.1 space around", "Foo", &[foo("1")], &[foo("  1 ")], By::Store),
            pair("4.1 unknown fields have case", "Foo", &[foo("a")], &[foo("A")], By::Source),
            pair("4.1 lines are a list", "Foo", &[foo("1"), foo("2")], &[foo("1, 2")], By::Store),
            pair("4.1 whose order counts", "Foo", &[foo("1, 2")], &[foo("2, 1")], By::Source),
            pair(
                "4.1 all names count",
                "Foo, Bar",
                &[foo("1"), ("Bar", "1")],
                &[foo("1"), ("Bar", "2")],
                By::Source,
            ),
            pair(
                "4.1 all match",
                "Foo, Bar",
                &[foo("1"), ("Bar", "1")],
                &[("Bar", "1"), foo("1")],
                By::Store,
            ),
            pair("4.1 credentials", "Cookie", &[("Cookie", "a=b")], &[("Cookie", "a=c")], By::Source),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_1_what_nothing_selects_and_what_several_names_select() {
    let foo = |value| ("Foo", value);
    play(
        "",
        [
            pair("4.1 *", "*", &[], &[], By::Source),
            pair("4.1 * in a list", "Foo, *", &[foo("1")], &[foo("1")], By::Source),
            pair("4.1 * first in a list", "*, Foo", &[foo("1")], &[foo("1")], By::Source),
            pair("4.1 unreadable", "Foo Bar", &[], &[], By::Source),
            pair("4.1 set by the gateway", "X-Forwarded-For", &[], &[], By::Source),
            pair("4.1 set by the gateway, in a list", "Foo, Forwarded", &[foo("1")], &[foo("1")], By::Source),
            pair("4.1 more names than the bound", &many_names(), &[], &[], By::Source),
            row("4.1 Authorization, where it may be stored")
                .source(varying("Authorization", "a").cache_control("public"))
                .source(varying("Authorization", "b").cache_control("public"))
                .then(get().field("Authorization", "Basic YQ==").forwarded())
                .then(get().field("Authorization", "Basic Yg==").forwarded())
                .then(get().field("Authorization", "Basic YQ==").reused().text("a"))
                .then(get().forwarded()),
            row("4.1 * over several lines")
                .filled(varying("Foo", "one").field("Vary", "Bar, *"))
                .then(get().forwarded()),
            row("4.1 names over several lines")
                .source(varying("Foo", "one").field("Vary", "Bar"))
                .then(get().field("Bar", "1").forwarded())
                .then(get().field("Bar", "2").forwarded())
                .then(get().field("Bar", "1").reused()),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_12_5_lists_that_mean_the_same() {
    let (language, accept, coding) =
        (|value| ("Accept-Language", value), |value| ("Accept", value), |value| ("Accept-Encoding", value));
    play(
        "",
        [
            pair("12.5.4 case", "Accept-Language", &[language("en-GB")], &[language("EN-gb")], By::Store),
            pair("12.5.4 space", "Accept-Language", &[language("en, de")], &[language("en ,de")], By::Store),
            pair("12.5.4 q=1", "Accept-Language", &[language("en;q=1")], &[language("en")], By::Store),
            pair("12.5.4 q=1.0", "Accept-Language", &[language("en;q=1.0")], &[language("en")], By::Store),
            pair(
                "12.5.4 order",
                "Accept-Language",
                &[language("de;q=0.5, en")],
                &[language("en,de;q=0.50")],
                By::Store,
            ),
            pair(
                "12.5.4 other weight",
                "Accept-Language",
                &[language("de;q=0.5")],
                &[language("de;q=0.6")],
                By::Source,
            ),
            pair(
                "12.5.4 no order within a weight",
                "Accept-Language",
                &[language("en, de")],
                &[language("de, en")],
                By::Store,
            ),
            pair(
                "12.5.1 order within a weight",
                "Accept",
                &[accept("a/b, c/d")],
                &[accept("c/d, a/b")],
                By::Source,
            ),
            pair("12.5.1 case", "Accept", &[accept("Text/HTML; q=1")], &[accept("text/html")], By::Store),
            pair(
                "12.5.1 order",
                "Accept",
                &[accept("a/b;q=0.1,c/d")],
                &[accept("c/d, a/b; q=0.100")],
                By::Store,
            ),
            pair(
                "12.5.3 order, unknown",
                "Accept-Encoding",
                &[coding("gzip, br, x")],
                &[coding("br,gzip")],
                By::Store,
            ),
            pair("12.5.3 other", "Accept-Encoding", &[coding("gzip")], &[coding("br")], By::Source),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_which_of_several_is_used() {
    let one = |turn: Turn| turn.field("A", "1").field("B", "1");
    let dated = |vary, text, date| varying(vary, text).field("Date", date);
    play(
        "",
        [
            row("4.1 several variants")
                .source(varying("A", "1"))
                .source(varying("A", "2"))
                .then(get().field("A", "1").forwarded())
                .then(get().field("A", "2").forwarded().says("fwd=vary-miss"))
                .then(get().field("A", "1").reused().text("1"))
                .then(get().field("A", "2").reused().text("2")),
            row("4 the most recent Date, stored first")
                .source(dated("A", "newer", IN_2021))
                .source(dated("B", "older", IN_2020))
                .then(one(get()).forwarded())
                .then(get().field("A", "2").field("B", "1").forwarded())
                .then(one(get()).reused().text("newer")),
            row("4 the most recent Date, stored last")
                .source(dated("A", "older", IN_2020))
                .source(dated("B", "newer", IN_2021))
                .then(one(get()).forwarded())
                .then(get().field("A", "2").field("B", "1").forwarded())
                .then(one(get()).reused().text("newer")),
            row("4.1 one that varies before one that does not")
                .source(dated("A", "varies", IN_2020))
                .source(Reply::ok("default").cache_control(LONG).field("Date", IN_2021))
                .then(get().field("A", "1").forwarded())
                .then(get().field("A", "2").forwarded())
                .then(get().field("A", "1").reused().text("varies"))
                .then(get().field("A", "3").reused().text("default")),
            row("4.1 Vary that changes: each stored response has its own")
                .source(varying("A", "by a"))
                .source(varying("A, B", "by both"))
                .then(one(get()).forwarded())
                .then(get().field("A", "2").field("B", "1").forwarded())
                .then(get().field("A", "1").field("B", "2").reused().text("by a"))
                .then(get().field("A", "2").field("B", "2").forwarded()),
            row("4.3.3 a full answer with another Vary takes the place of what was validated")
                .source(Reply::ok("old").cache_control("max-age=0").field("Vary", "A").field("ETag", "\"1\""))
                .source(Reply::ok("new").cache_control(LONG).field("ETag", "\"2\""))
                .then(get().field("A", "1").forwarded())
                .then(get().field("A", "1").forwarded().sends("If-None-Match", "\"1\"").text("new"))
                .then(get().field("A", "1").reused().text("new"))
                .then(get().field("A", "2").reused().text("new")),
        ],
    )
    .await;
}

/// RFC 9111 4.1 last paragraph, 4.3.1: what is stored is described to the source, which may choose of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_1_a_vary_miss_asks_about_the_variants() {
    let stored = |language: &str, tag: &str| varying("Accept-Language", language).field("ETag", tag);
    let chosen = |tag: &str| Reply::new(304, "").cache_control(LONG).field("ETag", tag).field("X", "new");
    let asking = |language| get().field("Accept-Language", language);
    play(
        "",
        [
            row("4.3.4 the 304 names the second of three")
                .source(stored("de", "\"de\""))
                .source(stored("en", "\"en\""))
                .source(chosen("\"de\""))
                .then(asking("de").forwarded())
                .then(asking("en").forwarded().sends("If-None-Match", "\"de\""))
                .then(
                    asking("de-CH")
                        .forwarded()
                        .sends("If-None-Match", "\"en\", \"de\"")
                        .withholds("If-Modified-Since")
                        .status(200)
                        .text("de")
                        .has("X", "new")
                        .says("fwd=vary-miss")
                        .says("stored"),
                )
                .then(asking("de-CH").reused().text("de").has("X", "new"))
                .then(asking("de").reused().text("de").lacks("X"))
                .then(asking("en").reused().text("en")),
            row("4.3.2 the client's own condition is evaluated against what was chosen")
                .source(stored("de", "\"de\""))
                .source(chosen("\"de\""))
                .then(asking("de").forwarded())
                .then(asking("fr").field("If-None-Match", "\"fr\", W/\"de\"").forwarded().status(304))
                .then(asking("it").field("If-None-Match", "\"it\"").forwarded().status(200).text("de")),
            row("4.3.3 a full answer")
                .source(stored("de", "\"de\""))
                .source(stored("fr", "\"fr\""))
                .then(asking("de").forwarded())
                .then(asking("fr").forwarded().sends("If-None-Match", "\"de\"").text("fr"))
                .then(asking("fr").reused().text("fr"))
                .then(asking("de").reused().text("de")),
            row("4.3.1 weak tags name no content")
                .source(stored("de", "W/\"de\""))
                .source(stored("fr", "\"fr\""))
                .then(asking("de").forwarded())
                .then(asking("fr").forwarded().withholds("If-None-Match").text("fr")),
            row("4.3.4 now private: for this request alone, the other stays")
                .source(stored("de", "\"de\""))
                .source(chosen("\"de\"").cache_control("private"))
                .then(asking("de").forwarded())
                .then(asking("fr").forwarded().text("de").says("detail=private"))
                .then(asking("de").reused().text("de"))
                .then(asking("fr").forwarded()),
            row("4.3.1 never across users")
                .source(varying("Cookie", "a").field("ETag", "\"1\""))
                .then(get().field("Cookie", "a").forwarded())
                .then(get().field("Cookie", "b").forwarded().withholds("If-None-Match")),
            row("4.3.1 nor across codings")
                .source(varying("Accept-Encoding", "a").field("ETag", "\"1\""))
                .then(get().field("Accept-Encoding", "gzip").forwarded())
                .then(get().forwarded().withholds("If-None-Match")),
        ],
    )
    .await;
}

/// RFC 9111 4.3.4: a 304 that names nothing that was asked about is not used; the whole is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_4_a_304_that_names_no_variant_is_not_used() {
    for tag in [Some("\"other\""), Some("W/\"de\""), None] {
        let source = ScriptedSource::start().await;
        source.on("/a", move |request| {
            let not_modified = tag.iter().fold(Reply::new(304, ""), |reply, tag| reply.field("ETag", tag));
            match (request.fields.get("Accept-Language"), request.fields.get("If-None-Match")) {
                (Some("de"), _) => varying("Accept-Language", "de").field("ETag", "\"de\""),
                (_, Some(_)) => not_modified,
                _ => varying("Accept-Language", "fr"),
            }
        });
        let gateway = gateway_for(&source, "").await;
        let asking = |language| Ask::get("/a").field("Accept-Language", language);
        gateway.send(asking("de")).await;
        let answer = gateway.send(asking("fr")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "fr"), "{tag:?}: {answer:?}");
        assert_eq!(source.count("/a"), 3, "{tag:?}");
        assert!(gateway.send(asking("de")).await.is_hit(), "{tag:?}");
    }
}

/// RFC 9111 4.3.4 through Redis: another gateway finds the variant as the 304 left it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_4_a_freshened_variant_reaches_the_shared_tier() {
    let (source, redis) = (ScriptedSource::start().await, RedisServer::start().await);
    source.on("*", |request| {
        let language = request.fields.get("Accept-Language").unwrap_or_default().to_owned();
        let tag = format!("\"{language}\"");
        let reply = if request.fields.get("If-None-Match") == Some(&tag) {
            Reply::new(304, "").cache_control("max-age=600").field("X-Turn", "2")
        } else {
            Reply::ok(language).cache_control("max-age=0").field("X-Turn", "1")
        };
        reply.field("Vary", "Accept-Language").field("ETag", &tag)
    });
    let rest = format!("{}{EVERYTHING}{}", source.table(), redis.table());
    let (one, other) = (Setup::new(&*rest).start().await, Setup::new(&*rest).start().await);
    let asking = |number: u32, language| {
        let ask = Ask::get(&format!("/{number}")).field("Host", "shop.example");
        ask.field("Accept-Language", language)
    };
    let mut number = 0;
    eventually("the other gateway finds what the first has validated", async || {
        number += 1;
        for language in ["de", "en", "de"] {
            one.send(asking(number, language)).await;
        }
        let answer = other.send(asking(number, "de")).await;
        let is_shared = answer.is_hit() && answer.says("detail=shared");
        assert_eq!(answer.text(), "de");
        assert!(!is_shared || answer.field("X-Turn") == "2", "{answer:?}");
        is_shared
    })
    .await;
}

/// What Connection names does not reach the source: so what was made without it is not what others get who
/// send it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_rfc9110_7_6_1_a_field_that_connection_names_selects_nothing() {
    let varying = |turn: u8| {
        Reply::ok(format!("turn {turn}"))
            .cache_control("max-age=600")
            .field("Vary", "Origin, Accept-Language")
            .field("Content-Location", "{path}")
            .field("ETag", "\"1\"")
    };
    let hidden = |method: &'static str| {
        ask(method)
            .field("Connection", "close, Origin, accept-language, Content-Type")
            .field("Origin", "https://app.example")
            .field("Accept-Language", "de")
            .field("Content-Type", "text/plain")
    };
    let open = |method: &'static str| {
        ask(method)
            .field("Origin", "https://app.example")
            .field("Accept-Language", "de")
            .field("Content-Type", "text/plain")
    };
    let row_of = |name: &str, first: Turn, second: Turn| {
        row(name)
            .source(varying(1))
            .source(varying(2))
            .then(first.forwarded().withholds("Origin").withholds("Accept-Language").text("turn 1"))
            .then(second.forwarded().sends("Origin", "https://app.example").text("turn 2"))
    };
    play(
        "",
        [
            row_of("GET", hidden("GET"), open("GET")),
            row_of("QUERY", hidden("QUERY").body("q"), open("QUERY").body("q")),
            row_of("POST that serves GET", hidden("POST").body("p"), open("GET")),
        ],
    )
    .await;
}
