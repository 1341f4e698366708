//! `/livez`, `/readyz`, `/metrics`: for machines that watch; no token, any Host.

use super::input::{Nothing, Parameters};
use super::{Journal, LastReload, Parts, Phase};
use crate::breaker;
use crate::clock::Timestamp;
use crate::sync::status::DestinationState;
use crate::sync::{AcceptedStatus, DestinationStatus, Engine, JournalState};
use crate::telemetry::metrics as names;
use ::metrics::gauge;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;
use utoipa::ToSchema;

/// How long a scrape waits for the journal; after that it shows the figures of the last one.
const DESTINATIONS_TIMEOUT: Duration = Duration::from_secs(2);
/// The text format of Prometheus.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The process runs.
#[utoipa::path(
    get, path = "/livez", tag = "probes", operation_id = "livez",
    responses((status = 200, body = Object, example = json!({ "status": "alive" }))),
)]
pub(super) async fn livez(_: Parameters<Nothing>) -> impl IntoResponse {
    Json(serde_json::json!({ "status": "alive" }))
}

/// The state of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PartState {
    Ready,
    Starting,
    Draining,
    Recovering,
    Unavailable,
    Full,
    Damaged,
    NotConfigured,
}

/// Whether requests can be served, and the state of each part.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Readiness)]
pub(super) struct Report {
    status: &'static str,
    parts: PartStates,
    config: ConfigState,
}

/// Which configuration is in force, and what came of the last attempt to put another one there.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ConfigState {
    digest: String,
    loaded_at: Timestamp,
    last_reload: Option<LastReload>,
}

/// The state of each part.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct PartStates {
    gateway: PartState,
    journal: PartState,
    shared_tier: PartState,
}

/// Whether requests can be served: the gateway runs, and where a route syncs the journal accepts.
/// Redis never counts (I9).
#[utoipa::path(
    get, path = "/readyz", tag = "probes", operation_id = "readyz",
    responses(
        (status = 200, body = Report, example = json!({
            "status": "ready", "parts": { "gateway": "ready", "journal": "ready", "shared_tier": "not-configured" },
            "config": {
                "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "loaded_at": 1_790_000_000_000_u64,
                "last_reload": { "at": 1_790_000_000_000_u64, "result": "applied" }
            }
        })),
        (status = 503, body = Report, example = json!({
            "status": "draining", "parts": { "gateway": "draining", "journal": "ready", "shared_tier": "ready" },
            "config": {
                "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "loaded_at": 1_790_000_000_000_u64, "last_reload": null
            }
        })),
    ),
)]
pub(super) async fn readyz(State(parts): State<Arc<Parts>>, _: Parameters<Nothing>) -> impl IntoResponse {
    let (code, report) = report(&parts);
    (code, Json(report))
}

/// Whether requests can be served now.
pub(super) fn report(parts: &Parts) -> (StatusCode, Report) {
    let (phase, told) = (parts.readiness.phase(), parts.in_force.told());
    let report = PartStates {
        gateway: match phase {
            Phase::Starting => PartState::Starting,
            Phase::Ready => PartState::Ready,
            Phase::Draining => PartState::Draining,
        },
        journal: match &told.engine {
            None => PartState::NotConfigured,
            Some(engine) => match engine.journal_state() {
                JournalState::Accepts => PartState::Ready,
                JournalState::Full => PartState::Full,
                JournalState::Unavailable => PartState::Unavailable,
                JournalState::Damaged => PartState::Damaged,
            },
        },
        shared_tier: match parts.shared_tier.as_ref().map(|state| state()) {
            None => PartState::NotConfigured,
            Some(breaker::State::Closed) => PartState::Ready,
            Some(breaker::State::HalfOpen) => PartState::Recovering,
            Some(breaker::State::Open) => PartState::Unavailable,
        },
    };
    let (code, status) = match (phase, report.journal) {
        (Phase::Ready, PartState::Unavailable | PartState::Full | PartState::Damaged)
            if told.journal == Journal::Needed =>
        {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
        (Phase::Ready, _) => (StatusCode::OK, phase.as_str()),
        (Phase::Starting | Phase::Draining, _) => (StatusCode::SERVICE_UNAVAILABLE, phase.as_str()),
    };
    let config = ConfigState {
        digest: told.configuration.digest.clone(),
        loaded_at: told.configuration.loaded_at,
        last_reload: told.last_reload,
    };
    (code, Report { status, parts: report, config })
}

/// Everything measured; gauges of what waits are computed now.
#[utoipa::path(
    get, path = "/metrics", tag = "probes", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "text/plain", description = "Prometheus text")),
)]
pub(super) async fn metrics(State(parts): State<Arc<Parts>>, _: Parameters<Nothing>) -> impl IntoResponse {
    (parts.observe)();
    if let Some(engine) = &parts.in_force.engine() {
        observe_journal(engine.journal_state());
        observe_destinations(engine).await;
        observe_sources(engine).await;
    }
    ([(CONTENT_TYPE, PROMETHEUS_TEXT)], parts.metrics.render())
}

