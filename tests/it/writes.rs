//! What a synced write does: intent, source, every destination, in order per key.

use crate::support::{
    Ask, EVERYTHING, Gate, RecordingDestination, Reply, SYNC, ScriptedSource, Setup, Step, eventually,
    gateway_for, obliging_source, synced, within,
};
use futures_util::future::join_all;
use std::collections::HashMap;
use std::sync::Arc;

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
