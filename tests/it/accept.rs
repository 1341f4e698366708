//! `mode = "accept"`: 202 once the change is durable, the source later and in key order, then the
//! destinations.

mod crashes;
mod refusals;

use crate::support::{
    Answer, Ask, EVERYTHING, Fault, Gate, Gateway, InventorySource, Received, RecordingDestination, Reply,
    ScriptedSource, Setup, Step, eventually,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// A source's keys for these tests: what fails is repeated soon.
const SOON: &str = "retry = { base = \"100ms\", cap = \"200ms\" }\n";
/// What makes the route before it accept.
const ACCEPT: &str = "[route.sync]\nmode = \"accept\"\ndestinations = [\"search\"]\n";

/// Tables of a source, a destination, and a route between them that accepts everything.
fn accepting(source: &str, destination: &RecordingDestination, route: &str) -> Setup {
    Setup::new(format!("{source}{SOON}{}{EVERYTHING}{ACCEPT}{route}", destination.table("search")))
}

/// The change that was accepted; the answer says so in its field and its content, and tells no version.
fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.field("Tidegate-Change").to_owned();
    assert_eq!(answer.json()["change"], id.as_str());
    assert_eq!(answer.field("Tidegate-Version"), "", "nothing has been written yet");
    id
}

fn texts(requests: &[Received]) -> Vec<String> {
    requests.iter().map(Received::text).collect()
}

async fn becomes(gateway: &Gateway, change: &str, state: &str) {
    eventually(&format!("{change} is {state}"), async || gateway.change_state(change).await == state).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_has_its_answer_before_the_source_is_asked() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let gate = Gate::closed();
    let hole = gate.clone();
    source.on("*", move |_| Reply::ok("").after(Step::Wait(hole.clone())));
    let table = format!("{}headers = {{ authorization = \"Bearer own\" }}\n", source.table());
    let gateway = accepting(&table, &destination, "").start().await;
    let ask = Ask::put("/items/1?a=%2F", "x")
        .field("Content-Type", "text/x-test")
        .field("Prefer", "return=minimal")
        .field("Authorization", "Bearer client")
        .field("Cookie", "c=1")
        .field("Idempotency-Key", "\"of the client\"");
    let id = accepted(&gateway.send(ask).await);
    source.wait_for("/items/1", 1).await;
    assert_eq!(gateway.change_state(&id).await, "accepted");
    let shown = gateway.admin_get(&format!("/v1/changes/{id}")).await.json();
    assert_eq!(shown["at_source"]["state"], "waiting", "{shown}");
    assert!(destination.deliveries.all().is_empty(), "the source is first");
    assert_eq!(gateway.metric("tidegate_accepted_waiting{source=\"inventory\"}").await, 1);
    gate.open();
    let delivery = destination.wait_for(1).await.remove(0);
    assert_eq!((&delivery.id, delivery.request.target.as_str()), (&id, "/items/1?a=%2F"));
    becomes(&gateway, &id, "committed").await;
    assert_eq!(gateway.metric("tidegate_accepted_waiting{source=\"inventory\"}").await, 0);
    let request = source.received("/items/1").remove(0);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/items/1?a=%2F"));
    for (name, value) in [
        ("Content-Type", Some("text/x-test")),
        ("Prefer", Some("return=minimal")),
        ("Authorization", Some("Bearer own")),
        ("Idempotency-Key", Some(format!("\"{id}\"").as_str())),
        ("Cookie", None),
    ] {
        assert_eq!(request.fields.get(name), value, "{name}");
    }
    let given = delivery.request.fields.get("Authorization");
    assert_eq!(given, None, "the source's fields are the source's");
}

/// I3: whatever fails on the way, writes of a key come in the order in which they were accepted; other
/// keys pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_writes_of_a_key_reach_the_source_in_order_over_retries() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    source.on("*", move |request| match request.text().as_str() {
        "1" if count.fetch_add(1, Ordering::SeqCst) < 2 => Reply::new(503, "later"),
        "2" if count.fetch_add(1, Ordering::SeqCst) < 5 => Reply::none(Step::Reset),
        _ => Reply::ok(""),
    });
    let gateway = accepting(&source.table(), &destination, "").start().await;
    let mut ids = Vec::new();
    for body in ["1", "2", "3"] {
        ids.push(accepted(&gateway.put("/items/1", body).await));
    }
    gateway.put("/items/2", "other").await;
    let all = destination.wait_for_body("3").await;
    assert_eq!(texts(&source.received("/items/1")), ["1", "1", "1", "2", "2", "2", "3"]);
    let of_key = all.iter().filter(|delivery| delivery.key == "/items/1");
    let (got, sequences): (Vec<_>, Vec<_>) = of_key.map(|one| (one.id.clone(), one.sequence)).unzip();
    assert_eq!(got, ids);
    assert!(sequences.is_sorted(), "{sequences:?}");
    let keys = |request: &Received| request.fields.get("Idempotency-Key").map(str::to_owned);
    let sent = source.received("/items/1");
    assert!(sent.iter().take(3).all(|one| keys(one) == keys(&sent[0])), "one change, one key");
    assert_ne!(keys(&sent[0]), keys(&sent[6]));
}

