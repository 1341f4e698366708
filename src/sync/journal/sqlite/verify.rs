//! Whether a journal still says what was written to it.
//!
//! A change whose record does not match its checksum is quarantined, alone. What cannot be told of one
//! change (a lost row, an index that contradicts its table, a frontier) is damage of the whole journal:
//! nothing is delivered on its word. All of it is bounded by what is not settled.

use super::read::stored;
use super::schema;
use super::sealed::{SMALL, is_sound_change};
use super::{SqlError, Store, Stored, load, open_changes};
use crate::sync::error::OpenError;
use crate::sync::journal::record::Suspect;
use rusqlite::{ErrorCode, OptionalExtension};
use std::collections::BTreeSet;
use std::path::Path;

/// Changes without an outcome that are read at once.
const PAGE: u32 = 500;

/// Why the word of a journal is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unverified {
    /// It could not be read.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// It contradicts itself.
    #[error("{0}")]
    Damaged(String),
}

impl Unverified {
    /// Why the journal of a folder is not opened.
    pub(crate) fn of_folder(self, folder: &Path) -> OpenError {
        let folder = folder.to_owned();
        match self {
            Self::Sql(error) if is_corrupt(&error) => OpenError::Damaged { folder, found: error.to_string() },
            Self::Damaged(found) => OpenError::Damaged { folder, found },
            Self::Sql(error) => OpenError::Unusable { folder, cause: error.into() },
        }
    }
}

/// How much is read of each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What orders it. Its content is verified before it is delivered.
    Record,
    /// Its content too.
    Content,
}

/// Whether an error says that the file is damaged: `SQLite` found it so, it ends too early, or a value is not
/// what its column holds.
pub(crate) fn is_corrupt(error: &SqlError) -> bool {
    let ends_early = |error: &SqlError| matches!(error, SqlError::SqliteFailure(failure, _) if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ);
    ends_early(error)
        || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(
            error,
            SqlError::InvalidColumnType(..)
                | SqlError::FromSqlConversionFailure(..)
                | SqlError::IntegralValueOutOfRange(..)
                | SqlError::Utf8Error(..)
                | SqlError::QueryReturnedNoRows
        )
}

/// Verifies everything that is not settled; the changes whose records do not match.
pub(crate) fn verify(store: &Store, depth: Depth) -> Result<Vec<Suspect>, Unverified> {
    if let Some(fault) = faults(store)?.into_iter().next() {
        return Err(Unverified::Damaged(fault));
    }
    let mut suspects = BTreeSet::new();
    let mut after = 0;
    loop {
        let page = open_changes(store, after, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        suspects.extend(page.iter().filter_map(|(number, open)| match open.content {
            Stored::Sound { .. } => None,
            Stored::Damaged { .. } => Some(Suspect::Number(*number)),
        }));
    }
    accepted(store, depth, &mut suspects)?;
    let needed_from: Option<i64> = store.query_row(
        "SELECT min(frontier) FROM destinations WHERE id IN (SELECT value FROM active) AND detached=0",
        [],
        |row| row.get(0),
    )?;
    if let Some(from) = needed_from {
        walk(store, from, depth, &mut suspects)?;
    }
    below_the_frontiers(store, depth, &mut suspects)?;
    Ok(suspects.into_iter().collect())
}

/// What contradicts itself in the tables that hold what is not settled, in words.
pub(crate) fn faults(store: &Store) -> Result<Vec<String>, SqlError> {
    let mut faults = Vec::new();
    for sealed in &SMALL {
        let table = sealed.table;
        faults.extend(structure(store, table)?);
        let sql = format!("SELECT count(*) FROM {table} t WHERE NOT {}", sealed.is_sound("t"));
        let count: u64 = store.query_row(&sql, [], |row| row.get(0))?;
        if count > 0 {
            faults.push(format!("{count} rows of {table} do not match their checksums"));
        }
    }
    faults.extend(structure(store, "meta")?);
    faults.extend(structure(store, "damaged")?);
    if anchor(store, "schema")? != Some(schema::sum_of_schema(store)?) {
        faults.push("its tables are not those that it was made with".to_owned());
    }
    let open: i64 = store.query_row(
        "SELECT (SELECT count(*) FROM changes WHERE state IN (0,1)) + (SELECT count(*) FROM accepted)",
        [],
        |row| row.get(0),
    )?;
    if anchor(store, "open")? != Some(open) {
        faults.push("changes without an outcome are missing".to_owned());
    }
    let newest: i64 = store.query_row(
        "SELECT max(coalesce((SELECT max(sequence) FROM changes), 0),
                    (SELECT value FROM anchors WHERE name='retained_to'))",
        [],
        |row| row.get(0),
    )?;
    let lost: u64 = store.query_row(
        "SELECT count(*) FROM deliveries d JOIN destinations t ON t.id=d.destination
         WHERE t.detached=0 AND d.state IN (0,1,2)
         AND NOT EXISTS(SELECT 1 FROM changes c WHERE c.sequence=d.sequence)",
        [],
        |row| row.get(0),
    )?;
    if lost > 0 {
        faults.push(format!("{lost} changes that wait for a destination are missing"));
    }
    if super::last_sequence(store)?.cast_signed() != newest {
        faults.push("its newest changes are missing".to_owned());
    }
    Ok(faults)
}

