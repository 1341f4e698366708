//! The operators' listener: health, metrics, the page, purges, explanations, changes, dead letters, configuration.
//!
//! Everything under `/v1` passes the guard (`guard.rs`); every refusal is a problem (RFC 9457). GET changes
//! nothing, and every call that changes something leaves a line in the log (`tidegate::audit`).

mod changes;
mod config;
mod dead_letters;
mod destinations;
mod events;
mod explain;
mod guard;
mod in_force;
mod input;
mod listen;
mod openapi;
mod operations;
mod operator;
mod page;
mod probes;
mod problem;
mod purge;
mod readiness;
mod reload;
mod replay;
mod serve;
#[cfg(test)]
mod tests;
mod watch;

pub use explain::Explain;
pub use in_force::{Configuration, InForce, Journal, LastReload, Told};
pub use listen::{Listen, Listener};
pub use operator::{NOBODY, ONLY_TOKEN, Operator, Role};
pub use readiness::{Phase, Readiness};
pub use reload::{Refused, Reload, Reloaded};
pub use serve::serve;

use crate::breaker;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::secret::Secret;
use crate::telemetry::metrics::Metrics;
use axum::Router;
use axum::routing::{get, post};
use problem::Problem;
use std::sync::Arc;
use watch::Watch;

/// What the admin listener is built from (`[admin]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: Listen,
    /// What `/v1` asks for, which may do everything; without any token on loopback or a Unix socket only.
    pub token: Option<Secret>,
    /// Operators with tokens of their own.
    pub operators: Vec<Operator>,
    /// Further Host values that are answered.
    pub hosts: Vec<String>,
}

/// What operators see and steer.
pub struct Parts {
    /// The stored responses.
    pub cache: Arc<Cache>,
    /// The changes, the configuration and who may call: what a reload replaces.
    pub in_force: Arc<InForce>,
    /// Reads the configuration's file again.
    pub reload: Reload,
    /// What is measured.
    pub metrics: Metrics,
    /// Brings the gauges that time alone moves up to now, before they are read.
    pub observe: Box<dyn Fn() + Send + Sync>,
    /// Whether requests can be served.
    pub readiness: Arc<Readiness>,
    /// The breaker toward the shared tier; `None` where there is none.
    pub shared_tier: Option<Box<dyn Fn() -> breaker::State + Send + Sync>>,
    /// What time it is.
    pub clock: Clock,
    /// Tells how a request would be answered.
    pub explain: Explain,
}

/// The admin API, and what looks at the figures for the page: it runs until dropped.
pub fn router(parts: Parts) -> (Router, impl Future<Output = ()> + Send + 'static) {
    let parts = Arc::new(parts);
    let watch = Watch::new(Arc::clone(&parts));
    let watched = Router::new()
        .route("/v1/status", get(events::show))
        .route("/v1/events", get(events::events))
        .with_state(Arc::clone(&watch));
    let router = Router::new()
        .route("/", get(page::show))
        .route("/page/{file}", get(page::file))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .route("/openapi.json", get(openapi::show))
        .route("/v1/purge", post(purge::purge))
        .route("/v1/purges/{seq}", get(purge::show))
        .route("/v1/explain", get(explain::show))
        .route("/v1/destinations", get(destinations::list))
        .route("/v1/destinations/{name}/pause", post(destinations::pause))
        .route("/v1/destinations/{name}/resume", post(destinations::resume))
        .route("/v1/changes", get(changes::list))
        .route("/v1/changes/{id}", get(changes::show))
        .route("/v1/changes/{id}/resolve", post(changes::resolve))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/redrive", post(dead_letters::redrive))
        .route("/v1/dead-letters/discard", post(dead_letters::discard))
        .route("/v1/replay", post(replay::replay))
        .route("/v1/operations", get(operations::list))
        .route("/v1/operations/{id}/stop", post(operations::stop))
        .route("/v1/config", get(config::show))
        .route("/v1/reload", post(reload::reload))
        .with_state(Arc::clone(&parts))
        .merge(watched)
        .fallback(|| async { Problem::NOT_FOUND })
        .method_not_allowed_fallback(|| async { Problem::METHOD_NOT_ALLOWED })
        .layer(axum::middleware::from_fn_with_state(parts, guard::guard));
    (router, watch.run())
}
