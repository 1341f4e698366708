//! Writes one record within the group's transaction.

use super::{SqlError, Store, change_state, delivery_state, destination};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::failpoint;
use crate::sync::journal::record::{
    Followers, Head, NewChange, Past, Progress, Record, Settled, Step, Verdict, checksum, first_sequence,
    next_sequence,
};
use crate::sync::key;
use crate::sync::settings::OnFailure;
use rusqlite::{OptionalExtension, params};
use std::sync::Arc;

/// Changes that one step of retention deletes at most.
const RETENTION_STEP_CHANGES: i64 = 500;

/// Writes a record; what it tells is a count, or the sequence that was given.
pub(crate) fn apply(store: &Store, record: &Record, now: Timestamp) -> Result<u64, SqlError> {
    match record {
        Record::Intent(change) => insert(store, change).map(|()| 0),
        Record::Outcome { change, verdict } => decide(store, *change, verdict, now),
        Record::Progress(progress) => advance(store, progress).map(|()| 0),
        Record::Adopt { destination, on_failure } => destination::adopt(store, *destination, *on_failure),
        Record::Redrive { destination, sequences, on_failure } => {
            redrive(store, *destination, sequences, *on_failure)
        }
        Record::Discard { destination, sequences } => discard(store, *destination, sequences),
        Record::Pause { destination, paused: true } => store
            .prepare_cached("UPDATE destinations SET paused=1 WHERE id=?1")?
            .execute([destination])
            .map(|rows| rows as u64),
        Record::Pause { destination, paused: false } => destination::resume(store, *destination),
        Record::Detach { destination } => destination::detach(store, *destination),
        Record::Attach { destination } => destination::attach(store, *destination),
        Record::Forget { destination } => destination::forget(store, *destination),
        Record::Retain { delivered_before } => retain(store, *delivered_before),
        Record::Flush => Ok(0),
    }
}

fn encode(head: &Head) -> Result<Vec<u8>, SqlError> {
    postcard::to_stdvec(head).map_err(|error| SqlError::ToSqlConversionFailure(Box::new(error)))
}

fn insert(store: &Store, change: &NewChange) -> Result<(), SqlError> {
    let head = encode(&change.head)?;
    let destinations = serde_json::to_string(&change.destinations)
        .map_err(|error| SqlError::ToSqlConversionFailure(Box::new(error)))?;
    let sql = "INSERT INTO changes(id,state,lane,key,route,source,method,target,recorded_at,destinations)
               VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)";
    store.prepare_cached(sql)?.execute(params![
        change.id.0.as_bytes().as_slice(),
        change_state::INTENT,
        key::lane(&change.key),
        change.key,
        change.head.route,
        change.head.source,
        change.head.method,
        change.head.path_and_query,
        change.recorded_at.as_millis().cast_signed(),
        destinations,
    ])?;
    let sum = checksum(change.id, &change.key, &head, &change.body);
    store
        .prepare_cached("INSERT INTO contents(number,head,body,checksum) VALUES(?1,?2,?3,?4)")?
        .execute(params![store.last_insert_rowid(), head, change.body.as_ref(), sum])?;
    Ok(())
}

