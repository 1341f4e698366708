//! Hit-for-miss: the keys whose answers may not be stored. Nobody waits for somebody else's forward of
//! them. In memory only; a marker that is lost costs one wait.
//!
//! A marker is judged as a stored response is: it holds for [`MARKED_FOR`] (or up to [`RENEWED_AFTER`] less), unless something that its key
//! falls under, or may fall under by a tag, was purged since the forward that left it began. What is stored
//! removes it.

use super::{Cache, Standing};
use crate::cache::rules::{Exchange, NoStoreReason, storable};
use crate::cache::tiers::memory::unseen;
use crate::cache::{CacheKey, Fence};
use crate::clock::Timestamp;
use crate::telemetry::metrics;
use http::StatusCode;
use rapidhash::fast::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a key stays marked after the last answer that could not be stored.
const MARKED_FOR: Duration = Duration::from_mins(2);

/// A marker that has lost less than this is as good as new: it is not written for each forward.
const RENEWED_AFTER: Duration = Duration::from_secs(1);

/// The most keys that are marked; beyond them those that are asked for least are not.
const MARKERS_MAX: u64 = 100_000;

#[derive(Clone, Copy, Debug)]
struct Marker {
    until: Timestamp,
    fence: Fence,
    reason: NoStoreReason,
    status: StatusCode,
}

impl Marker {
    /// Whether it says what one until then would say.
    fn is_as_good(&self, until: Timestamp, reason: NoStoreReason, status: StatusCode) -> bool {
        (self.reason, self.status) == (reason, status) && until.since(self.until) < RENEWED_AFTER
    }
}

/// Why nobody waits for somebody else's forward of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Why the last answer could not be stored.
    pub reason: NoStoreReason,
    /// The status that it had.
    pub status: StatusCode,
    /// How long that still counts.
    pub left: Duration,
}

/// The markers. Their one owner is the cache.
#[derive(Debug)]
pub(super) struct Markers {
    keys: moka::sync::Cache<CacheKey, Marker, RandomState>,
    /// Whether there ever was one: until then nobody looks.
    any: AtomicBool,
}

impl Markers {
    pub(super) fn new() -> Self {
        let keys = moka::sync::Cache::builder().max_capacity(MARKERS_MAX).time_to_live(MARKED_FOR);
        Self { keys: keys.build_with_hasher(RandomState::new()), any: AtomicBool::new(false) }
    }

    fn get(&self, key: &CacheKey) -> Option<Marker> {
        if self.any.load(Ordering::Relaxed) { self.keys.get(key) } else { None }
    }

    fn insert(&self, key: &CacheKey, marker: Marker) {
        self.any.store(true, Ordering::Relaxed);
        self.keys.insert(key.clone(), marker);
    }

    pub(super) fn remove(&self, key: &CacheKey) {
        if self.any.load(Ordering::Relaxed) {
            self.keys.invalidate(key);
        }
    }

    pub(super) fn observe(&self) {
        self.keys.run_pending_tasks();
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        ::metrics::gauge!(metrics::MARKERS).set(self.keys.entry_count() as f64);
    }
}

impl Cache {
    /// Whether the answers for a key may not be stored, as far as is known.
    #[must_use]
    pub fn is_marked(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.markers.get(key).is_some_and(|marker| self.holds(key, marker, now))
    }

    /// As [`Cache::is_marked`], with the reason, and without a trace.
    pub async fn marked_unseen(self: &Arc<Self>, key: &CacheKey, now: Timestamp) -> Option<Marked> {
        let marker = unseen(&self.markers.keys, key).await?;
        let Marker { until, reason, status, .. } = marker;
        self.holds(key, marker, now).then(|| Marked { reason, status, left: until.since(now) })
    }

    fn holds(&self, key: &CacheKey, marker: Marker, now: Timestamp) -> bool {
        now < marker.until && self.standing(key, None, marker.fence) == Standing::Valid
    }

