//! The journal alone, on real files.

use super::record::{Head, NewChange, Verdict};
use super::*;
use crate::sync::change::ChangeId;
use bytes::Bytes;
use std::time::Duration;
use uuid::Uuid;

/// Nothing in these tests takes longer.
const DEADLINE: Duration = Duration::from_mins(1);

fn open(folder: &Path, max_size_bytes: u64) -> Journal {
    Journal::open(folder, max_size_bytes, vec!["d".into()], Clock::system()).unwrap()
}

pub(super) fn head() -> Head {
    Head {
        route: "r".into(),
        source: "s".into(),
        method: "PUT".into(),
        authority: "h".into(),
        client_path_and_query: "/".into(),
        path_and_query: "/".into(),
        fields: Vec::new(),
        known_etag: None,
    }
}

pub(super) fn intent(number: u128, body: usize) -> Record {
    Record::Intent(Box::new(NewChange {
        id: ChangeId(Uuid::from_u128(number)),
        key: format!("k{number}"),
        destinations: vec!["d".into()],
        head: head(),
        body: Bytes::from(vec![b'x'; body]),
        recorded_at: Timestamp::from_millis(1),
        accepted: None,
        client_key: None,
        for_source: None,
    }))
}

fn committed(number: u128) -> Record {
    Record::outcome(ChangeId(Uuid::from_u128(number)), Verdict::Committed { key: None })
}

#[tokio::test]
async fn i2_what_is_told_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), 1 << 30);
    for number in 0..100 {
        journal.write(intent(number, 10)).await.unwrap();
    }
    let first = journal.write(committed(0)).await.unwrap();
    let second = journal.write(committed(1)).await.unwrap();
    assert!(second > first);
    assert_eq!(journal.write(committed(0)).await, Ok(0), "an outcome is written once");
    journal.close().await;
    assert_eq!(journal.write(committed(2)).await, Err(Unwritten));
    drop(journal);
    let journal = open(folder.path(), 1 << 30);
    let open_ones = journal.readers().read(|store| sqlite::open_changes(store, 0, 1000)).await.unwrap();
    assert_eq!(open_ones.len(), 98);
    assert!(journal.write(committed(2)).await.unwrap() > second);
    journal.close().await;
}

#[tokio::test]
async fn commits_are_shared_by_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), 1 << 30);
    let mut told = Vec::new();
    for number in 0..2000 {
        told.push(journal.submit(intent(number, 10)).await.unwrap());
    }
    for told in told {
        assert_eq!(told.await.unwrap(), Ok(0));
    }
    let commits = journal.commits();
    assert!(commits < 1000, "2,000 records took {commits} commits");
    journal.close().await;
}

#[tokio::test]
async fn i11_a_failed_commit_acknowledges_nothing_until_it_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), 1 << 30);
    journal.write(intent(1, 10)).await.unwrap();
    // Somebody holds the write lock for longer than the writer waits: the commit fails.
    let mut other = sqlite::open(folder.path()).unwrap();
    let lock = other.transaction_with_behavior(sqlite::IMMEDIATE).unwrap();
    let outcome = journal.submit(committed(1)).await.unwrap();
    let refused = tokio::time::timeout(DEADLINE, journal.write(intent(2, 10))).await.unwrap();
    assert_eq!(refused, Err(Unwritten));
    assert_eq!(journal.health(), Health::Failed);
    drop(lock);
    drop(other);
    let sequence = tokio::time::timeout(DEADLINE, outcome).await.unwrap().unwrap().unwrap();
    assert!(sequence > 0, "an outcome is kept until it can be written");
    let mut health = journal.shared.health.subscribe();
    tokio::time::timeout(DEADLINE, health.wait_for(|health| *health == Health::Sound))
        .await
        .unwrap()
        .unwrap();
    journal.write(intent(3, 10)).await.unwrap();
    let open_ones = journal.readers().read(|store| sqlite::open_changes(store, 0, 10)).await.unwrap();
    assert_eq!(open_ones.len(), 1, "the refused intent is not in doubt");
    journal.close().await;
}

/// How many changes are listed.
async fn kept(journal: &Journal) -> u128 {
    let all = crate::sync::status::ChangeFilter { limit: Some(1000), ..Default::default() };
    journal.readers().read(move |store| sqlite::changes(store, &all)).await.unwrap().len() as u128
}

