//! `tidegate journal check`, damaged journals in the real binary, and copies made while writes run.

use crate::support::gateway::run;
use crate::support::wait::within_time;
use crate::support::{
    EVERYTHING, Gateway, RecordingDestination, Reply, SYNC, ScriptedSource, Setup, eventually,
    obliging_source,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

async fn world(more: &str) -> (ScriptedSource, RecordingDestination, Setup) {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let text = format!("{}{}{more}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let setup = Setup::new(text);
    (source, destination, setup)
}

/// The exit code of a check, and what it printed.
async fn check(folder: &Path) -> (Option<i32>, Value, String) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = folder.display().to_string();
    let output = run(&["journal", "check", "--data", &folder, "--json"], temporary.path()).await;
    let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

async fn pause(gateway: &Gateway) {
    let answer = gateway.admin_post("/v1/destinations/search/pause", &serde_json::json!({})).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_check_tells_what_a_journal_holds_and_changes_nothing() {
    let (source, destination, setup) = world("").await;
    let (code, _, said) = check(&setup.data()).await;
    assert!(code == Some(1) && said.contains("there is no journal.sqlite in it"), "{said}");

    let gateway = setup.start().await;
    gateway.put("/items/1", "one").await;
    destination.wait_for(1).await;
    pause(&gateway).await;
    gateway.put("/items/2", "two").await;
    source.always("/items", Reply::new(500, ""));
    let doubt = gateway.send(crate::support::Ask::post("/items", "three")).await;
    let doubt = doubt.field("Tidegate-Change").to_owned();
    eventually("it is in doubt", async || gateway.change_state(&doubt).await == "in-doubt").await;
    let (code, _, said) = check(&setup.data()).await;
    assert!(code == Some(1) && said.contains("in use"), "{said}");

    // As a killed process leaves it, with a log, and as a stopped one does.
    gateway.kill().await;
    for state in ["killed", "stopped"] {
        let before = contents(&setup.data());
        assert_eq!(before.keys().any(|name| name.ends_with("-wal")), state == "killed");
        let (code, said, error) = check(&setup.data()).await;
        assert_eq!((code, &said["sound"]), (Some(0), &Value::Bool(true)), "{state}: {said} {error}");
        assert!(contents(&setup.data()) == before, "{state}: a check changes nothing");
        assert_eq!(
            (&said["changes"]["committed"], &said["changes"]["in-doubt"]),
            (&2.into(), &1.into()),
            "{said}"
        );
        assert_eq!(
            (&said["destinations"][0]["pending"], &said["in_doubt"][0]),
            (&1.into(), &doubt.clone().into())
        );
        assert!(setup.start().await.terminate().await.status.success());
    }
}

/// Flips a bit of some bytes in the journal's file, which stand there once.
fn damage(folder: &Path, what: &str) {
    let file = folder.join("journal.sqlite");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(what.len()).position(|window| window == what.as_bytes()).unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn i2_a_damaged_change_is_quarantined_listed_and_not_delivered_and_others_are() {
    let (_source, destination, setup) = world("").await;
    let gateway = setup.start().await;
    pause(&gateway).await;
    let mut ids = Vec::new();
    for (target, body) in [("/items/1", "first of its key"), ("/items/2", "another"), ("/items/1", "second")]
    {
        ids.push(gateway.put(target, body).await.field("Tidegate-Change").to_owned());
    }
    assert!(gateway.terminate().await.status.success());
    assert!(!setup.data().join("journal.sqlite-wal").exists());
    damage(&setup.data(), "first of its key");
    let (code, said, _) = check(&setup.data()).await;
    assert_eq!((code, &said["damaged"][0]["id"]), (Some(1), &Value::from(ids[0].as_str())), "{said}");

    let gateway = setup.start().await;
    gateway.admin_post("/v1/destinations/search/resume", &serde_json::json!({})).await;
    destination.wait_for_body("another").await;
    eventually("it is a dead letter", async || {
        gateway.destination("search").await["dead_letters"] == 1
            && gateway.destination("search").await["pending"] == 0
    })
    .await;
    let letters = gateway.admin_get("/v1/dead-letters").await.json();
    let letter = &letters["dead_letters"][0];
    assert_eq!(
        (letter["code"].as_str(), letter["change"].as_str()),
        (Some("damaged"), Some(ids[0].as_str()))
    );
    let listed = gateway.admin_get("/v1/changes?state=damaged").await.json();
    assert_eq!(
        (&listed["changes"][0]["id"], listed["changes"].as_array().map(Vec::len)),
        (&ids[0].as_str().into(), Some(1))
    );
    assert_eq!(gateway.metric("tidegate_journal_damaged_total").await, 1);
    eventually("it is told", async || gateway.log_text().contains("damaged")).await;
    assert_eq!(destination.deliveries.all().len(), 1, "what is behind it is parked");
    let body = serde_json::json!({ "destination": "search" });
    assert_eq!(gateway.admin_post("/v1/dead-letters/discard", &body).await.status, 202);
    destination.wait_for_body("second").await;
    assert_eq!(gateway.put("/items/1", "third").await.status, 200);
    destination.wait_for_body("third").await;
}

#[tokio::test]
async fn a_journal_that_is_damaged_as_a_whole_is_refused_with_what_to_do() {
    let (_source, _destination, setup) = world("").await;
    setup.start().await.terminate().await;
    let file = setup.data().join("journal.sqlite");
    let whole = std::fs::read(&file).unwrap();
    for (what, bytes) in [
        ("no database", b"not a database at all".repeat(300)),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("nothing", Vec::new()),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let exit = setup.try_start().await.expect_err(what);
        assert_eq!(exit.status.code(), Some(1), "{what}");
        for word in ["is damaged", "tidegate journal check", "restore a backup"] {
            assert!(exit.stderr.contains(word), "{what}: {}", exit.stderr);
        }
        let (code, said, error) = check(&setup.data()).await;
        assert_eq!((code, &said["sound"]), (Some(1), &Value::Bool(false)), "{what}: {said} {error}");
    }
    std::fs::write(&file, whole).unwrap();
    setup.start().await.terminate().await;
}

/// A backup as docs/OPERATIONS.md says, while writes run: a gateway starts on it and has everything that
/// was acknowledged before it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_backup_of_a_running_journal_holds_what_was_acknowledged_before() {
    let (source, destination, setup) = world("").await;
    let gateway = setup.start().await;
    pause(&gateway).await;
    let mut before = Vec::new();
    for number in 0..30 {
        before.push(
            gateway.put(&format!("/items/{number}"), "before").await.field("Tidegate-Change").to_owned(),
        );
    }
    let last = before.last().unwrap();
    eventually("outcomes are durable", async || gateway.change_state(last).await == "committed").await;
    let table = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let copies = [Setup::new(table.clone()), Setup::new(table)];
    let journal = setup.data().join("journal.sqlite");
    let making = async {
        for (copy, by_vacuum) in copies.iter().zip([true, false]) {
            std::fs::create_dir_all(copy.data()).unwrap();
            let (from, to) = (journal.clone(), copy.data().join("journal.sqlite"));
            let made = tokio::task::spawn_blocking(move || {
                let store = rusqlite::Connection::open(from).unwrap();
                store.busy_timeout(Duration::from_secs(10)).unwrap();
                if by_vacuum {
                    store.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
                } else {
                    // What the command `.backup` of the sqlite3 shell does.
                    let mut copy = rusqlite::Connection::open(to).unwrap();
                    let backup = rusqlite::backup::Backup::new(&store, &mut copy).unwrap();
                    backup.run_to_completion(100, Duration::from_millis(1), None).unwrap();
                }
            });
            within_time(Duration::from_mins(1), "the copy", made).await.unwrap();
        }
    };
    let writing = async {
        for number in 0..2000 {
            assert_eq!(gateway.put(&format!("/items/{}", number % 7), "meanwhile").await.status, 200);
        }
        // Where a copy is slower than so many writes, the rest of it goes on without more of them.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = making => {}
        () = writing => {}
    }
    gateway.kill().await;
    for copy in copies {
        assert_eq!(check(&copy.data()).await.0, Some(0));
        let gateway = copy.start().await;
        for id in &before {
            assert_eq!(gateway.change_state(id).await, "committed");
        }
        let known = destination.deliveries.all().len();
        gateway.admin_post("/v1/destinations/search/resume", &serde_json::json!({})).await;
        destination.wait_for(known + before.len()).await;
        assert_eq!(gateway.put("/items/after", "after").await.status, 200);
        destination.wait_for_body("after").await;
    }
}
