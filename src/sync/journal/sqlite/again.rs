//! Sending again: dead letters, and delivered history.

use super::queue::{goes_to, oldest_dead_letter};
use super::{STEP_ROWS, SqlError, Store, delivery_state};
use crate::sync::settings::OnFailure;
use crate::sync::status::DeadLetterFilter;
use rusqlite::params;
use std::sync::Arc;

/// Dead letters that are looked at in one step at most.
pub(crate) const LETTERS_MAX: u32 = 1000;
/// Changes of one key that one record makes wait again at most.
pub(crate) const REPLAY_STEP: u32 = 500;

/// A dead letter that may be sent again or given up.
#[derive(Clone, Debug)]
pub(crate) struct Buried {
    pub(crate) sequence: u64,
    pub(crate) key: Arc<str>,
    /// The destination has got a newer change of its key since: sending it would go back (I3).
    pub(crate) overtaken: bool,
}

/// Dead letters of a destination that match, after a sequence, in key order.
pub(crate) fn buried(
    store: &Store,
    destination: i64,
    filter: &DeadLetterFilter,
    after: u64,
    limit: u32,
) -> Result<Vec<Buried>, SqlError> {
    let sql = "SELECT sequence, key, overtaken FROM dead_letters WHERE destination=?1 AND sequence>?2
        AND (?3 IS NULL OR code=?3) AND (?4 IS NULL OR substr(key, 1, length(?4))=?4)
        AND (?5 IS NULL OR last_at>=?5) AND (?6 IS NULL OR last_at<?6) AND (?7 IS NULL OR id=?7)
        ORDER BY sequence LIMIT ?8";
    let [since, until] = [filter.since, filter.until].map(|at| at.map(|at| at.as_millis().cast_signed()));
    let id = filter.change.map(|id| id.0.as_bytes().to_vec());
    let mut statement = store.prepare_cached(sql)?;
    let after = after.cast_signed();
    let rows = statement.query_map(
        params![destination, after, filter.code, filter.key_prefix, since, until, id, limit.min(LETTERS_MAX)],
        |row| {
            Ok(Buried { sequence: row.get(0)?, key: row.get::<_, String>(1)?.into(), overtaken: row.get(2)? })
        },
    )?;
    rows.collect()
}

/// Dead letters wait again, but for those that are older than what the destination has; how many. Behind an
/// older one that parks they are parked. [`arrange`] says the same of what was parked behind them.
pub(super) fn redrive(
    store: &Store,
    destination: i64,
    sequences: &[u64],
    on_failure: OnFailure,
) -> Result<u64, SqlError> {
    let mut redriven = 0;
    for sequence in sequences {
        let gone = store
            .prepare_cached("DELETE FROM dead_letters WHERE destination=?1 AND sequence=?2 AND overtaken=0")?
            .execute([destination, sequence.cast_signed()])?;
        if gone == 0 {
            continue;
        }
        redriven += 1;
        let sql = "UPDATE deliveries SET redriven=1, excused=attempts, waited=0, next_at=0,
            state=CASE WHEN ?3 AND EXISTS(SELECT 1 FROM dead_letters l WHERE l.destination=?1
              AND l.key=deliveries.key AND l.overtaken=0 AND l.sequence<?2) THEN 2 ELSE 0 END
            WHERE destination=?1 AND sequence=?2";
        let parks = on_failure == OnFailure::ParkKey;
        store.prepare_cached(sql)?.execute(params![destination, sequence.cast_signed(), parks])?;
    }
    Ok(redriven)
}

/// Dead letters are given up; how many. [`arrange`] says of what was parked behind them that it goes on.
pub(super) fn discard(store: &Store, destination: i64, sequences: &[u64]) -> Result<u64, SqlError> {
    let mut discarded = 0;
    for sequence in sequences {
        let gone = store
            .prepare_cached("DELETE FROM dead_letters WHERE destination=?1 AND sequence=?2")?
            .execute([destination, sequence.cast_signed()])?;
        if gone == 0 {
            continue;
        }
        discarded += 1;
        store
            .prepare_cached("UPDATE deliveries SET state=6 WHERE destination=?1 AND sequence=?2")?
            .execute([destination, sequence.cast_signed()])?;
    }
    Ok(discarded)
}

