//! A journal at rest, examined as a whole: nothing is written, not even what `SQLite` keeps beside it.

use super::read::stored;
use super::sealed::ANSWERS;
use super::verify::{Depth, Unverified, faults, is_corrupt, walk};
use super::{
    FILE, LOG, LOG_INDEX, READER_CACHE_KIBIBYTES, SqlError, Store, Stored, change_state, figures,
    open_changes, schema, settle_in, settled, wal,
};
use crate::sync::journal::record::Suspect;
use crate::sync::status::{AtRestDamage, AtRestDestination, AtRestReport};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Damaged changes and changes in doubt that are named; more are only counted.
const NAMED: usize = 1000;
/// Changes read at once.
const PAGE: u32 = 500;

/// Why a journal could not be examined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AtRest {
    /// There is none.
    #[error("there is no journal.sqlite in it")]
    Missing,
    /// Its format is newer.
    #[error("its format is {0}, and this version of tidegate reads up to {FORMAT}", FORMAT = schema::FORMAT)]
    Newer(i64),
    /// It must be upgraded first, by a start.
    #[error("its format is {0}: it has no checksums to examine before `tidegate serve` has upgraded it")]
    Older(i64),
    #[error(transparent)]
    File(#[from] std::io::Error),
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// Examines the journal of a folder that no process has open.
pub(crate) fn examine(folder: &Path) -> Result<AtRestReport, AtRest> {
    if !folder.join(FILE).is_file() {
        return Err(AtRest::Missing);
    }
    let mut report = AtRestReport::default();
    match wal::inspect(&folder.join(LOG), &folder.join(LOG_INDEX))? {
        wal::Log::Whole => {}
        wal::Log::Torn => {
            report.notes.push("the last group in its write-ahead log cannot be read".to_owned());
        }
        wal::Log::Damaged(what) => report.faults.push(what.to_owned()),
    }
    match read(folder, &mut report) {
        // What is found of a damaged file is told as far as it goes.
        Err(AtRest::Sql(error)) if is_corrupt(&error) => report.faults.push(error.to_string()),
        read => read?,
    }
    report.sound = report.faults.is_empty() && report.damaged_count == 0;
    Ok(report)
}

fn read(folder: &Path, report: &mut AtRestReport) -> Result<(), AtRest> {
    let store = open(folder)?;
    if super::is_emptied(folder) {
        report.faults.push("journal.sqlite is empty".to_owned());
        return Ok(());
    }
    report.format = store.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match report.format {
        format if format > schema::FORMAT => return Err(AtRest::Newer(format)),
        format if format < schema::FORMAT => return Err(AtRest::Older(format)),
        _ => {}
    }
    let mut statement = store.prepare("PRAGMA integrity_check")?;
    let said = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    report.faults.extend(said.into_iter().filter(|line| line != "ok"));
    for fault in faults(&store)? {
        if !report.faults.contains(&fault) {
            report.faults.push(fault);
        }
    }
    let sql = format!("SELECT count(*) FROM answers a WHERE NOT {}", ANSWERS.is_sound("a"));
    let keys: u64 = store.query_row(&sql, [], |row| row.get(0))?;
    if keys > 0 {
        report.faults.push(format!("{keys} Idempotency-Keys do not match their checksums"));
    }
    let settled = settled::damaged(&store)?;
    if settled > 0 {
        report.faults.push(format!("{settled} rows of settled do not match their checksums"));
    }
    count(&store, report)?;
    in_doubt(&store, report)?;
    without_place(&store, report)?;
    records(&store, report)
}

/// A connection that cannot write: without a log the file is taken as it is, with one `SQLite` keeps the
/// index of it in memory.
fn open(folder: &Path) -> Result<Store, SqlError> {
    let has_log = std::fs::metadata(folder.join(LOG)).is_ok_and(|log| log.len() > 0);
    let mut address = "file:".to_owned();
    for byte in folder.join(FILE).as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                address.push(char::from(*byte));
            }
            // Writing to a String does not fail.
            _ => write!(address, "%{byte:02X}").unwrap_or_default(),
        }
    }
    address.push_str(if has_log { "?vfs=unix-none" } else { "?immutable=1" });
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let store = Connection::open_with_flags(address, flags)?;
    store.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    store.query_row("PRAGMA locking_mode=EXCLUSIVE", [], |_| Ok(()))?;
    settle_in(&store, READER_CACHE_KIBIBYTES)?;
    Ok(store)
}

