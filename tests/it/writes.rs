//! What a synced write does: intent, source, every destination, in order per key.

use crate::support::{
    Ask, Delivery, EVERYTHING, Gate, Gateway, RecordingDestination, Reply, ScriptedSource, Setup, Step,
    eventually, gateway_for, within,
};
use futures_util::future::join_all;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SYNC: &str = "[route.sync]\ndestinations = [\"search\"]\n";

/// A gateway whose one route is synced to `search`.
async fn synced(source: &ScriptedSource, destination: &RecordingDestination) -> Gateway {
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    Setup::new(text).start().await
}

/// A source that takes every write.
async fn obliging_source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| match request.method.as_str() {
        "POST" => Reply::new(201, "").field("Location", "/items/7"),
        "DELETE" => Reply::new(204, ""),
        _ => Reply::ok(""),
    });
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_reaches_the_destination_byte_for_byte() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let gateway = synced(&source, &destination).await;
    let binary = (0..=255).collect::<Vec<u8>>();
    let mut last_sequence = 0;
    for (turn, (method, target, key, body)) in [
        ("PUT", "/items/1?part=%2F&b=1", "/items/1", binary.as_slice()),
        ("PATCH", "/items/1", "/items/1", b"{\"price\":2}"),
        ("POST", "/items", "/items/7", b"{\"name\":\"x\"}"),
        ("DELETE", "/items/1", "/items/1", b""),
    ]
    .into_iter()
    .enumerate()
    {
        let ask = Ask::new(method, target)
            .body(body)
            .field("Content-Type", "application/own")
            .field("Accept", "application/json")
            .field("Authorization", "Bearer CANARY-client")
            .field("Cookie", "session=CANARY")
            .field("If-Match", "*")
            .field("Idempotency-Key", &format!("\"of-the-client-{turn}\""))
            .field("Tidegate-Key", "/forged")
            .field("webhook-id", "forged");
        let answer = gateway.send(ask).await;
        assert!((200..300).contains(&answer.status), "{method}: {answer:?}");
        let id = answer.field("Tidegate-Change").to_owned();
        assert!(!id.is_empty() && !answer.field("Tidegate-Version").is_empty(), "{method}: {answer:?}");

        let delivery = destination.wait_for(turn + 1).await.remove(turn);
        let request = &delivery.request;
        assert_eq!((request.method.as_str(), request.target.as_str()), (method, target));
        assert_eq!(request.body, body, "{method}");
        assert_eq!((delivery.id.as_str(), delivery.key.as_str()), (id.as_str(), key), "{method}");
        assert_eq!(request.fields.list("Idempotency-Key"), format!("\"{id}\""), "{method}");
        assert_eq!(delivery.attempt, 1, "{method}");
        assert!(delivery.sequence > 0, "{method}: {request:?}");
        assert_eq!(request.fields.get("Tidegate-Source"), Some("inventory"), "{method}");
        assert_eq!(request.fields.get("Content-Type"), Some("application/own"), "{method}");
        assert_eq!(request.fields.get("Accept"), Some("application/json"), "{method}");
        for gone in ["Authorization", "Cookie", "If-Match", "webhook-id"] {
            assert!(!request.fields.has(gone), "{method}: {gone} in {request:?}");
        }
        if key == "/items/1" {
            assert!(delivery.sequence > last_sequence, "{method}: the sequence of a key grows");
            last_sequence = delivery.sequence;
        }
    }
    let seen = &source.requests.all()[0];
    assert_eq!((seen.target.as_str(), seen.body.as_slice()), ("/items/1?part=%2F&b=1", binary.as_slice()));
    assert_eq!(seen.fields.get("Authorization"), Some("Bearer CANARY-client"), "the source gets it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_after_a_write_is_fresh() {
    let (inventory, destination) =
        (crate::support::InventorySource::start().await, RecordingDestination::start().await);
    let text = format!("{}{}{EVERYTHING}{SYNC}", inventory.table(), destination.table("search"));
    let gateway = Setup::new(text).start().await;
    for number in 0..20 {
        let value = format!("value {number}");
        assert_eq!(gateway.put("/items/1", &value).await.status, 200);
        assert_eq!(gateway.get("/items/1").await.text(), value);
        assert!(gateway.get("/items/1").await.is_hit());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_makes_old_what_the_route_names_and_what_the_answer_names() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| match request.method.as_str() {
        "GET" => Reply::ok("x").cache_control("max-age=600"),
        "POST" => Reply::new(201, "").field("Location", "/items/9").field("Content-Location", "/latest"),
        _ => Reply::ok(""),
    });
    let paths = [
        ("/items?page=2", 2),
        ("/lists/a/b?x=1", 2),
        ("/items/9?full", 2),
        ("/latest", 2),
        ("/orders", 2),
        ("/itemsets", 1),
        ("/other", 1),
    ];
    let route = EVERYTHING.replace("source =", "invalidates = [\"/items\", \"/lists/*\"]\nsource =");
    let gateway = Setup::new(format!("{}{route}", source.table())).start().await;
    for (path, _) in paths {
        gateway.get(path).await;
        assert!(gateway.get(path).await.is_hit(), "{path}");
    }
    assert_eq!(gateway.send(Ask::post("/orders", "x")).await.status, 201);
    for (path, forwards) in paths {
        gateway.get(path).await;
        let seen = source.requests.all();
        let count = seen.iter().filter(|one| one.target == path && one.method == "GET").count();
        assert_eq!(count, forwards, "{path}");
    }
}

