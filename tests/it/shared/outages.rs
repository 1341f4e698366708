//! Redis goes in every way that it can: answers go on within the stated budget, and it is used again.

use super::{setup, storable};
use crate::support::redis::ask;
use crate::support::{EVERYTHING, Gateway, RedisServer, ScriptedSource, Setup, answers_within, eventually};
use redis::{Cmd, IntoConnectionInfo, cmd};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What a request may wait for Redis in all.
const BUDGET: Duration = Duration::from_millis(75);
/// What a machine that is busy with other things adds to half of the answers.
const SLACK: Duration = Duration::from_millis(250);
/// What it adds to the worst of them: whoever waits for Redis to come back waits longer.
const SLACK_MAX: Duration = Duration::from_millis(1250);
/// How soon it must be used again, and what a busy machine adds.
const BACK_WITHIN: Duration = Duration::from_secs(5 + 3);

fn command(parts: &[&str]) -> Cmd {
    let mut command = cmd(parts[0]);
    command.arg(&parts[1..]);
    command
}

/// Purges something else, and tells the scope.
async fn purge(gateway: &Gateway) -> String {
    let answer = gateway.admin_post("/v1/purge", &json!({ "tags": ["nobody"] })).await;
    assert_eq!(answer.status, 202);
    answer.json()["scope"].as_str().unwrap_or_default().to_owned()
}

/// Asks for new and stored responses; each must come, and in time.
async fn assert_goes_on(gateway: &Gateway, what: &str) {
    let mut waits = Vec::new();
    for number in 0..40 {
        for path in [format!("/{what}/{number}"), "/kept".to_owned()] {
            let start = Instant::now();
            let answer = gateway.get(&path).await;
            assert_eq!((answer.status, answer.text()), (200, path), "{what}");
            waits.push(start.elapsed());
        }
    }
    waits.sort();
    assert!(waits[waits.len() / 2] < BUDGET + SLACK, "{what}: {waits:?}");
    assert!(waits[waits.len() - 1] < BUDGET + SLACK_MAX, "{what}: {waits:?}");
}

/// A value is in Redis again, and so is a purge.
async fn assert_is_back(gateway: &Gateway, what: &str) {
    let start = Instant::now();
    let stored = gateway.metric("tidegate_stored_total{tier=\"shared\"}").await;
    let mut asked = 0;
    let is_back = answers_within(BACK_WITHIN, async || {
        asked += 1;
        gateway.get(&format!("/{what}/again/{asked}")).await;
        let is_used = gateway.metric("tidegate_stored_total{tier=\"shared\"}").await > stored;
        is_used && purge(gateway).await == "shared"
    })
    .await;
    assert!(is_back, "{what}: not used again within {:?}\n{}", start.elapsed(), gateway.log_text());
}

async fn using(source: &ScriptedSource, redis: &RedisServer) -> Gateway {
    let gateway = setup(source, &redis.table()).start().await;
    gateway.uses_redis().await;
    assert_eq!(gateway.get("/kept").await.status, 200);
    gateway
}

/// I9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_however_redis_goes_answers_go_on_and_it_is_used_again() {
    let source = storable().await;
    let redis = RedisServer::with(&["--enable-debug-command", "yes"]).await;
    let gateway = using(&source, &redis).await;
    // It answers the one who sends it to sleep when it wakes up, for whom that may be too late.
    let url = redis.url();
    let asleep = tokio::spawn(async move {
        let to = url.into_connection_info().expect("a URL");
        ask::<redis::Value>(to, &command(&["DEBUG", "SLEEP", "3"])).await
    });
    let mut asked = 0;
    eventually("it has fallen asleep", async || {
        asked += 1;
        assert_eq!(gateway.get(&format!("/falling/{asked}")).await.status, 200);
        gateway.metric("tidegate_redis_breaker_state").await == 2
    })
    .await;
    assert_goes_on(&gateway, "asleep").await;
    redis.answering().await;
    drop(asleep);
    assert_is_back(&gateway, "awake").await;
    let nobody = crate::support::redis::free_port().await.to_string();
    let rows = [
        ("paused", vec!["CLIENT", "PAUSE", "2000", "ALL"], vec![]),
        ("replica", vec!["REPLICAOF", "127.0.0.1", nobody.as_str()], vec!["REPLICAOF", "NO", "ONE"]),
        ("full", vec!["CONFIG", "SET", "maxmemory", "1"], vec!["CONFIG", "SET", "maxmemory", "0"]),
        ("flushed", vec!["FLUSHALL"], vec![]),
        ("cut", vec!["CLIENT", "KILL", "TYPE", "normal"], vec![]),
    ];
    for (what, go, come) in rows {
        let _: redis::Value = redis.command(&command(&go)).await;
        assert_goes_on(&gateway, what).await;
        if matches!(what, "replica" | "full") {
            assert_eq!(purge(&gateway).await, "local", "{what}");
            assert_goes_on(&gateway, what).await;
        }
        if !come.is_empty() {
            let _: redis::Value = redis.command(&command(&come)).await;
        }
        assert_is_back(&gateway, what).await;
    }
    let log = gateway.log_text();
    for told in ["is a read-only replica", "Redis is full"] {
        assert_eq!(log.matches(told).count(), 1, "{told}: {log}");
    }
}

