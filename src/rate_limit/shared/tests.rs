//! Shared quotas against a real redis-server: what one gateway's parts do, and two of them together.

use super::*;
use crate::clock::Clock;
use crate::rate_limit::{QuotaKey, QuotaSettings};
use crate::redis::testing::{RedisServer, eventually};
use http::HeaderMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use tokio::time::Instant;

const NAMESPACE: &str = "n";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn quota(name: &str, requests: u32, per: Duration) -> QuotaSettings {
    let requests = NonZeroU32::new(requests).unwrap();
    QuotaSettings {
        name: name.to_owned(),
        requests,
        per,
        burst: requests,
        key: QuotaKey::Client,
        mode: Mode::Enforce,
        stage: Stage::Edge,
        scope: Scope::Shared,
    }
}

/// One gateway's view.
struct Gateway {
    quotas: Quotas,
    shared: Arc<SharedQuotas>,
    clock: Clock,
}

impl Gateway {
    async fn start(server: &RedisServer, settings: &[QuotaSettings]) -> Self {
        let clock = Clock::system();
        let redis = Redis::open(&server.endpoint(), clock.clone()).unwrap();
        eventually("connected", async || redis.is_connected()).await;
        let shared = SharedQuotas::start(redis, NAMESPACE, KeyedHash::of_namespace(NAMESPACE, None));
        let quotas = Quotas::new("items", settings).with_shared(Some(Arc::clone(&shared)));
        Self { quotas, shared, clock }
    }

    async fn ask(&self) -> Verdict {
        let fields = HeaderMap::new();
        let caller = Caller { address: CLIENT, fields: &fields, certificate: None, identity: None };
        let patience = Patience::of(Duration::from_millis(500));
        self.quotas.admit_shared(Stage::Edge, &caller, self.clock.now(), &patience).await
    }

    async fn passes(&self) -> bool {
        matches!(self.ask().await, Verdict::Admit(_))
    }

    /// How many of so many pass.
    async fn passed(&self, of: usize) -> usize {
        let mut passed = 0;
        for _ in 0..of {
            passed += usize::from(self.passes().await);
        }
        passed
    }

