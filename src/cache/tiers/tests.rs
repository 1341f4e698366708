//! The cache against a real redis-server: what it serves while Redis comes, goes, freezes and forgets.

use super::shared::SharedFound;
use super::testing::{asking_for, key, response, settings, varying};
use crate::breaker::State;
use crate::cache::rules::ForwardReason;
use crate::cache::rules::reuse::{Failure, may_use_on_failure, retention};
use crate::cache::stored::{Reuse, Span};
use crate::cache::{Cache, CacheKey, Fence, Lookup, Purge, PurgeMode, PurgeScope, Settings, SharedSettings};
use crate::cache::{StoredResponse, Tier};
use crate::clock::{Clock, Timestamp};
use crate::in_flight::InFlight;
use crate::redis::testing::{RedisServer, eventually};
use crate::redis::{Patience, Redis};
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One gateway's cache and its handle to Redis.
struct Gateway {
    cache: Arc<Cache>,
    redis: Option<Arc<Redis>>,
    clock: Clock,
}

impl Gateway {
    fn memory_only(clock: &Clock) -> Self {
        let settings = Settings { memory_bytes: 1 << 20, memory_object_bytes: 1 << 16, shared: None };
        Self {
            cache: Cache::new(&settings, clock.clone(), None, &InFlight::new(u64::MAX)),
            redis: None,
            clock: clock.clone(),
        }
    }

    fn with_max_unverified(server: &RedisServer, max_unverified: Duration) -> Self {
        Self::with_clock(server, max_unverified, Clock::system())
    }

    fn with_clock(server: &RedisServer, max_unverified: Duration, clock: Clock) -> Self {
        let shared = SharedSettings { redis: server.endpoint(), max_unverified, ..settings() };
        let settings = Settings { memory_bytes: 1 << 24, memory_object_bytes: 1 << 16, shared: Some(shared) };
        let redis = Redis::open(&server.endpoint(), clock.clone()).unwrap();
        let cache = Cache::new(&settings, clock.clone(), Some(Arc::clone(&redis)), &InFlight::new(u64::MAX));
        Self { cache, redis: Some(redis), clock }
    }

    fn on(server: &RedisServer) -> Self {
        Self::with_max_unverified(server, Duration::from_secs(30))
    }

    /// One that is connected and has read the log.
    async fn ready(server: &RedisServer) -> Self {
        let gateway = Self::on(server);
        gateway.follows().await;
        gateway
    }

    async fn follows(&self) {
        eventually("the shared tier is asked", async || {
            self.stores_to_redis(&key("http://h/probe-of-the-test"), "probe").await
        })
        .await;
    }

    /// Stores, and tells whether the shared tier has it.
    async fn stores_to_redis(&self, key: &CacheKey, body: &str) -> bool {
        self.store(key, body);
        let shared = self.cache.shared_for_tests();
        for _ in 0..20 {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            if shared.has(key).await {
                return true;
            }
        }
        false
    }

    fn store(&self, key: &CacheKey, body: &str) {
        let mut stored = response(body, self.clock.now());
        stored.fence = self.cache.fence();
        self.cache.store(key, stored).expect("nothing was purged");
    }

    async fn lookup(&self, key: &CacheKey) -> Seen {
        Seen::of(&self.cache.lookup(key, &HeaderMap::new(), self.clock.now(), &Patience::of_request()).await)
    }

    fn connection(&self) -> &Redis {
        self.redis.as_ref().unwrap()
    }
}

/// What a test compares of a lookup.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Fresh(Tier, String),
    MustValidate(String),
    StaleUsable,
    Forward(ForwardReason),
}

impl Seen {
    fn of(lookup: &Lookup) -> Self {
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        match lookup {
            Lookup::Fresh(found) => Self::Fresh(found.tier, text(&found.stored.body)),
            Lookup::MustValidate(found, _) => Self::MustValidate(text(&found.stored.body)),
            Lookup::StaleUsable(_) => Self::StaleUsable,
            Lookup::Forward(reason) => Self::Forward(*reason),
        }
    }

