//! Accepted changes on their way to their source: one row each until the source has done it.
//!
//! The rows are the queue. Of the rows of one key (`turn`) that wait, only the oldest is `NEXT`, the
//! others are `BEHIND` it, or `PARKED` behind a dead letter; so who is next is durable, is known
//! after a restart without a look at the others, and costs no memory (I3, I10).

use super::apply::{decide, encode};
use super::read::{Stored, id, stored, time};
use super::{SqlError, Store, change_state};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::journal::at_source::{Acceptance, AtSource};
use crate::sync::journal::record::{Burial, NewChange, Past, Verdict};
use crate::sync::settings::OnRefusal;
use crate::sync::status::{AtSourceView, DeadLetterFilter, DeadLetterView};
use rusqlite::{OptionalExtension, Row, params};
use std::sync::Arc;

/// The tables, of format 3.
pub(super) const TABLES: &str = "
CREATE TABLE accepted(
  number INTEGER PRIMARY KEY,
  source TEXT NOT NULL,
  turn TEXT,
  state INTEGER NOT NULL,
  parks INTEGER NOT NULL,
  conditions BLOB NOT NULL,
  checksum INTEGER NOT NULL,
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
  overtaken INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX accepted_due ON accepted(source, state, next_at);
CREATE INDEX accepted_turn ON accepted(source, turn, state, number);
CREATE TABLE resting(source TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
";

/// The states of a row, as stored. SQL says them as numbers, which are part of the format.
mod state {
    /// It is the oldest of its key: it may be sent when it is due.
    pub(super) const NEXT: i64 = 0;
    /// The words for operators, by number: next, behind, parked, dead.
    pub(super) const WORDS: [&str; 4] = ["waiting", "waiting", "parked", "dead-letter"];
}

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
    let sql = "INSERT INTO accepted(number,source,turn,state,parks,conditions,checksum,next_at)
               VALUES(?1,?2,?3,?4,?5,?6,?7,?8)";
    store.prepare_cached(sql)?.execute(params![
        number,
        source,
        acceptance.turn,
        state,
        acceptance.on_refusal == OnRefusal::ParkKey,
        conditions,
        sum(number, &conditions),
        change.recorded_at.as_millis().cast_signed(),
    ])?;
    Ok(())
}

/// The checksum of what a row has beside the change's content. Part of the format.
fn sum(number: i64, conditions: &[u8]) -> i64 {
    let mut text = number.to_le_bytes().to_vec();
    text.extend_from_slice(conditions);
    rapidhash::v3::rapidhash_v3(&text).cast_signed()
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
                let sql = "INSERT OR REPLACE INTO resting SELECT source, ?2 FROM accepted WHERE number=?1";
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
        decide(store, dead, &Verdict::Aborted, now)?;
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
    let parker: Option<i64> = store
        .prepare_cached(
            "SELECT min(number) FROM accepted
             WHERE source=?1 AND turn=?2 AND state=3 AND parks=1 AND overtaken=0",
        )?
        .query_row([source, turn], |row| row.get(0))?;
    let parker = parker.unwrap_or(i64::MAX);
    let parked = "UPDATE accepted SET state=2 WHERE source=?1 AND turn=?2 AND state IN (0,1) AND number>?3";
    store.prepare_cached(parked)?.execute(params![source, turn, parker])?;
    let freed = "UPDATE accepted SET state=1 WHERE source=?1 AND turn=?2 AND state=2 AND number<?3";
    store.prepare_cached(freed)?.execute(params![source, turn, parker])?;
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

/// A change that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) number: i64,
    pub(crate) turn: Option<Arc<str>>,
}

/// The changes of a source up to `newest` that are due, the longest due first; and when the next one
/// is, where fewer than `limit` are due now.
pub(crate) fn due(
    store: &Store,
    source: &str,
    newest: i64,
    now: Timestamp,
    limit: usize,
) -> Result<(Vec<Due>, Option<Timestamp>), SqlError> {
    let now = now.as_millis().cast_signed();
    let sql = "SELECT number, turn FROM accepted WHERE source=?1 AND state=0 AND next_at<=?2 AND number<=?3
               ORDER BY next_at LIMIT ?4";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map(params![source, now, newest, limit as u64], |row| {
        Ok(Due { number: row.get(0)?, turn: row.get::<_, Option<String>>(1)?.map(Into::into) })
    })?;
    let due = rows.collect::<Result<Vec<_>, _>>()?;
    let next: Option<u64> = store
        .prepare_cached("SELECT min(next_at) FROM accepted WHERE source=?1 AND state=0 AND next_at>?2")?
        .query_row(params![source, now], |row| row.get(0))?;
    Ok((due, next.map(Timestamp::from_millis)))
}

