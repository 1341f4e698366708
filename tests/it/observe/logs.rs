//! The access log, and the log of what operators do.

use crate::support::{
    Ask, EVERYTHING, Gateway, RecordingDestination, Reply, SYNC, ScriptedSource, Setup, eventually,
    obliging_source,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// All that a line of the access log may have.
const FIELDS: [&str; 9] =
    ["time", "route", "method", "status", "cache_status", "bytes", "seconds", "client", "change"];

/// The lines of the access log among others.
fn lines(text: &str) -> Vec<Value> {
    let parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|line| line.get("cache_status").is_some() && line.get("target").is_none()).collect()
}

/// A file for the log beside the journal.
fn file(setup: &Setup) -> PathBuf {
    setup.data().with_file_name("access.log")
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_the_access_log_has_a_closed_set_of_fields_and_no_secret() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    source.always("/stored", Reply::ok("0123456789").field("Cache-Control", "max-age=60"));
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let setup = Setup::new(text).server("access_log = { to = \"access.log\", one_in = 1 }");
    let gateway = setup.start().await;
    let secret = |ask: Ask| ask.field("Cookie", "CANARY").field("Authorization", "Bearer CANARY");
    gateway.send(secret(Ask::put("/items/1?token=CANARY", "CANARY"))).await;
    for _ in 0..2 {
        gateway.get("/stored").await;
    }
    let exit = gateway.terminate().await;
    assert!(exit.status.success(), "{}", exit.stderr);
    let written = read(&file(&setup));
    let lines = lines(&written);
    assert_eq!(lines.len(), 3, "what waits at the end is written: {written}");
    assert!(!written.contains("CANARY") && !written.contains("items/1"), "{written}");
    for line in &lines {
        let names: BTreeSet<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(FIELDS), "{line}");
        assert_eq!((&line["route"], &line["client"]), (&json!("items"), &json!("127.0.0.1")), "{line}");
        assert!(line["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{line}");
    }
    let of = |line: &Value| (line["method"].clone(), line["status"].clone(), line["cache_status"].clone());
    assert_eq!(of(&lines[0]), (json!("PUT"), json!(200), json!("method")));
    assert!(lines[0]["change"].as_str().is_some_and(|id| id.len() == 36), "{}", lines[0]);
    assert_eq!(of(&lines[1]), (json!("GET"), json!(200), json!("uri-miss")));
    assert_eq!(of(&lines[2]), (json!("GET"), json!(200), json!("hit")));
    assert_eq!((&lines[2]["bytes"], &lines[2]["change"]), (&json!(10), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_is_off_and_takes_errors_by_rule() {
    let source = ScriptedSource::start().await;
    source.always("/good", Reply::ok("x"));
    source.always("/broken", Reply::new(503, "no"));
    let text = format!("{}{EVERYTHING}", source.table());
    for (rule, expected) in
        [("", &[][..]), ("errors = \"server\"", &[503][..]), ("errors = \"all\"", &[404, 503][..])]
    {
        let mut setup = Setup::new(text.clone());
        if !rule.is_empty() {
            setup = setup.server(&format!("[server.access_log]\n{rule}"));
        }
        let gateway = setup.start().await;
        for path in ["/good", "/missing", "/broken"] {
            gateway.get(path).await;
        }
        let stderr = gateway.terminate().await.stderr;
        let statuses: Vec<Value> = lines(&stderr).iter().map(|line| line["status"].clone()).collect();
        assert_eq!(statuses, expected.iter().map(|status| json!(status)).collect::<Vec<_>>(), "{rule}");
    }
}

/// What is refused before it is a request has a line too: without a route, and of what the gate refused without a
/// method.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_before_routing_are_logged() {
    let source = ScriptedSource::start().await;
    let text = format!("{}{EVERYTHING}", source.table());
    let setup = Setup::new(text).server("access_log = { to = \"access.log\", errors = \"all\" }");
    let gateway = setup.start().await;
    assert_eq!(gateway.send(Ask::get("/x").field("Expect", "CANARY")).await.status, 417);
    assert_eq!(gateway.send(Ask::get("/x").field("bad name", "CANARY")).await.status, 400);
    eventually("both are logged", async || lines(&read(&file(&setup))).len() == 2).await;
    let written = read(&file(&setup));
    assert!(!written.contains("CANARY"), "{written}");
    let lines = lines(&written);
    for line in &lines {
        let names: BTreeSet<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(FIELDS), "{line}");
        assert_eq!((&line["route"], &line["client"]), (&Value::Null, &json!("127.0.0.1")), "{line}");
        assert!(line["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{line}");
    }
    let of = |line: &Value| (line["method"].clone(), line["status"].clone(), line["cache_status"].clone());
    assert_eq!(of(&lines[0]), (json!("GET"), json!(417), json!("none")));
    assert_eq!(of(&lines[1]), (Value::Null, json!(400), json!("none")));
}

/// A reload begins, moves and ends it; what was begun before is written where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_follows_a_reload() {
    let source = ScriptedSource::start().await;
    source.always("/good", Reply::ok("x"));
    let text = |rule: &str| format!("[server.access_log]\n{rule}\n{}{EVERYTHING}", source.table());
    let setup = Setup::new(text("one_in = 0"));
    let gateway = setup.start().await;
    let folder = setup.file().parent().expect("a folder").to_owned();
    let mut setup = setup;
    for (rule, expected) in [
        ("to = \"one.log\"\none_in = 1", [1, 0]),
        ("to = \"two.log\"\none_in = 1", [1, 1]),
        ("one_in = 0", [1, 1]),
    ] {
        setup = setup.rest(text(rule));
        setup.write();
        assert_eq!(gateway.admin_post("/v1/reload", &json!({})).await.status, 200);
        gateway.get("/good").await;
        let counts = async || ["one.log", "two.log"].map(|name| lines(&read(&folder.join(name))).len());
        eventually("the lines are where they belong", async || counts().await == expected).await;
    }
    assert!(lines(&gateway.terminate().await.stderr).is_empty());
}

/// A folder that is not there costs lines, which are counted, and no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_an_access_log_that_cannot_be_written_is_told_and_counted() {
    let source = ScriptedSource::start().await;
    source.always("/good", Reply::ok("x"));
    let setup = Setup::new(format!("{}{EVERYTHING}", source.table()))
        .server("access_log = { to = \"absent/access.log\", one_in = 1 }");
    let gateway = setup.start().await;
    assert_eq!(gateway.get("/good").await.status, 200);
    let dropped = async || gateway.metric("tidegate_access_log_dropped_total").await;
    eventually("a line is dropped", async || dropped().await == 1).await;
    eventually("it is told", async || gateway.log_text().contains("the access log cannot be written")).await;
    std::fs::create_dir(setup.data().with_file_name("absent")).expect("a folder");
    gateway.get("/good").await;
    let path = setup.data().with_file_name("absent").join("access.log");
    eventually("it is written again", async || lines(&read(&path)).len() == 1).await;
    assert_eq!(dropped().await, 1);
}

