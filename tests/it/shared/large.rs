//! What is large lies in pieces, what is text is compressed, and everything expires.

use super::{asking, setup, storable};
use crate::support::{Gate, RedisServer, Relay, Reply, Step, eventually};
use redis::cmd;
use std::time::Duration;
use tokio::time::Instant;

/// As large as a key's value may be: a piece and what is around it.
const VALUE_BYTES_MAX: usize = 130 * 1024;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pieces_of_a_body_that_was_replaced_go() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let bodies = [1, 2, 3].map(|seed| noise(seed, 1 << 20));
    let fresh = |body: &Vec<u8>| Reply::ok(body.clone()).cache_control("max-age=600").field("Cache-Tag", "t");
    source.sequence("/noise", bodies.iter().map(fresh).collect::<Vec<_>>());
    let gateway = setup(&source, &redis.table()).start().await;
    gateway.uses_redis().await;
    for body in &bodies {
        assert!(gateway.send(asking("/noise")).await.body == *body);
        gateway.has_written().await;
        gateway.admin_post("/v1/purge", &serde_json::json!({ "tags": ["t"] })).await;
    }
    eventually("only the last one's are left", async || redis.names("tidegate:p:").await.len() == 8).await;
    let third = setup(&source, &redis.table()).start().await;
    third.uses_redis().await;
    assert_eq!(redis.names("tidegate:p:").await.len(), 8);
}

/// What takes longer than it is worth is given up, and nobody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_write_that_is_late_is_dropped_and_counted() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let relay = Relay::to(&redis.address()).await;
    let (gate, large) = (Gate::closed(), noise(1, 6 << 20));
    let reply = Reply::ok(large.clone()).cache_control("max-age=600").after(Step::Wait(gate.clone()));
    source.always("/large", reply);
    let gateway = setup(&source, &relay.table()).start().await;
    gateway.uses_redis().await;
    gateway.has_written().await;
    let to = gateway.public;
    let asked = tokio::spawn(async move { asking("/large").send(to).await });
    source.wait_for("/large", 1).await;
    // 48 pieces, one after the other.
    relay.slow(Duration::from_millis(150));
    gate.open();
    let (answer, begun_at) = (asked.await.expect("no panic").expect("an answer"), Instant::now());
    assert!(answer.body == large);
    assert_eq!(
        gateway.metric("tidegate_tier_dropped_total").await,
        0,
        "it is answered before that is written"
    );
    eventually("it is dropped", async || {
        gateway.metric("tidegate_tier_dropped_total{reason=\"late\"}").await == 1
    })
    .await;
    assert!(begun_at.elapsed() < Duration::from_secs(15), "{:?}", begun_at.elapsed());
    relay.slow(Duration::ZERO);
    let stored = gateway.metric("tidegate_stored_total{tier=\"shared\"}").await;
    let mut asked = 0;
    eventually("others are written", async || {
        asked += 1;
        gateway.get(&format!("/after/{asked}")).await;
        gateway.metric("tidegate_stored_total{tier=\"shared\"}").await > stored
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_lie_in_pieces_and_text_is_compressed() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let noise = noise(1, 3 << 20);
    let text = "the same words again and again, ".repeat(1 << 15);
    let fresh = |body: Vec<u8>| Reply::ok(body).cache_control("max-age=600");
    source.always("/noise", fresh(noise.clone()));
    source.always("/text", fresh(text.clone().into_bytes()).field("Content-Type", "text/plain"));
    let one = setup(&source, &redis.table()).start().await;
    one.uses_redis().await;
    one.has_written().await;
    let before = redis.keys().await;
    one.send(asking("/text")).await;
    one.has_written().await;
    assert_eq!(redis.keys().await, before + 1, "1 MiB of text needs no piece");
    one.send(asking("/noise")).await;
    one.has_written().await;
    assert_eq!(redis.names("tidegate:p:").await.len(), 24, "3 MiB in pieces of 128 KiB");
    for name in redis.names("tidegate:").await {
        let kind: String = redis.command(cmd("TYPE").arg(&name)).await;
        if kind == "string" {
            let length: usize = redis.command(cmd("STRLEN").arg(&name)).await;
            assert!(length <= VALUE_BYTES_MAX, "{name} has {length} bytes");
        }
        let left: i64 = redis.command(cmd("PTTL").arg(&name)).await;
        assert!(left > 0, "{name} does not expire");
    }
    for (path, body) in [("/noise", &noise[..]), ("/text", text.as_bytes())] {
        // A machine that is busy with other things may overrun the budget of a read, which has it in memory then.
        eventually("another gateway's copy is used", async || {
            let other = setup(&source, &redis.table()).start().await;
            other.uses_redis().await;
            let hit = other.send(asking(path)).await;
            assert!(hit.body == body, "{path}: {} bytes", hit.body.len());
            hit.is_hit() && hit.says("detail=shared")
        })
        .await;
    }
    // One that lost a piece, or has another's, is a miss.
    let pieces = redis.names("tidegate:p:").await;
    eventually("a swapped piece is seen", async || {
        let third = setup(&source, &redis.table()).start().await;
        third.uses_redis().await;
        let _: bool = redis.command(cmd("COPY").arg(&pieces[0]).arg(&pieces[1]).arg("REPLACE")).await;
        let answer = third.send(asking("/noise")).await;
        assert!(answer.body == noise, "{:?}", answer.fields);
        third.metric("tidegate_tier_unreadable_total{reason=\"foreign\"}").await > 0
    })
    .await;
}
