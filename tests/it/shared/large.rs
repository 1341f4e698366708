//! What is large lies in pieces, what is text is compressed, and everything expires.

use super::{asking, setup, storable};
use crate::support::{RedisServer, Reply, eventually};
use redis::cmd;

/// As large as a key's value may be: a piece and what is around it.
const VALUE_BYTES_MAX: usize = 130 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_lie_in_pieces_and_text_is_compressed() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(3 << 20).collect();
    let text = "the same words again and again, ".repeat(1 << 15);
    let fresh = |body: Vec<u8>| Reply::ok(body).cache_control("max-age=600");
    source.always("/noise", fresh(noise.clone()));
    source.always("/text", fresh(text.clone().into_bytes()).field("Content-Type", "text/plain"));
    let (one, other) =
        (setup(&source, &redis.table()).start().await, setup(&source, &redis.table()).start().await);
    one.uses_redis().await;
    other.uses_redis().await;
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
        // A machine that is busy with other things may overrun the budget of a read.
        eventually("another gateway's copy is used", async || {
            let hit = other.send(asking(path)).await;
            assert!(hit.body == body, "{path}: {} bytes", hit.body.len());
            hit.is_hit() && hit.says("detail=shared")
        })
        .await;
    }
    // One that lost a piece, or has another's, is a miss.
    let third = setup(&source, &redis.table()).start().await;
    third.uses_redis().await;
    let pieces = redis.names("tidegate:p:").await;
    eventually("a swapped piece is seen", async || {
        let _: bool = redis.command(cmd("COPY").arg(&pieces[0]).arg(&pieces[1]).arg("REPLACE")).await;
        let answer = third.send(asking("/noise")).await;
        assert!(answer.body == noise, "{:?}", answer.fields);
        third.metric("tidegate_tier_unreadable_total{reason=\"foreign\"}").await > 0
    })
    .await;
}
