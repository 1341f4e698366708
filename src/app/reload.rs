//! Another configuration while the gateway runs: all of it is put in force, or nothing.
//!
//! ```text
//! SIGHUP, a changed file, POST /v1/reload   one at a time
//!   -> read and check                       refused: every fault
//!   -> what changes                         refused: what needs a restart, each key at its place
//!   -> the journal knows new destinations   refused: it cannot be written, or not be opened
//!   ---------------------------------------------------------------------------------- from here on nothing fails
//!   -> engine, sources, gateway, operators' listener
//! ```

use super::Origin;
use super::parts::Parts;
use super::watch::Signature;
use crate::admin::{self, LastReload, Reloaded};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Changes, Faults, Settings, Subject};
use crate::sync::{Altered, Engine};
use crate::telemetry::{self, metrics as names};
use metrics::{counter, gauge};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, Semaphore};

/// Reloads that wait for one another; beyond them callers are told to come again (I10).
const WAITING_MAX: usize = 16;

/// What asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Signal,
    File,
    Call,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::File => "changed file",
            Self::Call => "call",
        }
    }
}

/// Whether what was seen of a changed file has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Passed,
    /// It changed again while it was read: nothing was done with it.
    Moving,
}

/// Why a configuration is not in force.
#[derive(Debug)]
enum Refused {
    Faults(Faults),
    /// It is read from no file.
    NoFile,
    Crowded,
    Stopping,
    /// The file changed while it was read.
    Moving,
}

impl From<Faults> for Refused {
    fn from(faults: Faults) -> Self {
        Self::Faults(faults)
    }
}

/// The one owner of what is in force: it alone replaces it.
pub(super) struct Reloader {
    origin: Origin,
    /// `None`: the gateway stops.
    running: Mutex<Option<Running>>,
    waiting: Arc<Semaphore>,
    admin: Arc<admin::InForce>,
    clock: Clock,
    /// SIGHUPs that were not heard yet: any number of them is one.
    pub(super) hangup: Notify,
}

/// What is in force, and what it is compared with the next by.
struct Running {
    parts: Parts,
    settings: Settings,
    /// The content that was looked at last; `None`: it could not be read.
    judged: Option<String>,
}

/// A configuration that is in force.
struct Applied {
    digest: String,
    changes: Changes,
}

impl Applied {
    fn result(&self) -> &'static str {
        if self.changes.is_empty() { "unchanged" } else { "applied" }
    }
}

impl Reloader {
    /// `settings` are in force already.
    pub(super) fn new(
        origin: Origin,
        parts: Parts,
        settings: &Settings,
        admin: Arc<admin::InForce>,
        clock: Clock,
    ) -> Arc<Self> {
        for result in ["applied", "unchanged", "refused"] {
            counter!(names::CONFIG_RELOADS, "result" => result).absolute(0);
        }
        let judged = Some(settings.digest.clone());
        let running = Running { parts, settings: settings.clone(), judged };
        let reloader = Self {
            origin,
            running: Mutex::new(Some(running)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            admin,
            clock,
            hangup: Notify::new(),
        };
        reloader.note_success();
        Arc::new(reloader)
    }

    /// Reads the file again, for an operator who called.
    pub(super) async fn reload_called(self: Arc<Self>) -> Result<Reloaded, admin::Refused> {
        match self.reload(Cause::Call, None).await {
            Ok(applied) => Ok(Reloaded {
                result: applied.result(),
                digest: applied.digest,
                changes: serde_json::to_value(&applied.changes).unwrap_or_default(),
            }),
            Err(Refused::Faults(faults)) => {
                Err(admin::Refused::Faults(serde_json::to_value(&faults).unwrap_or_default()))
            }
            Err(Refused::NoFile) => Err(admin::Refused::NoFile),
            Err(Refused::Crowded | Refused::Moving) => Err(admin::Refused::Crowded),
            Err(Refused::Stopping) => Err(admin::Refused::Stopping),
        }
    }

    /// Reads the file again for a SIGHUP.
    pub(super) async fn reload_signalled(self: &Arc<Self>) {
        // Log, metrics and /readyz tell what came of it.
        drop(self.reload(Cause::Signal, None).await);
    }

    /// Reads a file again that has changed, and is left alone with this signature.
    pub(super) async fn reload_changed(self: &Arc<Self>, seen: Signature) -> Judgement {
        match self.reload(Cause::File, Some(seen)).await {
            Err(Refused::Moving | Refused::Crowded) => Judgement::Moving,
            Ok(_) | Err(Refused::Faults(_) | Refused::NoFile | Refused::Stopping) => Judgement::Passed,
        }
    }

    /// Nothing is reloaded any more: what is in force is handed out to be stopped.
    pub(super) async fn close(&self) -> Option<Parts> {
        self.running.lock().await.take().map(|running| running.parts)
    }

    /// One at a time, in a task of its own: a caller that leaves ends nothing halfway.
    async fn reload(self: &Arc<Self>, cause: Cause, seen: Option<Signature>) -> Result<Applied, Refused> {
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Refused::Crowded)?;
        let own = Arc::clone(self);
        let reload = tokio::spawn(async move {
            let _place = place;
            own.run(cause, seen).await
        });
        // It is not aborted, and a panic has said what it is.
        reload.await.unwrap_or(Err(Refused::Stopping))
    }

