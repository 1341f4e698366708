//! Sending again: redrive, discard and replay, by the admin API.

use crate::support::{
    Ask, Delivery, EVERYTHING, Gate, Gateway, RecordingDestination, Reply, SYNC, ScriptedSource, Setup, Step,
    eventually, obliging_source, synced,
};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Refuses bodies that begin with `bad` until it is mended.
fn choosy(destination: &RecordingDestination) -> Arc<AtomicBool> {
    let mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&mended);
    destination.answer(move |delivery: &Delivery| {
        let refused = delivery.request.body.starts_with(b"bad") && !flag.load(Ordering::SeqCst);
        if refused { Reply::new(400, "not like this") } else { Reply::ok("") }
    });
    mended
}

fn text(source: &ScriptedSource, destination: &RecordingDestination, more: &str) -> String {
    format!("{}{}{more}{EVERYTHING}{SYNC}", source.table(), destination.table("search"))
}

async fn dead(gateway: &Gateway, query: &str) -> Vec<Value> {
    let listed = gateway.admin_get(&format!("/v1/dead-letters{query}")).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    listed.json()["dead_letters"].as_array().cloned().unwrap_or_default()
}

async fn operation(gateway: &Gateway, id: &Value) -> Value {
    let all = gateway.admin_get("/v1/operations").await.json();
    let all = all["operations"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["id"] == *id).expect("the operation is listed")
}

async fn ended(gateway: &Gateway, id: &Value) -> Value {
    eventually("the operation ends", async || operation(gateway, id).await["state"] != "running").await;
    operation(gateway, id).await
}

/// Bodies that the destination accepted, in order.
fn accepted(all: &[Delivery]) -> Vec<String> {
    all.iter().filter(|one| one.answered == 200).map(|one| one.request.text()).collect()
}

