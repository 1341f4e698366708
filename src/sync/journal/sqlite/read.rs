//! What workers and the resolver read. Every query is bounded.

use super::{SqlError, Store, change_state};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::{Head, Past, checksum};
use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};
use std::sync::Arc;

/// A destination as the journal knows it.
#[derive(Clone, Debug)]
pub(crate) struct KnownDestination {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) frontier: u64,
    pub(crate) paused: bool,
    pub(crate) waits_until: Timestamp,
    /// It has taken a delivery at some time.
    pub(crate) proven: bool,
}

/// Makes the destinations in force known to this connection; a new one starts at the newest change.
pub(crate) fn register(store: &Store, names: &[String]) -> Result<(), SqlError> {
    store.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS active(value INTEGER PRIMARY KEY); DELETE FROM active;",
    )?;
    for name in names {
        store.execute(
            "INSERT OR IGNORE INTO destinations(name, frontier)
             VALUES(?1, (SELECT value FROM meta WHERE name='last_sequence'))",
            [name],
        )?;
        store.execute("INSERT INTO active SELECT id FROM destinations WHERE name=?1", [name])?;
    }
    Ok(())
}

/// Every destination that the journal has ever had.
pub(crate) fn destinations(store: &Store) -> Result<Vec<KnownDestination>, SqlError> {
    let mut statement = store.prepare_cached(
        "SELECT id, name, frontier, paused, waits_until, proven FROM destinations ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(KnownDestination {
            id: row.get(0)?,
            name: row.get(1)?,
            frontier: row.get(2)?,
            paused: row.get(3)?,
            waits_until: time(row, 4)?,
            proven: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// The newest sequence given.
pub(crate) fn last_sequence(store: &Store) -> Result<u64, SqlError> {
    store.query_row("SELECT value FROM meta WHERE name='last_sequence'", [], |row| row.get(0))
}

/// A change's content as stored.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// The checksum fits.
    Sound { id: ChangeId, head: Box<Head>, body: Bytes },
    /// It does not: never to be delivered.
    Damaged { id: ChangeId },
}

/// Reads what is delivered of a change, and verifies it.
pub(crate) fn load(store: &Store, sequence: u64) -> Result<Option<Stored>, SqlError> {
    let sql =
        "SELECT c.id, c.key, t.head, t.body, t.checksum FROM changes c LEFT JOIN contents t USING(number)
               WHERE c.sequence=?1";
    store.prepare_cached(sql)?.query_row([sequence.cast_signed()], stored).optional()
}

fn stored(row: &Row<'_>) -> Result<Stored, SqlError> {
    let id = id(row, 0)?;
    let parts = (|| Some((row.get::<_, Vec<u8>>(2).ok()?, row.get::<_, Vec<u8>>(3).ok()?)))();
    let (Some((head, body)), Ok(key), Ok(sum)) = (parts, row.get::<_, String>(1), row.get::<_, i64>(4))
    else {
        return Ok(Stored::Damaged { id });
    };
    let decoded = postcard::from_bytes(&head).ok().filter(|_| checksum(id, &key, &head, &body) == sum);
    Ok(match decoded {
        Some(decoded) => Stored::Sound { id, head: Box::new(decoded), body: body.into() },
        None => Stored::Damaged { id },
    })
}

/// A change on its way to one destination, as read ahead.
#[derive(Clone, Debug)]
pub(crate) struct Ahead {
    pub(crate) sequence: u64,
    pub(crate) key: Arc<str>,
}

/// The next changes after `cursor` that go to `destination`, and how far was read.
pub(crate) fn page(
    store: &Store,
    destination: &KnownDestination,
    cursor: u64,
    limit: u32,
) -> Result<(Vec<Ahead>, u64), SqlError> {
    let sql = "SELECT c.sequence, c.key, c.destinations, EXISTS(SELECT 1 FROM deliveries d
                 WHERE d.destination=?3 AND d.sequence=c.sequence)
               FROM changes c WHERE c.sequence>?1 ORDER BY c.sequence LIMIT ?2";
    let mut statement = store.prepare_cached(sql)?;
    let mut rows = statement.query(params![cursor.cast_signed(), limit, destination.id])?;
    let (mut ahead, mut read_to) = (Vec::new(), cursor);
    while let Some(row) = rows.next()? {
        read_to = row.get(0)?;
        let has_row: bool = row.get(3)?;
        if !has_row && names(row, 2)?.contains(&destination.name) {
            ahead.push(Ahead { sequence: read_to, key: row.get::<_, String>(1)?.into() });
        }
    }
    Ok((ahead, read_to))
}

/// A delivery that has a row and waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) sequence: u64,
    pub(crate) past: Past,
}

