//! The writer thread: group commit, and what happens when a commit fails (I11).
//!
//! Whatever queued while the last commit ran becomes one transaction with one fsync. When a commit
//! fails, its intents are refused (nothing was sent to the source), everything else is kept with its
//! waiters, and nothing is acknowledged until the file has been opened anew, every unsettled change
//! has been verified, and what was kept has been written. What is kept is bounded by writes and
//! deliveries under way, which hold their places until they are told.

use super::record::{Enlisted, Record, Unwritten, Verdict};
use super::reserve::Reserve;
use super::room::{self, Bounds};
use super::sqlite::{self, SqlError, Store};
use super::sqlite::{Depth, Unverified};
use super::{Health, Job, Room, Shared};
use crate::clock::Clock;
use crate::sync::change::ChangeId;
use crate::sync::error::OpenError;
use crate::sync::failpoint as fail;
use crate::telemetry::metrics as names;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use rusqlite::ErrorCode;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// Records of one group at most.
const GROUP_RECORDS_MAX: usize = 1000;
/// Bytes of one group at most; one larger record makes a group of its own.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// How often the processor is given away while a group grows.
const YIELDS_MAX: usize = 8;
/// Between two attempts to open a journal that failed.
const REOPEN_AFTER: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    pub(super) folder: PathBuf,
    /// Of the journal that was opened first.
    pub(super) id: i64,
    pub(super) max_size_bytes: Cell<u64>,
    pub(super) destinations: RefCell<Vec<Enlisted>>,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) meters: Meters,
    /// Of the write-ahead log, what was too long and could not be moved into the file.
    pub(super) log_bytes: Cell<u64>,
    pub(super) reserve: Reserve,
}

/// Handles of the metrics, kept where it is hot.
pub(super) struct Meters {
    commits: Counter,
    batch: Histogram,
    seconds: Histogram,
    used: Gauge,
    intents: Counter,
    accepted: Counter,
    committed: Counter,
    aborted: Counter,
    in_doubt: Counter,
    reconciled: Counter,
}

