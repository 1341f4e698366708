//! What a look at the recorder shows, by route, source, tier and quota.

use super::distribution::Distribution;
use super::series::{self, Series};
use crate::telemetry::metrics as names;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The words of `cache_status` that stand for an answer which cost the source no request.
const SPARED: [&str; 3] = ["hit", "hit-stale", "collapsed"];

/// The figures of a look; counts are since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Figures {
    /// By name.
    pub(super) routes: BTreeMap<String, RouteFigures>,
    /// By name.
    pub(super) sources: BTreeMap<String, SourceFigures>,
    /// The tiers of stored responses.
    pub(super) tiers: TierFigures,
    /// What quotas have denied.
    pub(super) quotas: Vec<QuotaFigures>,
    /// Bytes of the journal's pages in use.
    pub(super) journal_used_bytes: f64,
    /// Bytes of bodies in flight that are held.
    pub(super) in_flight_bytes: f64,
    /// Connections of clients.
    pub(super) connections: f64,
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) hit_seconds: Distribution,
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) forward_seconds: Distribution,
}

/// A route's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct RouteFigures {
    /// Requests answered.
    pub(super) requests: f64,
    /// Those that cost the source no request: hits, stale hits, collapsed ones.
    pub(super) spared: f64,
    /// Those that got another request's answer.
    collapsed: f64,
    /// By how they were answered: `hit`, or the token of `fwd` (RFC 9211).
    by_status: BTreeMap<String, f64>,
}

/// A source's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct SourceFigures {
    /// Requests that it was sent.
    pub(super) forwards: f64,
    /// By their reason.
    by_reason: BTreeMap<String, f64>,
    /// Requests under way.
    in_flight: f64,
    /// The most at once, as it is in force.
    concurrency: f64,
    /// Requests that wait for a place.
    waiting: f64,
    /// `closed`, `half-open`, `open`.
    breaker: &'static str,
    /// Addresses left out because they fail.
    ejected: Vec<String>,
    /// Exchanges that failed.
    failures: f64,
    /// Requests not sent: no place in time, or an open breaker.
    refused: f64,
    /// Accepted changes that it has not done yet.
    accepted_waiting: f64,
    /// Age of the oldest of them in seconds.
    accepted_lag_seconds: f64,
    /// Accepted changes that it has refused.
    dead_letters: f64,
}

/// The tiers'.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct TierFigures {
    /// Bytes of the responses in memory.
    memory_bytes: f64,
    /// How many they are.
    memory_responses: f64,
    /// Lookups by tier and result.
    lookups: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A quota's.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct QuotaFigures {
    /// The route.
    route: String,
    /// The quota.
    limit: String,
    /// Requests that it denied, or in shadow mode would have denied.
    denied: f64,
}

impl Figures {
    /// Reads what the recorder has rendered.
    pub(super) fn read(text: &str) -> Self {
        let mut figures = Self::default();
        series::read(text).for_each(|series| figures.take(&series));
        figures
    }

    fn take(&mut self, series: &Series) {
        let value = series.value;
        if let Some(histogram) = series.name.strip_suffix("_bucket") {
            let distribution = match histogram {
                names::REQUEST_SECONDS if series.label("served") == "hit" => &mut self.hit_seconds,
                names::REQUEST_SECONDS if series.label("served") == "forward" => &mut self.forward_seconds,
                _ => return,
            };
            if let Ok(bound) = series.label("le").parse() {
                distribution.add(bound, value);
            }
            return;
        }
        match series.name {
            names::REQUESTS => self.route(series).answered(series.label("cache_status"), value),
            names::TIER_LOOKUPS => {
                let tier = self.tiers.lookups.entry(series.label("tier").to_owned()).or_default();
                *tier.entry(series.label("result").to_owned()).or_default() += value;
            }
            names::QUOTA_DENIED => self.quotas.push(QuotaFigures {
                route: series.label("route").to_owned(),
                limit: series.label("limit").to_owned(),
                denied: value,
            }),
            names::MEMORY_BYTES => self.tiers.memory_bytes = value,
            names::MEMORY_RESPONSES => self.tiers.memory_responses = value,
            names::JOURNAL_USED => self.journal_used_bytes = value,
            names::IN_FLIGHT_BYTES => self.in_flight_bytes = value,
            names::CONNECTIONS => self.connections = value,
            _ => self.take_of_source(series),
        }
    }

