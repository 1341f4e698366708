//! Purges among several gateways that share a Redis: who has applied them, how they survive outages.

use crate::support::{
    Answer, Ask, EVERYTHING, Gateway, RedisServer, Relay, Reply, ScriptedSource, Setup, eventually,
};
use ::redis::cmd;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A source whose every answer is another one, fresh for long, with the tag `t`.
pub(crate) async fn counting_source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    let count = AtomicUsize::new(0);
    source.on("*", move |_| {
        let body = count.fetch_add(1, Ordering::Relaxed).to_string();
        Reply::ok(body).cache_control("max-age=600").field("Cache-Tag", "t").field("ETag", "\"same\"")
    });
    source
}

pub(crate) fn setup(source: &ScriptedSource, shared: &str) -> Setup {
    Setup::new(format!("{}{EVERYTHING}{shared}", source.table()))
}

/// The authority is part of the key, and each gateway has a port of its own.
pub(crate) async fn get(gateway: &Gateway, path: &str) -> Answer {
    gateway.send(Ask::get(path).field("Host", "shop.example")).await
}

/// Purges, and once more where Redis was late for it: until the purge is everybody's. Its number.
async fn purged(gateway: &Gateway, order: &Value) -> u64 {
    let mut seq = 0;
    eventually("a purge reaches Redis", async || {
        let (number, scope) = purge(gateway, order).await;
        seq = number;
        scope == "shared"
    })
    .await;
    seq
}

async fn purge(gateway: &Gateway, order: &Value) -> (u64, String) {
    let answer = gateway.admin_post("/v1/purge", order).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let json = answer.json();
    (json["seq"].as_u64().unwrap(), json["scope"].as_str().unwrap().to_owned())
}