impl Meters {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes need not be exact beyond 2^53")]
    pub(super) fn new(used_bytes: u64, max_size_bytes: u64) -> Self {
        gauge!(names::JOURNAL_MAX).set(max_size_bytes as f64);
        // Known from the start: a journal that nobody writes to may be full as well.
        gauge!(names::JOURNAL_USED).set(used_bytes as f64);
        let changes = |state: &'static str| counter!(names::CHANGES, "state" => state);
        Self {
            commits: counter!(names::JOURNAL_COMMITS),
            batch: histogram!(names::JOURNAL_BATCH),
            seconds: histogram!(names::JOURNAL_SECONDS),
            used: gauge!(names::JOURNAL_USED),
            intents: changes("intent"),
            accepted: changes("accepted"),
            committed: changes("committed"),
            aborted: changes("aborted"),
            in_doubt: changes("in-doubt"),
            reconciled: changes("reconciled"),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes need not be exact beyond 2^53")]
    fn used(&self, bytes: u64) {
        self.used.set(bytes as f64);
    }

    fn committed_group(&self, records: usize, took: Duration) {
        self.commits.increment(1);
        #[expect(clippy::cast_precision_loss, reason = "a group has at most a thousand records")]
        self.batch.record(records as f64);
        self.seconds.record(took.as_secs_f64());
    }

    fn count(&self, record: &Record) {
        match record {
            Record::Intent(change) if change.accepted.is_some() => self.accepted.increment(1),
            Record::Intent(_) => self.intents.increment(1),
            Record::Outcome { verdict, .. } => match verdict {
                Verdict::Committed { .. } => self.committed.increment(1),
                Verdict::Aborted => self.aborted.increment(1),
                Verdict::InDoubt => self.in_doubt.increment(1),
                Verdict::Reconciled { .. } => self.reconciled.increment(1),
            },
            _ => {}
        }
    }
}

impl Writer {
    /// Writes until the queue is closed and empty, then checkpoints.
    pub(super) fn run(self, mut store: Store, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let group = gather(first, &mut queue);
            let (error, left) = match self.commit(&mut store, &group) {
                Ok(told) => {
                    self.acknowledge(group, told);
                    match self.move_log(&store) {
                        Ok(()) => continue,
                        // What was told is durable; the file is opened anew before anything is added to it.
                        Err(error) => (error, Vec::new()),
                    }
                }
                Err(error) => (error, group),
            };
            // The file may hold the failed group or not: only what is read after opening it anew counts.
            drop(store);
            match self.recover(&error, left, &mut queue) {
                Some(recovered) => store = recovered,
                None => return,
            }
        }
        sqlite::close(store);
    }

    /// Moves a long log into the file.
    fn move_log(&self, store: &Store) -> Result<(), SqlError> {
        let mut moved = sqlite::move_log(store);
        if moved.as_ref().is_err_and(is_full) && self.reserve.give_up() {
            moved = sqlite::move_log(store);
        }
        let left = match moved {
            Err(error) if is_full(&error) => {
                tracing::warn!(
                    "the disk is full: the journal's write-ahead log cannot be moved into its file"
                );
                // It counts as no room at all.
                u64::MAX
            }
            moved => moved?,
        };
        self.log_bytes.set(left);
        Ok(())
    }

    /// Looks how much room there is.
    fn measure(&self, store: &Store) -> Result<(), SqlError> {
        let pages = sqlite::pages(store)?;
        self.meters.used(pages.used_bytes);
        let bounds = Bounds::of(&self.folder, self.max_size_bytes.get(), self.reserve.held_bytes());
        self.reserve.take(bounds);
        self.make_room(room::room(pages, self.log_bytes.get(), bounds));
        Ok(())
    }

    fn make_room(&self, room: Room) {
        let changed = self.shared.room.send_if_modified(|own| std::mem::replace(own, room) != room);
        match room {
            _ if !changed => {}
            Room::Enough => tracing::info!("the journal has enough room"),
            Room::Squeezed => {
                tracing::warn!("the journal or its disk is 80 % full: delivered changes go first");
            }
            Room::Full => tracing::error!("the journal or its disk is full: synced writes are refused (507)"),
        }
    }

    fn commit(&self, store: &mut Store, group: &[Job]) -> Result<Vec<u64>, SqlError> {
        let now = self.clock.now();
        let transaction = store.transaction_with_behavior(sqlite::IMMEDIATE)?;
        let written = group.iter().map(|job| sqlite::apply(&transaction, &job.record, now));
        let told = written.collect::<Result<Vec<_>, _>>()?;
        reach(group, [fail::INTENT_BEFORE_COMMIT, fail::OUTCOME_BEFORE_COMMIT, fail::SETTLE_BEFORE_COMMIT]);
        transaction.commit()?;
        reach(group, [fail::INTENT_AFTER_COMMIT, fail::OUTCOME_AFTER_COMMIT, fail::SETTLE_AFTER_COMMIT]);
        for job in group {
            self.take_over(&job.record);
        }
        self.measure(store)?;
        let records = group.iter().filter(|job| !matches!(job.record, Record::Flush)).count();
        if records > 0 {
            self.shared.commits.fetch_add(1, Ordering::Relaxed);
            self.meters.committed_group(records, self.clock.now().since(now));
        }
        Ok(told)
    }

    /// What is opened anew later is opened for the destinations in force by then.
    fn take_over(&self, record: &Record) {
        if let Record::InForce { destinations, max_size_bytes } = record {
            self.destinations.replace(destinations.clone());
            self.max_size_bytes.set(*max_size_bytes);
        }
    }

    fn acknowledge(&self, group: Vec<Job>, told: Vec<u64>) {
        let (mut newest, mut accepted) = (0, 0);
        for (job, told) in group.into_iter().zip(told) {
            self.meters.count(&job.record);
            match job.record {
                Record::Outcome { change, verdict, .. } => {
                    newest = newest.max(told);
                    self.shared.recent.decided(change, &verdict, told);
                }
                Record::Intent(change) => {
                    accepted = accepted.max(told.cast_signed());
                    self.shared.recent.recorded(*change, told.cast_signed());
                }
                Record::Quarantine { .. } => self.shared.recent.clear(),
                _ => {}
            }
            // Nobody may be waiting any more.
            job.done.send(Ok(told)).unwrap_or_default();
        }
        self.publish(newest);
        self.shared.accepted.send_if_modified(|number| {
            let moved = accepted > *number;
            *number = accepted.max(*number);
            moved
        });
    }

    fn publish(&self, newest: u64) {
        self.shared.newest.send_if_modified(|sequence| {
            let moved = newest > *sequence;
            *sequence = newest.max(*sequence);
            moved
        });
    }

    /// After a failed write: the journal opened anew. `None`: the engine has stopped meanwhile.
    fn recover(&self, error: &SqlError, group: Vec<Job>, queue: &mut mpsc::Receiver<Job>) -> Option<Store> {
        if sqlite::is_corrupt(error) {
            self.shared.found_corrupt(error);
        } else {
            self.shared.fail();
            tracing::error!(%error, "the journal cannot be written; synced writes are refused until it can be");
        }
        if is_full(error) {
            // Before anybody is told: it is why.
            self.make_room(Room::Full);
        }
        let mut at_once = is_full(error) && self.reserve.give_up();
        self.shared.recent.clear();
        let (mut kept, mut refused) = (Vec::new(), Vec::new());
        sort_out(group, &mut kept, &mut refused);
        let undo = refused.into_iter().map(|id| Record::outcome(id, Verdict::Aborted));
        let undo: Vec<Job> = undo.map(Job::untold).collect();
        let undone = undo.len();
        // What the file may hold of the refused intents was never sent: it is aborted first.
        kept.splice(0..0, undo);
        loop {
            if !std::mem::take(&mut at_once) {
                std::thread::park_timeout(REOPEN_AFTER);
            }
            while let Ok(job) = queue.try_recv() {
                // An intent that queued since was never written: nothing to undo.
                sort_out(vec![job], &mut kept, &mut Vec::new());
            }
            // Looked at before the try: what is queued no more is written by it, or never.
            let is_last = queue.is_closed() && queue.is_empty();
            match self.write_again(error, &kept) {
                Ok((store, told, newest)) => {
                    tracing::info!(undone, written = kept.len() - undone, "the journal can be written again");
                    self.acknowledge(kept, told);
                    self.publish(newest);
                    self.shared.health.send_replace(Health::Sound);
                    return Some(store);
                }
                Err(error) => tracing::warn!(%error, "the journal still cannot be written"),
            }
            if is_last {
                return None;
            }
        }
    }

    /// Opens the file anew, verifies every unsettled change, and writes what was kept.
    fn write_again(&self, error: &SqlError, kept: &[Job]) -> Result<(Store, Vec<u64>, u64), OpenError> {
        let unusable = |cause: Box<dyn std::error::Error + Send + Sync>| OpenError::Unusable {
            folder: self.folder.clone(),
            cause,
        };
        if *self.shared.health.borrow() == Health::Damaged {
            return Err(OpenError::Damaged { folder: self.folder.clone(), found: error.to_string() });
        }
        let mut store = sqlite::reopen(&self.folder, self.id)?;
        let sql = |error: SqlError| {
            if sqlite::is_corrupt(&error) {
                self.shared.found_corrupt(&error);
            }
            Unverified::from(error).of_folder(&self.folder)
        };
        sqlite::register(&store, &self.destinations.borrow()).map_err(sql)?;
        // A full disk has no room for it, and has broken no promise about what was written before.
        if !is_full(error) && !sqlite::begin_new_log(&store).map_err(sql)? {
            return Err(unusable("somebody reads it, a backup for instance".into()));
        }
        let suspects = sqlite::verify(&store, Depth::Content);
        let suspects = suspects.map_err(|error| error.of_folder(&self.folder))?;
        self.shared.found_damaged(&suspects);
        let told = self.commit(&mut store, kept).map_err(sql)?;
        let newest = sqlite::last_sequence(&store).map_err(sql)?;
        Ok((store, told, newest))
    }
}

fn is_full(error: &SqlError) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Refuses intents, other configurations, steps of retention, and whoever only wants to know what is durable; keeps everything else.
fn sort_out(jobs: Vec<Job>, kept: &mut Vec<Job>, refused: &mut Vec<ChangeId>) {
    for job in jobs {
        match &job.record {
            Record::Intent(change) => {
                refused.push(change.id);
                job.done.send(Err(Unwritten)).unwrap_or_default();
            }
            Record::Flush | Record::Retain { .. } | Record::InForce { .. } => {
                job.done.send(Err(Unwritten)).unwrap_or_default();
            }
            _ => kept.push(job),
        }
    }
}

/// What waits, and what comes while others are given the processor for a moment: a group costs one fsync.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut bytes = first.record.weight();
    let mut group = vec![first];
    let mut before = 0;
    for _ in 0..YIELDS_MAX {
        while group.len() < GROUP_RECORDS_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(job) = queue.try_recv() else { break };
            bytes = bytes.saturating_add(job.record.weight());
            group.push(job);
        }
        if group.len() == before {
            break;
        }
        before = group.len();
        std::thread::yield_now();
    }
    group
}

fn reach(group: &[Job], [intent, outcome, settle]: [&'static str; 3]) {
    if cfg!(debug_assertions) {
        let has = |wanted: fn(&Record) -> bool| group.iter().any(|job| wanted(&job.record));
        if has(|record| matches!(record, Record::Intent(_))) {
            fail::reach(intent);
        }
        if has(|record| matches!(record, Record::Outcome { .. })) {
            fail::reach(outcome);
        }
        if has(|record| matches!(record, Record::Progress(_))) {
            fail::reach(settle);
        }
    }
}
