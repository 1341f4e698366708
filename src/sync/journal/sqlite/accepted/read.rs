//! What is read of accepted changes: by their workers, by writes that wait for them, for operators.

use super::super::read::{Stored, id, stored, time};
use super::super::sealed::ACCEPTED;
use super::super::{SqlError, Store};
use super::state;
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::dead_letters::LetterPlace;
use crate::sync::journal::record::Past;
use crate::sync::status::{AtSourceView, DeadLetterFilter, DeadLetterView};
use rusqlite::{OptionalExtension, Row, params};
use std::sync::Arc;

/// A change that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) number: i64,
    pub(crate) turn: Option<Arc<str>>,
    /// Nothing has happened to it since it was accepted. Nobody but its worker changes that.
    pub(crate) is_untried: bool,
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
    let sql = "SELECT number, turn, attempts=0 AND waited=0 AND sent=0 AND answer_lost=0 FROM accepted
               WHERE source=?1 AND state=0 AND next_at<=?2 AND number<=?3 ORDER BY next_at LIMIT ?4";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map(params![source, now, newest, limit as u64], |row| {
        let turn = row.get::<_, Option<String>>(1)?;
        Ok(Due { number: row.get(0)?, turn: turn.map(Into::into), is_untried: row.get(2)? })
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
    let sql = format!(
        "SELECT a.conditions, a.attempts, a.waited, a.first_at, a.parks, a.sent, a.answer_lost, {}
         FROM accepted a WHERE a.number=?1 AND a.state=?2",
        ACCEPTED.is_sound("a")
    );
    let read = |row: &Row<'_>| {
        let conditions: Vec<u8> = row.get(0)?;
        let first_at: Option<u64> = row.get(3)?;
        let is_sound: bool = row.get(7)?;
        let conditions = postcard::from_bytes(&conditions).ok().filter(|_| is_sound);
        let content = stored(store, number)?;
        Ok(ToSend {
            content: match (conditions.is_some(), content) {
                (true, content) => content,
                (false, Stored::Sound { id, .. } | Stored::Damaged { id }) => Stored::Damaged { id },
            },
            conditions: conditions.unwrap_or_default(),
            past: Past {
                attempts: row.get(1)?,
                waited_millis: row.get(2)?,
                first_at: first_at.map(Timestamp::from_millis),
                answer_lost: row.get(6)?,
                ..Past::default()
            },
            parks: row.get(4)?,
            sent: row.get(5)?,
        })
    };
    store.prepare_cached(&sql)?.query_row([number, state::NEXT], read).optional()
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
pub(in crate::sync::journal::sqlite) fn at_source(
    store: &Store,
    change: ChangeId,
) -> Result<Option<AtSourceView>, SqlError> {
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
    AND (?5 IS NULL OR a.last_at>=?5) AND (?6 IS NULL OR a.last_at<?6)
    AND (?7 IS NULL OR c.id=?7) ORDER BY a.number LIMIT ?8";

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
    let change = filter.change.map(|id| id.0.as_bytes().to_vec());
    let mut statement = store.prepare_cached(&sql)?;
    let rows = statement.query_map(
        params![after, source, filter.code, filter.key_prefix, since, until, change, limit],
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

/// Dead letters of sources as operators see them, after a number, at most `limit`.
pub(crate) fn refused_views(
    store: &Store,
    filter: &DeadLetterFilter,
    after: i64,
    limit: u32,
) -> Result<Vec<(LetterPlace, DeadLetterView)>, SqlError> {
    let sql = format!(
        "SELECT c.id, a.source, c.key, a.class, a.code, a.status, a.attempts, a.first_at, a.last_at, a.answer,
         a.number
         FROM accepted a JOIN changes c USING(number) WHERE {MATCHING}"
    );
    let millis = |at: Option<Timestamp>| at.map(|at| at.as_millis().cast_signed());
    let (since, until) = (millis(filter.since), millis(filter.until));
    let change = filter.change.map(|id| id.0.as_bytes().to_vec());
    let mut statement = store.prepare_cached(&sql)?;
    let rows = statement.query_map(
        params![after, filter.source, filter.code, filter.key_prefix, since, until, change, limit],
        |row| {
            let letter = DeadLetterView {
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
            };
            Ok((LetterPlace::AtSource(row.get(10)?), letter))
        },
    )?;
    rows.collect()
}
