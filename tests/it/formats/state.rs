//! `format = "state"`: what the source has after a change is what the destination gets.

use super::delivering;
use crate::support::{Ask, Gate, Gateway, InventorySource, RecordingDestination, Reply, ScriptedSource};
use crate::support::{Setup, Step, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

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

/// A part that nobody asked for is not what the source has (RFC 9110 15.3.7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_part_of_a_state_is_not_delivered_as_the_whole() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let reads = Mutex::new(0);
    source.on("*", move |request| {
        if request.method != "GET" {
            return Reply::ok("");
        }
        let mut reads = reads.lock().unwrap();
        *reads += 1;
        let part = Reply::new(206, "wh").field("Content-Range", "bytes 0-1/5");
        if *reads < 3 { part } else { Reply::ok("whole") }
    });
    let gateway = delivering(&source.table(), &destination, "format = \"state\"").await;
    gateway.send(Ask::put("/items/7", "seven")).await;
    destination.wait_for_body("whole").await;
    assert_eq!(destination.deliveries.all().len(), 1);
}

/// A key may have changes of many targets: what was read of one stands for none of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_every_target_of_a_key_is_delivered() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let has = Arc::new(Mutex::new(BTreeMap::new()));
    source.on("*", move |request| {
        let mut has = has.lock().unwrap();
        if request.method == "GET" {
            return has
                .get(&request.target)
                .map_or(Reply::new(404, ""), |text: &String| Reply::ok(text.as_str()));
        }
        has.insert(request.target.clone(), request.text());
        Reply::ok("")
    });
    // The default key is the path without its query.
    let gateway = delivering(&source.table(), &destination, "format = \"state\"").await;
    gateway.admin_post("/v1/destinations/search/pause", &json!({})).await;
    let targets = ["/items?id=1", "/items?id=2", "/items?id=1", "/items?id=3"];
    let mut ids = Vec::new();
    for (number, target) in targets.into_iter().enumerate() {
        let put = gateway.send(Ask::put(target, number.to_string())).await;
        ids.push(put.field("Tidegate-Change").to_owned());
    }
    gateway.admin_post("/v1/destinations/search/resume", &json!({})).await;
    until_settled(&gateway).await;
    let got = destination.deliveries.all();
    let got: Vec<_> = got.iter().map(|one| (one.request.target.as_str(), one.request.text())).collect();
    let expected = [("/items?id=1", "2"), ("/items?id=2", "1"), ("/items?id=3", "3")];
    assert_eq!(got, expected.map(|(target, text)| (target, text.to_owned())));
    for (id, state) in ids.iter().zip(["delivered", "delivered", "superseded", "delivered"]) {
        let told = gateway.admin_get(&format!("/v1/changes/{id}")).await.json();
        assert_eq!(told["deliveries"][0]["state"], state, "{told}");
    }
}

/// What is asked for is sent, whatever the destination has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_sends_the_state_of_every_target_once_more() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let gateway = following(&source, &destination).await;
    gateway.admin_post("/v1/destinations/search/pause", &json!({})).await;
    for number in 0..3 {
        gateway.send(Ask::put("/items/7", format!("v{number}"))).await;
    }
    gateway.send(Ask::put("/items/8", "other")).await;
    gateway.admin_post("/v1/destinations/search/resume", &json!({})).await;
    until_settled(&gateway).await;
    assert_eq!(destination.deliveries.all().len(), 2);
    gateway.admin_post("/v1/replay", &json!({"destination": "search"})).await;
    let all = destination.wait_for(4).await;
    let again: BTreeMap<_, _> = all[2..]
        .iter()
        .map(|one| {
            (one.request.target.clone(), (one.request.text(), one.request.fields.has("Tidegate-Replay")))
        })
        .collect();
    let expected = [("/items/7", "v2"), ("/items/8", "other")];
    assert_eq!(again, expected.map(|(target, text)| (target.to_owned(), (text.to_owned(), true))).into());
    until_settled(&gateway).await;
    assert_eq!(destination.deliveries.all().len(), 4, "several changes of a target are one again");
}

/// A source that asks to be left alone is, and what that means for deliveries is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_source_in_trouble_is_left_alone_and_told_of() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.on("*", |request| match request.method.as_str() {
        "GET" => Reply::new(503, "").field("Retry-After", "600"),
        _ => Reply::ok(""),
    });
    let gateway = delivering(&source.table(), &destination, "format = \"state\"").await;
    let mut ids = Vec::new();
    for number in 0..50 {
        let put = gateway.put(&format!("/items/{number}"), "x").await;
        ids.push(put.field("Tidegate-Change").to_owned());
    }
    let why = "the source inventory answered 503 to a read";
    let mut told = Value::Null;
    eventually("the delivery says why it waits", async || {
        told = gateway.admin_get(&format!("/v1/changes/{}", ids[0])).await.json();
        told["deliveries"][0]["last_error"] == why
    })
    .await;
    assert_eq!(
        (&told["deliveries"][0]["state"], &told["deliveries"][0]["attempts"]),
        (&json!("waiting"), &json!(0))
    );
    let next_at = told["deliveries"][0]["next_attempt_at"].as_u64().unwrap();
    assert!(next_at > told["recorded_at"].as_u64().unwrap() + 500_000, "as it asks: {told}");
    let told = gateway.destination("search").await;
    assert_eq!(
        (&told["last_error"], &told["pending"], &told["state"]),
        (&json!(why), &json!(50), &json!("running"))
    );
    assert!(told["next_attempt_at"].is_u64(), "{told}");
    let reads = || source.requests.all().iter().filter(|request| request.method == "GET").count();
    let counted = "tidegate_deliveries_unread_total{destination=\"search\",source=\"inventory\"}";
    assert_eq!(gateway.metric(counted).await, reads() as u64);
    assert!(reads() <= 2, "{} reads: one at a time, and then none", reads());
    eventually("it is told", async || gateway.log_text().contains("a delivery waits for its source")).await;
    assert!(destination.deliveries.all().is_empty());
}

/// A source that hangs holds its own changes up, and those of no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_source_that_hangs_harms_only_its_own_changes() {
    let (hangs, well) = (ScriptedSource::start().await, ScriptedSource::start().await);
    let destination = RecordingDestination::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    hangs.on("*", move |request| match request.method.as_str() {
        "GET" => Reply::ok("late").after(Step::Wait(held.clone())),
        _ => Reply::ok(""),
    });
    well.always("*", Reply::ok("well"));
    let route = |name: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}/{{*rest}}\"\nsource = \"{name}\"\n\
             [route.sync]\ndestinations = [\"search\"]\n"
        )
    };
    let text = format!(
        "{}timeout = \"10m\"\n{}{}format = \"state\"\nconcurrency = 2\n{}{}",
        hangs.table().replace("inventory", "hangs"),
        well.table().replace("inventory", "well"),
        destination.table("search"),
        route("hangs"),
        route("well"),
    );
    let gateway = Setup::new(text).start().await;
    for number in 0..20 {
        gateway.put(&format!("/hangs/{number}"), "x").await;
    }
    hangs.requests.until("a read hangs", |all| all.iter().any(|request| request.method == "GET")).await;
    for number in 0..20 {
        gateway.put(&format!("/well/{number}"), "x").await;
    }
    let all = destination.wait_for(20).await;
    assert!(all.iter().all(|delivery| delivery.key.starts_with("/well/")), "{all:?}");
    gate.open();
    destination.wait_for(40).await;
}
