//! The last half hour: looks at the figures, one every [`EVERY`], the oldest given up first.

use super::distribution::{Distribution, Quantiles};
use super::figures::Figures;
use crate::clock::Timestamp;
use crate::sync::DestinationStatus;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use utoipa::ToSchema;

/// Time between two looks.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// Looks kept: those of half an hour, and the one before.
const KEPT_MAX: usize = 181;
/// How many looks back "lately" begins: five minutes.
const LATELY: usize = 30;

/// Looks, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Look>);

#[derive(Debug)]
struct Look {
    at: Timestamp,
    requests: f64,
    spared: f64,
    forwards: f64,
    hit_seconds: Distribution,
    forward_seconds: Distribution,
    /// Lag and deliveries that wait, by destination.
    destinations: BTreeMap<String, (f64, u64)>,
}

/// The last half hour as curves: every list has a value for each of `at`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Curves {
    /// When, in milliseconds since the Unix epoch.
    at: Vec<Timestamp>,
    /// Requests a second since the point before.
    requests: Vec<f64>,
    /// Those of them that cost the source no request.
    spared: Vec<f64>,
    /// Requests to sources a second.
    forwards: Vec<f64>,
    /// 95 of 100 hits took at most so many seconds until the head.
    hit_p95: Vec<Option<f64>>,
    /// 95 of 100 forwards took at most so many seconds until the head.
    forward_p95: Vec<Option<f64>>,
    /// Age in seconds of the oldest change that waits, by destination; null where it was not there.
    lag_seconds: BTreeMap<String, Vec<Option<f64>>>,
    /// Deliveries that wait, by destination.
    pending: BTreeMap<String, Vec<Option<u64>>>,
}

/// How long the heads of answers took in the last five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Latency {
    /// Of what is stored.
    pub(super) hits: Quantiles,
    /// Of what a source was asked for.
    pub(super) forwards: Quantiles,
}

impl Look {
    fn new(figures: &Figures, destinations: &[DestinationStatus], at: Timestamp) -> Self {
        let waiting = destinations.iter().map(|one| (one.name.clone(), (one.lag_seconds, one.pending)));
        Self {
            at,
            requests: figures.routes.values().map(|route| route.requests).sum(),
            spared: figures.routes.values().map(|route| route.spared).sum(),
            forwards: figures.sources.values().map(|source| source.forwards).sum(),
            hit_seconds: figures.hit_seconds.clone(),
            forward_seconds: figures.forward_seconds.clone(),
            destinations: waiting.collect(),
        }
    }
}

impl History {
    /// Keeps a look.
    pub(super) fn note(&mut self, figures: &Figures, destinations: &[DestinationStatus], now: Timestamp) {
        if self.0.len() >= KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Look::new(figures, destinations, now));
    }

    /// How long answers took since about five minutes ago.
    pub(super) fn latency(&self, figures: &Figures) -> Latency {
        let Some(then) = self.0.len().checked_sub(LATELY).map_or(self.0.front(), |at| self.0.get(at)) else {
            return Latency::default();
        };
        Latency {
            hits: figures.hit_seconds.since(&then.hit_seconds),
            forwards: figures.forward_seconds.since(&then.forward_seconds),
        }
    }

    /// What came in between each two looks.
    pub(super) fn curves(&self) -> Curves {
        let mut curves = Curves::default();
        let names = self.0.iter().flat_map(|look| look.destinations.keys().cloned());
        for name in names {
            curves.lag_seconds.entry(name.clone()).or_default();
            curves.pending.entry(name).or_default();
        }
        for (before, look) in self.0.iter().zip(self.0.iter().skip(1)) {
            let seconds = look.at.since(before.at).as_secs_f64().max(0.001);
            let rate = |then: f64, now: f64| ((now - then).max(0.0) / seconds * 1000.0).round() / 1000.0;
            curves.at.push(look.at);
            curves.requests.push(rate(before.requests, look.requests));
            curves.spared.push(rate(before.spared, look.spared));
            curves.forwards.push(rate(before.forwards, look.forwards));
            curves.hit_p95.push(look.hit_seconds.since(&before.hit_seconds).p95);
            curves.forward_p95.push(look.forward_seconds.since(&before.forward_seconds).p95);
            for (name, lags) in &mut curves.lag_seconds {
                lags.push(look.destinations.get(name).map(|(lag, _)| *lag));
            }
            for (name, pending) in &mut curves.pending {
                pending.push(look.destinations.get(name).map(|(_, pending)| *pending));
            }
        }
        curves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics as names;

    fn figures(hits: u32) -> Figures {
        Figures::read(&format!("{}{{route=\"r\",cache_status=\"hit\"}} {hits}\n", names::REQUESTS))
    }

    #[test]
    fn half_an_hour_is_kept_and_no_more() {
        let mut history = History::default();
        assert_eq!(history.curves(), Curves::default());
        assert_eq!(history.latency(&figures(0)), Latency::default());
        for look in 0..500_u32 {
            history.note(&figures(look * 20), &[], Timestamp::from_millis(u64::from(look) * 10_000));
        }
        let curves = history.curves();
        assert_eq!((history.0.len(), curves.at.len()), (KEPT_MAX, KEPT_MAX - 1));
        assert!(curves.requests.iter().all(|rate| (rate - 2.0).abs() < 0.001), "{:?}", curves.requests);
        let span = curves.at.last().unwrap().since(curves.at[0]);
        assert_eq!(span, Duration::from_secs(1790));
    }
}
