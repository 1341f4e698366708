//! What operators see and do.

use super::change::ChangeId;
use super::delivery::{Command, WorkerStatus};
use super::destinations::WorkerHandle;
use super::engine::Engine;
use super::error::CommandError;
use super::journal::record::{Record, Unwritten, Verdict, sequence_time};
use super::journal::sqlite::{self, KnownDestination, Stored};
use super::status::{ChangeFilter, ChangeState, ChangeView, DestinationState, DestinationStatus};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a worker may take to tell its state.
const STATUS_WAIT: Duration = Duration::from_secs(2);

/// Whether an operator's call acts or only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Act.
    Real,
    /// Count only.
    Dry,
}

/// An operator's word on a change in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The source did it: it is delivered as it was asked.
    Committed,
    /// The source did not.
    Aborted,
}

impl From<Unwritten> for CommandError {
    fn from(Unwritten: Unwritten) -> Self {
        Self::Unavailable
    }
}

impl Engine {
    /// Every destination's state, computed now.
    ///
    /// # Errors
    /// [`CommandError::Unavailable`]: the journal cannot be read.
    pub async fn destinations(&self) -> Result<Vec<DestinationStatus>, CommandError> {
        self.inner.journal.flushed().await;
        let known = self.inner.journal.readers().read(sqlite::destinations).await?;
        let roster = self.inner.roster.load_full();
        let mut statuses = Vec::with_capacity(known.len());
        for destination in known {
            let worker = roster.working().find(|worker| worker.known.id == destination.id);
            let told = match worker {
                // One that does not tell in time must not hide the others.
                Some(worker) => ask(worker).await.unwrap_or_else(|_| {
                    let state =
                        if destination.paused { DestinationState::Paused } else { DestinationState::Running };
                    WorkerStatus {
                        last_error: Some("its worker did not tell its state in time".to_owned()),
                        ..untold(&destination, state)
                    }
                }),
                None => untold(&destination, DestinationState::Disabled),
            };
            statuses.push(self.status(destination, told).await?);
        }
        Ok(statuses)
    }

    async fn status(
        &self,
        destination: KnownDestination,
        told: WorkerStatus,
    ) -> Result<DestinationStatus, CommandError> {
        let (known, cursor) = (destination.clone(), told.cursor);
        let figures =
            self.inner.journal.readers().read(move |store| sqlite::figures(store, &known, cursor)).await?;
        let in_flight = told.in_flight.len() as u64;
        let oldest = figures.oldest.into_iter().chain(told.oldest_rowless).min();
        let now = self.inner.clock.now();
        Ok(DestinationStatus {
            state: told.state,
            pending: (figures.waiting + told.rowless).saturating_sub(in_flight),
            in_flight,
            lag_seconds: oldest.map_or(0.0, |oldest| now.since(sequence_time(oldest)).as_secs_f64()),
            breaker: told.breaker,
            concurrency: told.concurrency,
            parked_keys: figures.parked_keys,
            dead_letters: figures.dead_letters,
            last_error: told.last_error,
            next_attempt_at: told.next_admission.max(figures.next_at),
            name: destination.name,
        })
    }

    /// Changes with their deliveries, newest last: those after `filter.after`, from the oldest on.
    ///
    /// # Errors
    /// [`CommandError`]: an unknown destination, or the journal cannot be read.
    pub async fn changes(&self, filter: ChangeFilter) -> Result<Vec<ChangeView>, CommandError> {
        self.inner.journal.flushed().await;
        self.is_known(filter.destination.as_deref()).await?;
        let mut views =
            self.inner.journal.readers().read(move |store| sqlite::changes(store, &filter)).await?;
        self.mark_in_flight(&mut views).await;
        Ok(views)
    }

    /// One change with its deliveries and attempts.
    ///
    /// # Errors
    /// [`CommandError::Unavailable`]: the journal cannot be read.
    pub async fn change(&self, id: ChangeId) -> Result<Option<ChangeView>, CommandError> {
        self.inner.journal.flushed().await;
        let mut view = self.inner.journal.readers().read(move |store| sqlite::change(store, id)).await?;
        self.mark_in_flight(view.as_mut_slice()).await;
        Ok(view)
    }

    async fn mark_in_flight(&self, views: &mut [ChangeView]) {
        for worker in self.inner.roster.load_full().working() {
            let Ok(WorkerStatus { in_flight, .. }) = ask(worker).await else { continue };
            let under_way =
                views.iter_mut().filter(|view| view.sequence.is_some_and(|it| in_flight.contains(&it)));
            for delivery in under_way.flat_map(|view| view.deliveries.iter_mut()) {
                if delivery.destination == worker.known.name && delivery.state == "waiting" {
                    "in-flight".clone_into(&mut delivery.state);
                }
            }
        }
    }

