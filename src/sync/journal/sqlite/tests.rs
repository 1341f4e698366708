mod steps;

use super::*;
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::{Enlisted, Progress, Record, Step, Suspect, Verdict};
use crate::sync::journal::tests::{head, intent};
use crate::sync::settings::Start;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// The tables of format 2, as they were made; those of format 1 had no `excused` and no `journal`.
const FORMAT_2: &str = "
PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;
CREATE TABLE changes(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, state INTEGER NOT NULL, sequence INTEGER UNIQUE,
  lane INTEGER NOT NULL, key TEXT NOT NULL, route TEXT NOT NULL, source TEXT NOT NULL, method TEXT NOT NULL,
  target TEXT NOT NULL, recorded_at INTEGER NOT NULL, destinations TEXT NOT NULL
);
CREATE INDEX changes_open ON changes(state, number) WHERE state IN (0, 1);
CREATE INDEX changes_unplaced ON changes(recorded_at) WHERE sequence IS NULL;
CREATE INDEX changes_key ON changes(key);
CREATE TABLE contents(number INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE destinations(
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, frontier INTEGER NOT NULL, paused INTEGER NOT NULL DEFAULT 0,
  waits_until INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE deliveries(
  destination INTEGER NOT NULL, sequence INTEGER NOT NULL, key TEXT NOT NULL, state INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, waited INTEGER NOT NULL DEFAULT 0, first_at INTEGER,
  answer_lost INTEGER NOT NULL DEFAULT 0, next_at INTEGER NOT NULL DEFAULT 0, last_error TEXT,
  PRIMARY KEY(destination, sequence)
) WITHOUT ROWID;
CREATE INDEX deliveries_key ON deliveries(destination, key, sequence);
CREATE INDEX deliveries_state ON deliveries(destination, state, sequence);
CREATE TABLE dead_letters(
  destination INTEGER NOT NULL, sequence INTEGER NOT NULL, id BLOB NOT NULL, key TEXT NOT NULL, class TEXT NOT NULL,
  code TEXT NOT NULL, status INTEGER, attempts INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
  answer TEXT NOT NULL, overtaken INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(destination, sequence)
) WITHOUT ROWID;
CREATE INDEX dead_letters_key ON dead_letters(destination, key);
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('last_sequence', 0);
INSERT INTO destinations(name, frontier) VALUES('d', 0);
";

fn outcome(number: u128, verdict: Verdict) -> Record {
    Record::outcome(ChangeId(Uuid::from_u128(number)), verdict)
}

fn write(store: &Store, record: &Record) -> u64 {
    apply(store, record, Timestamp::from_millis(1_700_000_000_000)).unwrap()
}

fn settled_to(frontier: u64) -> Record {
    Record::Progress(Box::new(Progress { destination: 1, frontier, step: Step::Spill { rows: vec![] } }))
}

/// A journal with five committed changes, one in doubt, and `d`, which has the first two of them.
fn journal(folder: &Path) -> Store {
    let store = open(folder).unwrap();
    register(&store, &["d".into()]).unwrap();
    let mut sequences = Vec::new();
    for number in 1..=5 {
        write(&store, &intent(number, 50));
        sequences.push(write(&store, &outcome(number, Verdict::Committed { key: None })));
    }
    write(&store, &intent(6, 50));
    write(&store, &outcome(6, Verdict::InDoubt));
    write(&store, &settled_to(sequences[1]));
    store
}

#[test]
fn what_is_written_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let store = journal(folder.path());
    assert_eq!(verify(&store, Depth::Content).unwrap(), []);
    // A change that got another key, and a row of every kind.
    write(&store, &intent(7, 10));
    let sequence = write(&store, &outcome(7, Verdict::Committed { key: Some("other".into()) }));
    let rows = vec![(Arc::from("other"), sequence, crate::sync::journal::record::Followers::Behind)];
    let spill = Progress { destination: 1, frontier: sequence, step: Step::Spill { rows } };
    write(&store, &Record::Progress(Box::new(spill)));
    write(&store, &Record::Pause { destination: 1, paused: true });
    assert_eq!(verify(&store, Depth::Content).unwrap(), []);
    let known = destinations(&store).unwrap().remove(0);
    assert_eq!(page(&store, known.id, 0, 100).unwrap().0.len(), 5, "the last one has a row");
    drop(store);
    assert!(examine(folder.path()).unwrap().sound);
}

/// Where a row is damaged in the file, of whichever table, that is seen. What stands for the flipped bit
/// is SQL without the triggers.
#[test]
fn every_row_that_decides_something_is_verified() {
    for damage in [
        "UPDATE destinations SET frontier=frontier+1",
        "UPDATE destinations SET paused=1",
        "UPDATE meta SET value=value+1 WHERE name='last_sequence'",
        "UPDATE anchors SET value=value+1 WHERE name='retained_to'",
        "DELETE FROM changes WHERE number=6",
        "DELETE FROM changes WHERE number=5",
        "DELETE FROM changes WHERE number=4",
        "INSERT INTO deliveries(destination, sequence, key, state, checksum) VALUES(1, 1, 'k', 0, 5)",
        "CREATE INDEX more ON changes(lane)",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = journal(folder.path());
        without_triggers(&store, damage);
        let found = verify(&store, Depth::Record);
        assert!(matches!(found, Err(Unverified::Damaged(_) | Unverified::Sql(_))), "{damage}: {found:?}");
        drop(store);
        assert!(!examine(folder.path()).unwrap().sound, "{damage}");
    }
    for (damage, number) in [
        ("UPDATE changes SET key='other' WHERE number=3", 3),
        ("UPDATE changes SET destinations='[]' WHERE number=3", 3),
        ("UPDATE changes SET target='/other' WHERE number=3", 3),
        ("UPDATE changes SET id=x'00' WHERE number=4", 4),
        ("UPDATE changes SET state=4 WHERE number=5", 5),
        ("UPDATE contents SET head=x'ff' WHERE number=3", 3),
        ("UPDATE contents SET body='text' WHERE number=4", 4),
        ("DELETE FROM contents WHERE number=5", 5),
        ("UPDATE changes SET key='other' WHERE number=6", 6),
        ("UPDATE contents SET body=x'00' WHERE number=6", 6),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = journal(folder.path());
        without_triggers(&store, damage);
        let suspects = verify(&store, Depth::Content).unwrap();
        assert_eq!(suspects.len(), 1, "{damage}: {suspects:?}");
        assert_eq!(write(&store, &Record::Quarantine { suspects: suspects.clone() }), 1, "{damage}");
        assert_eq!(write(&store, &Record::Quarantine { suspects: suspects.clone() }), 0, "{damage}: once");
        let of_state = crate::sync::status::ChangeFilter {
            state: Some(crate::sync::status::ChangeState::Damaged),
            ..Default::default()
        };
        let listed = changes(&store, &of_state).unwrap();
        assert_eq!((listed.len(), listed[0].state.as_str()), (1, "damaged"), "{damage}");
        assert_eq!(listed[0].key, format!("k{number}"), "{damage}: the key is known from its other place");
        let known = destinations(&store).unwrap().remove(0);
        let ahead = page(&store, known.id, known.frontier, 10).unwrap().0;
        let keys: Vec<_> = ahead.iter().map(|ahead| ahead.key.to_string()).collect();
        assert_eq!(keys, ["k3", "k4", "k5"], "{damage}: a damaged one keeps its place");
        if let [Suspect::Sequence(sequence)] = suspects[..] {
            let stored = load(&store, sequence).unwrap();
            assert!(matches!(stored, Some(Stored::Damaged { .. })), "{damage}: {stored:?}");
        }
        drop(store);
        let report = examine(folder.path()).unwrap();
        assert_eq!((report.sound, report.damaged_count), (false, 1), "{damage}: {report:?}");
        assert_eq!(report.damaged[0].number, number, "{damage}");
    }
}

/// Runs SQL as damage would do it: no checksum follows.
fn without_triggers(store: &Store, sql: &str) {
    store.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
    store.execute_batch(sql).unwrap();
    store.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true).unwrap();
}