/// I5: reads have what was until the source has answered, and what is from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_reads_have_the_new_state_once_the_source_has_answered() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let gateway = accepting(&source.table(), &destination, "").start().await;
    let first = accepted(&gateway.put("/items/1", "old").await);
    becomes(&gateway, &first, "committed").await;
    assert_eq!(gateway.get("/items/1").await.text(), "old");
    assert!(gateway.get("/items/1").await.is_hit());
    let gate = Gate::closed();
    let slow = gate.clone();
    source.fail(move |_| Fault::SlowAfterApplying(slow.clone()));
    let second = accepted(&gateway.put("/items/1", "new").await);
    let read = gateway.get("/items/1").await;
    assert_eq!((read.text().as_str(), read.is_hit()), ("old", true), "nothing has been answered yet");
    gate.open();
    becomes(&gateway, &second, "committed").await;
    assert_eq!(gateway.get("/items/1").await.text(), "new");
    destination.wait_for_body("new").await;
    assert_eq!(source.state(), destination.state());
}

/// A write that goes through on another route waits for what was accepted before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_write_that_goes_through_comes_after_what_was_accepted_before_it() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let failures = AtomicUsize::new(0);
    source.on("*", move |request| {
        let fails = request.method == "PUT" && failures.fetch_add(1, Ordering::SeqCst) < 3;
        if fails { Reply::new(503, "later") } else { Reply::ok("") }
    });
    let text = format!(
        "{}{SOON}{}[[route]]\nname = \"accepted\"\nmethods = [\"PUT\"]\npath = \"/{{*rest}}\"\n\
         source = \"inventory\"\n{ACCEPT}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    let gateway = Setup::new(text).start().await;
    for body in ["1", "2"] {
        accepted(&gateway.put("/items/1", body).await);
    }
    let through = gateway.send(Ask::new("PATCH", "/items/1").body("3")).await;
    assert_eq!(through.status, 200);
    assert_eq!(texts(&source.received("/items/1")), ["1", "1", "1", "1", "2", "3"]);
    let all = destination.wait_for_body("3").await;
    let bodies: Vec<_> = all.iter().map(|delivery| delivery.request.text()).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

/// What a source asks for with Retry-After holds for every accepted write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_asks_to_be_left_alone_is() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    source.on("*", move |_| {
        let mut seen = seen.lock().unwrap();
        seen.push(Instant::now());
        if seen.len() == 1 { Reply::new(429, "").field("Retry-After", "1") } else { Reply::ok("") }
    });
    let gateway = accepting(&source.table(), &destination, "").start().await;
    let id = accepted(&gateway.put("/items/1", "x").await);
    let path = format!("/v1/changes/{id}");
    eventually("the first attempt is known", async || {
        gateway.admin_get(&path).await.json()["at_source"]["attempts"] == 1
    })
    .await;
    let shown = gateway.admin_get(&path).await.json();
    assert_eq!(shown["at_source"]["last_error"], "the source answered 429", "{shown}");
    assert!(shown["at_source"]["next_attempt_at"].is_u64(), "{shown}");
    accepted(&gateway.put("/items/2", "y").await);
    destination.wait_for(2).await;
    let times = times.lock().unwrap().clone();
    let waited = times[1] - times[0];
    assert!(waited >= Duration::from_millis(950), "{waited:?}");
    assert_eq!(times.len(), 3, "nothing was sent meanwhile");
}

/// What creates something has the key of what it creates, as where it goes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_post_has_the_key_of_what_it_creates() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let gateway = accepting(&source.table(), &destination, "").start().await;
    let id = accepted(&gateway.send(Ask::post("/items", "x")).await);
    let delivery = destination.wait_for(1).await.remove(0);
    assert_eq!((delivery.id, delivery.key.as_str()), (id, "/items/1"));
    assert_eq!(source.state(), destination.state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_is_too_large_is_refused_before_anything_is_written() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let gateway = accepting(&source.table(), &destination, "body = \"1KiB\"\n").start().await;
    gateway.put("/items/1", &"x".repeat(1025)).await.assert_problem(413);
    let listed = gateway.admin_get("/v1/changes").await.json();
    assert_eq!(listed["changes"], serde_json::json!([]));
    assert!(source.requests.all().is_empty());
}
