//! What a source refuses, and what it may or may not have done.

use super::{accepted, accepting, becomes, texts};
use crate::support::{
    Ask, Fault, Gateway, InventorySource, RecordingDestination, Reply, ScriptedSource, Step, eventually,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A source that refuses the body `bad` until it is mended.
async fn strict_source() -> (ScriptedSource, Arc<AtomicBool>) {
    let source = ScriptedSource::start().await;
    let mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&mended);
    source.on("*", move |request| {
        let refused = request.body == b"bad" && !flag.load(Ordering::SeqCst);
        if refused { Reply::new(422, "not like this") } else { Reply::ok("") }
    });
    (source, mended)
}

async fn letters(gateway: &Gateway, query: &str) -> Vec<Value> {
    let listed = gateway.admin_get(&format!("/v1/dead-letters{query}")).await.json();
    listed["dead_letters"].as_array().cloned().unwrap_or_default()
}

async fn order(gateway: &Gateway, call: &str, filter: Value) -> Value {
    let answer = gateway.admin_post(&format!("/v1/dead-letters/{call}"), &filter).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["count"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_a_dead_letter_of_the_source_and_the_next_goes_on() {
    let (source, _) = strict_source().await;
    let destination = RecordingDestination::start().await;
    let gateway = accepting(&source.table(), &destination, "").start().await;
    let bad = accepted(&gateway.put("/items/1", "bad").await);
    let next = accepted(&gateway.put("/items/1", "next").await);
    assert_eq!(destination.wait_for(1).await[0].id, next);
    assert_eq!(texts(&source.received("/items/1")), ["bad", "next"], "a refusal is not repeated");
    assert_eq!(gateway.change_state(&bad).await, "dead-letter");
    let letter = letters(&gateway, "?source=inventory").await.remove(0);
    for (field, value) in [
        ("change", json!(bad)),
        ("source", json!("inventory")),
        ("destination", Value::Null),
        ("key", json!("/items/1")),
        ("class", json!("permanent")),
        ("code", json!("http_status")),
        ("status", json!(422)),
        ("attempts", json!(1)),
        ("answer", json!("not like this")),
    ] {
        assert_eq!(letter[field], value, "{field} of {letter}");
    }
    assert_eq!(letters(&gateway, "").await.len(), 1, "it stands among all");
    assert!(letters(&gateway, "?destination=search").await.is_empty());
    assert!(letters(&gateway, "?code=given_up").await.is_empty());
    assert_eq!(gateway.metric("tidegate_source_dead_letters{source=\"inventory\"}").await, 1);
    // I3: the source has something newer of this key.
    let redriven = gateway.admin_post("/v1/dead-letters/redrive", &json!({"source": "inventory"})).await;
    assert_eq!((redriven.status, redriven.json()), (202, json!({"count": 0, "left_out": 1})));
    assert_eq!(order(&gateway, "discard", json!({"destination": "search"})).await, 0);
    let nobody = gateway.admin_post("/v1/dead-letters/redrive", &json!({"source": "nobody"})).await;
    nobody.assert_problem(404);
    assert_eq!(order(&gateway, "discard", json!({"source": "inventory", "dry_run": true})).await, 1);
    assert_eq!(order(&gateway, "discard", json!({"source": "inventory"})).await, 1);
    assert!(letters(&gateway, "").await.is_empty());
    assert_eq!(gateway.change_state(&bad).await, "aborted");
    assert_eq!(texts(&source.received("/items/1")), ["bad", "next"]);
}

/// A rate holds at sources too; stopped, the rest stays dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_at_a_source_keeps_to_its_rate_and_can_be_stopped() {
    const LETTERS: usize = 20;
    let (source, mended) = strict_source().await;
    let destination = RecordingDestination::start().await;
    let gateway = accepting(&source.table(), &destination, "").start().await;
    for number in 0..LETTERS {
        accepted(&gateway.put(&format!("/items/{number}"), "bad").await);
    }
    eventually("all are dead", async || letters(&gateway, "").await.len() == LETTERS).await;
    mended.store(true, Ordering::SeqCst);
    let (path, began) = ("/v1/dead-letters/redrive", Instant::now());
    let told = gateway.admin_post(path, &json!({"source": "inventory", "rate": 10})).await.json();
    assert_eq!(told["count"], LETTERS);
    let all = destination.wait_for(4).await;
    // From before the first: how long that one was on its way nobody knows.
    let took = all[3].at - began;
    assert!(took >= Duration::from_millis(290), "three steps of a tenth of a second each took {took:?}");
    let stop = format!("/v1/operations/{}/stop", told["operation"]);
    assert_eq!(gateway.admin_post(&stop, &json!({})).await.status, 200);
    eventually("it is stopped", async || {
        gateway.admin_get("/v1/operations").await.json()["operations"][0]["state"] == "stopped"
    })
    .await;
    let left = letters(&gateway, "").await.len();
    assert!((1..=LETTERS - 4).contains(&left), "{left} are left");
    assert_eq!(order(&gateway, "redrive", json!({"source": "inventory"})).await, left);
    eventually("all have arrived", async || destination.state().len() == LETTERS).await;
}

/// I3, over a restart: what is parked stays so, and comes behind what is redriven.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_refusal_parks_its_key_until_it_is_redriven() {
    let (source, mended) = strict_source().await;
    let destination = RecordingDestination::start().await;
    let setup = accepting(&source.table(), &destination, "on_refusal = \"park-key\"\n");
    let gateway = setup.start().await;
    let bad = accepted(&gateway.put("/items/1", "bad").await);
    let one = accepted(&gateway.put("/items/1", "one").await);
    accepted(&gateway.put("/items/2", "other").await);
    destination.wait_for_body("other").await;
    becomes(&gateway, &bad, "dead-letter").await;
    gateway.kill().await;
    let gateway = setup.start().await;
    accepted(&gateway.put("/items/1", "two").await);
    let another = accepted(&gateway.put("/items/3", "another").await);
    becomes(&gateway, &another, "committed").await;
    let shown = gateway.admin_get(&format!("/v1/changes/{one}")).await.json();
    assert_eq!((&shown["state"], &shown["at_source"]["state"]), (&json!("accepted"), &json!("parked")));
    assert_eq!(texts(&source.received("/items/1")), ["bad"]);
    mended.store(true, Ordering::SeqCst);
    assert_eq!(order(&gateway, "redrive", json!({"source": "inventory", "dry_run": true})).await, 1);
    assert_eq!(order(&gateway, "redrive", json!({"key_prefix": "/items/1"})).await, 1);
    let all = destination.wait_for_body("two").await;
    assert_eq!(texts(&source.received("/items/1")), ["bad", "bad", "one", "two"]);
    let of_key: Vec<_> = all.iter().filter(|delivery| delivery.key == "/items/1").collect();
    assert_eq!(of_key[0].id, bad, "the same id");
    let bodies: Vec<_> = of_key.iter().map(|delivery| delivery.request.text()).collect();
    assert_eq!(bodies, ["bad", "one", "two"]);
    let keys = source.received("/items/1");
    assert_eq!(keys[0].fields.get("Idempotency-Key"), keys[1].fields.get("Idempotency-Key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_parked_goes_on_when_the_refused_one_is_discarded() {
    let (source, _) = strict_source().await;
    let destination = RecordingDestination::start().await;
    let gateway = accepting(&source.table(), &destination, "on_refusal = \"park-key\"\n").start().await;
    let bad = accepted(&gateway.put("/items/1", "bad").await);
    accepted(&gateway.put("/items/1", "next").await);
    becomes(&gateway, &bad, "dead-letter").await;
    assert_eq!(order(&gateway, "discard", json!({"source": "inventory"})).await, 1);
    assert_eq!(destination.wait_for(1).await[0].request.text(), "next");
    assert_eq!(texts(&source.received("/items/1")), ["bad", "next"]);
}

/// A POST may have been done: it is never sent twice, and an operator says what is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_whose_answer_was_lost_is_in_doubt_and_blocks_nothing() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    source.fail(|request| if request.text() == "cut" { Fault::CutAfterApplying } else { Fault::None });
    let gateway = accepting(&source.table(), &destination, "").start().await;
    let id = accepted(&gateway.send(Ask::post("/items", "cut")).await);
    becomes(&gateway, &id, "in-doubt").await;
    let listed = gateway.admin_get("/v1/changes?state=in-doubt").await.json();
    assert_eq!(listed["changes"][0]["id"], id.as_str(), "{listed}");
    accepted(&gateway.send(Ask::post("/items", "whole")).await);
    destination.wait_for_body("whole").await;
    let path = format!("/v1/changes/{id}/resolve");
    assert_eq!(gateway.admin_post(&path, &json!({"as": "committed"})).await.status, 200);
    destination.wait_for_body("cut").await;
    let applied = texts(&source.applied.all());
    assert_eq!(applied, ["cut", "whole"], "neither came twice");
}

/// What cannot be repeated and can be read is read again; the key waits until that decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_whose_answer_was_lost_is_reconciled_with_what_the_source_has() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.on("*", |request| match request.method.as_str() {
        "PATCH" => Reply::none(Step::Cut),
        "GET" => Reply::ok("patched"),
        _ => Reply::ok(""),
    });
    let table = format!("{}timeout = \"1500ms\"\n", source.table());
    let gateway = accepting(&table, &destination, "").start().await;
    let id = accepted(&gateway.send(Ask::new("PATCH", "/items/1").body("p")).await);
    accepted(&gateway.put("/items/1", "next").await);
    let all = destination.wait_for_body("next").await;
    assert_eq!((&all[0].id, all[0].request.text().as_str()), (&id, "patched"));
    let methods: Vec<_> = source.received("/items/1").into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["PATCH", "GET", "PUT"]);
    becomes(&gateway, &id, "reconciled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_source_gets_a_post_again_with_the_same_key() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.sequence(
        "/items",
        [Reply::none(Step::Cut), Reply::none(Step::Reset), Reply::new(201, "").field("Location", "/items/7")],
    );
    let table = format!("{}idempotent = true\n", source.table());
    let gateway = accepting(&table, &destination, "").start().await;
    let id = accepted(&gateway.send(Ask::post("/items", "x")).await);
    let delivery = destination.wait_for(1).await.remove(0);
    assert_eq!((&delivery.id, delivery.key.as_str()), (&id, "/items/7"));
    let sent = source.received("/items");
    assert_eq!(sent.len(), 3);
    let key = format!("\"{id}\"");
    assert!(sent.iter().all(|one| one.fields.get("Idempotency-Key") == Some(key.as_str())));
}