/// RFC 9111 4.4: only a write that succeeded makes anything old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_write_invalidates_nothing() {
    let source = ScriptedSource::start().await;
    source.on("/a", |request| match request.method.as_str() {
        "GET" => Reply::ok("x").cache_control("max-age=600"),
        _ => Reply::new(409, "no"),
    });
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    assert_eq!(gateway.put("/a", "y").await.status, 409);
    assert!(gateway.get("/a").await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strip_is_taken_off_for_source_and_destination() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let route =
        "[[route]]\nname = \"api\"\npath = \"/api/{*rest}\"\nstrip = \"/api\"\nsource = \"inventory\"\n";
    let text = format!("{}{}{route}{SYNC}", source.table(), destination.table("search"));
    let gateway = Setup::new(text).start().await;
    assert_eq!(gateway.put("/api/items/1?a=1", "x").await.status, 200);
    assert_eq!(source.requests.all()[0].target, "/items/1?a=1");
    assert_eq!(destination.wait_for(1).await[0].request.target, "/items/1?a=1");
}

/// Rows: route, template, what is asked, the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_comes_from_where_the_route_says() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let rows = [
        ("path", "/a/{*rest}", "{path}", Ask::post("/a/orders", "x"), "/a/orders"),
        ("location", "/b/{*rest}", "{location}", Ask::post("/b/orders", "x"), "/items/7"),
        ("location-of-put", "/c/{*rest}", "{location}", Ask::put("/c/1", "x"), "/c/1"),
        ("id", "/d/{id}/price", "{id}", Ask::put("/d/42/price", "x"), "42"),
        (
            "header",
            "/e/{*rest}",
            "{header:X-Tenant}",
            Ask::put("/e/1", "x").field("X-Tenant", "acme"),
            "acme",
        ),
        ("header-missing", "/f/{*rest}", "{header:X-Tenant}", Ask::put("/f/1", "x"), "/f/1"),
        ("json", "/g/{*rest}", "{json:/id}", Ask::put("/g/1", r#"{"id":"n-5"}"#), "n-5"),
        ("json-missing", "/h/{*rest}", "{json:/id}", Ask::put("/h/1", "no json"), "/h/1"),
    ];
    let mut text = format!("{}{}", source.table(), destination.table("search"));
    for (name, path, template, ..) in &rows {
        text += &format!(
            "[[route]]\nname = \"{name}\"\npath = \"{path}\"\nsource = \"inventory\"\n{SYNC}key = \"{template}\"\n"
        );
    }
    let gateway = Setup::new(text).start().await;
    for (turn, (name, _, _, ask, key)) in rows.into_iter().enumerate() {
        gateway.send(ask).await;
        assert_eq!(destination.wait_for(turn + 1).await[turn].key, key, "{name}");
    }
}

/// I3: journal order is source order, and destination order is journal order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_of_one_key_arrive_in_the_sources_order() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let gateway = Arc::new(synced(&source, &destination).await);
    let writers = (0..32).map(|writer| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            for turn in 0..5 {
                let answer = gateway.put("/items/1", &format!("{writer}-{turn}")).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("the writer is done");
    }
    let deliveries = destination.wait_for(160).await;
    let at_source = source.requests.all().into_iter().map(|request| request.text()).collect::<Vec<_>>();
    let delivered = deliveries.iter().map(|delivery| delivery.request.text()).collect::<Vec<_>>();
    assert_eq!(delivered, at_source);
    assert!(deliveries.is_sorted_by(|a, b| a.sequence < b.sequence), "sequences grow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_source_refuses_is_not_delivered() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    for (path, status) in [("/a/400", 400), ("/a/404", 404), ("/a/409", 409), ("/a/501", 501)] {
        source.always(path, Reply::new(status, "refused").field("X-Why", "own"));
    }
    let gateway = synced(&source, &destination).await;
    for status in [400, 404, 409, 501] {
        let answer = gateway.put(&format!("/a/{status}"), "x").await;
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.field("X-Why")),
            (status, "refused", "own")
        );
        let id = answer.field("Tidegate-Change").to_owned();
        eventually("the change is aborted", async || gateway.change_state(&id).await == "aborted").await;
    }
    gateway.put("/a/last", "last").await;
    let all = destination.wait_for_body("last").await;
    assert_eq!(all.len(), 1, "{all:?}");
}

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

