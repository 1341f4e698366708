//! With a secret the log of purges and leases are believed only where a gateway of the namespace has written
//! them; what somebody takes out of the log, or brings back, is noticed by who starts.

use super::{HOST, asking, changing, purged, setup, storable};
use crate::support::{Ask, EVERYTHING, Gate, Gateway, RedisServer, Reply, Setup, Step, eventually};
use redis::cmd;
use serde_json::json;

const SECRET: &str = "secret = \"a secret of the replicas\"\n";
const LOG: &str = "tidegate:purges";

async fn started(setup: &Setup) -> Gateway {
    let gateway = setup.start().await;
    gateway.uses_redis().await;
    gateway
}

async fn purge(gateway: &Gateway) {
    purged(gateway, &json!({ "urls": [format!("http://{HOST}/a")] })).await;
}

async fn ignored(gateway: &Gateway, reason: &str) -> u64 {
    gateway.metric(&format!("tidegate_tier_unreadable_total{{reason=\"{reason}\"}}")).await
}

/// Keys of Redis as they were, for whoever can write there.
struct Snapshot(Vec<(Vec<u8>, Vec<u8>)>);

impl Snapshot {
    /// Of everything but the lines of replicas, which they write anew each second.
    async fn of(redis: &RedisServer) -> Self {
        let all = redis.everything().await.into_iter();
        Self(all.filter(|(key, _)| !key.ends_with(b":replicas")).collect())
    }

