//! Redis is as it was before: restored from an old dump, failed over to a replica that had not heard all, or without
//! the log that it has evicted.

use super::trust::{name_of, put, value};
use super::{HOST, asking, changing, purged, setup};
use crate::support::{Gateway, RedisServer, Relay, ScriptedSource, eventually};
use redis::cmd;
use serde_json::json;

/// Two that follow the log, and `/a` stored by the first as it was at first.
async fn two(source: &ScriptedSource, shared: &str) -> [Gateway; 2] {
    let gateways = [setup(source, shared).start().await, setup(source, shared).start().await];
    for gateway in &gateways {
        gateway.uses_redis().await;
        eventually("both are known", async || gateway.metric("tidegate_purge_followers").await == 2).await;
    }
    assert_eq!(gateways[0].send(asking("/a")).await.text(), "old");
    gateways[0].has_written().await;
    gateways
}

/// Purges `/a`; both have applied it.
async fn purge(gateways: &[Gateway; 2]) {
    let order = json!({ "urls": [format!("http://{HOST}/a")] });
    let seq = purged(&gateways[0], &order).await;
    eventually("both have applied it", async || {
        let status = gateways[0].admin_get(&format!("/v1/purges/{seq}")).await.json();
        status["applied"].as_array().is_some_and(|applied| applied.len() == 2)
    })
    .await;
}

/// What was purged does not come back, at these nor at one that starts now, and purges go on.
async fn assert_nothing_returns(gateways: &[Gateway; 2], newcomer: Gateway) {
    newcomer.uses_redis().await;
    for gateway in gateways {
        gateway.uses_redis().await;
    }
    for gateway in gateways.iter().chain([&newcomer]) {
        let answer = gateway.send(asking("/a")).await;
        assert_eq!(answer.text(), "new", "{answer:?}\n{}", gateway.log_text());
    }
    let before = newcomer.send(asking("/b")).await;
    assert_eq!(before.status, 200);
    let order = json!({ "urls": [format!("http://{HOST}/b")] });
    purged(&gateways[0], &order).await;
    eventually("the newcomer hears of it", async || !newcomer.send(asking("/b")).await.is_hit()).await;
}

/// I5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_restored_from_an_old_dump_redis_brings_nothing_back() {
    let (source, mut redis) = (changing().await, RedisServer::start().await);
    let gateways = two(&source, &redis.table()).await;
    gateways[0].admin_post("/v1/purge", &json!({ "tags": ["something"] })).await;
    redis.command::<()>(&cmd("SAVE")).await;
    purge(&gateways).await;
    redis.stop().await;
    redis.start_again().await;
    assert!(!redis.names("tidegate:c:").await.is_empty(), "it has read its dump");
    eventually("a new epoch begins", async || {
        gateways.iter().any(|gateway| gateway.log_text().contains("a new epoch begins"))
    })
    .await;
    assert_nothing_returns(&gateways, setup(&source, &redis.table()).start().await).await;
}

/// I5: the replica that takes over is cut off before the last purge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_failed_over_without_its_last_entries_redis_brings_nothing_back() {
    let (source, mut master) = (changing().await, RedisServer::start().await);
    let (replica, relay) = (RedisServer::start().await, Relay::to(&master.address()).await);
    let link = Relay::to(&master.address()).await;
    replica.command::<()>(cmd("REPLICAOF").arg("127.0.0.1").arg(link.port())).await;
    eventually("the replica follows", async || {
        let info: String = replica.command(cmd("INFO").arg("replication")).await;
        info.contains("master_link_status:up")
    })
    .await;
    let gateways = two(&source, &relay.table()).await;
    gateways[0].admin_post("/v1/purge", &json!({ "tags": ["something"] })).await;
    eventually("the replica has what is stored", async || {
        replica.names("tidegate:").await.len() == master.names("tidegate:").await.len()
    })
    .await;
    let length = async |server: &RedisServer| server.command::<u64>(cmd("XLEN").arg("tidegate:purges")).await;
    eventually("and the log", async || length(&replica).await == length(&master).await).await;
    link.cut();
    purge(&gateways).await;
    master.stop().await;
    replica.command::<()>(cmd("REPLICAOF").arg("NO").arg("ONE")).await;
    relay.lead_to(&replica.address());
    eventually("a new epoch begins", async || {
        gateways.iter().any(|gateway| gateway.log_text().contains("a new epoch begins"))
    })
    .await;
    assert_nothing_returns(&gateways, setup(&source, &relay.table()).start().await).await;
}

/// I5: the log is evicted, and nobody's connection is lost. Purges may go on at once, in a log that looks whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_log_that_was_evicted_is_missed_by_who_follows_it() {
    for goes_on in [false, true] {
        let (source, redis) = (changing().await, RedisServer::start().await);
        let gateways = two(&source, &redis.table()).await;
        let name = name_of(&redis, "tidegate", "old").await;
        let old = value(&redis, &name).await;
        purge(&gateways).await;
        for key in ["tidegate:checkpoint", "tidegate:purges"] {
            redis.command::<()>(cmd("DEL").arg(key)).await;
        }
        if goes_on {
            gateways[1].admin_post("/v1/purge", &json!({ "tags": ["something"] })).await;
        }
        eventually("a new epoch begins", async || {
            gateways.iter().any(|gateway| gateway.log_text().contains("a new epoch begins"))
        })
        .await;
        put(&redis, &name, &old).await;
        assert_nothing_returns(&gateways, setup(&source, &redis.table()).start().await).await;
    }
}
