//! What becomes of a delivery that fails, and whom it harms: nobody else.

use crate::support::{
    Delivery, EVERYTHING, Gate, RecordingDestination, Reply, Setup, Step, eventually, obliging_source, synced,
};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_attempt_is_repeated_with_the_same_id() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| match delivery.attempt {
        1 => Reply::new(503, "later"),
        2 => Reply::none(Step::Reset),
        3 => Reply::new(429, "").field("Retry-After", "1"),
        _ => Reply::ok(""),
    });
    let gateway = synced(&source, &destination).await;
    let id = gateway.put("/items/1", "x").await.field("Tidegate-Change").to_owned();
    let all = destination.wait_for(4).await;
    let attempts = all.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert!(all.iter().all(|delivery| delivery.id == id && delivery.sequence == all[0].sequence));
    assert!(all.iter().all(|delivery| delivery.request.body == b"x"));
    let waited = all[3].at - all[2].at;
    assert!(waited >= Duration::from_millis(950), "Retry-After: 1 was obeyed after {waited:?}");
    eventually("nothing waits any more", async || gateway.destination("search").await["pending"] == 0).await;
}

/// A permanent refusal parks its key and nothing else; redriven, the key arrives in order (I3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_parks_its_key_until_it_is_redriven() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&mended);
    destination.answer(move |delivery: &Delivery| {
        let refused = delivery.request.body == b"bad" && !flag.load(Ordering::SeqCst);
        if refused { Reply::new(400, "not like this") } else { Reply::ok("") }
    });
    let gateway = synced(&source, &destination).await;
    let bad = gateway.put("/items/1", "bad").await.field("Tidegate-Change").to_owned();
    gateway.put("/items/1", "next").await;
    gateway.put("/items/2", "other").await;
    destination.wait_for_body("other").await;
    let letters = async || gateway.admin_get("/v1/dead-letters?destination=search").await.json();
    eventually("there is a dead letter", async || {
        letters().await["dead_letters"][0]["change"] == bad.as_str()
    })
    .await;
    let letter = letters().await["dead_letters"][0].clone();
    assert_eq!(
        (&letter["destination"], &letter["key"], &letter["class"], &letter["code"], &letter["status"]),
        (&json!("search"), &json!("/items/1"), &json!("permanent"), &json!("http_status"), &json!(400))
    );
    assert_eq!(letter["answer"], "not like this");
    let status = gateway.destination("search").await;
    assert_eq!((&status["dead_letters"], &status["parked_keys"]), (&json!(1), &json!(1)), "{status}");
    let arrived = |body: &[u8]| destination.deliveries.all().iter().any(|one| one.request.body == body);
    assert!(!arrived(b"next"), "it waits behind the dead letter");

    let before = destination.deliveries.all().len();
    let dry = gateway
        .admin_post("/v1/dead-letters/redrive", &json!({"destination": "search", "dry_run": true}))
        .await;
    assert_eq!((dry.status, &dry.json()["count"]), (202, &json!(1)));
    assert_eq!(destination.deliveries.all().len(), before, "a dry run sends nothing");
    mended.store(true, Ordering::SeqCst);
    let redriven = gateway.admin_post("/v1/dead-letters/redrive", &json!({"destination": "search"})).await;
    assert_eq!((redriven.status, &redriven.json()["count"]), (202, &json!(1)));
    let all = destination.wait_for_body("next").await;
    let accepted = |body: &[u8]| all.iter().position(|one| one.request.body == body && one.answered == 200);
    assert!(accepted(b"bad") < accepted(b"next"), "in key order");
    assert!(all.iter().filter(|one| one.request.body == b"bad").all(|one| one.id == bad));
    assert_eq!(destination.state()["/items/1"], "next");
    eventually("no dead letter is left", async || letters().await["dead_letters"] == json!([])).await;
}