/// Writes an outcome over a change that has none yet. The rows of a decided change are left alone,
/// so that an outcome written twice (after a commit whose result was unknown) changes nothing.
fn decide(store: &Store, id: ChangeId, verdict: &Verdict, now: Timestamp) -> Result<u64, SqlError> {
    let id_bytes = id.0.as_bytes().as_slice();
    let open = store
        .prepare_cached("SELECT number, key FROM changes WHERE id=?1 AND state IN (0,1)")?
        .query_row([id_bytes], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let Some((number, old_key)) = open else { return Ok(0) };
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
    let sequence = match state {
        change_state::COMMITTED | change_state::RECONCILED => Some(take_sequence(store, now)?),
        _ => None,
    };
    store.prepare_cached("UPDATE changes SET state=?2, sequence=?3 WHERE number=?1")?.execute(params![
        number,
        state,
        sequence.map(u64::cast_signed)
    ])?;
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
    store.prepare_cached("UPDATE contents SET checksum=?2 WHERE number=?1")?.execute(params![number, sum])?;
    Ok(())
}

fn take_sequence(store: &Store, now: Timestamp) -> Result<u64, SqlError> {
    let last: i64 = store
        .prepare_cached("SELECT value FROM meta WHERE name='last_sequence'")?
        .query_row([], |row| row.get(0))?;
    let sequence = next_sequence(last.cast_unsigned(), now);
    store
        .prepare_cached("UPDATE meta SET value=?1 WHERE name='last_sequence'")?
        .execute([sequence.cast_signed()])?;
    Ok(sequence)
}

fn advance(store: &Store, progress: &Progress) -> Result<(), SqlError> {
    let (destination, frontier) = (progress.destination, progress.frontier.cast_signed());
    match &progress.step {
        Step::Settle { key, sequence, settled } => {
            settle(store, progress, key, *sequence, *settled)?;
            store
                .prepare_cached(
                    "UPDATE dead_letters SET overtaken=1 WHERE destination=?1 AND key=?2 AND sequence<?3",
                )?
                .execute(params![destination, key.as_ref(), sequence.cast_signed()])?;
        }
        Step::Defer { key, sequence, past, next_at, last_error, behind, destination_waits_until } => {
            let row = Row { destination, sequence: *sequence, key, state: delivery_state::WAITING };
            put(store, &row, past, Some(*next_at), Some(last_error))?;
            put_all(store, destination, key, behind, delivery_state::BEHIND)?;
            if let Some(until) = destination_waits_until {
                store
                    .prepare_cached("UPDATE destinations SET waits_until=?2 WHERE id=?1")?
                    .execute(params![destination, until.as_millis().cast_signed()])?;
            }
        }
        Step::Bury { key, sequence, past, burial, followers, on_failure } => {
            let row = Row { destination, sequence: *sequence, key, state: delivery_state::DEAD };
            put(store, &row, past, None, Some(burial.code))?;
            let sql = "INSERT OR REPLACE INTO dead_letters
                (destination,sequence,id,key,class,code,status,attempts,first_at,last_at,answer)
                VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)";
            store.prepare_cached(sql)?.execute(params![
                destination,
                sequence.cast_signed(),
                burial.change.0.as_bytes().as_slice(),
                key.as_ref(),
                burial.class,
                burial.code,
                burial.status,
                past.attempts,
                past.first_at.unwrap_or(burial.last_at).as_millis().cast_signed(),
                burial.last_at.as_millis().cast_signed(),
                burial.answer,
            ])?;
            if *on_failure == OnFailure::ParkKey {
                put_all(store, destination, key, followers, delivery_state::PARKED)?;
                store
                    .prepare_cached(
                        "UPDATE deliveries SET state=2 WHERE destination=?1 AND key=?2 AND state=1",
                    )?
                    .execute(params![destination, key.as_ref()])?;
            }
        }
        Step::Spill { rows } => {
            for (key, sequence, followers) in rows {
                let state = match followers {
                    Followers::Parked if is_behind_dead(store, destination, key, *sequence)? => {
                        delivery_state::PARKED
                    }
                    Followers::Parked | Followers::Behind => delivery_state::BEHIND,
                };
                put_all(store, destination, key, std::slice::from_ref(sequence), state)?;
            }
        }
    }
    // Rows that only said "settled beyond the frontier" have no meaning behind it.
    store
        .prepare_cached(
            "DELETE FROM deliveries WHERE destination=?1 AND state=4 AND sequence<=?2
             AND sequence>(SELECT frontier FROM destinations WHERE id=?1)",
        )?
        .execute([destination, frontier])?;
    store
        .prepare_cached("UPDATE destinations SET frontier=?2 WHERE id=?1 AND frontier<?2")?
        .execute([destination, frontier])?;
    Ok(())
}

fn settle(
    store: &Store,
    progress: &Progress,
    key: &Arc<str>,
    sequence: u64,
    settled: Settled,
) -> Result<(), SqlError> {
    let state = match settled {
        Settled::Delivered if sequence <= progress.frontier => {
            store
                .prepare_cached("DELETE FROM deliveries WHERE destination=?1 AND sequence=?2")?
                .execute([progress.destination, sequence.cast_signed()])?;
            return Ok(());
        }
        Settled::Delivered => delivery_state::DELIVERED,
        Settled::Absent => delivery_state::ABSENT,
    };
    let row = Row { destination: progress.destination, sequence, key, state };
    put(store, &row, &Past::default(), None, None)
}

/// Whether an older dead letter of its key is left that nothing has overtaken.
fn is_behind_dead(store: &Store, destination: i64, key: &str, sequence: u64) -> Result<bool, SqlError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM dead_letters
               WHERE destination=?1 AND key=?2 AND overtaken=0 AND sequence<?3)";
    store.prepare_cached(sql)?.query_row(params![destination, key, sequence.cast_signed()], |row| row.get(0))
}

struct Row<'a> {
    destination: i64,
    sequence: u64,
    key: &'a Arc<str>,
    state: i64,
}

fn put(
    store: &Store,
    row: &Row<'_>,
    past: &Past,
    next_at: Option<Timestamp>,
    last_error: Option<&str>,
) -> Result<(), SqlError> {
    let sql = "INSERT OR REPLACE INTO deliveries
        (destination,sequence,key,state,attempts,excused,waited,first_at,answer_lost,next_at,last_error)
        VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)";
    store.prepare_cached(sql)?.execute(params![
        row.destination,
        row.sequence.cast_signed(),
        row.key.as_ref(),
        row.state,
        past.attempts,
        past.excused,
        past.waited_millis.cast_signed(),
        past.first_at.map(|at| at.as_millis().cast_signed()),
        past.answer_lost,
        next_at.unwrap_or_default().as_millis().cast_signed(),
        last_error,
    ])?;
    Ok(())
}