fn observe_journal(state: JournalState) {
    for (name, shown) in [
        ("accepts", JournalState::Accepts),
        ("full", JournalState::Full),
        ("unavailable", JournalState::Unavailable),
        ("damaged", JournalState::Damaged),
    ] {
        gauge!(names::JOURNAL_STATE, "state" => name).set(f64::from(u8::from(state == shown)));
    }
}

async fn observe_destinations(engine: &Engine) {
    match tokio::time::timeout(DESTINATIONS_TIMEOUT, engine.destinations()).await {
        Ok(Ok(destinations)) => destinations.iter().for_each(observe_destination),
        Ok(Err(error)) => debug!(%error, "the destinations' figures are those of an earlier scrape"),
        Err(_) => debug!("the journal did not answer in time; figures are those of an earlier scrape"),
    }
}

/// What is computed when asked; attempts under way and the breaker are told by the worker as they change.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
fn observe_destination(destination: &DestinationStatus) {
    let set =
        |name: &'static str, value: f64| gauge!(name, "destination" => destination.name.clone()).set(value);
    set(names::DESTINATION_PENDING, destination.pending as f64);
    set(names::DESTINATION_LAG, destination.lag_seconds);
    set(names::DEAD_LETTERS, destination.dead_letters as f64);
    set(names::PARKED_KEYS, destination.parked_keys as f64);
    let is = |state: DestinationState| f64::from(u8::from(destination.state == state));
    set(names::DESTINATION_HELD, is(DestinationState::Held));
    set(names::DESTINATION_PAUSED, is(DestinationState::Paused));
}

/// Sets the gauges of accepted changes.
pub(super) async fn observe_sources(engine: &Engine) {
    if let Ok(Ok(sources)) = tokio::time::timeout(DESTINATIONS_TIMEOUT, engine.accepted()).await {
        sources.iter().for_each(observe_source);
    } else {
        debug!("figures of accepted changes are those of an earlier scrape");
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
fn observe_source(accepted: &AcceptedStatus) {
    let set = |name: &'static str, value: f64| gauge!(name, "source" => accepted.source.clone()).set(value);
    set(names::ACCEPTED_WAITING, accepted.waiting as f64);
    set(names::ACCEPTED_LAG, accepted.lag_seconds);
    set(names::SOURCE_DEAD_LETTERS, accepted.dead_letters as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_is_computed_of_a_destination() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let status = DestinationStatus {
            name: "search".to_owned(),
            state: DestinationState::Held,
            pending: 3,
            in_flight: 1,
            lag_seconds: 1.5,
            breaker: "half-open",
            concurrency: 4,
            parked_keys: 0,
            dead_letters: 2,
            last_error: None,
            next_attempt_at: None,
        };
        ::metrics::with_local_recorder(&recorder, || observe_destination(&status));
        let text = recorder.handle().render();
        for line in [
            "tidegate_destination_pending{destination=\"search\"} 3",
            "tidegate_destination_lag_seconds{destination=\"search\"} 1.5",
            "tidegate_dead_letters{destination=\"search\"} 2",
            "tidegate_destination_held{destination=\"search\"} 1",
            "tidegate_destination_paused{destination=\"search\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
