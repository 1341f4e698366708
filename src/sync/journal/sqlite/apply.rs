//! Writes one record within the group's transaction.

use super::again::{arrange, discard, redrive, replay};
use super::decide::decide;
use super::sealed::{CHANGES, DELIVERIES, DESTINATIONS};
use super::{SqlError, Store, accepted, answers, change_state, delivery_state, destination, retain, settled};
use crate::clock::Timestamp;
use crate::sync::journal::record::{
    Followers, NewChange, Past, Progress, Record, Settled, Step, Suspect, checksum,
};
use crate::sync::key;
use crate::sync::settings::OnFailure;
use rusqlite::params;
use rusqlite::types::Null;
use std::sync::{Arc, LazyLock};

static RECORDED: LazyLock<String> = LazyLock::new(|| CHANGES.insert("INSERT"));
static WAITS: LazyLock<String> = LazyLock::new(|| DELIVERIES.insert("INSERT OR REPLACE"));
static MOVED: LazyLock<String> =
    LazyLock::new(|| DESTINATIONS.update(&[("frontier", "?2")]) + " WHERE id=?1 AND frontier<?2");

/// Writes a record; what it tells is a count, or the sequence that was given.
pub(crate) fn apply(store: &Store, record: &Record, now: Timestamp) -> Result<u64, SqlError> {
    match record {
        Record::Intent(change) => insert(store, change),
        Record::AtSource(step) => accepted::step(store, step, now),
        Record::Outcome { change, verdict, answer } => {
            decide(store, *change, verdict, answer.as_deref(), now)
        }
        Record::ForgetAnswers(forgetting) => answers::forget(store, *forgetting, now),
        Record::Progress(progress) => advance(store, progress, now),
        Record::InForce { destinations, .. } => super::register(store, destinations).map(|()| 0),
        Record::Adopt { destination, on_failure } => destination::adopt(store, *destination, *on_failure),
        Record::Redrive { destination, sequences, on_failure } => {
            redrive(store, *destination, sequences, *on_failure)
        }
        Record::Discard { destination, sequences } => discard(store, *destination, sequences),
        Record::Arrange { destination, key, on_failure, after } => {
            arrange(store, *destination, key, *on_failure, *after)
        }
        Record::Replay { destination, key, from } => replay(store, *destination, key, *from),
        Record::Pause { destination, paused: true } => store
            .prepare_cached("UPDATE destinations SET paused=1 WHERE id=?1")?
            .execute([destination])
            .map(|rows| rows as u64),
        Record::Pause { destination, paused: false } => destination::resume(store, *destination),
        Record::Wake { destination, after } => destination::wake(store, *destination, *after),
        Record::Clear { destination } => destination::clear(store, *destination),
        Record::Detach { destination } => destination::detach(store, *destination),
        Record::Attach { destination } => destination::attach(store, *destination),
        Record::Forget { destination } => destination::forget(store, *destination),
        Record::Proven { destination } => {
            let sql = "UPDATE destinations SET proven=1 WHERE id=?1";
            store.prepare_cached(sql)?.execute([destination]).map(|rows| rows as u64)
        }
        Record::Retain { delivered_before, after } => retain::retain(store, *delivered_before, *after),
        Record::Quarantine { suspects } => quarantine(store, suspects, now),
        Record::Flush => Ok(0),
    }
}

pub(super) fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, SqlError> {
    postcard::to_stdvec(value).map_err(|error| SqlError::ToSqlConversionFailure(Box::new(error)))
}