    fn take_of_source(&mut self, series: &Series) {
        let value = series.value;
        match series.name {
            names::SOURCE_REQUESTS => {
                let source = self.source(series);
                source.forwards += value;
                *source.by_reason.entry(series.label("reason").to_owned()).or_default() += value;
            }
            names::SOURCE_EJECTED if value > 0.0 => {
                self.source(series).ejected.push(series.label("address").to_owned());
            }
            names::SOURCE_BREAKER => self.source(series).breaker = breaker(value),
            names::SOURCE_IN_FLIGHT => self.source(series).in_flight = value,
            names::SOURCE_CONCURRENCY => self.source(series).concurrency = value,
            names::SOURCE_WAITING => self.source(series).waiting = value,
            names::SOURCE_FAILURES => self.source(series).failures += value,
            names::SOURCE_REFUSED => self.source(series).refused += value,
            names::ACCEPTED_WAITING => self.source(series).accepted_waiting = value,
            names::ACCEPTED_LAG => self.source(series).accepted_lag_seconds = value,
            names::SOURCE_DEAD_LETTERS => self.source(series).dead_letters = value,
            _ => {}
        }
    }

    fn route(&mut self, series: &Series) -> &mut RouteFigures {
        self.routes.entry(series.label("route").to_owned()).or_default()
    }

    fn source(&mut self, series: &Series) -> &mut SourceFigures {
        self.sources.entry(series.label("source").to_owned()).or_default()
    }
}

impl RouteFigures {
    fn answered(&mut self, status: &str, count: f64) {
        self.requests += count;
        if SPARED.contains(&status) {
            self.spared += count;
        }
        if status == "collapsed" {
            self.collapsed += count;
        }
        if count > 0.0 {
            *self.by_status.entry(status.to_owned()).or_default() += count;
        }
    }
}

/// The word for what a gauge of a breaker says.
fn breaker(gauge: f64) -> &'static str {
    match gauge {
        gauge if gauge < 0.5 => "closed",
        gauge if gauge < 1.5 => "half-open",
        _ => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_recorder_renders_is_told_by_route_and_source() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
            .set_buckets(&[0.001, 1.0])
            .unwrap()
            .build_recorder();
        ::metrics::with_local_recorder(&recorder, || {
            for (status, count) in [("hit", 6), ("collapsed", 1), ("uri-miss", 3), ("stale", 0)] {
                ::metrics::counter!(names::REQUESTS, "route" => "a \"b\"", "cache_status" => status)
                    .increment(count);
            }
            ::metrics::counter!(names::SOURCE_REQUESTS, "source" => "s", "reason" => "uri-miss").increment(3);
            ::metrics::gauge!(names::SOURCE_BREAKER, "source" => "s").set(2.0);
            ::metrics::gauge!(names::SOURCE_EJECTED, "source" => "s", "address" => "x:1").set(1.0);
            ::metrics::counter!(names::QUOTA_DENIED, "route" => "r", "limit" => "l").increment(4);
            ::metrics::gauge!(names::MEMORY_BYTES).set(77.0);
            ::metrics::histogram!(names::REQUEST_SECONDS, "route" => "r", "served" => "hit").record(0.0005);
        });
        let figures = Figures::read(&recorder.handle().render());
        let route = &figures.routes["a \"b\""];
        assert_eq!((route.requests, route.spared, route.collapsed), (10.0, 7.0, 1.0));
        assert_eq!(route.by_status.keys().collect::<Vec<_>>(), ["collapsed", "hit", "uri-miss"]);
        let source = &figures.sources["s"];
        assert_eq!(
            (source.forwards, source.breaker, source.ejected.as_slice()),
            (3.0, "open", &["x:1".to_owned()][..])
        );
        assert_eq!((figures.quotas[0].denied, figures.tiers.memory_bytes), (4.0, 77.0));
        let hits = figures.hit_seconds.since(&Distribution::default());
        assert_eq!((hits.count, hits.p50.is_some()), (1.0, true));
    }
}
