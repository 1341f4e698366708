//! What is done in steps, what a worker finds at start, and what a journal at rest is examined for.

use super::*;
use crate::sync::answers::{ClientKey, KeptAnswer, KeptHead};
use crate::sync::journal::record::{Followers, Settled};
use crate::sync::settings::OnFailure;

fn deliveries_of(store: &Store, state: i64) -> u64 {
    let sql = "SELECT count(*) FROM deliveries WHERE state=?1";
    store.query_row(sql, [state], |row| row.get(0)).unwrap()
}

/// A destination with `count` deliveries of one key that wait, the first of which is a dead letter.
fn hot_key(store: &Store, count: i64) {
    store.execute_batch("INSERT INTO destinations(name, frontier) VALUES('d', 0)").unwrap();
    store
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?1)
             INSERT INTO deliveries(destination, sequence, key, state, next_at, attempts)
             SELECT 1, i, 'k', CASE i WHEN 1 THEN 3 ELSE 1 END, 7, 1 FROM n",
            [count],
        )
        .unwrap();
    let sql = "INSERT INTO dead_letters(destination, sequence, id, key, class, code, attempts, first_at, last_at, answer)
               VALUES(1, 1, x'00', 'k', 'permanent', 'http_status', 1, 1, 1, '')";
    store.execute(sql, []).unwrap();
}

/// Rows that a record changed, besides what it tells.
fn changed(store: &Store, record: &Record) -> (u64, u64) {
    let before = store.total_changes();
    (write(store, record), store.total_changes() - before)
}