/// Rows for changes that wait; one that has a row already keeps its past.
fn put_all(
    store: &Store,
    destination: i64,
    key: &Arc<str>,
    sequences: &[u64],
    state: i64,
) -> Result<(), SqlError> {
    let sql = "INSERT INTO deliveries(destination,sequence,key,state) VALUES(?1,?2,?3,?4)
               ON CONFLICT(destination,sequence) DO UPDATE SET state=?4";
    let mut statement = store.prepare_cached(sql)?;
    for sequence in sequences {
        statement.execute(params![destination, sequence.cast_signed(), key.as_ref(), state])?;
    }
    Ok(())
}

fn redrive(
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
        let sql = "UPDATE deliveries SET attempts=0, excused=0, waited=0, next_at=0,
            state=CASE WHEN ?3 AND EXISTS(SELECT 1 FROM dead_letters l WHERE l.destination=?1
              AND l.key=deliveries.key AND l.overtaken=0 AND l.sequence<?2) THEN 2 ELSE 0 END
            WHERE destination=?1 AND sequence=?2";
        store.prepare_cached(sql)?.execute(params![
            destination,
            sequence.cast_signed(),
            on_failure == OnFailure::ParkKey
        ])?;
        unpark(store, destination, *sequence)?;
    }
    Ok(redriven)
}

fn discard(store: &Store, destination: i64, sequences: &[u64]) -> Result<u64, SqlError> {
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
        unpark(store, destination, *sequence)?;
    }
    Ok(discarded)
}

/// What was parked behind a dead letter waits as usual, up to the next one that parks.
fn unpark(store: &Store, destination: i64, sequence: u64) -> Result<(), SqlError> {
    let sql = "UPDATE deliveries SET state=1 WHERE destination=?1 AND state=2
               AND key=(SELECT key FROM deliveries WHERE destination=?1 AND sequence=?2)
               AND sequence<coalesce((SELECT min(sequence) FROM dead_letters WHERE destination=?1 AND overtaken=0
                 AND key=(SELECT key FROM deliveries WHERE destination=?1 AND sequence=?2)), 9223372036854775807)";
    store.prepare_cached(sql)?.execute([destination, sequence.cast_signed()])?;
    Ok(())
}

/// Deletes up to a step of the changes that every destination has settled, those not in force any more
/// included and detached ones left out, by the time of their
/// sequence, so that only what goes is read; and of those that never became one; how many.
fn retain(store: &Store, delivered_before: Timestamp) -> Result<u64, SqlError> {
    let sql = "SELECT number FROM changes WHERE
        sequence <= min(?1, (SELECT coalesce(min(frontier), 9223372036854775807) FROM destinations
                             WHERE id IN (SELECT value FROM active) AND detached=0))
        AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.sequence=changes.sequence
                       AND d.destination IN (SELECT id FROM destinations)
                       AND (d.state=3 OR (d.state IN (0,1,2) AND d.destination IN
                            (SELECT id FROM destinations WHERE detached=0))))
        AND NOT EXISTS(SELECT 1 FROM destinations t WHERE t.id NOT IN (SELECT value FROM active)
                       AND t.detached=0 AND t.frontier<changes.sequence
                       AND instr(changes.destinations, json_quote(t.name))>0)
        ORDER BY sequence LIMIT ?2";
    // The destinations in force are a temporary table of this connection: see `read::register`.
    let mut numbers = numbers(store, sql, first_sequence(delivered_before).cast_signed())?;
    let aborted =
        "SELECT number FROM changes WHERE sequence IS NULL AND state=4 AND recorded_at < ?1 LIMIT ?2";
    numbers.extend(self::numbers(store, aborted, delivered_before.as_millis().cast_signed())?);
    for number in &numbers {
        store
            .prepare_cached(
                "DELETE FROM deliveries WHERE destination IN (SELECT id FROM destinations)
                 AND sequence=(SELECT sequence FROM changes WHERE number=?1)",
            )?
            .execute([number])?;
        store.prepare_cached("DELETE FROM contents WHERE number=?1")?.execute([number])?;
        store.prepare_cached("DELETE FROM changes WHERE number=?1")?.execute([number])?;
    }
    if !numbers.is_empty() {
        failpoint::reach(failpoint::RETENTION_STEP);
    }
    Ok(numbers.len() as u64)
}

fn numbers(store: &Store, sql: &str, up_to: i64) -> Result<Vec<i64>, SqlError> {
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map([up_to, RETENTION_STEP_CHANGES], |row| row.get(0))?;
    rows.collect()
}
