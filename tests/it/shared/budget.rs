//! One request waits for Redis as long as all that it asks of it may take together (I9).

use super::{asking, storable};
use crate::support::{
    Ask, EVERYTHING, Gate, Gateway, RedisServer, Relay, Reply, ScriptedSource, Setup, Step,
};
use crate::support::{answers_within, eventually};
use std::time::Duration;
use tokio::time::Instant;

/// What a request may wait for Redis in all, and what a busy machine adds.
const ANSWERED_WITHIN: Duration = Duration::from_millis(75 + 250);
/// How late each answer of the slow Redis is: in time for any single wait.
const LATE: Duration = Duration::from_millis(7);
/// Quotas of both stages, charged together.
const LIMITED: &str = "[[route]]\nname = \"limited\"\npath = \"/limited/{*rest}\"\nsource = \"inventory\"\n\
     [[route.limit]]\nname = \"edge\"\nscope = \"shared\"\nrequests = 100000\nper = \"1h\"\nkey = \"client\"\n\
     [[route.limit]]\nname = \"source\"\nscope = \"shared\"\nstage = \"source\"\nrequests = 100000\n\
     per = \"1h\"\nkey = \"route\"\n";

/// Two gateways that know of each other; answers of Redis reach the second by the relay.
async fn two(source: &ScriptedSource, redis: &RedisServer, relay: &Relay) -> (Gateway, Gateway) {
    let text = |shared: &str| format!("{}{LIMITED}{EVERYTHING}{shared}lease = \"15s\"\n", source.table());
    let near = Setup::new(text(&redis.table())).start().await;
    let far = Setup::new(text(&relay.table())).start().await;
    for gateway in [&near, &far] {
        gateway.uses_redis().await;
        eventually("both are known", async || gateway.metric("tidegate_purge_followers").await == 2).await;
        // The scripts of its quotas are known from here on.
        gateway.send(asking("/limited/first")).await;
    }
    (near, far)
}

fn german(path: &str) -> Ask {
    asking(path).field("Accept-Language", "de")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_quotas_a_variant_and_its_pieces_are_waited_for_within_one_budget() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let relay = Relay::to(&redis.address()).await;
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(512 << 10).collect();
    let large = Reply::ok(noise.clone()).cache_control("max-age=600").field("Vary", "Accept-Language");
    let paths: Vec<String> = (0..20).map(|number| format!("/limited/large/{number}")).collect();
    for path in &paths {
        source.always(path, large.clone());
    }
    let (near, far) = two(&source, &redis, &relay).await;
    for path in &paths {
        near.send(german(path)).await;
    }
    near.has_written().await;
    for late in [LATE, Duration::from_millis(18), Duration::from_millis(40)] {
        relay.slow(late);
        let (mut found, mut in_time, mut waits) = (0, 0, Vec::new());
        for path in &paths {
            let before = far.late_looks().await;
            let began = Instant::now();
            let answer = far.send(german(path)).await;
            waits.push(began.elapsed());
            assert!(answer.status == 200 && answer.body == noise, "{:?}", answer.fields);
            found += usize::from(answer.says("detail=shared"));
            in_time += usize::from(late == LATE && far.late_looks().await == before);
            if late == LATE && found > 0 {
                break;
            }
        }
        waits.sort();
        // A machine that is busy with other things may keep some waiting, but not half of them.
        assert!(waits[(waits.len() - 1) / 2] < ANSWERED_WITHIN, "{late:?}: {waits:?}");
        assert!(late != LATE || found > 0 || in_time == 0, "what is slow, but in time, is used");
    }
}

/// The other has the lease for long; to look at it again and again is to wait for Redis too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_looks_at_anothers_lease_are_waits_too() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let relay = Relay::to(&redis.address()).await;
    let gate = Gate::closed();
    let waits = gate.clone();
    let first = std::sync::atomic::AtomicBool::new(true);
    source.on("/limited/slow", move |_| {
        let reply = Reply::ok("x").cache_control("max-age=600");
        let is_first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        if is_first { reply.after(Step::Wait(waits.clone())) } else { reply }
    });
    let (near, far) = two(&source, &redis, &relay).await;
    relay.slow(LATE);
    let holder = near.public;
    let held = tokio::spawn(async move { asking("/limited/slow").send(holder).await });
    source.wait_for("/limited/slow", 1).await;
    let answered = answers_within(Duration::from_secs(10), async || {
        far.send(asking("/limited/slow")).await.status == 200
    })
    .await;
    assert!(answered && source.count("/limited/slow") == 2, "it has asked by itself\n{}", far.log_text());
    gate.open();
    assert!(held.await.expect("no panic").is_ok_and(|answer| answer.status == 200));
}