/// Whatever an operator does to a destination or a key with very many rows, no other write waits for long.
#[test]
fn i10_what_is_done_to_a_whole_destination_goes_in_steps() {
    let store = in_memory();
    hot_key(&store, 1600);
    let bound = u64::from(STEP_ROWS);
    let arrange = |after, on_failure| Record::Arrange { destination: 1, key: "k".into(), on_failure, after };
    for (on_failure, parked) in [(OnFailure::ParkKey, 1599), (OnFailure::Skip, 0)] {
        let (mut after, mut steps) = (0, 0);
        loop {
            let (next, rows) = changed(&store, &arrange(after, on_failure));
            // Each row is sealed anew by its trigger.
            assert!(rows <= 2 * bound, "{rows}");
            (after, steps) = (next, steps + 1);
            if after == 0 {
                break;
            }
        }
        assert_eq!((steps, deliveries_of(&store, delivery_state::PARKED)), (4, parked));
    }
    store.execute_batch("UPDATE deliveries SET state=0 WHERE state=1").unwrap();
    let (mut after, mut woken) = (write(&store, &Record::Wake { destination: 1, after: 0 }), 1);
    while after > 0 {
        let (next, rows) = changed(&store, &Record::Wake { destination: 1, after });
        assert!(rows <= 2 * bound, "{rows}");
        (after, woken) = (next, woken + 1);
    }
    let waits: u64 = store
        .query_row("SELECT count(*) FROM deliveries WHERE state=0 AND next_at>0", [], |row| row.get(0))
        .unwrap();
    assert_eq!((woken, waits), (4, 0));
    store.execute_batch("INSERT INTO settled(destination, sequence, at, attempts) SELECT 1, sequence, 1, 1 FROM deliveries").unwrap();
    let clear = || changed(&store, &Record::Clear { destination: 1 });
    assert_eq!(clear().0, bound + 1, "rows, and a dead letter that was overtaken");
    while clear().0 > 0 {}
    assert_eq!((deliveries_of(&store, 0), deliveries_of(&store, 3)), (0, 1));
    let forget = || changed(&store, &Record::Forget { destination: 1 });
    let (told, rows) = forget();
    assert!(told > 0 && rows <= 3 * bound, "{told} {rows}");
    while forget().0 > 0 {}
    for table in ["destinations", "deliveries", "dead_letters", "settled"] {
        let left: u64 =
            store.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
    store.execute_batch("INSERT INTO destinations(name, frontier) VALUES('d', 0)").unwrap();
    assert_eq!(destinations(&store).unwrap()[0].id, 2, "a later one is another");
}

/// What a key waits for is what its oldest delivery waits for.
#[test]
fn a_key_is_due_when_its_oldest_delivery_is() {
    let store = in_memory();
    store
        .execute_batch(
            "INSERT INTO destinations(name, frontier) VALUES('d', 0);
             INSERT INTO deliveries(destination, sequence, key, state, next_at, attempts) VALUES
               (1, 1, 'redriven', 0, 0, 0), (1, 2, 'redriven', 1, 9000, 3),
               (1, 3, 'failed', 0, 5000, 1), (1, 4, 'failed', 1, 0, 0), (1, 5, 'failed', 1, 8000, 2);",
        )
        .unwrap();
    let open = open_keys(&store, 1).unwrap();
    let told: Vec<_> =
        open.iter().map(|key| (key.key.as_ref(), key.next_at.as_millis(), key.waits, key.repeat)).collect();
    assert_eq!(told, [("redriven", 0, true, false), ("failed", 5000, true, true)]);
}

/// What a journal at rest is examined for reaches every row that says something.
#[test]
fn what_is_settled_undone_or_kept_for_a_key_is_examined_too() {
    for damage in [
        "UPDATE settled SET attempts=9",
        "UPDATE answers SET body=x'ff'",
        "UPDATE answers SET until=1",
        "UPDATE contents SET body=x'ff' WHERE number=7",
        "UPDATE contents SET head=x'ff' WHERE number=9",
        "DELETE FROM contents WHERE number=7",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = journal(folder.path());
        write(&store, &intent(7, 10));
        write(&store, &outcome(7, Verdict::Aborted));
        let mut kept = intent(8, 10);
        if let Record::Intent(change) = &mut kept {
            change.client_key = Some(ClientKey { scope: [1; 32], fingerprint: [2; 32] });
        }
        write(&store, &kept);
        let head = KeptHead { status: 200, fields: Vec::new() };
        let answer = Some(Box::new(KeptAnswer { head, body: "answer".into() }));
        let (change, verdict) = (ChangeId(Uuid::from_u128(8)), Verdict::Committed { key: None });
        let sequence = write(&store, &Record::Outcome { change, verdict, answer });
        let mut accepted = intent(9, 10);
        if let Record::Intent(change) = &mut accepted {
            let on_refusal = crate::sync::settings::OnRefusal::Skip;
            let (turn, conditions) = (Some("k9".into()), Vec::new());
            change.accepted =
                Some(crate::sync::journal::at_source::Acceptance { turn, on_refusal, conditions });
        }
        write(&store, &accepted);
        for _ in 0..2 {
            let settled = Settled::Delivered;
            let step = Step::Settle { key: "k8".into(), sequence, settled, attempts: 1 };
            write(&store, &Record::Progress(Box::new(Progress { destination: 1, frontier: 0, step })));
        }
        assert!(examine(folder.path()).unwrap().sound, "{damage}");
        without_triggers(&store, damage);
        drop(store);
        assert!(!examine(folder.path()).unwrap().sound, "{damage}");
    }
}

/// A change that waits and is not there is damage of the whole journal, and no dead letter.
#[test]
fn a_change_that_waits_and_is_lost_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = journal(folder.path());
    let first: u64 = store.query_row("SELECT min(sequence) FROM changes", [], |row| row.get(0)).unwrap();
    let rows = vec![(Arc::from("k1"), first, Followers::Behind)];
    let spill = Progress { destination: 1, frontier: 0, step: Step::Spill { rows } };
    write(&store, &Record::Progress(Box::new(spill)));
    assert_eq!(verify(&store, Depth::Record).unwrap(), []);
    without_triggers(&store, &format!("DELETE FROM changes WHERE sequence={first}"));
    assert!(load(&store, first).unwrap().is_none());
    assert!(not_found(&store, first, 1).is_err_and(|error| is_corrupt(&error)));
    let found = verify(&store, Depth::Record);
    assert!(
        matches!(&found, Err(Unverified::Damaged(text)) if text.contains("1 changes that wait")),
        "{found:?}"
    );
    write(&store, &Record::Detach { destination: 1 });
    assert!(not_found(&store, first, 1).is_ok(), "nothing is kept for one that is detached");
}