fn count(store: &Store, report: &mut AtRestReport) -> Result<(), SqlError> {
    let mut statement = store.prepare("SELECT state, count(*) FROM changes GROUP BY state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let state = row.get::<_, usize>(0).ok().and_then(|state| change_state::WORDS.get(state).copied());
        *report.changes.entry(state.unwrap_or("unknown")).or_default() += row.get::<_, u64>(1)?;
    }
    for known in super::destinations(store)? {
        let found = figures(store, &known, known.frontier)?;
        report.destinations.push(AtRestDestination {
            name: known.name,
            frontier: known.frontier,
            pending: found.waiting,
            parked_keys: found.parked_keys,
            dead_letters: found.dead_letters,
            paused: known.paused,
        });
    }
    Ok(())
}

/// Reads every change that has an outcome and no place in a lane, and those that are accepted, with their
/// contents.
fn without_place(store: &Store, report: &mut AtRestReport) -> Result<(), AtRest> {
    let sql = "SELECT number, id, key FROM changes WHERE sequence IS NULL AND state NOT IN (0,1)";
    let mut statement = store.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        if let Stored::Damaged { .. } = stored(store, number)? {
            let id = super::read::id(row, 1).ok().map(|id| id.to_string());
            damaged(report, AtRestDamage { number, id, key: row.get(2).ok(), sequence: None });
        }
    }
    Ok(())
}

/// Reads every change that has a place in a lane, with its content.
fn records(store: &Store, report: &mut AtRestReport) -> Result<(), AtRest> {
    let mut suspects = BTreeSet::new();
    let walked = walk(store, 0, Depth::Content, &mut suspects);
    let sql = "SELECT i.number, i.sequence, c.id, coalesce(t.key, c.key)
               FROM (SELECT number, sequence FROM changes WHERE sequence=?1) i
               LEFT JOIN changes c ON c.number=i.number LEFT JOIN contents t ON t.number=i.number";
    for suspect in suspects {
        let Suspect::Sequence(sequence) = suspect else { continue };
        let found = store.prepare_cached(sql)?.query_row([sequence.cast_signed()], |row| {
            let id = super::read::id(row, 2).ok().map(|id| id.to_string());
            Ok(AtRestDamage { number: row.get(0)?, id, key: row.get(3).ok(), sequence: Some(sequence) })
        });
        damaged(
            report,
            found.unwrap_or_else(|_| AtRestDamage { sequence: Some(sequence), ..Default::default() }),
        );
    }
    match walked {
        Ok(()) => Ok(()),
        Err(Unverified::Sql(error)) => Err(error.into()),
        Err(Unverified::Damaged(fault)) => {
            report.faults.push(fault);
            Ok(())
        }
    }
}

fn in_doubt(store: &Store, report: &mut AtRestReport) -> Result<(), AtRest> {
    let mut after = 0;
    loop {
        let page = open_changes(store, after, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        for (number, open) in page {
            if report.in_doubt.len() < NAMED {
                report.in_doubt.push(open.id.to_string());
            }
            report.in_doubt_count += 1;
            if let Stored::Damaged { id } = open.content {
                let (id, key) = (Some(id.to_string()), Some(open.key));
                damaged(report, AtRestDamage { number, id, key, sequence: None });
            }
        }
    }
}

fn damaged(report: &mut AtRestReport, damage: AtRestDamage) {
    report.damaged_count += 1;
    if report.damaged.len() < NAMED {
        report.damaged.push(damage);
    }
}
