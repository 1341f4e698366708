//! A route's metric handles, made once: a request adds to them and looks nothing up.

use super::cache_status::{CacheStatus, LABELS};
use crate::cache::rules::ForwardReason;
use crate::telemetry::metrics as names;
use metrics::{Counter, counter};

/// Every reason to forward, in the order of the enum.
const REASONS: [ForwardReason; 8] = [
    ForwardReason::Bypass,
    ForwardReason::Method,
    ForwardReason::UriMiss,
    ForwardReason::VaryMiss,
    ForwardReason::Miss,
    ForwardReason::Request,
    ForwardReason::Stale,
    ForwardReason::Partial,
];

/// The handles of one route.
pub(crate) struct RouteMetrics {
    answered: [Counter; LABELS.len()],
    forwarded: [Counter; REASONS.len()],
    collapsed: Counter,
}

impl RouteMetrics {
    pub(crate) fn new(route: &str, source: &str) -> Self {
        let (route, source) = (route.to_owned(), source.to_owned());
        Self {
            answered: LABELS.map(
                |label| counter!(names::REQUESTS, "route" => route.clone(), "cache_status" => label),
            ),
            forwarded: REASONS.map(|reason| {
                counter!(names::SOURCE_REQUESTS, "source" => source.clone(), "reason" => reason.as_str())
            }),
            collapsed: counter!(names::COLLAPSED, "route" => route),
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, status: CacheStatus) {
        if let Some(counter) = self.answered.get(status.index()) {
            counter.increment(1);
        }
        if let CacheStatus::Collapsed { .. } = status {
            self.collapsed.increment(1);
        }
    }

    /// The source was asked.
    pub(crate) fn forwarded(&self, reason: ForwardReason) {
        if let Some(counter) = self.forwarded.get(reason as usize) {
            counter.increment(1);
        }
    }
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RouteMetrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_the_order_of_the_enum() {
        for (index, reason) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