    fn fresh(tier: Tier, body: &str) -> Self {
        Self::Fresh(tier, body.into())
    }
}

const URI_MISS: Seen = Seen::Forward(ForwardReason::UriMiss);

fn path(path: &str) -> Vec<Purge> {
    vec![Purge::Path { authority: "h".into(), path: path.into() }]
}

#[tokio::test]
async fn memory_alone_stores_selects_and_forgets() {
    let gateway = Gateway::memory_only(&Clock::manual(Timestamp::from_millis(1_000_000)));
    let (cache, key, now) = (&gateway.cache, key("http://h/a"), gateway.clock.now());
    assert_eq!(gateway.lookup(&key).await, URI_MISS);
    cache.store(&key, varying("de", "eins", now)).unwrap();
    assert_eq!(gateway.lookup(&key).await, Seen::Forward(ForwardReason::VaryMiss));
    let german = asking_for("de");
    assert_eq!(
        Seen::of(&cache.lookup(&key, &german, now, &Patience::of_request()).await),
        Seen::fresh(Tier::Memory, "eins")
    );
    let applied = cache.purge(path("/a"), PurgeMode::Hard).await;
    assert_eq!((applied.seq, applied.scope), (1, PurgeScope::Local));
    assert_eq!(Seen::of(&cache.lookup(&key, &german, now, &Patience::of_request()).await), URI_MISS);
}

#[tokio::test]
async fn i5_a_store_with_an_old_fence_is_refused_and_a_late_one_never_served() {
    let gateway = Gateway::memory_only(&Clock::manual(Timestamp::from_millis(1_000_000)));
    let (cache, key) = (&gateway.cache, key("http://h/a"));
    let fence = cache.fence();
    cache.purge(path("/a"), PurgeMode::Hard).await;
    let mut stored = response("old", gateway.clock.now());
    stored.fence = fence;
    assert!(cache.store(&key, stored.clone()).is_err());
    // As if the purge had come between the check and the insertion.
    cache.memory_for_tests().insert(&key, &Arc::new(stored), gateway.clock.now());
    assert_eq!(gateway.lookup(&key).await, URI_MISS);
    gateway.store(&key, "new");
    assert_eq!(gateway.lookup(&key).await, Seen::fresh(Tier::Memory, "new"));
}

#[tokio::test]
async fn a_soft_purge_ends_freshness_where_it_happened() {
    let gateway = Gateway::memory_only(&Clock::manual(Timestamp::from_millis(1_000_000)));
    let key = key("http://h/a");
    let mut stored = response("old", gateway.clock.now());
    stored.reuse = Reuse::WithStale {
        while_revalidate: Duration::from_secs(10).into(),
        if_error: Duration::from_secs(20).into(),
        on_disconnect: Span::ZERO,
        on_request: Span::ZERO,
    };
    gateway.cache.store(&key, stored).unwrap();
    gateway.clock.advance(Duration::from_secs(5));
    gateway.cache.purge(vec![Purge::All], PurgeMode::Soft).await;
    assert_eq!(gateway.lookup(&key).await, Seen::StaleUsable);
    gateway.clock.advance(Duration::from_millis(9_999));
    assert_eq!(gateway.lookup(&key).await, Seen::StaleUsable, "within ten seconds of the purge");
    gateway.clock.advance(Duration::from_millis(1));
    assert_eq!(gateway.lookup(&key).await, Seen::MustValidate("old".into()));
    let usable = || {
        let now = gateway.clock.now();
        let Lookup::MustValidate(found, _) = gateway.cache.lookup_memory(&key, &HeaderMap::new(), now) else {
            panic!("it is stale");
        };
        may_use_on_failure(&found.stored, now, Failure::NoGoodAnswer)
    };
    gateway.clock.advance(Duration::from_millis(9_999));
    assert!(usable(), "within twenty seconds of the purge");
    gateway.clock.advance(Duration::from_millis(1));
    assert!(!usable());
}