#[test]
fn a_damaged_row_is_not_made_sound_by_what_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = journal(folder.path());
    without_triggers(
        &store,
        "UPDATE changes SET key='other' WHERE number=6; UPDATE destinations SET frontier=0",
    );
    write(&store, &outcome(6, Verdict::Committed { key: None }));
    write(&store, &settled_to(u64::MAX >> 2));
    let sound: bool = store
        .query_row(
            &format!("SELECT {} FROM changes c WHERE number=6", sealed::is_sound_change()),
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(!sound);
    assert!(verify::faults(&store).unwrap().iter().any(|fault| fault.contains("destinations")));
}

#[test]
fn older_formats_are_upgraded_in_place_and_used() {
    for format in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let old = Connection::open(folder.path().join(FILE)).unwrap();
        old.execute_batch(FORMAT_2).unwrap();
        if format == 2 {
            old.execute_batch(
                "ALTER TABLE deliveries ADD COLUMN excused INTEGER NOT NULL DEFAULT 0;
                 INSERT INTO meta VALUES('journal', random());",
            )
            .unwrap();
        }
        // Three changes: delivered, waiting, in doubt. The one before them was deleted by retention.
        for (number, state, sequence) in [(2, 2, Some(20)), (3, 2, Some(30)), (4, 1, None)] {
            let id = ChangeId(Uuid::from_u128(number));
            let (key, head) = (format!("k{number}"), postcard::to_stdvec(&head()).unwrap());
            old.execute(
                "INSERT INTO changes(id,state,sequence,lane,key,route,source,method,target,recorded_at,destinations)
                 VALUES(?1,?2,?3,0,?4,'r','s','PUT','/',1,'[\"d\"]')",
                rusqlite::params![id.0.as_bytes().as_slice(), state, sequence, key],
            )
            .unwrap();
            let sum = crate::sync::journal::record::checksum(id, &key, &head, b"body");
            old.execute(
                "INSERT INTO contents VALUES(?1,?2,?3,?4)",
                rusqlite::params![old.last_insert_rowid(), head, b"body".as_slice(), sum],
            )
            .unwrap();
        }
        old.execute_batch(
            "UPDATE meta SET value=30 WHERE name='last_sequence'; UPDATE destinations SET frontier=20",
        )
        .unwrap();
        old.pragma_update(None, "user_version", format).unwrap();
        drop(old);
        assert!(examine(folder.path()).is_err(), "an old one is read by a start");

        let store = open(folder.path()).unwrap();
        register(&store, &["d".into()]).unwrap();
        assert_eq!(verify(&store, Depth::Content).unwrap(), [], "format {format}");
        let known = destinations(&store).unwrap().remove(0);
        assert_eq!(page(&store, known.id, known.frontier, 10).unwrap().0.len(), 1);
        assert!(matches!(load(&store, 30).unwrap(), Some(Stored::Sound { .. })));
        assert_eq!(open_changes(&store, 0, 10).unwrap().len(), 1);
        assert_eq!(accepted_figures(&store).unwrap().len(), 0);
        write(&store, &outcome(4, Verdict::Committed { key: None }));
        assert_eq!(verify(&store, Depth::Content).unwrap(), []);
        let told = |number| {
            let view = change(&store, ChangeId(Uuid::from_u128(number))).unwrap().unwrap();
            let delivery = view.deliveries[0].clone();
            (delivery.state, delivery.attempts)
        };
        assert_eq!(told(2), ("delivered".to_owned(), None), "nobody noted then how it was delivered");
        assert_eq!(told(3), ("waiting".to_owned(), Some(0)));
        write(&store, &settled_to(u64::MAX >> 2));
        assert_eq!(told(3).0, "delivered", "of before format 3 no proof is asked for");
        assert_eq!(told(4), ("missed".to_owned(), Some(0)), "of this format it is");
        drop(store);
        let store = open(folder.path()).unwrap();
        register(&store, &["d".into()]).unwrap();
        assert_eq!(verify(&store, Depth::Content).unwrap(), [], "once more");
    }
}

