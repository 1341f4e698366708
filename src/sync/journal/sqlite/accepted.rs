//! Accepted changes on their way to their source: one row each until the source has done it.
//!
//! The rows are the queue. Of the rows of one key (`turn`) that wait, only the oldest is `NEXT`, the
//! others are `BEHIND` it, or `PARKED` behind a dead letter; so who is next is durable, is known
//! after a restart without a look at the others, and costs no memory (I3, I10).

mod read;

pub(super) use read::at_source;
pub(crate) use read::{
    Backlog, Due, Refused, ToSend, accepted_figures, backlog, due, newest_accepted, refused, refused_views,
    rests_until, to_send,
};

use super::apply::encode;
use super::decide::decide;
use super::read::id;
use super::sealed::ACCEPTED;
use super::{SqlError, Store, change_state};
use crate::clock::Timestamp;
use crate::sync::journal::at_source::{Acceptance, AtSource};
use crate::sync::journal::record::{Burial, NewChange, Past, Verdict};
use crate::sync::settings::OnRefusal;
use rusqlite::types::Null;
use rusqlite::{OptionalExtension, Row, params};
use std::sync::LazyLock;

/// The tables, of format 3.
pub(super) const TABLES: &str = "
CREATE TABLE accepted(
  number INTEGER PRIMARY KEY,
  source TEXT NOT NULL,
  turn TEXT,
  state INTEGER NOT NULL,
  parks INTEGER NOT NULL,
  conditions BLOB NOT NULL,
  next_at INTEGER NOT NULL,
  sent INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  waited INTEGER NOT NULL DEFAULT 0,
  first_at INTEGER,
  answer_lost INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  class TEXT,
  code TEXT,
  status INTEGER,
  last_at INTEGER,
  answer TEXT,
  overtaken INTEGER NOT NULL DEFAULT 0,
  checksum INTEGER
);
CREATE INDEX accepted_due ON accepted(source, state, next_at);
CREATE INDEX accepted_turn ON accepted(source, turn, state, number);
CREATE TABLE resting(source TEXT PRIMARY KEY, until INTEGER NOT NULL, checksum INTEGER) WITHOUT ROWID;
";

/// The states of a row, as stored. SQL says them as numbers, which are part of the format.
mod state {
    /// It is the oldest of its key: it may be sent when it is due.
    pub(super) const NEXT: i64 = 0;
    /// The words for operators, by number: next, behind, parked, dead.
    pub(super) const WORDS: [&str; 4] = ["waiting", "waiting", "parked", "dead-letter"];
}

static ENTER: LazyLock<String> = LazyLock::new(|| ACCEPTED.insert("INSERT"));

/// Adds the row of a new change.
pub(super) fn enter(
    store: &Store,
    number: i64,
    change: &NewChange,
    acceptance: &Acceptance,
) -> Result<(), SqlError> {
    let place = "SELECT CASE
        WHEN EXISTS(SELECT 1 FROM accepted WHERE source=?1 AND turn=?2 AND state=3 AND parks=1 AND overtaken=0) THEN 2
        WHEN EXISTS(SELECT 1 FROM accepted WHERE source=?1 AND turn=?2 AND state IN (0,1)) THEN 1
        ELSE 0 END";
    let source = &change.head.source;
    let state: i64 =
        store.prepare_cached(place)?.query_row(params![source, acceptance.turn], |row| row.get(0))?;
    let conditions = encode(&acceptance.conditions)?;
    store.prepare_cached(&ENTER)?.execute(params![
        number,
        source,
        acceptance.turn,
        state,
        acceptance.on_refusal == OnRefusal::ParkKey,
        conditions,
        change.recorded_at.as_millis().cast_signed(),
        // Nothing has happened to it yet.
        false,
        0,
        0,
        Null,
        false,
        Null,
        Null,
        Null,
        Null,
        Null,
        Null,
        false,
    ])?;
    Ok(())
}

