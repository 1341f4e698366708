//! The journal: what is recorded is durable before anybody is told (I1, I2).
//!
//! One writer thread owns the file and commits in groups; readers have connections of their own. A
//! record is either written and told, or (intents) refused, or (everything else) kept until it is.
//! The folder's lock makes this process the only one.

pub(crate) mod at_source;
pub(crate) mod readers;
mod recent;
pub(crate) mod record;
mod reserve;
mod room;
pub(crate) mod sqlite;
#[cfg(test)]
mod tests;
mod writer;

use crate::clock::{Clock, Timestamp};
use crate::sync::error::{ExamineError, OpenError};
use crate::sync::status::AtRestReport;
use crate::telemetry::metrics as names;
use readers::Readers;
use recent::Recent;
use record::{Enlisted, Record, Suspect, Unwritten};
use reserve::Reserve;
use room::Bounds;
pub(crate) use room::Room;
use sqlite::{Depth, Due, Stored, ToSend, Unverified};
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Records that wait for the writer; at the bound, whoever records waits.
const QUEUE_RECORDS: usize = 4096;
/// The file whose lock keeps other processes out.
const LOCK_FILE: &str = "lock";

/// A record with whoever waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    record: Record,
    done: oneshot::Sender<Result<u64, Unwritten>>,
}

impl Job {
    fn untold(record: Record) -> Self {
        Self { record, done: oneshot::channel().0 }
    }
}

/// Whether the file can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Sound,
    /// A write failed; it is opened anew until one succeeds.
    Failed,
    /// It contradicts itself: nothing is written any more, and it is for an operator to decide.
    Damaged,
}

/// What the lock file holds once the folder has a journal.
const HELD: &[u8] = b"journal\n";

/// How long operators wait for what is queued.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared {
    commits: AtomicU64,
    /// Records found damaged since the start.
    damaged: AtomicU64,
    room: watch::Sender<Room>,
    health: watch::Sender<Health>,
    newest: watch::Sender<u64>,
    accepted: watch::Sender<i64>,
    recent: Recent,
}

/// The handle to the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    readers: Readers,
    shared: Arc<Shared>,
    lock: File,
}

impl Journal {
    /// Opens the journal of a folder and starts its writer. Waits for the disk.
    pub(crate) fn open(
        folder: &Path,
        max_size_bytes: u64,
        destinations: Vec<Enlisted>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let unusable =
            |cause: std::io::Error| OpenError::Unusable { folder: folder.to_owned(), cause: cause.into() };
        std::fs::create_dir_all(folder).map_err(unusable)?;
        let lock = lock(folder)?;
        let had_one = lock.metadata().map_err(unusable)?.len() > 0;
        if sqlite::is_emptied(folder) && had_one {
            let found = "journal.sqlite is empty".to_owned();
            return Err(OpenError::Damaged { folder: folder.to_owned(), found });
        }
        let reserve = Reserve::of(folder);
        let mut store = if had_one { sqlite::open_made(folder)? } else { sqlite::open(folder)? };
        if !had_one {
            // From now on an empty file is not a new journal.
            (&lock).write_all(HELD).map_err(unusable)?;
        }
        let prepared = (|| {
            sqlite::register(&store, &destinations)?;
            let suspects = sqlite::verify(&store, Depth::Record)?;
            if !suspects.is_empty() {
                let transaction = store.transaction_with_behavior(sqlite::IMMEDIATE)?;
                sqlite::apply(&transaction, &Record::Quarantine { suspects: suspects.clone() }, clock.now())?;
                transaction.commit()?;
            }
            let newest = (sqlite::last_sequence(&store)?, sqlite::newest_accepted(&store)?);
            Ok((suspects, sqlite::pages(&store)?, newest, sqlite::journal_id(&store)?))
        })();
        let (suspects, pages, (newest, accepted), id) =
            prepared.map_err(|error: Unverified| error.of_folder(folder))?;
        let bounds = Bounds::of(folder, max_size_bytes, reserve.held_bytes());
        reserve.take(bounds);
        let shared = Arc::new(Shared {
            commits: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            room: watch::Sender::new(room::room(pages, 0, bounds)),
            health: watch::Sender::new(Health::Sound),
            newest: watch::Sender::new(newest),
            accepted: watch::Sender::new(accepted),
            recent: Recent::default(),
        });
        shared.found_damaged(&suspects);
        let writer = writer::Writer {
            folder: folder.to_owned(),
            id,
            max_size_bytes: std::cell::Cell::new(max_size_bytes),
            destinations: std::cell::RefCell::new(destinations),
            clock,
            shared: Arc::clone(&shared),
            meters: writer::Meters::new(pages.used_bytes, max_size_bytes),
            log_bytes: std::cell::Cell::new(0),
            reserve,
        };
        let (sender, receiver) = mpsc::channel(QUEUE_RECORDS);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(store, receiver))
            .map_err(unusable)?;
        Ok(Self {
            queue: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            readers: Readers::new(folder.to_owned(), Arc::clone(&shared)),
            shared,
            lock,
        })
    }

    /// Queues a record; the answer comes once it is durable.
    pub(crate) async fn submit(
        &self,
        record: Record,
    ) -> Result<oneshot::Receiver<Result<u64, Unwritten>>, Unwritten> {
        if matches!(record, Record::Intent(_)) && self.health() != Health::Sound {
            return Err(Unwritten);
        }
        let queue = unpoisoned(&self.queue).clone().ok_or(Unwritten)?;
        let (done, told) = oneshot::channel();
        queue.send(Job { record, done }).await.map_err(|_| Unwritten)?;
        Ok(told)
    }

    /// Writes a record; returns once it is durable.
    pub(crate) async fn write(&self, record: Record) -> Result<u64, Unwritten> {
        self.submit(record).await?.await.map_err(|_| Unwritten)?
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) fn health(&self) -> Health {
        *self.shared.health.borrow()
    }

    /// The newest sequence that is durable.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.shared.newest.subscribe()
    }

    /// The newest accepted change that is durable and acknowledged, by its number.
    pub(crate) fn newest_accepted(&self) -> watch::Receiver<i64> {
        self.shared.accepted.subscribe()
    }

    pub(crate) fn room(&self) -> Room {
        *self.shared.room.borrow()
    }

    /// One step of a pass of retention; up to where it has looked, 0 once a pass is over.
    pub(crate) async fn retain(&self, delivered_before: Timestamp, after: u64) -> Result<u64, Unwritten> {
        self.write(Record::Retain { delivered_before, after }).await
    }

    /// What is delivered of a change that waits for a destination. One whose record does not match is
    /// quarantined.
    pub(crate) async fn load(&self, sequence: u64, destination: i64) -> Result<Stored, Unwritten> {
        if let Some(recent) = self.shared.recent.get(sequence) {
            return Ok(recent);
        }
        let Some(stored) = self.readers.read(move |store| sqlite::load(store, sequence)).await? else {
            self.readers.read(move |store| sqlite::not_found(store, sequence, destination)).await?;
            return Err(Unwritten);
        };
        if let Stored::Damaged { .. } = stored {
            self.quarantine(vec![Suspect::Sequence(sequence)]).await;
        }
        Ok(stored)
    }

    /// What is sent of an accepted change whose turn it is; `None`: it is not its turn any more.
    pub(crate) async fn to_send(&self, due: &Due) -> Result<Option<ToSend>, Unwritten> {
        let number = due.number;
        if due.is_untried
            && let Some(recent) = self.shared.recent.untried(number)
        {
            return Ok(Some(recent));
        }
        self.readers.read(move |store| sqlite::to_send(store, number)).await
    }

    /// Lists changes as damaged, counts them and says so, once for each.
    pub(crate) async fn quarantine(&self, suspects: Vec<Suspect>) {
        let listed = self.write(Record::Quarantine { suspects: suspects.clone() }).await;
        if listed != Ok(0) {
            self.shared.found_damaged(&suspects);
        }
    }

    /// Waits until what was queued before is durable, for what operators are told; not for long, and a
    /// journal that cannot write is no reason to tell them nothing.
    pub(crate) async fn flushed(&self) {
        if tokio::time::timeout(FLUSH_WAIT, self.write(Record::Flush)).await.is_err() {
            tracing::debug!("operators are told of what was durable before");
        }
    }

    /// Writes what is queued, closes everything, and leaves no write-ahead log.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        drop(unpoisoned(&self.queue).take());
        let thread = unpoisoned(&self.thread).take();
        if let Some(thread) = thread {
            // A writer that panicked has been reported by the panic's own message.
            drop(tokio::task::spawn_blocking(move || thread.join()).await);
        }
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the journal's lock is given back only when the process ends");
        }
    }
}