/// Counts what a connection does, in hundreds of steps of `SQLite`'s machine.
fn counted(store: &mut Store) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let handler = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    store.progress_handler(100, Some(handler)).unwrap();
    count
}

/// 200,000 settled changes, written by SQL.
fn settled(folder: &Path) -> Store {
    let store = open(folder).unwrap();
    register(&store, &["d".into()]).unwrap();
    // Their checksums are not looked at: they are settled.
    without_triggers(&store, "PRAGMA synchronous=OFF; BEGIN;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200000)
             INSERT INTO changes(id,state,sequence,lane,key,route,source,method,target,recorded_at,destinations,previous)
               SELECT CAST(printf('%016d', i) AS BLOB), 2, i, 0, 'k'||(i%1000), 'r', 's', 'PUT', '/', i, '[\"d\"]', i-1 FROM n;
             INSERT INTO contents SELECT number, x'00', x'00', 0, NULL FROM changes;
             UPDATE meta SET value=200000 WHERE name='last_sequence';
             COMMIT; PRAGMA synchronous=FULL;");
    write(&store, &settled_to(200_000));
    for number in 1..=3 {
        write(&store, &intent(number, 10));
    }
    write(&store, &outcome(1, Verdict::Committed { key: None }));
    store
}

#[test]
fn i10_opening_and_running_read_what_is_unsettled_not_what_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    drop(settled(folder.path()));
    let mut store = open(folder.path()).unwrap();
    let steps = counted(&mut store);
    let measure = |what: &str, most: u64, act: &mut dyn FnMut(&Store)| {
        steps.store(0, Ordering::Relaxed);
        act(&store);
        let used = steps.load(Ordering::Relaxed) * 100;
        assert!(used <= most, "{what}: {used} steps");
    };
    measure("registering", 1000, &mut |store| register(store, &["d".into()]).unwrap());
    measure("verifying", 5000, &mut |store| assert_eq!(verify(store, Depth::Content).unwrap(), []));
    measure("open changes", 1000, &mut |store| assert_eq!(open_changes(store, 0, 100).unwrap().len(), 2));
    let mut known = destinations(&store_of(folder.path())).unwrap();
    let known = known.remove(0);
    measure("reading ahead", 1000, &mut |store| {
        assert_eq!(page(store, known.id, known.frontier, 100).unwrap().0.len(), 1);
    });
    measure("keys that wait", 1000, &mut |store| assert_eq!(open_keys(store, 1).unwrap().len(), 0));
    measure("one change", 1000, &mut |store| drop(load(store, 100_000).unwrap()));
    measure("figures", 1000, &mut |store| assert_eq!(figures(store, &known, 200_000).unwrap().waiting, 1));
    measure("a key", 1000, &mut |store| {
        assert_eq!(load_key(store, known.id, "k1", 200_000, Dead::Park, 16).unwrap().deliveries.len(), 1);
    });
    measure("a search of routes", 2000, &mut |store| {
        let found = search(store, known.id, 200_000, 200_000, 16, &HashMap::new()).unwrap();
        assert_eq!(found.iter().map(|found| found.keys.len()).sum::<usize>(), 1);
    });
    measure("a backlog", 1000, &mut |store| assert!(!exceeds(store, known.id, 4096).unwrap()));
    measure("a write", 2000, &mut |store| assert_eq!(write(store, &intent(9, 10)), 0));
    measure("an outcome", 2000, &mut |store| {
        assert!(write(store, &outcome(9, Verdict::Committed { key: None })) > 0);
    });
    let of = |state: Option<&str>, key: Option<&str>| crate::sync::status::ChangeFilter {
        state: state.and_then(crate::sync::status::ChangeState::parse),
        key: key.map(str::to_owned),
        limit: Some(5),
        ..Default::default()
    };
    measure("changes in doubt", 2000, &mut |store| {
        drop(changes(store, &of(Some("in-doubt"), None)).unwrap());
    });
    measure("damaged changes", 2000, &mut |store| drop(changes(store, &of(Some("damaged"), None)).unwrap()));
    measure("changes of a key", 20_000, &mut |store| drop(changes(store, &of(None, Some("k7"))).unwrap()));
    let long_ago = Timestamp::from_millis(0);
    measure("retention with nothing to do", 3000, &mut |store| {
        write(store, &Record::Retain { delivered_before: long_ago, after: 0 });
    });
}

