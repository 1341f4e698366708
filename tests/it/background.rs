//! What hits begin and nobody waits for: validation of what is stale, and of what soon will be.

use crate::support::{
    Answer, Ask, EVERYTHING, Gate, Gateway, RedisServer, Reply, ScriptedSource, Setup, Step, eventually,
    gateway_for,
};
use futures_util::future::join_all;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const STALE: &str = "max-age=0, stale-while-revalidate=60";

fn kept(text: &str) -> Reply {
    Reply::ok(text).cache_control(STALE).field("ETag", "\"kept\"")
}

fn new(text: &str) -> Reply {
    Reply::ok(text).cache_control("max-age=60")
}

/// How many validations in the background came to this.
async fn counted(gateway: &Gateway, cause: &str, result: &str) -> u64 {
    let labels = format!("{{cause=\"{cause}\",result=\"{result}\"}}");
    gateway.metric(&format!("tidegate_background_validations_total{labels}")).await
}

/// Asks once, and waits until the validation that this hit began has come to `result`.
async fn validated(gateway: &Gateway, path: &str, result: &str) {
    let before = counted(gateway, "stale", result).await;
    let hit = gateway.get(path).await;
    assert!(hit.text() == "kept" && hit.says("detail=stale-while-revalidate"), "{path}: {hit:?}");
    eventually(&format!("{path}: the validation is {result}"), async || {
        counted(gateway, "stale", result).await > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_3_one_validation_however_many_hits() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.sequence("/a", vec![kept("kept"), new("new").after(Step::Wait(gate.clone()))]);
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    let hits = join_all((0..200).map(|_| gateway.get("/a"))).await;
    assert!(hits.iter().all(|hit| hit.text() == "kept" && hit.is_hit()), "nobody waits for the validation");
    source.wait_for("/a", 2).await;
    assert_eq!(source.received("/a")[1].fields.get("If-None-Match"), Some("\"kept\""));
    gate.open();
    eventually("the new one", async || gateway.get("/a").await.text() == "new").await;
    join_all((0..50).map(|_| gateway.get("/a"))).await;
    assert_eq!(source.count("/a"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_3_each_variant_is_validated_once() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let (held, number) = (gate.clone(), AtomicUsize::new(0));
    source.on("/a", move |request| {
        let language = request.fields.get("Accept-Language").unwrap_or_default();
        let reply = match number.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Reply::ok(format!("kept {language}")).cache_control(STALE),
            _ => new(&format!("new {language}")).after(Step::Wait(held.clone())),
        };
        reply.field("Vary", "Accept-Language")
    });
    let gateway = gateway_for(&source, "").await;
    let ask = |language: &str| gateway.send(Ask::get("/a").field("Accept-Language", language));
    let both = ["de", "en"];
    for language in both {
        assert!(ask(language).await.says("stored"), "{language}");
    }
    let hits = join_all(both.repeat(50).into_iter().map(ask)).await;
    assert!(hits.iter().all(Answer::is_hit), "nobody waits");
    source.wait_for("/a", 3).await;
    gate.open();
    for language in both {
        let now = format!("new {language}");
        eventually(&format!("{language} is new"), async || ask(language).await.text() == now).await;
    }
    assert_eq!(source.count("/a"), 4, "two fills, and one validation of each");
}

/// One that is on its way holds up no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_3_all_variants_are_validated_at_once() {
    const LANGUAGES: [&str; 5] = ["de", "en", "fr", "it", "rm"];
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let (held, number) = (gate.clone(), AtomicUsize::new(0));
    source.on("/a", move |request| {
        let language = request.fields.get("Accept-Language").unwrap_or_default();
        let reply = if number.fetch_add(1, Ordering::SeqCst) < LANGUAGES.len() {
            Reply::ok(format!("kept {language}")).cache_control(STALE)
        } else {
            let body = vec![Step::Bytes(b"new ".to_vec()), Step::Wait(held.clone())];
            Reply::chunks([body, vec![Step::Bytes(language.into())]].concat()).cache_control("max-age=60")
        };
        reply.field("Vary", "Accept-Language")
    });
    let gateway = gateway_for(&source, "").await;
    let ask = |language: &str| gateway.send(Ask::get("/a").field("Accept-Language", language));
    for language in LANGUAGES {
        assert!(ask(language).await.says("stored"), "{language}");
    }
    let hits = join_all(LANGUAGES.repeat(20).into_iter().map(ask)).await;
    assert!(hits.iter().all(Answer::is_hit), "nobody waits");
    // Nobody asks again, and none has come to its end.
    source.wait_for("/a", 2 * LANGUAGES.len()).await;
    gate.open();
    eventually("all are new", async || counted(&gateway, "stale", "replaced").await == 5).await;
    for language in LANGUAGES {
        assert_eq!(ask(language).await.text(), format!("new {language}"));
    }
    assert_eq!(source.count("/a"), 2 * LANGUAGES.len(), "one validation of each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_4_a_failure_in_the_background_never_replaces() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "").await;
    let failures = [
        ("/500", Reply::new(500, "error")),
        ("/501", Reply::new(501, "error").cache_control("max-age=60")),
        ("/502", Reply::new(502, "error").cache_control("max-age=60")),
        ("/503", Reply::new(503, "error").cache_control("max-age=60")),
        ("/504", Reply::new(504, "error").cache_control("max-age=60").field("ETag", "\"b\"")),
        ("/cut", Reply::none(Step::Cut)),
        ("/reset", Reply::none(Step::Reset)),
    ];
    for (path, failure) in failures {
        source.sequence(path, vec![kept("kept"), failure]);
        gateway.get(path).await;
        let begun = Instant::now();
        validated(&gateway, path, "failed").await;
        for _ in 0..50 {
            let hit = gateway.get(path).await;
            assert!(hit.text() == "kept" && hit.is_hit(), "{path}: {hit:?}");
        }
        // A pooled connection that is cut may have been dead before: asked once more, once.
        let most = (2 + usize::try_from(begun.elapsed().as_secs()).unwrap()) * 2;
        let asked = source.count(path) - 1;
        assert!(asked <= most, "{path}: it rests between validations: {asked} of {most}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_3_what_the_source_has_instead_does() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "").await;
    for (path, instead, result, next) in [
        ("/new", new("new"), "replaced", (200, "new", true)),
        ("/gone", Reply::new(404, "gone").cache_control("max-age=60"), "replaced", (404, "gone", true)),
        (
            "/not-kept",
            Reply::new(404, "gone").cache_control("no-store"),
            "not-storable",
            (404, "gone", false),
        ),
        ("/private", Reply::ok("mine").cache_control("private"), "not-storable", (200, "mine", false)),
        ("/limited", Reply::new(429, "later"), "not-storable", (200, "kept", true)),
        ("/denied", Reply::new(403, "no").cache_control("no-store"), "not-storable", (200, "kept", true)),
    ] {
        source.sequence(path, vec![kept("kept"), instead]);
        gateway.get(path).await;
        validated(&gateway, path, result).await;
        let answer = gateway.get(path).await;
        assert_eq!((answer.status, answer.text().as_str(), answer.is_hit()), next, "{path}");
    }
}

/// However often it is purged: the windows run from the first time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_soft_purge_begins_no_window_anew() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "").await;
    let url = format!("http://{}/url", gateway.public);
    for (path, purge) in [("/url", json!({ "urls": [url] })), ("/prefix", json!({ "prefix": "/prefix" }))] {
        let stored = Reply::ok("stored").cache_control("max-age=600, stale-if-error=4");
        source.sequence(path, vec![stored, Reply::new(503, "busy")]);
        assert_eq!(gateway.get(path).await.text(), "stored");
        let mut soft = purge;
        soft["mode"] = json!("soft");
        let mut statuses = Vec::new();
        eventually("the window ends", async || {
            assert_eq!(gateway.admin_post("/v1/purge", &soft).await.status, 202);
            statuses.push(gateway.get(path).await.status);
            statuses.last() == Some(&503)
        })
        .await;
        assert_eq!(statuses.first(), Some(&200), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_run_from_the_soft_purge() {
    let source = ScriptedSource::start().await;
    let control = |windows: &str| Reply::ok("kept").cache_control(&format!("max-age=3600{windows}"));
    source.sequence("/swr", vec![control(", stale-while-revalidate=60"), new("new")]);
    source.sequence("/sie", vec![control(", stale-if-error=60"), Reply::new(503, "busy")]);
    source.sequence("/none", vec![control(""), Reply::new(503, "busy")]);
    let gateway = gateway_for(&source, "[route.cache]\nstale_if_error = \"0s\"\n").await;
    for path in ["/swr", "/sie", "/none"] {
        gateway.get(path).await;
    }
    assert_eq!(gateway.admin_post("/v1/purge", &json!({ "all": true, "mode": "soft" })).await.status, 202);
    let says = async |path: &str| -> Answer { gateway.get(path).await };
    assert!(says("/swr").await.says("detail=stale-while-revalidate"));
    eventually("it is validated", async || says("/swr").await.text() == "new").await;
    assert!(says("/sie").await.says("detail=stale-if-error"));
    assert_eq!(says("/none").await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_tier_is_looked_at_before_the_source() {
    let (source, redis) = (ScriptedSource::start().await, RedisServer::start().await);
    let text = format!("{}{}{EVERYTHING}", redis.table(), source.table());
    let (one, two) = (Setup::new(text.clone()).start().await, Setup::new(text).start().await);
    source.on("*", |_| new("warm"));
    one.uses_redis().await;
    two.uses_redis().await;
    let mut number = 0;
    eventually("all looks into Redis are in time", async || {
        number += 1;
        let path = format!("/a/{number}");
        source.sequence(&path, vec![kept("kept"), new("new")]);
        let late = async || one.late_looks().await + two.late_looks().await;
        let (before, found) = (late().await, counted(&one, "stale", "found").await);
        // Of one host: they share the key.
        let text_of =
            async |gateway: &Gateway| gateway.send(Ask::get(&path).field("Host", "shared.test")).await.text();
        text_of(&one).await;
        one.has_written().await;
        let from_there = text_of(&two).await;
        eventually("the second has validated it", async || text_of(&two).await == "new").await;
        two.has_written().await;
        let not_heard = text_of(&one).await;
        eventually("the first takes it", async || text_of(&one).await == "new").await;
        // On a machine that is busy with other things the source may have been asked instead.
        if late().await > before {
            return false;
        }
        assert_eq!(from_there, "kept", "the second has it from there");
        assert_eq!(not_heard, "kept", "the first has not heard of it");
        assert_eq!(source.count(&path), 2, "one gateway asked for both");
        assert_eq!(counted(&one, "stale", "found").await, found + 1);
        true
    })
    .await;
}

/// Fills `/hot` with what is fresh for some seconds more and took the source a while.
async fn fill_hot(source: &ScriptedSource, gateway: &Gateway, then: Reply) {
    let gate = Gate::closed();
    let soon = Reply::ok("old").cache_control("max-age=60").field("Age", "56").field("ETag", "\"a\"");
    source.sequence("/hot", vec![soon.after(Step::Wait(gate.clone())), then]);
    let slow = async {
        source.wait_for("/hot", 1).await;
        // What is measured is how long the source takes.
        tokio::time::sleep(Duration::from_millis(700)).await;
        gate.open();
    };
    let (filled, ()) = tokio::join!(gateway.get("/hot"), slow);
    assert!(filled.says("stored"), "{filled:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_response_is_validated_before_it_is_stale() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let gateway = gateway_for(&source, "").await;
    fill_hot(&source, &gateway, new("new").after(Step::Wait(gate.clone()))).await;
    while source.count("/hot") < 2 {
        let hit = gateway.get("/hot").await;
        assert!(hit.text() == "old" && hit.says("detail=memory"), "nobody waits, nothing is stale: {hit:?}");
    }
    assert_eq!(source.received("/hot")[1].fields.get("If-None-Match"), Some("\"a\""));
    let hits = join_all((0..50).map(|_| gateway.get("/hot"))).await;
    assert!(hits.iter().all(Answer::is_hit));
    assert_eq!(source.count("/hot"), 2, "one at a time");
    gate.open();
    eventually("it is new", async || gateway.get("/hot").await.text() == "new").await;
    assert_eq!(source.count("/hot"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_validated_early_where_the_source_is_busy() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("/other", Reply::ok("").cache_control("no-store").after(Step::Wait(gate.clone())));
    let text = format!("{}concurrency = 1\n{EVERYTHING}", source.table());
    let gateway = Setup::new(text).start().await;
    fill_hot(&source, &gateway, new("new")).await;
    let other = tokio::spawn(Ask::get("/other").send(gateway.public));
    source.wait_for("/other", 1).await;
    eventually("a hit would have had it validated", async || {
        join_all((0..20).map(|_| gateway.get("/hot"))).await;
        counted(&gateway, "early", "source-busy").await > 0
    })
    .await;
    assert_eq!(source.count("/hot"), 1);
    gate.open();
    assert!(other.await.expect("it is answered").is_ok());
}
