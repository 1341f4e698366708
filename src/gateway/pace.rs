//! Whether somebody who sends or reads keeps a least rate (`server.limits.body_rate`).
//!
//! Only time in which the other side was waited for counts, so that nobody is cut for Tidegate's own
//! slowness.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How much waiting is measured before it is judged.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// The other side is under its least rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// Bytes moved and time waited since the last judgement.
#[derive(Debug)]
pub(crate) struct Pace {
    rate_bytes: u64,
    bytes: u64,
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    /// A least rate in bytes a second.
    pub(crate) const fn new(rate_bytes: u64) -> Self {
        Self { rate_bytes, bytes: 0, waited: Duration::ZERO, waiting: None }
    }

    /// So many bytes have moved.
    pub(crate) fn moved(&mut self, bytes: u64) -> Result<(), TooSlow> {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
            return self.judge();
        }
        Ok(())
    }

    /// Nothing moves: resolves when that has been so for too long.
    pub(crate) fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            let left = WINDOW.saturating_sub(self.waited);
            let (_, sleep) = self.waiting.get_or_insert_with(|| {
                let now = Instant::now();
                (now, Box::pin(tokio::time::sleep_until(now + left)))
            });
            ready!(sleep.as_mut().poll(context));
            self.waiting = None;
            self.waited = WINDOW;
            if self.judge().is_err() {
                return Poll::Ready(TooSlow);
            }
        }
    }

    fn judge(&mut self) -> Result<(), TooSlow> {
        if self.waited < WINDOW {
            return Ok(());
        }
        let enough = self.bytes >= self.rate_bytes.saturating_mul(WINDOW.as_secs());
        (self.bytes, self.waited) = (0, Duration::ZERO);
        if enough { Ok(()) } else { Err(TooSlow) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_stalled_sender_is_cut_after_the_window() {
        let mut pace = Pace::new(1);
        let before = Instant::now();
        assert_eq!(poll_fn(|context| pace.poll_waiting(context)).await, TooSlow);
        assert_eq!(before.elapsed(), WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_sender_is_not() {
        let mut pace = Pace::new(10);
        for second in 0..30 {
            let waited =
                tokio::time::timeout(Duration::from_secs(1), poll_fn(|context| pace.poll_waiting(context)));
            assert!(waited.await.is_err(), "second {second}");
            assert_eq!(pace.moved(12), Ok(()), "second {second}");
        }
    }
}
