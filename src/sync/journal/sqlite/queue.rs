//! What waits for one destination, as its worker reads it. Every query is bounded.

use super::read::time;
use super::{SqlError, Store};
use crate::clock::Timestamp;
use crate::sync::journal::record::Past;
use rusqlite::{Row, named_params, params};
use std::collections::HashMap;
use std::sync::Arc;

/// A destination as the journal knows it.
#[derive(Clone, Debug)]
pub(crate) struct KnownDestination {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) frontier: u64,
    pub(crate) paused: bool,
    pub(crate) waits_until: Timestamp,
    /// It fell behind its `backlog`: nothing is kept for it.
    pub(crate) is_detached: bool,
    pub(crate) adopted: Adopted,
}

/// The changes that a destination gets although it was not there when they were made: those up to
/// `number`, of these routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adopted {
    pub(crate) number: i64,
    /// A JSON array.
    pub(crate) routes: String,
}

impl KnownDestination {
    /// Its name as the journal quotes it in the destinations of a change.
    pub(super) fn quoted(&self) -> String {
        serde_json::Value::from(self.name.as_str()).to_string()
    }
}

/// Whether the change `c` goes to the destination: `:name` is quoted, `:routes` and `:number` are its
/// [`Adopted`]. Names hold no quotes.
macro_rules! goes_to {
    () => {
        "(instr(c.destinations, :name)>0 OR (c.number<=:number AND instr(:routes, json_quote(c.route))>0))"
    };
}
pub(super) use goes_to;

/// Every destination that the journal knows.
pub(crate) fn destinations(store: &Store) -> Result<Vec<KnownDestination>, SqlError> {
    let sql = "SELECT id, name, frontier, paused, waits_until, detached, adopted_number, adopted_routes
               FROM destinations ORDER BY name";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(KnownDestination {
            id: row.get(0)?,
            name: row.get(1)?,
            frontier: row.get(2)?,
            paused: row.get(3)?,
            waits_until: time(row, 4)?,
            is_detached: row.get(5)?,
            adopted: Adopted { number: row.get(6)?, routes: row.get(7)? },
        })
    })?;
    rows.collect()
}

/// A change on its way to one destination, as read ahead.
#[derive(Clone, Debug)]
pub(crate) struct Ahead {
    pub(crate) sequence: u64,
    pub(crate) key: Arc<str>,
    pub(crate) route: Arc<str>,
}

/// The next changes after `cursor` that go to `destination`, and how far was read.
pub(crate) fn page(
    store: &Store,
    destination: &KnownDestination,
    cursor: u64,
    limit: u32,
) -> Result<(Vec<Ahead>, u64), SqlError> {
    let sql = concat!(
        "SELECT c.sequence, c.key, c.route, ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=:id AND d.sequence=c.sequence)
          FROM changes c WHERE c.sequence>:cursor ORDER BY c.sequence LIMIT :limit"
    );
    let mut statement = store.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":name": destination.quoted(), ":number": destination.adopted.number,
        ":routes": destination.adopted.routes, ":id": destination.id, ":cursor": cursor.cast_signed(),
        ":limit": limit,
    })?;
    let (mut ahead, mut read_to) = (Vec::new(), cursor);
    while let Some(row) = rows.next()? {
        read_to = row.get(0)?;
        if row.get(3)? {
            ahead.push(Ahead { sequence: read_to, key: text(row, 1)?, route: text(row, 2)? });
        }
    }
    Ok((ahead, read_to))
}

/// Keys of one route with changes that have not been read ahead.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) route: Arc<str>,
    pub(crate) keys: Vec<Arc<str>>,
    /// How far was searched, where there may be more behind.
    pub(crate) more_behind: Option<u64>,
}

/// Changes of one route that a search looks at.
const SEARCHED_MAX: usize = 256;

