//! The worker of one destination: one task that owns its state.
//!
//! An attempt keeps its place until what was decided is durable, so that a crash repeats at most
//! `concurrency` deliveries (I2). Records go into the journal's queue in the order in which they
//! were decided: a frontier that has moved is never durable before what it moved past.

use super::attempt::Sender;
use super::command::Command;
use super::lanes::{Entry, Lanes, Spilled, Turn};
use super::outcome::{Before, Code, Failure, Outcome};
use super::pace::Pace;
use super::replay::Replays;
use super::request::Delivery;
use super::retry::Standing;
use crate::clock::{Clock, Timestamp};
use crate::sync::change::ChangeId;
use crate::sync::failpoint;
use crate::sync::journal::Journal;
use crate::sync::journal::record::{Progress, Record, Step, Unwritten};
use crate::sync::journal::sqlite::{self, Ahead, KnownDestination, OpenKey, Stored, Waiting};
use crate::sync::settings::DestinationSettings;
use crate::telemetry::metrics as names;
use futures_util::FutureExt;
use metrics::{Gauge, gauge};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Changes read ahead at once.
const PAGE: u32 = 256;
/// Rows of one key loaded at once.
const LOAD: u32 = 16;
/// After the journal could not be read.
pub(super) const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a worker is made of.
pub(in crate::sync) struct Parts {
    pub(in crate::sync) known: KnownDestination,
    pub(in crate::sync) settings: DestinationSettings,
    pub(in crate::sync) journal: Arc<Journal>,
    pub(in crate::sync) clock: Clock,
    pub(in crate::sync) open: Vec<OpenKey>,
}

/// See the module.
pub(in crate::sync) struct Worker {
    pub(super) known: KnownDestination,
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Clock,
    pub(super) lanes: Lanes,
    pub(super) pace: Pace,
    pub(super) in_flight: HashMap<Arc<str>, u64>,
    pub(super) last_error: Option<String>,
    pub(super) settings: DestinationSettings,
    sender: Arc<Sender>,
    pub(super) tasks: JoinSet<Event>,
    /// Keys that are being attempted, loaded or settled.
    places_taken: usize,
    read: Read,
    /// Changes refused in a hold, with the successes until then.
    pub(super) refused: HashMap<u64, u64>,
    pub(super) successes: u64,
    pub(super) replays: Replays,
    in_flight_gauge: Gauge,
    breaker_gauge: Gauge,
}

/// Whether a page is being read, or must not be before some time.
enum Read {
    Idle,
    UnderWay,
    NotBefore(Timestamp),
}

pub(super) enum Event {
    Page(Result<(Vec<Ahead>, u64), Unwritten>),
    Loaded(Arc<str>, Result<Vec<Waiting>, Unwritten>),
    Answered(Box<Answered>),
    Durable(Arc<str>, After),
}

pub(super) struct Answered {
    pub(super) key: Arc<str>,
    pub(super) entry: Entry,
    pub(super) standing: Standing,
    pub(super) began_at: Timestamp,
    /// `None`: the journal could not be read, or the attempt panicked; it is tried again.
    pub(super) result: Option<(ChangeId, Outcome)>,
}

/// What a key does once its record is durable.
pub(super) enum After {
    GoOn,
    WaitUntil(Timestamp),
    StayParked,
}

impl Worker {
    pub(in crate::sync) fn new(parts: Parts) -> Self {
        let Parts { known, settings, journal, clock, open } = parts;
        let gauge_of = |name: &'static str| gauge!(name, "destination" => settings.name.clone());
        Self {
            lanes: Lanes::new(known.frontier, open, settings.on_failure),
            pace: Pace::new(&settings, &known),
            sender: Arc::new(Sender::new(&settings, clock.clone())),
            in_flight_gauge: gauge_of(names::DESTINATION_IN_FLIGHT),
            breaker_gauge: gauge_of(names::DESTINATION_BREAKER),
            in_flight: HashMap::new(),
            last_error: None,
            tasks: JoinSet::new(),
            places_taken: 0,
            read: Read::Idle,
            refused: HashMap::new(),
            successes: 0,
            replays: Replays::default(),
            known,
            settings,
            journal,
            clock,
        }
    }

