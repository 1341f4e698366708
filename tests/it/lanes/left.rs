//! Destinations that are taken out or left behind: what becomes of their changes, and what is told of it.

use super::{route, state, tables};
use crate::support::obliging_source;
use crate::support::{EVERYTHING, RecordingDestination, Reply, ScriptedSource, Setup, eventually};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The delivery of a change to a destination, as operators are told of it.
async fn delivery(gateway: &crate::support::Gateway, id: &str, to: &str) -> Value {
    let change = gateway.admin_get(&format!("/v1/changes/{id}")).await.json();
    let deliveries = change["deliveries"].as_array().cloned().unwrap_or_default();
    deliveries.into_iter().find(|one| one["destination"] == to).unwrap_or(Value::Null)
}

/// A change that its source has not done yet goes to the destinations of its intent, also if one of them was
/// taken out in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_what_has_no_outcome_yet_keeps_a_removed_destination() {
    let source = ScriptedSource::start().await;
    let (kept, gone) = (RecordingDestination::start().await, RecordingDestination::start().await);
    let works = Arc::new(AtomicBool::new(false));
    let does = Arc::clone(&works);
    source.on("*", move |_| Reply::new(if does.load(Ordering::SeqCst) { 200 } else { 503 }, ""));
    let accept = |names: &[&str]| format!("{}mode = \"accept\"\n", route("items", names));
    let retry = "[source.retry]\nbase = \"100ms\"\ncap = \"200ms\"\n";
    let of = |destinations: &[String], names: &[&str]| {
        tables(&source, destinations, &[accept(names)]).replacen(
            "[[destination]]",
            &format!("{retry}[[destination]]"),
            1,
        )
    };
    let both = of(&[kept.table("kept"), gone.table("gone")], &["kept", "gone"]);
    let one = of(&[kept.table("kept")], &["kept"]);
    let setup = Setup::new(both.clone());
    let gateway = setup.start().await;
    let put = gateway.put("/items/1", "1").await;
    assert_eq!(put.status, 202);
    let id = put.field("Tidegate-Change").to_owned();
    assert!(gateway.terminate().await.status.success());

    let setup = setup.rest(one);
    let gateway = setup.start().await;
    assert_eq!(state(&gateway, "gone").await, "disabled", "{}", gateway.log_text());
    works.store(true, Ordering::SeqCst);
    kept.wait_for(1).await;
    assert_eq!(delivery(&gateway, &id, "gone").await["state"], "waiting");
    let ended = gateway.terminate().await;
    assert!(ended.stderr.contains("\"undecided\":1"), "{}", ended.stderr);

    let gateway = setup.rest(both).start().await;
    assert_eq!(gone.wait_for(1).await[0].id, id);
    eventually("it is told", async || delivery(&gateway, &id, "gone").await["state"] == "delivered").await;
}

/// Nobody is told that a destination has what was never sent to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_detached_destination_misses_is_told_so() {
    let source = obliging_source().await;
    let to = RecordingDestination::start().await;
    let is_mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_mended);
    to.answer(move |one| {
        Reply::new(if one.key == "/items/had" || flag.load(Ordering::SeqCst) { 200 } else { 503 }, "")
    });
    let table = format!("{}backlog = \"64KiB\"\n", to.table("to"));
    let gateway = Setup::new(tables(&source, &[table], &[route("items", &["to"])])).start().await;
    let id =
        async |path: &str| gateway.put(path, &"x".repeat(16 << 10)).await.field("Tidegate-Change").to_owned();
    let had = id("/items/had").await;
    to.wait_for(1).await;
    let mut missed = Vec::new();
    for number in 0..12 {
        missed.push(id(&format!("/items/{number}")).await);
    }
    eventually("it is detached", async || state(&gateway, "to").await == "detached").await;
    missed.push(id("/items/later").await);
    is_mended.store(true, Ordering::SeqCst);
    for stage in ["detached", "attached"] {
        for id in &missed {
            let told = delivery(&gateway, id, "to").await;
            assert_eq!(
                (&told["state"], &told["settled_at"]),
                (&json!("missed"), &Value::Null),
                "{stage}: {told}"
            );
        }
        let told = delivery(&gateway, &had, "to").await;
        assert_eq!((&told["state"], &told["attempts"]), (&json!("delivered"), &json!(1)), "{stage}: {told}");
        gateway.admin_post("/v1/destinations/to/resume", &json!({})).await;
        eventually("it is attached", async || state(&gateway, "to").await != "detached").await;
    }
    let next = id("/items/next").await;
    eventually("it follows", async || delivery(&gateway, &next, "to").await["state"] == "delivered").await;
}

/// One that comes back under the same name has nothing of the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_given_up_begins_anew() {
    let source = obliging_source().await;
    let (kept, gone) = (RecordingDestination::start().await, RecordingDestination::start().await);
    let both =
        tables(&source, &[kept.table("kept"), gone.table("gone")], &[route("items", &["kept", "gone"])]);
    let one = tables(&source, &[kept.table("kept")], &[route("items", &["kept"])]);
    let setup = Setup::new(both.clone()).sync("removed = \"drop\"");
    let gateway = setup.start().await;
    let id = gateway.put("/items/1", "1").await.field("Tidegate-Change").to_owned();
    gone.wait_for(1).await;
    eventually("it is settled", async || delivery(&gateway, &id, "gone").await["state"] == "delivered").await;
    assert!(gateway.terminate().await.status.success());
    let setup = setup.rest(one);
    assert!(setup.start().await.terminate().await.status.success());
    let gateway = setup.rest(both).start().await;
    let told = delivery(&gateway, &id, "gone").await;
    assert_eq!((&told["state"], &told["settled_at"]), (&json!("missed"), &Value::Null), "{told}");
}

/// A journal that nobody uses any more is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_said_where_no_route_is_synced() {
    let (source, to) = (obliging_source().await, RecordingDestination::start().await);
    let setup = Setup::new(tables(&source, &[to.table("to")], &[route("items", &["to"])]));
    let gateway = setup.start().await;
    let said = "sync.data holds a journal";
    gateway.put("/items/1", "1").await;
    let ended = gateway.terminate().await;
    assert!(!ended.stderr.contains(said));
    let gateway = setup.rest(format!("{}{EVERYTHING}", source.table())).start().await;
    eventually("it is told", async || gateway.log_text().contains(said)).await;
}
