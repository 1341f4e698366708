//! `tidegate changes ..` against a running gateway.

use crate::support::wait::within_time;
use crate::support::{
    Delivery, EVERYTHING, Gateway, RecordingDestination, Reply, ScriptedSource, Setup, eventually, gateway,
    obliging_source, synced,
};
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::process::Command;

/// No command takes longer here.
const DEADLINE: Duration = Duration::from_mins(1);

fn command(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("changes").args(arguments).env("TIDEGATE_ADMIN", format!("http://{}", gateway.admin));
    command.env_remove("TIDEGATE_ADMIN_TOKEN").stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ended(mut command: Command) -> Output {
    within_time(DEADLINE, "the command ends", command.output()).await.expect("the binary can be run")
}

/// What a command that succeeds prints.
async fn told(gateway: &Gateway, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = ended(command(gateway, arguments)).await;
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

async fn json_of(gateway: &Gateway, arguments: &[&str]) -> Value {
    let text = told(gateway, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{fault}: {text}"))
}

/// What a command that fails says.
async fn refused(command: Command, code: i32) -> String {
    let Output { status, stderr, .. } = ended(command).await;
    let said = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(code), "{said}");
    said
}

/// Refuses bodies that begin with `bad` until it is mended.
fn refusing(destination: &RecordingDestination) -> Arc<AtomicBool> {
    let mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&mended);
    destination.answer(move |delivery: &Delivery| {
        let refused = delivery.request.body.starts_with(b"bad") && !flag.load(Ordering::SeqCst);
        if refused { Reply::new(400, "no\u{1b}[2J") } else { Reply::ok("") }
    });
    mended
}

async fn letters(gateway: &Gateway) -> usize {
    let listed = json_of(gateway, &["dead-letters"]).await;
    listed["dead_letters"].as_array().map(Vec::len).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_reads_changes_and_dead_letters() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    refusing(&destination);
    let gateway = synced(&source, &destination).await;
    let good = gateway.put("/items/1", "good").await.field("Tidegate-Change").to_owned();
    let bad = gateway.put("/items/2?token=CANARY", "bad").await.field("Tidegate-Change").to_owned();
    gateway.put("/items/3", "bad").await;
    eventually("two are dead", async || letters(&gateway).await == 2).await;
    let table = told(&gateway, &["list"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("ID") && lines[1].starts_with(&good), "{table}");
    assert!(lines[2].contains("search=dead-letter") && !table.contains("CANARY"), "{table}");
    let column = lines[0].find("STATE").expect("a heading");
    assert!(lines[1..].iter().all(|line| line[column..].starts_with("committed")), "{table}");
    assert!(told(&gateway, &["list", "--limit", "1"]).await.contains(&format!("--after {good}")));
    let behind = json_of(&gateway, &["list", "--after", &good, "--destination", "search"]).await;
    assert_eq!(behind["changes"].as_array().map(Vec::len), Some(2));
    let one = told(&gateway, &["show", &good]).await;
    assert!(one.contains("PUT /items/1") && one.contains("delivered"), "{one}");
    assert_eq!(json_of(&gateway, &["show", &good]).await["deliveries"][0]["attempts"], 1);
    let dead = told(&gateway, &["dead-letters", "--code", "http_status"]).await;
    assert!(dead.contains(&bad) && dead.contains("400") && !dead.contains('\u{1b}'), "{dead}");
}

/// Dead letters of destinations and of sources are read a page at a time, each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_read_to_the_last_page() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| {
        if request.path().starts_with("/accepted/") { Reply::new(403, "") } else { Reply::ok("") }
    });
    let (search, index) = (RecordingDestination::start().await, RecordingDestination::start().await);
    for destination in [&search, &index] {
        destination.answer(|_| Reply::new(400, "no"));
    }
    let sync = "[route.sync]\ndestinations = [\"search\", \"index\"]\n";
    let text = format!(
        "{}{}{}[[route]]\nname = \"accepting\"\npath = \"/accepted/{{*rest}}\"\nsource = \"inventory\"\n\
         {sync}mode = \"accept\"\n{EVERYTHING}{sync}",
        source.table(),
        search.table("search"),
        index.table("index")
    );
    let gateway = Setup::new(text).start().await;
    for number in 0..3 {
        gateway.put(&format!("/items/{number}"), "x").await;
        gateway.put(&format!("/accepted/{number}"), "x").await;
    }
    eventually("nine are dead", async || letters(&gateway).await == 9).await;
    let whole = json_of(&gateway, &["dead-letters"]).await;
    assert!(whole.get("next").is_none() && whole.get("more").is_none(), "{whole}");
    let mut pages = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = match &after {
            None => json_of(&gateway, &["dead-letters", "--limit", "2"]).await,
            Some(after) => json_of(&gateway, &["dead-letters", "--limit", "2", "--after", after]).await,
        };
        pages.push(page["dead_letters"].as_array().expect("a list").clone());
        after = page["next"].as_str().map(str::to_owned);
        assert_eq!(page["more"] == true, after.is_some(), "{page}");
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 2, 1]);
    assert_eq!(json!(pages.concat()), whole["dead_letters"]);
    let some = json_of(&gateway, &["dead-letters", "--source", "inventory", "--limit", "2"]).await;
    let next = some["next"].as_str().expect("there are more");
    let table = told(&gateway, &["dead-letters", "--limit", "2"]).await;
    assert!(table.contains("\nmore: --after d"), "{table}");
    let rest = json_of(&gateway, &["dead-letters", "--source", "inventory", "--after", next]).await;
    assert_eq!(rest["dead_letters"].as_array().map(Vec::len), Some(1), "{rest}");
    gateway.admin_get("/v1/dead-letters?after=what").await.assert_problem(400);
    gateway.admin_get("/v1/dead-letters?limit=0").await.assert_problem(422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_redrives_discards_and_replays() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let mended = refusing(&destination);
    let gateway = synced(&source, &destination).await;
    let good = gateway.put("/items/1", "good").await.field("Tidegate-Change").to_owned();
    let bad = gateway.put("/items/2", "bad").await.field("Tidegate-Change").to_owned();
    gateway.put("/items/3", "bad").await;
    eventually("two are dead", async || letters(&gateway).await == 2).await;
    let dry = json_of(&gateway, &["redrive", "--destination", "search", "--dry-run"]).await;
    assert_eq!((&dry["count"], letters(&gateway).await), (&json!(2), 2));
    mended.store(true, Ordering::SeqCst);
    let redriven = told(&gateway, &["redrive", &bad]).await;
    assert!(redriven.contains("1 of 1") && redriven.contains("finished"), "{redriven}");
    destination.wait_for_body("bad").await;
    assert_eq!(letters(&gateway).await, 1);
    let discarded = json_of(&gateway, &["discard", "--key-prefix", "/items/", "--since", "1h"]).await;
    assert_eq!((&discarded["done"], &discarded["state"]), (&json!(1), &json!("finished")));
    assert_eq!(letters(&gateway).await, 0);
    eventually("all is settled", async || gateway.destination("search").await["in_flight"] == 0).await;

    let before = destination.deliveries.all().len();
    let dry = told(&gateway, &["replay", "--destination", "search", "--since", "1h", "--dry-run"]).await;
    assert!(dry.contains("replay: 2") && destination.deliveries.all().len() == before, "{dry}");
    let replayed = json_of(&gateway, &["replay", "--destination", "search", "--rate", "50"]).await;
    assert_eq!((&replayed["done"], &replayed["state"]), (&json!(2), &json!("finished")));
    let again = destination.deliveries.all().split_off(before);
    let marked = again.iter().filter(|one| one.request.fields.get("Tidegate-Replay") == Some("1"));
    assert_eq!(marked.map(|one| one.id.as_str()).collect::<Vec<_>>(), [good.as_str(), bad.as_str()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_in_a_line_and_the_exit_code() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let text = format!("{}{}{EVERYTHING}", source.table(), destination.table("search"));
    let gateway = Setup::new(format!("{text}[route.sync]\ndestinations = [\"search\"]\n"))
        .admin("token = \"CANARY-right\"")
        .start()
        .await;
    let unknown = "01900000-0000-7000-8000-000000000000";
    let with = |arguments: &[&str], token: &str| {
        let mut command = command(&gateway, arguments);
        command.env("TIDEGATE_ADMIN_TOKEN", token);
        command
    };
    let right = |arguments: &[&str]| with(arguments, "CANARY-right");
    for (command, code, said) in [
        (command(&gateway, &["list"]), 1, "TIDEGATE_ADMIN_TOKEN"),
        (with(&["list"], "CANARY-wrong"), 1, "not the one"),
        (right(&["show", unknown]), 1, "no change of that id"),
        (right(&["redrive", unknown]), 1, "no dead letter of that change"),
        (right(&["redrive", "--destination", "nobody"]), 1, "no destination of that name"),
        (right(&["replay", "--destination", "nobody"]), 1, "no destination of that name"),
        (right(&["resolve", unknown, "--as", "aborted"]), 1, "no change of that id"),
        (right(&["list", "--state", "odd"]), 1, "the states are"),
        (right(&["discard"]), 1, "--all"),
        (right(&["list", "--admin", "http://127.0.0.1:1"]), 1, "does not answer"),
        (right(&["list", "--admin", &source.url()]), 1, "not as an admin listener"),
        (right(&["list", "--admin", "unix:/none/admin.sock"]), 1, "unix:/none/admin.sock does not answer"),
        (right(&["redrive", "--since", "soon"]), 2, "2026-01-31T12:00:00Z"),
    ] {
        let shown = format!("{command:?}");
        let text = refused(command, code).await;
        assert!(text.contains(said) && !text.contains("CANARY"), "{shown}: {text}");
    }
    let mut onto_a_full_disk = right(&["list", "--json"]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let child = onto_a_full_disk.stdout(full).stderr(Stdio::piped()).spawn().expect("the binary can be run");
    let Output { status, stderr, .. } = child.wait_with_output().await.expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", String::from_utf8_lossy(&stderr));
    let ok = ended(right(&["list", "--json"])).await;
    assert_eq!((ok.status.code(), ok.stdout.as_slice()), (Some(0), b"{\"changes\":[]}\n".as_slice()));
}

/// Ctrl-C stops the gateway's work, and the same command goes on with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_stops_and_the_same_command_goes_on() {
    const LETTERS: usize = 20;
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let mended = refusing(&destination);
    let gateway = synced(&source, &destination).await;
    for number in 0..LETTERS {
        gateway.put(&format!("/items/{number}"), "bad").await;
    }
    eventually("all are dead", async || letters(&gateway).await == LETTERS).await;
    mended.store(true, Ordering::SeqCst);
    let before = destination.deliveries.all().len();
    let mut slow = command(&gateway, &["redrive", "--destination", "search", "--rate", "5"]);
    let child = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be run");
    destination.wait_for(before + 2).await;
    gateway::signal(child.id().expect("it runs"), "INT");
    let stopped = within_time(DEADLINE, "it stops", child.wait_with_output()).await.expect("it ends");
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert_eq!(stopped.status.code(), Some(1), "{said}");
    assert!(String::from_utf8_lossy(&stopped.stdout).contains("stopped") && said.contains("go on"), "{said}");
    let left = letters(&gateway).await;
    assert!((1..LETTERS - 1).contains(&left), "{left} are left");
    let rest = json_of(&gateway, &["redrive", "--destination", "search"]).await;
    assert_eq!((&rest["count"], &rest["state"]), (&json!(left), &json!("finished")));
    eventually("all have arrived", async || destination.state().len() == LETTERS).await;
}
