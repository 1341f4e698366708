//! Hit-for-miss: the keys whose answers may not be stored. Nobody waits for somebody else's forward of
//! them. In memory only; a marker that is lost costs one wait, and one that two keys share one forward: they are
//! kept by the hash of their key alone.
//!
//! A marker is judged as a stored response is: it holds for [`MARKED_FOR`] (or up to [`RENEWED_AFTER`] less), unless something that its key
//! falls under, or may fall under by a tag, was purged since the forward that left it began. What is stored
//! removes it.

use super::{Cache, Standing};
use crate::cache::rules::{Exchange, NoStoreReason, storable};
use crate::cache::{CacheKey, Fence};
use crate::clock::Timestamp;
use crate::telemetry::metrics;
use http::StatusCode;
use rapidhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a key stays marked after the last answer that could not be stored.
const MARKED_FOR: Duration = Duration::from_mins(2);

/// A marker that has lost less than this is as good as new: it is not written for each forward.
const RENEWED_AFTER: Duration = Duration::from_secs(1);

/// The most keys that are marked; beyond them those that were asked for longest ago are not.
const MARKERS_MAX: usize = 100_000;

/// Parts of the table, each with a lock of its own that is held for one look, or a walk through a full part.
const SHARDS: usize = 256;

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
pub(super) struct Markers([Mutex<Shard>; SHARDS]);

type Shard = HashMap<u64, Marker, RandomState>;

impl Markers {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    fn get(&self, key: &CacheKey) -> Option<Marker> {
        self.shard(key)?.get(&key.hash()).copied()
    }

    fn insert(&self, key: &CacheKey, marker: Marker, now: Timestamp) {
        let Some(mut shard) = self.shard(key) else { return };
        if shard.len() >= MARKERS_MAX / SHARDS && !shard.contains_key(&key.hash()) {
            shard.retain(|_, marker| now < marker.until);
            if shard.len() >= MARKERS_MAX / SHARDS {
                let oldest = shard.iter().min_by_key(|(_, marker)| marker.until).map(|(key, _)| *key);
                oldest.map(|oldest| shard.remove(&oldest));
            }
        }
        shard.insert(key.hash(), marker);
    }

    pub(super) fn remove(&self, key: &CacheKey) {
        if let Some(mut shard) = self.shard(key) {
            shard.remove(&key.hash());
        }
    }

    /// Lets go of those that have lapsed, and tells how many there are.
    pub(super) fn observe(&self, now: Timestamp) {
        let left = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, marker| now < marker.until);
            shard.len()
        };
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        ::metrics::gauge!(metrics::MARKERS).set(self.0.iter().map(left).sum::<usize>() as f64);
    }

    fn shard(&self, key: &CacheKey) -> Option<MutexGuard<'_, Shard>> {
        let number = usize::try_from(key.hash() % SHARDS as u64).ok()?;
        Some(self.0.get(number)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Cache {
    /// Whether the answers for a key may not be stored, as far as is known.
    #[must_use]
    pub fn is_marked(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.markers.get(key).is_some_and(|marker| self.holds(key, marker, now))
    }

    /// As [`Cache::is_marked`], with the reason.
    #[must_use]
    pub fn marked(&self, key: &CacheKey, now: Timestamp) -> Option<Marked> {
        let marker = self.markers.get(key).filter(|marker| self.holds(key, *marker, now))?;
        let Marker { until, reason, status, .. } = marker;
        Some(Marked { reason, status, left: until.since(now) })
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
        let marker = Marker { until, fence: exchange.fence, reason, status };
        self.markers.insert(key, marker, exchange.received_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::{key, response};
    use crate::cache::{Purge, PurgeMode, Settings};
    use crate::clock::Clock;
    use crate::in_flight::InFlight;
    use std::sync::Arc;

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
    fn i10_beyond_the_bound_those_asked_for_longest_ago_go() {
        let markers = Markers::new();
        let at = |millis: usize| Timestamp::from_millis(millis as u64);
        let mark = |number: usize, now: Timestamp| {
            let (reason, status) = (NoStoreReason::Private, StatusCode::OK);
            let marker = Marker { until: now.plus(MARKED_FOR), fence: Fence(0), reason, status };
            markers.insert(&key(&format!("http://h/{number}")), marker, now);
        };
        let is_there = |number: usize| markers.get(&key(&format!("http://h/{number}"))).is_some();
        let count = || markers.0.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>();
        for number in 0..MARKERS_MAX + MARKERS_MAX / 4 {
            mark(number, at(number));
        }
        assert!((MARKERS_MAX * 9 / 10..=MARKERS_MAX).contains(&count()), "{}", count());
        assert!((MARKERS_MAX / 2..MARKERS_MAX / 2 + 100).all(is_there));
        assert!((0..1_000).filter(|number| is_there(*number)).count() < 100);
        // What has lapsed goes first, all at once.
        let later = at(2 * MARKERS_MAX).plus(MARKED_FOR);
        for number in 0..SHARDS * 100 {
            mark(MARKERS_MAX * 2 + number, later);
        }
        assert!(count() <= SHARDS * 200, "{}", count());
        markers.observe(later.plus(MARKED_FOR));
        assert_eq!(count(), 0);
    }
}
