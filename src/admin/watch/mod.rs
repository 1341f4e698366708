//! Who looks at the figures: every [`LIVE`] while somebody watches, else every [`EVERY`] for the curves.
//! A look reads the recorder and asks the engine, as a scrape does; nothing on the way of a request is added.

mod distribution;
mod figures;
mod history;
mod series;

use super::Parts;
use super::probes::{self, Report};
use crate::clock::Timestamp;
use crate::sync::DestinationStatus;
use figures::Figures;
use history::{EVERY, History, Latency};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior};
use utoipa::ToSchema;

/// Time between two looks while somebody watches.
const LIVE: Duration = Duration::from_secs(1);
/// How many may watch at once.
pub(super) const WATCHERS_MAX: usize = 32;
/// How long a look waits for the journal; after that it shows what the look before did.
const DESTINATIONS_TIMEOUT: Duration = Duration::from_secs(2);

/// All that the page shows without being asked.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// When, in milliseconds since the Unix epoch.
    at: Timestamp,
    /// The version of this build.
    version: &'static str,
    /// As `/readyz` tells it.
    readiness: Report,
    /// What the recorder has.
    figures: Figures,
    /// How long answers took lately.
    latency: Latency,
    /// As `/v1/destinations` tells them.
    destinations: Vec<DestinationStatus>,
}

/// What watchers are told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// A [`Status`] as JSON; `None` before the first look.
    pub(super) status: Option<Arc<str>>,
    /// [`history::Curves`] as JSON.
    pub(super) curves: Arc<str>,
    /// Grows with each point of the curves.
    pub(super) points: u64,
}

/// The looks and who is told of them.
pub(super) struct Watch {
    parts: Arc<Parts>,
    told: watch::Sender<Told>,
    places: Arc<Semaphore>,
    history: Mutex<History>,
    destinations: Mutex<Vec<DestinationStatus>>,
}

impl Watch {
    pub(super) fn new(parts: Arc<Parts>) -> Arc<Self> {
        Arc::new(Self {
            parts,
            told: watch::Sender::default(),
            places: Arc::new(Semaphore::new(WATCHERS_MAX)),
            history: Mutex::default(),
            destinations: Mutex::default(),
        })
    }

    /// What is told from now on, and a place among the watchers; `None`: all are taken.
    pub(super) fn subscribe(&self) -> Option<(watch::Receiver<Told>, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some((self.told.subscribe(), place))
    }

    /// A look at everything now.
    pub(super) async fn look(&self) -> Status {
        (self.parts.observe)();
        let destinations = self.destinations().await;
        if let Some(engine) = &self.parts.in_force.engine() {
            probes::observe_sources(engine).await;
        }
        let figures = Figures::read(&self.parts.metrics.render());
        Status {
            at: self.parts.clock.now(),
            version: env!("CARGO_PKG_VERSION"),
            readiness: probes::report(&self.parts).1,
            latency: locked(&self.history).latency(&figures),
            figures,
            destinations,
        }
    }

    async fn destinations(&self) -> Vec<DestinationStatus> {
        let Some(engine) = &self.parts.in_force.engine() else { return Vec::new() };
        let asked = tokio::time::timeout(DESTINATIONS_TIMEOUT, engine.destinations()).await;
        let mut last = locked(&self.destinations);
        if let Ok(Ok(destinations)) = asked {
            *last = destinations;
        }
        last.clone()
    }

    /// Looks until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LIVE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut point_due = Instant::now();
        loop {
            ticks.tick().await;
            let is_point = Instant::now() >= point_due;
            if !is_point && self.told.receiver_count() == 0 {
                continue;
            }
            let status = self.look().await;
            if is_point {
                point_due = Instant::now() + EVERY;
                self.note(&status);
            }
            let json = serde_json::to_string(&status).map(Arc::from).ok();
            self.told.send_modify(|told| told.status = json);
        }
    }

    /// The curves get a point.
    fn note(&self, status: &Status) {
        let mut history = locked(&self.history);
        history.note(&status.figures, &status.destinations, status.at);
        let curves = serde_json::to_string(&history.curves()).unwrap_or_default();
        self.told.send_modify(|told| {
            told.curves = curves.into();
            told.points += 1;
        });
    }
}

/// Nothing panics while it holds one; a lock that is poisoned all the same holds whole values.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
