//! Destinations as the engine starts them, keeps them running, and lets them go.

use super::backlog;
use super::delivery::{Command, Parts, Worker};
use super::engine::Inner;
use super::journal::record::{Record, Unwritten};
use super::journal::sqlite::{self, Figures, KnownDestination};
use super::settings::{DestinationSettings, OnFailure, Removed};
use super::signature::SigningKey;
use crate::telemetry::metrics as names;
use futures_util::FutureExt;
use metrics::counter;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Operators' requests that wait for one worker.
const COMMANDS: usize = 16;
/// Before a worker that met a fault of its own begins anew.
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(1);

/// The way to a worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerHandle {
    pub(super) known: KnownDestination,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) on_failure: OnFailure,
}

impl Inner {
    /// Starts what delivers to a destination; what can be aborted of it.
    pub(super) async fn deliver_to(
        self: &Arc<Self>,
        known: KnownDestination,
        settings: DestinationSettings,
    ) -> Result<(WorkerHandle, Vec<AbortHandle>), Unwritten> {
        if settings.secrets.iter().any(SigningKey::is_short) {
            tracing::warn!(destination = %settings.name, "a secret is shorter than the 24 bytes that Standard Webhooks asks for");
        }
        let on_failure = settings.on_failure;
        let (commands, mut receiver) = mpsc::channel(COMMANDS);
        let (backlog_bytes, id, name) = (settings.backlog_bytes, known.id, known.name.clone());
        let worker = self.worker(known.clone(), settings.clone()).await?;
        let inner = Arc::clone(self);
        let run = self.tasks.spawn(async move {
            let mut next = Some(worker);
            while let Some(worker) = next.take() {
                let run = worker.run(&mut receiver, inner.stop.clone());
                if AssertUnwindSafe(run).catch_unwind().await.is_err() {
                    next = inner.begin_anew(id, &settings).await;
                }
            }
        });
        let mut aborts = vec![run.abort_handle()];
        if let Some(bytes) = backlog_bytes {
            let (inner, stop) = (Arc::clone(self), self.stop.clone());
            let watch = backlog::watch(inner, id, name, bytes, commands.clone());
            aborts.push(self.tasks.spawn(stop.run_until_cancelled_owned(watch)).abort_handle());
        }
        Ok((WorkerHandle { known, commands, on_failure }, aborts))
    }

    /// A worker as it begins: with what the journal knows.
    async fn worker(
        self: &Arc<Self>,
        known: KnownDestination,
        settings: DestinationSettings,
    ) -> Result<Worker, Unwritten> {
        let destination = known.id;
        // Rows that wait or are parked by another `on_failure` than today's follow today's. And all that
        // was recorded before has been written then.
        self.journal.write(Record::Adopt { destination, on_failure: settings.on_failure }).await?;
        let open = self.journal.readers().read(move |store| sqlite::open_keys(store, destination)).await?;
        Ok(Worker::new(Parts { known, settings, inner: Arc::clone(self), open }))
    }

    /// A worker in place of one that panicked; what that one had under way is sent again with the same ids,
    /// as after a crash. `None`: the engine stops.
    async fn begin_anew(self: &Arc<Self>, id: i64, settings: &DestinationSettings) -> Option<Worker> {
        tracing::error!(destination = %settings.name, "a worker met a fault of Tidegate's own and begins anew");
        while !self.stop.is_cancelled() {
            tokio::time::sleep(BEGIN_ANEW_AFTER).await;
            let all = self.journal.readers().read(sqlite::destinations).await;
            let known = all.ok().and_then(|all| all.into_iter().find(|known| known.id == id));
            if let Some(known) = known
                && let Ok(worker) = self.worker(known, settings.clone()).await
            {
                return Some(worker);
            }
        }
        None
    }

    /// What becomes of a destination that is not configured any more: what is left for it is kept, or given up
    /// where that is asked for, and either is said. One that has nothing left is forgotten. Nothing of it may
    /// be running.
    pub(super) async fn retire(&self, left: &KnownDestination, removed: Removed) -> Result<(), Unwritten> {
        let (name, left_over) = (&left.name, self.left_over(left).await?);
        let LeftOver { waiting, undecided, parked, dead_letters } = left_over;
        if left_over.count() > 0 && removed == Removed::Drain {
            tracing::warn!(
                destination = %name, waiting, undecided, parked, dead_letters,
                "a destination is not configured any more; what is left for it is kept until it is again, or \
                 given up by sync.removed = \"drop\""
            );
            return Ok(());
        }
        while self.journal.write(Record::Forget { destination: left.id }).await? > 0 {}
        if left_over.count() > 0 {
            counter!(names::DROPPED, "destination" => name.clone()).increment(left_over.count());
            tracing::warn!(
                destination = %name, waiting, undecided, parked, dead_letters,
                "a destination is not configured any more; what was left for it has been given up"
            );
        }
        Ok(())
    }

    /// What a destination has not had yet, or may have to get.
    async fn left_over(&self, of: &KnownDestination) -> Result<LeftOver, Unwritten> {
        let of = of.clone();
        let read = move |store: &sqlite::Store| {
            let Figures { waiting, parked, dead_letters, .. } = sqlite::figures(store, &of, of.frontier)?;
            let undecided = sqlite::undecided(store, of.id)?;
            Ok(LeftOver { waiting, undecided, parked, dead_letters })
        };
        self.journal.readers().read(read).await
    }
}

/// What is left for a destination.
#[derive(Clone, Copy, Debug)]
struct LeftOver {
    waiting: u64,
    /// Changes that name it, and that their source has not done or refused yet.
    undecided: u64,
    parked: u64,
    dead_letters: u64,
}

impl LeftOver {
    const fn count(self) -> u64 {
        self.waiting + self.undecided + self.parked + self.dead_letters
    }
}
