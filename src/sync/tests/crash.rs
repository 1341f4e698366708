//! I2 and I3 when the process is killed at every fail point: a child of this test binary writes, dies
//! by SIGKILL, and its journal is opened again.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;

const FOLDER: &str = "TIDEGATE_CRASH_TEST_FOLDER";
const URL: &str = "TIDEGATE_CRASH_TEST_URL";
const KEYS: usize = 5;
const CHANGES: usize = 40;

fn crash_settings(folder: &Path, url: &str) -> Settings {
    Settings { retention: Duration::ZERO, ..settings(folder, vec![destination("d", url)]) }
}

/// What the child of the test below does: it writes, and never comes to an end by itself.
async fn child(folder: &Path) {
    let url = std::env::var(URL).unwrap();
    let mut acknowledged =
        std::fs::File::options().append(true).create(true).open(folder.join("ids")).unwrap();
    let engine = Engine::start(crash_settings(folder, &url), Clock::system(), ports(vec![]).0).await.unwrap();
    for number in 0..CHANGES {
        let id = put(&engine, &format!("/k{}", number % KEYS), &["d"]).await;
        writeln!(acknowledged, "{id}").unwrap();
    }
    // Until it is killed; the parent has a deadline.
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn i2_killed_at_every_fail_point_nothing_acknowledged_is_lost() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return child(Path::new(&folder)).await;
    }
    for (point, times) in failpoint::NAMES.into_iter().flat_map(|point| [(point, 1), (point, 7)]) {
        // Retention runs once for all of the few changes.
        if point == failpoint::RETENTION_STEP && times > 1 {
            continue;
        }
        killed_at(point, times).await;
    }
}

async fn killed_at(point: &str, times: usize) {
    let to = Destination::good().await;
    let data = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "sync::tests::crash::i2_killed_at_every_fail_point_nothing_acknowledged_is_lost"]);
    child.env(FOLDER, data.path()).env(URL, &to.url).env("TIDEGATE_FAIL_POINT", format!("{point}:{times}"));
    child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let ended = tokio::time::timeout(DEADLINE, child.spawn().unwrap().wait_with_output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{point} was not reached")).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("fail point reached: {point}")), "{point}: {said}");
    assert_eq!(output.status.signal(), Some(9), "{point}: {said}");

    let source = SourceState::Present { etag: None, fields: HeaderMap::new(), body: "read again".into() };
    let engine = Engine::start(crash_settings(data.path(), &to.url), Clock::system(), ports(vec![source]).0)
        .await
        .unwrap();
    until_settled(&engine).await;
    let doubts = ChangeFilter { state: Some(ChangeState::InDoubt), ..ChangeFilter::default() };
    until("no doubt is left", || async { engine.changes(doubts.clone()).await.unwrap().is_empty() }).await;
    until_settled(&engine).await;
    engine.stop(DEADLINE).await;

    let got = to.got.lock().unwrap().clone();
    let delivered: BTreeSet<String> = got.iter().map(|got| got.field("tidegate-change").to_owned()).collect();
    let acknowledged = std::fs::read_to_string(data.path().join("ids")).unwrap_or_default();
    for id in acknowledged.lines() {
        assert!(delivered.contains(id), "{point}: {id} is lost");
    }
    assert!(got.len() - delivered.len() <= 8, "{point}: more duplicates than deliveries at once");
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for got in &got {
        let before = newest.insert(got.field("tidegate-key"), got.sequence()).unwrap_or_default();
        assert!(got.sequence() >= before, "{point}: {} went back", got.target);
    }
}
