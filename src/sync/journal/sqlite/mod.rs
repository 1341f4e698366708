//! The journal's file: `SQLite` in WAL mode with `synchronous=FULL`.
//!
//! `changes` is one slim row a change, `contents` what is delivered of it; each with its checksum.
//! A destination is a `frontier`: every change up to it is settled, unless `deliveries` has a row
//! that says otherwise. A change beyond the frontier waits, unless a row says it is settled.

mod accepted;
mod again;
mod answers;
mod apply;
mod at_rest;
mod decide;
mod destination;
mod queue;
mod read;
mod retain;
mod schema;
mod sealed;
mod settled;
#[cfg(test)]
mod tests;
mod verify;
mod view;
mod wal;

pub(crate) use accepted::*;
pub(crate) use again::*;
pub(crate) use answers::{Forgetting, answer};
pub(crate) use apply::apply;
pub(crate) use at_rest::examine;
pub(crate) use destination::{OpenKey, open_keys, undecided};
pub(crate) use queue::*;
pub(crate) use read::*;
pub(crate) use verify::{Depth, Unverified, is_corrupt, not_found, verify};
pub(crate) use view::*;

use crate::sync::error::OpenError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The journal's file in its folder.
const FILE: &str = "journal.sqlite";
/// Its write-ahead log, and the index of that.
const LOG: &str = "journal.sqlite-wal";
const LOG_INDEX: &str = "journal.sqlite-shm";
/// `SQLite`'s default, which the journals of all formats have.
const PAGE_BYTES: usize = 4096;
/// Frames of the log from which on they are moved into the file (4 MiB).
const LOG_FRAMES: u64 = 1000;
/// The size to which the log's file is cut when it begins anew after it had to grow, in bytes.
const LOG_FILE_BYTES: u64 = 16 << 20;
/// How long a statement waits for somebody else's lock, a backup's for instance.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// Statements kept prepared.
const STATEMENTS: usize = 128;
/// Rows that one step of work on a whole destination or key touches at most: some ten milliseconds.
const STEP_ROWS: u32 = 500;
/// Pages that the connection that writes keeps, in KiB.
const CACHE_KIBIBYTES: u32 = 8 << 10;
/// The same for one that reads: each commit makes what it keeps old.
const READER_CACHE_KIBIBYTES: u32 = 1 << 10;

/// The states of a change, as stored. SQL says them as numbers, which are part of the format.
pub(crate) mod change_state {
    pub(crate) const INTENT: i64 = 0;
    pub(crate) const IN_DOUBT: i64 = 1;
    pub(crate) const COMMITTED: i64 = 2;
    pub(crate) const RECONCILED: i64 = 3;
    pub(crate) const ABORTED: i64 = 4;
    /// Its client has been answered, its source has not done it yet.
    pub(crate) const ACCEPTED: i64 = 5;
    /// As before, and the source has refused it: a dead letter of the source.
    pub(crate) const REFUSED: i64 = 6;
    /// Never stored: asks for what is listed as damaged.
    pub(crate) const DAMAGED: i64 = -1;
    /// The words for operators, by number.
    pub(crate) const WORDS: [&str; 7] =
        ["intent", "in-doubt", "committed", "reconciled", "aborted", "accepted", "dead-letter"];
}

/// The states of a delivery that has a row, as stored. SQL says them as numbers, which are part of the
/// format; 6, discarded, is said by SQL alone.
pub(crate) mod delivery_state {
    pub(crate) const WAITING: i64 = 0;
    pub(crate) const BEHIND: i64 = 1;
    pub(crate) const PARKED: i64 = 2;
    pub(crate) const DEAD: i64 = 3;
    pub(crate) const DELIVERED: i64 = 4;
    pub(crate) const ABSENT: i64 = 5;
    pub(crate) const SUPERSEDED: i64 = 7;
    /// The words for operators, by number.
    pub(crate) const WORDS: [&str; 8] =
        ["waiting", "waiting", "parked", "dead-letter", "delivered", "absent", "discarded", "superseded"];
}