/// Takes the row of a change that has its outcome away: the next of its key may go.
pub(super) fn leave(store: &Store, number: i64, now: Timestamp) -> Result<(), SqlError> {
    let sql = "DELETE FROM accepted WHERE number=?1 RETURNING source, turn";
    let left = store.prepare_cached(sql)?.query_row([number], read_place).optional()?;
    let Some(Place { source, turn: Some(turn) }) = left else { return Ok(()) };
    let mixed = "SELECT EXISTS(SELECT 1 FROM accepted WHERE source=?1 AND turn=?2 AND state IN (0,2,3))";
    if store.prepare_cached(mixed)?.query_row([&source, &turn], |row| row.get(0))? {
        return arrange(store, &source, Some(&turn), now);
    }
    // The usual case: those behind it, if any.
    let next = "UPDATE accepted SET state=0, next_at=max(next_at, ?3) WHERE number=
                (SELECT min(number) FROM accepted WHERE source=?1 AND turn=?2 AND state=1)";
    store.prepare_cached(next)?.execute(params![source, turn, now.as_millis().cast_signed()])?;
    Ok(())
}

/// A newer change of the key is with the source: older dead letters of it would go back (I3).
pub(super) fn overtake(
    store: &Store,
    source: &str,
    key: &str,
    number: i64,
    now: Timestamp,
) -> Result<(), SqlError> {
    let sql = "UPDATE accepted SET overtaken=1
               WHERE source=?1 AND turn=?2 AND state=3 AND overtaken=0 AND number<?3";
    if store.prepare_cached(sql)?.execute(params![source, key, number])? > 0 {
        arrange(store, source, Some(key), now)?;
    }
    Ok(())
}

/// Writes what happened at a source; tells a count.
pub(super) fn step(store: &Store, step: &AtSource, now: Timestamp) -> Result<u64, SqlError> {
    match step {
        AtSource::Sending { number } => {
            store.prepare_cached("UPDATE accepted SET sent=1 WHERE number=?1")?.execute([number])?;
            Ok(1)
        }
        AtSource::Defer { number, past, next_at, last_error, rest_until } => {
            let sql =
                "UPDATE accepted SET sent=0, attempts=?2, waited=?3, first_at=?4, next_at=?5, last_error=?6,
                       answer_lost=?7
                       WHERE number=?1 AND state=0";
            store.prepare_cached(sql)?.execute(params![
                number,
                past.attempts,
                past.waited_millis.cast_signed(),
                past.first_at.map(|at| at.as_millis().cast_signed()),
                next_at.as_millis().cast_signed(),
                last_error,
                past.answer_lost,
            ])?;
            if let Some(until) = rest_until {
                let sql = "INSERT OR REPLACE INTO resting(source, until) SELECT source, ?2 FROM accepted WHERE number=?1";
                store.prepare_cached(sql)?.execute([*number, until.as_millis().cast_signed()])?;
            }
            Ok(1)
        }
        AtSource::Bury { number, past, burial } => bury(store, *number, past, burial, now).map(|()| 1),
        AtSource::Redrive { due } => redrive(store, due, now),
        AtSource::Discard { numbers } => discard(store, numbers, now),
    }
}

fn bury(store: &Store, number: i64, past: &Past, burial: &Burial, now: Timestamp) -> Result<(), SqlError> {
    let sql = "UPDATE accepted SET state=3, sent=0, attempts=?2, first_at=?3, class=?4, code=?5, status=?6,
               last_at=?7, answer=?8, last_error=?5 WHERE number=?1 AND state=0";
    let buried = store.prepare_cached(sql)?.execute(params![
        number,
        past.attempts,
        past.first_at.unwrap_or(burial.last_at).as_millis().cast_signed(),
        burial.class,
        burial.code,
        burial.status,
        burial.last_at.as_millis().cast_signed(),
        burial.answer,
    ])?;
    let Some(place) = place(store, number)?.filter(|_| buried > 0) else { return Ok(()) };
    mark(store, number, change_state::REFUSED)?;
    arrange(store, &place.source, place.turn.as_deref(), now)
}

