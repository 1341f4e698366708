//! `format = "state"`: what the source has after a change is what the destination gets.

use super::delivering;
use crate::support::{Ask, Gateway, InventorySource, RecordingDestination, Reply, eventually};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

async fn following(source: &InventorySource, destination: &RecordingDestination) -> Gateway {
    delivering(&source.table(), destination, "format = \"state\"").await
}

async fn until_settled(gateway: &Gateway) {
    eventually("nothing waits", async || {
        let told = gateway.destination("search").await;
        told["pending"] == 0 && told["in_flight"] == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_destination_gets_what_the_source_has() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let gateway = following(&source, &destination).await;
    let put = gateway.send(Ask::put("/items/7", "seven").field("Content-Language", "de")).await;
    let delivery = destination.wait_for(1).await.remove(0);
    assert_eq!((delivery.request.method.as_str(), delivery.request.text().as_str()), ("PUT", "seven"));
    assert_eq!(delivery.request.target, "/items/7");
    assert_eq!(delivery.request.fields.get("Content-Type"), Some("text/plain"), "the source's own");
    assert_eq!(delivery.request.fields.get("Content-Language"), None, "not the client's");
    assert_eq!(delivery.id, put.field("Tidegate-Change"));
    gateway.send(Ask::new("DELETE", "/items/7")).await;
    let delivery = destination.wait_for(2).await.remove(1);
    assert_eq!((delivery.request.method.as_str(), delivery.request.text().as_str()), ("DELETE", ""));
    // Of a POST what it made, which its key tells.
    gateway.send(Ask::post("/items", "new")).await;
    let delivery = destination.wait_for(3).await.remove(2);
    assert_eq!((delivery.request.method.as_str(), delivery.request.text().as_str()), ("PUT", "new"));
    assert_eq!(Some(&delivery.request.target), source.state().keys().next());
}

/// What waits of a key becomes one read of its source and one delivery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_of_a_key_becomes_one() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let gateway = following(&source, &destination).await;
    gateway.admin_post("/v1/destinations/search/pause", &json!({})).await;
    let mut last = String::new();
    for number in 0..9 {
        let put = gateway.send(Ask::put("/items/7", format!("v{number}"))).await;
        last = put.field("Tidegate-Change").to_owned();
    }
    gateway.send(Ask::put("/items/8", "other")).await;
    gateway.admin_post("/v1/destinations/search/resume", &json!({})).await;
    destination
        .deliveries
        .until("both keys", |all| {
            ["v8", "other"].iter().all(|body| all.iter().any(|delivery| delivery.request.text() == *body))
        })
        .await;
    until_settled(&gateway).await;
    assert_eq!(destination.deliveries.all().len(), 2, "one of each key");
    let told = gateway.admin_get(&format!("/v1/changes/{last}")).await.json();
    assert_eq!(told["deliveries"][0]["state"], "superseded", "{told}");
    gateway.send(Ask::put("/items/7", "later")).await;
    destination.wait_for_body("later").await;
}

/// A destination that fails gets the newest in the end, and a source that cannot be read holds only its
/// own keys up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_what_arrives_is_never_older_than_what_was_there() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let gateway = following(&source, &destination).await;
    let broken = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&broken);
    destination
        .answer(move |_| if fails.load(Ordering::Relaxed) { Reply::new(503, "") } else { Reply::ok("") });
    for round in 0..20 {
        for key in 0..5 {
            let ask = match (round + key) % 7 {
                3 => Ask::new("DELETE", &format!("/items/{key}")),
                _ => Ask::put(&format!("/items/{key}"), format!("{round:02}")),
            };
            gateway.send(ask).await;
        }
        broken.store(round % 4 == 0, Ordering::Relaxed);
    }
    broken.store(false, Ordering::Relaxed);
    until_settled(&gateway).await;
    assert_eq!(destination.state(), source.state());
    let mut seen: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for delivery in destination.deliveries.all() {
        let newest = seen.entry(delivery.key.clone()).or_default();
        assert!(delivery.sequence >= newest.0, "sequences of {} go back", delivery.key);
        if delivery.request.method == "PUT" {
            assert!(delivery.request.text() >= newest.1, "{} goes back", delivery.key);
            newest.1 = delivery.request.text();
        }
        newest.0 = delivery.sequence;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_be_read_is_no_fault_of_the_destination() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let gateway = following(&source, &destination).await;
    source.fail_reads(3);
    gateway.send(Ask::put("/items/7", "seven")).await;
    let delivery = destination.wait_for_body("seven").await.remove(0);
    assert_eq!(delivery.attempt, 1, "what was not read was no attempt");
}
