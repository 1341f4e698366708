//! What operators are shown, read from the journal.

use super::queue::goes_to;
use super::read::{id, names, time};
use super::settled::SETTLED;
use super::{KnownDestination, SqlError, Store, accepted, change_state, delivery_state};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::dead_letters::LetterPlace;
use crate::sync::status::{
    ChangeFilter, ChangeState, ChangeView, DeadLetterFilter, DeadLetterView, DeliveryView,
};
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, params};

/// Changes shown at once where no limit is given.
const LISTED: u32 = 100;
/// The most changes or dead letters shown at once.
pub(crate) const LISTED_MAX: u32 = 1000;

/// Figures of one destination that the journal knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Deliveries that wait: those beyond the cursor, and those with a row.
    pub(crate) waiting: u64,
    /// The oldest of them that the destination has never had.
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
    let dead_letters = store
        .prepare_cached("SELECT count(*) FROM dead_letters WHERE destination=?1")?
        .query_row([id], |row| row.get(0))?;
    if destination.is_detached {
        return Ok(Figures { dead_letters, ..Figures::default() });
    }
    let ahead = concat!(
        "SELECT count(*), min(c.sequence) FROM destinations t CROSS JOIN changes c
         WHERE t.id=?1 AND c.sequence>?2 AND ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=t.id AND d.sequence=c.sequence)"
    );
    let (ahead, oldest_ahead): (u64, Option<u64>) = store
        .prepare_cached(ahead)?
        .query_row(params![id, cursor.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (rows, oldest_row, next_at): (u64, Option<u64>, Option<u64>) = store
        .prepare_cached(
            "SELECT count(*), min(CASE replay WHEN 0 THEN sequence END), min(nullif(next_at, 0)) FROM deliveries
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

/// What [`change_row`] reads.
const COLUMNS: &str =
    "c.id, c.key, c.sequence, c.state, c.route, c.source, c.method, c.target, c.recorded_at,
    c.destinations, d.number IS NOT NULL, d.id, d.key, d.sequence";

/// Changes that match, oldest first, after the one that the filter names.
pub(crate) fn changes(store: &Store, filter: &ChangeFilter) -> Result<Vec<ChangeView>, SqlError> {
    let is_damaged = filter.state == Some(ChangeState::Damaged);
    let state = filter.state.filter(|_| !is_damaged).map(|state| state as i64);
    let after = filter.after.map(|id| id.0.as_bytes().to_vec());
    let after_at = filter.after.map(|id| id.made_at().as_millis().cast_signed());
    let quoted = filter.destination.as_ref().map(|name| serde_json::Value::from(name.as_str()).to_string());
    // Written out, so that the indexes of what is damaged, what has no outcome, and of keys are used.
    let (from, number) = if is_damaged {
        ("damaged d LEFT JOIN changes c ON c.number=d.number", "d.number")
    } else {
        ("changes c LEFT JOIN damaged d ON d.number=c.number", "c.number")
    };
    let of_state = match state {
        Some(change_state::INTENT | change_state::IN_DOUBT) => "c.state IN (0,1) AND c.state=?1",
        Some(change_state::ACCEPTED | change_state::REFUSED) => {
            "c.number IN (SELECT number FROM accepted) AND c.state=?1"
        }
        Some(_) => "c.state=?1",
        None => "?1 IS NULL",
    };
    let of_key = if filter.key.is_some() { "c.key=?2" } else { "?2 IS NULL" };
    let sql = format!(
        // A cursor that retention has deleted stands for its time.
        "SELECT {COLUMNS} FROM {from} WHERE {of_state} AND {of_key}
         AND (?3 IS NULL OR instr(c.destinations, ?3)>0)
         AND (?4 IS NULL OR {number}>coalesce((SELECT number FROM changes WHERE id=?4),
                                              (SELECT number FROM damaged WHERE id=?4))
              OR (c.recorded_at>=?5 AND NOT EXISTS(SELECT 1 FROM changes WHERE id=?4)
                  AND NOT EXISTS(SELECT 1 FROM damaged WHERE id=?4)))
         ORDER BY {number} LIMIT ?6"
    );
    let mut statement = store.prepare_cached(&sql)?;
    let limit = filter.limit.unwrap_or(LISTED).min(LISTED_MAX);
    let rows = statement
        .query_map(params![state, filter.key, quoted, after, after_at, limit], |row| Ok(change_row(row)))?;
    rows.map(|row| with_deliveries(store, row?)).collect()
}

/// One change.
pub(crate) fn change(store: &Store, id: ChangeId) -> Result<Option<ChangeView>, SqlError> {
    let sql =
        format!("SELECT {COLUMNS} FROM changes c LEFT JOIN damaged d ON d.number=c.number WHERE c.id=?1");
    let found =
        store.prepare_cached(&sql)?.query_row([id.0.as_bytes().as_slice()], |row| Ok(change_row(row)));
    found.optional()?.map(|row| with_deliveries(store, row)).transpose()
}

/// The state of a change, as stored.
pub(crate) fn state(store: &Store, id: ChangeId) -> Result<Option<i64>, SqlError> {
    let sql = "SELECT state FROM changes WHERE id=?1";
    store.prepare_cached(sql)?.query_row([id.0.as_bytes().as_slice()], |row| row.get(0)).optional()
}

/// A damaged row is shown as far as it can be read.
fn change_row(row: &Row<'_>) -> (ChangeView, Vec<String>) {
    let text = |column: usize| match row.get_ref(column) {
        Ok(ValueRef::Text(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let is_damaged = row.get(10).unwrap_or(false);
    let key = Some(text(12)).filter(|key| !key.is_empty()).unwrap_or_else(|| text(1));
    let state = row.get::<_, usize>(3).ok().and_then(|state| change_state::WORDS.get(state).copied());
    let view = ChangeView {
        id: id(row, 0).or_else(|_| id(row, 11)).map_or_else(|_| "unknown".to_owned(), |id| id.to_string()),
        key,
        sequence: row.get(2).or_else(|_| row.get(13)).unwrap_or_default(),
        state: if is_damaged { "damaged" } else { state.unwrap_or("unknown") }.to_owned(),
        route: text(4),
        source: text(5),
        method: text(6),
        target: without_query(text(7)),
        recorded_at: time(row, 8).unwrap_or_default(),
        at_source: None,
        deliveries: Vec::new(),
    };
    (view, names(row, 9).unwrap_or_default())
}

/// A query may carry what nobody but the source should read (I12).
fn without_query(mut target: String) -> String {
    target.truncate(target.find('?').unwrap_or(target.len()));
    target
}

fn with_deliveries(store: &Store, row: (ChangeView, Vec<String>)) -> Result<ChangeView, SqlError> {
    let (mut view, mut destinations) = row;
    // Without a place in a lane there is nothing to deliver yet.
    let Some(sequence) = view.sequence else {
        view.at_source =
            ChangeId::parse(&view.id).map(|id| accepted::at_source(store, id)).transpose()?.flatten();
        return Ok(view);
    };
    let adopted = "SELECT d.name FROM destinations d, changes c WHERE c.sequence=?1
        AND c.number<=d.adopted_number AND instr(d.adopted_routes, json_quote(c.route))>0
        AND instr(c.destinations, json_quote(d.name))=0";
    let mut adopted = store.prepare_cached(adopted)?;
    for name in adopted.query_map([sequence.cast_signed()], |row| row.get(0))? {
        destinations.push(name?);
    }
    let sql = format!(
        "SELECT d.frontier, r.state, r.attempts, r.next_at, r.last_error, CASE WHEN {sound} THEN s.attempts END,
           CASE WHEN {sound} THEN s.at END, d.detached,
           s.destination IS NOT NULL OR ?2<=(SELECT value FROM anchors WHERE name='unproven_to')
         FROM destinations d LEFT JOIN deliveries r ON r.destination=d.id AND r.sequence=?2
         LEFT JOIN settled s ON s.destination=d.id AND s.sequence=?2 WHERE d.name=?1",
        sound = SETTLED.is_sound("s")
    );
    let mut statement = store.prepare_cached(&sql)?;
    for destination in destinations {
        let delivery = statement
            .query_row(params![destination, sequence.cast_signed()], |row| {
                let (frontier, state): (u64, Option<i64>) = (row.get(0)?, row.get(1)?);
                let (is_detached, had_it): (bool, bool) = (row.get(7)?, row.get(8)?);
                let state = match state {
                    Some(0..=2) | None if is_detached && !had_it => "missed",
                    Some(state) => {
                        let word = usize::try_from(state).ok().and_then(|at| delivery_state::WORDS.get(at));
                        word.unwrap_or(&"unknown")
                    }
                    None if sequence > frontier => "waiting",
                    None if had_it => "delivered",
                    None => "missed",
                };
                let next_at: Option<u64> = row.get(3)?;
                let settled_at: Option<u64> = row.get(6)?;
                let attempts: Option<u32> = match state {
                    // A journal of before format 3 does not tell.
                    "delivered" | "absent" | "superseded" => row.get(5)?,
                    _ => Some(row.get::<_, Option<u32>>(2)?.unwrap_or_default()),
                };
                Ok(DeliveryView {
                    destination: destination.clone(),
                    state: state.to_owned(),
                    attempts,
                    settled_at: settled_at.map(Timestamp::from_millis),
                    next_attempt_at: next_at.filter(|at| *at > 0).map(Timestamp::from_millis),
                    last_error: row.get(4)?,
                })
            })
            .optional()?;
        view.deliveries.extend(delivery);
    }
    Ok(view)
}

/// Dead letters of destinations that match, behind the place of a sequence and a destination, in key order.
pub(crate) fn dead_letters(
    store: &Store,
    filter: &DeadLetterFilter,
    (sequence, destination): (i64, i64),
    limit: u32,
) -> Result<Vec<(LetterPlace, DeadLetterView)>, SqlError> {
    let sql = "SELECT l.id, d.name, l.key, l.sequence, l.class, l.code, l.status, l.attempts, l.first_at, l.last_at,
        l.answer, l.destination FROM dead_letters l JOIN destinations d ON d.id=l.destination
        WHERE (?1 IS NULL OR d.name=?1) AND (?2 IS NULL OR l.code=?2)
        AND (?3 IS NULL OR substr(l.key, 1, length(?3))=?3)
        AND (?4 IS NULL OR l.last_at>=?4) AND (?5 IS NULL OR l.last_at<?5) AND (?6 IS NULL OR l.id=?6)
        AND (l.sequence, l.destination)>(?7, ?8) ORDER BY l.sequence, l.destination LIMIT ?9";
    let millis = |at: Option<Timestamp>| at.map(|at| at.as_millis().cast_signed());
    let mut statement = store.prepare_cached(sql)?;
    let (since, until) = (millis(filter.since), millis(filter.until));
    let change = filter.change.map(|id| id.0.as_bytes().to_vec());
    let DeadLetterFilter { destination: name, code, key_prefix, .. } = filter;
    let rows = statement.query_map(
        params![name, code, key_prefix, since, until, change, sequence, destination, limit],
        |row| {
            let place = LetterPlace::Delivery { sequence: row.get(3)?, destination: row.get(11)? };
            let letter = DeadLetterView {
                change: id(row, 0)?.to_string(),
                destination: row.get(1)?,
                source: None,
                key: row.get(2)?,
                sequence: row.get(3)?,
                class: row.get(4)?,
                code: row.get(5)?,
                status: row.get(6)?,
                attempts: row.get(7)?,
                first_at: time(row, 8)?,
                last_at: time(row, 9)?,
                answer: row.get(10)?,
            };
            Ok((place, letter))
        },
    )?;
    rows.collect()
}
