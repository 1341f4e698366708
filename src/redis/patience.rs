//! What one request may wait for Redis: one sum over all that it asks of it (I9).

use super::Unavailable;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What a request may wait for Redis in all.
const REQUEST: Duration = Duration::from_millis(75);
/// Nothing is asked for where less is left: that it came in time would be luck.
const LEAST: Duration = Duration::from_millis(2);

/// What is left of it, in microseconds. One wait that brought nothing ends it: Redis does not answer now.
#[derive(Debug)]
pub struct Patience(AtomicU64);

impl Patience {
    /// That of a request which has not waited yet.
    #[must_use]
    pub fn of_request() -> Self {
        Self::of(REQUEST)
    }

    /// As much as is said.
    #[must_use]
    pub fn of(left: Duration) -> Self {
        Self(AtomicU64::new(micros(left)))
    }

    /// None at all.
    #[must_use]
    pub const fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// What the next wait may take, and no more than `most`; zero where it is over.
    #[must_use]
    pub fn left(&self, most: Duration) -> Duration {
        let left = Duration::from_micros(self.0.load(Ordering::Relaxed));
        if left < LEAST { Duration::ZERO } else { left.min(most) }
    }

    /// Whether Redis is not waited for any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left(REQUEST).is_zero()
    }

    /// What is left, less what is kept, for a part of the request that goes its own way.
    #[must_use]
    pub fn handed_on(&self, kept: Duration) -> Self {
        let left = self.0.load(Ordering::Relaxed);
        let kept = micros(kept).min(left);
        self.0.store(kept, Ordering::Relaxed);
        Self(AtomicU64::new(left - kept))
    }

    /// Waits, and takes off what that took.
    ///
    /// # Errors
    /// Those of the wait.
    pub async fn spent_on<T>(
        &self,
        wait: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        let began = Instant::now();
        let outcome = wait.await;
        match &outcome {
            // Redis has answered, if not what was hoped for.
            Ok(_) | Err(Unavailable::Refused) => self.take(began.elapsed()),
            Err(_) => self.take(Duration::MAX),
        }
        outcome
    }

    fn take(&self, spent: Duration) {
        let left = self.0.load(Ordering::Relaxed);
        // Only the request itself takes from it, one wait after the other.
        self.0.store(left.saturating_sub(micros(spent)), Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    async fn waiting(millis: u64, outcome: Result<(), Unavailable>) -> Result<(), Unavailable> {
        sleep(Duration::from_millis(millis)).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn i9_all_waits_of_a_request_are_one_sum() {
        let (patience, began) = (Patience::of_request(), Instant::now());
        for refused in [Ok(()), Err(Unavailable::Refused), Ok(())] {
            assert_eq!(patience.left(Duration::from_millis(20)), Duration::from_millis(20));
            assert_eq!(patience.spent_on(waiting(20, refused)).await, refused);
        }
        assert_eq!(patience.left(Duration::from_millis(20)), Duration::from_millis(15));
        let rest = patience.handed_on(Duration::from_millis(5));
        assert_eq!(patience.left(REQUEST), Duration::from_millis(5));
        assert_eq!(rest.left(REQUEST), Duration::from_millis(10), "it is spent once");
        rest.spent_on(waiting(9, Ok(()))).await.unwrap();
        assert!(rest.is_over(), "what is left is too little to be asked for");
        assert!(!patience.handed_on(Duration::ZERO).is_over() && patience.is_over());
        assert!(began.elapsed() <= REQUEST);
    }

    #[tokio::test(start_paused = true)]
    async fn i9_who_was_not_answered_does_not_wait_again() {
        use Unavailable::{Lost, NotConnected, TimedOut, Unready};
        for cause in [TimedOut, Lost, NotConnected, Unready] {
            let patience = Patience::of_request();
            patience.spent_on(waiting(1, Err(cause))).await.unwrap_err();
            assert!(patience.is_over(), "{cause}");
        }
        assert!(Patience::none().is_over());
    }
}
