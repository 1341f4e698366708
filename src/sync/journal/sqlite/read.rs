//! What workers and the resolver read. Every query is bounded.

use super::sealed::is_sound_change;
use super::verify::is_corrupt;
use super::{SqlError, Store, change_state};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::{Enlisted, ForSource, Head, checksum};
use crate::sync::settings::Start;
use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};
use std::sync::Arc;

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
    Sound { id: ChangeId, head: Arc<Head>, body: Bytes },
    /// It does not: never to be delivered.
    Damaged { id: ChangeId },
}

/// Reads what is delivered of a change, and verifies it and its record. The record is the table's, not
/// what an index says of it.
pub(crate) fn load(store: &Store, sequence: u64) -> Result<Option<Stored>, SqlError> {
    let sql = format!(
        "SELECT i.number, c.id, c.key, c.sequence IS ?1 AND {} FROM
         (SELECT number, sequence FROM changes WHERE sequence=?1) i LEFT JOIN changes c ON c.number=i.number",
        is_sound_change()
    );
    let found = store
        .prepare_cached(&sql)?
        .query_row([sequence.cast_signed()], |row| content(store, row.get(0)?, Record::of(row, 1)))
        .optional();
    match found {
        Err(error) if is_corrupt(&error) => Ok(Some(Stored::Damaged { id: ChangeId(uuid::Uuid::nil()) })),
        found => found,
    }
}

/// What is stored of a change, by the number of its row.
pub(super) fn stored(store: &Store, number: i64) -> Result<Stored, SqlError> {
    let sql = format!("SELECT c.id, c.key, {} FROM changes c WHERE c.number=?1", is_sound_change());
    let record = store.prepare_cached(&sql)?.query_row([number], |row| Ok(Record::of(row, 0))).optional()?;
    content(store, number, record.unwrap_or(Record { id: None, key: None }))
}

/// A change's slim row.
struct Record {
    id: Option<ChangeId>,
    /// `None`: it does not match its checksum.
    key: Option<String>,
}

impl Record {
    /// Of a row that has id, key and soundness from a column on.
    fn of(row: &Row<'_>, first: usize) -> Self {
        let is_sound = row.get::<_, Option<bool>>(first + 2).ok().flatten().unwrap_or(false);
        Self { id: id(row, first).ok(), key: row.get(first + 1).ok().filter(|_| is_sound) }
    }
}

/// The content that belongs to a slim row.
fn content(store: &Store, number: i64, record: Record) -> Result<Stored, SqlError> {
    let damaged = Stored::Damaged { id: record.id.unwrap_or(ChangeId(uuid::Uuid::nil())) };
    let (Some(id), Some(key)) = (record.id, record.key) else { return Ok(damaged) };
    let found = store
        .prepare_cached("SELECT head, body, checksum FROM contents WHERE number=?1")?
        .query_row([number], |row| {
            let (head, body, sum): (Vec<u8>, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let head: Option<Head> =
                (checksum(id, &key, &head, &body) == sum).then(|| postcard::from_bytes(&head).ok()).flatten();
            Ok(head.map(|head| Stored::Sound { id, head: Arc::new(head), body: body.into() }))
        })
        .optional();
    match found {
        Ok(found) => Ok(found.flatten().unwrap_or(damaged)),
        // One record that cannot be read says nothing of the others.
        Err(error) if is_corrupt(&error) => Ok(damaged),
        Err(error) => Err(error),
    }
}

/// A change without an outcome.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) id: ChangeId,
    pub(crate) key: String,
    pub(crate) known_in_doubt: bool,
    pub(crate) content: Stored,
    /// What the source gets besides, where it takes the change again.
    pub(crate) for_source: Option<ForSource>,
}

/// Changes without an outcome, oldest first, from `after` on, with their numbers.
pub(crate) fn open_changes(store: &Store, after: i64, limit: u32) -> Result<Vec<(i64, Open)>, SqlError> {
    // In the order of the index: by state, then by number.
    let sql = open_sql("state IN (0,1) AND number>?1 ORDER BY number LIMIT ?2");
    let mut statement = store.prepare_cached(&sql)?;
    let rows = statement.query_map(params![after, limit], |row| open(store, row))?;
    rows.collect()
}

/// A change without an outcome; `None` where it has one or does not exist.
pub(crate) fn open_change(store: &Store, id: ChangeId) -> Result<Option<Open>, SqlError> {
    let sql = open_sql("state IN (0,1) AND id=?1");
    let mut statement = store.prepare_cached(&sql)?;
    let found = statement.query_row([id.0.as_bytes().as_slice()], |row| open(store, row)).optional()?;
    Ok(found.map(|(_, open)| open))
}

fn open_sql(which: &str) -> String {
    format!(
        "SELECT i.number, c.id, c.key, c.state IN (0,1) AND {}, c.state,
           (SELECT t.key FROM contents t WHERE t.number=i.number), c.for_source
         FROM (SELECT number FROM changes WHERE {which}) i LEFT JOIN changes c ON c.number=i.number
         ORDER BY i.number",
        is_sound_change()
    )
}

fn open(store: &Store, row: &Row<'_>) -> Result<(i64, Open), SqlError> {
    let number: i64 = row.get(0)?;
    let mut record = Record::of(row, 1);
    // The way back to it is its id.
    if record.id.is_some_and(|id| !matches!(number_of(store, id), Ok(Some(found)) if found == number)) {
        record.key = None;
    }
    let spare = || row.get::<_, String>(5).or_else(|_| row.get(2)).unwrap_or_default();
    let for_source: Option<Vec<u8>> = row.get(6)?;
    let open = Open {
        for_source: for_source.and_then(|kept| postcard::from_bytes(&kept).ok()),
        id: record.id.unwrap_or(ChangeId(uuid::Uuid::nil())),
        key: record.key.clone().unwrap_or_else(spare),
        known_in_doubt: row.get::<_, i64>(4).is_ok_and(|state| state == change_state::IN_DOUBT),
        content: content(store, number, record)?,
    };
    Ok((number, open))
}

fn number_of(store: &Store, id: ChangeId) -> Result<Option<i64>, SqlError> {
    store
        .prepare_cached("SELECT number FROM changes WHERE id=?1")?
        .query_row([id.0.as_bytes().as_slice()], |row| row.get(0))
        .optional()
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