async fn status(gateway: &Gateway, seq: u64) -> Value {
    let answer = gateway.admin_get(&format!("/v1/purges/{seq}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// How many have applied a purge, and how many have not.
async fn counts(gateway: &Gateway, seq: u64) -> (usize, usize) {
    let status = status(gateway, seq).await;
    (status["applied"].as_array().unwrap().len(), status["pending"].as_array().unwrap().len())
}

/// Waits until each of them follows the log and knows of the others.
pub(crate) async fn acquainted(gateways: &[&Gateway]) {
    for gateway in gateways {
        gateway.uses_redis().await;
        eventually("it knows of the others", async || {
            gateway.metric("tidegate_purge_followers").await == gateways.len() as u64
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_applied_a_purge_is_told_and_how_late_they_were() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    let one = setup(&source, &redis.table()).start().await;
    let other = setup(&source, &redis.table()).start().await;
    acquainted(&[&one, &other]).await;
    for round in 0..20 {
        let order = if round % 2 == 0 { json!({"tags":["t"]}) } else { json!({"all":true,"mode":"soft"}) };
        let seq = purged(&one, &order).await;
        eventually("both have applied it", async || counts(&one, seq).await == (2, 0)).await;
        assert_eq!(status(&one, seq).await["scope"], "shared");
    }
    assert!(other.metric("tidegate_purge_lag_seconds_count").await >= 20);

    other.signal("STOP");
    let seq = purged(&one, &json!({"all":true})).await;
    assert_eq!(counts(&one, seq).await, (1, 1), "it sleeps");
    other.signal("CONT");
    eventually("it has caught up", async || counts(&one, seq).await == (2, 0)).await;

    assert!(other.terminate().await.status.success());
    let seq = purged(&one, &json!({"all":true})).await;
    eventually("who has left is not waited for", async || counts(&one, seq).await == (1, 0)).await;
    for unknown in ["/v1/purges/0", "/v1/purges/999999999", "/v1/purges/x"] {
        one.admin_get(unknown).await.assert_problem(404);
    }
}

/// A purge at one replica, of each kind and mode, in the memory of another and in what both share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_each_kind_of_purge_reaches_the_other_replica_and_nothing_else() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    let others = AtomicUsize::new(0);
    source.on("/other", move |_| {
        let body = others.fetch_add(1, Ordering::Relaxed).to_string();
        Reply::ok(body).cache_control("max-age=600")
    });
    let varied = AtomicUsize::new(0);
    source.on("/part/varied", move |_| {
        let body = varied.fetch_add(1, Ordering::Relaxed).to_string();
        Reply::ok(body).cache_control("max-age=600").field("Vary", "Accept-Language").field("Cache-Tag", "t")
    });
    let one = setup(&source, &redis.table()).start().await;
    let other = setup(&source, &redis.table()).start().await;
    acquainted(&[&one, &other]).await;
    let ask = async |gateway: &Gateway, language: &str| {
        let ask = Ask::get("/part/varied").field("Host", "shop.example");
        gateway.send(ask.field("Accept-Language", language)).await
    };
    for (order, spares) in [
        (json!({"urls":["http://shop.example/part/varied"]}), true),
        (json!({"tags":["t"]}), true),
        (json!({"prefix":"/part/"}), true),
        (json!({"prefix":"http://shop.example/part"}), true),
        (json!({"all":true}), false),
    ] {
        for mode in ["hard", "soft"] {
            let mut before = Vec::new();
            for language in ["de", "en"] {
                // Both have it in memory: the one that asked first, and the one that found it in Redis.
                ask(&one, language).await;
                one.has_written().await;
                before.push(ask(&other, language).await.text());
                assert!(ask(&other, language).await.is_hit(), "{order} {mode}");
            }
            let of_other = get(&other, "/other").await.text();
            assert!(get(&other, "/other").await.is_hit());
            let mut order = order.clone();
            order["mode"] = mode.into();
            let seq = purged(&one, &order).await;
            eventually("both have applied it", async || counts(&one, seq).await == (2, 0)).await;
            for (language, before) in ["de", "en"].iter().zip(before) {
                let answer = ask(&other, language).await;
                assert_ne!(answer.text(), before, "{order}: {answer:?}");
                // What is asked for often may be validated by now, where it was kept for that.
                assert!(!answer.is_hit() || mode == "soft", "{order}: {answer:?}");
            }
            let answer = get(&other, "/other").await;
            assert_eq!(answer.text() == of_other, spares, "{order}: {answer:?}");
            assert!(answer.is_hit() == spares || mode == "soft", "{order}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_shared_tier_a_purge_is_this_gateways_affair() {
    let source = counting_source().await;
    let gateway = setup(&source, "").start().await;
    let (seq, scope) = purge(&gateway, &json!({"all":true})).await;
    assert_eq!((scope.as_str(), counts(&gateway, seq).await), ("local", (1, 0)));
    gateway.admin_get(&format!("/v1/purges/{}", seq + 1)).await.assert_problem(404);
}

/// A gateway that is purged, or written through, cannot reach Redis, and dies; the others hear of it after its next
/// start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_purge_that_could_not_be_sent_is_sent_at_the_next_start() {
    for is_write in [false, true] {
        let (source, redis) = (counting_source().await, RedisServer::start().await);
        let relay = Relay::to(&redis.address()).await;
        let cut_off = setup(&source, &relay.table());
        let (one, other) = (cut_off.start().await, setup(&source, &redis.table()).start().await);
        acquainted(&[&one, &other]).await;
        let before = get(&other, "/a").await.text();
        assert!(get(&other, "/a").await.is_hit());
        relay.cut();
        eventually("Redis is lost", async || purge(&one, &json!({"tags":["none"]})).await.1 == "local").await;
        if is_write {
            let written = one.send(Ask::put("/a", "x").field("Host", "shop.example")).await;
            assert_eq!(written.status, 200, "{written:?}");
        } else {
            let (seq, scope) = purge(&one, &json!({"tags":["t"]})).await;
            assert_eq!((scope.as_str(), &status(&one, seq).await["scope"]), ("local", &json!("local")));
        }
        one.kill().await;
        assert!(get(&other, "/a").await.is_hit(), "it has not heard of it");

        relay.mend();
        let one = cut_off.start().await;
        eventually("the other has heard of it", async || get(&other, "/a").await.text() != before).await;
        // It is sent once: a further start has nothing to send.
        eventually("the file is empty", async || {
            std::fs::metadata(cut_off.data().join("purges-unsent")).is_ok_and(|file| file.len() == 0)
        })
        .await;
        assert!(one.terminate().await.status.success());
    }
}

/// It sleeps with its connection, so that it cannot know of the gap by having lost it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_log_that_was_trimmed_while_a_replica_slept_leaves_nothing_unvalidated() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    let one = setup(&source, &redis.table()).start().await;
    let other = setup(&source, &redis.table()).start().await;
    acquainted(&[&one, &other]).await;
    // The log has something that the sleeper knows.
    let seq = purged(&one, &json!({"tags":["none"]})).await;
    eventually("both have applied it", async || counts(&one, seq).await == (2, 0)).await;
    let before = get(&other, "/a").await.text();
    assert!(get(&other, "/a").await.is_hit());
    other.has_written().await;

    other.signal("STOP");
    purged(&one, &json!({"tags":["t"]})).await;
    redis.command::<u64>(cmd("XTRIM").arg(&["tidegate:purges", "MAXLEN", "0"])).await;
    purged(&one, &json!({"tags":["none"]})).await;
    other.signal("CONT");
    eventually("what it had is not served any more", async || get(&other, "/a").await.text() != before).await;
    // Nor is it by one that starts with the log as it is now.
    let third = setup(&source, &redis.table()).start().await;
    third.uses_redis().await;
    assert_ne!(get(&third, "/a").await.text(), before);
}

/// Redis is empty again, and nobody's connection was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_after_a_flush_what_is_in_memory_is_validated_once() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    let one = setup(&source, &redis.table()).start().await;
    let other = setup(&source, &redis.table()).start().await;
    acquainted(&[&one, &other]).await;
    get(&other, "/a").await;
    assert!(get(&other, "/a").await.is_hit());
    redis.command::<()>(&cmd("FLUSHALL")).await;
    eventually("it is validated", async || !get(&other, "/a").await.is_hit()).await;
    assert!(get(&other, "/a").await.is_hit(), "once");
    let seq = purged(&one, &json!({"tags":["t"]})).await;
    eventually("purges go on", async || counts(&one, seq).await == (2, 0)).await;
    assert!(!get(&other, "/a").await.is_hit());
}

/// Nobody has asked for it by then; what is asked for seldom stays stale.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_soft_purge_the_hottest_is_validated_before_it_is_asked_for() {
    let source = counting_source().await;
    let gateway = setup(&source, "").start().await;
    for _ in 0..400 {
        get(&gateway, "/hot").await;
    }
    let before = get(&gateway, "/hot").await.text();
    purge(&gateway, &json!({"tags":["t"],"mode":"soft"})).await;
    source.wait_for("/hot", 2).await;
    eventually("it is stored", async || {
        gateway.metric("tidegate_background_validations_total{cause=\"purged\",result=\"replaced\"}").await
            == 1
    })
    .await;
    let after = get(&gateway, "/hot").await;
    assert!(after.is_hit() && after.text() != before, "{after:?}");
    purge(&gateway, &json!({"tags":["t"]})).await;
    assert!(!get(&gateway, "/hot").await.is_hit(), "a hard one leaves nothing to validate");
}