fn is_replay(delivery: &Delivery) -> bool {
    delivery.request.fields.get("Tidegate-Replay") == Some("1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_found_redriven_and_discarded_by_every_filter() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let mended = choosy(&destination);
    let gateway = synced(&source, &destination).await;
    let mut ids = Vec::new();
    for path in ["/a/1", "/a/2", "/b/1", "/b/2"] {
        ids.push(gateway.put(path, "bad").await.field("Tidegate-Change").to_owned());
        gateway.put(path, "behind").await;
    }
    eventually("all are dead", async || dead(&gateway, "").await.len() == 4).await;
    let all = dead(&gateway, "").await;
    let fields =
        ["change", "destination", "key", "sequence", "class", "code", "status", "attempts", "first_at"];
    for letter in &all {
        let letter = letter.as_object().expect("an object");
        assert_eq!(letter.len(), fields.len() + 2, "{letter:?}");
        assert!(
            fields.iter().chain(&["last_at", "answer"]).all(|name| letter.contains_key(*name)),
            "{letter:?}"
        );
    }
    let second_at = all[1]["last_at"].as_u64().expect("milliseconds");
    let after = all.iter().filter(|letter| letter["last_at"].as_u64() >= Some(second_at)).count();
    for (query, count) in [
        (String::new(), 4),
        ("?destination=search".into(), 4),
        ("?code=http_status".into(), 4),
        ("?code=timeout".into(), 0),
        ("?key_prefix=/a/".into(), 2),
        (format!("?since={second_at}"), after),
        (format!("?until={second_at}"), 4 - after),
        ("?since=2100-01-01T00:00:00Z".into(), 0),
        (format!("?change={}", ids[2]), 1),
    ] {
        assert_eq!(dead(&gateway, &query).await.len(), count, "{query}");
    }
    for (query, status) in [("?since=soon", 400), ("?code=odd", 422), ("?destination=nobody", 404)] {
        gateway.admin_get(&format!("/v1/dead-letters{query}")).await.assert_problem(status);
    }
    let unknown = "01900000-0000-7000-8000-000000000000";
    for path in ["/v1/dead-letters/redrive", "/v1/dead-letters/discard"] {
        for body in [json!({"change": unknown}), json!({"id": "7"}), json!({"destination": "nobody"})] {
            gateway.admin_post(path, &body).await.assert_problem(404);
        }
    }
    mended.store(true, Ordering::SeqCst);
    let one = gateway.admin_post("/v1/dead-letters/redrive", &json!({"change": ids[3]})).await;
    assert_eq!((one.status, one.json()), (202, json!({"count": 1})));
    eventually("it arrived with what was behind", async || {
        accepted(&destination.deliveries.all()) == ["bad", "behind"]
    })
    .await;
    assert_eq!(dead(&gateway, "").await.len(), 3, "and no other");
    let order = json!({"key_prefix": "/a/", "destination": "search"});
    let dropped = gateway.admin_post("/v1/dead-letters/discard", &order).await;
    assert_eq!((dropped.status, dropped.json()), (202, json!({"count": 2})));
    eventually("what was behind them goes on", async || destination.state().len() == 3).await;
    assert_eq!(accepted(&destination.deliveries.all()), ["bad", "behind", "behind", "behind"]);
    let change = gateway.admin_get(&format!("/v1/changes/{}", ids[0])).await.json();
    assert_eq!(change["deliveries"][0]["state"], "discarded", "{change}");
    assert_eq!(dead(&gateway, "").await.len(), 1);
}

/// I3: what is older than what the destination has is left out, and the answer says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_leaves_out_what_a_newer_change_has_overtaken() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let mended = choosy(&destination);
    let gateway = Setup::new(text(&source, &destination, "on_failure = \"skip\"\n")).start().await;
    gateway.put("/items/1", "bad").await;
    gateway.put("/items/1", "next").await;
    gateway.put("/items/2", "bad").await;
    destination.wait_for_body("next").await;
    eventually("both are dead", async || dead(&gateway, "").await.len() == 2).await;
    eventually("the newer one is settled", async || gateway.destination("search").await["in_flight"] == 0)
        .await;
    mended.store(true, Ordering::SeqCst);
    for dry_run in [true, false] {
        let told = gateway.admin_post("/v1/dead-letters/redrive", &json!({"dry_run": dry_run})).await;
        assert_eq!((told.status, told.json()), (202, json!({"count": 1, "left_out": 1})), "dry: {dry_run}");
    }
    destination.wait_for_body("bad").await;
    assert_eq!(destination.state()["/items/1"], "next");
    assert_eq!(dead(&gateway, "").await.len(), 1);
}

/// A rate is kept to; stopped, the rest stays dead over a restart; ordered once more, it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_with_a_rate_can_be_stopped_and_continued() {
    const LETTERS: usize = 30;
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let mended = choosy(&destination);
    let setup = Setup::new(text(&source, &destination, ""));
    let gateway = setup.start().await;
    for number in 0..LETTERS {
        gateway.put(&format!("/items/{number}"), "bad").await;
    }
    eventually("all are dead", async || dead(&gateway, "").await.len() == LETTERS).await;
    mended.store(true, Ordering::SeqCst);
    let (before, began) = (destination.deliveries.all().len(), Instant::now());
    let told = gateway.admin_post("/v1/dead-letters/redrive", &json!({"rate": 10})).await;
    assert_eq!((told.status, &told.json()["count"]), (202, &json!(LETTERS)));
    let id = told.json()["operation"].clone();
    let all = destination.wait_for(before + 6).await;
    // From before the first: how long that one was on its way nobody knows.
    let took = all[before + 5].at - began;
    assert!(took >= Duration::from_millis(490), "five steps of a tenth of a second each took {took:?}");
    let stop = gateway.operate(Ask::post(&format!("/v1/operations/{id}/stop"), "")).await;
    assert_eq!(stop.status, 200, "{}", stop.text());
    let stopped = ended(&gateway, &id).await;
    assert_eq!((&stopped["state"], &stopped["kind"]), (&json!("stopped"), &json!("redrive")));
    let left = dead(&gateway, "").await.len();
    assert!((1..=LETTERS - 6).contains(&left), "{left} are left");
    assert!(gateway.terminate().await.status.success());
    let gateway = setup.start().await;
    assert_eq!(dead(&gateway, "").await.len(), left, "nobody goes on with it unasked");
    let told = gateway.admin_post("/v1/dead-letters/redrive", &json!({"rate": 1000})).await.json();
    assert_eq!(told["count"], left);
    assert_eq!(ended(&gateway, &told["operation"]).await["state"], "finished");
    eventually("all have arrived", async || destination.state().len() == LETTERS).await;
    assert_eq!(accepted(&destination.deliveries.all()).len(), LETTERS, "each once");
}

