//! The support code is code too: what it promises the tests.

use super::server::{Handler, Server};
use super::{Ask, Delivery, Fault, Gate, InventorySource, RecordingDestination, RedisServer, Reply};
use super::{ScriptedSource, Step};
use std::net::SocketAddr;
use std::sync::Arc;

fn address(table: &str) -> SocketAddr {
    let from = table.find("http://").expect("a table has a URL") + "http://".len();
    let rest = &table[from..];
    rest[..rest.find('"').expect("the URL ends")].parse().expect("an address")
}

#[tokio::test]
async fn a_script_decides_the_answer_and_the_request_is_recorded_as_it_came() {
    let source = ScriptedSource::start().await;
    source.on("/a", |request| Reply::ok(format!("{} {}", request.target, request.text())));
    let ask = Ask::post("/a?%2f", "one").chunked().field("X-Own", "1");
    let answer = ask.send(address(&source.table())).await.expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "/a?%2f one"));
    let seen = source.received("/a");
    assert_eq!(seen[0].fields.get("x-own"), Some("1"));
    assert_eq!((source.count("/a"), source.connections()), (1, 1));
}

#[tokio::test]
async fn a_gate_holds_the_rest_of_a_body_and_a_cut_is_an_error() {
    let gate = Gate::closed();
    let (inner, reset) = (gate.clone(), gate.clone());
    let handler: Handler = Arc::new(move |request| {
        let end = if request.path() == "/cut" { Step::Cut } else { Step::Bytes(b"two".to_vec()) };
        let steps = vec![Step::Bytes(b"one".to_vec()), Step::Wait(inner.clone()), end];
        Box::pin(std::future::ready(Reply::chunks(steps)))
    });
    let server = Server::start(handler).await;
    let mut whole = Ask::get("/").open(server.address).await.expect("a head");
    let mut cut = Ask::get("/cut").open(server.address).await.expect("a head");
    assert_eq!(whole.next().await.expect("bytes"), Some(b"one".to_vec()));
    assert_eq!(cut.next().await.expect("bytes"), Some(b"one".to_vec()));
    reset.open();
    assert_eq!(whole.rest().await.expect("the rest"), b"two");
    assert!(cut.rest().await.is_err());
}

#[tokio::test]
async fn the_inventory_applies_or_not_as_its_faults_say() {
    let inventory = InventorySource::start().await;
    let to = address(&inventory.table());
    inventory.fail(|request| match request.text().as_str() {
        "lost" => Fault::ResetBeforeApplying,
        "cut" => Fault::CutAfterApplying,
        _ => Fault::None,
    });
    assert_eq!(Ask::put("/items/1", "a").send(to).await.expect("an answer").status, 200);
    assert!(Ask::put("/items/1", "lost").send(to).await.is_err());
    assert_eq!(inventory.state()["/items/1"], "a");
    assert!(Ask::put("/items/1", "cut").send(to).await.is_err());
    assert_eq!(inventory.state()["/items/1"], "cut");
    let created = Ask::post("/items", "b").send(to).await.expect("an answer");
    assert_eq!(inventory.state()[created.field("Location")], "b");
    let all = Ask::get("/items").send(to).await.expect("an answer");
    assert_eq!(all.json().as_object().map(serde_json::Map::len), Some(2));
}

#[tokio::test]
async fn a_destination_keeps_what_it_accepted_and_records_all() {
    let destination = RecordingDestination::start().await;
    let to = address(&destination.table("search"));
    destination.answer(|delivery: &Delivery| match delivery.attempt {
        1 => Reply::new(503, ""),
        _ => Reply::ok(""),
    });
    for attempt in ["1", "2"] {
        let ask =
            Ask::put("/items/1", "a").field("Tidegate-Attempt", attempt).field("Tidegate-Sequence", "9");
        ask.send(to).await.expect("an answer");
    }
    let all = destination.wait_for(2).await;
    assert_eq!((all[0].answered, all[1].answered, all[1].sequence), (503, 200, 9));
    assert_eq!(destination.state()["/items/1"], "a");
}

#[tokio::test]
async fn a_redis_of_its_own_starts_and_starts_again() {
    let mut redis = RedisServer::start().await;
    assert_eq!(redis.keys().await, 0);
    redis.stop().await;
    redis.start_again().await;
}
