//! Quotas of several gateways: two processes and a real Redis, which goes and comes back.

use crate::support::{Ask, Gateway, RedisServer, Reply, ScriptedSource, Setup, eventually};
use std::time::Duration;
use tokio::time::Instant;

/// What a request waits for Redis in all, and what a busy machine adds.
const ANSWERED_WITHIN: Duration = Duration::from_millis(75 + 2900);

struct Two {
    source: ScriptedSource,
    redis: RedisServer,
    gateways: [Gateway; 2],
}

impl Two {
    async fn start(limit: &str) -> Self {
        let source = ScriptedSource::start().await;
        source.always("*", Reply::ok("x").cache_control("max-age=600"));
        let redis = RedisServer::start().await;
        let rest = format!(
            "{}{}[[route]]\nname = \"limited\"\npath = \"/limited/{{*rest}}\"\nsource = \"inventory\"\n\
             [[route.limit]]\nname = \"few\"\nscope = \"shared\"\n{limit}\n\
             [[route]]\nname = \"free\"\npath = \"/{{*rest}}\"\nsource = \"inventory\"\n",
            redis.table(),
            source.table()
        );
        let start = || async { Setup::new(rest.clone()).start().await };
        let two = Self { source, redis, gateways: [start().await, start().await] };
        for gateway in &two.gateways {
            eventually("both are known", async || gateway.metric("tidegate_replicas").await == 2).await;
        }
        two
    }

    /// How many requests Redis has not answered in time, as it may on a busy machine: each is charged to the share
    /// too, and may be admitted by that alone.
    async fn late(&self) -> u64 {
        let mut shares = 0;
        for gateway in &self.gateways {
            shares += gateway.metric("tidegate_quota_local_share_total{").await;
        }
        shares
    }

    async fn was_in_time(&self) -> bool {
        self.late().await == 0
    }

    /// Waits until both have a connection again, which they have noticed to be lost.
    async fn use_redis_again(&self) {
        for gateway in &self.gateways {
            eventually("Redis is used again", async || {
                gateway.metric("tidegate_redis_breaker_state").await == 0
            })
            .await;
        }
    }

