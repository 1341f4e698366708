//! The worker of one destination: one task that owns its state.
//!
//! An attempt keeps its place until what was decided is durable, so that a crash repeats at most
//! `concurrency` deliveries (I2). Records go into the journal's queue in the order in which they
//! were decided: a frontier that has moved is never durable before what it moved past.

use super::carrier::{Carried, Carrier, Content};
use super::command::Command;
use super::course::{After, Begin, Course};
use super::covered::Target;
use super::decide::Answered;
use super::key_state::Entry;
use super::lanes::{KEYS_MAX, PAGE};
use super::pace::Pace;
use super::renew::Going;
use super::retry::Standing;
use super::search::{SHARE, Wanted};
use super::seen::ReadEnded;
use crate::breaker;
use crate::clock::{Clock, Timestamp};
use crate::sync::engine::Inner;
use crate::sync::journal::Journal;
use crate::sync::journal::record::{Record, Step, Unwritten};
use crate::sync::journal::sqlite::{self, Ahead, Found, KnownDestination, Loaded, OpenKey};
use crate::sync::settings::DestinationSettings;
use crate::telemetry::metrics as names;
use futures_util::FutureExt;
use metrics::{Gauge, gauge};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// After the journal could not be read.
pub(super) const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a worker is made of.
pub(in crate::sync) struct Parts {
    pub(in crate::sync) known: KnownDestination,
    pub(in crate::sync) settings: DestinationSettings,
    pub(in crate::sync) inner: Arc<Inner>,
    pub(in crate::sync) open: Vec<OpenKey>,
}

/// See the module.
pub(in crate::sync) struct Worker {
    pub(super) known: KnownDestination,
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Clock,
    pub(super) course: Course,
    pub(super) attachment: Attachment,
    pub(super) last_error: Option<String>,
    pub(super) carrier: Arc<Carrier>,
    pub(super) inner: Arc<Inner>,
    pub(super) going: Going,
    tasks: JoinSet<Event>,
    read: Read,
    in_flight_gauge: Gauge,
    breaker_gauge: Gauge,
    detached_gauge: Gauge,
}

/// Whether changes are kept for the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    Attached,
    /// It fell behind its `backlog`.
    Detached,
    /// An operator attaches it again; what is under way ends first, so that no key is in flight twice.
    Returning,
}

/// What of the journal is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Idle,
    /// Or rows for what was read are being written.
    UnderWay,
    NotBefore(Timestamp),
}

/// What a task of the worker has done.
pub(super) enum Event {
    Page(Result<(Vec<Ahead>, u64), Unwritten>),
    Found(Result<Vec<Found>, Unwritten>, u64),
    RowsWritten,
    Loaded(Arc<str>, Result<Loaded, Unwritten>),
    Answered(Box<Answered>),
    /// A source was read.
    Read(Box<ReadEnded>),
    /// The journal could not be read, or the attempt panicked; it is tried again.
    Unattempted(Arc<str>, Standing),
    Durable(Arc<str>, After),
}

impl Worker {
    pub(in crate::sync) fn new(parts: Parts) -> Self {
        let Parts { known, settings, inner, open } = parts;
        let (journal, clock) = (Arc::clone(&inner.journal), inner.clock.clone());
        let gauge_of = |name: &'static str| gauge!(name, "destination" => settings.name.clone());
        Self {
            carrier: Arc::new(Carrier::new(known.id, &settings, &inner)),
            in_flight_gauge: gauge_of(names::DESTINATION_IN_FLIGHT),
            breaker_gauge: gauge_of(names::DESTINATION_BREAKER),
            detached_gauge: gauge_of(names::DESTINATION_DETACHED),
            attachment: if known.is_detached { Attachment::Detached } else { Attachment::Attached },
            course: Course::new(&known, settings, open, clock.now()),
            last_error: None,
            inner,
            going: Going::On,
            tasks: JoinSet::new(),
            read: Read::Idle,
            known,
            journal,
            clock,
        }
    }

    /// Goes on at the pace of the one before it.
    pub(in crate::sync) fn at_pace(mut self, mut pace: Pace) -> Self {
        pace.set(&self.course.settings);
        self.course.pace = pace;
        self
    }

    /// Delivers until it is stopped, or another one has to take its place, then waits for what is under way;
    /// its pace.
    pub(in crate::sync) async fn run(
        mut self,
        commands: &mut mpsc::Receiver<Command>,
        settings: &mut watch::Receiver<Arc<DestinationSettings>>,
        stop: CancellationToken,
    ) -> Pace {
        let mut newest = self.journal.newest();
        while !stop.is_cancelled() {
            // An operator's word goes first: nothing begins once a pause has been answered.
            while let Ok(command) = commands.try_recv() {
                self.obey(command).await;
            }
            if settings.has_changed().unwrap_or(false) {
                let settings = Arc::clone(&settings.borrow_and_update());
                self.take_settings(&settings);
            }
            let wake_at = match self.going {
                Going::On => self.dispatch(&mut newest).await,
                Going::Anew if self.tasks.is_empty() => break,
                Going::Anew => None,
            };
            let sleep = wake_at.map(|at| tokio::time::sleep(at.since(self.clock.now())));
            tokio::select! {
                () = stop.cancelled() => {}
                Some(event) = self.tasks.join_next() => self.take_in(event).await,
                Some(command) = commands.recv() => self.obey(command).await,
                Ok(()) = newest.changed() => {}
                Ok(()) = has_changed(settings) => {}
                () = sleep_or_never(sleep) => {}
            }
        }
        while let Some(event) = self.tasks.join_next().await {
            self.take_in(event).await;
        }
        self.in_flight_gauge.set(0.0);
        self.breaker_gauge.set(breaker::State::Closed.as_gauge());
        self.detached_gauge.set(0.0);
        self.course.pace
    }