/// What is sent of an accepted change.
#[derive(Clone, Debug)]
pub(crate) struct ToSend {
    pub(crate) content: Stored,
    pub(crate) conditions: Vec<(String, Vec<u8>)>,
    pub(crate) past: Past,
    pub(crate) parks: bool,
    /// It has left before, and nobody knows what became of it.
    pub(crate) sent: bool,
}

/// Reads what is sent of a change whose turn it is, and verifies it; `None`: it is not its turn.
pub(crate) fn to_send(store: &Store, number: i64) -> Result<Option<ToSend>, SqlError> {
    let sql =
        "SELECT c.id, c.key, t.head, t.body, t.checksum, a.conditions, a.checksum, a.attempts, a.waited,
                 a.first_at, a.parks, a.sent, a.answer_lost
               FROM accepted a JOIN changes c USING(number) LEFT JOIN contents t USING(number)
               WHERE a.number=?1 AND a.state=?2";
    let read = |row: &Row<'_>| {
        let conditions: Vec<u8> = row.get(5)?;
        let sound = row.get::<_, i64>(6)? == sum(number, &conditions);
        let first_at: Option<u64> = row.get(9)?;
        let conditions = postcard::from_bytes(&conditions).ok().filter(|_| sound);
        Ok(ToSend {
            content: match conditions {
                Some(_) => stored(row)?,
                None => Stored::Damaged { id: id(row, 0)? },
            },
            conditions: conditions.unwrap_or_default(),
            past: Past {
                attempts: row.get(7)?,
                waited_millis: row.get(8)?,
                first_at: first_at.map(Timestamp::from_millis),
                answer_lost: row.get(12)?,
                ..Past::default()
            },
            parks: row.get(10)?,
            sent: row.get(11)?,
        })
    };
    store.prepare_cached(sql)?.query_row([number, state::NEXT], read).optional()
}

/// The newest accepted change; only what is acknowledged may be sent.
pub(crate) fn newest_accepted(store: &Store) -> Result<i64, SqlError> {
    store.query_row("SELECT coalesce(max(number), 0) FROM accepted", [], |row| row.get(0))
}

/// The changes of a key that still have to go to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) oldest: i64,
    pub(crate) newest: i64,
    /// They wait for an operator.
    pub(crate) parked: bool,
}

/// What of a key still has to go to the source, if anything.
pub(crate) fn backlog(store: &Store, source: &str, key: &str) -> Result<Option<Backlog>, SqlError> {
    let sql = "SELECT min(number), max(number), max(state=2) FROM accepted
               WHERE source=?1 AND turn=?2 AND state IN (0,1,2)";
    let read = |row: &Row<'_>| {
        let oldest: Option<i64> = row.get(0)?;
        let whole = |oldest| Ok(Backlog { oldest, newest: row.get(1)?, parked: row.get(2)? });
        oldest.map(whole).transpose()
    };
    store.prepare_cached(sql)?.query_row([source, key], read)
}

/// Until when a source has asked to be left alone.
pub(crate) fn rests_until(store: &Store, source: &str) -> Result<Timestamp, SqlError> {
    let sql = "SELECT until FROM resting WHERE source=?1";
    Ok(store.prepare_cached(sql)?.query_row([source], |row| time(row, 0)).optional()?.unwrap_or_default())
}

/// Figures of the accepted changes of one source.
#[derive(Clone, Debug)]
pub(crate) struct AcceptedFigures {
    pub(crate) source: String,
    /// Those that still have to go to it, parked ones among them.
    pub(crate) waiting: u64,
    /// When the oldest of them was recorded.
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) dead_letters: u64,
}

