//! Writes what became of an intent: its state, its place in the lane, its content where that is another.

use super::apply::encode;
use super::sealed::CHANGES;
use super::{SqlError, Store, accepted, answers, change_state};
use crate::clock::Timestamp;
use crate::sync::answers::KeptAnswer;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::{Verdict, checksum, next_sequence};
use crate::sync::key;
use rusqlite::{OptionalExtension, params};
use std::sync::LazyLock;

static DECIDED: LazyLock<String> = LazyLock::new(|| {
    CHANGES.update(&[("state", "?2"), ("sequence", "?3"), ("previous", "?4")]) + " WHERE number=?1"
});

/// Writes an outcome over a change that has none yet. The rows of a decided change are left alone,
/// so that an outcome written twice (after a commit whose result was unknown) changes nothing.
pub(super) fn decide(
    store: &Store,
    id: ChangeId,
    verdict: &Verdict,
    answer: Option<&KeptAnswer>,
    now: Timestamp,
) -> Result<u64, SqlError> {
    let id_bytes = id.0.as_bytes().as_slice();
    let open = store
        .prepare_cached("SELECT number, key, source FROM changes WHERE id=?1 AND state IN (0,1,5,6)")?
        .query_row([id_bytes], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .optional()?;
    let Some((number, old_key, source)) = open else {
        if !matches!(verdict, Verdict::Aborted) {
            known(store, id)?;
        }
        return Ok(0);
    };
    let state = match verdict {
        Verdict::Committed { key: Some(new_key) } if *new_key != old_key => {
            rekey(store, id, number, [&old_key, new_key])?;
            change_state::COMMITTED
        }
        Verdict::Committed { .. } => change_state::COMMITTED,
        Verdict::Reconciled { head, body } => {
            let head = encode(head)?;
            let sum = checksum(id, &old_key, &head, body);
            store
                .prepare_cached("UPDATE contents SET head=?2, body=?3, checksum=?4 WHERE number=?1")?
                .execute(params![number, head, body.as_ref(), sum])?;
            change_state::RECONCILED
        }
        Verdict::InDoubt => change_state::IN_DOUBT,
        Verdict::Aborted => change_state::ABORTED,
    };
    let (previous, sequence) = match state {
        change_state::COMMITTED | change_state::RECONCILED => take_sequence(store, now).map(Some)?,
        _ => None,
    }
    .unzip();
    store.prepare_cached(&DECIDED)?.execute(params![
        number,
        state,
        sequence.map(u64::cast_signed),
        previous.map(u64::cast_signed)
    ])?;
    accepted::leave(store, number, now)?;
    if sequence.is_some() {
        accepted::overtake(store, &source, &old_key, number, now)?;
    }
    answers::settle_key(store, id, state, answer)?;
    Ok(sequence.unwrap_or_default())
}

fn rekey(store: &Store, id: ChangeId, number: i64, [old_key, new_key]: [&str; 2]) -> Result<(), SqlError> {
    let (head, body, mut sum): (Vec<u8>, Vec<u8>, i64) = store
        .prepare_cached("SELECT head, body, checksum FROM contents WHERE number=?1")?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    // What is damaged keeps a sum that does not fit.
    if sum == checksum(id, old_key, &head, &body) {
        sum = checksum(id, new_key, &head, &body);
    }
    store.prepare_cached("UPDATE changes SET key=?2, lane=?3 WHERE number=?1")?.execute(params![
        number,
        new_key,
        key::lane(new_key)
    ])?;
    store
        .prepare_cached("UPDATE contents SET checksum=?2, key=?3 WHERE number=?1")?
        .execute(params![number, sum, new_key])?;
    Ok(())
}

/// The sequence that was given last, and a new one.
fn take_sequence(store: &Store, now: Timestamp) -> Result<(u64, u64), SqlError> {
    let last: i64 = store
        .prepare_cached("SELECT value FROM meta WHERE name='last_sequence'")?
        .query_row([], |row| row.get(0))?;
    let sequence = next_sequence(last.cast_unsigned(), now);
    store
        .prepare_cached("UPDATE meta SET value=?1 WHERE name='last_sequence'")?
        .execute([sequence.cast_signed()])?;
    Ok((last.cast_unsigned(), sequence))
}

/// Says so where the journal does not have a change that it was given. (An intent that was refused is
/// aborted in case it was written.)
fn known(store: &Store, id: ChangeId) -> Result<(), SqlError> {
    let exists =
        store.prepare_cached("SELECT 1 FROM changes WHERE id=?1")?.exists([id.0.as_bytes().as_slice()])?;
    if !exists {
        tracing::error!(change = %id, "the journal is damaged: it does not have a change that it was given");
    }
    Ok(())
}