    /// How many of so many pass, asked at both in turn; every answer comes in time.
    async fn passed(&self, of: usize) -> usize {
        let mut passed = 0;
        for number in 0..of {
            let began = Instant::now();
            let answer = self.gateways[number % 2].get("/limited/a").await;
            assert!(began.elapsed() < ANSWERED_WITHIN, "{:?}", began.elapsed());
            assert!(matches!(answer.status, 200 | 429), "{answer:?}");
            assert_eq!(answer.field("RateLimit-Policy"), "\"few\";q=20;w=3600");
            passed += usize::from(answer.status == 200);
        }
        passed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_admit_together_what_one_would() {
    let two = Two::start("requests = 20\nper = \"1h\"\nkey = \"client\"").await;
    let mut told = Vec::new();
    for number in 0..20 {
        let answer = two.gateways[number % 2].get("/limited/a").await;
        told.push((
            answer.status,
            answer.field("RateLimit").split(";t=").next().unwrap_or_default().to_owned(),
        ));
    }
    if two.was_in_time().await {
        let expected: Vec<_> = (0..20).rev().map(|left| (200, format!("\"few\";r={left}"))).collect();
        assert_eq!(told, expected);
    }
    for gateway in &two.gateways {
        let mut denied = gateway.get("/limited/a").await;
        // Where Redis is late the share of the one is used up first.
        while denied.status == 200 && !two.was_in_time().await {
            denied = gateway.get("/limited/a").await;
        }
        denied.assert_problem(429);
        assert_eq!(denied.json()["violated-policies"][0], "few");
        let wait = denied.field("Retry-After").parse::<u64>().unwrap();
        assert!((170..=180).contains(&wait), "one of twenty an hour: {wait}");
        let limit = denied.field("RateLimit").to_owned();
        assert!(limit.starts_with("\"few\";r=0;t=1"), "{limit}");
    }
    for (key, _) in two.redis.everything().await {
        let key = String::from_utf8(key).unwrap();
        assert!(key.starts_with("tidegate:") && !key.contains("127.0.0.1"), "{key}");
    }
}

/// A gateway that was asked nothing yet explains with what the others have admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_used_up_is_explained() {
    let two = Two::start("requests = 5\nper = \"1h\"\nkey = \"client\"").await;
    let [asked, other] = &two.gateways;
    let url = format!("/v1/explain?url=http://{}/limited/a", other.public);
    let told = other.admin_get(&url).await.json();
    assert_eq!(told["quotas"][0]["remaining"], 5, "{told}");
    // On a busy machine Redis may be late, and then the share of the one decides.
    eventually("the limit is seen to be used up", async || {
        asked.get("/limited/a").await;
        other.admin_get(&url).await.json()["answer"]["status"] == 429
    })
    .await;
    assert_eq!(other.get("/limited/a").await.status, 429);
}

/// I9: shares while Redis is frozen, and one limit again when it is back, in which what was admitted counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_frozen_redis_delays_nobody_and_the_limit_holds_before_during_and_after() {
    let two = Two::start("requests = 20\nper = \"1h\"\nkey = \"client\"").await;
    assert_eq!(two.passed(8).await, 8);
    let before = usize::try_from(two.late().await).unwrap();
    two.redis.freeze();
    let least = if before == 0 { 10 } else { 0 };
    let meanwhile = two.passed(30).await;
    assert!((least..=12).contains(&meanwhile), "half of twelve for each: {meanwhile}");
    for gateway in &two.gateways {
        assert!(gateway.metric("tidegate_quota_local_share_total{route=\"limited\"}").await > 0);
    }
    two.redis.thaw();
    two.use_redis_again().await;
    let frozen = two.late().await;
    let after = two.passed(20).await;
    let late = before + usize::try_from(two.late().await - frozen).unwrap();
    assert!(8 + meanwhile + after <= 20 + late, "{meanwhile} and {after}, {late} late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_gives_nobody_the_limit_again() {
    let mut two = Two::start("requests = 20\nper = \"1h\"\nkey = \"client\"").await;
    assert_eq!(two.passed(12).await, 12);
    two.redis.stop().await;
    let meanwhile = two.passed(4).await;
    two.redis.start_again().await;
    two.use_redis_again().await;
    let after = two.passed(30).await;
    // What the one had not heard of the other's last request is forgotten.
    assert!((16..=21).contains(&(12 + meanwhile + after)), "{meanwhile} and {after}");
}

/// Whoever is counted where forwards are: Redis is not asked for a hit, and followers are not charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_quota_of_forwards_is_charged_for_forwards_alone() {
    let two = Two::start("requests = 20\nper = \"1h\"\nkey = \"route\"\nstage = \"source\"").await;
    assert_eq!(two.gateways[0].get("/limited/a").await.status, 200);
    let charged = if two.was_in_time().await { 1 } else { 2 };
    for _ in 0..30 {
        let hit = two.gateways[0].get("/limited/a").await;
        let left = format!("\"few\";r={};", 20 - charged);
        assert!(hit.is_hit() && hit.field("RateLimit").starts_with(&left), "{hit:?}");
    }
    let mut passed = 0_u64;
    for number in 0..30 {
        let path = format!("/limited/{number}");
        let ask = if number % 3 == 0 { Ask::put(&path, "x") } else { Ask::get(&path) };
        passed += u64::from(two.gateways[number % 2].send(ask).await.status == 200);
    }
    let late = two.late().await;
    assert!(passed <= 19 + late && (passed == 19 || late > 0), "{passed}, {late} late");
    for gateway in &two.gateways {
        gateway.get("/limited/other").await.assert_problem(429);
        gateway.put("/limited/other", "x").await.assert_problem(429);
    }
    assert_eq!(two.source.count("/limited/other"), 0);
    two.redis.freeze();
    assert!(two.gateways[0].get("/limited/a").await.is_hit());
}
