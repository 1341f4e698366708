//! How many deliveries at once a destination takes well. Pure.
//!
//! It starts at 1 and grows by 1 while round trips stay near the best; it shrinks by a tenth when one
//! fails or when they become slow, the latter at most once a round trip, as those under way are slow
//! for the same reason.

use crate::clock::Timestamp;
use std::time::Duration;

/// The least, and the first.
const FLOOR: f64 = 1.0;
/// What is left after a failure or a slow-down.
const SLOWER: f64 = 0.9;
/// Round trips so many times the best are slow.
const SLOW_FACTOR: u32 = 2;
/// And longer than the best by this: below it the clock and the disk make the difference.
const SLOW_MARGIN: Duration = Duration::from_millis(20);
/// The weight of a new round trip in the smoothed one: one part of so many.
const SMOOTHING: u32 = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Concurrency {
    allowed: f64,
    most: f64,
    smoothed: Option<Duration>,
    best: Duration,
    slowed_at: Timestamp,
}

impl Concurrency {
    pub(super) fn new(most: usize) -> Self {
        let most = f64::from(u32::try_from(most.max(1)).unwrap_or(u32::MAX));
        Self { allowed: FLOOR, most, smoothed: None, best: Duration::MAX, slowed_at: Timestamp::default() }
    }

    /// Another bound, from now on.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = f64::from(u32::try_from(most.max(1)).unwrap_or(u32::MAX));
        self.allowed = self.allowed.min(self.most);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and the configured bound"
    )]
    pub(super) fn allowed(&self) -> usize {
        self.allowed as usize
    }

    /// An answer came that says nothing bad of the destination.
    pub(super) fn answered(&mut self, round_trip: Duration, now: Timestamp) {
        let smoothed = self.smoothed.map_or(round_trip, |smoothed| {
            (smoothed.saturating_mul(SMOOTHING - 1).saturating_add(round_trip)) / SMOOTHING
        });
        self.smoothed = Some(smoothed);
        self.best = self.best.min(smoothed);
        let is_slow =
            smoothed > self.best.saturating_mul(SLOW_FACTOR).max(self.best.saturating_add(SLOW_MARGIN));
        if !is_slow {
            self.allowed = (self.allowed + 1.0).min(self.most);
        } else if self.allowed <= FLOOR {
            // Alone it cannot be faster: this is what it is like now.
            self.best = smoothed;
        } else if now.since(self.slowed_at) >= smoothed {
            self.slowed_at = now;
            self.shrink();
        }
    }

    /// An attempt failed.
    pub(super) fn shrink(&mut self) {
        self.allowed = (self.allowed * SLOWER).max(FLOOR);
    }

    /// The destination was left alone and is tried anew.
    pub(super) fn start_again(&mut self) {
        self.allowed = FLOOR;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn grown(most: usize) -> Concurrency {
        let mut concurrency = Concurrency::new(most);
        assert_eq!(concurrency.allowed(), 1);
        for _ in 0..100 {
            concurrency.answered(MILLI * 50, at(0));
        }
        concurrency
    }

    #[test]
    fn it_grows_by_one_to_its_bound_and_shrinks_by_a_tenth_to_one() {
        let mut concurrency = grown(16);
        assert_eq!(concurrency.allowed(), 16, "never above the bound");
        concurrency.shrink();
        assert_eq!(concurrency.allowed(), 14);
        for _ in 0..100 {
            concurrency.shrink();
        }
        assert_eq!(concurrency.allowed(), 1, "never below one");
        concurrency.answered(MILLI * 50, at(0));
        assert_eq!(concurrency.allowed(), 2);
        concurrency.start_again();
        assert_eq!((concurrency.allowed(), Concurrency::new(0).allowed()), (1, 1));
    }

    #[test]
    fn it_shrinks_while_round_trips_are_slow_at_most_once_in_each() {
        let mut concurrency = grown(16);
        for _ in 0..30 {
            concurrency.answered(MILLI * 200, at(1000));
        }
        assert_eq!(concurrency.allowed(), 14, "once, however many were under way");
        concurrency.answered(MILLI * 200, at(1300));
        assert_eq!(concurrency.allowed(), 12);
        for _ in 0..30 {
            concurrency.answered(MILLI * 50, at(2000));
        }
        assert_eq!(concurrency.allowed(), 16, "and grows when they are near the best again");
    }

    #[test]
    fn another_bound_counts_at_once() {
        let mut concurrency = grown(16);
        concurrency.set_most(4);
        assert_eq!(concurrency.allowed(), 4);
        concurrency.set_most(16);
        assert_eq!(concurrency.allowed(), 4, "it grows again as ever");
        concurrency.set_most(0);
        assert_eq!(concurrency.allowed(), 1);
    }

    #[test]
    fn a_destination_that_has_become_slower_for_good_is_measured_anew() {
        let mut concurrency = grown(16);
        for second in 0..200 {
            concurrency.answered(MILLI * 500, at(second * 1000));
        }
        assert_eq!(concurrency.allowed(), 16);
    }

    #[test]
    fn a_few_milliseconds_are_no_slow_down() {
        let mut concurrency = grown(16);
        concurrency.best = MILLI;
        concurrency.smoothed = Some(MILLI);
        for _ in 0..50 {
            concurrency.answered(MILLI * 20, at(0));
        }
        assert_eq!(concurrency.allowed(), 16);
    }
}