    /// Delivers until it is stopped, then waits for what is under way.
    pub(in crate::sync) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        let mut newest = self.journal.newest();
        while !stop.is_cancelled() {
            let wake_at = self.dispatch(&mut newest);
            let sleep = wake_at.map(|at| tokio::time::sleep(at.since(self.clock.now())));
            tokio::select! {
                () = stop.cancelled() => {}
                Some(event) = self.tasks.join_next() => self.take_in(event).await,
                Some(command) = commands.recv() => self.obey(command).await,
                Ok(()) = newest.changed() => {}
                () = sleep_or_never(sleep) => {}
            }
        }
        while let Some(event) = self.tasks.join_next().await {
            self.take_in(event).await;
        }
    }

    /// Begins what may begin; when to look again.
    fn dispatch(&mut self, newest: &mut watch::Receiver<u64>) -> Option<Timestamp> {
        let now = self.clock.now();
        let read_at = self.read_ahead(*newest.borrow_and_update(), now);
        while self.places_taken < self.pace.concurrency() {
            match self.lanes.take(now) {
                None => break,
                Some(Turn::Load(key)) => self.load(key),
                Some(Turn::Attempt(key, entry)) => {
                    if let Some(at) = self.replays.must_wait(&entry.past, now) {
                        self.lanes.wait(&key, at);
                        continue;
                    }
                    let Some(standing) = self.pace.admit(now) else {
                        self.lanes.give_back(&key);
                        break;
                    };
                    self.attempt(key, entry, standing, now);
                }
            }
        }
        self.breaker_gauge.set(self.pace.breaker(now).as_gauge());
        // Without a free place nothing can begin before an event frees one.
        let (mut due, mut admission) = (None, None);
        if self.places_taken < self.pace.concurrency() {
            admission = self.pace.next_admission(now).filter(|_| self.lanes.is_ready(now));
            due = self.lanes.next_due();
        }
        [read_at, due, admission].into_iter().flatten().min()
    }

    fn read_ahead(&mut self, newest: u64, now: Timestamp) -> Option<Timestamp> {
        if let Read::NotBefore(at) = self.read {
            if now < at {
                return Some(at);
            }
            self.read = Read::Idle;
        }
        let wanted = matches!(self.read, Read::Idle) && newest > self.lanes.cursor() && self.lanes.has_room();
        if wanted {
            self.read = Read::UnderWay;
            let (journal, known, cursor) =
                (Arc::clone(&self.journal), self.known.clone(), self.lanes.cursor());
            self.tasks.spawn(async move {
                let query = move |store: &sqlite::Store| sqlite::page(store, &known, cursor, PAGE);
                Event::Page(journal.readers().read(query).await)
            });
        }
        None
    }

    fn load(&mut self, key: Arc<str>) {
        self.places_taken += 1;
        let (journal, destination) = (Arc::clone(&self.journal), self.known.id);
        self.tasks.spawn(async move {
            let wanted = Arc::clone(&key);
            let rows =
                journal.readers().read(move |store| sqlite::waiting(store, destination, &wanted, LOAD));
            let rows = rows.await;
            Event::Loaded(key, rows)
        });
    }

    fn attempt(&mut self, key: Arc<str>, entry: Entry, standing: Standing, began_at: Timestamp) {
        let standing = self.replays.standing(&entry.past, standing, began_at);
        self.places_taken += 1;
        self.in_flight.insert(Arc::clone(&key), entry.sequence);
        self.in_flight_gauge.increment(1.0);
        let (journal, sender) = (Arc::clone(&self.journal), Arc::clone(&self.sender));
        self.tasks.spawn(async move {
            // A panic must not keep the place, nor the probe that everybody waits for.
            let attempt = AssertUnwindSafe(deliver(&journal, &sender, &key, &entry)).catch_unwind();
            let result = attempt.await.unwrap_or_else(|_| {
                tracing::error!(%key, sequence = entry.sequence, "an attempt met a fault of Tidegate's own");
                None
            });
            Event::Answered(Box::new(Answered { key, entry, standing, began_at, result }))
        });
    }

    async fn take_in(&mut self, event: Result<Event, tokio::task::JoinError>) {
        match event {
            Ok(Event::Page(page)) => self.take_page(page).await,
            Ok(Event::Loaded(key, rows)) => {
                self.places_taken -= 1;
                match rows {
                    Ok(rows) => {
                        let more = if rows.len() >= LOAD as usize { Spilled::Yes } else { Spilled::No };
                        self.lanes.loaded(&key, rows, more);
                    }
                    Err(Unwritten) => self.lanes.wait(&key, self.clock.now().plus(READ_AGAIN_AFTER)),
                }
            }
            Ok(Event::Answered(answered)) => self.take_answer(*answered).await,
            Ok(Event::Durable(key, after)) => {
                self.free(&key);
                match after {
                    After::GoOn => self.lanes.go_on(&key),
                    After::WaitUntil(at) => self.lanes.wait(&key, at),
                    After::StayParked => {}
                }
            }
            // Its key stays busy: nothing of it is sent before the next start.
            Err(error) => tracing::error!(destination = %self.known.name, %error, "a delivery's task ended"),
        }
        self.begin_replay().await;
    }

    pub(super) fn free(&mut self, key: &Arc<str>) {
        self.places_taken -= 1;
        if self.in_flight.remove(key).is_some() {
            self.in_flight_gauge.decrement(1.0);
        }
    }

    async fn take_page(&mut self, page: Result<(Vec<Ahead>, u64), Unwritten>) {
        self.read = Read::Idle;
        let Ok((ahead, cursor)) = page else {
            self.read = Read::NotBefore(self.clock.now().plus(READ_AGAIN_AFTER));
            return;
        };
        let passed_only = ahead.is_empty() && cursor > self.lanes.cursor();
        let rows = self.lanes.read(ahead, cursor);
        if rows.is_empty() {
            // Nothing of its own will tell how far it is, and retention waits for its frontier.
            if passed_only && self.lanes.rowless().1 == 0 {
                drop(self.submit(Step::Spill { rows }).await);
            }
            return;
        }
        // Nothing is loaded before these rows can be read.
        if let Ok(durable) = self.submit(Step::Spill { rows }).await {
            drop(durable.await);
        }
    }

    /// Queues a record; in this task, so that the order of decisions is the order of records.
    pub(super) async fn submit(
        &self,
        step: Step,
    ) -> Result<oneshot::Receiver<Result<u64, Unwritten>>, Unwritten> {
        let progress = Progress { destination: self.known.id, frontier: self.lanes.frontier(), step };
        self.journal.submit(Record::Progress(Box::new(progress))).await
    }
}

async fn deliver(
    journal: &Journal,
    sender: &Sender,
    key: &str,
    entry: &Entry,
) -> Option<(ChangeId, Outcome)> {
    let sequence = entry.sequence;
    let stored = journal.load(sequence).await.ok()?;
    failpoint::reach(failpoint::DELIVERY_BEFORE_ATTEMPT);
    let (id, outcome) = match stored {
        Some(Stored::Sound { id, head, body }) => {
            let attempt = entry.past.attempts.saturating_add(1);
            let before = if entry.past.answer_lost { Before::AnswerLost } else { Before::Nothing };
            let replay = entry.past.replay;
            let delivery = Delivery { id, key, sequence, attempt, head: &head, body, replay };
            (id, sender.attempt(delivery, before).await)
        }
        Some(Stored::Damaged { id }) => (id, Outcome::Permanent(Failure::of(Code::Damaged))),
        // A change that waits is never deleted: its row is lost.
        None => (ChangeId(uuid::Uuid::nil()), Outcome::Permanent(Failure::of(Code::Damaged))),
    };
    failpoint::reach(failpoint::DELIVERY_AFTER_ATTEMPT);
    Some((id, outcome))
}

async fn sleep_or_never(sleep: Option<tokio::time::Sleep>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}
