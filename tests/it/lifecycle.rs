//! Starting and stopping: what is under way is finished, and nothing is left behind.

mod rolling;

use crate::support::{
    Ask, EVERYTHING, Gate, RecordingDestination, Reply, ScriptedSource, Setup, Step, eventually, gateway_for,
    within,
};
use tokio::net::TcpStream;

/// Write-ahead files anywhere below the folder.
fn write_ahead_logs(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the journal's folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| if path.is_dir() { write_ahead_logs(&path) } else { vec![path] })
        .filter(|path| path.to_string_lossy().ends_with("-wal"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_lets_a_request_under_way_finish_and_exits_0() {
    for signal in ["TERM", "INT"] {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        let steps =
            vec![Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone()), Step::Bytes(b" rest".to_vec())];
        source.always("/slow", Reply::chunks(steps));
        source.always("/late", Reply::ok("late").after(Step::Wait(gate.clone())));
        let gateway = gateway_for(&source, "").await;
        let mut opened = Ask::get("/slow").open(gateway.public).await.expect("a head");
        let late = tokio::spawn(Ask::get("/late").send(gateway.public));
        source.wait_for("/late", 1).await;
        gateway.signal(signal);
        eventually("readyz says that it is draining", async || {
            Ask::get("/readyz").send(gateway.admin).await.is_ok_and(|answer| answer.status == 503)
        })
        .await;
        eventually("no new connection is served", async || {
            Ask::get("/new").send(gateway.public).await.is_err()
        })
        .await;
        gate.open();
        let body = within("the rest of the body", opened.rest()).await.expect("the whole body");
        assert_eq!(body, b"first rest", "SIG{signal}");
        let late = within("the late answer", late).await.expect("done").expect("an answer");
        assert_eq!((late.text().as_str(), late.field("Connection")), ("late", "close"), "SIG{signal}");
        let exit = gateway.ended().await;
        assert_eq!(exit.status.code(), Some(0), "SIG{signal}: {}", exit.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_exceeds_the_grace_is_cut() {
    let (source, never) = (ScriptedSource::start().await, Gate::closed());
    source.always("/slow", Reply::none(Step::Wait(never)));
    let text = format!("{}{EVERYTHING}", source.table());
    let gateway = Setup::new(text).server("shutdown_grace = \"300ms\"").start().await;
    let slow = tokio::spawn(Ask::get("/slow").send(gateway.public));
    source.wait_for("/slow", 1).await;
    assert_eq!(gateway.terminate().await.status.code(), Some(0));
    // Cut, or told that the gateway goes: anything but an answer of the source.
    let answer = within("the client is told", slow).await.expect("done");
    assert!(answer.map_or(true, |answer| answer.status >= 500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_quits_at_once() {
    let (source, never) = (ScriptedSource::start().await, Gate::closed());
    source.always("/slow", Reply::none(Step::Wait(never)));
    let text = format!("{}{EVERYTHING}", source.table());
    let gateway = Setup::new(text).server("shutdown_grace = \"10m\"").start().await;
    let slow = tokio::spawn(Ask::get("/slow").send(gateway.public));
    source.wait_for("/slow", 1).await;
    gateway.signal("TERM");
    eventually("it stops", async || gateway.log_text().contains("\"stopping\"")).await;
    gateway.signal("TERM");
    let exit = gateway.ended().await;
    assert_ne!(exit.status.code(), Some(0), "{}", exit.stderr);
    assert!(within("the client sees the end", slow).await.expect("done").is_err());
}

/// SIGHUP ends processes that do not wait for it; this one serves on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_stops_nothing() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok("a"));
    let gateway = gateway_for(&source, "").await;
    gateway.signal("HUP");
    crate::support::eventually("it says so", async || gateway.log_text().contains("SIGHUP")).await;
    assert_eq!(gateway.get("/a").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "").await;
    let idle = TcpStream::connect(gateway.public).await.expect("a connection");
    assert_eq!(gateway.terminate().await.status.code(), Some(0));
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_journal_has_no_write_ahead_log_and_goes_on_where_it_was() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.always("*", Reply::ok(""));
    let text = format!(
        "{}{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    let setup = Setup::new(text);
    destination.answer(|_| Reply::new(503, ""));
    let gateway = setup.start().await;
    let mut changes = Vec::new();
    for number in 0..20 {
        let answer = gateway.put(&format!("/items/{}", number % 5), &number.to_string()).await;
        changes.push(answer.field("Tidegate-Change").to_owned());
    }
    destination.wait_for(1).await;
    assert_eq!(gateway.terminate().await.status.code(), Some(0));
    assert_eq!(write_ahead_logs(&setup.data()), Vec::<std::path::PathBuf>::new());

    let highest = destination.deliveries.all().iter().map(|one| one.sequence).max().unwrap_or(0);
    destination.answer(|_| Reply::ok(""));
    let gateway = setup.start().await;
    let answer = gateway.put("/items/0", "after").await;
    changes.push(answer.field("Tidegate-Change").to_owned());
    let all = destination.wait_for_body("after").await;
    let after = all.iter().find(|one| one.request.text() == "after").expect("it was waited for");
    assert!(after.sequence > highest, "sequences grow over restarts");
    eventually("every change has arrived", async || {
        let all = destination.deliveries.all();
        changes.iter().all(|id| all.iter().any(|one| one.id == *id && one.answered == 200))
    })
    .await;
    let values = ["after", "16", "17", "18", "19"];
    let state = destination.state();
    for (item, value) in values.iter().enumerate() {
        assert_eq!(state[&format!("/items/{item}")], *value);
    }
    assert_eq!(gateway.terminate().await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_on_the_same_journal_refuses_to_start() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.always("*", Reply::ok(""));
    let text = format!(
        "{}{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    let setup = Setup::new(text);
    let mut first = setup.start().await;
    let exit = setup.try_start().await.expect_err("the journal is in use");
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains(&setup.data().display().to_string()), "it says which: {}", exit.stderr);
    assert!(exit.stderr.contains("in use"), "it says why: {}", exit.stderr);
    assert!(!first.is_over());
    assert_eq!(first.put("/items/1", "x").await.status, 200, "{}", first.log_text());
    first.kill().await;
    let again = setup.start().await;
    assert_eq!(again.put("/items/1", "y").await.status, 200, "a killed process leaves no lock");
}