/// A permanent refusal parks its key and nothing else; redriven, the key arrives in order.
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

/// I4
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
    let status = gateway.destination("hole").await;
    assert!(status["in_flight"].as_u64().is_some_and(|count| (1..=16).contains(&count)), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_be_reached_is_502_and_nothing_is_delivered() {
    let destination = RecordingDestination::start().await;
    let nobody = crate::support::redis::free_port().await;
    let source = crate::support::source::table(&format!("http://127.0.0.1:{nobody}"));
    let text = format!("{source}{}{EVERYTHING}{SYNC}", destination.table("search"));
    let gateway = Setup::new(text).start().await;
    for ask in [Ask::get("/items/1"), Ask::put("/items/1", "x"), Ask::post("/items", "x")] {
        let answer = gateway.send(ask).await;
        answer.assert_problem(502);
        assert!(answer.field("Proxy-Status").starts_with("tidegate"), "{answer:?}");
        let id = answer.field("Tidegate-Change").to_owned();
        if !id.is_empty() {
            eventually("never sent: aborted", async || gateway.change_state(&id).await == "aborted").await;
        }
    }
    assert_eq!(destination.deliveries.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_does_not_answer_in_time_is_504() {
    let (source, never) = (ScriptedSource::start().await, Gate::closed());
    source.always("*", Reply::none(Step::Wait(never)));
    let text = format!("{}timeout = \"300ms\"\n{EVERYTHING}", source.table());
    let gateway = Setup::new(text).start().await;
    for ask in [Ask::get("/items/1"), Ask::put("/items/1", "x")] {
        let answer = gateway.send(ask).await;
        answer.assert_problem(504);
        assert!(answer.field("Proxy-Status").starts_with("tidegate"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synced_body_over_its_limit_is_413_before_the_source() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let text =
        format!("{}{}{EVERYTHING}{SYNC}body = \"1KiB\"\n", source.table(), destination.table("search"));
    let gateway = Setup::new(text).start().await;
    let large = vec![b'x'; 1025];
    gateway.send(Ask::put("/items/1", large.clone())).await.assert_problem(413);
    gateway.send(Ask::put("/items/1", large.clone()).chunked()).await.assert_problem(413);
    assert_eq!(source.requests.all().len(), 0);
    assert_eq!(gateway.send(Ask::put("/items/1", &large[..1024])).await.status, 200);
    assert_eq!(destination.wait_for(1).await[0].request.body.len(), 1024);
}

/// The client gets its answer from the task that forwards; leaving early changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_changes_nothing() {
    let (source, destination, gate) =
        (obliging_source().await, RecordingDestination::start().await, Gate::closed());
    source.always("/items/1", Reply::ok("").after(Step::Wait(gate.clone())));
    let gateway = synced(&source, &destination).await;
    let client = tokio::spawn(Ask::put("/items/1", "x").send(gateway.public));
    source.wait_for("/items/1", 1).await;
    client.abort();
    assert!(client.await.is_err_and(|ended| ended.is_cancelled()));
    gate.open();
    destination.wait_for_body("x").await;
}

/// I3: while one write of a key is under way, the next one has not reached the source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_one_key_go_to_the_source_one_at_a_time_and_other_keys_pass() {
    let (source, destination, gate) =
        (obliging_source().await, RecordingDestination::start().await, Gate::closed());
    let held = gate.clone();
    source.on("/items/1", move |request| match request.text().as_str() {
        "first" => Reply::ok("").after(Step::Wait(held.clone())),
        _ => Reply::ok(""),
    });
    let gateway = synced(&source, &destination).await;
    let first = tokio::spawn(Ask::put("/items/1", "first").send(gateway.public));
    source.wait_for("/items/1", 1).await;
    let second = tokio::spawn(Ask::put("/items/1", "second").send(gateway.public));
    for number in 2..30 {
        assert_eq!(gateway.put(&format!("/items/{number}"), "x").await.status, 200);
    }
    assert_eq!(source.count("/items/1"), 1, "the second waits for the first");
    gate.open();
    for client in [first, second] {
        assert_eq!(within("an answer", client).await.expect("done").expect("an answer").status, 200);
    }
    let all = destination.wait_for_body("second").await;
    let mut of_key: HashMap<String, Vec<String>> = HashMap::new();
    for delivery in all {
        of_key.entry(delivery.key.clone()).or_default().push(delivery.request.text());
    }
    assert_eq!(of_key["/items/1"], ["first", "second"]);
}
