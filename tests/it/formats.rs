//! What a destination gets of a change: the request as it was, or an event, signed, under one id.

mod state;

use crate::support::{Ask, Delivery, EVERYTHING, Gateway, RecordingDestination, Reply, Setup, Step};
use crate::support::{obliging_source, synced};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ZXhhbXBsZS1vbmx5LWNob29zZS1yYW5kb20tYnl0ZXM="];

/// A gateway with one destination, whose table has these lines too.
async fn delivering(source: &str, destination: &RecordingDestination, more: &str) -> Gateway {
    let text = format!(
        "{}{}{more}\n{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source,
        destination.table("search")
    );
    Setup::new(text).start().await
}

fn field<'a>(delivery: &'a Delivery, name: &str) -> &'a str {
    delivery.request.fields.get(name).unwrap_or_default()
}

/// RFC 2104, from its definition: independent of what the gateway computes with.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// Checks a signed delivery against what arrived, byte for byte.
#[expect(clippy::disallowed_methods, reason = "a receiver compares with its own wall clock")]
fn assert_signed(delivery: &Delivery) {
    let timestamp = field(delivery, "webhook-timestamp");
    assert_eq!(field(delivery, "webhook-id"), delivery.id);
    let mut signed = format!("{}.{timestamp}.", delivery.id).into_bytes();
    signed.extend_from_slice(&delivery.request.body);
    let expected = SECRETS.map(|secret| {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &signed)))
    });
    assert_eq!(field(delivery, "webhook-signature"), expected.join(" "));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(timestamp.parse().unwrap()) < 30, "{timestamp} is about now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_has_the_contents_fields_and_not_what_was_for_the_source() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let more = "headers = { authorization = \"Bearer own\", x-tenant = \"a\" }";
    let gateway = delivering(&source.table(), &destination, more).await;
    let body: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let ask = Ask::put("/a%2Fb;c=1/?q=%20x&q", body.clone())
        .field("Content-Type", "application/x-thing; v=\"1\"")
        .field("Content-Encoding", "gzip")
        .field("Content-Language", "de, en")
        .field("Accept", "text/plain;q=0.5")
        .field("Prefer", "return=minimal")
        .field("If-None-Match", "\"x\"")
        .field("Authorization", "Bearer canary")
        .field("Cookie", "s=canary")
        .field("Tidegate-Change", "canary")
        .field("Tidegate-Anything", "canary")
        .field("webhook-id", "canary")
        .field("webhook-signature", "v1,canary")
        .field("ce-id", "canary")
        .field("ce-source", "canary")
        .field("X-Other", "canary")
        .field("TE", "trailers")
        .field("Expect", "100-continue");
    let id = gateway.send(ask).await.field("Tidegate-Change").to_owned();
    let delivery = destination.wait_for(1).await.remove(0);
    assert_eq!((delivery.request.method.as_str(), &delivery.request.body), ("PUT", &body));
    assert_eq!(delivery.request.target, "/a%2Fb;c=1/?q=%20x&q");
    for (name, value) in [
        ("Content-Type", "application/x-thing; v=\"1\""),
        ("Content-Encoding", "gzip"),
        ("Content-Language", "de, en"),
        ("Content-Length", "70000"),
        ("Accept", "text/plain;q=0.5"),
        ("Prefer", "return=minimal"),
        ("Authorization", "Bearer own"),
        ("X-Tenant", "a"),
        ("Idempotency-Key", &format!("\"{id}\"")),
        ("Tidegate-Change", &id),
        ("Tidegate-Key", "/a%2Fb;c=1/"),
        ("Tidegate-Attempt", "1"),
        ("Tidegate-Source", "inventory"),
    ] {
        assert_eq!(field(&delivery, name), value, "{name}");
    }
    let fields = &delivery.request.fields;
    for name in
        ["TE", "Expect", "Trailer", "If-None-Match", "webhook-id", "webhook-signature", "ce-id", "Cookie"]
    {
        assert!(!fields.has(name), "{name}: {fields:?}");
    }
    assert!(!format!("{fields:?}").contains("canary"), "{fields:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_signed_with_every_secret_at_every_attempt() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| match delivery.attempt {
        1 => Reply::none(Step::Reset),
        _ => Reply::ok(""),
    });
    let gateway = delivering(&source.table(), &destination, &format!("secrets = {SECRETS:?}")).await;
    gateway.send(Ask::put("/items/1", vec![0, 255, b'.', b'\n'])).await;
    gateway.send(Ask::new("DELETE", "/items/2")).await;
    let all = destination.wait_for(4).await;
    for delivery in &all {
        assert_signed(delivery);
    }
    assert!(all.iter().any(|one| one.request.method == "DELETE" && one.request.body.is_empty()));
}