fn store_of(folder: &Path) -> Store {
    open_reader(folder).unwrap()
}

/// A step of retention takes the writer some ten milliseconds of a release build; a step that looked at
/// everything would take seconds.
#[test]
fn i10_retention_goes_in_steps_and_gives_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = settled(folder.path());
    // The oldest thousand are dead letters: a pass goes around them, and does not begin with them again.
    store
        .execute_batch(
            "BEGIN; INSERT INTO deliveries(destination, sequence, key, state)
               SELECT 1, sequence, key, 3 FROM changes WHERE sequence<=1000; COMMIT; PRAGMA wal_checkpoint;",
        )
        .unwrap();
    let before = pages(&store).unwrap();
    let steps = counted(&mut store);
    let (mut after, mut rounds, mut most) = (0, 0, 0);
    loop {
        steps.store(0, Ordering::Relaxed);
        let transaction = store.transaction().unwrap();
        let soon = Timestamp::from_millis(u64::MAX >> 12);
        after = write(&transaction, &Record::Retain { delivered_before: soon, after });
        transaction.commit().unwrap();
        most = most.max(steps.load(Ordering::Relaxed) * 100);
        rounds += 1;
        if after == 0 {
            break;
        }
    }
    assert!((400..2000).contains(&rounds), "{rounds} steps");
    assert!(most <= 200_000, "a step of {most}");
    let left: u64 =
        store.query_row("SELECT count(*) FROM changes WHERE sequence<=200000", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1000, "dead letters stay");
    move_log(&store).unwrap();
    let now = pages(&store).unwrap();
    assert!(now.used_bytes < before.used_bytes / 10, "{before:?} {now:?}");
    assert!(now.file_bytes < before.file_bytes / 2 + (20 << 20), "{before:?} {now:?}");
    assert_eq!(verify(&store, Depth::Record).unwrap(), []);
}