/// What `SQLite` said.
pub(crate) type SqlError = rusqlite::Error;
/// A connection; the writer has one, each reader has one.
pub(crate) type Store = Connection;

/// Opens the journal for writing, and makes or upgrades it.
pub(crate) fn open(folder: &Path) -> Result<Store, OpenError> {
    opened(folder, Made::Perhaps)
}

/// As [`open`], where the folder has had a journal before: one without tables has lost them.
pub(crate) fn open_made(folder: &Path) -> Result<Store, OpenError> {
    opened(folder, Made::Before)
}

/// Whether there must be a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Before,
    Perhaps,
}

fn opened(folder: &Path, made: Made) -> Result<Store, OpenError> {
    let unusable = |cause| OpenError::Unusable { folder: folder.to_owned(), cause };
    let damaged = |found: String| OpenError::Damaged { folder: folder.to_owned(), found };
    let failed = |error: SqlError| Unverified::from(error).of_folder(folder);
    match wal::inspect(&folder.join(LOG), &folder.join(LOG_INDEX)).map_err(|error| unusable(error.into()))? {
        wal::Log::Whole => {}
        wal::Log::Torn => {
            tracing::error!(
                ?folder,
                "the last group in the journal's write-ahead log cannot be read: after a power cut nobody was \
                 told of it, else it is damaged and its changes are lost"
            );
        }
        wal::Log::Damaged(what) => return Err(damaged(what.to_owned())),
    }
    let is_there = file(folder).exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let (mut store, format) = connect(folder, flags).map_err(failed)?;
    if format == 0 && is_there && made == Made::Before {
        return Err(damaged("it has no tables: its write-ahead log is lost".to_owned()));
    }
    if format > schema::FORMAT {
        let newest = schema::FORMAT;
        let message = format!("its format is {format}, and this version of tidegate reads up to {newest}");
        return Err(unusable(message.into()));
    }
    prepare(&mut store, format).map_err(failed)?;
    Ok(store)
}

/// The journal's file in a folder.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Whether the file is there and has nothing in it: `SQLite` takes such a one for a new one, and drops its
/// log.
pub(crate) fn is_emptied(folder: &Path) -> bool {
    std::fs::metadata(folder.join(FILE)).is_ok_and(|file| file.len() == 0)
}

