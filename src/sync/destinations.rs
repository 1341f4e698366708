//! Destinations as the engine starts them, keeps them running, and lets them go.

use super::backlog;
use super::delivery::{Command, Parts, Worker};
use super::engine::Inner;
use super::in_force::Presence;
use super::journal::record::{Record, Unwritten};
use super::journal::sqlite::{self, Figures, KnownDestination};
use super::settings::{DestinationSettings, OnFailure, Removed};
use super::signature::SigningKey;
use crate::telemetry::metrics as names;
use futures_util::FutureExt;
use metrics::{counter, gauge};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Gauges of a destination, which say nothing any more once it is gone.
const GAUGES: [&str; 9] = [
    names::DESTINATION_PENDING,
    names::DESTINATION_IN_FLIGHT,
    names::DESTINATION_LAG,
    names::DESTINATION_HELD,
    names::DESTINATION_PAUSED,
    names::DESTINATION_DETACHED,
    names::DESTINATION_BREAKER,
    names::DEAD_LETTERS,
    names::PARKED_KEYS,
];

/// Operators' requests that wait for one worker.
const COMMANDS: usize = 16;
/// Before a worker that met a fault of its own begins anew.
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(1);

/// Between two looks at whether a destination that drains has everything.
const DRAINED_EVERY: Duration = Duration::from_secs(1);

/// Whether a destination without anything left is forgotten at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgetful {
    Yes,
    /// Writes that are under way may still name it: the next start forgets it.
    No,
}

/// The way to a worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerHandle {
    pub(super) known: KnownDestination,
    pub(super) commands: mpsc::Sender<Command>,
    /// What it works by.
    pub(super) settings: Arc<watch::Sender<Arc<DestinationSettings>>>,
    pub(super) presence: Presence,
}

impl WorkerHandle {
    pub(super) fn on_failure(&self) -> OnFailure {
        self.settings.borrow().on_failure
    }

    /// Whether it begins nothing any more.
    pub(super) fn has_left(&self) -> bool {
        self.presence.leave.is_cancelled()
    }
}

/// A worker's task, and what it is told by.
struct Post {
    known: KnownDestination,
    commands: mpsc::Receiver<Command>,
    settings: watch::Receiver<Arc<DestinationSettings>>,
    presence: Presence,
}

impl Inner {
    /// Starts what delivers to a destination that can be delivered to at once.
    pub(super) async fn deliver_to(
        self: &Arc<Self>,
        known: KnownDestination,
        settings: DestinationSettings,
    ) -> Result<WorkerHandle, Unwritten> {
        let worker = self.worker(known.clone(), settings.clone()).await?;
        let (post, handle) = self.post(known, settings);
        self.run(Arc::clone(self).man(post, Some(worker)));
        Ok(handle)
    }

    /// Starts what delivers to a destination once `before`, its last worker, has gone, and the journal can be
    /// read.
    pub(super) fn deliver_later(
        self: &Arc<Self>,
        known: KnownDestination,
        settings: DestinationSettings,
        before: Option<CancellationToken>,
    ) -> WorkerHandle {
        let (post, handle) = self.post(known, settings);
        let inner = Arc::clone(self);
        self.run(async move {
            if let Some(before) = before {
                before.cancelled().await;
            }
            inner.man(post, None).await;
        });
        handle
    }

