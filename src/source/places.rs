//! Places toward a source: one bound for all causes of load on it, and a queue in order of arrival. What
//! nobody waits for never stands in it.

use super::error::SourceError;
use super::limit::{Limit, Sample};
use super::settings::ConcurrencyMode;
use crate::telemetry::metrics as names;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The most that wait for a place toward one source; beyond it requests are told at once (I10).
const QUEUE_MAX: usize = 4096;

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody does: a place is waited for.
    Awaited,
    /// Nobody does: it is sent where a place is free at once, and nobody waits for one.
    Spare,
}

/// The places toward one source.
#[derive(Debug)]
pub(super) struct Places {
    held: Arc<Held>,
    waiting: AtomicUsize,
    waiting_now: metrics::Gauge,
    /// Moves the number of places, where it is not fixed.
    limit: Mutex<Option<Limit>>,
    limit_now: metrics::Gauge,
}

/// What places have in common.
#[derive(Debug)]
struct Held {
    permits: Arc<Semaphore>,
    /// How many places there are.
    places: AtomicUsize,
    /// So many more are still taken: they go when they are given back.
    surplus: AtomicUsize,
    in_flight: metrics::Gauge,
}

impl Places {
    pub(super) fn new(source: &str, concurrency: usize, mode: ConcurrencyMode) -> Self {
        let limit = match mode {
            ConcurrencyMode::Fixed => None,
            ConcurrencyMode::Adaptive => Some(Limit::new(concurrency, Instant::now())),
        };
        let places = limit.as_ref().map_or(concurrency, Limit::in_force);
        let limit_now = metrics::gauge!(names::SOURCE_CONCURRENCY, "source" => source.to_owned());
        limit_now.set(gauged(places));
        Self {
            held: Arc::new(Held {
                permits: Arc::new(Semaphore::new(places)),
                places: AtomicUsize::new(places),
                surplus: AtomicUsize::new(0),
                in_flight: metrics::gauge!(names::SOURCE_IN_FLIGHT, "source" => source.to_owned()),
            }),
            waiting: AtomicUsize::new(0),
            waiting_now: metrics::gauge!(names::SOURCE_WAITING, "source" => source.to_owned()),
            limit: Mutex::new(limit),
            limit_now,
        }
    }

    /// How many places are taken.
    pub(super) fn active(&self) -> usize {
        let all = self.held.places.load(Ordering::Relaxed) + self.held.surplus.load(Ordering::Relaxed);
        all.saturating_sub(self.held.permits.available_permits())
    }

    /// How many requests wait for a place.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many places there are.
    pub(super) fn in_force(&self) -> usize {
        self.held.places.load(Ordering::Relaxed)
    }

    /// Whether a place is free, and nobody waits for one.
    pub(super) fn has_spare(&self) -> bool {
        self.held.permits.available_permits() > 0
    }

    /// How many per cent of the places are taken.
    pub(super) fn load_percent(&self) -> usize {
        self.active().saturating_mul(100) / self.held.places.load(Ordering::Relaxed).max(1)
    }

    /// A place, before the deadline; who came first has it first.
    ///
    /// # Errors
    /// [`SourceError::Busy`]
    pub(super) async fn take(&self, deadline: Instant) -> Result<Place, SourceError> {
        // Nobody is overtaken here.
        if let Ok(place) = self.take_spare() {
            return Ok(place);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(SourceError::Busy);
        }
        self.waiting_now.increment(1.0);
        let _waiting = Waiting(self);
        let permit = tokio::time::timeout_at(deadline, Arc::clone(&self.held.permits).acquire_owned());
        match permit.await {
            Ok(Ok(permit)) => {
                let place = self.taken(permit);
                // One that comes at the last moment leaves the source no time to answer.
                if Instant::now() < deadline { Ok(place) } else { Err(SourceError::Busy) }
            }
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(SourceError::Busy),
        }
    }

