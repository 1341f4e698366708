//! The arithmetic of one quota: the generic cell rate algorithm (ITU-T I.371 A). Pure.
//!
//! A bucket is one number, the theoretical arrival time (TAT): the moment at which it is full again.
//! Times are counted in nanoseconds multiplied by the quota's `requests`, so that the interval
//! between two requests is a whole number and a refill is neither early nor late by rounding.

use crate::clock::Timestamp;
use std::num::NonZeroU32;
use std::time::Duration;

/// Parts of a request that Redis counts.
const MILLION: u128 = 1_000_000;

/// When a bucket is full again, in the quota's own scale. The default lies before any present: full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FullAt(u128);

/// How fast a bucket refills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Scaled units per nanosecond: the requests of a window.
    scale: u128,
    /// Scaled units until one more request may pass: the window's nanoseconds.
    interval: u128,
    /// Scaled units that a full bucket holds.
    capacity: u128,
}

/// What a bucket says to one more request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// It fits; the bucket afterwards.
    Fits(FullAt),
    /// It does not fit for that long.
    TooEarly(Duration),
}

impl Rate {
    /// `requests` per `per`, `burst` at once. A window of no length counts as one nanosecond.
    pub(super) fn new(requests: NonZeroU32, per: Duration, burst: NonZeroU32) -> Self {
        let interval = per.as_nanos().max(1);
        let capacity = interval.saturating_mul(u128::from(burst.get()));
        Self { scale: u128::from(requests.get()), interval, capacity }
    }

    /// Whether one more request fits at `now`.
    pub(super) fn test(&self, bucket: FullAt, now: Timestamp) -> Test {
        let now = self.scaled(now);
        let after = bucket.0.max(now).saturating_add(self.interval);
        let latest = now.saturating_add(self.capacity);
        if after <= latest {
            Test::Fits(FullAt(after))
        } else {
            Test::TooEarly(self.duration(after - latest))
        }
    }

    /// Requests that fit at once at `now`, and how long until one more does; zero where it is full.
    pub(super) fn remaining(&self, bucket: FullAt, now: Timestamp) -> (u64, Duration) {
        let now = self.scaled(now);
        let used = bucket.0.saturating_sub(now);
        let room = self.capacity.saturating_sub(used);
        let (whole, part) = (room / self.interval, room % self.interval);
        let until_more = if used == 0 { 0 } else { self.interval - part };
        (u64::try_from(whole).unwrap_or(u64::MAX), self.duration(until_more))
    }

    /// Whether the bucket is full at `now`: as if it had never been used.
    pub(super) fn is_full(&self, bucket: FullAt, now: Timestamp) -> bool {
        bucket.0 <= self.scaled(now)
    }

    /// What a bucket lacks at `now`, in millionths of a request, rounded down.
    pub(super) fn used(&self, bucket: FullAt, now: Timestamp) -> u64 {
        let used = bucket.0.saturating_sub(self.scaled(now));
        u64::try_from(used.saturating_mul(MILLION) / self.interval).unwrap_or(u64::MAX)
    }

    /// The bucket that lacks so many millionths of a request at `now`.
    pub(super) fn full_at(&self, used: u64, now: Timestamp) -> FullAt {
        let used = u128::from(used).saturating_mul(self.interval).div_ceil(MILLION);
        FullAt(self.scaled(now).saturating_add(used))
    }

    /// How long an empty bucket takes to be full.
    pub(super) fn fill_time(&self) -> Duration {
        self.duration(self.capacity)
    }

    /// The bucket as it was before one request.
    pub(super) fn before(&self, bucket: FullAt) -> FullAt {
        FullAt(bucket.0.saturating_sub(self.interval))
    }

    /// One of so many equal parts, which together admit as much. A bucket of it takes as long to fill as the
    /// whole's, so that one can go on where the other was; it holds at least one request.
    pub(super) fn share(&self, of: u32) -> Self {
        let interval = self.interval.saturating_mul(u128::from(of.max(1)));
        Self { interval, capacity: self.capacity.max(interval), ..*self }
    }

    /// A bucket of another rate in this one's scale: so many requests are consumed here as there.
    pub(super) fn converted(&self, bucket: FullAt, from: &Self, now: Timestamp) -> FullAt {
        let used = bucket.0.saturating_sub(from.scaled(now));
        // Divided first: the product of the whole could exceed the number's range.
        let (whole, part) = (used / from.interval, used % from.interval);
        let used = whole.saturating_mul(self.interval).saturating_add(scaled_part(part, from, self));
        if used == 0 { FullAt::default() } else { FullAt(self.scaled(now).saturating_add(used)) }
    }

