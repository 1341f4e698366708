//! The rate of one destination: attempts evenly spaced (the generic cell rate algorithm). Pure.
//!
//! What is kept is one moment, so nothing is saved up while nothing is sent, and a restart begins
//! with one attempt and not with a burst.

use crate::clock::Timestamp;
use crate::sync::settings::RateSettings;
use std::time::Duration;

/// A timer that wakes so much too late, at most, makes up for it: with more than a hundred attempts
/// a second none would be lost to its millisecond.
const LATE_MAX: Duration = Duration::from_millis(10);
/// The part of the window that [`LATE_MAX`] may be at most.
const LATE_PART: u32 = 20;
const NANOS_PER_MILLI: u128 = 1_000_000;

/// When the next attempt may begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Between two attempts.
    interval: Duration,
    /// How much earlier than spaced one may begin where others began late.
    late: Duration,
    /// When the next one is due, since the Unix epoch.
    due: Duration,
}

impl Rate {
    /// In no window of `per` begin more than `requests`: what may be made up for is taken off the rate.
    pub(super) fn new(settings: RateSettings) -> Self {
        let late = LATE_MAX.min(settings.per / LATE_PART);
        let window = settings.per.saturating_add(late).as_nanos();
        let interval = window.div_ceil(u128::from(settings.requests.get()));
        let interval = Duration::from_nanos(u64::try_from(interval).unwrap_or(u64::MAX));
        Self { interval, late, due: Duration::ZERO }
    }

    /// Another rate after this one: the last attempt was when it was.
    pub(super) fn succeed(self, settings: RateSettings) -> Self {
        let new = Self::new(settings);
        Self { due: self.due.saturating_sub(self.interval).saturating_add(new.interval), ..new }
    }

    /// From when on the next attempt may begin.
    pub(super) fn due(&self) -> Timestamp {
        let millis = self.due.saturating_sub(self.late).as_nanos().div_ceil(NANOS_PER_MILLI);
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// An attempt begins.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.due = self.due.max(Duration::from_millis(now.as_millis())).saturating_add(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn rate(requests: u32, per: Duration) -> Rate {
        Rate::new(RateSettings { requests: NonZeroU32::new(requests).unwrap(), per })
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    #[test]
    fn attempts_are_evenly_spaced_and_nothing_is_saved_up() {
        let mut rate = rate(2, Duration::from_secs(1));
        assert!(rate.due() <= at(0), "the first one waits for nothing");
        rate.take(at(0));
        assert_eq!(rate.due(), at(495));
        rate.take(at(600));
        assert_eq!(rate.due(), at(1095));
        rate.take(at(100_000));
        assert_eq!(rate.due(), at(100_495), "an idle time gives no burst");
    }

    #[test]
    fn another_rate_counts_from_the_last_attempt() {
        let mut slow = rate(1, Duration::from_secs(10));
        slow.take(at(0));
        let settings = RateSettings { requests: NonZeroU32::new(2).unwrap(), per: Duration::from_secs(1) };
        assert_eq!(slow.succeed(settings).due(), at(495));
    }

    #[test]
    fn a_rate_of_thousands_is_reached_with_timers_of_milliseconds() {
        let mut rate = rate(5_000, Duration::from_secs(1));
        let (mut now, mut count) = (at(0), 0);
        while now < at(1_000) {
            while rate.due() <= now {
                rate.take(now);
                count += 1;
            }
            // It wakes three milliseconds late each time.
            now = rate.due().plus(Duration::from_millis(3));
        }
        assert!((4_900..=5_000).contains(&count), "{count}");
    }

    proptest! {
        /// I10: whenever it is asked, no window has more than the bound.
        #[test]
        fn i10_no_window_has_more(
            requests in 1_u32..200,
            per in 1_u64..5_000,
            pauses in prop::collection::vec(0_u64..2_000, 1..400),
        ) {
            let mut rate = rate(requests, Duration::from_millis(per));
            let (mut now, mut begun) = (at(0), Vec::new());
            for pause in pauses {
                now = now.plus(Duration::from_millis(pause % (per / 3 + 2)));
                while rate.due() <= now {
                    rate.take(now);
                    begun.push(now);
                }
            }
            for (index, first) in begun.iter().enumerate() {
                let within = begun[index..].iter().filter(|one| one.since(*first) < Duration::from_millis(per));
                prop_assert!(within.count() <= requests as usize, "{begun:?}");
            }
        }
    }
}