/// PUT and DELETE say the same twice: a 404 after a lost answer is that DELETE's own doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_was_done_and_not_answered_is_done() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let cut = AtomicBool::new(false);
    source.fail(move |request| {
        let first = request.method == "DELETE" && !cut.swap(true, Ordering::SeqCst);
        if first { Fault::CutAfterApplying } else { Fault::None }
    });
    let gateway = accepting(&source.table(), &destination, "").start().await;
    accepted(&gateway.put("/items/1", "x").await);
    let id = accepted(&gateway.send(Ask::new("DELETE", "/items/1")).await);
    becomes(&gateway, &id, "committed").await;
    assert_eq!(destination.wait_for(2).await[1].request.method, "DELETE");
    assert_eq!(source.applied.all().len(), 3, "it was repeated");
    assert!(letters(&gateway, "").await.is_empty());
}

/// A precondition is for the source: it decides when it is asked, and its 412 is a refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_13_a_precondition_is_the_sources_to_evaluate() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.on("*", |request| match request.fields.get("If-Match") {
        Some("\"1\"") => Reply::ok(""),
        _ => Reply::new(412, ""),
    });
    let gateway = accepting(&source.table(), &destination, "").start().await;
    let good = accepted(&gateway.send(Ask::put("/items/1", "a").field("If-Match", "\"1\"")).await);
    let bad = accepted(&gateway.send(Ask::put("/items/1", "b").field("If-Match", "\"2\"")).await);
    becomes(&gateway, &bad, "dead-letter").await;
    let delivery = destination.wait_for(1).await.remove(0);
    assert_eq!((delivery.id, delivery.request.fields.get("If-Match")), (good, None));
    eventually("the letter tells why", async || {
        letters(&gateway, "").await.first().is_some_and(|letter| letter["status"] == 412)
    })
    .await;
}