    fn scaled(&self, now: Timestamp) -> u128 {
        Duration::from_millis(now.as_millis()).as_nanos().saturating_mul(self.scale)
    }

    /// A scaled time as a duration, rounded up: nobody is told to come back too early.
    fn duration(&self, scaled: u128) -> Duration {
        Duration::from_nanos(u64::try_from(scaled.div_ceil(self.scale)).unwrap_or(u64::MAX))
    }
}

/// A part of a request from one interval to another, rounded up: nobody gains by a reload.
fn scaled_part(part: u128, from: &Rate, to: &Rate) -> u128 {
    part.checked_mul(to.interval).map_or(to.interval, |product| product.div_ceil(from.interval))
}

/// Whole seconds, rounded up.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
        Rate::new(NonZeroU32::new(requests).unwrap(), per, NonZeroU32::new(burst).unwrap())
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    /// Takes as many as fit; how many, and how long the next one waits.
    fn drain(rate: &Rate, bucket: &mut FullAt, now: Timestamp) -> (u32, Duration) {
        for taken in 0.. {
            match rate.test(*bucket, now) {
                Test::Fits(after) => *bucket = after,
                Test::TooEarly(wait) => return (taken, wait),
            }
        }
        unreachable!("a bucket holds a finite burst")
    }

    #[test]
    fn a_burst_passes_and_the_refill_comes_exactly_when_promised() {
        for (requests, per, burst, wait) in [
            (100, Duration::from_secs(1), 100, Duration::from_millis(10)),
            (100, Duration::from_secs(1), 50, Duration::from_millis(10)),
            (3, Duration::from_secs(1), 3, Duration::from_nanos(333_333_334)),
            (1, Duration::from_hours(1), 5, Duration::from_hours(1)),
            (1, Duration::from_secs(1), 1, Duration::from_secs(1)),
        ] {
            let rate = rate(requests, per, burst);
            let mut bucket = FullAt::default();
            assert_eq!(rate.remaining(bucket, at(0)), (u64::from(burst), Duration::ZERO));
            assert_eq!(drain(&rate, &mut bucket, at(0)), (burst, wait));
            assert_eq!(rate.remaining(bucket, at(0)), (0, wait), "and is told so");
            let due = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap();
            assert!(matches!(rate.test(bucket, at(due - 1)), Test::TooEarly(_)), "not a moment before");
            assert!(matches!(rate.test(bucket, at(due)), Test::Fits(_)), "and then it fits");
            let full = due.max(u64::try_from((per * burst / requests).as_millis()).unwrap());
            assert_eq!(rate.remaining(bucket, at(due)).0, 1);
            assert_eq!(rate.remaining(bucket, at(full)), (u64::from(burst), Duration::ZERO));
        }
    }

    #[test]
    fn the_wait_for_more_counts_what_has_refilled_meanwhile() {
        let rate = rate(4, Duration::from_secs(1), 4);
        let mut bucket = FullAt::default();
        drain(&rate, &mut bucket, at(0));
        for (millis, fits, wait) in [(0, 0, 250), (100, 0, 150), (250, 1, 250), (999, 3, 1), (1000, 4, 0)] {
            assert_eq!(rate.remaining(bucket, at(millis)), (fits, Duration::from_millis(wait)), "{millis}");
        }
    }

    #[test]
    fn a_window_later_it_is_full_to_the_last_request() {
        // With a rounded interval 3 per second would still lack a nanosecond of the third.
        for requests in [3, 7, 11, 999, 3000] {
            let rate = rate(requests, Duration::from_secs(1), requests);
            let mut bucket = FullAt::default();
            for second in 0..5 {
                let taken = drain(&rate, &mut bucket, at(second * 1000)).0;
                assert_eq!(taken, requests, "second {second}");
                assert!(!rate.is_full(bucket, at(second * 1000 + 999)));
                assert!(rate.is_full(bucket, at(second * 1000 + 1000)));
            }
        }
    }

    #[test]
    fn no_stretch_of_time_admits_more_than_the_burst_and_what_refilled() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let (requests, burst) = (random.u32(1..50), random.u32(1..50));
            let rate = rate(requests, Duration::from_millis(random.u64(1..3000)), burst);
            let (mut bucket, mut now, mut passed) = (FullAt::default(), 0, Vec::new());
            for _ in 0..500 {
                now += random.u64(0..40);
                match rate.test(bucket, at(now)) {
                    Test::Fits(after) => {
                        bucket = after;
                        passed.push(now);
                    }
                    Test::TooEarly(wait) => assert!(wait > Duration::ZERO),
                }
            }
            for (index, first) in passed.iter().enumerate() {
                for (count, last) in passed[index..].iter().enumerate() {
                    let refilled = u128::from(last - first) * 1_000_000 * rate.scale / rate.interval;
                    let most = u128::from(burst) + refilled;
                    assert!((count as u128) < most, "{rate:?}: {first}..{last}");
                }
            }
        }
    }

    #[test]
    fn shares_admit_together_what_the_whole_does_and_go_on_where_it_was() {
        for (requests, burst, shares) in [(100, 100, 2), (100, 50, 4), (3, 9, 3), (10, 10, 1)] {
            let whole = rate(requests, Duration::from_secs(1), burst);
            let share = whole.share(shares);
            for window in 0..3 {
                let mut admitted = 0;
                for _ in 0..shares {
                    let mut bucket = FullAt::default();
                    admitted += drain(&share, &mut bucket, at(window * 60_000)).0;
                }
                assert!(admitted <= burst, "{admitted} of {burst}");
                assert!(admitted + shares > burst, "{admitted} of {burst}");
            }
            let mut bucket = FullAt::default();
            drain(&whole, &mut bucket, at(0));
            assert_eq!(drain(&share, &mut bucket, at(0)).0, 0, "what all have used is not there again");
            let mut bucket = FullAt::default();
            drain(&share, &mut bucket, at(0));
            assert!(drain(&whole, &mut bucket, at(0)).0 < shares, "nor what the share has, for all");
        }
        let (one, mut bucket) = (rate(1, Duration::from_secs(1), 1).share(10), FullAt::default());
        assert_eq!(drain(&one, &mut bucket, at(0)), (1, Duration::from_secs(10)), "at least one");
    }

    #[test]
    fn millionths_are_told_and_taken_back_to_the_safe_side() {
        let rate = rate(3, Duration::from_secs(1), 30);
        let mut bucket = FullAt::default();
        assert_eq!(rate.used(bucket, at(0)), 0);
        for taken in 1..=30_u64 {
            let Test::Fits(after) = rate.test(bucket, at(0)) else { panic!("{taken} of 30") };
            bucket = after;
            assert_eq!(rate.used(bucket, at(0)), taken * 1_000_000);
            assert_eq!(rate.full_at(taken * 1_000_000, at(0)), bucket);
        }
        let used = rate.used(bucket, at(100));
        assert_eq!(used, 29_700_000);
        assert!(rate.full_at(used, at(100)) <= bucket);
        assert_eq!(rate.used(rate.before(bucket), at(0)), 29_000_000);
    }

    #[test]
    fn what_was_consumed_is_kept_by_other_figures() {
        let second = Duration::from_secs(1);
        for (old, new, consumed, left) in [
            (rate(10, second, 10), rate(10, second, 10), 4, 6),
            (rate(10, second, 10), rate(20, second, 20), 4, 16),
            (rate(10, second, 10), rate(5, second, 5), 4, 1),
            (rate(10, second, 10), rate(3, second, 3), 4, 0),
            (rate(10, second, 10), rate(10, second * 3600, 10), 10, 0),
            (rate(7, second, 7), rate(u32::MAX, second, u32::MAX), 7, u64::from(u32::MAX) - 7),
        ] {
            let mut bucket = FullAt::default();
            for _ in 0..consumed {
                let Test::Fits(after) = old.test(bucket, at(0)) else { panic!("within the burst") };
                bucket = after;
            }
            let converted = new.converted(bucket, &old, at(0));
            assert_eq!(new.remaining(converted, at(0)).0, left, "{consumed} of {old:?} in {new:?}");
        }
        let full = rate(10, second, 10);
        assert_eq!(rate(5, second, 5).converted(FullAt::default(), &full, at(0)), FullAt::default());
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (nanos, seconds) in [(0, 0), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_nanos(nanos)), seconds);
        }
    }
}