/// What is redriven and fails says nothing to the breaker, however many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_does_not_open_the_breaker() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let fails = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fails);
    destination.answer(move |_| Reply::new(if flag.load(Ordering::SeqCst) { 500 } else { 400 }, ""));
    let gateway = synced(&source, &destination).await;
    for number in 0..30 {
        gateway.put(&format!("/items/{number}"), "x").await;
    }
    eventually("all are dead", async || dead(&gateway, "").await.len() == 30).await;
    fails.store(true, Ordering::SeqCst);
    let before = destination.deliveries.all().len();
    assert_eq!(gateway.admin_post("/v1/dead-letters/redrive", &json!({})).await.json()["count"], 30);
    let all = destination.wait_for(before + 60).await;
    let status = gateway.destination("search").await;
    assert_eq!((&status["breaker"], &status["state"]), (&json!("closed"), &json!("running")), "{status}");
    let redriven = &all[before];
    assert_eq!(redriven.attempt, 2, "attempts are counted on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_paged_and_tell_of_attempts_and_settlement() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery: &Delivery| {
        if delivery.request.text() == "slow" && delivery.attempt < 3 {
            Reply::new(503, "")
        } else {
            Reply::ok("")
        }
    });
    let gateway = synced(&source, &destination).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let body = if number == 3 { "slow" } else { "quick" };
        let answer = gateway.put(&format!("/items/{number}"), body).await;
        ids.push(answer.field("Tidegate-Change").to_owned());
    }
    destination.wait_for_body("slow").await;
    eventually("all are settled", async || {
        let status = gateway.destination("search").await;
        status["pending"] == 0 && status["in_flight"] == 0
    })
    .await;
    for (number, id) in ids.iter().enumerate() {
        let change = gateway.admin_get(&format!("/v1/changes/{id}")).await.json();
        let delivery = &change["deliveries"][0];
        let attempts = if number == 3 { 3 } else { 1 };
        assert_eq!(
            (&delivery["state"], &delivery["attempts"]),
            (&json!("delivered"), &json!(attempts)),
            "{change}"
        );
        let (recorded, settled) = (change["recorded_at"].as_u64(), delivery["settled_at"].as_u64());
        assert!(recorded.is_some() && settled >= recorded, "{change}");
    }
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = gateway.admin_get(&format!("/v1/changes?limit=3{after}")).await.json();
        let changes = page["changes"].as_array().expect("a list");
        paged.extend(changes.iter().map(|change| change["id"].as_str().unwrap_or_default().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(Some(next), paged.last().map(String::as_str));
        after = format!("&after={next}");
    }
    assert_eq!(paged, ids);
    // A cursor that is not kept any more stands for its time: nothing behind it is missed.
    let old = "/v1/changes?after=01900000-0000-7000-8000-000000000000";
    assert_eq!(gateway.admin_get(old).await.json()["changes"].as_array().map(Vec::len), Some(7));
    for (query, status) in
        [("state=odd", 422), ("limit=0", 422), ("after=x", 400), ("destination=nobody", 404)]
    {
        gateway.admin_get(&format!("/v1/changes?{query}")).await.assert_problem(status);
    }
}

/// Writes `per_key` values to each key, and waits until all have arrived.
async fn history(gateway: &Gateway, destination: &RecordingDestination, keys: usize, per_key: usize) {
    for value in 0..per_key {
        for key in 0..keys {
            gateway.put(&format!("/items/{key}"), &format!("{value:04}")).await;
        }
    }
    eventually("all has arrived", async || accepted(&destination.deliveries.all()).len() == keys * per_key)
        .await;
    eventually("and is settled", async || gateway.destination("search").await["in_flight"] == 0).await;
}