    /// Notes that an answer for a key could not be stored, where that tells of the next ones.
    pub fn mark(&self, key: &CacheKey, reason: NoStoreReason, status: StatusCode, exchange: &Exchange) {
        if !storable::leaves_marker(reason, status) {
            return;
        }
        let until = exchange.received_at.plus(MARKED_FOR);
        let before = self.markers.get(key).filter(|before| self.holds(key, *before, exchange.received_at));
        match before {
            None => ::metrics::counter!(metrics::MARKERS_MADE, "reason" => reason.as_str()).increment(1),
            Some(before) if before.is_as_good(until, reason, status) => return,
            Some(_) => {}
        }
        self.markers.insert(key, Marker { until, fence: exchange.fence, reason, status });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::{key, response};
    use crate::cache::{Purge, PurgeMode, Settings};
    use crate::clock::Clock;
    use crate::in_flight::InFlight;

    fn cache() -> (Arc<Cache>, Clock) {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        let settings = Settings { memory_bytes: 1 << 20, memory_object_bytes: 1 << 10, shared: None };
        (Cache::new(&settings, clock.clone(), None, &InFlight::new(u64::MAX)), clock)
    }

    fn mark(cache: &Cache, key: &CacheKey, reason: NoStoreReason, status: u16) {
        let now = cache.clock.now();
        let exchange = Exchange { requested_at: now, received_at: now, fence: cache.fence(), jitter: 0.0 };
        cache.mark(key, reason, StatusCode::from_u16(status).unwrap(), &exchange);
    }

    #[test]
    fn a_marker_holds_for_two_minutes_after_the_last_answer() {
        let ((cache, clock), key) = (cache(), key("http://h/a"));
        assert!(!cache.is_marked(&key, clock.now()));
        mark(&cache, &key, NoStoreReason::Private, 200);
        clock.advance(Duration::from_secs(100));
        mark(&cache, &key, NoStoreReason::Private, 200);
        clock.advance(Duration::from_millis(119_999));
        assert!(cache.is_marked(&key, clock.now()));
        clock.advance(Duration::from_millis(1));
        assert!(!cache.is_marked(&key, clock.now()));
    }

    #[test]
    fn what_leaves_a_marker() {
        use NoStoreReason::{
            Authorization, ClientNoStore, NoFreshness, NoStore, Private, SetCookie, TooLarge, VaryStar,
        };
        for (reason, status, marked) in [
            (Private, 200, true),
            (NoStore, 200, true),
            (NoStore, 404, true),
            (SetCookie, 302, true),
            (Authorization, 200, true),
            (VaryStar, 200, true),
            (NoFreshness, 200, true),
            (NoStoreReason::Status, 429, true),
            (NoFreshness, 500, false),
            (NoStore, 503, false),
            (NoStoreReason::Status, 504, false),
            (TooLarge, 200, false),
            (ClientNoStore, 200, false),
            (NoStoreReason::Status, 304, false),
            (NoFreshness, 412, false),
        ] {
            let ((cache, clock), key) = (cache(), key("http://h/a"));
            mark(&cache, &key, reason, status);
            assert_eq!(cache.is_marked(&key, clock.now()), marked, "{} {status}", reason.as_str());
        }
    }

    #[test]
    fn what_is_stored_removes_it() {
        let ((cache, clock), key) = (cache(), key("http://h/a"));
        mark(&cache, &key, NoStoreReason::Private, 200);
        cache.store(&key, response("body", clock.now())).unwrap();
        assert!(!cache.is_marked(&key, clock.now()));
    }

    #[tokio::test]
    async fn i5_a_purge_makes_it_void() {
        for mode in [PurgeMode::Hard, PurgeMode::Soft] {
            for purge in [
                Purge::Url { authority: "h".into(), path_and_query: "/a".into() },
                Purge::Path { authority: "h".into(), path: "/a".into() },
                Purge::Prefix { authority: None, path: "/".into() },
                Purge::Tag("t".into()),
                Purge::All,
            ] {
                let ((cache, clock), key) = (cache(), key("http://h/a"));
                mark(&cache, &key, NoStoreReason::Private, 200);
                cache.purge(vec![purge.clone()], mode).await;
                assert!(!cache.is_marked(&key, clock.now()), "{purge:?}");
                mark(&cache, &key, NoStoreReason::Private, 200);
                assert!(cache.is_marked(&key, clock.now()), "{purge:?}: what came after it counts");
            }
        }
    }

    #[test]
    fn i10_bounded_in_number() {
        let markers = Markers::new();
        let marker = Marker {
            until: Timestamp::from_millis(1),
            fence: Fence(0),
            reason: NoStoreReason::Private,
            status: StatusCode::OK,
        };
        for number in 0..MARKERS_MAX + 1_000 {
            markers.insert(&key(&format!("http://h/{number}")), marker);
        }
        markers.keys.run_pending_tasks();
        assert!((1..=MARKERS_MAX).contains(&markers.keys.entry_count()), "{}", markers.keys.entry_count());
    }
}
