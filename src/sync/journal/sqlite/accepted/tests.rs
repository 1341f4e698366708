use super::super::{apply, schema, sealed, verify};
use super::*;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::Record;
use crate::sync::journal::tests::head;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Copy, Debug)]
enum Happening {
    Accept { key: usize, on_refusal: OnRefusal },
    Commit { key: usize },
    Refuse { key: usize },
    RedriveAll,
    Discard { key: usize },
}

fn happening() -> impl Strategy<Value = Happening> {
    let key = || 0..KEYS.len();
    let on_refusal = prop_oneof![Just(OnRefusal::Skip), Just(OnRefusal::ParkKey)];
    prop_oneof![
        4 => (key(), on_refusal).prop_map(|(key, on_refusal)| Happening::Accept { key, on_refusal }),
        3 => key().prop_map(|key| Happening::Commit { key }),
        2 => key().prop_map(|key| Happening::Refuse { key }),
        1 => Just(Happening::RedriveAll),
        1 => key().prop_map(|key| Happening::Discard { key }),
    ]
}

fn store() -> Store {
    let mut store = Store::open_in_memory().unwrap();
    sealed::teach(&store).unwrap();
    schema::make(&mut store, 0).unwrap();
    store
}

fn write(store: &Store, record: &Record) -> u64 {
    apply(store, record, Timestamp::from_millis(5)).unwrap()
}

fn accept(store: &Store, key: &str, on_refusal: OnRefusal) {
    let change = NewChange {
        id: ChangeId(uuid::Uuid::from_u128(fastrand::u128(..))),
        key: key.into(),
        destinations: Vec::new(),
        head: head(),
        body: Bytes::new(),
        recorded_at: Timestamp::from_millis(1),
        client_key: None,
        for_source: None,
        accepted: Some(Acceptance { turn: Some(key.into()), on_refusal, conditions: Vec::new() }),
    };
    write(store, &Record::Intent(Box::new(change)));
}

/// The change whose turn it is, if any, and its id.
fn next(store: &Store, key: &str) -> Option<(i64, ChangeId)> {
    let sql =
        "SELECT number, c.id FROM accepted JOIN changes c USING(number) WHERE turn=?1 AND accepted.state=0";
    let found = store.query_row(sql, [key], |row| Ok((row.get(0)?, id(row, 1)?))).optional();
    found.unwrap()
}

fn dead(store: &Store, key: Option<&str>) -> Vec<i64> {
    let mut statement =
        store.prepare("SELECT number FROM accepted WHERE state=3 AND (?1 IS NULL OR turn=?1)").unwrap();
    statement.query_map([key], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn at_source(store: &Store, step: AtSource) -> u64 {
    write(store, &Record::AtSource(Box::new(step)))
}

fn refuse(store: &Store, number: i64, change: ChangeId) {
    let last_at = Timestamp::from_millis(2);
    let burial = Burial {
        change,
        class: "permanent",
        code: "http_status",
        status: None,
        last_at,
        answer: String::new(),
    };
    at_source(store, AtSource::Bury { number, past: Past::default(), burial: Box::new(burial) });
}

/// Number, state, and whether it parks, of every row of a key in order.
fn rows(store: &Store, key: &str) -> Vec<(i64, i64, bool)> {
    let sql = "SELECT number, state, parks AND NOT overtaken FROM accepted WHERE turn=?1 ORDER BY number";
    let mut statement = store.prepare(sql).unwrap();
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    statement.query_map([key], read).unwrap().map(Result::unwrap).collect()
}

fn check(store: &Store) {
    for key in KEYS {
        let rows = rows(store, key);
        let refused = rows.iter().find(|(_, state, parks)| *state == 3 && *parks).map(|row| row.0);
        for (at, (number, state, _)) in rows.iter().enumerate() {
            let is_first = !rows[..at].iter().any(|(_, state, _)| matches!(state, 0 | 1));
            let is_behind_refused = refused.is_some_and(|refused| *number > refused);
            let right = match state {
                0 => is_first && !is_behind_refused,
                1 => !is_first && !is_behind_refused,
                2 => is_behind_refused,
                _ => true,
            };
            assert!(right, "{number} of {key} among {rows:?}");
        }
    }
}

proptest! {
    /// Whatever happens, the oldest of a key that may go is next, it alone, and nothing comes to the
    /// source after what is newer.
    #[test]
    fn i3_one_of_a_key_is_next_and_never_an_older_one_after_a_newer(
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let store = store();
        let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
        for happening in happenings {
            match happening {
                Happening::Accept { key, on_refusal } => accept(&store, KEYS[key], on_refusal),
                Happening::Commit { key } => {
                    if let Some((number, change)) = next(&store, KEYS[key]) {
                        prop_assert!(newest.insert(KEYS[key], number).is_none_or(|before| before < number));
                        let verdict = Verdict::Committed { key: None };
                        let sequence = write(&store, &Record::outcome(change, verdict));
                        prop_assert!(sequence > 0);
                    }
                }
                Happening::Refuse { key } => {
                    if let Some((number, change)) = next(&store, KEYS[key]) {
                        refuse(&store, number, change);
                        // Written once more, after a commit whose result was unknown, it changes nothing.
                        let before = rows(&store, KEYS[key]);
                        refuse(&store, number, change);
                        prop_assert_eq!(before, rows(&store, KEYS[key]));
                    }
                }
                Happening::RedriveAll => {
                    let due = dead(&store, None).into_iter().map(|number| (number, Timestamp::default()));
                    at_source(&store, AtSource::Redrive { due: due.collect() });
                }
                Happening::Discard { key } => {
                    let numbers: Vec<i64> = dead(&store, Some(KEYS[key])).into_iter().take(1).collect();
                    let count = numbers.len() as u64;
                    prop_assert_eq!(at_source(&store, AtSource::Discard { numbers }), count);
                }
            }
            check(&store);
        }
        prop_assert_eq!(verify::faults(&store).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn what_was_altered_on_the_disk_is_not_sent() {
    let store = store();
    accept(&store, "a", OnRefusal::Skip);
    let (number, _) = next(&store, "a").unwrap();
    let sound =
        || matches!(to_send(&store, number).unwrap().unwrap().content, super::super::Stored::Sound { .. });
    assert!(sound());
    store
        .execute_batch("DROP TRIGGER accepted_resealed; UPDATE accepted SET conditions=x'0101610162'")
        .unwrap();
    assert!(!sound());
    assert!(!verify::faults(&store).unwrap().is_empty());
}
