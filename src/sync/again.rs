//! Sending again: redrive, discard and replay, step by step, so that the worker delivers in between.

use super::accept;
use super::dead_letters::LetterPage;
use super::delivery::{Act, Acted, Begun, Command, Ordered};
use super::destinations::WorkerHandle;
use super::engine::{Engine, Inner};
use super::error::CommandError;
use super::journal::Room;
use super::journal::record::{first_sequence, sequence_time};
use super::journal::sqlite::{self, LETTERS_MAX, Stretch, Touched};
use super::operate::{Run, send};
use super::operations::{Kind, Operation, OperationView, Stage};
use super::status::DeadLetterFilter;
use crate::clock::Timestamp;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A paced order makes so many steps a second, so that it is smooth and costs few commits.
const STEPS_PER_SECOND: u32 = 20;
/// Keys of a replay that are looked up at once.
const KEYS_PAGE: u32 = 16;
/// Changes to be replayed that wait in the journal; further keys are begun once there are fewer.
const REPLAYS_WAITING_MAX: u64 = 256;
/// Between two looks at how many still wait.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// When an order is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Once it is done; whoever does not wait for the answer stops it.
    AtEnd,
    /// At once: it goes on as an operation.
    AtOnce,
}

/// How fast, and whether somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// At most so many a second.
    pub rate: Option<NonZeroU32>,
    /// See [`Answer`].
    pub answer: Answer,
}

/// What came of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How many it concerns.
    pub count: u64,
    /// How many match and are left out: a newer change of their key has arrived, or it is parked.
    pub left_out: u64,
    /// The operation that does it.
    pub operation: Option<u64>,
}

/// What is sent again of what a destination has had.
#[derive(Clone, Debug)]
pub struct ReplayOrder {
    /// Who gets it.
    pub destination: String,
    /// Keys that changed at or after; `None`: the oldest that is kept.
    pub since: Option<Timestamp>,
    /// Keys that changed before; `None`: now.
    pub until: Option<Timestamp>,
    /// Whether it acts.
    pub run: Run,
    /// At most so many changes a second.
    pub rate: Option<NonZeroU32>,
}

impl Engine {
    /// Sends matching dead letters again, in key order.
    ///
    /// # Errors
    /// [`CommandError`]: an unknown destination or change, or the journal cannot be used.
    pub async fn redrive(
        &self,
        filter: DeadLetterFilter,
        run: Run,
        pacing: Pacing,
    ) -> Result<Told, CommandError> {
        self.act(filter, Act::Redrive, run, pacing).await
    }

    /// Gives matching dead letters up; what is parked behind them goes on.
    ///
    /// # Errors
    /// [`CommandError`]: an unknown destination or change, or the journal cannot be used.
    pub async fn discard(
        &self,
        filter: DeadLetterFilter,
        run: Run,
        pacing: Pacing,
    ) -> Result<Told, CommandError> {
        self.act(filter, Act::Discard, run, pacing).await
    }

    async fn act(
        &self,
        filter: DeadLetterFilter,
        act: Act,
        run: Run,
        pacing: Pacing,
    ) -> Result<Told, CommandError> {
        let destination = filter.destination.clone();
        let at_destinations = match &destination {
            Some(name) => vec![self.worker(name).await?],
            None if filter.source.is_some() => Vec::new(),
            None => self.inner.roster.load().working().cloned().collect(),
        };
        let mut workers: Vec<Holder> =
            self.sources_of(&filter).await?.into_iter().map(Holder::Source).collect();
        workers.extend(at_destinations.into_iter().map(Holder::Destination));
        let one = filter.change.is_some().then(|| filter.clone());
        let letters = Letters { workers, filter, act, rate: pacing.rate };
        let run_now = if pacing.answer == Answer::AtOnce { Run::Dry } else { run };
        let mut told = letters.go_through(run_now, |_| ()).await?;
        if let Some(one) = one.filter(|_| told == Told::default()) {
            let listed = self.dead_letters(one, LetterPage::FIRST).await?.dead_letters;
            let is_there = !listed.is_empty();
            return Err(if is_there { CommandError::NotConfigured } else { CommandError::UnknownDeadLetter });
        }
        if run == Run::Real && pacing.answer == Answer::AtOnce && told.count > 0 {
            let kind = if act == Act::Redrive { Kind::Redrive } else { Kind::Discard };
            let (id, operation) = self.begin_operation(kind, destination, pacing.rate, told)?;
            told.operation = Some(id);
            self.inner.tasks.spawn(async move {
                let note = |so_far: Told| {
                    operation.note(|view| (view.done, view.left_out) = (so_far.count, so_far.left_out));
                };
                let work = async { letters.go_through(Run::Real, note).await.map(drop) };
                operation.run(work).await;
            });
        }
        Ok(told)
    }

