//! The writer thread: group commit, and what happens when a commit fails (I11).
//!
//! Whatever queued while the last commit ran becomes one transaction with one fsync. When a commit
//! fails, its intents are refused (nothing was sent to the source), everything else is kept with its
//! waiters, and nothing is acknowledged until the file has been opened anew, every unsettled change
//! has been verified, and what was kept has been written. What is kept is bounded by writes and
//! deliveries under way, which hold their places until they are told.

use super::record::{Record, Unwritten, Verdict};
use super::sqlite::{self, SqlError, Store};
use super::{Health, Job, Shared};
use crate::clock::Clock;
use crate::sync::change::ChangeId;
use crate::sync::failpoint;
use crate::telemetry::metrics as names;
use metrics::{Counter, Histogram, counter, histogram};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Records of one group at most.
const GROUP_RECORDS_MAX: usize = 1000;
/// Bytes of one group at most; one larger record makes a group of its own.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Between two attempts to open a journal that failed.
const REOPEN_AFTER: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    pub(super) folder: PathBuf,
    pub(super) destinations: Vec<String>,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) meters: Meters,
}

/// Handles of the metrics, kept where it is hot.
pub(super) struct Meters {
    commits: Counter,
    batch: Histogram,
    seconds: Histogram,
    intents: Counter,
    committed: Counter,
    aborted: Counter,
    in_doubt: Counter,
    reconciled: Counter,
}

impl Meters {
    pub(super) fn new() -> Self {
        let changes = |state: &'static str| counter!(names::CHANGES, "state" => state);
        Self {
            commits: counter!(names::JOURNAL_COMMITS),
            batch: histogram!(names::JOURNAL_BATCH),
            seconds: histogram!(names::JOURNAL_SECONDS),
            intents: changes("intent"),
            committed: changes("committed"),
            aborted: changes("aborted"),
            in_doubt: changes("in-doubt"),
            reconciled: changes("reconciled"),
        }
    }

    fn count(&self, record: &Record) {
        match record {
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
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let group = gather(first, &mut queue);
            match self.commit(&group) {
                Ok(told) => self.acknowledge(group, told),
                Err(error) => match self.recover(group, &error, &mut queue) {
                    Some(recovered) => self = recovered,
                    None => return,
                },
            }
        }
        sqlite::close(self.store);
    }

    fn commit(&mut self, group: &[Job]) -> Result<Vec<u64>, SqlError> {
        let now = self.clock.now();
        let transaction = self.store.transaction_with_behavior(sqlite::IMMEDIATE)?;
        let told = group.iter().map(|job| sqlite::apply(&transaction, &job.record, now)).collect::<Result<Vec<_>, _>>()?;
        reach(group, failpoint::INTENT_BEFORE_COMMIT, failpoint::OUTCOME_BEFORE_COMMIT, failpoint::SETTLE_BEFORE_COMMIT);
        transaction.commit()?;
        reach(group, failpoint::INTENT_AFTER_COMMIT, failpoint::OUTCOME_AFTER_COMMIT, failpoint::SETTLE_AFTER_COMMIT);
        let used = sqlite::used_bytes(&self.store)?;
        self.shared.used_bytes.store(used, std::sync::atomic::Ordering::Relaxed);
        self.meters.commits.increment(1);
        #[expect(clippy::cast_precision_loss, reason = "a group has at most a thousand records")]
        self.meters.batch.record(group.len() as f64);
        self.meters.seconds.record(self.clock.now().since(now).as_secs_f64());
        Ok(told)
    }

    fn acknowledge(&self, group: Vec<Job>, told: Vec<u64>) {
        let mut newest = 0;
        for (job, told) in group.into_iter().zip(told) {
            self.meters.count(&job.record);
            if let Record::Outcome { .. } = job.record {
                newest = newest.max(told);
            }
            // Nobody may be waiting any more.
            drop(job.done.send(Ok(told)));
        }
        if newest > 0 {
            self.shared.newest.send_if_modified(|sequence| {
                let moved = newest > *sequence;
                *sequence = newest.max(*sequence);
                moved
            });
        }
    }