/// Writes an intent; tells the number of one that is accepted.
fn insert(store: &Store, change: &NewChange) -> Result<u64, SqlError> {
    let head = encode(&change.head)?;
    let destinations = serde_json::to_string(&change.destinations)
        .map_err(|error| SqlError::ToSqlConversionFailure(Box::new(error)))?;
    let for_source = change.for_source.as_ref().map(encode).transpose()?;
    store.prepare_cached(&RECORDED)?.execute(params![
        change.id.0.as_bytes().as_slice(),
        if change.accepted.is_some() { change_state::ACCEPTED } else { change_state::INTENT },
        Null,
        Null,
        key::lane(&change.key),
        change.key,
        change.head.route,
        change.head.source,
        change.head.method,
        change.head.path_and_query,
        change.recorded_at.as_millis().cast_signed(),
        destinations,
        for_source,
    ])?;
    let number = store.last_insert_rowid();
    let sum = checksum(change.id, &change.key, &head, &change.body);
    store
        .prepare_cached("INSERT INTO contents(number,head,body,checksum,key) VALUES(?1,?2,?3,?4,?5)")?
        .execute(params![number, head, change.body.as_ref(), sum, change.key])?;
    answers::take_key(store, change)?;
    let Some(acceptance) = &change.accepted else { return Ok(0) };
    accepted::enter(store, number, change, acceptance)?;
    Ok(number.unsigned_abs())
}

/// Lists changes as damaged; how many of them were not listed before.
fn quarantine(store: &Store, suspects: &[Suspect], now: Timestamp) -> Result<u64, SqlError> {
    let mut listed = 0;
    for suspect in suspects {
        let (column, value) = match suspect {
            Suspect::Number(number) => ("number", *number),
            Suspect::Sequence(sequence) => ("sequence", sequence.cast_signed()),
        };
        let sql = format!(
            "INSERT OR IGNORE INTO damaged(number, sequence, id, key, found_at)
             SELECT i.number, i.sequence, c.id, coalesce(t.key, c.key), ?2
             FROM (SELECT number, sequence FROM changes WHERE {column}=?1) i
             LEFT JOIN changes c ON c.number=i.number LEFT JOIN contents t ON t.number=i.number"
        );
        let at = now.as_millis().cast_signed();
        listed += store.prepare_cached(&sql)?.execute(params![value, at])? as u64;
    }
    Ok(listed)
}

/// Tells of a dead letter up to where what it parks has been marked so; 0: all of it.
fn advance(store: &Store, progress: &Progress, now: Timestamp) -> Result<u64, SqlError> {
    let mut marked_to = 0;
    let (destination, frontier) = (progress.destination, progress.frontier.cast_signed());
    match &progress.step {
        Step::Settle { key, sequence, settled, attempts } => {
            settle(store, progress, key, *sequence, *settled)?;
            settled::note(store, destination, *sequence, *attempts, now)?;
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
                marked_to = arrange(store, destination, key, *on_failure, 0)?;
            }
        }
        Step::Spill { rows } => spill(store, destination, rows)?,
    }
    // Rows that only said "settled beyond the frontier" have no meaning behind it.
    store
        .prepare_cached(
            "DELETE FROM deliveries WHERE destination=?1 AND state=4 AND sequence<=?2
             AND sequence>(SELECT frontier FROM destinations WHERE id=?1)",
        )?
        .execute([destination, frontier])?;
    store.prepare_cached(&MOVED)?.execute([destination, frontier])?;
    Ok(marked_to)
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
        Settled::Superseded => delivery_state::SUPERSEDED,
    };
    let row = Row { destination: progress.destination, sequence, key, state };
    put(store, &row, &Past::default(), None, None)
}

/// Rows for changes that were read and have to wait.
fn spill(store: &Store, destination: i64, rows: &[(Arc<str>, u64, Followers)]) -> Result<(), SqlError> {
    for (key, sequence, followers) in rows {
        let state = match followers {
            Followers::Parked if is_behind_dead(store, destination, key, *sequence)? => {
                delivery_state::PARKED
            }
            Followers::Parked | Followers::Behind => delivery_state::BEHIND,
        };
        put_all(store, destination, key, std::slice::from_ref(sequence), state)?;
    }
    Ok(())
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
    store.prepare_cached(&WAITS)?.execute(params![
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
        past.redriven,
        past.replay,
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