/// I9: as a new process that reads its dump.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_while_redis_loads_nobody_waits_for_it() {
    let (source, mut redis) = (storable().await, RedisServer::start().await);
    let gateway = using(&source, &redis).await;
    // It looks at its connections once in so many bytes of the dump.
    let mut random = fastrand::Rng::with_seed(1);
    for number in 0..50 {
        let noise: String = std::iter::repeat_with(|| random.alphanumeric()).take(2000).collect();
        redis.command::<()>(cmd("SET").arg(format!("ballast:{number}")).arg(noise)).await;
    }
    redis.command::<()>(&cmd("SAVE")).await;
    redis.stop().await;
    assert_goes_on(&gateway, "stopped").await;
    // Each key takes it so many microseconds.
    redis.run_again(&["--key-load-delay", "60000", "--loading-process-events-interval-bytes", "1024"]);
    eventually("it is loading", async || {
        let pong: redis::RedisResult<String> = redis.try_command(&cmd("PING")).await;
        pong.is_err_and(|error| error.code() == Some("LOADING"))
    })
    .await;
    assert_goes_on(&gateway, "loading").await;
    assert_eq!(gateway.metric("tidegate_redis_breaker_state").await, 2);
    redis.answering().await;
    assert_is_back(&gateway, "loading").await;
}

/// What one who asks all the time has seen.
#[derive(Default)]
struct Seen {
    answers: usize,
    longest: Duration,
}

async fn ask_on(gateway: Arc<Gateway>, worker: usize, path: &'static str, over: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !over.load(Ordering::Relaxed) {
        seen.answers += 1;
        let path =
            if path == "/kept" { path.to_owned() } else { format!("{path}/{worker}/{}", seen.answers) };
        let start = Instant::now();
        let answer = gateway.get(&path).await;
        assert_eq!((answer.status, answer.text()), (200, path));
        seen.longest = seen.longest.max(start.elapsed());
    }
    seen
}

/// What half of so many rounds of a quota, a read and a purge take at most, each of which asks Redis.
async fn usual_round(gateway: &Gateway, what: &str) -> Duration {
    let mut waits = Vec::new();
    for number in 0..50 {
        let start = Instant::now();
        assert_eq!(gateway.get(&format!("/limited/{what}/{number}")).await.status, 200);
        assert_eq!(gateway.get(&format!("/{what}/{number}")).await.status, 200);
        purge(gateway).await;
        waits.push(start.elapsed());
    }
    waits.sort();
    waits[waits.len() / 2]
}

/// A shared quota that everybody keeps to, in front of `/limited/`.
const LIMITED: &str = "[[route]]\nname = \"limited\"\npath = \"/limited/{*rest}\"\nsource = \"inventory\"\n\
     [[route.limit]]\nname = \"many\"\nscope = \"shared\"\nrequests = 1000000\nper = \"1h\"\n";

/// I9: under load, with reads, writes of values, quotas and purges at once, there is one breaker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_frozen_redis_under_load_costs_its_budget_until_the_breaker_opens() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let text = format!("{}{LIMITED}{EVERYTHING}{}", source.table(), redis.table());
    let gateway = Arc::new(Setup::new(text).start().await);
    gateway.uses_redis().await;
    assert_eq!(gateway.get("/kept").await.status, 200);
    let over = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..8)
        .map(|worker| {
            let path = ["/kept", "/new", "/limited"][worker % 3];
            tokio::spawn(ask_on(Arc::clone(&gateway), worker, path, Arc::clone(&over)))
        })
        .collect();
    let usual = usual_round(&gateway, "usual").await;
    redis.freeze();
    let frozen = Instant::now();
    let purged = Instant::now();
    assert_eq!(purge(&gateway).await, "local");
    assert!(purged.elapsed() < BUDGET + SLACK_MAX, "{:?}", purged.elapsed());
    eventually("the breaker is open", async || gateway.metric("tidegate_redis_breaker_state").await == 2)
        .await;
    assert!(frozen.elapsed() < Duration::from_secs(1) + SLACK_MAX, "{:?}", frozen.elapsed());
    // From here on nothing is waited for: neither by reads nor by purges.
    let open = usual_round(&gateway, "open").await;
    assert!(open < usual * 2 + BUDGET / 2, "half of them took less than {open:?}, and {usual:?} before");
    assert_eq!(purge(&gateway).await, "local");
    let unasked = gateway.metric("tidegate_tier_lookups_total{tier=\"shared\",result=\"unavailable\"}").await;
    assert!(unasked >= 50, "{unasked}");
    let shares = gateway.metric("tidegate_quota_local_share_total{route=\"limited\"}").await;
    assert!(shares >= 50, "{shares}");
    redis.thaw();
    let thawed = Instant::now();
    assert_is_back(&gateway, "thawed").await;
    assert!(thawed.elapsed() < BACK_WITHIN, "{:?}", thawed.elapsed());
    over.store(true, Ordering::Relaxed);
    for asked in asking {
        let seen = asked.await.expect("every answer was right");
        assert!(seen.answers > 10, "{}", seen.answers);
        assert!(seen.longest < BUDGET + SLACK_MAX, "{:?}", seen.longest);
    }
}
