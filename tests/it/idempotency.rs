//! A client's Idempotency-Key on synced writes: one write, however often it is sent, and one answer.

use crate::support::{
    Answer, Ask, EVERYTHING, Fault, Gate, Gateway, InventorySource, RecordingDestination, Reply, SYNC,
    ScriptedSource, Setup, Step, eventually, synced,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A source, and a gateway that delivers what it makes.
async fn parts() -> (ScriptedSource, RecordingDestination, Gateway) {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let gateway = synced(&source, &destination).await;
    (source, destination, gateway)
}

/// Each POST makes another item.
fn makes_items(source: &ScriptedSource) {
    let made = AtomicUsize::new(0);
    source.on("/items", move |request| {
        let number = made.fetch_add(1, Ordering::Relaxed) + 1;
        Reply::new(201, format!("made {number} of {}", request.text()))
            .field("Location", &format!("/items/{number}"))
            .field("X-Own", "kept")
            .field("Set-Cookie", "a=1")
            .field("Set-Cookie", "b=2")
    });
}

fn post(key: &str, body: &str) -> Ask {
    Ask::post("/items", body).field("Idempotency-Key", key)
}

fn assert_same(first: &Answer, again: &Answer) {
    assert_eq!((again.status, again.text()), (first.status, first.text()), "{again:?}");
    for name in ["Tidegate-Change", "Tidegate-Version", "Location", "X-Own", "Set-Cookie"] {
        assert!(!first.field(name).is_empty(), "{name} in {first:?}");
        assert_eq!(again.fields.list(name), first.fields.list(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_write_again_gets_the_same_answer_and_nothing_is_sent() {
    let (source, destination, gateway) = parts().await;
    makes_items(&source);
    let first = gateway.send(post("\"k1\"", "one")).await;
    assert_eq!((first.status, first.text().as_str()), (201, "made 1 of one"));
    let again = gateway.send(post("\"k1\"", "one")).await;
    assert_same(&first, &again);
    assert!(again.cache_status().is_empty(), "nothing was forwarded: {again:?}");
    assert_same(&first, &gateway.send(post("k1", "one")).await);

    gateway.send(post("\"k1\"", "two")).await.assert_problem(422);
    let elsewhere = Ask::post("/items?a", "one").field("Idempotency-Key", "\"k1\"");
    gateway.send(elsewhere).await.assert_problem(422);
    assert_eq!(source.count("/items"), 1);
    assert_eq!(
        source.received("/items")[0].fields.get("Idempotency-Key"),
        Some("\"k1\""),
        "the source gets it"
    );

    assert_eq!(gateway.send(post("\"k2\"", "last")).await.status, 201);
    let all = destination.wait_for_body("last").await;
    assert_eq!(all.len(), 2, "each write is delivered once: {all:?}");
    assert_eq!(all[0].request.fields.get("Idempotency-Key"), Some(format!("\"{}\"", all[0].id).as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_kept_over_a_restart_and_over_a_crash() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    makes_items(&source);
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    // What was delivered is forgotten long before the key is.
    let setup = Setup::new(text).sync("retention = \"0s\"");
    let ask = || post("\"k\"", "one").field("Host", "shop.example");
    let gateway = setup.start().await;
    let first = gateway.send(ask()).await;
    gateway.kill().await;
    let gateway = setup.start().await;
    assert_same(&first, &gateway.send(ask()).await);
    destination.wait_for_body("one").await;
    eventually("the change is gone", async || {
        gateway.change_state(first.field("Tidegate-Change")).await.is_empty()
    })
    .await;
    assert!(gateway.terminate().await.status.success());
    let gateway = setup.start().await;
    assert_same(&first, &gateway.send(ask()).await);
    gateway.send(post("\"k\"", "two").field("Host", "shop.example")).await.assert_problem(422);
    assert_eq!(source.count("/items"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_is_forwarded() {
    let (source, _destination, gateway) = parts().await;
    let gate = Gate::closed();
    let opens = gate.clone();
    source.on("/items", move |_| Reply::new(201, "made").after(Step::Wait(gate.clone())));
    let gateway = Arc::new(gateway);
    let all: Vec<_> = (0..32)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.send(post("\"k\"", "one")).await })
        })
        .collect();
    source.wait_for("/items", 1).await;
    eventually("all others are sent away", async || {
        gateway.metric("tidegate_idempotency_total{result=\"running\"}").await == 31
    })
    .await;
    gateway.send(post("\"k\"", "other")).await.assert_problem(422);
    opens.open();
    let mut statuses = Vec::new();
    for answer in all {
        let answer = answer.await.unwrap();
        if answer.status == 409 {
            answer.assert_problem(409);
            assert!(!answer.field("Retry-After").is_empty());
        }
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (201, &[409; 31][..]));
    assert_eq!(source.count("/items"), 1);
    assert_eq!(gateway.send(post("\"k\"", "one")).await.text(), "made");
}

/// I7: a key is nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_who_asks_otherwise_never_gets_anothers_answer() {
    let (source, _destination, gateway) = parts().await;
    source.on("/items", |request| {
        let who = |name: &str| request.fields.get(name).unwrap_or_default().to_owned();
        Reply::new(201, format!("{}|{}", who("Authorization"), who("Cookie")))
    });
    let users = [
        vec![],
        vec![("Authorization", "Bearer a")],
        vec![("Authorization", "Bearer b")],
        vec![("Cookie", "Bearer a")],
        vec![("Authorization", "Bearer a"), ("Cookie", "s=1")],
        vec![("Authorization", "Bearer a"), ("Cookie", "s=2")],
    ];
    for _ in 0..2 {
        for user in &users {
            let ask = user.iter().fold(post("\"k\"", "one"), |ask, (name, value)| ask.field(name, value));
            let of =
                |wanted: &str| user.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
            let expected = format!("{}|{}", of("Authorization"), of("Cookie"));
            assert_eq!(gateway.send(ask).await.text(), expected);
        }
    }
    assert_eq!(source.count("/items"), users.len());
    let stored = gateway.log_text();
    assert!(!stored.contains("Bearer a"), "I12");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_source_refuses_for_good_is_kept_and_what_it_puts_off_is_not() {
    let (source, _destination, gateway) = parts().await;
    for (status, sent) in [(400, 1), (403, 1), (404, 1), (422, 1), (409, 2), (425, 2), (429, 2), (501, 2)] {
        let path = format!("/items/{status}");
        source.always(&path, Reply::new(status, "no"));
        for _ in 0..2 {
            let ask = Ask::put(&path, "x").field("Idempotency-Key", &format!("\"k{status}\""));
            let answer = gateway.send(ask).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, "no"));
            assert!(answer.field("Tidegate-Version").is_empty(), "nothing was written");
        }
        assert_eq!(source.count(&path), sent, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_sent_may_be_sent_again() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let nobody = crate::support::redis::free_port().await;
    let table = format!("[[source]]\nname = \"inventory\"\nurls = [\"http://127.0.0.1:{nobody}\"]\n");
    let text = format!("{table}{}{EVERYTHING}{SYNC}", destination.table("search"));
    let gateway = Setup::new(text).start().await;
    for _ in 0..2 {
        gateway.send(post("\"k\"", "one")).await.assert_problem(502);
    }
    assert_eq!(source.requests.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_key_is_refused_before_anything_is_sent() {
    let (source, _destination, gateway) = parts().await;
    makes_items(&source);
    for key in ["", "\"\"", "a b", "\"a", "1, 2", &"x".repeat(256)] {
        let answer = gateway.send(post(key, "one")).await;
        answer.assert_problem(400);
        assert!(answer.json()["detail"].as_str().unwrap().contains("UUID"), "a remedy: {answer:?}");
    }
    gateway.send(post("a", "one").field("Idempotency-Key", "a")).await.assert_problem(400);
    assert_eq!(source.count("/items"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_doubt_is_refused_until_it_is_known_what_happened() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let text =
        format!("{}timeout = \"1500ms\"\n{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let gateway = Setup::new(text).start().await;
    source.fail(|request| match request.text().as_str() {
        "cut" => Fault::CutAfterApplying,
        "lost" => Fault::ResetBeforeApplying,
        _ => Fault::None,
    });
    let put = |path: &str, body: &str| Ask::put(path, body).field("Idempotency-Key", &format!("\"{path}\""));

    let first = gateway.send(put("/items/1", "cut")).await;
    first.assert_problem(502);
    let id = first.field("Tidegate-Change").to_owned();
    let again = gateway.send(put("/items/1", "cut")).await;
    again.assert_problem(409);
    assert_eq!(again.field("Tidegate-Change"), id, "{again:?}");
    eventually("it is reconciled", async || gateway.change_state(&id).await == "reconciled").await;
    let after = gateway.send(put("/items/1", "cut")).await;
    after.assert_problem(409);
    assert_eq!(after.json()["change"], id.as_str(), "an answer is not made up");
    assert_eq!(source.applied.all().len(), 1);

    // Nothing had happened: the same write goes again.
    assert_eq!(gateway.put("/items/2", "kept").await.status, 200);
    gateway.get("/items/2").await;
    let lost = gateway.send(put("/items/2", "lost")).await;
    let id = lost.field("Tidegate-Change").to_owned();
    eventually("it is aborted", async || gateway.change_state(&id).await == "aborted").await;
    source.fail(|_| Fault::None);
    assert_eq!(gateway.send(put("/items/2", "lost")).await.status, 200);
    assert_eq!(source.state()["/items/2"], "lost");
}

/// A crash between intent and outcome leaves the key in doubt: the POST is never sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_after_a_crash_before_the_outcome_a_post_is_not_sent_again() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    makes_items(&source);
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let mut setup = Setup::new(text);
    let ask = || post("\"k\"", "one").field("Host", "shop.example");
    for (point, sent) in [("source-answered", 1), ("outcome-before-commit", 1)] {
        let before = source.count("/items");
        setup.environment("TIDEGATE_FAIL_POINT", point);
        let gateway = setup.start().await;
        let key = format!("\"{point}\"");
        let again = || post(&key, "one").field("Host", "shop.example");
        assert!(again().send(gateway.public).await.is_err(), "the process ended");
        gateway.ended().await;
        setup.environment("TIDEGATE_FAIL_POINT", "");
        let gateway = setup.start().await;
        gateway.send(again()).await.assert_problem(409);
        assert_eq!(source.count("/items") - before, sent, "{point}");
        assert!(gateway.terminate().await.status.success());
    }
    // Once it is durable it is kept, though the client never heard of it.
    setup.environment("TIDEGATE_FAIL_POINT", "outcome-after-commit");
    let gateway = setup.start().await;
    let before = source.count("/items");
    assert!(ask().send(gateway.public).await.is_err(), "the process ended");
    gateway.ended().await;
    setup.environment("TIDEGATE_FAIL_POINT", "");
    let gateway = setup.start().await;
    let answer = gateway.send(ask()).await;
    assert_eq!((answer.status, source.count("/items") - before), (201, 1), "{answer:?}");
}

/// I10: a large answer reaches its client whole and is not kept; one that breaks off is seen to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_what_is_too_large_to_be_kept_is_passed_on_and_said() {
    let (source, _destination, gateway) = parts().await;
    let large = vec![b'x'; (1 << 20) + 1];
    source.always("/items", Reply::chunks([Step::Bytes(large)]));
    source.always("/most", Reply::new(200, vec![b'y'; 1 << 20]));
    source.always("/cut", Reply::promising(10, [Step::Bytes(b"abc".to_vec()), Step::Cut]));
    let first = gateway.send(post("\"k\"", "one")).await;
    assert_eq!((first.status, first.body.len()), (200, (1 << 20) + 1));
    let again = gateway.send(post("\"k\"", "one")).await;
    again.assert_problem(409);
    assert_eq!(again.field("Tidegate-Change"), first.field("Tidegate-Change"));
    assert_eq!(gateway.metric("tidegate_idempotency_total{result=\"not-kept\"}").await, 1);

    let most = || Ask::post("/most", "x").field("Idempotency-Key", "most");
    assert_eq!(gateway.send(most()).await.body.len(), 1 << 20);
    assert_eq!(gateway.send(most()).await.body.len(), 1 << 20);
    assert_eq!(source.count("/most"), 1);

    let cut = || Ask::post("/cut", "x").field("Idempotency-Key", "cut");
    let broken = gateway.send(cut()).await;
    broken.assert_problem(502);
    assert!(broken.fields.has("Tidegate-Change"), "it is named all the same: {broken:?}");
    gateway.send(cut()).await.assert_problem(409);
    assert_eq!(source.count("/cut"), 1);
}

/// What is accepted is sent to its source and delivered once, however often it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_write_that_comes_again_gets_the_same_202() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    makes_items(&source);
    let text =
        format!("{}{}{EVERYTHING}{SYNC}mode = \"accept\"\n", source.table(), destination.table("search"));
    let setup = Setup::new(text);
    let ask = |body: &str| post("\"k\"", body).field("Host", "shop.example");
    let gateway = setup.start().await;
    let first = gateway.send(ask("one")).await;
    assert_eq!(first.status, 202, "{first:?}");
    destination.wait_for_body("one").await;
    gateway.kill().await;
    let gateway = setup.start().await;
    let again = gateway.send(ask("one")).await;
    assert_eq!((again.status, again.text()), (202, first.text()));
    assert_eq!(again.field("Tidegate-Change"), first.field("Tidegate-Change"));
    gateway.send(ask("two")).await.assert_problem(422);
    assert_eq!(gateway.send(post("\"l\"", "last").field("Host", "shop.example")).await.status, 202);
    destination.wait_for_body("last").await;
    assert_eq!(source.count("/items"), 2);
}