/// Figures of every source that has accepted changes.
pub(crate) fn accepted_figures(store: &Store) -> Result<Vec<AcceptedFigures>, SqlError> {
    let sql = "SELECT a.source, sum(a.state<3), sum(a.state=3),
                 (SELECT c.recorded_at FROM changes c
                  WHERE c.number=(SELECT min(b.number) FROM accepted b WHERE b.source=a.source AND b.state<3))
               FROM accepted a GROUP BY a.source";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let oldest: Option<u64> = row.get(3)?;
        Ok(AcceptedFigures {
            source: row.get(0)?,
            waiting: row.get(1)?,
            dead_letters: row.get(2)?,
            oldest: oldest.map(Timestamp::from_millis),
        })
    })?;
    rows.collect()
}

/// How an accepted change stands toward its source; `None`: it has its outcome.
pub(super) fn at_source(store: &Store, change: ChangeId) -> Result<Option<AtSourceView>, SqlError> {
    let sql =
        "SELECT a.state, a.attempts, a.next_at, a.last_error FROM accepted a JOIN changes c USING(number)
               WHERE c.id=?1";
    let read = |row: &Row<'_>| {
        let (number, next_at): (usize, u64) = (row.get(0)?, row.get(2)?);
        let word = state::WORDS.get(number).unwrap_or(&"unknown");
        let attempts: u32 = row.get(1)?;
        let due = number == 0 && attempts > 0;
        Ok(AtSourceView {
            state: (*word).to_owned(),
            attempts,
            next_attempt_at: due.then(|| Timestamp::from_millis(next_at)),
            last_error: row.get(3)?,
        })
    };
    store.prepare_cached(sql)?.query_row([change.0.as_bytes().as_slice()], read).optional()
}

/// What a filter says of dead letters of sources, after a number.
const MATCHING: &str =
    "a.state=3 AND a.number>?1 AND (?2 IS NULL OR a.source=?2) AND (?3 IS NULL OR a.code=?3)
    AND (?4 IS NULL OR substr(c.key, 1, length(?4))=?4)
    AND (?5 IS NULL OR a.last_at>=?5) AND (?6 IS NULL OR a.last_at<?6) ORDER BY a.number LIMIT ?7";

/// A dead letter of a source that may be sent again or given up.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) number: i64,
    pub(crate) turn: Option<Arc<str>>,
    /// The source has got a newer change of its key since (I3).
    pub(crate) overtaken: bool,
}

/// Dead letters of a source that match, after a number, oldest first.
pub(crate) fn refused(
    store: &Store,
    source: &str,
    filter: &DeadLetterFilter,
    after: i64,
    limit: u32,
) -> Result<Vec<Refused>, SqlError> {
    let sql = format!(
        "SELECT a.number, a.turn, a.overtaken FROM accepted a JOIN changes c USING(number) WHERE {MATCHING}"
    );
    let millis = |at: Option<Timestamp>| at.map(|at| at.as_millis().cast_signed());
    let (since, until) = (millis(filter.since), millis(filter.until));
    let mut statement = store.prepare_cached(&sql)?;
    let rows = statement.query_map(
        params![after, source, filter.code, filter.key_prefix, since, until, limit],
        |row| {
            Ok(Refused {
                number: row.get(0)?,
                turn: row.get::<_, Option<String>>(1)?.map(Into::into),
                overtaken: row.get(2)?,
            })
        },
    )?;
    rows.collect()
}

/// Dead letters of sources as operators see them, at most `limit`.
pub(crate) fn refused_views(
    store: &Store,
    filter: &DeadLetterFilter,
    limit: u32,
) -> Result<Vec<DeadLetterView>, SqlError> {
    let sql = format!(
        "SELECT c.id, a.source, c.key, a.class, a.code, a.status, a.attempts, a.first_at, a.last_at, a.answer
         FROM accepted a JOIN changes c USING(number) WHERE {MATCHING}"
    );
    let millis = |at: Option<Timestamp>| at.map(|at| at.as_millis().cast_signed());
    let (since, until) = (millis(filter.since), millis(filter.until));
    let mut statement = store.prepare_cached(&sql)?;
    let rows = statement.query_map(
        params![0, filter.source, filter.code, filter.key_prefix, since, until, limit],
        |row| {
            Ok(DeadLetterView {
                change: id(row, 0)?.to_string(),
                destination: None,
                source: row.get(1)?,
                key: row.get(2)?,
                sequence: None,
                class: row.get(3)?,
                code: row.get(4)?,
                status: row.get(5)?,
                attempts: row.get(6)?,
                first_at: time(row, 7)?,
                last_at: time(row, 8)?,
                answer: row.get(9)?,
            })
        },
    )?;
    rows.collect()
}