#[tokio::test]
async fn i9_starts_without_redis_and_uses_it_when_it_comes() {
    let mut server = RedisServer::reserved();
    let gateway = Gateway::on(&server);
    let key = key("http://h/a");
    gateway.store(&key, "before");
    assert_eq!(gateway.lookup(&key).await, Seen::fresh(Tier::Memory, "before"));
    assert_eq!(gateway.cache.purge(path("/b"), PurgeMode::Hard).await.scope, PurgeScope::Local);
    server.run().await;
    let waited = eventually("connected", async || gateway.connection().is_connected()).await;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    gateway.follows().await;
    assert_eq!(gateway.cache.purge(path("/b"), PurgeMode::Hard).await.scope, PurgeScope::Shared);
}

#[tokio::test]
async fn what_memory_serves_is_looked_for_again_after_a_minute() {
    let server = RedisServer::start().await;
    let (one, other) =
        (Gateway::ready(&server).await, Gateway::with_max_unverified(&server, Duration::from_hours(1)));
    other.follows().await;
    let key = key("http://h/a");
    let store = async |body: &str| {
        let stored = StoredResponse {
            fence: one.cache.fence(),
            freshness_lifetime: Duration::from_hours(1).into(),
            ..response(body, one.clock.now())
        };
        one.cache.store(&key, stored).unwrap();
        let shared = one.cache.shared_for_tests();
        eventually("it is written", async || {
            let found = shared.find(&key, &HeaderMap::new(), &Patience::of_request()).await;
            matches!(found, SharedFound::Response(found) if found.body == body)
        })
        .await;
    };
    store("old").await;
    assert_eq!(other.lookup(&key).await, Seen::fresh(Tier::Shared, "old"));
    store("new").await;
    let later = async |seconds| {
        let now = other.clock.now().plus(Duration::from_secs(seconds));
        Seen::of(&other.cache.lookup(&key, &HeaderMap::new(), now, &Patience::of_request()).await)
    };
    let old = Seen::fresh(Tier::Memory, "old");
    for seconds in [0, 30, 50] {
        assert_eq!(later(seconds).await, old, "{seconds}");
    }
    assert_eq!(later(61).await, old, "nobody waits for the look");
    eventually("the newer one is used", async || {
        other.lookup(&key).await == Seen::fresh(Tier::Memory, "new")
    })
    .await;
}

#[tokio::test]
async fn what_one_gateway_stores_another_promotes() {
    let server = RedisServer::start().await;
    let (one, other) = (Gateway::ready(&server).await, Gateway::ready(&server).await);
    let plain = key("http://h/plain");
    assert!(one.stores_to_redis(&plain, "body").await);
    assert_eq!(other.lookup(&plain).await, Seen::fresh(Tier::Shared, "body"));
    assert_eq!(other.lookup(&plain).await, Seen::fresh(Tier::Memory, "body"));

    let varied = key("http://h/varied");
    for (language, body) in [("de", "eins"), ("en", "one")] {
        let mut stored = varying(language, body, one.clock.now());
        stored.fence = one.cache.fence();
        one.cache.store(&varied, stored).unwrap();
    }
    for (language, seen) in [
        ("de", Seen::fresh(Tier::Shared, "eins")),
        ("en", Seen::fresh(Tier::Shared, "one")),
        ("fr", Seen::Forward(ForwardReason::VaryMiss)),
    ] {
        let request = asking_for(language);
        eventually(language, async || {
            let lookup =
                other.cache.lookup(&varied, &request, other.clock.now(), &Patience::of_request()).await;
            other.cache.memory_for_tests().remove(&varied);
            Seen::of(&lookup) == seen
        })
        .await;
    }
}

