//! What a histogram has counted, and the quantiles of what came in between two looks at it.

use serde::Serialize;
use utoipa::ToSchema;

/// Counts of values up to each bound, the smallest bound first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Distribution(Vec<(f64, f64)>);

/// How long something took, of what there was lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Quantiles {
    /// How many there were.
    pub(super) count: f64,
    /// Half of them took at most so many seconds; null where there were none.
    pub(super) p50: Option<f64>,
    /// 95 of 100.
    pub(super) p95: Option<f64>,
    /// 99 of 100.
    pub(super) p99: Option<f64>,
}

impl Distribution {
    /// Adds what one series has counted up to a bound.
    pub(super) fn add(&mut self, bound: f64, count: f64) {
        let at = self.0.partition_point(|(own, _)| *own < bound);
        match self.0.get_mut(at) {
            Some((own, sum)) if own.total_cmp(&bound).is_eq() => *sum += count,
            _ => self.0.insert(at, (bound, count)),
        }
    }

    /// What has been counted since an earlier look.
    pub(super) fn since(&self, earlier: &Self) -> Quantiles {
        let before = |bound: f64| {
            let same = earlier.0.iter().find(|(own, _)| own.total_cmp(&bound).is_eq());
            same.map_or(0.0, |(_, count)| *count)
        };
        let counts = self.0.iter().map(|(bound, count)| (*bound, (count - before(*bound)).max(0.0)));
        let lately = Self(counts.collect());
        Quantiles {
            count: lately.0.last().map_or(0.0, |(_, count)| *count),
            p50: lately.quantile(0.5),
            p95: lately.quantile(0.95),
            p99: lately.quantile(0.99),
        }
    }

    /// The value below which that share lies, taken as even within a bucket, as Prometheus does.
    fn quantile(&self, share: f64) -> Option<f64> {
        let rank = self.0.last().map(|(_, count)| count * share).filter(|rank| *rank > 0.0)?;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                let part = (rank - below) / (count - below);
                return Some(if bound.is_finite() { from + (bound - from) * part } else { from });
            }
            (from, below) = (*bound, *count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_came_in_between() {
        let of = |counts: [f64; 3]| {
            let mut distribution = Distribution::default();
            for (bound, count) in [1.0, 2.0, f64::INFINITY].into_iter().zip(counts) {
                distribution.add(bound, count / 2.0);
                distribution.add(bound, count / 2.0);
            }
            distribution
        };
        let none = of([0.0, 0.0, 0.0]);
        assert_eq!(of([10.0, 10.0, 10.0]).since(&of([10.0, 10.0, 10.0])), Quantiles::default());
        assert_eq!(of([10.0, 10.0, 10.0]).since(&none).p50, Some(0.5));
        let later = of([10.0, 20.0, 20.0]).since(&of([10.0, 10.0, 10.0]));
        assert_eq!((later.count, later.p50), (10.0, Some(1.5)), "only the second bucket has got any");
        assert_eq!(of([0.0, 0.0, 4.0]).since(&none).p99, Some(2.0), "no more is known than the last bound");
        assert_eq!(Distribution::default().since(&none), Quantiles::default());
    }
}
