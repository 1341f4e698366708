//! A route's metric handles, made once: a request adds to them and looks nothing up.

use super::cache_status::{CacheStatus, LABELS, Unwaited};
use super::tunnel::End;
use crate::cache::rules::ForwardReason;
use crate::telemetry::metrics as names;
use metrics::{Counter, Gauge, counter, gauge};

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
    timed_out: Counter,
    crowded: Counter,
    extra_leaders: Counter,
    tunnels: Gauge,
    tunnels_ended: [Counter; End::ALL.len()],
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
            collapsed: counter!(names::COLLAPSED, "route" => route.clone()),
            timed_out: unwaited(&route, Unwaited::Timeout),
            crowded: unwaited(&route, Unwaited::Crowded),
            extra_leaders: counter!(names::EXTRA_LEADERS, "source" => source.clone()),
            tunnels: gauge!(names::TUNNELS, "route" => route.clone()),
            tunnels_ended: End::ALL
                .map(|end| counter!(names::TUNNELS_ENDED, "route" => route.clone(), "end" => end.as_str())),
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

    /// Somebody did not get what they waited for.
    pub(crate) fn unwaited(&self, why: Unwaited) {
        match why {
            Unwaited::Timeout => self.timed_out.increment(1),
            Unwaited::Crowded => self.crowded.increment(1),
        }
    }

    /// A follower stepped in.
    pub(crate) fn stepped_in(&self) {
        self.extra_leaders.increment(1);
    }

    /// A tunnel opens.
    pub(crate) fn tunnel_opens(&self) {
        self.tunnels.increment(1.0);
    }

    /// A tunnel has ended.
    pub(crate) fn tunnel_ends(&self, end: End) {
        self.tunnels.decrement(1.0);
        if let Some(counter) = self.tunnels_ended.get(end as usize) {
            counter.increment(1);
        }
    }

    /// The source was asked.
    pub(crate) fn forwarded(&self, reason: ForwardReason) {
        if let Some(counter) = self.forwarded.get(reason as usize) {
            counter.increment(1);
        }
    }
}

fn unwaited(route: &str, why: Unwaited) -> Counter {
    counter!(names::UNWAITED, "route" => route.to_owned(), "reason" => why.as_str())
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