#[tokio::test]
async fn i5_a_purge_is_seen_by_the_other_gateway_and_after_a_restart() {
    let server = RedisServer::start().await;
    let (one, other) = (Gateway::ready(&server).await, Gateway::ready(&server).await);
    let key = key("http://h/a?q");
    assert!(one.stores_to_redis(&key, "old").await);
    let old_bytes: Vec<u8> =
        server.command(redis::cmd("GET").arg(one.cache.shared_for_tests().name(&key))).await;
    assert_eq!(other.lookup(&key).await, Seen::fresh(Tier::Shared, "old"));

    assert_eq!(one.cache.purge(path("/a"), PurgeMode::Hard).await.scope, PurgeScope::Shared);
    assert_eq!(one.lookup(&key).await, URI_MISS, "at once where it was purged");
    let waited = eventually("the other has forgotten", async || other.lookup(&key).await == URI_MISS).await;
    assert!(waited < Duration::from_secs(3), "{waited:?}");

    // Somebody puts the old value back.
    let name = one.cache.shared_for_tests().name(&key);
    let () = server.command(redis::cmd("SET").arg(&name).arg(&old_bytes)).await;
    assert_eq!(other.lookup(&key).await, URI_MISS);
    let restarted = Gateway::ready(&server).await;
    assert_eq!(restarted.lookup(&key).await, URI_MISS, "one that has just started reads the log first");

    assert!(one.stores_to_redis(&key, "new").await);
    eventually("what came after the purge is shared", async || {
        restarted.lookup(&key).await == Seen::fresh(Tier::Shared, "new")
    })
    .await;
}

#[tokio::test]
async fn i9_frozen_redis_costs_the_budget_until_the_breaker_opens() {
    let server = RedisServer::start().await;
    let gateway = Gateway::ready(&server).await;
    let hot = key("http://h/hot");
    gateway.store(&hot, "hot");
    server.signal("-STOP");
    // Half of them: a machine that is busy with other things keeps some waiting.
    let usual = async |lookups: Vec<String>| {
        let mut waits = Vec::new();
        for lookup in lookups {
            let start = Instant::now();
            assert_eq!(gateway.lookup(&key(&lookup)).await, URI_MISS);
            waits.push(start.elapsed());
        }
        waits.sort();
        assert!(waits[waits.len() - 1] < Duration::from_millis(1500), "{waits:?}");
        waits[waits.len() / 2]
    };
    let misses = |what: &str| (0..40).map(|number| format!("http://h/{what}/{number}")).collect();
    let waited = usual(misses("frozen")).await;
    assert!(waited < Duration::from_millis(75), "{waited:?}");
    assert!(!gateway.connection().is_connected());
    assert_ne!(gateway.connection().state(), State::Closed);
    let waited = usual(misses("open")).await;
    assert!(waited < Duration::from_millis(10), "nothing is waited for: {waited:?}");
    assert_eq!(gateway.lookup(&hot).await, Seen::fresh(Tier::Memory, "hot"));
    let start = Instant::now();
    assert_eq!(gateway.cache.purge(path("/x"), PurgeMode::Hard).await.scope, PurgeScope::Local);
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());

    server.signal("-CONT");
    let resumed = Instant::now();
    gateway.follows().await;
    assert!(resumed.elapsed() < Duration::from_secs(8), "{:?}", resumed.elapsed());
    // What could not be sent has been sent by now.
    let length: usize = server.command(redis::cmd("XLEN").arg("test:purges")).await;
    assert!(length >= 1);
}

#[tokio::test]
async fn corrupted_and_foreign_bytes_are_misses() {
    let server = RedisServer::start().await;
    let (one, other) = (Gateway::ready(&server).await, Gateway::ready(&server).await);
    let (a, b) = (key("http://h/a"), key("http://h/b"));
    assert!(one.stores_to_redis(&a, "body of a").await);
    let (name_a, name_b) = (one.cache.shared_for_tests().name(&a), one.cache.shared_for_tests().name(&b));
    let mut bytes: Vec<u8> = server.command(redis::cmd("GET").arg(&name_a)).await;
    let () = server.command(redis::cmd("SET").arg(&name_b).arg(&bytes)).await;
    assert_eq!(other.lookup(&b).await, URI_MISS, "another key's");
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    let () = server.command(redis::cmd("SET").arg(&name_a).arg(&bytes)).await;
    assert_eq!(other.lookup(&a).await, URI_MISS, "altered");
    let () = server.command(redis::cmd("DEL").arg(&name_a)).await;
    let () = server.command(redis::cmd("RPUSH").arg(&name_a).arg("a list")).await;
    assert_eq!(other.lookup(&a).await, URI_MISS, "of another type");
    assert_eq!(other.connection().state(), State::Closed);
}

