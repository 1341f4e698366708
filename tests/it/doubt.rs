//! Writes whose answer was lost: the source is read again, and what it has now decides.

use crate::support::{
    Answer, Ask, EVERYTHING, Fault, Gate, Gateway, InventorySource, Received, RecordingDestination, Reply,
    ScriptedSource, Setup, Step, eventually,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// A source, a destination and a gateway between them; the source has 1.5 s to answer.
async fn parts() -> (InventorySource, RecordingDestination, Gateway) {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let text = format!(
        "{}timeout = \"1500ms\"\n{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    let gateway = Setup::new(text).start().await;
    (source, destination, gateway)
}

/// The change that an answer tells of; an answer of a write in doubt has one too.
fn change_of(answer: &Answer) -> String {
    let id = answer.field("Tidegate-Change").to_owned();
    assert!(!id.is_empty(), "{answer:?}");
    id
}

/// Goes wrong with one write, told by its body, and with no other.
fn only(source: &InventorySource, body: &'static str, fault: Fault) {
    source.fail(move |request| if request.text() == body { fault.clone() } else { Fault::None });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applied_but_cut_is_reconciled_with_the_state_read() {
    let (source, destination, gateway) = parts().await;
    only(&source, "cut", Fault::CutAfterApplying);
    let answer = gateway.put("/items/1", "cut").await;
    answer.assert_problem(502);
    let id = change_of(&answer);
    let delivery = destination.wait_for_body("cut").await.remove(0);
    assert_eq!((delivery.id, delivery.request.method.as_str()), (id.clone(), "PUT"));
    assert_eq!((delivery.request.path(), delivery.key.as_str()), ("/items/1", "/items/1"));
    assert_eq!(delivery.request.fields.get("Content-Type"), Some("text/plain"), "as the source states it");
    eventually("it is reconciled", async || gateway.change_state(&id).await == "reconciled").await;
    assert_eq!(source.applied.all().len(), 1, "a synced write is never sent to the source twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applied_but_late_is_reconciled_with_the_state_read() {
    let (source, destination, gateway) = parts().await;
    only(&source, "late", Fault::SlowAfterApplying(Gate::closed()));
    let answer = gateway.put("/items/1", "late").await;
    answer.assert_problem(504);
    let id = change_of(&answer);
    let delivery = destination.wait_for_body("late").await.remove(0);
    assert_eq!(delivery.id, id);
    assert_eq!(source.state(), destination.state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applied_but_answered_500_is_reconciled_and_the_client_gets_the_sources_answer() {
    let (source, destination, gateway) = parts().await;
    only(&source, "odd", Fault::StatusAfterApplying(500));
    let answer = gateway.put("/items/1", "odd").await;
    assert_eq!((answer.status, answer.text().as_str()), (500, "it was applied all the same"));
    let id = change_of(&answer);
    assert_eq!(destination.wait_for_body("odd").await[0].id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_applied_with_an_equal_strong_etag_is_aborted() {
    let (source, destination, gateway) = parts().await;
    gateway.put("/items/1", "kept").await;
    destination.wait_for_body("kept").await;
    assert!(gateway.get("/items/1").await.field("ETag").starts_with('"'), "the ETag before is known");
    only(&source, "lost", Fault::ResetBeforeApplying);
    let answer = gateway.put("/items/1", "lost").await;
    answer.assert_problem(502);
    let id = change_of(&answer);
    eventually("it is aborted", async || gateway.change_state(&id).await == "aborted").await;
    gateway.put("/items/2", "after").await;
    let all = destination.wait_for_body("after").await;
    assert!(all.iter().all(|delivery| delivery.id != id), "nothing of it is delivered: {all:?}");
    assert_eq!(gateway.get("/items/1").await.text(), "kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_was_applied_but_cut_is_delivered_as_a_delete() {
    let (source, destination, gateway) = parts().await;
    gateway.put("/items/1", "kept").await;
    destination.wait_for_body("kept").await;
    source.fail(|request| if request.method == "DELETE" { Fault::CutAfterApplying } else { Fault::None });
    let answer = gateway.send(Ask::new("DELETE", "/items/1")).await;
    let id = change_of(&answer);
    let all = destination.wait_for(2).await;
    assert_eq!((all[1].request.method.as_str(), &all[1].id), ("DELETE", &id));
    assert_eq!(source.state(), destination.state());
}

/// I5: what the route says a write makes old is fenced by a doubt too, before the client hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubt_fences_what_the_route_invalidates() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let text = format!(
        "{}timeout = \"1500ms\"\n{}{EVERYTHING}invalidates = [\"/items/2\"]\n[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    let gateway = Setup::new(text).start().await;
    for path in ["/items/1", "/items/2", "/items/3"] {
        assert_eq!(gateway.put(path, "x").await.status, 200);
    }
    for path in ["/items/1", "/items/2", "/items/3"] {
        gateway.get(path).await;
        assert!(gateway.get(path).await.is_hit(), "{path}");
    }
    only(&source, "lost", Fault::ResetBeforeApplying);
    gateway.put("/items/1", "lost").await.assert_problem(502);
    for (path, hit) in [("/items/1", false), ("/items/2", false), ("/items/3", true)] {
        assert_eq!(gateway.get(path).await.is_hit(), hit, "{path}");
    }
}

/// A doubt that the source never decides blocks its key until an operator says what is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_ends_a_doubt_that_the_source_does_not_decide() {
    let (source, destination, gateway) = parts().await;
    source.fail(|request| match (request.method.as_str(), request.text().as_str()) {
        ("PUT", "odd") => Fault::StatusAfterApplying(500),
        ("GET", _) => Fault::StatusAfterApplying(403),
        _ => Fault::None,
    });
    let id = change_of(&gateway.put("/items/1", "odd").await);
    eventually("it is in doubt", async || gateway.change_state(&id).await == "in-doubt").await;
    let path = format!("/v1/changes/{id}/resolve");
    let wrong = gateway.admin_post(&path, &serde_json::json!({"as": "maybe"})).await;
    wrong.assert_problem(400);
    let nobody = "/v1/changes/00000000-0000-0000-0000-000000000000/resolve";
    let committed = serde_json::json!({"as": "committed"});
    gateway.admin_post(nobody, &committed).await.assert_problem(404);
    assert_eq!(gateway.admin_post(&path, &committed).await.status, 200);
    gateway.admin_post(&path, &committed).await.assert_problem(409);
    assert_eq!(gateway.put("/items/1", "next").await.status, 200, "its key is free again");
    let all = destination.wait_for_body("next").await;
    let bodies: Vec<_> = all.iter().map(|delivery| delivery.request.text()).collect();
    assert_eq!(bodies, ["odd", "next"]);
    assert_eq!(all[0].id, id);
}

/// I3: what comes after a doubt of the same key is delivered after it. I5: and nobody reads what was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_write_of_the_key_follows_the_doubt() {
    let (source, destination, gateway) = parts().await;
    gateway.put("/items/1", "zero").await;
    assert_eq!(gateway.get("/items/1").await.text(), "zero");
    only(&source, "one", Fault::CutAfterApplying);
    let id = change_of(&gateway.put("/items/1", "one").await);
    assert_eq!(gateway.get("/items/1").await.text(), "one", "a doubt moves the fence");
    assert_eq!(gateway.put("/items/1", "two").await.status, 200);
    assert_eq!(gateway.get("/items/1").await.text(), "two");
    let all = destination.wait_for_body("two").await;
    assert!(all.is_sorted_by_key(|delivery| delivery.sequence), "{all:?}");
    assert_eq!(all.last().expect("deliveries").request.text(), "two");
    assert!(all.iter().any(|delivery| delivery.id == id), "the doubt was resolved before: {all:?}");
    eventually("both states are equal", async || source.state() == destination.state()).await;
}

/// A source that answers writes with 500, and what a test scripts for reads; it has 1.5 s to answer.
async fn doubtful(
    source: &ScriptedSource,
    more: &str,
    read: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> (RecordingDestination, Gateway) {
    let destination = RecordingDestination::start().await;
    source.on("*", move |request| match request.method.as_str() {
        "GET" | "HEAD" => read(request),
        _ => Reply::new(500, "perhaps"),
    });
    let table = source.table();
    let text = format!(
        "{table}timeout = \"1500ms\"\n{more}{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        destination.table("search")
    );
    (destination, Setup::new(text).start().await)
}

/// The reads of the resolver are those that nobody else asked for.
fn reads(source: &ScriptedSource, path: &str) -> Vec<Received> {
    source.received(path).into_iter().filter(|request| request.method == "GET").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_late_write_may_still_land_so_the_source_is_not_read_before() {
    let source = ScriptedSource::start().await;
    let times: Arc<Mutex<Vec<(String, Instant)>>> = Arc::default();
    let (destination, gateway) = {
        let times = Arc::clone(&times);
        doubtful(&source, "headers = { authorization = \"Bearer own\" }\n", move |request| {
            times.lock().unwrap().push((request.text(), Instant::now()));
            Reply::ok("as it is").field("Content-Type", "text/plain")
        })
        .await
    };
    let ask = Ask::put("/items/1", "x").field("Accept", "text/own").field("Authorization", "Bearer client");
    let began = Instant::now();
    let answer = gateway.send(ask).await;
    assert_eq!(answer.status, 500);
    destination.wait_for_body("as it is").await;
    let read_at = times.lock().unwrap()[0].1;
    assert!(read_at - began >= Duration::from_millis(1500), "{:?}", read_at - began);
    let read = reads(&source, "/items/1").remove(0);
    assert_eq!(read.fields.get("Accept"), Some("text/own"), "the Accept kept with the change");
    assert_eq!(read.fields.get("Authorization"), Some("Bearer own"), "the source's own headers");
    assert_eq!(read.fields.get("If-None-Match"), None, "nothing was known before");
}

/// What memory has fresh is known; what is stale, or was fenced, may be older than an earlier write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_only_a_tag_that_is_fresh_in_memory_is_compared() {
    for (control, fenced, compared) in
        [("max-age=600", false, true), ("max-age=0", false, false), ("max-age=600", true, false)]
    {
        let source = ScriptedSource::start().await;
        let (destination, gateway) = doubtful(&source, "", move |request| {
            if request.fields.get("If-None-Match") == Some("\"1\"") && control != "max-age=0" {
                return Reply::new(304, "");
            }
            Reply::ok("as it is").field("ETag", "\"1\"").cache_control(control)
        })
        .await;
        gateway.get("/items/1").await;
        if fenced {
            let purge = serde_json::json!({"prefix": "/items", "mode": "soft"});
            gateway.admin_post("/v1/purge", &purge).await;
        }
        let before = reads(&source, "/items/1").len();
        let id = change_of(&gateway.put("/items/1", "x").await);
        let decided = if compared { "aborted" } else { "reconciled" };
        eventually("it is decided", async || gateway.change_state(&id).await == decided).await;
        let asked = reads(&source, "/items/1").remove(before);
        assert_eq!(asked.fields.has("If-None-Match"), compared, "{control} {fenced}");
        if compared {
            assert!(destination.deliveries.all().is_empty(), "nothing happened");
        } else {
            destination.wait_for_body("as it is").await;
        }
    }
}

/// I5: nothing is stored for a key between the two fences of its doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_nothing_is_stored_while_a_change_is_in_doubt() {
    let source = ScriptedSource::start().await;
    let (_destination, gateway) = doubtful(&source, "", |request| {
        let own = !request.fields.has("X-Request-Id");
        let cache_control = if request.fields.has("X-Private") { "private" } else { "max-age=600" };
        if own { Reply::new(403, "") } else { Reply::ok("read").cache_control(cache_control) }
    })
    .await;
    let id = change_of(&gateway.put("/items/1", "x").await);
    eventually("it is in doubt", async || gateway.change_state(&id).await == "in-doubt").await;
    // From now on nobody waits for another's answer of this one.
    gateway.send(Ask::get("/items/1").field("X-Private", "1")).await;
    for path in ["/items/1", "/items/1?a", "/items/2"] {
        let told = gateway.get(path).await.field("Cache-Status").contains("; stored");
        assert_eq!(told, path == "/items/2", "{path}: what is said of it");
        assert_eq!(gateway.get(path).await.is_hit(), path == "/items/2", "{path}");
    }
    let url = format!("/v1/explain?url=http://{}/items/1", gateway.public);
    let told = gateway.admin_get(&url).await.json();
    assert_eq!(told["rule"]["section"], "Changes in doubt", "{told}");
    let aborted = serde_json::json!({"as": "aborted"});
    let path = format!("/v1/changes/{id}/resolve");
    assert_eq!(gateway.admin_post(&path, &aborted).await.status, 200);
    assert_eq!(gateway.change_state(&id).await, "aborted");
    let told = gateway.admin_get(&url).await.json();
    assert_ne!(told["rule"]["section"], "Changes in doubt", "{told}");
    gateway.admin_post(&path, &aborted).await.assert_problem(409);
    eventually("it is stored again", async || gateway.get("/items/1").await.is_hit()).await;
}

/// I10: writes of a key in doubt wait, and at the bound they are told why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_writes_behind_a_doubt_are_bounded_and_told() {
    let source = ScriptedSource::start().await;
    let (_destination, gateway) = doubtful(&source, "", |_| Reply::new(403, "")).await;
    let id = change_of(&gateway.put("/items/1", "x").await);
    eventually("it is in doubt", async || gateway.change_state(&id).await == "in-doubt").await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..80 {
        waiting.spawn(Ask::put("/items/1", "later").send(gateway.public));
    }
    let refused = waiting.join_next().await.unwrap().unwrap().unwrap();
    refused.assert_problem(503);
    assert!(refused.text().contains("in doubt") && !refused.field("Retry-After").is_empty(), "{refused:?}");
    assert_eq!(gateway.put("/items/2", "y").await.status, 500, "another key goes on");
    waiting.abort_all();
}

/// Of several addresses one may lag behind: that nothing was written is believed when it is said twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_of_several_addresses_one_that_lags_does_not_abort_a_write() {
    let source = ScriptedSource::start().await;
    let asked = AtomicUsize::new(0);
    let other = ScriptedSource::start().await;
    let urls = format!("urls = [\"{}\", \"{}\"]\n", source.url(), other.url());
    source.on("*", |request| match request.method.as_str() {
        "GET" => Reply::ok("old").field("ETag", "\"1\"").cache_control("max-age=600"),
        _ => Reply::new(500, ""),
    });
    // The same script at both: the first read meets what was, the second what is.
    let replica = Arc::new(move |request: &Received| match request.fields.get("If-None-Match") {
        Some(_) if asked.fetch_add(1, Ordering::Relaxed) == 0 => Reply::new(304, ""),
        Some(_) => Reply::ok("new").field("ETag", "\"2\""),
        None => Reply::ok("old").field("ETag", "\"1\"").cache_control("max-age=600"),
    });
    for server in [&source, &other] {
        let replica = Arc::clone(&replica);
        server.on(
            "*",
            move |request| if request.method == "GET" { replica(request) } else { Reply::new(500, "") },
        );
    }
    let destination = RecordingDestination::start().await;
    let text = format!(
        "[[source]]\nname = \"inventory\"\n{urls}timeout = \"1500ms\"\n{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        destination.table("search")
    );
    let gateway = Setup::new(text).start().await;
    gateway.get("/items/1").await;
    let id = change_of(&gateway.put("/items/1", "new").await);
    assert_eq!(destination.wait_for_body("new").await[0].id, id);
}

/// A source that takes writes again is sent them with the same Idempotency-Key, the first time already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_an_idempotent_source_is_sent_the_write_again_with_the_same_key() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let keys = Arc::clone(&seen);
    source.on("*", move |request| {
        let key = request.fields.get("Idempotency-Key").unwrap_or("none").to_owned();
        let mut keys = keys.lock().unwrap();
        let times = keys.entry(key).or_default();
        *times += 1;
        // It acts on the first, whose answer is lost; the second is told what came of it.
        if *times == 1 { Reply::none(Step::Cut) } else { Reply::new(201, "").field("Location", "/items/7") }
    });
    let table = source.table();
    let text = format!(
        "{table}timeout = \"1500ms\"\nidempotent = true\nheaders = {{ authorization = \"Bearer own\" }}\n{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        destination.table("search")
    );
    let setup = Setup::new(text);
    let gateway = setup.start().await;
    let post =
        Ask::post("/items", "one").field("Idempotency-Key", "client").field("Content-Type", "text/own");
    let first = change_of(&gateway.send(post).await);
    let second = change_of(&gateway.send(Ask::put("/items/1", "two").field("If-Match", "\"1\"")).await);
    // It is found again after a crash.
    gateway.kill().await;
    let gateway = setup.start().await;
    let mut all = destination.wait_for(2).await;
    all.sort_by_key(|delivery| delivery.request.method.clone());
    assert_eq!(
        (all[0].id.as_str(), all[0].key.as_str(), all[0].request.text().as_str()),
        (first.as_str(), "/items/7", "one")
    );
    assert_eq!((all[1].id.as_str(), all[1].request.text().as_str()), (second.as_str(), "two"));
    assert_eq!(
        all[0].request.fields.get("Idempotency-Key"),
        Some(format!("\"{first}\"").as_str()),
        "not the client's"
    );
    let expected = HashMap::from([("client".to_owned(), 2), (format!("\"{second}\""), 2)]);
    assert_eq!(*seen.lock().unwrap(), expected);
    let again = source.received("/items/1").pop().unwrap();
    assert_eq!((again.method.as_str(), again.fields.get("If-Match")), ("PUT", Some("\"1\"")));
    assert_eq!(again.fields.get("Authorization"), Some("Bearer own"));
    for id in [first, second] {
        assert_eq!(gateway.change_state(&id).await, "committed");
    }
}
