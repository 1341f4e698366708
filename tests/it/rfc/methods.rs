//! Methods: RFC 9110 9.3.3, RFC 9111 3 and 4 (POST that serves GET), RFC 10008 (QUERY).

use super::{Row, Turn, ask, get, play, row};
use crate::support::{
    Ask, EVERYTHING, Gate, RecordingDestination, Reply, ScriptedSource, Setup, Step, gateway_for, http_date,
    is_broken, synced,
};
use futures_util::future::join_all;
use std::sync::Arc;

fn post() -> Turn {
    ask("POST").body("change").forwarded()
}

/// An answer to POST that may serve GET.
fn representation() -> Reply {
    Reply::ok("posted").cache_control("max-age=60").field("Content-Location", "{path}")
}

/// A POST's answer, and whether it serves a GET.
fn posted(name: &str, reply: Reply) -> Row {
    row(format!("9.3.3 {name}")).source(reply).source(Reply::ok("got"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_9_3_3_an_answer_to_post_serves_later_reads() {
    let serves = |name: &str, reply: Reply| {
        posted(name, reply)
            .then(post().status(200).text("posted").says("fwd=method").says("fwd-status=200").says("stored"))
            .then(get().reused().text("posted").has("Content-Location", "{path}"))
    };
    let ok = || Reply::ok("posted").field("Content-Location", "{path}");
    let host = |turn: Turn| turn.field("Host", "api.example");
    play(
        "",
        [
            serves("max-age", representation()).then(ask("HEAD").reused().has("Content-Length", "6")),
            serves("s-maxage", ok().cache_control("s-maxage=60")),
            serves("Expires", ok().field("Expires", &http_date(60))),
            serves("CDN-Cache-Control", ok().field("CDN-Cache-Control", "max-age=60")),
            serves(
                "in chunks",
                Reply::chunks([Step::Bytes("pos".into()), Step::Bytes("ted".into())])
                    .cache_control("max-age=60")
                    .field("Content-Location", "{path}"),
            ),
            serves("not a later POST", representation()).then(post().text("got").says("fwd-status=200")),
            row("9.3.3 absolute Content-Location of the target")
                .source(
                    Reply::ok("posted")
                        .cache_control("max-age=60")
                        .field("Content-Location", "http://API.example:80{path}"),
                )
                .then(host(post()).says("stored"))
                .then(host(get()).reused().text("posted")),
            row("9.3.3 the query is part of the target")
                .source(
                    Reply::ok("posted").cache_control("max-age=60").field("Content-Location", "{path}?a=b"),
                )
                .source(Reply::ok("got"))
                .then(post().at("?a=b").says("stored"))
                .then(get().at("?a=b").reused().text("posted"))
                .then(get().forwarded().text("got")),
            row("9.3.3 takes the place of what it made old")
                .filled(Reply::ok("old").cache_control("max-age=60"))
                .source(representation())
                .then(post().says("stored"))
                .then(get().reused().text("posted")),
            row("4.1 as its own fields select it")
                .source(representation().field("Vary", "X"))
                .source(Reply::ok("got"))
                .then(post().field("X", "1").says("stored"))
                .then(get().field("X", "1").reused().text("posted"))
                .then(get().field("X", "2").forwarded().text("got")),
            row("4.3 validated as a GET")
                .source(
                    Reply::ok("posted")
                        .cache_control("max-age=60")
                        .field("Age", "60")
                        .field("ETag", "\"a\"")
                        .field("Content-Location", "{path}"),
                )
                .source(Reply::new(304, "").field("ETag", "\"a\"").cache_control("max-age=60"))
                .then(post().says("stored"))
                .then(get().forwarded().sends("If-None-Match", "\"a\"").status(200).text("posted"))
                .then(get().reused().text("posted")),
            row("3.5 with Authorization where the response says so")
                .source(Reply::ok("posted").cache_control("s-maxage=60").field("Content-Location", "{path}"))
                .then(post().field("Authorization", "Basic eA==").says("stored"))
                .then(get().reused().text("posted")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_9_3_3_what_says_less_serves_nobody_else() {
    let alone = |name: &str, reply: Reply| {
        posted(name, reply).then(post().text("posted")).then(get().forwarded().text("got"))
    };
    let fresh =
        |location: &str| Reply::ok("posted").cache_control("max-age=60").field("Content-Location", location);
    let here = || Reply::ok("posted").field("Content-Location", "{path}");
    let status =
        |status| Reply::new(status, "posted").cache_control("max-age=60").field("Content-Location", "{path}");
    play(
        "",
        [
            alone("no Content-Location", Reply::ok("posted").cache_control("max-age=60")),
            alone("another path", fresh("{path}/other")),
            alone("another query", fresh("{path}?a")),
            alone("another host", fresh("http://other.example{path}")),
            alone("two", fresh("{path}").field("Content-Location", "{path}")),
            alone(
                "Location is not enough",
                Reply::ok("posted").cache_control("max-age=60").field("Location", "{path}"),
            ),
            alone("no freshness", here()),
            alone("a guess is not stated", here().field("Last-Modified", &http_date(-1_000_000))),
            alone("public is not freshness", here().cache_control("public")),
            alone("no-store", here().cache_control("max-age=60, no-store")),
            alone("private", here().cache_control("max-age=60, private")),
            alone("Set-Cookie", here().cache_control("max-age=60").field("Set-Cookie", "a=b")),
            alone("Vary", here().cache_control("max-age=60").field("Vary", "*")),
            alone("created", status(201)),
            alone("an error", status(404)),
            posted("Authorization", representation())
                .then(post().field("Authorization", "Basic eA==").says("detail=authorization"))
                .then(get().forwarded().text("got")),
            posted("another method", representation())
                .then(ask("PUT").body("x").forwarded().text("posted"))
                .then(get().forwarded().text("got")),
        ],
    )
    .await;
    play("[route.cache]\nttl = \"1m\"\n", [alone("the route's ttl is not stated", here())]).await;
    play("[route.cache]\nenabled = false\n", [alone("a route that does not store", representation())]).await;
}

/// 3.3: only what is complete; and what is larger than every tier takes still streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_3_only_a_complete_answer_to_post_is_kept() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "").await;
    let broken = Reply::promising(10, [Step::Bytes("12345".into()), Step::Cut])
        .cache_control("max-age=60")
        .field("Content-Location", "/broken");
    source.sequence("/broken", [broken, Reply::ok("whole")]);
    assert!(
        is_broken(&Ask::post("/broken", "x").send(gateway.public).await),
        "it breaks off for the client too"
    );
    assert_eq!(gateway.get("/broken").await.text(), "whole");

    let text = format!("{}{EVERYTHING}[cache]\nmemory_object = \"1KiB\"\n", source.table());
    let gateway = Setup::new(text).start().await;
    for (path, length) in [("/known", None), ("/chunked", Some(()))] {
        let large = "x".repeat(4000);
        let reply = match length {
            None => Reply::ok(large.clone()),
            Some(()) => Reply::chunks([Step::Bytes(large.clone().into_bytes())]),
        };
        let reply = reply.cache_control("max-age=60").field("Content-Location", path);
        source.sequence(path, [reply, Reply::ok("small")]);
        let answer = gateway.send(Ask::post(path, "x")).await;
        assert_eq!(answer.text(), large, "{path}");
        assert_eq!(answer.says("detail=too-large"), length.is_none(), "{path}: {answer:?}");
        assert_eq!(gateway.get(path).await.text(), "small", "{path}");
    }
}

/// I5: the answer may be older than another write that was answered meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_an_answer_to_post_that_a_write_overtook_is_not_kept() {
    let source = ScriptedSource::start().await;
    let gateway = Arc::new(gateway_for(&source, "").await);
    for (path, written, kept) in [("/same", "/same", false), ("/other", "/another", true)] {
        let gate = Gate::closed();
        let held = gate.clone();
        source.on(path, move |request| match request.method.as_str() {
            "POST" => Reply::ok("posted")
                .cache_control("max-age=60")
                .field("Content-Location", path)
                .after(Step::Wait(held.clone())),
            "PUT" => Reply::new(204, ""),
            _ => Reply::ok("put"),
        });
        source.always("/another", Reply::new(204, ""));
        let posting = tokio::spawn({
            let gateway = Arc::clone(&gateway);
            async move { gateway.send(Ask::post(path, "x")).await }
        });
        source.wait_for(path, 1).await;
        assert_eq!(gateway.put(written, "y").await.status, 204);
        gate.open();
        let answer = posting.await.unwrap();
        assert_eq!(answer.text(), "posted");
        assert_eq!(answer.says("stored"), kept, "{path}: {answer:?}");
        assert_eq!(answer.says("detail=purged"), !kept, "{path}: {answer:?}");
        assert_eq!(gateway.get(path).await.text(), if kept { "posted" } else { "put" });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_9_3_3_a_recorded_post_serves_reads_too() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let gateway = synced(&source, &destination).await;
    source.on("/items", |request| match request.method.as_str() {
        "POST" => Reply::ok("posted").cache_control("max-age=60").field("Content-Location", "/items"),
        _ => Reply::ok("got"),
    });
    let answer = gateway.send(Ask::post("/items", "x")).await;
    assert!(answer.says("stored") && !answer.field("Tidegate-Version").is_empty(), "{answer:?}");
    let read = gateway.get("/items").await;
    assert!(read.is_hit() && read.text() == "posted", "{read:?}");
    assert!(read.field("Tidegate-Version").is_empty(), "that was for the one who wrote: {read:?}");
    assert_eq!(gateway.put("/items", "y").await.status, 200);
    assert_eq!(gateway.get("/items").await.text(), "got");
}

/// A QUERY that asks this, in plain text.
fn query(content: &str) -> Turn {
    ask("QUERY").field("Content-Type", "text/plain").body(content)
}

fn fresh(text: &str) -> Reply {
    Reply::ok(text).cache_control("max-age=60")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc10008_2_7_the_key_has_the_content_and_what_describes_it() {
    let asked = |name: &str| row(format!("2.7 {name}")).source(fresh("a")).source(fresh("b"));
    let other = |name: &str, second: Turn| {
        asked(name)
            .then(query("q").forwarded().text("a").says("stored"))
            .then(query("q").reused().text("a").says("hit"))
            .then(second.forwarded().text("b"))
            .then(query("q").reused().text("a"))
    };
    play(
        "",
        [
            other("content", query("r")),
            other("no content", ask("QUERY").field("Content-Type", "text/plain")),
            other("type", ask("QUERY").field("Content-Type", "text/html").body("q")),
            other("no type", ask("QUERY").body("q")),
            other("coding", query("q").field("Content-Encoding", "gzip")),
            other("language", query("q").field("Content-Language", "de")),
            other("the target's query", query("q").at("?x")),
            other("a GET of the target", get()),
            asked("QUERY does not serve HEAD").then(query("").forwarded()).then(ask("HEAD").forwarded()),
            asked("GET does not serve QUERY")
                .then(get().forwarded().text("a"))
                .then(query("").forwarded().text("b")),
            asked("without content")
                .then(ask("QUERY").forwarded().sends("Content-Length", "0").text("a"))
                .then(ask("QUERY").reused().text("a"))
                .then(ask("QUERY").body("").reused().text("a")),
            asked("what Vary names")
                .source(fresh("c"))
                .then(query("q").forwarded())
                .then(query("q").field("X", "1").reused()),
            row("4.1 Vary")
                .source(fresh("a").field("Vary", "Accept"))
                .source(fresh("b").field("Vary", "Accept"))
                .then(query("q").field("Accept", "text/a").forwarded().text("a"))
                .then(query("q").field("Accept", "text/b").forwarded().text("b"))
                .then(query("q").field("Accept", "text/a").reused().text("a")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc10008_2_7_a_query_is_stored_by_the_rules_of_get() {
    let alone = |name: &str, reply: Reply| {
        row(format!("3 {name}"))
            .source(reply)
            .source(Reply::ok("b"))
            .then(query("q").forwarded().text("a"))
            .then(query("q").forwarded().text("b"))
    };
    let ok = || Reply::ok("a");
    play(
        "",
        [
            alone("no-store", ok().cache_control("no-store")),
            alone("private", ok().cache_control("private, max-age=60")),
            alone("Vary", fresh("a").field("Vary", "*")),
            alone("Set-Cookie", fresh("a").field("Set-Cookie", "a=b")),
            alone("no freshness", ok()),
            row("3.5 Authorization")
                .source(fresh("a"))
                .then(query("q").field("Authorization", "Basic eA==").forwarded())
                .then(query("q").field("Authorization", "Basic eA==").forwarded()),
            row("4.2.2 a guess")
                .source(ok().field("Last-Modified", &http_date(-1_000_000)))
                .then(query("q").forwarded())
                .then(query("q").reused()),
            row("RFC 10008 2.5 a redirect")
                .source(Reply::new(303, "").field("Location", "/x").cache_control("max-age=60"))
                .then(query("q").forwarded().status(303))
                .then(query("q").reused().status(303).has("Location", "/x"))
                .then(get().forwarded()),
            row("RFC 10008 2.3, 2.4 Content-Location and Location make nothing of the target's")
                .filled(fresh("got"))
                .source(fresh("a").field("Content-Location", "{path}").field("Location", "{path}"))
                .then(query("q").forwarded().text("a"))
                .then(query("q").reused().text("a").has("Location", "{path}"))
                .then(get().reused().text("got")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc10008_2_6_conditions_and_ranges_are_those_of_get() {
    let stored = |name: &str, reply: Reply| {
        row(name).source(reply.field("ETag", "\"a\"")).then(query("q").forwarded())
    };
    play(
        "",
        [
            stored("2.6 a client's condition", fresh("abc"))
                .then(query("q").field("If-None-Match", "\"a\"").reused().status(304).has("ETag", "\"a\""))
                .then(query("q").field("If-None-Match", "\"b\"").reused().status(200).text("abc")),
            stored("2.6 validated by QUERY", Reply::ok("abc").cache_control("max-age=0"))
                .source(Reply::new(304, "").field("ETag", "\"a\"").cache_control("max-age=60"))
                .then(query("q").forwarded().sends("If-None-Match", "\"a\"").status(200).text("abc"))
                .then(query("q").reused().text("abc")),
            stored("2.6 changed", Reply::ok("abc").cache_control("max-age=0"))
                .source(fresh("new").field("ETag", "\"b\""))
                .then(query("q").forwarded().sends("Content-Type", "text/plain").text("new"))
                .then(query("q").reused().text("new")),
            stored("2.6 If-Match is the source's", fresh("abc")).source(Reply::new(412, "")).then(
                query("q").field("If-Match", "\"b\"").forwarded().sends("If-Match", "\"b\"").status(412),
            ),
            row("2.6 nothing stored: the condition is not the source's")
                .source(fresh("abc").field("ETag", "\"a\""))
                .then(
                    query("q")
                        .field("If-None-Match", "\"a\"")
                        .forwarded()
                        .withholds("If-None-Match")
                        .status(304),
                )
                .then(query("q").reused().text("abc")),
            stored("2.8 a range", fresh("abc"))
                .then(
                    query("q")
                        .field("Range", "bytes=1-1")
                        .reused()
                        .status(206)
                        .text("b")
                        .has("Content-Range", "bytes 1-1/3"),
                )
                .then(query("q").field("Range", "bytes=7-").reused().status(416)),
        ],
    )
    .await;
}

/// What the source gets of a QUERY, whatever its length; one that is not held is relayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc10008_2_a_query_reaches_the_source_whole() {
    const HELD_BYTES: usize = 64 * 1024;
    let source = ScriptedSource::start().await;
    source.always("*", fresh("a"));
    let gateway = gateway_for(&source, "").await;
    let plain = |path: &str, length: usize| {
        Ask::new("QUERY", path).field("Content-Type", "text/plain").body("q".repeat(length))
    };
    for (path, ask, length, cached) in [
        ("/short", plain("/short", 7), 7, true),
        ("/chunked", plain("/chunked", 7).chunked(), 7, true),
        ("/longest", plain("/longest", HELD_BYTES), HELD_BYTES, true),
        ("/longer", plain("/longer", HELD_BYTES + 1), HELD_BYTES + 1, false),
        ("/longer-chunked", plain("/longer-chunked", 3 * HELD_BYTES).chunked(), 3 * HELD_BYTES, false),
    ] {
        for turn in 1..=2 {
            let answer = gateway.send(ask.clone()).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "a"), "{path}");
            assert_eq!(answer.says("fwd=bypass"), !cached, "{path}: {answer:?}");
            let received = source.received(path);
            assert_eq!(received.len(), if cached { 1 } else { turn }, "{path}");
            let last = received.last().unwrap();
            assert_eq!((last.method.as_str(), last.body.len()), ("QUERY", length), "{path}");
            assert_eq!(last.fields.get("Content-Type"), Some("text/plain"), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc10008_2_7_queries_of_the_same_content_are_collapsed() {
    let source = ScriptedSource::start().await;
    let gateway = Arc::new(gateway_for(&source, "").await);
    let gate = Gate::closed();
    let held = gate.clone();
    source.on("/", move |request| fresh(&request.text()).after(Step::Wait(held.clone())));
    let asked = |content: &'static str| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.send(Ask::new("QUERY", "/").body(content)).await })
    };
    let asking: Vec<_> = ["q", "q", "q", "r"].into_iter().map(asked).collect();
    source.wait_for("/", 2).await;
    gate.open();
    let texts = join_all(asking).await.into_iter().map(|answer| answer.unwrap().text());
    assert_eq!(texts.collect::<Vec<_>>(), ["q", "q", "q", "r"]);
    assert_eq!(source.count("/"), 2);
}

/// RFC 9110 9.2.2, RFC 10008 2: a QUERY on a pooled connection that closes without an answer is repeated,
/// whole; what streamed through cannot be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc10008_2_a_query_on_a_dead_connection_is_sent_once_more() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "").await;
    source.always("/warm", Reply::ok("warm"));
    for (path, length, status, sent) in [("/held", 7, 200, 2), ("/streamed", 100_000, 502, 1)] {
        source.sequence(path, [Reply::none(Step::Cut), fresh("a")]);
        // The next request uses this one's connection.
        gateway.get("/warm").await;
        let answer = gateway.send(Ask::new("QUERY", path).body("q".repeat(length))).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        let received = source.received(path);
        assert_eq!(
            received.iter().map(|one| one.body.len()).collect::<Vec<_>>(),
            vec![length; sent],
            "{path}"
        );
    }
}