    /// After a failed commit. `None`: the engine has stopped meanwhile.
    fn recover(self, group: Vec<Job>, error: &SqlError, queue: &mut mpsc::Receiver<Job>) -> Option<Self> {
        tracing::error!(%error, "the journal cannot be written; synced writes are refused until it can be");
        self.shared.health.send_replace(Health::Failed);
        let (mut kept, mut refused) = (Vec::new(), Vec::new());
        sort_out(group, &mut kept, &mut refused);
        let Self { folder, destinations, store, clock, shared, meters } = self;
        // The file may hold the failed group or not: only what is read after opening it anew counts.
        drop(store);
        loop {
            std::thread::park_timeout(REOPEN_AFTER);
            while let Ok(job) = queue.try_recv() {
                // An intent that was queued before the failure was never written: nothing to undo.
                sort_out(vec![job], &mut kept, &mut Vec::new());
            }
            if queue.is_closed() && queue.is_empty() {
                return None;
            }
            let Some(store) = reopen(&folder, &destinations) else { continue };
            let mut writer = Self {
                folder: folder.clone(),
                destinations: destinations.clone(),
                store,
                clock: clock.clone(),
                shared: Arc::clone(&shared),
                meters: Meters::new(),
            };
            let undo = refused.iter().map(|id| Job::untold(Record::Outcome { change: *id, verdict: Verdict::Aborted }));
            let mut again: Vec<Job> = undo.collect();
            let undone = again.len();
            again.append(&mut kept);
            match writer.commit(&again) {
                Ok(told) => {
                    writer.acknowledge(again, told);
                    tracing::info!("the journal can be written again");
                    writer.shared.health.send_replace(Health::Sound);
                    return Some(writer);
                }
                Err(error) => {
                    tracing::warn!(%error, "the journal still cannot be written");
                    kept = again.split_off(undone);
                }
            }
            drop(writer.meters);
        }
    }
}

fn reopen(folder: &std::path::Path, destinations: &[String]) -> Option<Store> {
    let store = sqlite::open(folder).map_err(|error| tracing::warn!(%error, "the journal stays closed")).ok()?;
    let verified = sqlite::register(&store, destinations).and_then(|()| sqlite::verify_unsettled(&store));
    let damaged = verified.map_err(|error| tracing::warn!(%error, "the journal cannot be verified")).ok()?;
    for change in damaged {
        tracing::error!(%change, "a change in the journal is damaged; it will not be delivered");
    }
    Some(store)
}

/// Refuses intents, keeps everything else.
fn sort_out(jobs: Vec<Job>, kept: &mut Vec<Job>, refused: &mut Vec<ChangeId>) {
    for job in jobs {
        match &job.record {
            Record::Intent(change) => {
                refused.push(change.id);
                drop(job.done.send(Err(Unwritten)));
            }
            _ => kept.push(job),
        }
    }
}

fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut bytes = first.record.weight();
    let mut group = vec![first];
    while group.len() < GROUP_RECORDS_MAX && bytes < GROUP_BYTES_MAX {
        let Ok(job) = queue.try_recv() else { break };
        bytes = bytes.saturating_add(job.record.weight());
        group.push(job);
    }
    group
}

fn reach(group: &[Job], intent: &'static str, outcome: &'static str, settle: &'static str) {
    if cfg!(debug_assertions) {
        let has = |wanted: fn(&Record) -> bool| group.iter().any(|job| wanted(&job.record));
        if has(|record| matches!(record, Record::Intent(_))) {
            failpoint::reach(intent);
        }
        if has(|record| matches!(record, Record::Outcome { .. })) {
            failpoint::reach(outcome);
        }
        if has(|record| matches!(record, Record::Progress(_))) {
            failpoint::reach(settle);
        }
    }
}
