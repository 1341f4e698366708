//! The journal: what is recorded is durable before anybody is told (I1, I2).
//!
//! One writer thread owns the file and commits in groups; readers have connections of their own. A
//! record is either written and told, or (intents) refused, or (everything else) kept until it is.
//! The folder's lock makes this process the only one.

pub(crate) mod readers;
pub(crate) mod record;
pub(crate) mod sqlite;
#[cfg(test)]
mod tests;
mod writer;

use crate::clock::{Clock, Timestamp};
use crate::sync::error::OpenError;
use readers::Readers;
use record::{Enlisted, Record, Unwritten};
use std::fs::{File, TryLockError};
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
/// In hundredths of `max_size`: from here on delivered changes go before their retention is over.
const SQUEEZE_PERCENT: u64 = 80;
/// In hundredths of `max_size`: from here on intents are refused; the rest is for settling.
const FULL_PERCENT: u64 = 95;

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
    Failed,
}

/// How much of `max_size` is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    Squeezed,
    Full,
}

/// How long operators wait for what is queued.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared {
    commits: AtomicU64,
    used_bytes: AtomicU64,
    health: watch::Sender<Health>,
    newest: watch::Sender<u64>,
}

/// The handle to the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    readers: Readers,
    shared: Arc<Shared>,
    max_size_bytes: u64,
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
        let store = sqlite::open(folder)?;
        let prepared = sqlite::register(&store, &destinations).and_then(|()| {
            let (used, newest) = (sqlite::used_bytes(&store)?, sqlite::last_sequence(&store)?);
            Ok((used, newest, sqlite::journal_id(&store)?))
        });
        let (used, newest, id) = prepared
            .map_err(|error| OpenError::Unusable { folder: folder.to_owned(), cause: error.into() })?;
        let shared = Arc::new(Shared {
            commits: AtomicU64::new(0),
            used_bytes: AtomicU64::new(used),
            health: watch::Sender::new(Health::Sound),
            newest: watch::Sender::new(newest),
        });
        let writer = writer::Writer {
            folder: folder.to_owned(),
            id,
            destinations,
            clock,
            shared: Arc::clone(&shared),
            meters: writer::Meters::new(),
        };
        let (sender, receiver) = mpsc::channel(QUEUE_RECORDS);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(store, receiver))
            .map_err(unusable)?;
        Ok(Self {
            queue: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            readers: Readers::new(folder.to_owned()),
            shared,
            max_size_bytes,
            lock,
        })
    }

    /// Queues a record; the answer comes once it is durable.
    pub(crate) async fn submit(
        &self,
        record: Record,
    ) -> Result<oneshot::Receiver<Result<u64, Unwritten>>, Unwritten> {
        if matches!(record, Record::Intent(_)) && self.health() == Health::Failed {
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

    /// Bytes of the file in use.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.shared.used_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn room(&self) -> Room {
        let used = u128::from(self.used_bytes()) * 100;
        let share = |percent: u64| u128::from(self.max_size_bytes) * u128::from(percent);
        if used >= share(FULL_PERCENT) {
            Room::Full
        } else if used >= share(SQUEEZE_PERCENT) {
            Room::Squeezed
        } else {
            Room::Enough
        }
    }

    /// Deletes one step of what was delivered; how many changes.
    pub(crate) async fn retain(&self, delivered_before: Timestamp) -> Result<u64, Unwritten> {
        self.write(Record::Retain { delivered_before }).await
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
