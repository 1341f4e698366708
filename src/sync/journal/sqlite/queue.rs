//! What waits for one destination, as its worker reads it. Every query is bounded.

use super::read::time;
use super::sealed::is_sound_change;
use super::verify::{Links, is_corrupt};
use super::{SqlError, Store, pages};
use crate::clock::Timestamp;
use crate::sync::journal::record::Past;
use rusqlite::{Row, params};
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
    /// It has taken a delivery at some time.
    pub(crate) proven: bool,
    /// It fell behind its `backlog`: nothing is kept for it.
    pub(crate) is_detached: bool,
}

/// Whether a change, `c` unless it is called otherwise, goes to the destination `t`, as SQL: the change names
/// it, or it has adopted those of its route that were there before it. Names hold no quotes.
macro_rules! goes_to {
    () => {
        goes_to!("c")
    };
    ($c:literal) => {
        concat!(
            "(instr(",
            $c,
            ".destinations, json_quote(t.name))>0 OR (",
            $c,
            ".number<=t.adopted_number AND instr(t.adopted_routes, json_quote(",
            $c,
            ".route))>0))"
        )
    };
}
pub(super) use goes_to;

/// Every destination that the journal knows.
pub(crate) fn destinations(store: &Store) -> Result<Vec<KnownDestination>, SqlError> {
    let sql =
        "SELECT id, name, frontier, paused, waits_until, proven, detached FROM destinations ORDER BY name";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(KnownDestination {
            id: row.get(0)?,
            name: row.get(1)?,
            frontier: row.get(2)?,
            paused: row.get(3)?,
            waits_until: time(row, 4)?,
            proven: row.get(5)?,
            is_detached: row.get(6)?,
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

/// The next changes after `cursor` that go to a destination, and how far was read.
pub(crate) fn page(
    store: &Store,
    destination: i64,
    cursor: u64,
    limit: u32,
) -> Result<(Vec<Ahead>, u64), SqlError> {
    // Of a damaged record the key stands beside its content too; without one it has a lane of its own.
    let sql = format!(
        "SELECT i.sequence, c.key, c.route, {}, c.previous,
           EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=t.id AND d.sequence=i.sequence),
           c.sequence IS i.sequence AND {},
           (SELECT k.key FROM contents k WHERE k.number=i.number)
         FROM (SELECT sequence, number FROM changes WHERE sequence>?1 ORDER BY sequence LIMIT ?2) i
         JOIN destinations t ON t.id=?3 LEFT JOIN changes c ON c.number=i.number ORDER BY i.sequence",
        goes_to!(),
        is_sound_change()
    );
    let mut links = Links::new(store, cursor.cast_signed())?;
    let mut statement = store.prepare_cached(&sql)?;
    let mut rows = statement.query(params![cursor.cast_signed(), limit, destination])?;
    let (mut ahead, mut read_to) = (Vec::new(), cursor);
    while let Some(row) = rows.next()? {
        let sequence: u64 = row.get(0)?;
        let is_sound = row.get::<_, Option<bool>>(6)?.unwrap_or(false);
        links.follow(sequence.cast_signed(), if is_sound { row.get(4)? } else { None })?;
        read_to = sequence;
        let has_row: bool = row.get(5)?;
        if has_row {
            continue;
        }
        if !is_sound {
            let key = row.get::<_, String>(7).or_else(|_| row.get(1));
            let key = key.unwrap_or_else(|_| format!("damaged-{sequence}")).into();
            let route = text(row, 2).unwrap_or_else(|_| Arc::from(""));
            ahead.push(Ahead { sequence, key, route });
        } else if row.get(3)? {
            ahead.push(Ahead { sequence, key: text(row, 1)?, route: text(row, 2)? });
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
    destination: i64,
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
    destination: i64,
    route: &str,
    after: u64,
    room: usize,
) -> Result<Found, SqlError> {
    let sql = concat!(
        "SELECT c.sequence, c.key, ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=t.id AND d.sequence=c.sequence)
          FROM destinations t CROSS JOIN changes c
          WHERE t.id=?1 AND c.route=?2 AND c.sequence>?3 ORDER BY c.sequence"
    );
    let mut statement = store.prepare_cached(sql)?;
    let mut rows = statement.query(params![destination, route, after.cast_signed()])?;
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
    destination: i64,
    key: &str,
    cursor: u64,
    dead: Dead,
    limit: u32,
) -> Result<Loaded, SqlError> {
    let bar = match dead {
        Dead::LetPass => None,
        Dead::Park => oldest_dead_letter(store, destination, key)?,
    };
    let before = bar.unwrap_or(i64::MAX);
    let mut deliveries = with_rows(store, destination, key, before, limit)?;
    deliveries.extend(unread(store, destination, key, cursor, before, limit)?);
    deliveries.sort_unstable_by_key(|waiting| waiting.sequence);
    let limit = limit as usize;
    let has_more = deliveries.len() >= limit;
    deliveries.truncate(limit);
    Ok(Loaded { deliveries, has_more, is_barred: bar.is_some() })
}

fn with_rows(
    store: &Store,
    destination: i64,
    key: &str,
    before: i64,
    limit: u32,
) -> Result<Vec<Waiting>, SqlError> {
    let sql = "SELECT sequence, attempts, excused, waited, first_at, answer_lost, redriven, replay
        FROM deliveries WHERE destination=?1 AND key=?2 AND state IN (0,1,2) AND sequence<?3
        ORDER BY sequence LIMIT ?4";
    let mut statement = store.prepare_cached(sql)?;
    let rows = statement.query_map(params![destination, key, before, limit], |row| {
        let first_at: Option<u64> = row.get(4)?;
        let past = Past {
            attempts: row.get(1)?,
            excused: row.get(2)?,
            waited_millis: row.get(3)?,
            first_at: first_at.map(Timestamp::from_millis),
            answer_lost: row.get(5)?,
            redriven: row.get(6)?,
            replay: row.get(7)?,
        };
        Ok((row.get(0)?, past))
    })?;
    rows.map(|row| {
        let (sequence, past): (u64, Past) = row?;
        // The route only says whose turn it takes: a damaged change does without.
        let route = store
            .prepare_cached("SELECT route FROM changes WHERE sequence=?1")?
            .query_row([sequence.cast_signed()], |row| text(row, 0))
            .unwrap_or_else(|_| Arc::from(""));
        Ok(Waiting { sequence, past, route, kept: Kept::Row })
    })
    .collect()
}

fn unread(
    store: &Store,
    destination: i64,
    key: &str,
    cursor: u64,
    before: i64,
    limit: u32,
) -> Result<Vec<Waiting>, SqlError> {
    // Of the index alone: what it leads to may be damaged, and is told as such when it is delivered.
    let sql = "SELECT i.sequence, i.number FROM changes i WHERE i.key=?1 AND i.sequence>?2 AND i.sequence<?3
        AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=?4 AND d.sequence=i.sequence)
        ORDER BY i.sequence";
    let mut statement = store.prepare_cached(sql)?;
    let mut rows = statement.query(params![key, cursor.cast_signed(), before, destination])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (sequence, number): (u64, i64) = (row.get(0)?, row.get(1)?);
        if let Some(route) = route_to(store, destination, number)? {
            found.push(Waiting { sequence, past: Past::default(), route, kept: Kept::Unread });
        }
        if found.len() >= limit as usize {
            break;
        }
    }
    Ok(found)
}

/// The route of a change that goes to a destination; what is damaged goes to all, to be told of.
fn route_to(store: &Store, destination: i64, number: i64) -> Result<Option<Arc<str>>, SqlError> {
    let sql = format!(
        "SELECT {}, {}, c.route FROM destinations t CROSS JOIN changes c WHERE t.id=?1 AND c.number=?2",
        is_sound_change(),
        goes_to!()
    );
    let found = store.prepare_cached(&sql)?.query_row([destination, number], |row| {
        let is_sound = row.get::<_, Option<bool>>(0)?.unwrap_or(false);
        if !is_sound || row.get(1)? { text(row, 2).map(Some) } else { Ok(None) }
    });
    match found {
        Err(error) if is_corrupt(&error) => Ok(Some(Arc::from(""))),
        found => found,
    }
}

/// The oldest dead letter of a key that nothing newer has overtaken.
pub(super) fn oldest_dead_letter(
    store: &Store,
    destination: i64,
    key: &str,
) -> Result<Option<i64>, SqlError> {
    store
        .prepare_cached(
            "SELECT min(sequence) FROM dead_letters WHERE destination=?1 AND key=?2 AND overtaken=0",
        )?
        .query_row(params![destination, key], |row| row.get(0))
}

/// Whether what waits for a destination, parked changes included, is more than so many bytes. It reads no
/// further than to where that is known.
pub(crate) fn exceeds(store: &Store, destination: i64, bytes: u64) -> Result<bool, SqlError> {
    // What waits for it is a part of the journal.
    if pages(store)?.used_bytes <= bytes {
        return Ok(false);
    }
    let sql = concat!(
        "SELECT length(k.head)+length(k.body) FROM destinations t CROSS JOIN changes c
           JOIN contents k USING(number) WHERE t.id=?1 AND t.detached=0 AND c.sequence>t.frontier AND ",
        goes_to!(),
        " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.destination=t.id AND d.sequence=c.sequence)
         UNION ALL SELECT length(k.head)+length(k.body) FROM deliveries d JOIN destinations t ON t.id=d.destination
           JOIN changes c ON c.sequence=d.sequence JOIN contents k ON k.number=c.number
           WHERE d.destination=?1 AND t.detached=0 AND d.state IN (0,1,2)"
    );
    let mut statement = store.prepare_cached(sql)?;
    let mut rows = statement.query([destination])?;
    let mut sum = 0_u64;
    while let Some(row) = rows.next()? {
        sum = sum.saturating_add(row.get(0)?);
        if sum > bytes {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn text(row: &Row<'_>, column: usize) -> Result<Arc<str>, SqlError> {
    row.get::<_, String>(column).map(Into::into)
}