/// For every route: keys of its changes after `from` that go to `destination`, at most `share`, or what
/// `apart` says of the route: from where on, and how many; never of those up to `cursor`.
pub(crate) fn search(
    store: &Store,
    destination: &KnownDestination,
    cursor: u64,
    from: u64,
    share: usize,
    apart: &HashMap<Arc<str>, (u64, usize)>,
) -> Result<Vec<Found>, SqlError> {
    let next_route = "SELECT min(route) FROM changes WHERE sequence IS NOT NULL AND route>?1";
    let mut next_route = store.prepare_cached(next_route)?;
    let (mut all, mut route) = (Vec::new(), String::new());
    while let Some(next) = next_route.query_row([&route], |row| row.get::<_, Option<String>>(0))? {
        let (after, room) = apart.get(next.as_str()).copied().unwrap_or((from, share));
        if room > 0 {
            all.push(search_route(store, destination, &next, after.max(cursor), room)?);
        }
        route = next;
    }
    Ok(all)
}

fn search_route(
    store: &Store,
    destination: &KnownDestination,
    route: &str,
    after: u64,
    room: usize,
) -> Result<Found, SqlError> {
    let sql = concat!(
        "SELECT c.sequence, c.key, ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=:id AND d.sequence=c.sequence)
          FROM changes c WHERE c.route=:route AND c.sequence>:after ORDER BY c.sequence"
    );
    let mut statement = store.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":name": destination.quoted(), ":number": destination.adopted.number,
        ":routes": destination.adopted.routes, ":id": destination.id, ":route": route,
        ":after": after.cast_signed(),
    })?;
    let mut found = Found { route: route.into(), keys: Vec::new(), more_behind: None };
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        if row.get(2)? {
            found.keys.push(text(row, 1)?);
        }
        looked_at += 1;
        if found.keys.len() >= room || looked_at >= SEARCHED_MAX {
            found.more_behind = Some(row.get(0)?);
            break;
        }
    }
    Ok(found)
}

/// Where a delivery that waits is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It has a row.
    Row,
    /// It has none: it has not been read ahead.
    Unread,
}

/// A delivery that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) sequence: u64,
    pub(crate) past: Past,
    pub(crate) route: Arc<str>,
    pub(crate) kept: Kept,
}

/// The oldest deliveries of a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) deliveries: Vec<Waiting>,
    /// There may be more that wait.
    pub(crate) has_more: bool,
    /// A dead letter parks what is newer.
    pub(crate) is_barred: bool,
}

/// What a dead letter does to newer changes of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dead {
    Park,
    LetPass,
}

/// The oldest deliveries of a key that wait: those with rows, and those after `cursor` without; none behind
/// a dead letter that parks.
pub(crate) fn load_key(
    store: &Store,
    destination: &KnownDestination,
    key: &str,
    cursor: u64,
    dead: Dead,
    limit: u32,
) -> Result<Loaded, SqlError> {
    let bar = match dead {
        Dead::LetPass => None,
        Dead::Park => oldest_dead_letter(store, destination.id, key)?,
    };
    let sql = concat!(
        "SELECT * FROM (
           SELECT d.sequence, coalesce(c.route, ''), d.attempts, d.excused, d.waited, d.first_at, d.answer_lost, 1
           FROM deliveries d LEFT JOIN changes c ON c.sequence=d.sequence
           WHERE d.destination=:id AND d.key=:key AND d.state IN (0,1,2) AND d.sequence<:bar
           ORDER BY d.sequence LIMIT :limit)
         UNION ALL SELECT * FROM (
           SELECT c.sequence, c.route, 0, 0, 0, NULL, 0, 0 FROM changes c
           WHERE c.key=:key AND c.sequence>:cursor AND c.sequence<:bar AND ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=:id AND d.sequence=c.sequence)
           ORDER BY c.sequence LIMIT :limit)
         ORDER BY 1 LIMIT :limit"
    );
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map(
        named_params! {
            ":name": destination.quoted(), ":number": destination.adopted.number,
            ":routes": destination.adopted.routes, ":id": destination.id, ":key": key,
            ":cursor": cursor.cast_signed(), ":bar": bar.unwrap_or(i64::MAX), ":limit": limit,
        },
        |row| {
            let (first_at, has_row): (Option<u64>, bool) = (row.get(5)?, row.get(7)?);
            let past = Past {
                attempts: row.get(2)?,
                excused: row.get(3)?,
                waited_millis: row.get(4)?,
                first_at: first_at.map(Timestamp::from_millis),
                answer_lost: row.get(6)?,
            };
            let kept = if has_row { Kept::Row } else { Kept::Unread };
            Ok(Waiting { sequence: row.get(0)?, past, route: text(row, 1)?, kept })
        },
    )?;
    let deliveries = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(Loaded { has_more: deliveries.len() >= limit as usize, deliveries, is_barred: bar.is_some() })
}