fn redrive(store: &Store, due: &[(i64, Timestamp)], now: Timestamp) -> Result<u64, SqlError> {
    let mut redriven = 0;
    for (number, at) in due {
        let sql =
            "UPDATE accepted SET state=1, attempts=0, waited=0, first_at=NULL, answer_lost=0, next_at=?2
                   WHERE number=?1 AND state=3 AND overtaken=0";
        let raised = store.prepare_cached(sql)?.execute([*number, at.as_millis().cast_signed()])?;
        let Some(place) = place(store, *number)?.filter(|_| raised > 0) else { continue };
        redriven += 1;
        mark(store, *number, change_state::ACCEPTED)?;
        if place.turn.is_none() {
            store.prepare_cached("UPDATE accepted SET state=0 WHERE number=?1")?.execute([number])?;
        }
        arrange(store, &place.source, place.turn.as_deref(), now)?;
    }
    Ok(redriven)
}

fn discard(store: &Store, numbers: &[i64], now: Timestamp) -> Result<u64, SqlError> {
    let mut discarded = 0;
    for number in numbers {
        let sql = "SELECT c.id FROM changes c JOIN accepted a USING(number) WHERE number=?1 AND a.state=3";
        let dead = store.prepare_cached(sql)?.query_row([number], |row| id(row, 0)).optional()?;
        let Some(dead) = dead else { continue };
        discarded += 1;
        decide(store, dead, &Verdict::Aborted, None, now)?;
    }
    Ok(discarded)
}

fn mark(store: &Store, number: i64, state: i64) -> Result<(), SqlError> {
    store.prepare_cached("UPDATE changes SET state=?2 WHERE number=?1")?.execute([number, state])?;
    Ok(())
}

struct Place {
    source: String,
    turn: Option<String>,
}

fn place(store: &Store, number: i64) -> Result<Option<Place>, SqlError> {
    store
        .prepare_cached("SELECT source, turn FROM accepted WHERE number=?1")?
        .query_row([number], read_place)
        .optional()
}

fn read_place(row: &Row<'_>) -> Result<Place, SqlError> {
    Ok(Place { source: row.get(0)?, turn: row.get(1)? })
}

/// Puts the rows of a key in their places: what follows the oldest dead letter that parks is parked,
/// the oldest of the others is next.
fn arrange(store: &Store, source: &str, turn: Option<&str>, now: Timestamp) -> Result<(), SqlError> {
    let Some(turn) = turn else { return Ok(()) };
    let refused: Option<i64> = store
        .prepare_cached(
            "SELECT min(number) FROM accepted
             WHERE source=?1 AND turn=?2 AND state=3 AND parks=1 AND overtaken=0",
        )?
        .query_row([source, turn], |row| row.get(0))?;
    let refused = refused.unwrap_or(i64::MAX);
    let parked = "UPDATE accepted SET state=2 WHERE source=?1 AND turn=?2 AND state IN (0,1) AND number>?3";
    store.prepare_cached(parked)?.execute(params![source, turn, refused])?;
    let freed = "UPDATE accepted SET state=1 WHERE source=?1 AND turn=?2 AND state=2 AND number<?3";
    store.prepare_cached(freed)?.execute(params![source, turn, refused])?;
    let first: Option<i64> = store
        .prepare_cached("SELECT min(number) FROM accepted WHERE source=?1 AND turn=?2 AND state IN (0,1)")?
        .query_row([source, turn], |row| row.get(0))?;
    let Some(first) = first else { return Ok(()) };
    let others = "UPDATE accepted SET state=1 WHERE source=?1 AND turn=?2 AND state=0 AND number<>?3";
    store.prepare_cached(others)?.execute(params![source, turn, first])?;
    let next = "UPDATE accepted SET state=0, next_at=max(next_at, ?2) WHERE number=?1 AND state=1";
    // Fair among keys: it has waited for its key until now.
    store.prepare_cached(next)?.execute([first, now.as_millis().cast_signed()])?;
    Ok(())
}

#[cfg(test)]
mod tests;
