//! I6: who has seen a write never reads what is older, from wherever the answer comes.

use crate::support::{
    Answer, Ask, EVERYTHING, Gate, Gateway, InventorySource, RedisServer, Reply, ScriptedSource, Setup, Step,
    eventually, gateway_for, obliging_source, synced,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The longest that a reader waits for its gateway to catch up, and what a machine under load adds.
const CATCH_UP: Duration = Duration::from_secs(8);

/// The token that an answer to a write gives.
fn token(answer: &Answer) -> String {
    let token = answer.field("Tidegate-Version").to_owned();
    assert!(!token.is_empty(), "{answer:?}");
    token
}

fn since(ask: Ask, token: &str) -> Ask {
    ask.field("Tidegate-Min-Version", token)
}

/// A source whose every answer to a read is another one.
async fn counting_source(control: &'static str) -> ScriptedSource {
    let source = ScriptedSource::start().await;
    let count = AtomicUsize::new(0);
    source.on("*", move |request| match request.method.as_str() {
        "GET" | "HEAD" => {
            Reply::ok(format!("{}", count.fetch_add(1, Ordering::Relaxed))).cache_control(control)
        }
        _ => Reply::new(204, ""),
    });
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_that_tells_of_a_write_has_a_version() {
    let source = obliging_source().await;
    source.always("/refused", Reply::new(422, ""));
    source.always("/elsewhere", Reply::new(303, "").field("Location", "/items/9"));
    let destination = crate::support::RecordingDestination::start().await;
    for gateway in [synced(&source, &destination).await, gateway_for(&source, "").await] {
        for (method, path, tells) in [
            ("PUT", "/items/1", true),
            ("POST", "/items", true),
            ("DELETE", "/items/1", true),
            ("PUT", "/elsewhere", true),
            ("PUT", "/refused", false),
            ("GET", "/items/1", false),
        ] {
            let answer = gateway.send(Ask::new(method, path)).await;
            assert_eq!(answer.fields.has("Tidegate-Version"), tells, "{method} {path} {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_what_is_stored_before_the_write_is_not_served_after_it() {
    let source = counting_source("max-age=600").await;
    let gateway = gateway_for(&source, "").await;
    for path in ["/items/1", "/other"] {
        gateway.get(path).await;
        assert!(gateway.get(path).await.is_hit());
    }
    let token = token(&gateway.put("/items/1", "x").await);
    // The token is compared as a whole: what another key has may be older than the write.
    for path in ["/items/1", "/other"] {
        let before = gateway.get(path).await;
        let answer = gateway.send(since(Ask::get(path), &token)).await;
        if path == "/other" {
            assert!(before.is_hit() && answer.says("fwd=request"), "{answer:?}");
            assert_ne!(answer.text(), before.text());
        }
        let again = gateway.send(since(Ask::get(path), &token)).await;
        assert!(again.is_hit() && again.text() == gateway.get(path).await.text(), "{again:?}");
    }
    // So is it for a HEAD, and for whoever wants what is stored or nothing.
    gateway.get("/third").await;
    let later = self::token(&gateway.put("/items/1", "y").await);
    let head = gateway.send(since(Ask::new("HEAD", "/third"), &later)).await;
    assert!(head.says("fwd=request"), "{head:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_only_if_cached_and_max_stale_obey() {
    let source = counting_source("max-age=600, must-revalidate").await;
    let gateway = gateway_for(&source, "[route.cache]\nrequest_directives = \"honour\"\n").await;
    gateway.get("/a").await;
    let cached =
        |token: &str| since(Ask::get("/a").field("Cache-Control", "only-if-cached, max-stale"), token);
    let token = token(&gateway.put("/items/1", "x").await);
    gateway.send(cached(&token)).await.assert_problem(504);
    gateway.send(since(Ask::get("/a"), &token)).await;
    assert!(gateway.send(cached(&token)).await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_stale_answers_obey() {
    let source = ScriptedSource::start().await;
    source.always("/items/1", Reply::new(204, ""));
    source.sequence(
        "/swr",
        [
            Reply::ok("old").cache_control("max-age=0, stale-while-revalidate=600, stale-if-error=600"),
            Reply::new(503, "down"),
        ],
    );
    let gateway = gateway_for(&source, "[route.cache]\nstale_on_disconnect = true\n").await;
    assert_eq!(gateway.get("/swr").await.text(), "old");
    let token = token(&gateway.put("/items/1", "x").await);
    let answer = gateway.send(since(Ask::get("/swr"), &token)).await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "down"), "{answer:?}");
    source.always("/swr", Reply::none(Step::Cut));
    gateway.send(since(Ask::get("/swr"), &token)).await.assert_problem(502);
    assert_eq!(gateway.get("/swr").await.text(), "old", "who asks for less gets it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_flight_that_began_before_the_write_is_not_joined() {
    let source = ScriptedSource::start().await;
    let (gate, count) = (Gate::closed(), Arc::new(AtomicUsize::new(0)));
    let (waits, counted) = (gate.clone(), Arc::clone(&count));
    source.on("/slow", move |_| match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::ok("old").cache_control("max-age=600").after(Step::Wait(waits.clone())),
        _ => Reply::ok("new").cache_control("max-age=600"),
    });
    source.always("/items/1", Reply::new(204, ""));
    let gateway = Arc::new(gateway_for(&source, "").await);
    let first = {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.get("/slow").await })
    };
    source.wait_for("/slow", 1).await;
    let token = token(&gateway.put("/items/1", "x").await);
    let answer = gateway.send(since(Ask::get("/slow"), &token)).await;
    assert_eq!(answer.text(), "new", "{answer:?}");
    gate.open();
    assert_eq!(first.await.unwrap().text(), "old", "it asked before the write");
    // What the first one brought is not served for the token, in whichever order the two were stored.
    assert_eq!(gateway.send(since(Ask::get("/slow"), &token)).await.text(), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_part_obeys() {
    let source = ScriptedSource::start().await;
    source.always("/items/1", Reply::new(204, ""));
    source.on("/part", |_| {
        Reply::new(206, "0123")
            .field("Content-Range", "bytes 0-3/20")
            .field("ETag", "\"a\"")
            .cache_control("max-age=600")
    });
    let gateway = gateway_for(&source, "").await;
    let ask = || Ask::get("/part").field("Range", "bytes=0-3");
    gateway.send(ask()).await;
    assert!(gateway.send(ask()).await.is_hit());
    let token = token(&gateway.put("/items/1", "x").await);
    assert!(!gateway.send(since(ask(), &token)).await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_token_is_refused() {
    let source = counting_source("max-age=600").await;
    let gateway = gateway_for(&source, "").await;
    let token = token(&gateway.put("/items/1", "x").await);
    for unreadable in [
        "",
        "x",
        "1",
        &token[1..],
        &format!("{token}-"),
        &format!("{token}0000000000000000"),
        &"1".repeat(5000),
    ] {
        gateway.send(since(Ask::get("/a"), unreadable)).await.assert_problem(400);
    }
    gateway.send(since(since(Ask::get("/a"), &token), &token)).await.assert_problem(400);
    assert_eq!(gateway.send(since(Ask::get("/a"), &token)).await.status, 200);
}

/// Nobody else is known here: the source is asked at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_token_of_another_gateway_asks_the_source() {
    let source = counting_source("max-age=600").await;
    let setup = Setup::new(format!("{}{EVERYTHING}", source.table()));
    let one = setup.start().await;
    let token = token(&one.put("/items/1", "x").await);
    assert!(one.terminate().await.status.success());
    let other = setup.start().await;
    let stored = other.get("/a").await;
    assert!(other.get("/a").await.is_hit());
    let began = Instant::now();
    let answer = other.send(since(Ask::get("/a"), &token)).await;
    assert!(answer.says("fwd=request") && answer.text() != stored.text(), "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "nothing is waited for: {:?}", began.elapsed());
}

/// Two gateways of one namespace before one source.
async fn two(source: &InventorySource, redis: &RedisServer) -> (Gateway, Gateway) {
    let text = format!("{}{EVERYTHING}{}", source.table(), redis.table());
    let (one, other) = (Setup::new(text.clone()).start().await, Setup::new(text).start().await);
    for gateway in [&one, &other] {
        gateway.send(at(Ask::put("/warm/0", "x"))).await;
        let mut asked = 0_u32;
        eventually("it uses Redis", async || {
            asked += 1;
            gateway.send(at(Ask::put(&format!("/warm/{asked}"), "x"))).await;
            gateway.send(at(Ask::get(&format!("/warm/{asked}")))).await;
            gateway.metric("tidegate_stored_total{tier=\"shared\"}").await > 0
        })
        .await;
    }
    (one, other)
}

/// The authority is part of the key, and each gateway has a port of its own.
fn at(ask: Ask) -> Ask {
    ask.field("Host", "shop.example")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_what_was_written_at_one_gateway_is_read_at_the_other_at_once() {
    let (source, redis) = (InventorySource::start().await, RedisServer::start().await);
    let (one, other) = two(&source, &redis).await;
    let (mut hits, mut waited) = (0, Duration::ZERO);
    for round in 0..300_u32 {
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let path = format!("/items/{}", round % 3);
        // The reader's memory is hot.
        reader.send(at(Ask::get(&path))).await;
        let token = token(&writer.send(at(Ask::put(&path, round.to_string()))).await);
        let began = Instant::now();
        let answer = reader.send(since(at(Ask::get(&path)), &token)).await;
        waited = waited.max(began.elapsed());
        assert_eq!(answer.text(), round.to_string(), "{answer:?}");
        let again = reader.send(since(at(Ask::get(&path)), &token)).await;
        assert_eq!(again.text(), round.to_string(), "{again:?}");
        hits += u32::from(again.is_hit());
    }
    assert!(waited < CATCH_UP, "{waited:?}");
    assert!(hits > 200, "the token costs a forward once, not always: {hits}");
}

/// The reader's gateway cannot hear of the write: it asks the source, after a bounded time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_while_redis_is_frozen_nothing_older_is_read_and_the_wait_is_bounded() {
    let (source, redis) = (InventorySource::start().await, RedisServer::start().await);
    let (one, other) = two(&source, &redis).await;
    for round in 0..12_u32 {
        other.send(at(Ask::put("/items/1", format!("before {round}")))).await;
        other.send(at(Ask::get("/items/1"))).await;
        if round == 1 {
            redis.freeze();
        }
        let token = token(&one.send(at(Ask::put("/items/1", round.to_string()))).await);
        let began = Instant::now();
        let answer = other.send(since(at(Ask::get("/items/1")), &token)).await;
        assert_eq!(answer.text(), round.to_string(), "{answer:?}");
        assert!(began.elapsed() < CATCH_UP, "{:?}", began.elapsed());
    }
    redis.thaw();
    let token = token(&one.send(at(Ask::put("/items/1", "last"))).await);
    eventually("the token is understood again", async || {
        let answer = other.send(since(at(Ask::get("/items/1")), &token)).await;
        assert_eq!(answer.text(), "last", "{answer:?}");
        answer.is_hit()
    })
    .await;
}