    /// Begins what may begin; when to look again.
    async fn dispatch(&mut self, newest: &mut watch::Receiver<u64>) -> Option<Timestamp> {
        let (now, newest) = (self.clock.now(), *newest.borrow_and_update());
        let is_attached = self.is_attached().await;
        self.observe(now);
        if !is_attached {
            return None;
        }
        let read_at = self.read_ahead(newest, now);
        while let Some(begin) = self.course.begin(now) {
            match begin {
                Begin::Load(key, limit) => self.load(key, limit),
                Begin::Read(key, entry, covered) => self.read(key, entry, covered, now),
                Begin::Attempt(key, entry, standing, content) => {
                    self.attempt(key, entry, standing, content, now);
                }
            }
        }
        [read_at, self.course.wake_at(now)].into_iter().flatten().min()
    }

    fn observe(&self, now: Timestamp) {
        self.breaker_gauge.set(self.course.pace.breaker(now).as_gauge());
        self.in_flight_gauge.set(f64::from(u32::try_from(self.course.in_flight.len()).unwrap_or(u32::MAX)));
        self.detached_gauge.set(if self.attachment == Attachment::Attached { 0.0 } else { 1.0 });
    }

    /// Whether anything may begin. One that returns begins at the newest change.
    async fn is_attached(&mut self) -> bool {
        let is_quiet = self.course.is_quiet() && self.read != Read::UnderWay;
        if self.attachment == Attachment::Returning
            && is_quiet
            && let Ok(newest) = self.attach().await
        {
            self.attachment = Attachment::Attached;
            self.course.begin_anew_at(newest);
            tracing::warn!(destination = %self.known.name, "a destination is attached again, from now on");
        }
        self.attachment == Attachment::Attached
    }

    /// Takes away what waited, step by step; the newest change, from which on it follows.
    async fn attach(&self) -> Result<u64, Unwritten> {
        let destination = self.known.id;
        while self.journal.write(Record::Clear { destination }).await? > 0 {}
        self.journal.write(Record::Attach { destination }).await
    }

    /// Reads on in order where there is room, else for routes that would have to wait for that.
    fn read_ahead(&mut self, newest: u64, now: Timestamp) -> Option<Timestamp> {
        match self.read {
            Read::NotBefore(at) if now < at => return Some(at),
            Read::UnderWay => return None,
            Read::NotBefore(_) | Read::Idle => self.read = Read::Idle,
        }
        let lanes = &mut self.course.lanes;
        let (journal, destination, cursor) = (Arc::clone(&self.journal), self.known.id, lanes.cursor());
        if newest > cursor && lanes.has_room() {
            self.read = Read::UnderWay;
            self.spawn(Event::Page(Err(Unwritten)), async move {
                let query = move |store: &sqlite::Store| sqlite::page(store, destination, cursor, PAGE);
                Event::Page(journal.readers().read(query).await)
            });
        } else if let Some(Wanted { apart, seen }) = lanes.search(newest) {
            self.read = Read::UnderWay;
            self.spawn(Event::Found(Err(Unwritten), newest), async move {
                let query = move |store: &sqlite::Store| {
                    sqlite::search(store, destination, cursor, seen.max(cursor), SHARE, &apart)
                };
                Event::Found(journal.readers().read(query).await, newest)
            });
        }
        None
    }

    fn load(&mut self, key: Arc<str>, limit: u32) {
        let (journal, destination) = (Arc::clone(&self.journal), self.known.id);
        let (cursor, dead) = (self.course.lanes.cursor(), self.course.dead());
        self.spawn(Event::Loaded(Arc::clone(&key), Err(Unwritten)), async move {
            let wanted = Arc::clone(&key);
            let query = move |store: &sqlite::Store| {
                sqlite::load_key(store, destination, &wanted, cursor, dead, limit)
            };
            Event::Loaded(key, journal.readers().read(query).await)
        });
    }

    fn read(&mut self, key: Arc<str>, entry: Entry, covered: Vec<Target>, began_at: Timestamp) {
        let carrier = Arc::clone(&self.carrier);
        let ended = move |key, entry, read| Event::Read(Box::new(ReadEnded { key, entry, read, began_at }));
        let otherwise = ended(Arc::clone(&key), entry.clone(), None);
        self.spawn(otherwise, async move {
            let read = carrier.read(&key, &entry, &covered).await;
            ended(key, entry, read)
        });
    }