/// The oldest dead letter of a key that nothing newer has overtaken.
fn oldest_dead_letter(store: &Store, destination: i64, key: &str) -> Result<Option<i64>, SqlError> {
    store
        .prepare_cached(
            "SELECT min(sequence) FROM dead_letters WHERE destination=?1 AND key=?2 AND overtaken=0",
        )?
        .query_row(params![destination, key], |row| row.get(0))
}

/// A key with deliveries that have rows, as a worker finds it at start.
#[derive(Clone, Debug)]
pub(crate) struct OpenKey {
    pub(crate) key: Arc<str>,
    pub(crate) route: Arc<str>,
    pub(crate) next_at: Timestamp,
    /// Some of it waits, and is not parked.
    pub(crate) waits: bool,
    /// It has a dead letter that the destination has got nothing newer than.
    pub(crate) dead: bool,
    /// Its oldest delivery has failed before.
    pub(crate) repeat: bool,
}

/// Every key of a destination that waits behind a row or has a dead letter.
pub(crate) fn open_keys(store: &Store, destination: i64) -> Result<Vec<OpenKey>, SqlError> {
    let sql = "SELECT d.key, coalesce(min(c.route), ''), max(d.next_at), max(d.state IN (0,1)),
                 max(l.overtaken IS 0), max(d.state=0 AND d.attempts>d.excused)
               FROM deliveries d LEFT JOIN dead_letters l USING(destination, sequence)
               LEFT JOIN changes c ON c.sequence=d.sequence
               WHERE d.destination=?1 AND d.state IN (0,1,2,3) GROUP BY d.key ORDER BY min(d.sequence)";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map([destination], |row| {
        Ok(OpenKey {
            key: text(row, 0)?,
            route: text(row, 1)?,
            next_at: time(row, 2)?,
            waits: row.get(3)?,
            dead: row.get(4)?,
            repeat: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Whether what waits for a destination, parked changes included, is more than so many bytes. It reads no
/// further than to where that is known.
pub(crate) fn exceeds(store: &Store, id: i64, bytes: u64) -> Result<bool, SqlError> {
    let Some(destination) = destinations(store)?.into_iter().find(|destination| destination.id == id) else {
        return Ok(false);
    };
    let sql = concat!(
        "SELECT length(t.head)+length(t.body) FROM changes c JOIN contents t USING(number)
           WHERE c.sequence>:frontier AND ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=:id AND d.sequence=c.sequence)
         UNION ALL SELECT length(t.head)+length(t.body) FROM deliveries d JOIN changes c USING(sequence)
           JOIN contents t USING(number) WHERE d.destination=:id AND d.state IN (0,1,2)"
    );
    let mut statement = store.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":name": destination.quoted(), ":number": destination.adopted.number,
        ":routes": destination.adopted.routes, ":id": id, ":frontier": destination.frontier.cast_signed(),
    })?;
    let mut sum = 0_u64;
    while let Some(row) = rows.next()? {
        sum = sum.saturating_add(row.get(0)?);
        if sum > bytes {
            return Ok(!destination.is_detached);
        }
    }
    Ok(false)
}

fn text(row: &Row<'_>, column: usize) -> Result<Arc<str>, SqlError> {
    row.get::<_, String>(column).map(Into::into)
}
