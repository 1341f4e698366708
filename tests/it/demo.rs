//! `tidegate demo`: the main job on embedded defaults, judged by comparing source and destination.

use crate::support::gateway::run;
use serde_json::Value;
use tempfile::TempDir;

/// Runs the demo in a temporary folder of its own: its exit code, what it said, what it left.
async fn demo(more: &[&str]) -> (Option<i32>, Value, Vec<String>) {
    let temporary = TempDir::with_prefix("tidegate-demo-test-").expect("a temporary folder can be made");
    let arguments = [&["demo", "--seconds", "5", "--json"], more].concat();
    let output = run(&arguments, temporary.path()).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = said.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let report =
        report.unwrap_or_else(|| panic!("no JSON in {said:?}\n{}", String::from_utf8_lossy(&output.stderr)));
    let left = std::fs::read_dir(temporary.path()).expect("the folder is still there");
    let left = left.map(|entry| entry.expect("an entry").path().display().to_string()).collect();
    (output.status.code(), report, left)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_converges_and_leaves_nothing_behind() {
    let (code, report, left) = demo(&[]).await;
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(
        (&report["converged"], &report["differences"]),
        (&Value::Bool(true), &Value::from(0)),
        "{report}"
    );
    for key in ["reads", "hits", "forwards", "writes", "deliveries"] {
        assert!(report[key].as_u64().is_some_and(|count| count > 0), "{key} in {report}");
    }
    assert!(report["retries"].is_u64(), "{report}");
    let count = |key: &str| report[key].as_u64().unwrap_or(0);
    assert!(count("hits") <= count("reads") && count("forwards") < count("reads"), "{report}");
    assert_eq!(left, Vec::<String>::new());
}

/// The comparison can fail: with one delivery dropped on purpose it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_sees_a_delivery_that_is_missing() {
    let (code, report, left) = demo(&["--drop-one-delivery"]).await;
    assert_eq!((code, &report["converged"]), (Some(1), &Value::Bool(false)), "{report}");
    assert!(report["differences"].as_u64().is_some_and(|count| count > 0), "{report}");
    assert_eq!(left, Vec::<String>::new());
}