/// Method, target and key of a change are attributes of its event; its body is the event's data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_posted_to_the_url_itself() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let url = destination.url();
    let more = format!("format = \"cloudevents\"\nsecrets = {SECRETS:?}");
    let text = format!(
        "{}{}{more}\n{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\nkey = \"{{header:X-Key}}\"\n",
        source.table(),
        destination.table("search").replace(&url, &format!("{url}/hooks/in?t=1")),
    );
    let gateway = Setup::new(text).start().await;
    let ask = Ask::new("PATCH", "/items/7?q=1")
        .body(b"{\"a\":1}".to_vec())
        .field("Content-Type", "application/merge-patch+json")
        .field("X-Key", "50% \"off\"")
        .field("Accept", "text/canary")
        .field("Ce-Type", "canary");
    let id = gateway.send(ask).await.field("Tidegate-Change").to_owned();
    gateway.send(Ask::new("DELETE", "/items/8")).await;
    let all = destination.wait_for(2).await;
    let of = |body: &[u8]| all.iter().find(|one| one.request.body == body).unwrap();
    let event = of(b"{\"a\":1}");
    assert_eq!((event.request.method.as_str(), event.request.target.as_str()), ("POST", "/hooks/in?t=1"));
    let sequence = event.sequence.to_string();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", id.as_str()),
        ("ce-source", "/sources/inventory"),
        ("ce-type", "tidegate.change.patch"),
        ("ce-subject", "50%25%20%22off%22"),
        ("ce-partitionkey", "50%25%20%22off%22"),
        ("ce-sequence", &sequence),
        ("Content-Type", "application/merge-patch+json"),
        ("Tidegate-Key", "50%25%20\"off\""),
        ("Tidegate-Change", &id),
        ("webhook-id", &id),
        ("Idempotency-Key", &format!("\"{id}\"")),
    ] {
        assert_eq!(field(event, name), value, "{name}");
    }
    assert!(humantime::parse_rfc3339(field(event, "ce-time")).is_ok(), "{}", field(event, "ce-time"));
    assert!(!format!("{:?}", event.request.fields).contains("canary"));
    let deleted = of(b"");
    assert_eq!(
        (field(deleted, "ce-type"), field(deleted, "ce-subject")),
        ("tidegate.change.delete", "/items/8")
    );
    assert_eq!((deleted.request.method.as_str(), deleted.request.target.as_str()), ("POST", "/hooks/in?t=1"));
    all.iter().for_each(assert_signed);
}

/// The same change has the same id for every destination, in every format, at every attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_one_for_all() {
    let source = obliging_source().await;
    let (replays, events) = (RecordingDestination::start().await, RecordingDestination::start().await);
    events.answer(|delivery| Reply::new(if delivery.attempt < 3 { 500 } else { 200 }, ""));
    let text = format!(
        "{}{}{}format = \"cloudevents\"\n{EVERYTHING}[route.sync]\ndestinations = [\"replays\", \"events\"]\n",
        source.table(),
        replays.table("replays"),
        events.table("events"),
    );
    let gateway = Setup::new(text).start().await;
    let id = gateway.put("/items/1", "x").await.field("Tidegate-Change").to_owned();
    let replayed = replays.wait_for(1).await.remove(0);
    let tried = events.wait_for(3).await;
    assert_eq!(replayed.id, id);
    assert!(tried.iter().all(|one| one.id == id && field(one, "ce-id") == id), "{tried:?}");
    assert!(tried.iter().all(|one| field(one, "ce-time") == field(&tried[0], "ce-time")), "{tried:?}");
    assert!(tried.iter().all(|one| one.sequence == replayed.sequence), "{tried:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_never_delivered() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let gateway = synced(&source, &destination).await;
    gateway.send(Ask::get("/items/1").body("content")).await;
    gateway.send(Ask::new("HEAD", "/items/1")).await;
    gateway.send(Ask::new("OPTIONS", "/items/1")).await;
    gateway.put("/items/1", "x").await;
    let all = destination.wait_for(1).await;
    assert_eq!((all.len(), all[0].request.method.as_str()), (1, "PUT"));
}

/// The largest body that a route takes arrives whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_at_its_limit_arrives_byte_for_byte() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let text = format!(
        "{}{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\nbody = \"1MiB\"\n",
        source.table(),
        destination.table("search")
    );
    let gateway = Setup::new(text).start().await;
    let body: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
    assert_eq!(gateway.send(Ask::put("/items/1", body.clone()).chunked()).await.status, 200);
    let mut longer = body.clone();
    longer.push(0);
    assert_eq!(gateway.send(Ask::put("/items/2", longer)).await.status, 413);
    let all = destination.wait_for(1).await;
    assert!(all.len() == 1 && all[0].request.body == body);
    assert_eq!(source.count("/items/2"), 0, "the source was not asked");
}

/// An answer's end may never come: the status has been given, and the time for the rest is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_ends_is_an_answer() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let never = crate::support::Gate::closed();
    let held = never.clone();
    destination.answer(move |delivery| match delivery.key.as_str() {
        "/items/stalls" => Reply::promising(1000, [Step::Bytes(b"half".to_vec()), Step::Wait(held.clone())]),
        "/items/long" => {
            Reply::promising(1 << 40, vec![Step::Bytes(vec![b'x'; 1 << 20]), Step::Wait(held.clone())])
        }
        "/items/breaks" => Reply::promising(1000, [Step::Bytes(b"half".to_vec()), Step::Reset]),
        _ => Reply::ok(""),
    });
    let gateway = delivering(&source.table(), &destination, "timeout = \"2s\"\nconcurrency = 1").await;
    for path in ["/items/stalls", "/items/long", "/items/breaks", "/items/last"] {
        gateway.put(path, path).await;
    }
    let all = destination.wait_for_body("/items/last").await;
    assert!(all.iter().all(|one| one.attempt == 1), "{all:?}");
    let waited = all.last().unwrap().at - all[0].at;
    assert!(waited < Duration::from_secs(15), "{waited:?}");
}