    async fn run(&self, cause: Cause, seen: Option<Signature>) -> Result<Applied, Refused> {
        let mut running = self.running.lock().await;
        let running = running.as_mut().ok_or(Refused::Stopping)?;
        let Origin::File(path) = &self.origin else { return Err(Refused::NoFile) };
        let text = read(path, seen).await?;
        let digest = text.as_ref().ok().map(|text| text.digest().to_owned());
        if cause == Cause::File && digest == running.judged {
            let digest = digest.unwrap_or_default();
            return Ok(Applied { digest, changes: Changes::default() });
        }
        running.judged = digest;
        let outcome = match text {
            Ok(text) => self.apply(running, text).await,
            Err(faults) => Err(faults),
        };
        self.tell(cause, &outcome);
        outcome.map_err(Refused::Faults)
    }

    async fn apply(&self, running: &mut Running, text: config::Text) -> Result<Applied, Faults> {
        let read = tokio::task::spawn_blocking(move || text.settings());
        let settings = match read.await {
            Ok(settings) => settings?,
            Err(error) => {
                return Err(Faults::at(
                    &running.settings.keys,
                    "(file)",
                    error.to_string(),
                    "report this fault",
                ));
            }
        };
        let changes = Changes::between(&running.settings.keys, &settings.keys)?;
        let altered = altered(&changes, &running.settings, &settings);
        let digest = settings.digest.clone();
        if changes.is_empty() && altered == Altered::default() {
            self.admin.loaded(&digest, self.clock.now());
        } else {
            self.put_in_force(running, (&changes, &altered), &settings).await?;
        }
        running.settings = settings;
        Ok(Applied { digest, changes })
    }

    async fn put_in_force(
        &self,
        running: &mut Running,
        (changes, altered): (&Changes, &Altered),
        settings: &Settings,
    ) -> Result<(), Faults> {
        let parts = &mut running.parts;
        let refused = |cause: &dyn std::fmt::Display| {
            let message = format!("cannot be used now: {cause}");
            Faults::at(
                &settings.keys,
                "sync.data",
                message,
                "mend it, then reload; nothing of this file is applied",
            )
        };
        let journal = match &parts.engine {
            Some(engine) => {
                Some(engine.prepare(settings.sync.clone()).await.map_err(|cause| refused(&cause))?)
            }
            None if settings.syncs() => {
                let started = Engine::start(settings.sync.clone(), self.clock.clone(), parts.ports()).await;
                parts.engine = Some(started.map_err(|cause| refused(&cause))?);
                None
            }
            None => None,
        };
        // Everything that could fail has been done.
        if let Some(journal) = journal {
            journal.apply(altered);
        }
        if changes.alters(&Subject::Section { name: "telemetry".to_owned() }) {
            telemetry::spans::record_by(settings.spans.as_ref(), &self.clock);
        }
        self.admin.replace(parts.told(settings, self.clock.now()));
        parts.replace(settings, altered);
        Ok(())
    }

    /// Tells log, metrics and `/readyz`.
    fn tell(&self, cause: Cause, outcome: &Result<Applied, Faults>) {
        let now = self.clock.now();
        let result = match outcome {
            Ok(applied) => {
                let (digest, changes) = (&applied.digest, applied.changes.len());
                let result = applied.result();
                tracing::info!(
                    cause = cause.as_str(),
                    result,
                    changes,
                    digest,
                    "the configuration was reloaded"
                );
                self.note_success();
                result
            }
            Err(faults) => {
                tracing::error!(
                    cause = cause.as_str(),
                    faults = faults.as_slice().len(),
                    "another configuration is refused; the one in force stays:\n{faults}"
                );
                gauge!(names::CONFIG_LAST_SUCCESSFUL).set(0.0);
                "refused"
            }
        };
        if cause != Cause::Call {
            // A call has its line from the listener that it came to, which knows who called.
            tracing::info!(target: "tidegate::audit", call = "reload", done = result, who = cause.as_str());
        }
        counter!(names::CONFIG_RELOADS, "result" => result).increment(1);
        gauge!(names::CONFIG_LAST_RELOAD).set(seconds(now));
        self.admin.reloaded(LastReload { at: now, result });
    }

    fn note_success(&self) {
        gauge!(names::CONFIG_LAST_SUCCESSFUL).set(1.0);
        gauge!(names::CONFIG_LAST_SUCCESS).set(seconds(self.clock.now()));
    }
}

/// Seconds since the Unix epoch.
fn seconds(at: Timestamp) -> f64 {
    Duration::from_millis(at.as_millis()).as_secs_f64()
}

/// Reads the file, or says why it cannot be read. One that was seen to be left alone must be so to the end.
async fn read(path: &Arc<Path>, seen: Option<Signature>) -> Result<Result<config::Text, Faults>, Refused> {
    let path = Arc::clone(path);
    let read = move || {
        let text = config::Text::read_again(&path);
        let moves = seen.is_some_and(|seen| Signature::of(&path) != seen);
        if moves { Err(Refused::Moving) } else { Ok(text) }
    };
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(Refused::Stopping))
}

/// Which destinations and sources go on with other settings: other values, or other contents of the files that
/// they name.
fn altered(changes: &Changes, old: &Settings, new: &Settings) -> Altered {
    let mut altered = Altered::default();
    for destination in &new.sync.destinations {
        let name = destination.name.clone();
        let before = old.sync.destinations.iter().find(|before| before.name == name);
        let has_other_files = before.is_some_and(|before| before.tls != destination.tls);
        if has_other_files || changes.alters(&Subject::Destination { name: name.clone() }) {
            altered.destinations.push(name);
        }
    }
    for source in &new.sources {
        let name = source.name.clone();
        let before = old.sources.iter().find(|before| before.name == name);
        let has_other_files = before.is_some_and(|before| before.tls != source.tls);
        if has_other_files || changes.alters(&Subject::Source { name: name.clone() }) {
            altered.sources.push(name);
        }
    }
    altered
}