/// What `SQLite` finds of one table and its indexes.
fn structure(store: &Store, table: &str) -> Result<Vec<String>, SqlError> {
    let mut statement = store.prepare(&format!("PRAGMA integrity_check({table})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let said = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(said.into_iter().filter(|line| line != "ok").collect())
}

/// A value that something else must agree with.
pub(crate) fn anchor(store: &Store, name: &str) -> Result<Option<i64>, SqlError> {
    store
        .prepare_cached("SELECT value FROM anchors WHERE name=?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// The way from each change behind `from` to the one before it: none may be missing.
pub(super) fn walk(
    store: &Store,
    from: i64,
    depth: Depth,
    suspects: &mut BTreeSet<Suspect>,
) -> Result<(), Unverified> {
    let mut links = Links::new(store, from)?;
    let sql = format!(
        "SELECT i.sequence, c.previous, c.sequence IS i.sequence AND {} FROM
         (SELECT sequence, number FROM changes WHERE sequence>?1 ORDER BY sequence LIMIT -1) i
         LEFT JOIN changes c ON c.number=i.number ORDER BY i.sequence",
        is_sound_change()
    );
    let mut statement = store.prepare(&sql)?;
    let mut rows = statement.query([from])?;
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        let is_sound = row.get::<_, Option<bool>>(2)?.unwrap_or(false);
        links.follow(sequence, if is_sound { row.get(1)? } else { None })?;
        let sequence = sequence.cast_unsigned();
        if !is_sound || is_content_damaged(store, sequence, depth)? {
            suspects.insert(Suspect::Sequence(sequence));
        }
    }
    Ok(())
}

/// Follows changes from one to the next.
#[derive(Debug)]
pub(super) struct Links {
    at: i64,
    /// Up to here changes may have been deleted.
    retained_to: i64,
}

impl Links {
    pub(super) fn new(store: &Store, at: i64) -> Result<Self, SqlError> {
        Ok(Self { at, retained_to: anchor(store, "retained_to")?.unwrap_or_default() })
    }

    /// Goes on to `sequence`. `previous` is the change that was before it when it was written; `None`
    /// where its own record is damaged, and so tells nothing.
    pub(super) fn follow(&mut self, sequence: i64, previous: Option<i64>) -> Result<(), SqlError> {
        let lost = previous.filter(|previous| *previous > self.at.max(self.retained_to));
        if let Some(lost) = lost {
            return Err(missing(format!("the change {lost} is missing before {sequence}")));
        }
        self.at = sequence;
        Ok(())
    }
}

fn missing(text: String) -> SqlError {
    SqlError::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(text))
}

/// A change that waits for a destination was not found: unless the destination has been detached meanwhile,
/// it is lost, and the journal with it.
pub(crate) fn not_found(store: &Store, sequence: u64, destination: i64) -> Result<(), SqlError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM destinations WHERE id=?1 AND detached=0)";
    let waits: bool = store.query_row(sql, [destination], |row| row.get(0))?;
    if waits {
        return Err(missing(format!("the change {sequence}, which waits for a destination, is missing")));
    }
    Ok(())
}

/// Accepted changes that their source has not done.
fn accepted(store: &Store, depth: Depth, suspects: &mut BTreeSet<Suspect>) -> Result<(), Unverified> {
    let sql = format!(
        "SELECT a.number, c.state IN (5,6) AND {} FROM accepted a LEFT JOIN changes c ON c.number=a.number",
        is_sound_change()
    );
    let mut statement = store.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, is_sound): (i64, Option<bool>) = (row.get(0)?, row.get(1)?);
        let is_content_sound = || {
            Ok::<_, SqlError>(
                depth == Depth::Record || matches!(stored(store, number)?, Stored::Sound { .. }),
            )
        };
        if is_sound != Some(true) || !is_content_sound()? {
            suspects.insert(Suspect::Number(number));
        }
    }
    Ok(())
}

/// Deliveries that have a row and wait stand below the frontier of their destination.
fn below_the_frontiers(
    store: &Store,
    depth: Depth,
    suspects: &mut BTreeSet<Suspect>,
) -> Result<(), Unverified> {
    let sql = format!(
        "SELECT DISTINCT d.sequence, c.number IS NOT NULL AND c.sequence IS d.sequence AND {} FROM deliveries d
         LEFT JOIN (SELECT sequence, number FROM changes) i ON i.sequence=d.sequence
         LEFT JOIN changes c ON c.number=i.number WHERE d.state IN (0,1,2)",
        is_sound_change()
    );
    let mut statement = store.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (sequence, is_sound): (u64, Option<bool>) = (row.get(0)?, row.get(1)?);
        if is_sound != Some(true) || is_content_damaged(store, sequence, depth)? {
            suspects.insert(Suspect::Sequence(sequence));
        }
    }
    Ok(())
}

fn is_content_damaged(store: &Store, sequence: u64, depth: Depth) -> Result<bool, SqlError> {
    Ok(match depth {
        Depth::Record => false,
        Depth::Content => !matches!(load(store, sequence)?, Some(Stored::Sound { .. })),
    })
}