    /// A place that is free now; while anybody waits for one there is none.
    ///
    /// # Errors
    /// [`SourceError::Yielded`]
    pub(super) fn take_spare(&self) -> Result<Place, SourceError> {
        // A permit is free only while nobody waits: one that is given back is handed to who waits longest.
        let permit = Arc::clone(&self.held.permits).try_acquire_owned();
        permit.map(|permit| self.taken(permit)).map_err(|_| SourceError::Yielded)
    }

    fn taken(&self, permit: OwnedSemaphorePermit) -> Place {
        self.held.in_flight.increment(1.0);
        Place { permit: Some(permit), held: Arc::clone(&self.held) }
    }

    /// Another bound, or another way to come to it. Places that are taken stay so.
    pub(super) fn resize(&self, concurrency: usize, mode: ConcurrencyMode) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        *limit = match (mode, limit.take()) {
            (ConcurrencyMode::Fixed, _) => None,
            (ConcurrencyMode::Adaptive, Some(limit)) => Some(limit.below(concurrency)),
            (ConcurrencyMode::Adaptive, None) => Some(Limit::new(concurrency, Instant::now())),
        };
        let places = limit.as_ref().map_or(concurrency, Limit::in_force);
        self.held.set(places);
        self.limit_now.set(gauged(places));
    }

    /// Its gauge says nothing any more.
    pub(super) fn retire(&self) {
        self.limit_now.set(0.0);
    }

    /// Takes in what a request told of how many the source can take at once.
    pub(super) fn learn(&self, sample: Sample, now: Instant) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = limit.as_mut().and_then(|limit| limit.take(sample, now)) {
            // Under the lock: one change at a time.
            self.held.set(places);
            self.limit_now.set(gauged(places));
        }
    }
}

impl Held {
    /// Changes how many places there are. Those that are taken stay so, and go when they are given back.
    fn set(&self, places: usize) {
        let before = self.places.swap(places, Ordering::Relaxed);
        if let Some(more) = places.checked_sub(before) {
            let kept = |surplus: usize| Some(surplus.saturating_sub(more));
            let surplus = self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, kept);
            self.permits.add_permits(more - surplus.unwrap_or_default().min(more));
        } else {
            let fewer = before - places;
            let gone = self.permits.forget_permits(fewer);
            self.surplus.fetch_add(fewer - gone, Ordering::Relaxed);
        }
    }

    /// Whether a place that is given back is one too many.
    fn is_surplus(&self) -> bool {
        let fewer = |surplus: usize| surplus.checked_sub(1);
        self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
    }
}

/// A gauge counts in floating point.
#[expect(clippy::cast_precision_loss, reason = "places are few")]
const fn gauged(places: usize) -> f64 {
    places as f64
}

/// Somebody who waits for a place; leaves the queue however the wait ends.
struct Waiting<'a>(&'a Places);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.waiting_now.decrement(1.0);
    }
}