    async fn bring_back(&self, redis: &RedisServer) {
        for (key, value) in &self.0 {
            redis.command::<()>(cmd("RESTORE").arg(key).arg(600_000).arg(&value[..]).arg("REPLACE")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_that_no_gateway_with_the_secret_has_made_are_ignored_and_counted() {
    let (source, redis) = (changing().await, RedisServer::start().await);
    let ours = setup(&source, &(redis.table() + SECRET));
    let (one, other) = (started(&ours).await, started(&setup(&source, &(redis.table() + SECRET))).await);
    let stranger = started(&setup(&source, &redis.table())).await;
    assert_eq!(one.send(asking("/a")).await.text(), "old");
    redis.command::<String>(cmd("XADD").arg(LOG).arg("*").arg("e").arg("forged")).await;
    stranger.admin_post("/v1/purge", &json!({ "all": true })).await;
    eventually("both are ignored", async || ignored(&one, "purge-entry").await == 2).await;
    let hit = one.send(asking("/a")).await;
    assert!(hit.is_hit() && hit.text() == "old", "{hit:?}");
    // What a gateway with the secret says still counts.
    purge(&other).await;
    eventually("it is forgotten", async || one.send(asking("/a")).await.text() == "new").await;
}

/// I5: the value of before the purge is back, and the purge is not in the log any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_who_starts_believes_no_log_that_others_have_read_otherwise() {
    for what in ["brought back", "entry taken out", "entry put elsewhere"] {
        let (source, redis) = (changing().await, RedisServer::start().await);
        let table = redis.table() + SECRET;
        let writer = started(&setup(&source, &table)).await;
        // The log has something from before.
        writer.admin_post("/v1/purge", &json!({ "tags": ["none"] })).await;
        assert_eq!(writer.send(asking("/a")).await.text(), "old");
        writer.has_written().await;
        let before = Snapshot::of(&redis).await;
        purge(&writer).await;
        let entries: Vec<(String, Vec<Vec<u8>>)> =
            redis.command(cmd("XRANGE").arg(LOG).arg("-").arg("+")).await;
        eventually("its line tells of the purge", async || {
            let lines: Vec<String> = redis.command(cmd("HVALS").arg("tidegate:replicas")).await;
            lines.iter().any(|line| line.contains(&entries.last().unwrap().0))
        })
        .await;
        before.bring_back(&redis).await;
        if what != "brought back" {
            redis.command::<()>(cmd("DEL").arg(LOG)).await;
            let kept = if what == "entry taken out" { &entries[..1] } else { &entries[..] };
            for (number, (_, fields)) in kept.iter().enumerate() {
                // The purge stands before what it purges.
                let id = format!("1-{}", number + 1);
                redis.command::<String>(cmd("XADD").arg(LOG).arg(id).arg(fields)).await;
            }
        }
        let newcomer = started(&setup(&source, &table)).await;
        let answer = newcomer.send(asking("/a")).await;
        assert_eq!(answer.text(), "new", "{what}: {answer:?}\n{}", newcomer.log_text());
        assert_eq!(ignored(&newcomer, "purge-log").await, 1, "{what}");
        // Those who are there go on, with each other and with it.
        purge(&writer).await;
        eventually("a purge reaches it", async || newcomer.send(asking("/a")).await.text() == "new").await;
    }
}

/// I5: nobody is there but the one who starts; it has noted how far it had read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_who_starts_again_notices_that_redis_was_taken_back_meanwhile() {
    let (source, redis) = (changing().await, RedisServer::start().await);
    let alone = setup(&source, &redis.table());
    let gateway = started(&alone).await;
    assert_eq!(gateway.send(asking("/a")).await.text(), "old");
    gateway.has_written().await;
    let before = Snapshot::of(&redis).await;
    purge(&gateway).await;
    let entries: Vec<(String, Vec<Vec<u8>>)> = redis.command(cmd("XRANGE").arg(LOG).arg("-").arg("+")).await;
    let purged = &entries.last().unwrap().0;
    eventually("it is noted", async || {
        std::fs::read_to_string(alone.data().join("purges-seen")).is_ok_and(|seen| seen.contains(purged))
    })
    .await;
    gateway.kill().await;
    redis.command::<()>(&cmd("FLUSHALL")).await;
    before.bring_back(&redis).await;
    let gateway = started(&alone).await;
    let answer = gateway.send(asking("/a")).await;
    assert_eq!(answer.text(), "new", "{answer:?}\n{}", gateway.log_text());
}

/// I5: an epoch that was left does not come back, whatever Redis says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_an_earlier_epoch_is_not_entered_again() {
    let (source, redis) = (changing().await, RedisServer::start().await);
    let gateway = started(&setup(&source, &redis.table())).await;
    assert_eq!(gateway.send(asking("/a")).await.text(), "old");
    gateway.has_written().await;
    let before = Snapshot::of(&redis).await;
    redis.command::<()>(&cmd("FLUSHALL")).await;
    let epoch = async || -> Option<String> { redis.command(cmd("GET").arg("tidegate:epoch")).await };
    eventually("a new epoch begins", async || epoch().await.is_some()).await;
    purge(&gateway).await;
    before.bring_back(&redis).await;
    eventually("it is left again", async || gateway.log_text().contains("as it was before")).await;
    gateway.uses_redis().await;
    let answer = gateway.send(asking("/a")).await;
    assert_eq!(answer.text(), "new", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_lease_keeps_nobody_waiting() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let text = format!("{}{EVERYTHING}{}{SECRET}lease = \"60s\"\n", source.table(), redis.table());
    let (one, other) = (Setup::new(text.clone()).start().await, Setup::new(text).start().await);
    for gateway in [&one, &other] {
        gateway.uses_redis().await;
        eventually("both are known", async || gateway.metric("tidegate_purge_followers").await == 2).await;
    }
    // A machine that is busy with other things may overrun the budget of a look: then nothing was believed.
    for attempt in 0..10 {
        let (path, gate) = (format!("/slow/{attempt}"), Gate::closed());
        let waits = gate.clone();
        source
            .on(&path, move |_| Reply::ok("x").cache_control("max-age=600").after(Step::Wait(waits.clone())));
        let ask = |gateway: &Gateway| {
            let (to, ask) = (gateway.public, Ask::get(&path).field("Host", HOST));
            tokio::spawn(async move { ask.send(to).await })
        };
        let first = ask(&one);
        source.wait_for(&path, 1).await;
        let second = ask(&other);
        eventually("the other fills", async || other.metric("tidegate_fills").await == 1).await;
        for lease in redis.names("tidegate:l:").await {
            redis.command::<()>(cmd("SET").arg(lease).arg("somebody").arg("EX").arg(60)).await;
        }
        source.wait_for(&path, 2).await;
        gate.open();
        for answer in [first, second] {
            assert!(answer.await.expect("no panic").is_ok_and(|answer| answer.status == 200));
        }
        if ignored(&other, "lease").await > 0 {
            return;
        }
    }
    panic!("no forged lease was looked at");
}
