//! What of the configuration is in force in the engine, and how another one takes its place.
//!
//! ```text
//! prepare -> the journal knows the destinations that are new          refused: nothing has changed
//! apply   -> kept: its worker goes on, with other settings if they are    added: a worker
//!            removed: `sync.removed` = "drain": its worker goes on until nothing waits for it
//!                                    "drop": its worker ends what is under way, the rest is given up
//! ```
//! One that comes back before its worker has ended waits for that: no key is in flight twice (I3).

use super::accept;
use super::destinations::WorkerHandle;
use super::engine::{Engine, Inner};
use super::journal::Health;
use super::journal::record::{Enlisted, Record, Unwritten};
use super::journal::sqlite::{self, KnownDestination};
use super::settings::{Removed, Settings, SourceSettings};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// What the engine looks up while it works.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) sources: HashMap<String, SourceSettings>,
    pub(super) source_timeouts: HashMap<String, Duration>,
    pub(super) retention: Duration,
    pub(super) removed: Removed,
}

impl Configured {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            sources: settings.sources.iter().map(|source| (source.name.clone(), source.clone())).collect(),
            source_timeouts: settings.source_timeouts.iter().cloned().collect(),
            retention: settings.retention,
            removed: settings.removed,
        }
    }
}

/// The workers.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) destinations: Vec<WorkerHandle>,
    pub(super) sources: Vec<accept::Handle>,
    /// Those of destinations that are not configured any more, and for which something waits.
    draining: Vec<WorkerHandle>,
    /// Those of what is not configured any more, that have not ended.
    leaving: Vec<Leaving>,
}

/// Who leaves.
#[derive(Clone, Debug)]
struct Leaving {
    who: Who,
    presence: Presence,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Destination(String),
    Source(String),
}

/// The presence of one worker.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    /// It begins nothing any more: the engine stops, or it is not configured any more.
    pub(super) leave: CancellationToken,
    /// It has ended.
    pub(super) gone: CancellationToken,
}

impl Presence {
    pub(super) fn of(inner: &Inner) -> Self {
        Self { leave: inner.stop.child_token(), gone: CancellationToken::new() }
    }
}

/// Which of what stays has other settings, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Altered {
    /// Destinations.
    pub destinations: Vec<String>,
    /// Sources.
    pub sources: Vec<String>,
}

/// Another configuration that can be applied without fail. Dropped, it leaves the one in force as it is.
#[derive(Debug)]
pub struct Prepared {
    inner: Arc<Inner>,
    settings: Settings,
    known: Vec<KnownDestination>,
    /// Nobody is retired, and no other configuration prepared, meanwhile.
    _changing: OwnedMutexGuard<()>,
}

/// The journal cannot take another configuration now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written")]
pub struct NotPrepared;

impl From<Unwritten> for NotPrepared {
    fn from(Unwritten: Unwritten) -> Self {
        Self
    }
}

impl Engine {
    /// Makes durable what has to be before `settings` are in force.
    ///
    /// # Errors
    /// [`NotPrepared`]: nothing has changed.
    pub async fn prepare(&self, settings: Settings) -> Result<Prepared, NotPrepared> {
        let inner = Arc::clone(&self.inner);
        let changing = Arc::clone(&inner.changing).lock_owned().await;
        if inner.stop.is_cancelled() || inner.journal.health() != Health::Sound {
            return Err(NotPrepared);
        }
        let destinations = settings.destinations.iter().map(Enlisted::from).collect();
        let max_size_bytes = settings.max_size_bytes;
        inner.journal.write(Record::InForce { destinations, max_size_bytes }).await?;
        let known = inner.journal.readers().read(sqlite::destinations).await?;
        Ok(Prepared { inner, settings, known, _changing: changing })
    }
}

impl Prepared {
    /// Puts it in force.
    pub fn apply(self, altered: &Altered) {
        let old = self.inner.roster.load_full();
        self.inner.configured.store(Arc::new(Configured::of(&self.settings)));
        let mut new = Roster { leaving: old.leaving.clone(), ..Roster::default() };
        new.leaving.retain(|leaving| !leaving.presence.gone.is_cancelled());
        self.leave(&old, &mut new);
        for settings in &self.settings.destinations {
            let name = &settings.name;
            if let Some(worker) = old.working().find(|worker| worker.known.name == *name) {
                // One that drains has the settings that it had when it went.
                if altered.destinations.contains(name) || old.drains(&worker.known) {
                    worker.settings.send_replace(Arc::new(settings.clone()));
                }
                new.destinations.push(worker.clone());
            } else if let Some(known) = self.known.iter().find(|known| known.name == *name) {
                let before = new.gone(&Who::Destination(name.clone()));
                new.destinations.push(self.inner.deliver_later(known.clone(), settings.clone(), before));
            }
        }
        for settings in &self.settings.sources {
            let name = &settings.name;
            if let Some(worker) = old.sources.iter().find(|worker| worker.source == *name) {
                if altered.sources.contains(name) {
                    worker.settings.send_replace(Arc::new(settings.clone()));
                }
                new.sources.push(worker.clone());
            } else {
                let before = new.gone(&Who::Source(name.clone()));
                new.sources.push(accept::carry_to(&self.inner, settings.clone(), before));
            }
        }
        self.inner.roster.store(Arc::new(new));
    }

    /// Those that are not configured any more begin nothing from now on, but for destinations that drain.
    fn leave(&self, old: &Roster, new: &mut Roster) {
        let stays = |name: &str| self.settings.destinations.iter().any(|it| it.name == name);
        for worker in old.working().filter(|worker| !stays(&worker.known.name)) {
            if self.settings.removed == Removed::Drain {
                new.draining.push(worker.clone());
                if !old.drains(&worker.known) {
                    self.inner.drain(worker.clone());
                }
                continue;
            }
            let who = Who::Destination(worker.known.name.clone());
            new.leaving.push(Leaving { who, presence: worker.presence.clone() });
        }
        for worker in old.draining.iter().filter(|worker| worker.has_left()) {
            let who = Who::Destination(worker.known.name.clone());
            new.leaving.push(Leaving { who, presence: worker.presence.clone() });
        }
        let stays = |name: &str| self.settings.sources.iter().any(|it| it.name == name);
        for worker in old.sources.iter().filter(|worker| !stays(&worker.source)) {
            let who = Who::Source(worker.source.clone());
            new.leaving.push(Leaving { who, presence: worker.presence.clone() });
        }
        new.leaving.iter().for_each(|leaving| leaving.presence.leave.cancel());
    }
}

impl Roster {
    /// Nobody leaves.
    pub(super) fn new(destinations: Vec<WorkerHandle>, sources: Vec<accept::Handle>) -> Self {
        Self { destinations, sources, draining: Vec::new(), leaving: Vec::new() }
    }

    /// Those that deliver: to what is configured, and to what drains.
    pub(super) fn working(&self) -> impl Iterator<Item = &WorkerHandle> {
        self.destinations.iter().chain(self.draining.iter().filter(|worker| !worker.has_left()))
    }

    /// Whether a destination is not configured any more, and something waits for it.
    pub(super) fn drains(&self, known: &KnownDestination) -> bool {
        self.draining.iter().any(|worker| worker.known.id == known.id && !worker.has_left())
    }

    /// Ends when the last one of this name that leaves has gone; `None`: there is none.
    fn gone(&self, who: &Who) -> Option<CancellationToken> {
        let last = self.leaving.iter().rfind(|leaving| leaving.who == *who);
        last.map(|leaving| leaving.presence.gone.clone())
    }
}
