//! The rows of clients' Idempotency-Keys: written with the intent, filled with the outcome.

use super::apply::encode;
use super::sealed::ANSWERS;
use super::{SqlError, Store, change_state};
use crate::clock::Timestamp;
use crate::sync::answers::{Fate, Hash, KEPT, KeptAnswer, Known};
use crate::sync::change::ChangeId;
use crate::sync::journal::record::NewChange;
use rusqlite::{OptionalExtension, params};

/// Since format 3.
pub(super) const TABLE: &str = "
CREATE TABLE answers(
  scope BLOB PRIMARY KEY,
  fingerprint BLOB NOT NULL,
  change BLOB NOT NULL,
  accepted INTEGER NOT NULL,
  state INTEGER NOT NULL,
  until INTEGER NOT NULL,
  head BLOB,
  body BLOB,
  checksum INTEGER
);
CREATE INDEX answers_change ON answers(change);
CREATE INDEX answers_until ON answers(until);
";

/// Rows that one step forgets at most.
const STEP_ROWS: i64 = 500;

/// What goes of the answers that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgetting {
    /// Those whose time is over.
    Expired,
    /// The journal fills up: contents too, the oldest first. That the write has happened stays known.
    Contents,
}

/// The key of an intent is taken, over one whose first write came to nothing.
pub(super) fn take_key(store: &Store, change: &NewChange) -> Result<(), SqlError> {
    let Some(key) = &change.client_key else { return Ok(()) };
    let sql = "INSERT OR REPLACE INTO answers(scope,fingerprint,change,state,until,accepted)
               VALUES(?1,?2,?3,?4,?5,?6)";
    store.prepare_cached(sql)?.execute(params![
        key.scope,
        key.fingerprint,
        change.id.0.as_bytes().as_slice(),
        change_state::INTENT,
        change.recorded_at.plus(KEPT).as_millis().cast_signed(),
        change.accepted.is_some(),
    ])?;
    Ok(())
}

/// A change has an outcome, and perhaps an answer that is kept for its key, if it has one.
pub(super) fn settle_key(
    store: &Store,
    id: ChangeId,
    state: i64,
    answer: Option<&KeptAnswer>,
) -> Result<(), SqlError> {
    let id_bytes = id.0.as_bytes().as_slice();
    let Some(answer) = answer else {
        store
            .prepare_cached("UPDATE answers SET state=?2 WHERE change=?1")?
            .execute(params![id_bytes, state])?;
        return Ok(());
    };
    let head = encode(&answer.head)?;
    store
        .prepare_cached("UPDATE answers SET state=?2, head=?3, body=?4 WHERE change=?1")?
        .execute(params![id_bytes, state, head, answer.body.as_ref()])?;
    Ok(())
}

/// What is known of a key. One whose time is over is not, unless its change is still open.
pub(crate) fn answer(store: &Store, scope: Hash, now: Timestamp) -> Result<Option<Known>, SqlError> {
    let sql = format!(
        "SELECT {}, a.change, a.fingerprint, a.state, a.accepted, a.head, a.body FROM answers a
         WHERE a.scope=?1 AND (a.until>?2 OR a.state IN (0,1))",
        ANSWERS.is_sound("a")
    );
    let row = |row: &rusqlite::Row<'_>| {
        if !row.get::<_, bool>(0)? {
            return Ok(Known::Damaged);
        }
        let head: Option<Vec<u8>> = row.get(5)?;
        let body: Option<Vec<u8>> = row.get(6)?;
        let kept = head.zip(body);
        let answer = kept.and_then(|(head, body)| {
            Some(KeptAnswer { head: postcard::from_bytes(&head).ok()?, body: body.into() })
        });
        let fate = match row.get(3)? {
            _ if row.get(4)? => Fate::Accepted,
            change_state::INTENT | change_state::IN_DOUBT => Fate::Open,
            change_state::ABORTED => Fate::Aborted,
            _ => Fate::Happened,
        };
        Ok(Known::Sound { fingerprint: row.get(2)?, change: super::read::id(row, 1)?, fate, answer })
    };
    let known = store
        .prepare_cached(&sql)?
        .query_row(params![scope, now.as_millis().cast_signed()], row)
        .optional()?;
    if matches!(known, Some(Known::Damaged)) {
        tracing::error!("what is kept of an Idempotency-Key is damaged; its write is refused");
    }
    Ok(known)
}

/// Forgets up to a step; how many rows.
pub(super) fn forget(store: &Store, forgetting: Forgetting, now: Timestamp) -> Result<u64, SqlError> {
    let expired = "DELETE FROM answers WHERE rowid IN
                   (SELECT rowid FROM answers WHERE until<=?1 AND state NOT IN (0,1) LIMIT ?2)";
    let mut rows =
        store.prepare_cached(expired)?.execute(params![now.as_millis().cast_signed(), STEP_ROWS])?;
    if forgetting == Forgetting::Contents {
        let contents = "UPDATE answers SET head=NULL, body=NULL WHERE rowid IN
                        (SELECT rowid FROM answers WHERE head IS NOT NULL ORDER BY until LIMIT ?1)";
        rows += store.prepare_cached(contents)?.execute([STEP_ROWS])?;
    }
    Ok(rows as u64)
}