    fn attempt(
        &mut self,
        key: Arc<str>,
        entry: Entry,
        standing: Standing,
        content: Content,
        began_at: Timestamp,
    ) {
        let carrier = Arc::clone(&self.carrier);
        // A panic must not keep the place, nor the probe that everybody waits for.
        let otherwise = Event::Unattempted(Arc::clone(&key), standing);
        self.spawn(otherwise, async move {
            let came_to = carrier.carry(&key, &entry, content).await;
            let Some(Carried { change, outcome, round_trip, state }) = came_to else {
                return Event::Unattempted(key, standing);
            };
            let answered = Answered { key, entry, standing, began_at, change, outcome, round_trip, state };
            Event::Answered(Box::new(answered))
        });
    }

    /// Runs a task whose panic becomes `otherwise`, so that nothing waits for it for ever.
    pub(super) fn spawn(&mut self, otherwise: Event, task: impl Future<Output = Event> + Send + 'static) {
        let destination = self.known.name.clone();
        self.tasks.spawn(async move {
            AssertUnwindSafe(task).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(%destination, "a delivery met a fault of Tidegate's own");
                otherwise
            })
        });
    }

    async fn take_in(&mut self, event: Result<Event, tokio::task::JoinError>) {
        match event {
            Ok(Event::Page(page)) => self.take_page(page).await,
            Ok(Event::Found(found, newest)) => {
                self.read = Read::Idle;
                match found {
                    Ok(found) => self.course.lanes.found(found, newest),
                    Err(Unwritten) => self.read_later(),
                }
            }
            Ok(Event::RowsWritten) => {
                self.read = Read::Idle;
                self.course.lanes.rows_written();
            }
            Ok(Event::Loaded(key, loaded)) => {
                self.course.free(&key);
                match loaded {
                    Ok(loaded) => self.course.lanes.loaded(&key, loaded),
                    Err(Unwritten) => {
                        self.course.lanes.wait(&key, self.clock.now().plus(READ_AGAIN_AFTER));
                    }
                }
            }
            Ok(Event::Answered(answered)) => self.take_answer(*answered).await,
            Ok(Event::Read(ended)) => self.take_read(*ended).await,
            Ok(Event::Unattempted(key, standing)) => {
                self.course.unattempted(&key, standing, self.clock.now());
            }
            Ok(Event::Durable(key, after)) => self.course.durable(&key, after),
            // Its tasks catch their own panics.
            Err(error) => tracing::error!(destination = %self.known.name, %error, "a delivery's task ended"),
        }
        self.begin_replay().await;
    }

    fn read_later(&mut self) {
        self.read = Read::NotBefore(self.clock.now().plus(READ_AGAIN_AFTER));
    }

    async fn take_page(&mut self, page: Result<(Vec<Ahead>, u64), Unwritten>) {
        self.read = Read::Idle;
        let Ok((ahead, cursor)) = page else { return self.read_later() };
        let lanes = &mut self.course.lanes;
        let passed_only = ahead.is_empty() && cursor > lanes.cursor();
        let rows = lanes.read(ahead, cursor);
        if lanes.is_crowded() {
            tracing::warn!(
                destination = %self.known.name, keys = KEYS_MAX,
                "too many keys wait or are parked: no further change is read for it before some are settled"
            );
        }
        // Nothing of its own will tell how far it is, and retention waits for its frontier.
        if rows.is_empty() && !(passed_only && lanes.rowless().1 == 0) {
            return;
        }
        let has_rows = !rows.is_empty();
        // Nothing is loaded, and no more is read, before these rows can be read.
        if let Ok(durable) = self.submit(Step::Spill { rows }).await
            && has_rows
        {
            self.read = Read::UnderWay;
            self.spawn(Event::RowsWritten, async move {
                // Unless the journal is closed, and the process stops.
                drop(durable.await);
                Event::RowsWritten
            });
        }
    }

    /// Gives rows to what holds the frontier back for long, so that what is settled beyond it is bounded.
    pub(super) async fn spill_laggards(&mut self) {
        let rows = self.course.lanes.laggards();
        if !rows.is_empty() {
            // They stay in memory: nobody waits for these rows.
            drop(self.submit(Step::Spill { rows }).await);
        }
    }

    /// Queues a record; in this task, so that the order of decisions is the order of records.
    pub(super) async fn submit(
        &self,
        step: Step,
    ) -> Result<oneshot::Receiver<Result<u64, Unwritten>>, Unwritten> {
        self.journal.submit(Record::Progress(Box::new(self.course.progress(step)))).await
    }
}

/// Returns when there are settings that were not seen.
async fn has_changed(
    settings: &watch::Receiver<Arc<DestinationSettings>>,
) -> Result<(), watch::error::RecvError> {
    settings.clone().changed().await
}

async fn sleep_or_never(sleep: Option<tokio::time::Sleep>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}