    fn post(
        self: &Arc<Self>,
        known: KnownDestination,
        settings: DestinationSettings,
    ) -> (Post, WorkerHandle) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (sender, settings) = watch::channel(Arc::new(settings));
        let presence = Presence::of(self);
        let watch = backlog::keep_within(Arc::clone(self), known.id, settings.clone(), commands.clone());
        let leave = presence.leave.clone();
        self.run(async move {
            leave.run_until_cancelled(watch).await;
        });
        let post = Post { known: known.clone(), commands: receiver, settings, presence: presence.clone() };
        (post, WorkerHandle { known, commands, settings: Arc::new(sender), presence })
    }

    /// Sees that there is a worker until it is to leave; then, if the engine goes on, what is left is settled.
    async fn man(self: Arc<Self>, mut post: Post, first: Option<Worker>) {
        let _gone = post.presence.gone.clone().drop_guard();
        let (leave, id) = (post.presence.leave.clone(), post.known.id);
        let (mut next, mut pace) = (first, None);
        while !leave.is_cancelled() {
            let worker = match next.take() {
                Some(worker) => worker,
                None => match self.begin_anew(id, &post.settings, &leave).await {
                    Some(worker) => worker,
                    None => break,
                },
            };
            let worker = match pace.take() {
                Some(pace) => worker.at_pace(pace),
                None => worker,
            };
            let run = worker.run(&mut post.commands, &mut post.settings, leave.clone());
            if let Ok(kept) = AssertUnwindSafe(run).catch_unwind().await {
                pace = Some(kept);
            } else {
                let destination = &post.known.name;
                tracing::error!(%destination, "a worker met a fault of Tidegate's own and begins anew");
                tokio::time::sleep(BEGIN_ANEW_AFTER).await;
            }
        }
        if !self.stop.is_cancelled() {
            self.let_go(&post.known).await;
        }
    }

    /// Lets the worker of a destination that was taken out of the configuration go on until nothing waits for
    /// it, nor for its source to be done.
    pub(super) fn drain(self: &Arc<Self>, worker: WorkerHandle) {
        let inner = Arc::clone(self);
        self.run(async move {
            let leave = worker.presence.leave.clone();
            leave.run_until_cancelled(inner.see_drained(&worker)).await;
        });
    }

    async fn see_drained(&self, worker: &WorkerHandle) {
        let destination = &worker.known.name;
        let mut told = false;
        loop {
            {
                // Else it could be configured again in between.
                let _changing = self.changing.lock().await;
                if !self.roster.load().drains(&worker.known) {
                    return;
                }
                match self.left_over(&worker.known).await {
                    Ok(LeftOver { waiting: 0, undecided: 0, .. }) => {
                        if told {
                            tracing::info!(%destination, "nothing waits for it any more");
                        }
                        return worker.presence.leave.cancel();
                    }
                    Ok(LeftOver { waiting, undecided, .. }) if !told => {
                        told = true;
                        tracing::warn!(
                            %destination, waiting, undecided,
                            "a destination is not configured any more; what waits for it is still delivered while \
                             this process runs, or given up by sync.removed = \"drop\""
                        );
                    }
                    Ok(_) | Err(Unwritten) => {}
                }
            }
            tokio::time::sleep(DRAINED_EVERY).await;
        }
    }

    /// A worker as it begins: with what the journal knows.
    async fn worker(
        self: &Arc<Self>,
        known: KnownDestination,
        settings: DestinationSettings,
    ) -> Result<Worker, Unwritten> {
        if settings.secrets.iter().any(SigningKey::is_short) {
            tracing::warn!(destination = %settings.name, "a secret is shorter than the 24 bytes that Standard Webhooks asks for");
        }
        let destination = known.id;
        // Rows that wait or are parked by another `on_failure` than today's follow today's. And all that
        // was recorded before has been written then.
        self.journal.write(Record::Adopt { destination, on_failure: settings.on_failure }).await?;
        let open = self.journal.readers().read(move |store| sqlite::open_keys(store, destination)).await?;
        Ok(Worker::new(Parts { known, settings, inner: Arc::clone(self), open }))
    }

    /// A worker in place of one that has ended; what one that panicked had under way is sent again with the
    /// same ids, as after a crash. `None`: it is to leave.
    async fn begin_anew(
        self: &Arc<Self>,
        id: i64,
        settings: &watch::Receiver<Arc<DestinationSettings>>,
        leave: &CancellationToken,
    ) -> Option<Worker> {
        while !leave.is_cancelled() {
            let all = self.journal.readers().read(sqlite::destinations).await;
            let known = all.ok().and_then(|all| all.into_iter().find(|known| known.id == id));
            let settings = DestinationSettings::clone(&settings.borrow());
            if let Some(known) = known
                && let Ok(worker) = self.worker(known, settings).await
            {
                return Some(worker);
            }
            tokio::time::sleep(BEGIN_ANEW_AFTER).await;
        }
        None
    }

    /// The last worker of a destination that was taken out of the configuration has gone. One that is there
    /// again by now keeps what it has.
    async fn let_go(&self, known: &KnownDestination) {
        let _changing = self.changing.lock().await;
        if self.roster.load().destinations.iter().any(|worker| worker.known.name == known.name) {
            return;
        }
        let removed = self.configured.load().removed;
        if self.settle_rest(known, removed, Forgetful::No).await.is_err() {
            tracing::error!(destination = %known.name, "what is left for a destination could not be looked at");
        }
        // What is kept for it is told again by the next scrape.
        for name in GAUGES {
            gauge!(name, "destination" => known.name.clone()).set(0.0);
        }
    }

    /// What becomes of a destination that is not configured any more: what is left for it is kept, or given up
    /// where that is asked for, and either is said. One that has nothing left is forgotten. Nothing of it may
    /// be running.
    pub(super) async fn retire(&self, left: &KnownDestination, removed: Removed) -> Result<(), Unwritten> {
        self.settle_rest(left, removed, Forgetful::Yes).await
    }

    async fn settle_rest(
        &self,
        left: &KnownDestination,
        removed: Removed,
        forgetful: Forgetful,
    ) -> Result<(), Unwritten> {
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
        if removed == Removed::Drain && forgetful == Forgetful::No {
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

    /// What a destination has not had yet, or may have to get, as the journal has it now.
    async fn left_over(&self, of: &KnownDestination) -> Result<LeftOver, Unwritten> {
        let id = of.id;
        let read = move |store: &sqlite::Store| {
            let known = sqlite::destinations(store)?.into_iter().find(|known| known.id == id);
            let Some(of) = known else { return Ok(LeftOver::default()) };
            let Figures { waiting, parked, dead_letters, .. } = sqlite::figures(store, &of, of.frontier)?;
            let undecided = sqlite::undecided(store, of.id)?;
            Ok(LeftOver { waiting, undecided, parked, dead_letters })
        };
        self.journal.readers().read(read).await
    }
}

/// What is left for a destination.
#[derive(Clone, Copy, Debug, Default)]
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
