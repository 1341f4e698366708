//! The journal's file: `SQLite` in WAL mode with `synchronous=FULL`.
//!
//! `changes` is one slim row a change, `contents` what is delivered of it, with its checksum.
//! A destination is a `frontier`: every change up to it is settled, unless `deliveries` has a row
//! that says otherwise. A change beyond the frontier waits, unless a row says it is settled.

mod apply;
mod destination;
mod queue;
mod read;
mod view;

pub(crate) use apply::apply;
pub(crate) use queue::*;
pub(crate) use read::*;
pub(crate) use view::*;

use crate::sync::error::OpenError;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// The journal's file in its folder.
const FILE: &str = "journal.sqlite";
/// The version of the format; a newer one is refused, an older one is upgraded in place.
const FORMAT: i64 = 3;
/// How long a statement waits for somebody else's lock, a backup's for instance.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// Statements kept prepared.
const STATEMENTS: usize = 64;

const SCHEMA: &str = "
CREATE TABLE changes(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id BLOB NOT NULL UNIQUE,
  state INTEGER NOT NULL,
  sequence INTEGER UNIQUE,
  lane INTEGER NOT NULL,
  key TEXT NOT NULL,
  route TEXT NOT NULL,
  source TEXT NOT NULL,
  method TEXT NOT NULL,
  target TEXT NOT NULL,
  recorded_at INTEGER NOT NULL,
  destinations TEXT NOT NULL
);
CREATE INDEX changes_open ON changes(state, number) WHERE state IN (0, 1);
CREATE INDEX changes_unplaced ON changes(recorded_at) WHERE sequence IS NULL;
CREATE INDEX changes_key ON changes(key, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX changes_route ON changes(route, sequence) WHERE sequence IS NOT NULL;
CREATE TABLE contents(
  number INTEGER PRIMARY KEY,
  head BLOB NOT NULL,
  body BLOB NOT NULL,
  checksum INTEGER NOT NULL
);
CREATE TABLE destinations(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  frontier INTEGER NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0,
  waits_until INTEGER NOT NULL DEFAULT 0,
  detached INTEGER NOT NULL DEFAULT 0,
  adopted_number INTEGER NOT NULL DEFAULT 0,
  adopted_routes TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE deliveries(
  destination INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  key TEXT NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  excused INTEGER NOT NULL DEFAULT 0,
  waited INTEGER NOT NULL DEFAULT 0,
  first_at INTEGER,
  answer_lost INTEGER NOT NULL DEFAULT 0,
  next_at INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  PRIMARY KEY(destination, sequence)
) WITHOUT ROWID;
CREATE INDEX deliveries_key ON deliveries(destination, key, sequence);
CREATE INDEX deliveries_state ON deliveries(destination, state, sequence);
CREATE TABLE dead_letters(
  destination INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  id BLOB NOT NULL,
  key TEXT NOT NULL,
  class TEXT NOT NULL,
  code TEXT NOT NULL,
  status INTEGER,
  attempts INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  answer TEXT NOT NULL,
  overtaken INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(destination, sequence)
) WITHOUT ROWID;
CREATE INDEX dead_letters_key ON dead_letters(destination, key);
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('last_sequence', 0), ('journal', random());
";

/// From format 1 to 2.
const UPGRADE_1: &str = "
ALTER TABLE deliveries ADD COLUMN excused INTEGER NOT NULL DEFAULT 0;
INSERT INTO meta VALUES('journal', random());
";

/// From format 2 to 3.
const UPGRADE_2: &str = "
ALTER TABLE destinations ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destinations ADD COLUMN adopted_number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destinations ADD COLUMN adopted_routes TEXT NOT NULL DEFAULT '[]';
DROP INDEX changes_key;
CREATE INDEX changes_key ON changes(key, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX changes_route ON changes(route, sequence) WHERE sequence IS NOT NULL;
";

/// The states of a change, as stored. SQL says them as numbers, which are part of the format.
pub(crate) mod change_state {
    pub(crate) const INTENT: i64 = 0;
    pub(crate) const IN_DOUBT: i64 = 1;
    pub(crate) const COMMITTED: i64 = 2;
    pub(crate) const RECONCILED: i64 = 3;
    pub(crate) const ABORTED: i64 = 4;
    /// The words for operators, by number.
    pub(crate) const WORDS: [&str; 5] = ["intent", "in-doubt", "committed", "reconciled", "aborted"];
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
    /// The words for operators, by number.
    pub(crate) const WORDS: [&str; 7] =
        ["waiting", "waiting", "parked", "dead-letter", "delivered", "absent", "discarded"];
}

/// What `SQLite` said.
pub(crate) type SqlError = rusqlite::Error;
/// A connection; the writer has one, each reader has one.
pub(crate) type Store = Connection;

/// Opens the journal for writing, and makes or upgrades it.
pub(crate) fn open(folder: &Path) -> Result<Store, OpenError> {
    let unusable = |cause| OpenError::Unusable { folder: folder.to_owned(), cause };
    let connected = connect(folder, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE);
    let (mut store, format) = connected.map_err(|error| unusable(error.into()))?;
    if format > FORMAT {
        let message = format!("its format is {format}, and this version of tidegate reads up to {FORMAT}");
        return Err(unusable(message.into()));
    }
    prepare(&mut store, format).map_err(|error| unusable(error.into()))?;
    Ok(store)
}

/// Opens the journal that was open before, told by its id: where its file has gone, with its volume for
/// instance, none is made in its place.
pub(crate) fn reopen(folder: &Path, id: i64) -> Result<Store, OpenError> {
    let unusable = |cause| OpenError::Unusable { folder: folder.to_owned(), cause };
    let same = || -> Result<Option<Store>, SqlError> {
        let (store, format) = connect(folder, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        store.execute_batch("PRAGMA synchronous=FULL")?;
        Ok(if format == FORMAT && journal_id(&store)? == id { Some(store) } else { None })
    };
    let store = same().map_err(|error| unusable(error.into()))?;
    store.ok_or_else(|| unusable("it is not the journal that was open before".into()))
}

fn connect(folder: &Path, flags: OpenFlags) -> Result<(Store, i64), SqlError> {
    let store = Connection::open_with_flags(folder.join(FILE), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    store.busy_timeout(BUSY_WAIT)?;
    store.set_prepared_statement_cache_capacity(STATEMENTS);
    let format: i64 = store.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok((store, format))
}

fn prepare(store: &mut Store, format: i64) -> Result<(), SqlError> {
    if format == 0 {
        store.execute_batch("PRAGMA auto_vacuum=INCREMENTAL")?;
    }
    store.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
    let steps: &[&str] = match format {
        0 => &[SCHEMA],
        1 => &[UPGRADE_1, UPGRADE_2],
        2 => &[UPGRADE_2],
        _ => return Ok(()),
    };
    let transaction = store.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// What tells this journal from any other.
pub(crate) fn journal_id(store: &Store) -> Result<i64, SqlError> {
    store.query_row("SELECT value FROM meta WHERE name='journal'", [], |row| row.get(0))
}

/// Opens the journal for reading.
pub(crate) fn open_reader(folder: &Path) -> Result<Store, SqlError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let store = Connection::open_with_flags(folder.join(FILE), flags)?;
    store.busy_timeout(BUSY_WAIT)?;
    store.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(store)
}

/// Checkpoints and closes, so that no write-ahead log remains.
pub(crate) fn close(store: Store) {
    let checkpoint = store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = checkpoint.and_then(|()| store.close().map_err(|(_, error)| error)) {
        tracing::error!(%error, "the journal could not be checkpointed; the next start reads its log");
    }
}

/// Bytes of pages in use.
pub(crate) fn used_bytes(store: &Store) -> Result<u64, SqlError> {
    let pragma = |name: &str| store.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u64>(0));
    Ok(pragma("page_count")?.saturating_sub(pragma("freelist_count")?).saturating_mul(pragma("page_size")?))
}

/// A transaction that takes the write lock at its beginning.
pub(crate) const IMMEDIATE: rusqlite::TransactionBehavior = rusqlite::TransactionBehavior::Immediate;

/// A journal in memory, for what tests only the order of records.
#[cfg(test)]
pub(crate) fn in_memory() -> Store {
    let store = Connection::open_in_memory().unwrap();
    store.set_prepared_statement_cache_capacity(STATEMENTS);
    store.execute_batch(SCHEMA).unwrap();
    store
}

#[cfg(test)]
pub(crate) fn damage_first(folder: &Path, column: &str) {
    let store = Connection::open(folder.join(FILE)).unwrap();
    let damage =
        format!("UPDATE contents SET {column}=x'ff' WHERE number=(SELECT min(number) FROM contents)");
    assert_eq!(store.execute(&damage, []).unwrap(), 1);
}