/// A place toward the source, held until the answer's body has ended.
#[derive(Debug)]
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    held: Arc<Held>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.in_flight.decrement(1.0);
        if let Some(permit) = self.permit.take().filter(|_| self.held.is_surplus()) {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn i10_the_queue_is_in_order_and_bounded_by_the_deadline_of_each() {
        let places = Places::new("s", 1, ConcurrencyMode::Fixed);
        let soon = Instant::now() + Duration::from_secs(1);
        let later = Instant::now() + Duration::from_secs(9);
        let first = places.take(soon).await.unwrap();
        assert_eq!(places.active(), 1);
        let (mut second, mut third) = (pin!(places.take(soon)), pin!(places.take(later)));
        let mut fourth = pin!(places.take(later));
        for waiting in [second.as_mut().now_or_never(), third.as_mut().now_or_never()] {
            assert!(waiting.is_none());
        }
        assert!(fourth.as_mut().now_or_never().is_none());
        assert_eq!(places.waiting.load(Ordering::Relaxed), 3);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(matches!(second.await, Err(SourceError::Busy)), "its deadline is over");
        drop(first);
        assert!(fourth.as_mut().now_or_never().is_none(), "who came later waits on");
        let third = third.await.unwrap();
        drop(third);
        assert!(fourth.await.is_ok());
        assert_eq!((places.waiting.load(Ordering::Relaxed), places.active()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_comes_at_the_deadline_is_none() {
        let places = Places::new("s", 1, ConcurrencyMode::Fixed);
        let soon = Instant::now() + Duration::from_secs(1);
        let first = places.take(soon).await.unwrap();
        let mut second = pin!(places.take(soon));
        assert!(second.as_mut().now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        // It is handed over before the one who waits has looked at the clock.
        drop(first);
        assert!(matches!(second.await, Err(SourceError::Busy)), "the source would have no time to answer");
        assert_eq!(places.active(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_takes_a_spare_place_and_never_stands_in_the_queue() {
        let places = Places::new("s", 1, ConcurrencyMode::Fixed);
        let later = Instant::now() + Duration::from_secs(9);
        let spare = places.take_spare().unwrap();
        assert!(matches!(places.take_spare(), Err(SourceError::Yielded)), "it waits for nothing");
        let mut client = pin!(places.take(later));
        assert!(client.as_mut().now_or_never().is_none());
        drop(spare);
        // The place is the client's, though it has not looked yet.
        assert!(!places.has_spare());
        assert!(matches!(places.take_spare(), Err(SourceError::Yielded)), "who waits goes first");
        drop(client.await.unwrap());
        assert!(places.take_spare().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn places_that_go_while_they_are_taken_go_when_they_are_given_back() {
        let places = Places::new("s", 4, ConcurrencyMode::Fixed);
        let take = || places.take_spare();
        let mut taken: Vec<_> = (0..3).map(|_| take().unwrap()).collect();
        places.held.set(1);
        assert_eq!((places.active(), places.has_spare(), places.load_percent()), (3, false, 300));
        taken.pop();
        assert_eq!((places.active(), take().is_err()), (2, true), "one was too many");
        // One of the two comes back before it has gone.
        places.held.set(2);
        assert_eq!((places.active(), take().is_err()), (2, true));
        taken.pop();
        taken.push(take().unwrap());
        assert!(take().is_err());
        taken.clear();
        assert_eq!((places.active(), places.held.permits.available_permits()), (0, 2));
        places.held.set(5);
        let taken: Vec<_> = (0..9).map(|_| take()).collect();
        assert_eq!(taken.iter().filter(|place| place.is_ok()).count(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn another_bound_holds_at_once_for_those_who_come() {
        let places = Places::new("s", 1, ConcurrencyMode::Fixed);
        let later = Instant::now() + Duration::from_secs(9);
        let first = places.take_spare().unwrap();
        let mut waiting = pin!(places.take(later));
        assert!(waiting.as_mut().now_or_never().is_none());
        places.resize(2, ConcurrencyMode::Fixed);
        let second = waiting.await.unwrap();
        places.resize(1, ConcurrencyMode::Fixed);
        drop(first);
        assert!(places.take_spare().is_err(), "the other one has the only place");
        drop(second);
        assert!(places.take_spare().is_ok());
        // An adaptive one begins anew, and is then bounded only.
        places.resize(64, ConcurrencyMode::Adaptive);
        let begun = places.held.places.load(Ordering::Relaxed);
        assert!((1..64).contains(&begun), "{begun}");
        places.resize(2, ConcurrencyMode::Adaptive);
        assert_eq!(places.held.places.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn i10_beyond_the_queue_the_answer_comes_at_once() {
        let places = Places::new("s", 1, ConcurrencyMode::Fixed);
        let later = Instant::now() + Duration::from_secs(9);
        let _held = places.take(later).await.unwrap();
        let mut waiting: Vec<_> = (0..QUEUE_MAX).map(|_| Box::pin(places.take(later))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        assert!(matches!(places.take(later).now_or_never(), Some(Err(SourceError::Busy))));
        waiting.pop();
        assert!(places.take(later).now_or_never().is_none(), "one that leaves makes room");
    }
}
