//! Medians, spreads and what they say of a bound: values in, judgement out.

use serde::Serialize;
use std::fmt;

/// What the rounds of one figure came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) median: f64,
    pub(crate) highest: f64,
}

impl Spread {
    /// None of no values. Of an even number the median is the lower of the two in the middle.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
        Some(Self { lowest: *sorted.first()?, median, highest: *sorted.last()? })
    }

    /// Of one value.
    pub(crate) fn single(value: f64) -> Self {
        Self { lowest: value, median: value, highest: value }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = usize::from(self.median < 1_000.0) + usize::from(self.median < 10.0);
        let Self { lowest, median, highest } = self;
        // A single value has no spread to show.
        if self.lowest.total_cmp(&self.highest).is_eq() {
            return write!(f, "{median:.places$}");
        }
        write!(f, "{median:.places$} ({lowest:.places$}..{highest:.places$})")
    }
}

/// The ratios of rounds that were run side by side.
pub(crate) fn ratios(own: &[f64], others: &[f64]) -> Vec<f64> {
    own.iter().zip(others).filter(|(_, other)| **other > 0.0).map(|(own, other)| own / other).collect()
}

/// What a figure must hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// What is hoped for: said, and no fault.
    AimAtMost(f64),
    /// Said only.
    Stated,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AimAtMost(most) => write!(f, "aim {most}"),
            Self::Stated => write!(f, "-"),
        }
    }
}

/// Whether it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Pass,
    /// The whole spread lies beyond the bound.
    Short,
    /// The same of an aim.
    AimMissed,
    Stated,
    /// It could not be measured: as bad as short.
    Broken,
}

impl Verdict {
    /// A bound is missed only where every round misses it.
    pub(crate) fn of(spread: Spread, bound: Bound) -> Self {
        match bound {
            Bound::AtMost(most) if spread.lowest > most => Self::Short,
            Bound::AtLeast(least) if spread.highest < least => Self::Short,
            Bound::AimAtMost(most) if spread.lowest > most => Self::AimMissed,
            Bound::AtMost(_) | Bound::AtLeast(_) | Bound::AimAtMost(_) => Self::Pass,
            Bound::Stated => Self::Stated,
        }
    }

    /// Whether the run ends with a failure for it.
    pub(crate) fn fails(self) -> bool {
        matches!(self, Self::Short | Self::Broken)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Short => "SHORT",
            Self::AimMissed => "aim missed",
            Self::Stated => "stated",
            Self::Broken => "BROKEN",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_has_the_ends_and_the_middle() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[2.0]), Some(Spread::single(2.0)));
        let spread = Spread { lowest: 1.0, median: 2.0, highest: 9.0 };
        assert_eq!(Spread::of(&[9.0, 1.0, 2.0]), Some(spread));
        assert_eq!(Spread::of(&[9.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.0));
        assert_eq!(spread.to_string(), "2.00 (1.00..9.00)");
        assert_eq!(Spread::single(1234.4).to_string(), "1234");
    }

    #[test]
    fn a_bound_is_missed_only_by_every_round() {
        let spread = |lowest, highest| Spread { lowest, median: highest, highest };
        for (lowest, highest, bound, verdict) in [
            (0.8, 0.9, Bound::AtMost(0.9), Verdict::Pass),
            (0.89, 1.5, Bound::AtMost(0.9), Verdict::Pass),
            (0.91, 1.5, Bound::AtMost(0.9), Verdict::Short),
            (0.91, 1.5, Bound::AimAtMost(0.9), Verdict::AimMissed),
            (0.91, 1.5, Bound::Stated, Verdict::Stated),
            (1.5, 1.9, Bound::AtLeast(2.0), Verdict::Short),
            (1.5, 2.0, Bound::AtLeast(2.0), Verdict::Pass),
        ] {
            assert_eq!(Verdict::of(spread(lowest, highest), bound), verdict, "{lowest} {highest} {bound}");
        }
        assert!(Verdict::Short.fails() && Verdict::Broken.fails());
        assert!(!Verdict::AimMissed.fails() && !Verdict::Pass.fails());
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        assert_eq!(ratios(&[2.0, 9.0, 1.0], &[1.0, 3.0, 0.0]), [2.0, 3.0]);
    }
}