#[tokio::test]
async fn what_is_older_than_it_is_ever_kept_is_a_miss() {
    let server = RedisServer::start().await;
    let clock = Clock::manual(Clock::system().now());
    let gateway = Gateway::with_clock(&server, Duration::from_hours(9), clock.clone());
    gateway.follows().await;
    let key = key("http://h/a");
    assert!(gateway.stores_to_redis(&key, "body").await);
    let kept = retention(&response("body", clock.now()));
    clock.advance(kept);
    assert!(gateway.cache.shared_for_tests().has(&key).await);
    // Redis has not dropped it: its own time has not gone on.
    clock.advance(Duration::from_secs(1));
    assert!(!gateway.cache.shared_for_tests().has(&key).await);
    let left: i64 = server.command(redis::cmd("PTTL").arg(gateway.cache.shared_for_tests().name(&key))).await;
    assert!(left > 0);
}

#[tokio::test]
async fn i5_after_a_flush_nothing_in_memory_is_reused_unvalidated() {
    let server = RedisServer::start().await;
    let gateway = Gateway::ready(&server).await;
    let key = key("http://h/a");
    gateway.store(&key, "body");
    assert_eq!(gateway.lookup(&key).await, Seen::fresh(Tier::Memory, "body"));
    let () = server.command(&redis::cmd("FLUSHALL")).await;
    let waited =
        eventually("validated", async || gateway.lookup(&key).await == Seen::MustValidate("body".into()))
            .await;
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    gateway.store(&key, "validated");
    assert_eq!(gateway.lookup(&key).await, Seen::fresh(Tier::Memory, "validated"), "once");
    gateway.follows().await;
}

#[tokio::test]
async fn i5_redis_restarted_empty_is_a_new_epoch_and_a_cut_is_bounded() {
    let mut server = RedisServer::start().await;
    let gateway = Gateway::with_max_unverified(&server, Duration::from_millis(500));
    gateway.follows().await;
    let key = key("http://h/a");
    gateway.store(&key, "body");
    server.kill();
    assert_eq!(gateway.lookup(&key).await, Seen::fresh(Tier::Memory, "body"), "for max_unverified");
    eventually("validated when cut off for too long", async || {
        gateway.lookup(&key).await == Seen::MustValidate("body".into())
    })
    .await;
    gateway.store(&key, "again");
    assert_eq!(gateway.lookup(&key).await, Seen::fresh(Tier::Memory, "again"), "validated just now");
    server.run().await;
    gateway.follows().await;
    assert_eq!(gateway.lookup(&key).await, Seen::MustValidate("again".into()), "a new epoch");
}

#[tokio::test]
async fn i5_a_purge_made_without_redis_reaches_the_others_when_it_is_back() {
    let server = RedisServer::start().await;
    let (one, other) = (Gateway::ready(&server).await, Gateway::ready(&server).await);
    let key = key("http://h/a");
    assert!(one.stores_to_redis(&key, "old").await);
    assert_eq!(other.lookup(&key).await, Seen::fresh(Tier::Shared, "old"));
    server.signal("-STOP");
    assert_eq!(one.cache.purge(path("/a"), PurgeMode::Hard).await.scope, PurgeScope::Local);
    assert_eq!(one.lookup(&key).await, URI_MISS);
    server.signal("-CONT");
    eventually("the other hears of it", async || other.lookup(&key).await == URI_MISS).await;
    assert_eq!(one.lookup(&key).await, URI_MISS);
}