/// Opens the journal that was open before, told by its id: where its file has gone, with its volume for
/// instance, none is made in its place.
pub(crate) fn reopen(folder: &Path, id: i64) -> Result<Store, OpenError> {
    let unusable = |cause| OpenError::Unusable { folder: folder.to_owned(), cause };
    let same = || -> Result<Option<Store>, SqlError> {
        let (store, format) = connect(folder, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        writes_are_durable(&store)?;
        Ok(if format == schema::FORMAT && journal_id(&store)? == id { Some(store) } else { None })
    };
    let store = same().map_err(|error| unusable(error.into()))?;
    store.ok_or_else(|| unusable("it is not the journal that was open before".into()))
}

fn connect(folder: &Path, flags: OpenFlags) -> Result<(Store, i64), SqlError> {
    let store = Connection::open_with_flags(folder.join(FILE), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    settle_in(&store, CACHE_KIBIBYTES)?;
    let format: i64 = store.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok((store, format))
}

/// What every connection needs.
fn settle_in(store: &Store, cache_kibibytes: u32) -> Result<(), SqlError> {
    store.busy_timeout(BUSY_WAIT)?;
    store.set_prepared_statement_cache_capacity(STATEMENTS);
    // Else a statement over a partial index is planned anew for every value that is bound to it.
    store.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // What a statement with triggers would undo is kept in small pieces, instead of 64 KiB each time.
    store.execute_batch(&format!(
        "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-{cache_kibibytes}"
    ))?;
    sealed::teach(store)
}

/// The log is moved into the file by [`move_log`], which tells of failures, and not behind a commit's back.
fn writes_are_durable(store: &Store) -> Result<(), SqlError> {
    store.execute_batch(&format!(
        "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit={LOG_FILE_BYTES};"
    ))
}

fn prepare(store: &mut Store, format: i64) -> Result<(), SqlError> {
    if format == 0 {
        store.execute_batch("PRAGMA auto_vacuum=INCREMENTAL")?;
    }
    store.execute_batch("PRAGMA journal_mode=WAL")?;
    writes_are_durable(store)?;
    schema::make(store, format)
}

/// What tells this journal from any other.
pub(crate) fn journal_id(store: &Store) -> Result<i64, SqlError> {
    store.query_row("SELECT value FROM meta WHERE name='journal'", [], |row| row.get(0))
}

/// Opens the journal for reading.
pub(crate) fn open_reader(folder: &Path) -> Result<Store, SqlError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let store = Connection::open_with_flags(folder.join(FILE), flags)?;
    settle_in(&store, READER_CACHE_KIBIBYTES)?;
    Ok(store)
}

/// Checkpoints and closes, so that no write-ahead log remains.
pub(crate) fn close(store: Store) {
    let checkpoint = store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = checkpoint.and_then(|()| store.close().map_err(|(_, error)| error)) {
        tracing::error!(%error, "the journal could not be checkpointed; the next start reads its log");
    }
}

/// Moves the log into the file once it is long; bytes of a long one that could not be moved, because
/// somebody reads what they replace.
pub(crate) fn move_log(store: &Store) -> Result<u64, SqlError> {
    let frames = |mode: &str| {
        store.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?.query_row([], |row| {
            // -1: there is no log yet.
            Ok(row.get::<_, i64>(1)?.max(0).abs_diff(row.get::<_, i64>(2)?.max(0)))
        })
    };
    if frames("NOOP")? < LOG_FRAMES {
        return Ok(0);
    }
    let left = frames("PASSIVE")?;
    Ok(if left < LOG_FRAMES { 0 } else { left.saturating_mul(PAGE_BYTES as u64) })
}

/// Moves the whole log into the file and begins a new one, so that nothing stands on what a failed fsync
/// left behind; whether nobody was in the way.
pub(crate) fn begin_new_log(store: &Store) -> Result<bool, SqlError> {
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// Pages, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    /// Those in use.
    pub(crate) used_bytes: u64,
    /// Those of the file, unused ones included.
    pub(crate) file_bytes: u64,
}

/// The pages of a journal.
pub(crate) fn pages(store: &Store) -> Result<Pages, SqlError> {
    let (all, page_bytes) = (pragma(store, "page_count")?, pragma(store, "page_size")?);
    let used = all.saturating_sub(pragma(store, "freelist_count")?);
    Ok(Pages { used_bytes: used.saturating_mul(page_bytes), file_bytes: all.saturating_mul(page_bytes) })
}

fn pragma(store: &Store, name: &str) -> Result<u64, SqlError> {
    store.prepare_cached(&format!("PRAGMA {name}"))?.query_row([], |row| row.get(0))
}

/// A transaction that takes the write lock at its beginning.
pub(crate) const IMMEDIATE: rusqlite::TransactionBehavior = rusqlite::TransactionBehavior::Immediate;

/// A journal in memory, for what tests only the order of records.
#[cfg(test)]
pub(crate) fn in_memory() -> Store {
    let mut store = Connection::open_in_memory().unwrap();
    settle_in(&store, CACHE_KIBIBYTES).unwrap();
    schema::make(&mut store, 0).unwrap();
    store
}

#[cfg(test)]
pub(crate) fn damage_first(folder: &Path, column: &str) {
    let store = Connection::open(folder.join(FILE)).unwrap();
    let damage =
        format!("UPDATE contents SET {column}=x'ff' WHERE number=(SELECT min(number) FROM contents)");
    assert_eq!(store.execute(&damage, []).unwrap(), 1);
}
