//! What workers and the resolver read. Every query is bounded.

use super::{SqlError, Store, change_state};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::{Enlisted, Head, checksum};
use crate::sync::settings::Start;
use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};

/// Makes the destinations in force known to this connection. A new one starts at the newest change, or
/// adopts those kept of its routes.
pub(crate) fn register(store: &Store, enlisted: &[Enlisted]) -> Result<(), SqlError> {
    store.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS active(value INTEGER PRIMARY KEY); DELETE FROM active;",
    )?;
    for Enlisted { name, start } in enlisted {
        let (sql, routes) = match start {
            Start::Now => (
                "INSERT OR IGNORE INTO destinations(name, frontier, adopted_routes)
                 VALUES(?1, (SELECT value FROM meta WHERE name='last_sequence'), ?2)",
                "[]".to_owned(),
            ),
            Start::Retention { routes } => (
                "INSERT OR IGNORE INTO destinations(name, frontier, adopted_number, adopted_routes)
                 VALUES(?1, coalesce((SELECT min(sequence)-1 FROM changes),
                                     (SELECT value FROM meta WHERE name='last_sequence')),
                        coalesce((SELECT max(number) FROM changes), 0), ?2)",
                serde_json::Value::from(routes.as_slice()).to_string(),
            ),
        };
        store.execute(sql, [name, &routes])?;
        store.execute("INSERT INTO active SELECT id FROM destinations WHERE name=?1", [name])?;
    }
    Ok(())
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
                 WHERE id IN (SELECT value FROM active) AND detached=0)
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
