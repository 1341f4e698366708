//! How many attempts may be repetitions: a fifth of what succeeds and one a second. Pure.
//!
//! A destination that half works is not pushed over by repetitions; first attempts go on, and what may
//! not be repeated yet waits without an attempt being counted. Probes are not charged: the breaker and
//! the hold space them.

use crate::clock::Timestamp;
use std::time::Duration;

/// What a success adds, in thousandths of a repetition.
const SUCCESS: u64 = 200;
/// What a millisecond adds.
const MILLISECOND: u64 = 1;
/// What a repetition costs.
const REPETITION: u64 = 1000;
/// The most that is saved up: a minute's worth.
const SAVED_MAX: u64 = 60 * REPETITION;

/// Whether what failed before may be attempted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    Allowed,
    /// Only first attempts.
    Exhausted,
}

/// Whether the budget was charged for an attempt that is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    Made,
    /// It is no repetition, or was to be a probe.
    None,
}

/// A bucket of repetitions.
#[derive(Clone, Debug)]
pub(crate) struct RetryBudget {
    saved: u64,
    at: Timestamp,
}

impl RetryBudget {
    /// A full one.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { saved: SAVED_MAX, at: now }
    }

    /// Whether a repetition may begin.
    pub(crate) fn repeats(&mut self, now: Timestamp) -> Repeats {
        self.fill(now);
        if self.saved >= REPETITION { Repeats::Allowed } else { Repeats::Exhausted }
    }

    /// A repetition begins.
    pub(crate) fn spend(&mut self, now: Timestamp) {
        self.fill(now);
        self.saved = self.saved.saturating_sub(REPETITION);
    }

    /// A repetition that was paid for was not sent.
    pub(crate) fn give_back(&mut self) {
        self.saved = self.saved.saturating_add(REPETITION).min(SAVED_MAX);
    }

    /// An attempt succeeded.
    pub(crate) fn success(&mut self) {
        self.saved = self.saved.saturating_add(SUCCESS).min(SAVED_MAX);
    }

    /// When a repetition may begin if nothing succeeds before.
    pub(crate) fn next_at(&self) -> Timestamp {
        let missing = REPETITION.saturating_sub(self.saved);
        self.at.plus(Duration::from_millis(missing.div_ceil(MILLISECOND)))
    }

    fn fill(&mut self, now: Timestamp) {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.saved = self.saved.saturating_add(passed.saturating_mul(MILLISECOND)).min(SAVED_MAX);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn empty() -> RetryBudget {
        let mut budget = RetryBudget::new(at(0));
        for _ in 0..60 {
            assert_eq!(budget.repeats(at(0)), Repeats::Allowed);
            budget.spend(at(0));
        }
        assert_eq!(budget.repeats(at(0)), Repeats::Exhausted);
        budget
    }

    #[test]
    fn one_a_second() {
        let mut budget = empty();
        assert_eq!(budget.next_at(), at(1000));
        assert_eq!(budget.repeats(at(999)), Repeats::Exhausted);
        assert_eq!(budget.next_at(), at(1000));
        assert_eq!(budget.repeats(at(1000)), Repeats::Allowed);
        budget.spend(at(1000));
        assert_eq!(budget.repeats(at(1500)), Repeats::Exhausted);
        assert_eq!(budget.repeats(at(500)), Repeats::Exhausted, "a clock that went back gives nothing");
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        let mut budget = empty();
        assert_eq!(budget.repeats(at(0)), Repeats::Exhausted);
        budget.give_back();
        assert_eq!(budget.repeats(at(0)), Repeats::Allowed);
        budget.spend(at(0));
        assert_eq!(budget.repeats(at(0)), Repeats::Exhausted, "once");
    }

    #[test]
    fn a_fifth_of_what_succeeds() {
        let mut budget = empty();
        for _ in 0..4 {
            budget.success();
        }
        assert_eq!(budget.repeats(at(0)), Repeats::Exhausted);
        budget.success();
        assert_eq!(budget.repeats(at(0)), Repeats::Allowed);
    }

    #[test]
    fn i10_no_more_than_a_minute_is_saved() {
        let mut budget = empty();
        for _ in 0..100_000 {
            budget.success();
        }
        let mut repeated = 0;
        while budget.repeats(at(86_400_000)) == Repeats::Allowed {
            budget.spend(at(86_400_000));
            repeated += 1;
        }
        assert_eq!(repeated, 60);
    }
}
