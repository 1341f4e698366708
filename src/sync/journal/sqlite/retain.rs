//! Retention: what every destination has goes, in steps that hold no write up for long. What waits for one
//! that is not in force any more stays; for a detached one only its dead letters do.
//!
//! A step looks at [`STEP_CHANGES`] changes, stops after [`STEP_BYTES`] of content, and gives
//! [`STEP_PAGES`] pages back to the file system: some ten milliseconds of the writer's time.

use super::queue::goes_to;
use super::{SqlError, Store};
use crate::clock::Timestamp;
use crate::sync::failpoint;
use crate::sync::journal::record::first_sequence;
use rusqlite::{OptionalExtension, params};

/// Changes that one step looks at.
const STEP_CHANGES: i64 = 500;
/// After so many bytes of content a step deletes no more.
const STEP_BYTES: u64 = 8 << 20;
/// Pages that one step gives back.
const STEP_PAGES: u64 = 256;
/// Unused pages that the file keeps (16 MiB): nobody else can take them, and writes use them again.
const SPARE_PAGES: u64 = 4096;
/// What a pass tells that has looked at every change, and has other work left.
const LOOKED_AT_ALL: u64 = i64::MAX.unsigned_abs();

/// One step of a pass that has looked at the changes up to `after`; up to where it has looked now, 0
/// once there is nothing left to do.
pub(super) fn retain(store: &Store, delivered_before: Timestamp, after: u64) -> Result<u64, SqlError> {
    let mut step = Step { store, bytes: 0, deleted: 0, retained_to: 0 };
    let looked_at = step.delivered(delivered_before, after)?;
    let undone_left = step.undone(delivered_before)?;
    if step.retained_to > 0 {
        store
            .prepare_cached("UPDATE anchors SET value=max(value, ?1) WHERE name='retained_to'")?
            .execute([step.retained_to])?;
    }
    if step.deleted > 0 {
        failpoint::reach(failpoint::RETENTION_STEP);
    }
    let pages_left = give_back(store)?;
    Ok(match looked_at {
        Some(sequence) => sequence,
        None if undone_left || pages_left => LOOKED_AT_ALL,
        None => 0,
    })
}

struct Step<'a> {
    store: &'a Store,
    bytes: u64,
    deleted: u64,
    retained_to: i64,
}

impl Step<'_> {
    /// Deletes what every destination has, by the time of its sequence. Up to where it looked; `None`:
    /// there is nothing behind it.
    fn delivered(&mut self, before: Timestamp, after: u64) -> Result<Option<u64>, SqlError> {
        // The destinations in force are a temporary table of this connection: see `read::register`.
        let sql = concat!(
            "SELECT c.number, c.sequence,
              NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.sequence=c.sequence
                         AND d.destination IN (SELECT id FROM destinations)
                         AND (d.state=3 OR (d.state IN (0,1,2) AND d.destination IN
                              (SELECT id FROM destinations WHERE detached=0))))
              AND NOT EXISTS(SELECT 1 FROM destinations t WHERE t.id NOT IN (SELECT value FROM active)
                             AND t.detached=0 AND t.frontier<c.sequence AND ",
            goes_to!(),
            ")
            FROM changes c WHERE c.sequence>?1
            AND c.sequence <= min(?2, (SELECT coalesce(min(frontier), 9223372036854775807) FROM destinations
                                       WHERE id IN (SELECT value FROM active) AND detached=0))
            ORDER BY c.sequence LIMIT ?3"
        );
        let mut statement = self.store.prepare_cached(sql)?;
        let bounds = params![after.cast_signed(), first_sequence(before).cast_signed(), STEP_CHANGES];
        let found: Vec<(i64, i64, bool)> = statement
            .query_map(bounds, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let is_last = found.len() < usize::try_from(STEP_CHANGES).unwrap_or(usize::MAX);
        let mut looked_at = after;
        for (number, sequence, is_settled) in found {
            if is_settled {
                self.delete(number, Some(sequence))?;
                self.retained_to = self.retained_to.max(sequence);
            }
            looked_at = sequence.cast_unsigned();
            if self.bytes >= STEP_BYTES {
                return Ok(Some(looked_at));
            }
        }
        Ok((!is_last).then_some(looked_at))
    }

    /// Deletes what the source did not do; whether some may be left.
    fn undone(&mut self, before: Timestamp) -> Result<bool, SqlError> {
        let sql =
            "SELECT number FROM changes WHERE sequence IS NULL AND state=4 AND recorded_at < ?1 LIMIT ?2";
        let mut statement = self.store.prepare_cached(sql)?;
        let bounds = params![before.as_millis().cast_signed(), STEP_CHANGES];
        let numbers: Vec<i64> = statement.query_map(bounds, |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut left = numbers.len() >= usize::try_from(STEP_CHANGES).unwrap_or(usize::MAX);
        for number in numbers {
            if self.bytes >= STEP_BYTES {
                left = true;
                break;
            }
            self.delete(number, None)?;
        }
        Ok(left)
    }

    fn delete(&mut self, number: i64, sequence: Option<i64>) -> Result<(), SqlError> {
        // `SQLite` tells a length without reading the content.
        let bytes: Option<u64> = self
            .store
            .prepare_cached("SELECT length(body) FROM contents WHERE number=?1")?
            .query_row([number], |row| row.get(0))
            .optional()?;
        self.bytes = self.bytes.saturating_add(bytes.unwrap_or_default());
        self.deleted += 1;
        if let Some(sequence) = sequence {
            for table in ["deliveries", "settled"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE destination IN (SELECT id FROM destinations) AND sequence=?1"
                );
                self.store.prepare_cached(&sql)?.execute([sequence])?;
            }
        }
        for table in ["contents", "changes", "damaged"] {
            let sql = format!("DELETE FROM {table} WHERE number=?1");
            self.store.prepare_cached(&sql)?.execute([number])?;
        }
        Ok(())
    }
}

/// Gives a step of the unused pages back; whether there are more to give.
fn give_back(store: &Store) -> Result<bool, SqlError> {
    let unused = super::pragma(store, "freelist_count")?;
    let most = unused.saturating_sub(SPARE_PAGES).min(STEP_PAGES);
    if most == 0 {
        return Ok(false);
    }
    let mut statement = store.prepare(&format!("PRAGMA incremental_vacuum({most})"))?;
    // Each row that is asked for gives one page back.
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(unused.saturating_sub(SPARE_PAGES) > STEP_PAGES)
}
