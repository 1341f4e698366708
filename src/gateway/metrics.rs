//! A route's metric handles, made once: a request adds to them and looks nothing up.

use super::cache_status::{CacheStatus, LABELS, Unwaited};
use super::tunnel::End;
use crate::cache::rules::ForwardReason;
use crate::telemetry::metrics as names;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::time::Duration;

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

/// Who had the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// The cache.
    Hit,
    /// The source, asked by this request or by one that it followed.
    Forward,
    /// Tidegate itself.
    Own,
}

impl Served {
    const ALL: [Self; 3] = [Self::Hit, Self::Forward, Self::Own];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Forward => "forward",
            Self::Own => "own",
        }
    }

    const fn of(status: CacheStatus) -> Self {
        match status {
            CacheStatus::Hit { .. } | CacheStatus::HitStale { .. } => Self::Hit,
            CacheStatus::Forwarded { .. }
            | CacheStatus::Collapsed { .. }
            | CacheStatus::StaleIfError { .. }
            | CacheStatus::Failed { .. } => Self::Forward,
            CacheStatus::Unwaited(_) | CacheStatus::Own => Self::Own,
        }
    }
}

/// The handles of one route.
pub(crate) struct RouteMetrics {
    answered: [Counter; LABELS.len()],
    head_seconds: [Histogram; Served::ALL.len()],
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
            head_seconds: Served::ALL.map(|served| {
                histogram!(names::REQUEST_SECONDS, "route" => route.clone(), "served" => served.as_str())
            }),
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

    /// A request was answered; its head `took` so long.
    pub(crate) fn answered(&self, status: CacheStatus, took: Duration) {
        if let Some(histogram) = self.head_seconds.get(Served::of(status) as usize) {
            histogram.record(took.as_secs_f64());
        }
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