    async fn knows(&self, replicas: u32) {
        eventually("the gateways are counted", async || self.shared.replicas() == replicas).await;
    }
}

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_together_admit_the_burst_and_what_refills() {
    let server = RedisServer::start().await;
    let settings = [quota("few", 20, Duration::from_secs(2))];
    let (one, other) = (Gateway::start(&server, &settings).await, Gateway::start(&server, &settings).await);
    let began = Instant::now();
    let mut passed = Vec::new();
    while began.elapsed() < Duration::from_secs(3) {
        let asked = began.elapsed();
        let (first, second) = tokio::join!(one.passes(), other.passes());
        let answered = began.elapsed();
        passed.extend([first, second].into_iter().filter(|passes| *passes).map(|_| (asked, answered)));
    }
    assert!(passed.len() >= 20 + 25, "{} in three seconds", passed.len());
    for (index, (first, _)) in passed.iter().enumerate() {
        for (count, (_, last)) in passed[index..].iter().enumerate() {
            // Both were charged in between.
            let refilled = last.saturating_sub(*first).as_millis() / 100 + 1;
            assert!((count as u128) < 20 + refilled, "{count} from {first:?} to {last:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_charged_or_none_whoever_counts_them() {
    let server = RedisServer::start().await;
    let mut shadow = quota("shadow", 1, HOUR);
    shadow.mode = Mode::Shadow;
    let mut local = quota("local", 6, HOUR);
    local.scope = Scope::Local;
    let settings = [quota("wide", 10, HOUR), quota("narrow", 4, HOUR), shadow, local];
    let gateway = Gateway::start(&server, &settings).await;
    for left in (0..4).rev() {
        let Verdict::Admit(fields) = gateway.ask().await else { panic!("{left} left") };
        let limit = fields.limit().unwrap().to_str().unwrap().to_owned();
        let expected = [("wide", left + 6), ("narrow", left), ("local", left + 2)];
        for (name, remaining) in expected {
            assert!(limit.contains(&format!("\"{name}\";r={remaining};")), "{limit}");
        }
        assert!(!limit.contains("shadow"), "{limit}");
    }
    for _ in 0..5 {
        let Verdict::Deny(denied) = gateway.ask().await else { panic!("narrow is used up") };
        assert_eq!(denied.violated, [Arc::from("narrow")]);
        assert!(denied.retry_after > Duration::from_mins(14), "{:?}", denied.retry_after);
        let limit = denied.fields.limit().unwrap().to_str().unwrap().to_owned();
        assert!(
            limit.contains("\"wide\";r=6;") && limit.contains("\"local\";r=2;"),
            "charged nothing: {limit}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateways_own_quota_denies_is_not_charged_in_redis() {
    let server = RedisServer::start().await;
    let mut attempt = 0;
    // On a busy machine Redis may be late, and then charges that nobody hears of stand.
    eventually("ten less the two that passed and one are left", async || {
        attempt += 1;
        let mut local = quota("local", 2, HOUR);
        local.scope = Scope::Local;
        let settings = [quota(&format!("wide-{attempt}"), 10, HOUR), local];
        let one = Gateway::start(&server, &settings).await;
        let other = Gateway::start(&server, &settings).await;
        let together = futures_util::future::join_all((0..20).map(|_| one.ask())).await;
        let passed = together.iter().filter(|verdict| matches!(verdict, Verdict::Admit(_))).count();
        assert_eq!(passed, 2);
        let Verdict::Admit(fields) = other.ask().await else { return false };
        let left = format!("\"wide-{attempt}\";r=7;");
        fields.limit().unwrap().to_str().unwrap().starts_with(&left)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_keys_have_the_namespace_an_expiry_and_nothing_to_read() {
    let server = RedisServer::start().await;
    let mut by_key = quota("canary-limit", 5, HOUR);
    by_key.key = QuotaKey::Header(http::HeaderName::from_static("x-api-key"));
    let gateway = Gateway::start(&server, &[quota("few", 5, HOUR), by_key]).await;
    assert!(gateway.passes().await);
    let mut keys: Vec<String> = Vec::new();
    eventually("two buckets and who is there", async || {
        keys = server.command(redis::cmd("KEYS").arg("*")).await;
        keys.len() == 3
    })
    .await;
    for key in &keys {
        assert!(key.starts_with("n:q:"), "{key}");
        assert!(!["192.0.2.7", "canary", "few", "items"].iter().any(|text| key.contains(text)), "{key}");
        let expiry: i64 = server.command(redis::cmd("PTTL").arg(key)).await;
        assert!((1..=720_010).contains(&expiry), "{key}: {expiry} ms, and one of five refills in 720 s");
    }
    let slots: std::collections::HashSet<&str> =
        keys.iter().filter_map(|key| key.split_once('{')?.1.split_once('}')).map(|(slot, _)| slot).collect();
    assert_eq!(slots.len(), 1, "{keys:?}");
}

/// I9: nothing hangs, each admits its share, and what was admitted meanwhile counts afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_while_redis_is_frozen_each_gateway_admits_its_share() {
    let server = RedisServer::start().await;
    let settings = [quota("few", 20, HOUR)];
    let gateways = [Gateway::start(&server, &settings).await, Gateway::start(&server, &settings).await];
    for gateway in &gateways {
        gateway.knows(2).await;
    }
    assert_eq!(gateways[0].passed(4).await, 4);
    assert_eq!(gateways[1].passed(4).await, 4);
    server.signal("-STOP");
    let (first, second) = tokio::join!(gateways[0].passed(20), gateways[1].passed(20));
    // Of twelve that are left each has half; the first has not heard of the other's last four.
    assert!((6..=8).contains(&first) && second == 6, "{first} and {second}");
    server.signal("-CONT");
    for gateway in &gateways {
        eventually("Redis is used again", async || gateway.shared.redis.is_connected()).await;
        assert!(!gateway.passes().await, "all is used up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_has_lost_everything_is_told_what_is_used() {
    let mut server = RedisServer::start().await;
    let gateway = Gateway::start(&server, &[quota("few", 10, HOUR)]).await;
    assert_eq!(gateway.passed(8).await, 8);
    server.kill();
    server.run().await;
    let mut passed = 0;
    eventually("Redis is used again", async || {
        passed += gateway.passed(1).await;
        gateway.shared.redis.is_connected()
    })
    .await;
    assert_eq!(passed + gateway.passed(10).await, 2, "two were left, and each is used once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_of_redis_that_is_set_back_stops_no_refill() {
    let server = RedisServer::start().await;
    let gateway = Gateway::start(&server, &[quota("few", 10, Duration::from_secs(1))]).await;
    assert!(gateway.passes().await);
    let keys: Vec<String> = server.command(redis::cmd("KEYS").arg("n:q:{*")).await;
    // Used up, by a clock that is a day ahead.
    let ahead = format!("10000000 {}000", gateway.clock.now().plus(Duration::from_hours(24)).as_millis());
    server.command::<String>(redis::cmd("SET").arg(&keys[0]).arg(ahead).arg("PX").arg(100_000_000)).await;
    assert!(!gateway.passes().await);
    eventually("it refills", async || gateway.passes().await).await;
}