/// One step of marking what waits of a key, after a sequence: as parked behind the oldest dead letter that
/// parks, as waiting before it. The last that it looked at; 0: there are no more. What is loaded of a key
/// heeds its dead letters and not these marks, which are for operators, and for starts.
pub(super) fn arrange(
    store: &Store,
    destination: i64,
    key: &str,
    on_failure: OnFailure,
    after: u64,
) -> Result<u64, SqlError> {
    let bar = match on_failure {
        OnFailure::ParkKey => oldest_dead_letter(store, destination, key)?,
        OnFailure::Skip | OnFailure::Block => None,
    };
    let sql = "SELECT sequence, state FROM deliveries WHERE destination=?1 AND key=?2 AND sequence>?3
               ORDER BY sequence LIMIT ?4";
    let mut statement = store.prepare_cached(sql)?;
    let bounds = params![destination, key, after.cast_signed(), STEP_ROWS];
    let rows: Vec<(i64, i64)> =
        statement.query_map(bounds, |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mark = "UPDATE deliveries SET state=?3 WHERE destination=?1 AND sequence=?2";
    let mut mark = store.prepare_cached(mark)?;
    for (sequence, state) in &rows {
        let is_parked = bar.is_some_and(|bar| *sequence > bar);
        let wanted = if is_parked { delivery_state::PARKED } else { delivery_state::BEHIND };
        if matches!(*state, delivery_state::BEHIND | delivery_state::PARKED) && *state != wanted {
            mark.execute([destination, *sequence, wanted])?;
        }
    }
    let is_last = rows.len() < STEP_ROWS as usize;
    Ok(rows.last().filter(|_| !is_last).map_or(0, |(sequence, _)| sequence.cast_unsigned()))
}

/// What a replay is asked for: changes to a destination from one sequence to before another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) destination: i64,
    pub(crate) from: u64,
    pub(crate) before: u64,
}

/// A key that a replay touches, with the first of its changes there.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    pub(crate) key: Arc<str>,
    pub(crate) first: u64,
}

/// The next keys that a replay touches whose first change there is after `after`.
pub(crate) fn touched(
    store: &Store,
    stretch: &Stretch,
    after: u64,
    limit: u32,
) -> Result<Vec<Touched>, SqlError> {
    let sql = concat!(
        "SELECT c.sequence, c.key FROM destinations t CROSS JOIN changes c
         WHERE t.id=?3 AND c.sequence>?1 AND c.sequence<?2 AND ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM changes e
             WHERE e.key=c.key AND e.sequence>=?4 AND e.sequence<c.sequence AND ",
        goes_to!("e"),
        ") ORDER BY c.sequence LIMIT ?5"
    );
    let [after, from, before] = [after, stretch.from, stretch.before].map(u64::cast_signed);
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, before, stretch.destination, from, limit], |row| {
        Ok(Touched { first: row.get(0)?, key: row.get::<_, String>(1)?.into() })
    })?;
    rows.collect()
}

/// How many changes a replay sends, and how many it leaves out: those of keys with a dead letter, where
/// `on_failure` parks them.
pub(crate) fn replayed(
    store: &Store,
    stretch: &Stretch,
    on_failure: OnFailure,
) -> Result<(u64, u64), SqlError> {
    let sql = concat!(
        "SELECT count(*) FILTER (WHERE NOT parked), count(*) FILTER (WHERE parked) FROM (
           SELECT c.sequence, ?4 AND EXISTS(SELECT 1 FROM dead_letters l
                    WHERE l.destination=?1 AND l.key=c.key AND l.overtaken=0) AS parked
           FROM (SELECT c.key AS touched, min(c.sequence) AS first FROM destinations t CROSS JOIN changes c
                 WHERE t.id=?1 AND c.sequence>=?2 AND c.sequence<?3 AND ",
        goes_to!(),
        " GROUP BY c.key)
           JOIN changes c ON c.key=touched AND c.sequence>=first JOIN destinations t ON t.id=?1
           LEFT JOIN deliveries r ON r.destination=?1 AND r.sequence=c.sequence
           WHERE ",
        goes_to!(),
        " AND (r.state IN (4,5,7) OR (r.state IS NULL AND c.sequence<=t.frontier)))"
    );
    let [from, before] = [stretch.from, stretch.before].map(u64::cast_signed);
    store
        .prepare_cached(sql)?
        .query_row(params![stretch.destination, from, before, on_failure == OnFailure::ParkKey], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
}

/// Changes of a destination that wait to be replayed.
pub(crate) fn replays_left(store: &Store, destination: i64) -> Result<u64, SqlError> {
    let sql = "SELECT count(*) FROM deliveries WHERE destination=?1 AND replay=1 AND state IN (0,1)";
    store.prepare_cached(sql)?.query_row([destination], |row| row.get(0))
}

/// The newest of what the destination has got of a key wait again, down to `from`; how many, and where
/// these are [`REPLAY_STEP`], there may be more. From the newest on: whatever is left after a crash
/// between two steps still ends with the newest (I3).
pub(super) fn replay(store: &Store, destination: i64, key: &str, from: u64) -> Result<u64, SqlError> {
    let sql = concat!(
        "INSERT INTO deliveries(destination,sequence,key,state,replay)
         SELECT ?1, c.sequence, c.key, 1, 1 FROM changes c, destinations t
         LEFT JOIN deliveries r ON r.destination=?1 AND r.sequence=c.sequence
         WHERE t.id=?1 AND c.key=?2 AND c.sequence>=?3 AND ",
        goes_to!(),
        " AND (r.state IN (4,5,7) OR (r.state IS NULL AND c.sequence<=t.frontier))
         ORDER BY c.sequence DESC LIMIT ?4
         ON CONFLICT(destination,sequence) DO UPDATE SET state=1, replay=1, redriven=0, attempts=0, excused=0,
           waited=0, first_at=NULL, answer_lost=0, next_at=0, last_error=NULL"
    );
    let rows =
        store.prepare_cached(sql)?.execute(params![destination, key, from.cast_signed(), REPLAY_STEP])?;
    Ok(rows as u64)
}