#[tokio::test]
async fn i5_redis_back_with_an_older_log_is_a_new_epoch() {
    let server = RedisServer::start().await;
    let gateway = Gateway::ready(&server).await;
    assert_eq!(gateway.cache.purge(path("/b"), PurgeMode::Hard).await.scope, PurgeScope::Shared);
    let key = key("http://h/a");
    assert!(gateway.stores_to_redis(&key, "body").await, "the purge was read back");
    // As a failover to a replica that lags: the epoch's name is there, the last purge is not.
    let () = server.command(redis::cmd("DEL").arg("test:purges")).await;
    let _: i64 = server.command(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal")).await;
    eventually("validated", async || gateway.lookup(&key).await == Seen::MustValidate("body".into())).await;
    let other = Gateway::ready(&server).await;
    assert_eq!(other.lookup(&key).await, URI_MISS, "a value of the old epoch cannot be judged");
}

#[tokio::test]
async fn i9_a_full_redis_costs_nothing_but_its_own_part() {
    let server = RedisServer::start().await;
    let gateway = Gateway::ready(&server).await;
    let maxmemory = |bytes: &'static str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory").arg(bytes);
        command
    };
    let () = server.command(&maxmemory("1")).await;
    let key = key("http://h/a");
    gateway.store(&key, "body");
    assert_eq!(gateway.lookup(&key).await, Seen::fresh(Tier::Memory, "body"));
    assert_eq!(gateway.cache.purge(path("/b"), PurgeMode::Hard).await.scope, PurgeScope::Local);
    assert_eq!(gateway.lookup(&super::testing::key("http://h/b")).await, URI_MISS);
    assert_eq!(gateway.connection().state(), State::Closed, "it answers");
    let () = server.command(&maxmemory("0")).await;
    gateway.follows().await;
    assert_eq!(gateway.lookup(&key).await, Seen::fresh(Tier::Memory, "body"), "the log was never lost");
}

#[tokio::test]
async fn rfc9875_2_1_a_group_is_of_one_origin_on_every_gateway() {
    let server = RedisServer::start().await;
    let (one, other) = (Gateway::ready(&server).await, Gateway::ready(&server).await);
    let (of_the_origin, of_another) = (key("http://h/a"), key("http://other/a"));
    for key in [&of_the_origin, &of_another] {
        let tagged = StoredResponse {
            tags: vec!["g".into()].into(),
            fence: other.cache.fence(),
            ..response("grouped", other.clock.now())
        };
        other.cache.store(key, tagged).unwrap();
    }
    let group = Purge::Group { scheme: "http".into(), authority: "h".into(), group: "g".into() };
    one.cache.purge(vec![group], PurgeMode::Hard).await;
    eventually("the other has forgotten", async || other.lookup(&of_the_origin).await == URI_MISS).await;
    assert_eq!(other.lookup(&of_another).await, Seen::fresh(Tier::Memory, "grouped"));
    one.cache.purge(vec![Purge::Tag("g".into())], PurgeMode::Hard).await;
    eventually("an operator's purge is of every origin", async || {
        other.lookup(&of_another).await == URI_MISS
    })
    .await;
}

/// What a write keeps of its own answer carries the number of its own purge.
#[tokio::test]
async fn i5_an_answer_kept_behind_its_own_purge_goes_with_the_next_of_anybody() {
    let server = RedisServer::start().await;
    let (one, other) = (Gateway::ready(&server).await, Gateway::ready(&server).await);
    let key = key("http://h/a");
    assert!(other.stores_to_redis(&key, "old").await);
    let fence = one.cache.fence();
    let own = one.cache.purge(path("/a"), PurgeMode::Hard).await.seq;
    let late = StoredResponse { fence, ..response("of before", one.clock.now()) };
    assert!(one.cache.store(&key, late).is_err());
    let kept = StoredResponse { fence: Fence(own), ..response("kept", one.clock.now()) };
    one.cache.store(&key, kept).unwrap();
    assert_eq!(one.lookup(&key).await, Seen::fresh(Tier::Memory, "kept"));
    eventually("the other has forgotten", async || {
        other.lookup(&key).await != Seen::fresh(Tier::Memory, "old")
    })
    .await;
    other.cache.purge(path("/a"), PurgeMode::Hard).await;
    eventually("it goes with the other's purge", async || one.lookup(&key).await == URI_MISS).await;
    assert_eq!(other.lookup(&key).await, URI_MISS);
}