/// I3: the same ids in the same order, marked; live changes of a key wait until its replay has run to the
/// newest, and so the newest is what the destination has in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_runs_each_key_to_its_newest_before_anything_live_of_it() {
    const KEYS: usize = 8;
    const VALUES: usize = 12;
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let setup = Setup::new(text(&source, &destination, ""));
    let gateway = setup.start().await;
    history(&gateway, &destination, KEYS, VALUES).await;
    let first = destination.deliveries.all();
    let order = json!({"destination": "search"});
    let dry = gateway.admin_post("/v1/replay", &json!({"destination": "search", "dry_run": true})).await;
    assert_eq!((dry.status, dry.json()), (202, json!({"count": KEYS * VALUES})));
    assert_eq!(destination.deliveries.all().len(), first.len(), "a dry run sends nothing");
    // From now on every answer waits, so that live changes come while the replay is under way.
    let gate = Gate::closed();
    let held = gate.clone();
    destination.answer(move |_| Reply::ok("").after(Step::Wait(held.clone())));
    for key in 0..KEYS {
        gateway.put(&format!("/items/{key}"), &format!("{VALUES:04}")).await;
    }
    let told = gateway.admin_post("/v1/replay", &order).await;
    assert_eq!((told.status, &told.json()["count"]), (202, &json!(KEYS * VALUES)));
    gateway.admin_post("/v1/replay", &order).await.assert_problem(409);
    for key in 0..KEYS {
        gateway.put(&format!("/items/{key}"), &format!("{:04}", VALUES + 1)).await;
    }
    gate.open();
    let done = ended(&gateway, &told.json()["operation"]).await;
    assert_eq!((&done["state"], &done["kind"]), (&json!("finished"), &json!("replay")), "{done}");
    eventually("the newest has arrived everywhere", async || {
        let state = destination.state();
        state.len() == KEYS && state.values().all(|value| *value == format!("{:04}", VALUES + 1))
    })
    .await;
    eventually("nothing waits", async || gateway.destination("search").await["pending"] == 0).await;
    let again = destination.deliveries.all().split_off(first.len());
    let mut per_key: HashMap<String, Vec<(bool, String, String)>> = HashMap::new();
    for one in again {
        let told = (is_replay(&one), one.request.text(), one.id.clone());
        per_key.entry(one.key.clone()).or_default().push(told);
    }
    assert_eq!(per_key.len(), KEYS);
    for (key, sent) in per_key {
        let before: Vec<_> = first.iter().filter(|one| one.key == key).map(|one| one.id.clone()).collect();
        let replayed: Vec<_> = sent.iter().filter(|one| one.0).collect();
        let ids: Vec<_> = replayed.iter().map(|one| one.2.clone()).collect();
        assert_eq!(ids[..VALUES], before[..], "{key}: the same ids, in order");
        let start = sent.iter().position(|one| one.0).expect("it was replayed");
        let end = sent.iter().rposition(|one| one.0).expect("it was replayed");
        assert!(sent[start..=end].iter().all(|one| one.0), "{key}: {sent:?}");
        let newest_before =
            sent[..start].last().map_or_else(|| format!("{:04}", VALUES - 1), |one| one.1.clone());
        assert_eq!(sent[end].1, newest_before, "{key}: up to the newest that it had");
        assert_eq!(sent.last().map(|one| one.1.as_str()), Some(format!("{:04}", VALUES + 1).as_str()));
    }
}