/// I4: a destination that is down is nothing that a client notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_down_changes_nothing_for_clients() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let up = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&up);
    destination
        .answer(move |_| if flag.load(Ordering::SeqCst) { Reply::ok("") } else { Reply::none(Step::Reset) });
    let gateway = synced(&source, &destination).await;
    for number in 0..50 {
        let path = format!("/items/{number}");
        assert_eq!(gateway.put(&path, "x").await.status, 200);
        assert_eq!(gateway.get(&path).await.status, 200);
    }
    eventually("all fifty wait", async || {
        let status = gateway.destination("search").await;
        let count = |name: &str| status[name].as_u64().unwrap_or(0);
        count("pending") <= 50 && count("pending") + count("in_flight") >= 50
    })
    .await;
    eventually("lag grows while it is down", async || {
        gateway.destination("search").await["lag_seconds"].as_f64().is_some_and(|lag| lag > 0.0)
    })
    .await;
    up.store(true, Ordering::SeqCst);
    eventually("everything arrives", async || {
        let all = destination.deliveries.all();
        let keys: std::collections::HashSet<_> =
            all.iter().filter(|one| one.answered == 200).map(|one| one.key.clone()).collect();
        keys.len() == 50
    })
    .await;
    eventually("nothing waits", async || gateway.destination("search").await["pending"] == 0).await;
}

/// I4: nor does another destination.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_harms_no_other_destination() {
    let source = obliging_source().await;
    let (hole, good) = (RecordingDestination::start().await, RecordingDestination::start().await);
    let never = Gate::closed();
    let held = never.clone();
    hole.answer(move |_| Reply::none(Step::Wait(held.clone())));
    let text = format!(
        "{}{}{}{EVERYTHING}[route.sync]\ndestinations = [\"hole\", \"good\"]\n",
        source.table(),
        hole.table("hole"),
        good.table("good")
    );
    let gateway = Setup::new(text).start().await;
    for number in 0..100 {
        assert_eq!(gateway.put(&format!("/items/{}", number % 20), "x").await.status, 200);
    }
    let all = good.wait_for(100).await;
    assert!(all.iter().all(|delivery| delivery.attempt == 1));
    eventually("the good one has nothing left", async || gateway.destination("good").await["pending"] == 0)
        .await;
    eventually("the hole has what it may have", async || {
        let status = gateway.destination("hole").await;
        let count = |name: &str| status[name].as_u64().unwrap_or_default();
        assert!(count("in_flight") <= 16 && count("in_flight") + count("pending") == 100, "{status}");
        count("in_flight") > 0
    })
    .await;
}

/// 401 says that the destination refuses Tidegate: held, probed, and nothing becomes a dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_refuses_us_is_held_and_probed_and_loses_nothing() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let known = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&known);
    destination.answer(move |_| Reply::new(if flag.load(Ordering::SeqCst) { 200 } else { 401 }, ""));
    let gateway = synced(&source, &destination).await;
    for number in 0..20 {
        assert_eq!(gateway.put(&format!("/items/{number}"), "x").await.status, 200);
    }
    eventually("it is held", async || gateway.destination("search").await["state"] == "held").await;
    assert!(destination.deliveries.all().len() <= 16 + 2, "what was in flight and probes, nothing else");
    known.store(true, Ordering::SeqCst);
    eventually("everything arrives", async || destination.state().len() == 20).await;
    eventually("it runs again", async || gateway.destination("search").await["state"] == "running").await;
    assert_eq!(gateway.destination("search").await["dead_letters"], 0);
}

/// `on_failure = "skip"`: order is given up for one change, and it is still counted as dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_failure_skip_lets_the_next_change_of_the_key_go_on() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(
        |delivery: &Delivery| {
            if delivery.request.body == b"bad" { Reply::new(422, "no") } else { Reply::ok("") }
        },
    );
    let text = format!(
        "{}{}on_failure = \"skip\"\n{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    let gateway = Setup::new(text).start().await;
    gateway.put("/items/1", "bad").await;
    gateway.put("/items/1", "next").await;
    destination.wait_for_body("next").await;
    let status = gateway.destination("search").await;
    assert_eq!((&status["dead_letters"], &status["parked_keys"]), (&json!(1), &json!(0)), "{status}");
}

/// What gives up after its bound of attempts is a dead letter that says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_of_attempts_ends_in_a_dead_letter() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|_| Reply::new(503, "never"));
    let table = destination.table("search").replace("cap = ", "attempts = 3, cap = ");
    let text = format!("{}{table}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n", source.table());
    let gateway = Setup::new(text).start().await;
    gateway.put("/items/1", "x").await;
    let letters = async || gateway.admin_get("/v1/dead-letters").await.json();
    eventually("it is given up", async || letters().await["dead_letters"][0]["code"] == "given_up").await;
    assert_eq!(letters().await["dead_letters"][0]["attempts"], 3);
    assert_eq!(destination.deliveries.all().len(), 3);
}
