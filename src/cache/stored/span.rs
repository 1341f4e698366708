//! Lengths of time as stored responses keep them: a `Duration` takes four times as much.

use std::fmt;
use std::time::Duration;

/// Up to so many are milliseconds, what is beyond is seconds.
const MILLIS_MAX: u32 = 1 << 30;

/// A length of time in four bytes: up to twelve days by the millisecond, beyond that by the second, and from a
/// hundred years on for ever. What lies between two of them becomes the longer one, which for all that is compared
/// with a difference of timestamps is the same.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(from = "Duration", into = "Duration")]
pub struct Span(u32);

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);
    /// For ever.
    pub const MAX: Self = Self(u32::MAX);

    /// The same as a duration; for ever is the longest that there is.
    #[must_use]
    pub const fn duration(self) -> Duration {
        match self.0 {
            u32::MAX => Duration::MAX,
            seconds if seconds > MILLIS_MAX => Duration::from_secs((seconds - MILLIS_MAX) as u64),
            millis => Duration::from_millis(millis as u64),
        }
    }

    /// Its whole seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.duration().as_secs()
    }
}

/// A length of time in milliseconds, in eight bytes: for one that is added to.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(u64);

impl Millis {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// The same as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Its whole seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.duration().as_secs()
    }
}

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(whole_millis(duration)).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.duration().fmt(f)
    }
}

fn whole_millis(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000)
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        let millis = whole_millis(duration);
        if let Some(millis) = u32::try_from(millis).ok().filter(|millis| *millis <= MILLIS_MAX) {
            return Self(millis);
        }
        let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
        Self(u32::try_from(seconds).map_or(u32::MAX, |seconds| seconds.saturating_add(MILLIS_MAX)))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.duration()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.duration().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_what_went_in_or_a_little_more() {
        let millis = Duration::from_millis;
        let border = millis(u64::from(MILLIS_MAX));
        let (long, longest) = (Duration::from_secs(1 << 31), Duration::from_secs(3 * (1 << 30) - 2));
        for (given, kept) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1), millis(1)),
            (millis(7), millis(7)),
            (Duration::from_hours(24), Duration::from_hours(24)),
            (border, border),
            (border + millis(1), Duration::from_secs(border.as_secs() + 1)),
            (long, long),
            (longest, longest),
            (longest + millis(1), Duration::MAX),
            (Duration::from_secs(u64::MAX), Duration::MAX),
            (Duration::MAX, Duration::MAX),
        ] {
            assert_eq!(Span::from(given).duration(), kept, "{given:?}");
        }
    }

    #[test]
    fn longer_is_greater() {
        let spans = [0, 1, 999, 1 << 20, 1 << 30, (1 << 30) + 1, 1 << 40].map(Duration::from_millis);
        let kept = spans.map(Span::from);
        assert!(kept.is_sorted_by(|one, other| one < other), "{kept:?}");
        assert!(kept.iter().all(|span| *span < Span::MAX));
    }
}