    /// Refuses the name of a destination that the journal has never had.
    pub(super) async fn is_known(&self, destination: Option<&str>) -> Result<(), CommandError> {
        let Some(name) = destination else { return Ok(()) };
        let known = self.inner.journal.readers().read(sqlite::destinations).await?;
        let is_known = known.iter().any(|destination| destination.name == name);
        if is_known { Ok(()) } else { Err(CommandError::UnknownDestination) }
    }

    /// Holds a destination, also over restarts; its lag grows.
    ///
    /// # Errors
    /// [`CommandError`]: an unknown destination, or the journal cannot be used.
    pub async fn pause(&self, destination: &str) -> Result<(), CommandError> {
        let worker = self.worker(destination).await?;
        self.inner.journal.write(Record::Pause { destination: worker.known.id, paused: true }).await?;
        send(&worker, Command::Pause).await
    }

    /// Releases a destination; a wait that it asked for ends too.
    ///
    /// # Errors
    /// [`CommandError`]: an unknown destination, or the journal cannot be used.
    pub async fn resume(&self, destination: &str) -> Result<(), CommandError> {
        let worker = self.worker(destination).await?;
        let (destination, mut after) = (worker.known.id, 0);
        self.inner.journal.write(Record::Pause { destination, paused: false }).await?;
        loop {
            after = self.inner.journal.write(Record::Wake { destination, after }).await?;
            if after == 0 {
                break;
            }
        }
        send(&worker, Command::Resume).await
    }

    /// Decides a change in doubt. Its resolver ends, and the next write of its key may go.
    ///
    /// # Errors
    /// [`CommandError`]: no such change, one that is not in doubt, or the journal cannot be used.
    pub async fn resolve(&self, id: ChangeId, resolution: Resolution) -> Result<(), CommandError> {
        self.inner.journal.flushed().await;
        let readers = self.inner.journal.readers();
        let Some(open) = readers.read(move |store| sqlite::open_change(store, id)).await? else {
            let known = readers.read(move |store| sqlite::change(store, id)).await?;
            return Err(known.map_or(CommandError::UnknownChange, |_| CommandError::NotInDoubt));
        };
        if !open.known_in_doubt {
            return Err(CommandError::NotInDoubt);
        }
        self.decide(id, resolution).await?;
        // A damaged one does not tell what it may have made old.
        if let Stored::Sound { head, .. } = open.content {
            drop(self.inner.fence(&head).await);
        }
        self.inner.doubts.decided(id);
        Ok(())
    }

    /// Writes an operator's word; refused where somebody else has decided otherwise in between.
    pub(super) async fn decide(&self, id: ChangeId, resolution: Resolution) -> Result<(), CommandError> {
        let (verdict, meant) = match resolution {
            Resolution::Committed => (Verdict::Committed { key: None }, ChangeState::Committed),
            Resolution::Aborted => (Verdict::Aborted, ChangeState::Aborted),
        };
        self.inner.journal.write(Record::outcome(id, verdict)).await?;
        let state = self.inner.journal.readers().read(move |store| sqlite::state(store, id)).await?;
        if state == Some(meant as i64) { Ok(()) } else { Err(CommandError::NotInDoubt) }
    }

    /// Who delivers to a destination.
    pub(super) async fn worker(&self, name: &str) -> Result<WorkerHandle, CommandError> {
        let roster = self.inner.roster.load_full();
        if let Some(worker) = roster.working().find(|worker| worker.known.name == name) {
            return Ok(worker.clone());
        }
        self.is_known(Some(name)).await?;
        Err(CommandError::NotConfigured)
    }
}

pub(super) async fn send(worker: &WorkerHandle, command: Command) -> Result<(), CommandError> {
    worker.commands.send(command).await.map_err(|_| CommandError::Unavailable)
}

async fn ask(worker: &WorkerHandle) -> Result<WorkerStatus, CommandError> {
    let (reply, told) = oneshot::channel();
    let exchange = async {
        send(worker, Command::Status(reply)).await?;
        told.await.map_err(|_| CommandError::Unavailable)
    };
    let Ok(told) = tokio::time::timeout(STATUS_WAIT, exchange).await else {
        tracing::warn!(destination = %worker.known.name, "the worker does not tell its state in time");
        return Err(CommandError::Unavailable);
    };
    told
}

/// What is said of a destination without its worker: the journal's figures only.
fn untold(destination: &KnownDestination, state: DestinationState) -> WorkerStatus {
    WorkerStatus {
        state,
        breaker: "closed",
        concurrency: 0,
        in_flight: Vec::new(),
        cursor: destination.frontier,
        rowless: 0,
        oldest_rowless: None,
        last_error: None,
        next_admission: None,
    }
}
