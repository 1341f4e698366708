//! What operators are shown, read from the journal.

use super::queue::goes_to;
use super::read::{id, names, time};
use super::{KnownDestination, SqlError, Store, change_state, delivery_state};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::status::{ChangeFilter, ChangeView, DeadLetterFilter, DeadLetterView, DeliveryView};
use rusqlite::{OptionalExtension, Row, named_params, params};
use std::sync::Arc;

/// Changes or dead letters shown at once where no limit is given.
const LISTED: u32 = 100;
/// The most changes or dead letters shown at once.
pub(crate) const LISTED_MAX: u32 = 1000;

/// Figures of one destination that the journal knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Deliveries that wait: those beyond the cursor, and those with a row.
    pub(crate) waiting: u64,
    /// The oldest of them.
    pub(crate) oldest: Option<u64>,
    pub(crate) parked_keys: u64,
    /// Deliveries that wait behind a dead letter.
    pub(crate) parked: u64,
    pub(crate) dead_letters: u64,
    pub(crate) next_at: Option<Timestamp>,
}

/// Figures of a destination whose worker has read up to `cursor`. Nothing waits for a detached one.
pub(crate) fn figures(
    store: &Store,
    destination: &KnownDestination,
    cursor: u64,
) -> Result<Figures, SqlError> {
    let id = destination.id;
    let count = |sql: &str| store.prepare_cached(sql)?.query_row([id], |row| row.get::<_, u64>(0));
    let dead_letters = count("SELECT count(*) FROM dead_letters WHERE destination=?1")?;
    if destination.is_detached {
        return Ok(Figures { dead_letters, ..Figures::default() });
    }
    let ahead = concat!(
        "SELECT count(*), min(c.sequence) FROM changes c WHERE c.sequence>:cursor AND ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=:id AND d.sequence=c.sequence)"
    );
    let (ahead, oldest_ahead): (u64, Option<u64>) = store.prepare_cached(ahead)?.query_row(
        named_params! {
            ":name": destination.quoted(), ":number": destination.adopted.number,
            ":routes": destination.adopted.routes, ":id": id, ":cursor": cursor.cast_signed(),
        },
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let (rows, oldest_row, next_at): (u64, Option<u64>, Option<u64>) = store
        .prepare_cached(
            "SELECT count(*), min(sequence), min(nullif(next_at, 0)) FROM deliveries
             WHERE destination=?1 AND state IN (0,1)",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (parked_keys, parked): (u64, u64) = store
        .prepare_cached(
            "SELECT count(DISTINCT key), count(*) FROM deliveries WHERE destination=?1 AND state=2",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Figures {
        waiting: ahead + rows,
        oldest: oldest_ahead.into_iter().chain(oldest_row).min(),
        parked_keys,
        parked,
        dead_letters,
        next_at: next_at.map(Timestamp::from_millis),
    })
}

/// Changes that match, oldest first, after the one that the filter names.
pub(crate) fn changes(store: &Store, filter: &ChangeFilter) -> Result<Vec<ChangeView>, SqlError> {
    let state =
        filter.state.as_deref().map(|word| change_state::WORDS.iter().position(|known| *known == word));
    // A state that does not exist has no changes.
    let state = match state {
        None => None,
        Some(None) => return Ok(Vec::new()),
        Some(Some(number)) => i64::try_from(number).ok(),
    };
    let after = match filter.after.as_deref().map(ChangeId::parse) {
        None => None,
        Some(None) => return Ok(Vec::new()),
        Some(Some(id)) => Some(id.0.as_bytes().to_vec()),
    };
    let quoted = filter.destination.as_ref().map(|name| serde_json::Value::from(name.as_str()).to_string());
    // Written out, so that the partial index of what has no outcome is used: a doubt is looked for often.
    let open = match state {
        Some(change_state::INTENT | change_state::IN_DOUBT) => "state IN (0,1) AND ",
        Some(_) | None => "",
    };
    let sql = format!(
        "SELECT id, key, sequence, state, route, source, method, target, recorded_at, destinations FROM changes
        WHERE {open}(?1 IS NULL OR state=?1) AND (?2 IS NULL OR key=?2) AND (?3 IS NULL OR instr(destinations, ?3)>0)
        AND (?4 IS NULL OR number>(SELECT number FROM changes WHERE id=?4)) ORDER BY number LIMIT ?5"
    );
    let mut statement = store.prepare_cached(&sql)?;
    let limit = filter.limit.unwrap_or(LISTED).min(LISTED_MAX);
    let rows = statement.query_map(params![state, filter.key, quoted, after, limit], change_row)?;
    rows.map(|row| with_deliveries(store, row?)).collect()
}

/// One change.
pub(crate) fn change(store: &Store, id: ChangeId) -> Result<Option<ChangeView>, SqlError> {
    let sql = "SELECT id, key, sequence, state, route, source, method, target, recorded_at, destinations FROM changes
        WHERE id=?1";
    let row = store.prepare_cached(sql)?.query_row([id.0.as_bytes().as_slice()], change_row).optional()?;
    row.map(|row| with_deliveries(store, row)).transpose()
}

fn change_row(row: &Row<'_>) -> Result<(ChangeView, Vec<String>), SqlError> {
    let state: usize = row.get(3)?;
    let view = ChangeView {
        id: id(row, 0)?.to_string(),
        key: row.get(1)?,
        sequence: row.get(2)?,
        state: (*change_state::WORDS.get(state).unwrap_or(&"unknown")).to_owned(),
        route: row.get(4)?,
        source: row.get(5)?,
        method: row.get(6)?,
        target: without_query(row.get(7)?),
        recorded_at: time(row, 8)?,
        deliveries: Vec::new(),
    };
    Ok((view, names(row, 9)?))
}

/// A query may carry what nobody but the source should read (I12).
fn without_query(mut target: String) -> String {
    target.truncate(target.find('?').unwrap_or(target.len()));
    target
}

fn with_deliveries(store: &Store, row: (ChangeView, Vec<String>)) -> Result<ChangeView, SqlError> {
    let (mut view, mut destinations) = row;
    // Without a place in a lane there is nothing to deliver yet.
    let Some(sequence) = view.sequence else { return Ok(view) };
    let adopted = "SELECT d.name FROM destinations d, changes c WHERE c.sequence=?1
        AND c.number<=d.adopted_number AND instr(d.adopted_routes, json_quote(c.route))>0
        AND instr(c.destinations, json_quote(d.name))=0";
    let mut adopted = store.prepare_cached(adopted)?;
    for name in adopted.query_map([sequence.cast_signed()], |row| row.get(0))? {
        destinations.push(name?);
    }
    let sql = "SELECT d.frontier, r.state, r.attempts, r.next_at, r.last_error FROM destinations d
        LEFT JOIN deliveries r ON r.destination=d.id AND r.sequence=?2 WHERE d.name=?1";
    let mut statement = store.prepare_cached(sql)?;
    for destination in destinations {
        let delivery = statement
            .query_row(params![destination, sequence.cast_signed()], |row| {
                let (frontier, state): (u64, Option<usize>) = (row.get(0)?, row.get(1)?);
                let state = match state {
                    Some(state) => delivery_state::WORDS.get(state).unwrap_or(&"unknown"),
                    None if sequence <= frontier => "delivered",
                    None => "waiting",
                };
                let next_at: Option<u64> = row.get(3)?;
                Ok(DeliveryView {
                    destination: destination.clone(),
                    state: state.to_owned(),
                    attempts: row.get::<_, Option<u32>>(2)?.unwrap_or_default(),
                    next_attempt_at: next_at.filter(|at| *at > 0).map(Timestamp::from_millis),
                    last_error: row.get(4)?,
                })
            })
            .optional()?;
        view.deliveries.extend(delivery);
    }
    Ok(view)
}

/// Dead letters that match, in key order.
pub(crate) fn dead_letters(
    store: &Store,
    filter: &DeadLetterFilter,
) -> Result<Vec<DeadLetterView>, SqlError> {
    let sql = "SELECT l.id, d.name, l.key, l.sequence, l.class, l.code, l.status, l.attempts, l.first_at, l.last_at,
        l.answer FROM dead_letters l JOIN destinations d ON d.id=l.destination
        WHERE (?1 IS NULL OR d.name=?1) AND (?2 IS NULL OR l.code=?2)
        AND (?3 IS NULL OR substr(l.key, 1, length(?3))=?3)
        AND (?4 IS NULL OR l.last_at>=?4) AND (?5 IS NULL OR l.last_at<?5)
        ORDER BY l.sequence LIMIT ?6";
    let millis = |at: Option<Timestamp>| at.map(|at| at.as_millis().cast_signed());
    let mut statement = store.prepare_cached(sql)?;
    let (since, until) = (millis(filter.since), millis(filter.until));
    let rows = statement.query_map(
        params![filter.destination, filter.code, filter.key_prefix, since, until, LISTED_MAX],
        |row| {
            Ok(DeadLetterView {
                change: id(row, 0)?.to_string(),
                destination: row.get(1)?,
                key: row.get(2)?,
                sequence: row.get(3)?,
                class: row.get(4)?,
                code: row.get(5)?,
                status: row.get(6)?,
                attempts: row.get(7)?,
                first_at: time(row, 8)?,
                last_at: time(row, 9)?,
                answer: row.get(10)?,
            })
        },
    )?;
    rows.collect()
}

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
) -> Result<Vec<Buried>, SqlError> {
    let sql = "SELECT sequence, key, overtaken FROM dead_letters WHERE destination=?1 AND sequence>?2
        AND (?3 IS NULL OR code=?3) AND (?4 IS NULL OR substr(key, 1, length(?4))=?4)
        AND (?5 IS NULL OR last_at>=?5) AND (?6 IS NULL OR last_at<?6) ORDER BY sequence LIMIT ?7";
    let millis = |at: Option<Timestamp>| at.map(|at| at.as_millis().cast_signed());
    let mut statement = store.prepare_cached(sql)?;
    let (since, until) = (millis(filter.since), millis(filter.until));
    let rows = statement.query_map(
        params![destination, after.cast_signed(), filter.code, filter.key_prefix, since, until, LISTED_MAX],
        |row| {
            Ok(Buried { sequence: row.get(0)?, key: row.get::<_, String>(1)?.into(), overtaken: row.get(2)? })
        },
    )?;
    rows.collect()
}