    /// Sends what a destination has had again: of each key that changed within the time, everything from
    /// its first change there to the newest.
    ///
    /// # Errors
    /// [`CommandError`]: an unknown destination, one that is replayed to already, or the journal cannot be
    /// used or is too full.
    pub async fn replay(&self, order: ReplayOrder) -> Result<Told, CommandError> {
        let worker = self.worker(&order.destination).await?;
        self.inner.journal.flushed().await;
        let newest = *self.inner.journal.newest().borrow();
        let stretch = Stretch {
            destination: worker.known.id,
            from: order.since.map(first_sequence).unwrap_or_default(),
            before: order.until.map_or(u64::MAX, first_sequence).min(newest.saturating_add(1)),
        };
        let on_failure = worker.on_failure();
        let readers = self.inner.journal.readers();
        let (count, left_out) =
            readers.read(move |store| sqlite::replayed(store, &stretch, on_failure)).await?;
        let mut told = Told { count, left_out, operation: None };
        if order.run == Run::Dry || count == 0 {
            return Ok(told);
        }
        if self.inner.journal.room() != Room::Enough {
            return Err(CommandError::Full);
        }
        let (id, operation) =
            self.begin_operation(Kind::Replay, Some(order.destination), order.rate, told)?;
        told.operation = Some(id);
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            let replay = Replay { inner, worker, stretch, rate: order.rate, operation: &operation };
            operation.run(replay.go_through()).await;
        });
        Ok(told)
    }

    /// The operations under way and the last ones that ended, the newest first.
    pub fn operations(&self) -> Vec<OperationView> {
        self.operations.list()
    }

    /// Stops an operation; what it has not reached stays as it is.
    ///
    /// # Errors
    /// [`CommandError::UnknownOperation`].
    pub fn stop_operation(&self, id: u64) -> Result<OperationView, CommandError> {
        self.operations.stop(id)
    }

    fn begin_operation(
        &self,
        kind: Kind,
        destination: Option<String>,
        rate: Option<NonZeroU32>,
        told: Told,
    ) -> Result<(u64, Arc<Operation>), CommandError> {
        let view = OperationView {
            id: 0,
            kind,
            destination,
            state: Stage::Running,
            count: told.count,
            done: 0,
            left_out: told.left_out,
            rate,
            started_at: self.inner.clock.now(),
            reached: None,
        };
        self.operations.begin(view, self.inner.stop.child_token())
    }
}

/// Who holds dead letters.
enum Holder {
    Source(accept::Handle),
    Destination(WorkerHandle),
}

impl Holder {
    /// One step through those that match.
    async fn step(
        &self,
        filter: DeadLetterFilter,
        act: Act,
        run: Run,
        after: u64,
        limit: u32,
    ) -> Result<Acted, CommandError> {
        let worker = match self {
            Self::Source(worker) => return worker.step(filter, act, run, after, limit).await,
            Self::Destination(worker) => worker,
        };
        let (done, told) = oneshot::channel();
        send(worker, Command::DeadLetters { filter, act, run, after, limit, done }).await?;
        Ok(told.await.map_err(|_| CommandError::Unavailable)??)
    }
}

/// An order that concerns dead letters.
struct Letters {
    workers: Vec<Holder>,
    filter: DeadLetterFilter,
    act: Act,
    rate: Option<NonZeroU32>,
}

impl Letters {
    /// Step by step through all that match now; one that dies again meanwhile is not met twice.
    async fn go_through(&self, run: Run, note: impl Fn(Told)) -> Result<Told, CommandError> {
        let mut told = Told::default();
        for worker in &self.workers {
            let mut after = 0;
            while let Acted { count, left_out, next: Some(next) } = self.step(worker, after, run).await? {
                after = next;
                told.count += count;
                told.left_out += left_out;
                note(told);
                if let (Some(rate), Run::Real) = (self.rate, run) {
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    tokio::time::sleep(Duration::from_secs(1).saturating_mul(count) / rate.get()).await;
                }
            }
        }
        Ok(told)
    }

    async fn step(&self, worker: &Holder, after: u64, run: Run) -> Result<Acted, CommandError> {
        let limit = match (self.rate, run) {
            (Some(rate), Run::Real) => (rate.get() / STEPS_PER_SECOND).clamp(1, LETTERS_MAX),
            _ => LETTERS_MAX,
        };
        worker.step(self.filter.clone(), self.act, run, after, limit).await
    }
}

/// A replay under way.
struct Replay<'a> {
    inner: Arc<Inner>,
    worker: WorkerHandle,
    stretch: Stretch,
    rate: Option<NonZeroU32>,
    operation: &'a Operation,
}

impl Replay<'_> {
    /// Key after key, in the order of their first changes.
    async fn go_through(&self) -> Result<(), CommandError> {
        let (mut begun, mut after) = (0, self.stretch.from.saturating_sub(1));
        loop {
            self.until_at_most(REPLAYS_WAITING_MAX, begun).await?;
            let stretch = self.stretch;
            let readers = self.inner.journal.readers();
            let page = readers.read(move |store| sqlite::touched(store, &stretch, after, KEYS_PAGE)).await?;
            let Some(last) = page.last() else { break };
            after = last.first;
            for touched in page {
                begun += self.begin(touched).await?;
            }
            self.operation.note(|view| view.reached = Some(sequence_time(after)));
        }
        self.until_at_most(0, begun).await
    }

    async fn begin(&self, touched: Touched) -> Result<u64, CommandError> {
        if self.inner.journal.room() == Room::Full {
            return Err(CommandError::Full);
        }
        let (done, told) = oneshot::channel();
        let ordered = Ordered { touched, rate: self.rate, done };
        send(&self.worker, Command::Replay(ordered)).await?;
        match told.await.map_err(|_| CommandError::Unavailable)?? {
            Begun::Changes(count) => Ok(count),
            Begun::Parked => Ok(0),
        }
    }

    /// Waits until at most so many changes wait to be replayed.
    async fn until_at_most(&self, most: u64, begun: u64) -> Result<(), CommandError> {
        let destination = self.stretch.destination;
        loop {
            let readers = self.inner.journal.readers();
            let left = readers.read(move |store| sqlite::replays_left(store, destination)).await?;
            self.operation.note(|view| view.done = begun.saturating_sub(left));
            if left <= most {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