/// The oldest deliveries of a key that have rows and wait.
pub(crate) fn waiting(
    store: &Store,
    destination: i64,
    key: &str,
    limit: u32,
) -> Result<Vec<Waiting>, SqlError> {
    let sql =
        "SELECT sequence, attempts, waited, first_at, answer_lost, excused, redriven, replay FROM deliveries
               WHERE destination=?1 AND key=?2 AND state IN (0,1) ORDER BY sequence LIMIT ?3";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map(params![destination, key, limit], |row| {
        let first_at: Option<u64> = row.get(3)?;
        let past = Past {
            attempts: row.get(1)?,
            excused: row.get(5)?,
            waited_millis: row.get(2)?,
            first_at: first_at.map(Timestamp::from_millis),
            answer_lost: row.get(4)?,
            redriven: row.get(6)?,
            replay: row.get(7)?,
        };
        Ok(Waiting { sequence: row.get(0)?, past })
    })?;
    rows.collect()
}

/// A key with deliveries that have rows, as a worker finds it at start.
#[derive(Clone, Debug)]
pub(crate) struct OpenKey {
    pub(crate) key: Arc<str>,
    pub(crate) next_at: Timestamp,
    pub(crate) waits: bool,
    pub(crate) dead: bool,
    /// The newest change of it that has a row.
    pub(crate) newest: u64,
}

/// Every key of a destination that waits behind a row or has a dead letter; one that the destination has
/// got something newer than since does not count.
pub(crate) fn open_keys(store: &Store, destination: i64) -> Result<Vec<OpenKey>, SqlError> {
    let sql = "SELECT d.key, max(d.next_at), max(d.state IN (0,1,2)), max(l.overtaken IS 0), max(d.sequence)
               FROM deliveries d LEFT JOIN dead_letters l USING(destination, sequence)
               WHERE d.destination=?1 AND d.state IN (0,1,2,3) GROUP BY d.key ORDER BY min(d.sequence)";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map([destination], |row| {
        let key: String = row.get(0)?;
        Ok(OpenKey {
            key: key.into(),
            next_at: time(row, 1)?,
            waits: row.get(2)?,
            dead: row.get(3)?,
            newest: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// A change without an outcome.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) id: ChangeId,
    pub(crate) key: String,
    pub(crate) known_in_doubt: bool,
    pub(crate) content: Stored,
}

/// Changes without an outcome, oldest first, from `after` on.
pub(crate) fn open_changes(store: &Store, after: i64, limit: u32) -> Result<Vec<(i64, Open)>, SqlError> {
    let sql = "SELECT c.id, c.key, t.head, t.body, t.checksum, c.number, c.state
               FROM changes c LEFT JOIN contents t USING(number)
               WHERE c.state IN (0,1) AND c.number>?1 ORDER BY c.number LIMIT ?2";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, limit], |row| Ok((row.get(5)?, open(row)?)))?;
    rows.collect()
}

/// A change without an outcome; `None` where it has one or does not exist.
pub(crate) fn open_change(store: &Store, id: ChangeId) -> Result<Option<Open>, SqlError> {
    let sql = "SELECT c.id, c.key, t.head, t.body, t.checksum, c.number, c.state
               FROM changes c LEFT JOIN contents t USING(number) WHERE c.state IN (0,1) AND c.id=?1";
    store.prepare_cached(sql)?.query_row([id.0.as_bytes().as_slice()], open).optional()
}

fn open(row: &Row<'_>) -> Result<Open, SqlError> {
    let state: i64 = row.get(6)?;
    Ok(Open {
        id: id(row, 0)?,
        key: row.get(1)?,
        known_in_doubt: state == change_state::IN_DOUBT,
        content: stored(row)?,
    })
}

/// Verifies every change that is not settled; the damaged ones.
pub(crate) fn verify_unsettled(store: &Store) -> Result<Vec<ChangeId>, SqlError> {
    let sql =
        "SELECT c.id, c.key, t.head, t.body, t.checksum FROM changes c LEFT JOIN contents t USING(number)
               WHERE c.state IN (0,1) OR c.sequence > (SELECT coalesce(min(frontier), 0) FROM destinations
                 WHERE id IN (SELECT value FROM active))
               OR c.sequence IN (SELECT sequence FROM deliveries WHERE state IN (0,1,2))";
    let mut statement = store.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut damaged = Vec::new();
    while let Some(row) = rows.next()? {
        if let Stored::Damaged { id } = stored(row)? {
            damaged.push(id);
        }
    }
    Ok(damaged)
}

pub(super) fn id(row: &Row<'_>, column: usize) -> Result<ChangeId, SqlError> {
    let bytes: Vec<u8> = row.get(column)?;
    let id = uuid::Uuid::from_slice(&bytes).map_err(|error| {
        SqlError::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
    })?;
    Ok(ChangeId(id))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp, SqlError> {
    row.get(column).map(Timestamp::from_millis)
}

pub(super) fn names(row: &Row<'_>, column: usize) -> Result<Vec<String>, SqlError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        SqlError::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}
