//! What workers and the resolver read. Every query is bounded.

use super::schema::is_sound_change;
use super::verify::{Links, is_corrupt};
use super::{SqlError, Store, change_state};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::{ForSource, Head, Past, checksum};
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
            Ok(head.map(|head| Stored::Sound { id, head: Box::new(head), body: body.into() }))
        })
        .optional();
    match found {
        Ok(found) => Ok(found.flatten().unwrap_or(damaged)),
        // One record that cannot be read says nothing of the others.
        Err(error) if is_corrupt(&error) => Ok(damaged),
        Err(error) => Err(error),
    }
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
    // Of a damaged record the key stands beside its content too; without one it has a lane of its own.
    let sql = format!(
        "SELECT i.sequence, c.key, c.destinations, c.previous,
           EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=?3 AND d.sequence=i.sequence),
           c.sequence IS i.sequence AND {},
           (SELECT t.key FROM contents t WHERE t.number=i.number)
         FROM (SELECT sequence, number FROM changes WHERE sequence>?1 ORDER BY sequence LIMIT ?2) i
         LEFT JOIN changes c ON c.number=i.number ORDER BY i.sequence",
        is_sound_change()
    );
    let mut links = Links::new(store, cursor.cast_signed())?;
    let mut statement = store.prepare_cached(&sql)?;
    let mut rows = statement.query(params![cursor.cast_signed(), limit, destination.id])?;
    let (mut ahead, mut read_to) = (Vec::new(), cursor);
    while let Some(row) = rows.next()? {
        let sequence: u64 = row.get(0)?;
        let is_sound = row.get::<_, Option<bool>>(5)?.unwrap_or(false);
        links.follow(sequence.cast_signed(), if is_sound { row.get(3)? } else { None })?;
        read_to = sequence;
        let has_row: bool = row.get(4)?;
        if has_row {
            continue;
        }
        if !is_sound {
            let key = row.get::<_, String>(6).or_else(|_| row.get(1));
            ahead.push(Ahead { sequence, key: key.unwrap_or_else(|_| format!("damaged-{sequence}")).into() });
        } else if names(row, 2)?.contains(&destination.name) {
            ahead.push(Ahead { sequence, key: row.get::<_, String>(1)?.into() });
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