/// A replay that a kill cuts off: keys that were begun run to their newest after the restart, the others
/// are left as they are, and the whole can be ordered again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_replay_that_is_cut_off_leaves_no_key_at_an_old_state() {
    const KEYS: usize = 40;
    const VALUES: usize = 20;
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let setup = Setup::new(text(&source, &destination, ""));
    let gateway = setup.start().await;
    history(&gateway, &destination, KEYS, VALUES).await;
    let before = destination.deliveries.all().len();
    let told = gateway.admin_post("/v1/replay", &json!({"destination": "search", "rate": 400})).await;
    assert_eq!(told.json()["count"], KEYS * VALUES);
    destination.wait_for(before + 60).await;
    gateway.kill().await;
    let gateway = setup.start().await;
    eventually("what was begun is sent", async || {
        let status = gateway.destination("search").await;
        status["pending"] == 0 && status["in_flight"] == 0
    })
    .await;
    let newest = format!("{:04}", VALUES - 1);
    let state = destination.state();
    assert!(state.len() == KEYS && state.values().all(|value| *value == newest), "{state:?}");
    let sent = destination.deliveries.all().len() - before;
    assert!((60..KEYS * VALUES).contains(&sent), "{sent} of {}", KEYS * VALUES);
    let again = gateway.admin_post("/v1/replay", &json!({"destination": "search"})).await.json();
    assert_eq!(again["count"], KEYS * VALUES);
    assert_eq!(ended(&gateway, &again["operation"]).await["done"], KEYS * VALUES);
    assert!(destination.state().values().all(|value| *value == newest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_keeps_to_its_window_its_rate_and_its_bounds() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let mended = choosy(&destination);
    let gateway = synced(&source, &destination).await;
    history(&gateway, &destination, 2, 5).await;
    // A change's time is in its sequence.
    let at = |one: &Delivery| one.sequence >> 11;
    let later = destination.deliveries.all().iter().map(at).max().unwrap_or_default() + 1;
    eventually("a later time", async || {
        gateway.put("/items/2", "late").await;
        destination.wait_for_body("late").await.iter().any(|one| at(one) >= later)
    })
    .await;
    gateway.put("/items/0", "last").await;
    destination.wait_for_body("last").await;
    gateway.put("/items/3", "bad").await;
    eventually("one is dead", async || dead(&gateway, "").await.len() == 1).await;
    let all: Vec<_> = destination.deliveries.all().into_iter().filter(|one| one.answered == 200).collect();
    let since = all.iter().filter(|one| at(one) >= later).count();
    let touched: HashSet<_> = all.iter().filter(|one| at(one) < later).map(|one| &one.key).collect();
    let until = all.iter().filter(|one| touched.contains(&one.key)).count();
    for (mut order, count) in [
        (json!({}), all.len()),
        (json!({"since": later}), since),
        (json!({"until": later}), until),
        (json!({"since": "2100-01-01T00:00:00Z"}), 0),
        (json!({"until": 5}), 0),
    ] {
        order["destination"] = json!("search");
        order["dry_run"] = json!(true);
        let told = gateway.admin_post("/v1/replay", &order).await.json();
        assert_eq!(told["count"], count, "{order}: {told}");
    }
    for (order, status) in [
        (json!({"destination": "nobody"}), 404),
        (json!({"since": 5}), 400),
        (json!({"destination": "search", "since": "soon"}), 422),
        (json!({"destination": "search", "since": 9, "until": 5}), 422),
    ] {
        gateway.admin_post("/v1/replay", &order).await.assert_problem(status);
    }
    mended.store(true, Ordering::SeqCst);
    gateway.admin_post("/v1/dead-letters/redrive", &json!({})).await;
    destination.wait_for_body("bad").await;
    eventually("all is settled", async || gateway.destination("search").await["in_flight"] == 0).await;
    let (before, began) = (destination.deliveries.all().len(), Instant::now());
    let order = json!({"destination": "search", "since": later, "rate": 10});
    let told = gateway.admin_post("/v1/replay", &order).await.json();
    ended(&gateway, &told["operation"]).await;
    let again = destination.deliveries.all().split_off(before);
    assert!(again.iter().all(is_replay) && again.len() as u64 == told["count"].as_u64().unwrap_or(0));
    let took = again[again.len() - 1].at - began;
    let least = Duration::from_millis(100) * u32::try_from(again.len() - 1).unwrap_or(0);
    assert!(took + Duration::from_millis(10) >= least, "{} at ten a second took {took:?}", again.len());
    let change = gateway.admin_get(&format!("/v1/changes/{}", again[0].id)).await.json();
    assert_eq!(change["deliveries"][0]["attempts"], 2, "{change}");
}