/// What a destination has taken over of a route's history waits for it like any other change, also once it is
/// not in force any more.
#[test]
fn i2_what_was_taken_over_stays_until_it_is_had() {
    let folder = tempfile::tempdir().unwrap();
    let store = journal(folder.path());
    let route = head().route;
    let from_retention = Enlisted { name: "e".into(), start: Start::Retention { routes: vec![route] } };
    register(&store, &["d".into(), from_retention]).unwrap();
    register(&store, &["d".into()]).unwrap();
    write(&store, &settled_to(last_sequence(&store).unwrap()));
    let soon = Timestamp::from_millis(u64::MAX >> 12);
    let left = |store: &Store| -> u64 {
        write(store, &Record::Retain { delivered_before: soon, after: 0 });
        store.query_row("SELECT count(*) FROM changes WHERE state=2", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(left(&store), 5);
    let sql = "SELECT id FROM destinations WHERE name='e'";
    let destination = store.query_row(sql, [], |row| row.get(0)).unwrap();
    while write(&store, &Record::Forget { destination }) > 0 {}
    assert_eq!(left(&store), 0);
}

/// Somebody who reads for long holds the log up; then it counts, and is cut when they are done.
#[test]
fn i10_the_log_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = journal(folder.path());
    let log = || std::fs::metadata(folder.path().join(LOG)).unwrap().len();
    for number in 100..140 {
        write(&store, &intent(number, 1 << 20));
        assert_eq!(move_log(&store).unwrap(), 0);
    }
    assert!(log() < 16 << 20, "{}", log());
    let reader = open_reader(folder.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM changes;").unwrap();
    let mut left = 0;
    for number in 200..230 {
        write(&store, &intent(number, 1 << 20));
        left = move_log(&store).unwrap();
    }
    assert!(left > 20 << 20 && log() > 20 << 20, "{left} {}", log());
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(move_log(&store).unwrap(), 0);
    write(&store, &intent(300, 10));
    assert!(log() <= 16 << 20, "{}", log());
    drop(reader);
    close(store);
    assert!(!folder.path().join(LOG).exists());
}

/// A key whose row is damaged is not taken for a new one, nor its answer given.
#[test]
fn what_is_kept_of_an_idempotency_key_is_verified() {
    use crate::sync::answers::{ClientKey, Known};
    for damage in [
        "UPDATE answers SET state=4",
        "UPDATE answers SET accepted=1",
        "UPDATE answers SET until=until+1",
        "UPDATE answers SET fingerprint=x'00'",
        "UPDATE answers SET change=x'00000000000000000000000000000009'",
        "UPDATE answers SET head=x'c90100', body=x'00'",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = journal(folder.path());
        let Record::Intent(mut change) = intent(7, 1) else { unreachable!() };
        change.client_key = Some(ClientKey { scope: [1; 32], fingerprint: [2; 32] });
        write(&store, &Record::Intent(change));
        let known = || answer(&store, [1; 32], Timestamp::default()).unwrap();
        assert!(matches!(known(), Some(Known::Sound { .. })));
        store.execute_batch("DROP TRIGGER answers_resealed").unwrap();
        store.execute_batch(damage).unwrap();
        assert!(matches!(known(), Some(Known::Damaged)), "{damage}");
        drop(store);
        assert!(!examine(folder.path()).unwrap().sound, "{damage}");
    }
}
