//! How long a source usually takes until the head of its answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many answers the smoothed time looks back on, about.
const LOOKS_BACK: u64 = 8;

/// A head is overdue after so many times what is usual.
const OVERDUE_TIMES: u32 = 3;

/// A head is never overdue before.
const OVERDUE_MIN: Duration = Duration::from_secs(1);

/// The smoothed time until a head, in microseconds; 0: nothing is known.
#[derive(Debug, Default)]
pub(super) struct Usual(AtomicU64);

impl Usual {
    /// A head took so long.
    pub(super) fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let smoothed = |before: u64| match before {
            0 => took,
            _ => (before - before / LOOKS_BACK).saturating_add(took / LOOKS_BACK).max(1),
        };
        self.0.update(Ordering::Relaxed, Ordering::Relaxed, smoothed);
    }

    /// After how long a head is overdue.
    pub(super) fn overdue_after(&self) -> Duration {
        let usual = Duration::from_micros(self.0.load(Ordering::Relaxed));
        usual.saturating_mul(OVERDUE_TIMES).max(OVERDUE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_overdue_after_three_times_the_usual_and_a_second_at_least() {
        let usual = Usual::default();
        assert_eq!(usual.overdue_after(), OVERDUE_MIN, "nothing is known yet");
        usual.observe(Duration::from_millis(20));
        assert_eq!(usual.overdue_after(), OVERDUE_MIN);
        for _ in 0..100 {
            usual.observe(Duration::from_secs(2));
        }
        let overdue = usual.overdue_after();
        assert!((5900..=6000).contains(&overdue.as_millis()), "{overdue:?}");
        usual.observe(Duration::ZERO);
        assert!(usual.overdue_after() > Duration::from_secs(5), "one answer changes little");
        usual.observe(Duration::MAX);
        assert!(usual.overdue_after() > OVERDUE_MIN);
    }
}