/// Each call that changes something leaves a line: who, from where, what, with what result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_every_administrative_change_is_in_the_audit_log_without_secrets() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|_| Reply::new(400, "no"));
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let setup = Setup::new(text).admin("token = \"CANARY-token\"");
    let gateway = setup.start().await;
    let change = gateway.put("/items/1", "bad").await.field("Tidegate-Change").to_owned();
    let resolve = format!("/v1/changes/{change}/resolve");
    let everything = json!({ "destination": "search" });
    let dead = async || gateway.metric("tidegate_dead_letters").await == 1;
    eventually("it is dead", dead).await;
    for (path, body, status, done) in [
        ("/v1/reload", Value::Null, 200, ""),
        ("/v1/purge", json!({ "tags": ["items"] }), 202, "tags"),
        ("/v1/destinations/search/pause", Value::Null, 200, "paused \"search\""),
        ("/v1/destinations/search/resume", Value::Null, 200, "resumed \"search\""),
        ("/v1/dead-letters/redrive", everything.clone(), 202, "count=1"),
        ("/v1/dead-letters/discard", everything.clone(), 202, "count="),
        ("/v1/replay", everything.clone(), 202, "search"),
        (resolve.as_str(), json!({ "as": "aborted" }), 409, ""),
        ("/v1/operations/none/stop", Value::Null, 404, ""),
    ] {
        let before = audit(&gateway).len();
        let answer = posted(&gateway, path, &body, "CANARY-token").await;
        let line = last(&gateway, before).await;
        assert_eq!(line["call"], format!("POST {path}"), "{line}");
        assert_eq!(line["status"], answer, "{line}");
        assert_eq!((&line["who"], answer), (&json!("token"), status), "{line}");
        assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
        assert!(line["done"].as_str().unwrap_or_default().contains(done), "{line}");
    }
    let before = audit(&gateway).len();
    assert_eq!(posted(&gateway, "/v1/purge", &json!({ "all": true }), "CANARY-guess").await, 401);
    let line = last(&gateway, before).await;
    assert_eq!((&line["who"], &line["status"]), (&json!("none"), &json!(401)), "{line}");
    // What changes nothing leaves no line, and what was not called leaves one, too.
    let before = audit(&gateway).len();
    let config = gateway.operate(Ask::get("/v1/config").field("Authorization", "Bearer CANARY-token")).await;
    assert_eq!(config.status, 200);
    gateway.signal("HUP");
    let line = last(&gateway, before).await;
    assert_eq!((&line["call"], &line["who"]), (&json!("reload"), &json!("SIGHUP")), "{line}");
    assert_eq!((&line["done"], audit(&gateway).len()), (&json!("unchanged"), before + 1), "{line}");
    std::fs::write(setup.file(), "[broken").expect("the file can be written");
    let line = last(&gateway, before + 1).await;
    assert_eq!((&line["who"], &line["done"]), (&json!("changed file"), &json!("refused")), "{line}");
    assert!(!gateway.log_text().contains("CANARY"));
}

async fn posted(gateway: &Gateway, path: &str, body: &Value, token: &str) -> u16 {
    let ask = match body {
        Value::Null => Ask::new("POST", path),
        _ => Ask::post(path, body.to_string()).field("Content-Type", "application/json"),
    };
    gateway.operate(ask.field("Authorization", &format!("Bearer {token}"))).await.status
}

async fn last(gateway: &Gateway, before: usize) -> Value {
    eventually("a line of the audit log", async || audit(gateway).len() > before).await;
    audit(gateway).pop().expect("a line")
}

fn audit(gateway: &Gateway) -> Vec<Value> {
    let text = gateway.log_text();
    let parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|line| line["target"] == "tidegate::audit").collect()
}
