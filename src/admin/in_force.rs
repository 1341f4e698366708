//! What operators are told of what is in force. `app` replaces it; a call takes it once.

use super::guard::Guard;
use super::{Listen, Settings};
use crate::clock::Timestamp;
use crate::sync::Engine;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use serde::Serialize;
use std::sync::Arc;

/// Whether a route needs the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// Writes of one are recorded.
    Needed,
    /// Those that are recorded are delivered; no further one is.
    Spare,
}

/// A configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// All of it, secrets redacted.
    pub config: serde_json::Value,
    /// The SHA-256 of its file in hexadecimal digits.
    pub digest: String,
    /// When it was read.
    pub loaded_at: Timestamp,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LastReload {
    /// When it ended.
    pub at: Timestamp,
    /// `applied`, `unchanged`, `refused`.
    pub result: &'static str,
}

/// What is told of what is in force.
#[derive(Clone, Debug)]
pub struct Told {
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) journal: Journal,
    pub(super) configuration: Arc<Configuration>,
    pub(super) last_reload: Option<LastReload>,
    pub(super) guard: Arc<Guard>,
}

impl Told {
    /// For an admin listener that is bound to `listening_on`.
    #[must_use]
    pub fn new(
        settings: &Settings,
        listening_on: &Listen,
        engine: Option<Arc<Engine>>,
        journal: Journal,
        configuration: Configuration,
    ) -> Self {
        Self {
            engine,
            journal,
            configuration: Arc::new(configuration),
            last_reload: None,
            guard: Arc::new(Guard::new(settings, listening_on)),
        }
    }
}

/// What is told now.
#[derive(Debug)]
pub struct InForce {
    told: ArcSwap<Told>,
    metrics: Metrics,
}

impl InForce {
    /// The first.
    #[must_use]
    pub fn new(told: Told, metrics: Metrics) -> Self {
        metrics.set_config(&told.configuration.digest);
        Self { told: ArcSwap::from_pointee(told), metrics }
    }

    /// Another configuration is in force.
    pub fn replace(&self, told: Told) {
        self.metrics.set_config(&told.configuration.digest);
        let last_reload = self.told().last_reload;
        self.told.store(Arc::new(Told { last_reload, ..told }));
    }

    /// The same configuration was read from another text.
    pub fn loaded(&self, digest: &str, now: Timestamp) {
        self.metrics.set_config(digest);
        let told = self.told();
        let config = told.configuration.config.clone();
        let configuration = Configuration { config, digest: digest.to_owned(), loaded_at: now };
        let configuration = Arc::new(configuration);
        self.told.store(Arc::new(Told { configuration, ..Told::clone(&told) }));
    }

    /// A reload has ended.
    pub fn reloaded(&self, last: LastReload) {
        let last_reload = Some(last);
        self.told.store(Arc::new(Told { last_reload, ..Told::clone(&self.told()) }));
    }

    pub(super) fn told(&self) -> Arc<Told> {
        self.told.load_full()
    }

    pub(super) fn engine(&self) -> Option<Arc<Engine>> {
        self.told.load().engine.clone()
    }
}
