//! How long a delivery waits, and who ends that: holds, Retry-After, breakers, operators.

use super::{letters, settled, setup};
use crate::support::{Ask, Delivery, EVERYTHING, Gate, RecordingDestination, Reply, SYNC, Setup, Step};
use crate::support::{eventually, obliging_source};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was sent before a destination refused tells nothing of it now: nothing that it refuses dies for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_late_success_makes_no_dead_letter_of_what_a_hold_refuses() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let (gate, expired) = (Gate::closed(), Arc::new(AtomicBool::new(false)));
    let (held, is_expired) = (gate.clone(), Arc::clone(&expired));
    destination.answer(move |delivery| match delivery.key.as_str() {
        "/items/slow" if delivery.attempt == 1 => Reply::ok("").after(Step::Wait(held.clone())),
        _ if is_expired.load(Ordering::Relaxed) => Reply::new(401, "expired"),
        _ => Reply::ok(""),
    });
    let gateway = setup(&source, &destination, "").start().await;
    let mut number = 0;
    eventually("it takes several at once", async || {
        number += 1;
        gateway.put(&format!("/items/{number}"), "x").await;
        gateway.destination("search").await["concurrency"].as_u64().unwrap() > 2
    })
    .await;
    settled(&gateway).await;
    expired.store(true, Ordering::Relaxed);
    gateway.put("/items/slow", "x").await;
    destination.deliveries.until("the slow one", |all| all.iter().any(|one| one.key == "/items/slow")).await;
    gateway.put("/items/refused", "x").await;
    eventually("it is held", async || gateway.destination("search").await["state"] == "held").await;
    gate.open();
    let refused = |one: &Delivery| one.key == "/items/refused";
    destination
        .deliveries
        .until("it was probed again", |all| all.iter().filter(|one| refused(one)).count() >= 3)
        .await;
    assert_eq!(letters(&gateway).await, Vec::<serde_json::Value>::new());
    assert_eq!(gateway.destination("search").await["state"], "held");
    expired.store(false, Ordering::Relaxed);
    eventually("nothing waits", async || gateway.destination("search").await["pending"] == 0).await;
}

/// A wait that the destination asked for counts for the change that was answered so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_put_off_for_too_long_is_given_up() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| match delivery.key.as_str() {
        "/items/never" => Reply::new(503, "").field("Retry-After", "1"),
        _ => Reply::ok(""),
    });
    let table = destination.table("search").replace("cap = ", "give_up = \"2s\", cap = ");
    let gateway = Setup::new(format!("{}{table}{EVERYTHING}{SYNC}", source.table())).start().await;
    gateway.put("/items/never", "x").await;
    let mut number = 0;
    eventually("it is given up", async || {
        number += 1;
        gateway.put(&format!("/items/{number}"), "x").await;
        !letters(&gateway).await.is_empty()
    })
    .await;
    let letter = letters(&gateway).await.remove(0);
    assert_eq!((&letter["key"], &letter["code"]), (&json!("/items/never"), &json!("given_up")), "{letter}");
    eventually("nothing else waits", async || gateway.destination("search").await["pending"] == 0).await;
    assert_eq!(letters(&gateway).await.len(), 1, "who waited with it did not die");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resume_ends_the_wait_of_an_open_breaker() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    destination.answer(move |_| Reply::new(if is_down.load(Ordering::Relaxed) { 503 } else { 200 }, ""));
    let breaker = "breaker = { failures = 2, open = \"10m\", open_cap = \"10m\" }";
    let gateway = setup(&source, &destination, breaker).start().await;
    for number in 0..3 {
        gateway.put(&format!("/items/{number}"), "x").await;
    }
    eventually("it opens", async || gateway.destination("search").await["breaker"] == "open").await;
    down.store(false, Ordering::Relaxed);
    gateway.admin_post("/v1/destinations/search/resume", &json!({})).await;
    eventually("nothing waits", async || gateway.destination("search").await["pending"] == 0).await;
}

/// RFC 9110 8.6: whoever wants a length gets one, also where there is no content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_8_6_what_has_no_content_says_so() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let gateway = setup(&source, &destination, "").start().await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        gateway.send(Ask::new(method, &format!("/items/{method}"))).await;
    }
    for delivery in destination.wait_for(4).await {
        let expected = if delivery.request.method == "DELETE" { None } else { Some("0") };
        assert_eq!(delivery.request.fields.get("Content-Length"), expected, "{delivery:?}");
        assert!(delivery.request.body.is_empty());
    }
}
