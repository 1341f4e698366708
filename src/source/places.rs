//! Places toward a source: one bound for all causes of load on it, and a queue in order of arrival.

use super::error::SourceError;
use crate::telemetry::metrics as names;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The most that wait for a place toward one source; beyond it requests are told at once (I10).
const QUEUE_MAX: usize = 4096;

/// The places toward one source.
#[derive(Debug)]
pub(super) struct Places {
    permits: Arc<Semaphore>,
    concurrency: usize,
    waiting: AtomicUsize,
    waiting_now: metrics::Gauge,
    in_flight: metrics::Gauge,
}

impl Places {
    pub(super) fn new(source: &str, concurrency: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            waiting: AtomicUsize::new(0),
            waiting_now: metrics::gauge!(names::SOURCE_WAITING, "source" => source.to_owned()),
            in_flight: metrics::gauge!(names::SOURCE_IN_FLIGHT, "source" => source.to_owned()),
        }
    }

    /// How many places are taken.
    pub(super) fn active(&self) -> usize {
        self.concurrency.saturating_sub(self.permits.available_permits())
    }

    /// A place, before the deadline; who came first has it first.
    ///
    /// # Errors
    /// [`SourceError::Busy`]
    pub(super) async fn take(&self, deadline: Instant) -> Result<Place, SourceError> {
        // A permit is free only while nobody waits: nobody is overtaken here.
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(self.taken(permit));
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(SourceError::Busy);
        }
        self.waiting_now.increment(1.0);
        let _waiting = Waiting(self);
        let permit = tokio::time::timeout_at(deadline, Arc::clone(&self.permits).acquire_owned());
        match permit.await {
            // One that comes at the last moment leaves the source no time to answer.
            Ok(Ok(permit)) if Instant::now() < deadline => Ok(self.taken(permit)),
            // The semaphore is never closed.
            Ok(_) | Err(_) => Err(SourceError::Busy),
        }
    }

    fn taken(&self, permit: OwnedSemaphorePermit) -> Place {
        self.in_flight.increment(1.0);
        Place { _permit: permit, in_flight: self.in_flight.clone() }
    }
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
    _permit: OwnedSemaphorePermit,
    in_flight: metrics::Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.in_flight.decrement(1.0);
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
        let places = Places::new("s", 1);
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
        let places = Places::new("s", 1);
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
    async fn i10_beyond_the_queue_the_answer_comes_at_once() {
        let places = Places::new("s", 1);
        let later = Instant::now() + Duration::from_secs(9);
        let _held = places.take(later).await.unwrap();
        let mut waiting: Vec<_> = (0..QUEUE_MAX).map(|_| Box::pin(places.take(later))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        assert!(matches!(places.take(later).now_or_never(), Some(Err(SourceError::Busy))));
        waiting.pop();
        assert!(places.take(later).now_or_never().is_none(), "one that leaves makes room");
    }
}