#[tokio::test]
async fn a_full_journal_says_so_and_empties_by_retention() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), 1 << 20);
    assert_eq!(journal.room(), Room::Enough);
    let mut number = 0;
    while journal.room() != Room::Full {
        journal.write(intent(number, 20_000)).await.unwrap();
        journal.write(committed(number)).await.unwrap();
        number += 1;
        assert!(number < 100);
    }
    let soon = Timestamp::from_millis(u64::MAX >> 2);
    assert_eq!(journal.retain(soon, 0).await, Ok(0));
    assert_eq!(kept(&journal).await, number, "what waits for a destination stays");
    let newest = *journal.newest().borrow();
    let progress =
        record::Progress { destination: 1, frontier: newest, step: record::Step::Spill { rows: vec![] } };
    journal.write(Record::Progress(Box::new(progress))).await.unwrap();
    assert_eq!(journal.retain(soon, 0).await, Ok(0));
    assert_eq!(kept(&journal).await, 0);
    assert_eq!(journal.room(), Room::Enough, "used pages count, not the file");
    journal.close().await;
}

/// What is stored of a damaged change is neither needed to decide it nor made sound by that.
#[tokio::test]
async fn a_damaged_change_is_decided_and_stays_damaged() {
    for (column, verdict, sound) in [
        ("head", Verdict::Reconciled { head: Box::new(head()), body: Bytes::from_static(b"read") }, true),
        ("body", Verdict::Committed { key: Some("other".into()) }, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), 1 << 30);
        journal.write(intent(1, 10)).await.unwrap();
        sqlite::damage_first(folder.path(), column);
        let outcome = Record::outcome(ChangeId(Uuid::from_u128(1)), verdict);
        let sequence = tokio::time::timeout(DEADLINE, journal.write(outcome)).await.unwrap().unwrap();
        let stored = journal.readers().read(move |store| sqlite::load(store, sequence)).await.unwrap();
        assert_eq!(matches!(stored, Some(sqlite::Stored::Sound { .. })), sound, "{column}");
        journal.close().await;
    }
}

#[tokio::test]
async fn i11_what_is_kept_of_a_failed_commit_is_tried_once_more_at_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), 1 << 30);
    journal.write(intent(1, 10)).await.unwrap();
    let mut other = sqlite::open(folder.path()).unwrap();
    let lock = other.transaction_with_behavior(sqlite::IMMEDIATE).unwrap();
    let outcome = journal.submit(committed(1)).await.unwrap();
    let mut health = journal.shared.health.subscribe();
    tokio::time::timeout(DEADLINE, health.wait_for(|health| *health == Health::Failed))
        .await
        .unwrap()
        .unwrap();
    let flush = tokio::time::timeout(DEADLINE, journal.write(Record::Flush)).await.unwrap();
    assert_eq!(flush, Err(Unwritten), "nobody waits for a journal that fails");
    drop(lock);
    drop(other);
    journal.close().await;
    assert!(outcome.await.unwrap().unwrap() > 0);
}

#[test]
fn i11_a_journal_that_has_gone_is_not_replaced_by_another() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let id = sqlite::journal_id(&sqlite::open(folder.path()).unwrap()).unwrap();
    drop(sqlite::open(elsewhere.path()).unwrap());
    sqlite::reopen(folder.path(), id).unwrap();
    let another = sqlite::reopen(elsewhere.path(), id).unwrap_err();
    assert!(another.to_string().contains("not the journal that was open before"), "{another}");
    let empty = tempfile::tempdir().unwrap();
    sqlite::reopen(empty.path(), id).unwrap_err();
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "no file is made");
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite::open(folder.path()).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let error = Journal::open(folder.path(), 1 << 20, vec![], Clock::system()).unwrap_err();
    assert!(error.to_string().contains("its format is 99"), "{error}");
}

/// A journal whose log is gone, and with it all that was acknowledged, has a file without tables.
#[tokio::test]
async fn i2_a_journal_without_its_tables_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), 1 << 30).close().await;
    std::fs::remove_file(sqlite::file(folder.path())).unwrap();
    let bare = rusqlite::Connection::open(sqlite::file(folder.path())).unwrap();
    bare.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL").unwrap();
    drop(bare);
    let error = Journal::open(folder.path(), 1 << 30, vec![], Clock::system()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}