#[cfg(test)]
impl Journal {
    fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Records found damaged since the start.
    pub(crate) fn damaged(&self) -> u64 {
        self.shared.damaged.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// A write failed. What is damaged stays so.
    fn fail(&self) {
        self.health.send_if_modified(|health| {
            let was = *health;
            if was == Health::Sound {
                *health = Health::Failed;
            }
            was != *health
        });
    }

    fn found_damaged(&self, suspects: &[Suspect]) {
        for suspect in suspects {
            tracing::error!(?suspect, "a change in the journal is damaged; it is not delivered");
        }
        self.damaged.fetch_add(suspects.len() as u64, Ordering::Relaxed);
        metrics::counter!(names::JOURNAL_DAMAGED).increment(suspects.len() as u64);
    }

    /// The file contradicts itself: nothing is written on top of that.
    fn found_corrupt(&self, error: &sqlite::SqlError) {
        let was = self.health.send_replace(Health::Damaged);
        if was != Health::Damaged {
            metrics::counter!(names::JOURNAL_DAMAGED).increment(1);
            tracing::error!(
                %error,
                "the journal is damaged: synced writes are refused until it is repaired. Stop, see what \
                 `tidegate journal check` finds, and restore a backup"
            );
        }
    }
}

/// Examines the journal of a folder at rest; nothing is changed.
///
/// # Errors
/// [`ExamineError`]: a process has it open, or it cannot be read.
pub fn examine(folder: &Path) -> Result<AtRestReport, ExamineError> {
    let unreadable = |cause: Box<dyn std::error::Error + Send + Sync>| ExamineError::Unreadable {
        folder: folder.to_owned(),
        cause,
    };
    // Held until it has been read. Without a lock file no process has ever had it open.
    let _lock = match File::open(folder.join(LOCK_FILE)) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => {
                return Err(ExamineError::Locked { folder: folder.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(unreadable(error.into())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(error.into())),
    };
    sqlite::examine(folder).map_err(|error| unreadable(error.into()))
}

/// Whether a folder holds a journal.
#[must_use]
pub fn has_journal(folder: &Path) -> bool {
    sqlite::file(folder).is_file()
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let unusable =
        |cause: std::io::Error| OpenError::Unusable { folder: folder.to_owned(), cause: cause.into() };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK_FILE))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}
