//! Whether somebody who sends or reads keeps a least rate (`server.limits.body_rate`).
//!
//! Only time in which the other side was waited for counts, so that nobody is cut for Tidegate's own
//! slowness.

use crate::telemetry::metrics as names;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How much waiting is measured before it is judged.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// The least length of a [`Piece`]: shorter ones would cost more than they carry.
const PIECE_BYTES_MIN: u64 = 1024;

/// What is handed over to an HTTP/2 stream at once, and how long its client may take to make room for the
/// next: whoever is as fast as the least rate takes no longer. Of a stream no more is seen than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub bytes: usize,
    pub patience: Duration,
}

impl Piece {
    /// For a least rate in bytes a second; `None` where there is none.
    pub(crate) fn of(rate_bytes: u64) -> Option<Self> {
        let bytes = rate_bytes.saturating_mul(WINDOW.as_secs()).max(PIECE_BYTES_MIN);
        let seconds = bytes.checked_div(rate_bytes)?;
        Some(Self {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            patience: Duration::from_secs(seconds),
        })
    }
}

/// The other side is under its least rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// Why a reader is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReaderCut {
    /// It is under its least rate.
    BodyRate,
    /// It fell too far behind a body that is not kept whole.
    Window,
}

impl ReaderCut {
    /// Counts one.
    pub(crate) fn count(self) {
        let reason = match self {
            Self::BodyRate => "body-rate",
            Self::Window => "window",
        };
        metrics::counter!(names::READERS_CUT, "reason" => reason).increment(1);
    }
}

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

    #[test]
    fn a_piece_is_what_the_least_rate_carries_in_its_patience() {
        for (rate, piece) in
            [(0, None), (1, Some((1024, 1024))), (1024, Some((10_240, 10))), (1 << 20, Some((10 << 20, 10)))]
        {
            let piece_of = Piece::of(rate).map(|piece| (piece.bytes, piece.patience.as_secs()));
            assert_eq!(piece_of, piece, "{rate}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_zero_bounds_nobody() {
        let mut pace = Pace::new(0);
        let waiting = poll_fn(|context| pace.poll_waiting(context));
        assert!(tokio::time::timeout(WINDOW * 100, waiting).await.is_err());
    }

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
