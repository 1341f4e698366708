//! What becomes of a destination as a whole: started, resumed, detached, forgotten.

use super::queue::{goes_to, text};
use super::read::time;
use super::{STEP_ROWS, SqlError, Store};
use crate::clock::Timestamp;
use crate::sync::settings::OnFailure;
use rusqlite::params;
use std::sync::Arc;

/// A key is parked where `on_failure` says so, behind its oldest dead letter that nothing has overtaken.
pub(super) fn adopt(store: &Store, destination: i64, on_failure: OnFailure) -> Result<u64, SqlError> {
    let bar = "SELECT min(l.sequence) FROM dead_letters l
               WHERE l.destination=?1 AND l.key=deliveries.key AND l.overtaken=0";
    let parks = match on_failure {
        OnFailure::ParkKey => format!(
            "UPDATE deliveries SET state=2 WHERE destination=?1 AND state IN (0,1)
             AND key IN (SELECT key FROM dead_letters WHERE destination=?1 AND overtaken=0) AND sequence>({bar})"
        ),
        OnFailure::Skip | OnFailure::Block => {
            "UPDATE deliveries SET state=1 WHERE destination=?1 AND state=2".to_owned()
        }
    };
    let changed = store.execute(&parks, [destination])?;
    let stranded = format!(
        "UPDATE deliveries SET state=1 WHERE destination=?1 AND state=2
         AND coalesce(sequence<({bar}), 1)"
    );
    Ok((changed + store.execute(&stranded, [destination])?) as u64)
}

/// Ends a pause, and the wait that the destination asked for.
pub(super) fn resume(store: &Store, destination: i64) -> Result<u64, SqlError> {
    let sql = "UPDATE destinations SET paused=0, waits_until=0 WHERE id=?1";
    store.execute(sql, [destination]).map(|rows| rows as u64)
}

/// One step of ending the waits of single deliveries, after a sequence; the last that it looked at, 0: there
/// are no more.
pub(super) fn wake(store: &Store, destination: i64, after: u64) -> Result<u64, SqlError> {
    let sql = "SELECT sequence, next_at FROM deliveries WHERE destination=?1 AND state=0 AND sequence>?2
               ORDER BY sequence LIMIT ?3";
    let mut statement = store.prepare_cached(sql)?;
    let rows: Vec<(i64, i64)> = statement
        .query_map(params![destination, after.cast_signed(), STEP_ROWS], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    let sql = "UPDATE deliveries SET next_at=0 WHERE destination=?1 AND sequence=?2";
    let mut wake = store.prepare_cached(sql)?;
    for (sequence, _) in rows.iter().filter(|(_, next_at)| *next_at > 0) {
        wake.execute([destination, *sequence])?;
    }
    let is_last = rows.len() < STEP_ROWS as usize;
    Ok(rows.last().filter(|_| !is_last).map_or(0, |(sequence, _)| sequence.cast_unsigned()))
}

/// One step of taking away what waits for a detached destination; how many rows. Its dead letters stay, and
/// are older than what it is brought to meanwhile.
pub(super) fn clear(store: &Store, destination: i64) -> Result<u64, SqlError> {
    let rows = "DELETE FROM deliveries WHERE destination=?1 AND sequence IN
                (SELECT sequence FROM deliveries WHERE destination=?1 AND state IN (0,1,2,4) LIMIT ?2)";
    let rows = store.prepare_cached(rows)?.execute(params![destination, STEP_ROWS])?;
    let letters = "UPDATE dead_letters SET overtaken=1 WHERE destination=?1 AND sequence IN
                   (SELECT sequence FROM dead_letters WHERE destination=?1 AND overtaken=0 LIMIT ?2)";
    Ok((rows + store.prepare_cached(letters)?.execute(params![destination, STEP_ROWS])?) as u64)
}

/// One that was detached, and for which nothing is left ([`clear`]), starts at the newest change, which is
/// told.
pub(super) fn attach(store: &Store, destination: i64) -> Result<u64, SqlError> {
    store.execute(
        "UPDATE destinations SET detached=0, adopted_number=0,
         frontier=(SELECT value FROM meta WHERE name='last_sequence') WHERE id=?1",
        [destination],
    )?;
    super::last_sequence(store)
}

/// What waits for it may be deleted from now on.
pub(super) fn detach(store: &Store, destination: i64) -> Result<u64, SqlError> {
    store.execute("UPDATE destinations SET detached=1 WHERE id=?1", [destination]).map(|rows| rows as u64)
}

/// One step of taking away everything that the journal has for it, and at last its name; how many rows, 0:
/// it is forgotten.
pub(super) fn forget(store: &Store, destination: i64) -> Result<u64, SqlError> {
    let mut rows = 0;
    for table in ["deliveries", "dead_letters", "settled"] {
        let sql = format!(
            "DELETE FROM {table} WHERE destination=?1 AND sequence IN
             (SELECT sequence FROM {table} WHERE destination=?1 LIMIT ?2)"
        );
        rows += store.prepare_cached(&sql)?.execute(params![destination, STEP_ROWS])?;
    }
    if rows == 0 {
        store.execute("DELETE FROM destinations WHERE id=?1", [destination])?;
    }
    Ok(rows as u64)
}

/// Changes without an outcome that go to a destination once their source has done them.
pub(crate) fn undecided(store: &Store, destination: i64) -> Result<u64, SqlError> {
    let sql = concat!(
        "SELECT count(*) FROM destinations t CROSS JOIN changes c WHERE t.id=?1 AND t.detached=0
         AND (c.state IN (0,1) OR c.number IN (SELECT number FROM accepted)) AND ",
        goes_to!()
    );
    store.query_row(sql, [destination], |row| row.get(0))
}

/// A key with deliveries that have rows, as a worker finds it at start.
#[derive(Clone, Debug)]
pub(crate) struct OpenKey {
    pub(crate) key: Arc<str>,
    pub(crate) route: Arc<str>,
    pub(crate) next_at: Timestamp,
    /// Some of it waits, and is not parked.
    pub(crate) waits: bool,
    /// It has a dead letter that the destination has got nothing newer than.
    pub(crate) dead: bool,
    /// Its oldest delivery has failed before.
    pub(crate) repeat: bool,
}

/// Every key of a destination that waits behind a row or has a dead letter.
pub(crate) fn open_keys(store: &Store, destination: i64) -> Result<Vec<OpenKey>, SqlError> {
    // What a key does next is said by its oldest delivery that waits; those behind it have waits of before.
    let sql = "SELECT k.key, coalesce(c.route, ''), coalesce(h.next_at, 0), k.head IS NOT NULL, k.dead,
                 coalesce(h.state=0 AND h.attempts>h.excused, 0)
               FROM (SELECT d.key AS key, min(d.sequence) AS oldest, max(l.overtaken IS 0) AS dead,
                       min(CASE WHEN d.state IN (0,1) THEN d.sequence END) AS head
                     FROM deliveries d LEFT JOIN dead_letters l USING(destination, sequence)
                     WHERE d.destination=?1 AND d.state IN (0,1,2,3) GROUP BY d.key) k
               LEFT JOIN deliveries h ON h.destination=?1 AND h.sequence=k.head
               LEFT JOIN changes c ON c.sequence=coalesce(k.head, k.oldest) ORDER BY k.oldest";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map([destination], |row| {
        Ok(OpenKey {
            key: text(row, 0)?,
            route: text(row, 1)?,
            next_at: time(row, 2)?,
            waits: row.get(3)?,
            dead: row.get(4)?,
            repeat: row.get(5)?,
        })
    })?;
    rows.collect()
}
