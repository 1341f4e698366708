//! What becomes of a delivery by what its destination answers: the classes, through the real binary.

mod waits;

use crate::support::wait::Record;
use crate::support::{
    Answer, Ask, Delivery, EVERYTHING, Gate, Gateway, RecordingDestination, Reply, ScriptedSource, Setup,
    Step, eventually, obliging_source,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

fn setup(source: &ScriptedSource, destination: &RecordingDestination, more: &str) -> Setup {
    Setup::new(format!(
        "{}{}{more}\n{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    ))
}

/// A breaker that stays out of the way.
const PATIENT: &str = "breaker = { failures = 10000, open = \"100ms\", open_cap = \"100ms\" }";

async fn letters(gateway: &Gateway) -> Vec<Value> {
    let all = gateway.admin_get("/v1/dead-letters?destination=search").await.json();
    all["dead_letters"].as_array().cloned().unwrap_or_default()
}

async fn settled(gateway: &Gateway) {
    eventually("nothing waits", async || {
        let status = gateway.destination("search").await;
        status["pending"] == 0 && status["in_flight"] == 0
    })
    .await;
}

async fn attempts(gateway: &Gateway, outcome: &str) -> u64 {
    gateway.metric(&format!("tidegate_attempts_total{{destination=\"search\",outcome=\"{outcome}\"}}")).await
}

fn id(answer: &Answer) -> String {
    answer.field("Tidegate-Change").to_owned()
}

/// The status that a path names: `/items/404`.
fn named(delivery: &Delivery) -> u16 {
    delivery.request.path().rsplit('/').next().unwrap_or_default().parse().unwrap_or(200)
}

/// Each of these is a dead letter after one attempt; no redirect is followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_will_never_be_taken_is_a_dead_letter_at_once() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let elsewhere = RecordingDestination::start().await;
    let location = format!("{}/elsewhere", elsewhere.url());
    destination.answer(move |delivery| {
        Reply::new(named(delivery), format!("no: {}", named(delivery))).field("Location", &location)
    });
    let gateway = setup(&source, &destination, "").start().await;
    let statuses = [
        300, 301, 302, 303, 304, 305, 307, 308, 400, 405, 406, 410, 412, 413, 414, 415, 418, 422, 451, 501,
        505,
    ];
    for status in statuses {
        gateway.put(&format!("/items/{status}"), "x").await;
    }
    eventually("each is a dead letter", async || letters(&gateway).await.len() == statuses.len()).await;
    for letter in letters(&gateway).await {
        let status = letter["key"].as_str().unwrap().rsplit('/').next().unwrap().parse::<u16>().unwrap();
        let code = if status == 413 { "too_large" } else { "http_status" };
        assert_eq!(
            (&letter["class"], &letter["code"], &letter["status"], &letter["attempts"]),
            (&json!("permanent"), &json!(code), &json!(status), &json!(1)),
            "{letter}"
        );
        let answer = if status == 304 { String::new() } else { format!("no: {status}") };
        assert_eq!(letter["answer"], answer.as_str());
    }
    assert_eq!(destination.deliveries.all().len(), statuses.len(), "each was sent once");
    assert_eq!(elsewhere.connections(), 0, "no redirect is followed");
    assert_eq!(gateway.destination("search").await["breaker"], "closed");
}

/// Each of these passes at the second attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_pass_is_tried_again() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let never = Gate::closed();
    let held = never.clone();
    destination.answer(move |delivery| {
        if delivery.attempt > 1 {
            return Reply::ok("");
        }
        let raw = |bytes: &[u8]| Reply::none(Step::Bytes(bytes.to_vec())).after(Step::Cut);
        match delivery.request.path().trim_start_matches("/items/") {
            "413" => Reply::new(413, "").field("Retry-After", "0"),
            "reset" => Reply::none(Step::Reset),
            "early" => Reply::none(Step::Cut),
            "silence" => Reply::none(Step::Wait(held.clone())),
            "garbage" => raw(b"\x00\x01 no HTTP at all\r\n\r\n"),
            "http2" => raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"),
            "head" => raw(format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(200 << 10)).as_bytes()),
            "fields" => raw(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(500)).as_bytes()),
            "lengths" => raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
            "version" => raw(b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
            "switch" => raw(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            _ => Reply::new(named(delivery), ""),
        }
    });
    let gateway = setup(&source, &destination, &format!("timeout = \"4s\"\n{PATIENT}")).start().await;
    // With enough that went well before, the breaker's window stays closed too.
    for number in 0..60 {
        gateway.put(&format!("/items/good-{number}"), "x").await;
    }
    destination.wait_for(60).await;
    settled(&gateway).await;
    let cases = [
        "404", "408", "409", "421", "423", "425", "429", "500", "502", "503", "504", "506", "507", "599",
        "413", "reset", "early", "silence", "garbage", "http2", "head", "fields", "lengths", "version",
        "switch",
    ];
    for case in cases {
        gateway.put(&format!("/items/{case}"), case).await;
    }
    for case in cases {
        destination.wait_for_body(case).await;
    }
    settled(&gateway).await;
    let mut tried = BTreeMap::new();
    for delivery in destination.deliveries.all().into_iter().skip(60) {
        *tried.entry(delivery.key).or_insert(0) += 1;
    }
    assert_eq!(tried.len(), cases.len());
    assert!(tried.values().all(|tries| *tries == 2), "{tried:?}");
    assert!(letters(&gateway).await.is_empty());
}

/// 404 says that this change came too early, not that the destination is in trouble.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_found_does_not_count_for_the_breaker() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| Reply::new(if delivery.attempt < 5 { named(delivery) } else { 200 }, ""));
    let breaker = "breaker = { failures = 3, open = \"10s\", open_cap = \"10s\" }";
    let gateway = setup(&source, &destination, breaker).start().await;
    for number in 0..5 {
        gateway.put(&format!("/items/{number}/404"), "x").await;
    }
    destination.wait_for(25).await;
    settled(&gateway).await;
    assert_eq!(gateway.destination("search").await["breaker"], "closed");
    gateway.put("/items/503", "x").await;
    eventually("what counts opens it", async || gateway.destination("search").await["breaker"] != "closed")
        .await;
}

/// 413 with Retry-After is about this change; 503 with it is about the destination, within bounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_retry_after_concerns() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| match (delivery.attempt, delivery.request.text().as_str()) {
        (1, "large") => Reply::new(413, "").field("Retry-After", "3600"),
        (1, "busy") => Reply::new(503, "").field("Retry-After", "3600"),
        (1, "unreadable") => Reply::new(503, "").field("Retry-After", "next week"),
        _ => Reply::ok(""),
    });
    let text = destination.table("search").replace("cap = ", "after_cap = \"3s\", cap = ");
    let text = format!("{}{text}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n", source.table());
    let gateway = Setup::new(text).start().await;
    gateway.put("/items/1", "large").await;
    destination.wait_for(1).await;
    gateway.put("/items/2", "other").await;
    let all = destination.wait_for_body("large").await;
    let at = |body: &str, attempt: u32| {
        all.iter().find(|one| one.request.text() == body && one.attempt == attempt).unwrap().at
    };
    assert!(at("other", 1) < at("large", 2), "nobody else waited");
    assert!(at("large", 2) - at("large", 1) >= Duration::from_millis(2_900), "it waited, as long as it may");

    gateway.put("/items/3", "busy").await;
    destination.deliveries.until("the 503", |all| all.iter().any(|one| one.request.text() == "busy")).await;
    eventually("it waits", async || !gateway.destination("search").await["next_attempt_at"].is_null()).await;
    gateway.put("/items/4", "later").await;
    destination.wait_for_body("busy").await;
    let all = destination.wait_for_body("later").await;
    let at = |body: &str, attempt: u32| {
        all.iter().find(|one| one.request.text() == body && one.attempt == attempt).unwrap().at
    };
    assert!(at("busy", 2) - at("busy", 1) >= Duration::from_millis(2_900), "clamped, not ignored");
    assert!(at("later", 1) - at("busy", 1) >= Duration::from_millis(2_500), "everybody waited");

    gateway.put("/items/5", "unreadable").await;
    let all = destination.wait_for_body("unreadable").await;
    let of: Vec<_> = all.iter().filter(|one| one.request.text() == "unreadable").collect();
    assert!(of[1].at - of[0].at < Duration::from_millis(2_500), "what cannot be read is ignored");
}

/// The URL of events is the same for all: 404 there holds, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_found_where_the_url_is_one_holds_the_destination() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&mended);
    destination.answer(move |_| Reply::new(if flag.load(Ordering::SeqCst) { 200 } else { 404 }, ""));
    let gateway = setup(&source, &destination, "format = \"cloudevents\"").start().await;
    for number in 0..10 {
        gateway.put(&format!("/items/{number}"), "x").await;
    }
    eventually("it is held", async || gateway.destination("search").await["state"] == "held").await;
    assert_eq!(gateway.destination("search").await["last_error"], "the destination answered 404");
    assert!(letters(&gateway).await.is_empty());
    mended.store(true, Ordering::SeqCst);
    let taken = |all: &[Delivery]| all.iter().filter(|one| one.answered == 200).count() == 10;
    destination.deliveries.until("all are taken", taken).await;
    settled(&gateway).await;
    assert!(letters(&gateway).await.is_empty());
}

/// A change that is refused while others get through is at fault itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_refused_while_others_get_through_is_a_dead_letter() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| Reply::new(named(delivery), ""));
    let gateway = setup(&source, &destination, "").start().await;
    for (buried, status) in [402, 403].into_iter().enumerate() {
        gateway.put(&format!("/items/{status}"), "x").await;
        eventually("it is held", async || gateway.destination("search").await["state"] == "held").await;
        assert_eq!(letters(&gateway).await.len(), buried, "nobody got through since");
        gateway.put(&format!("/items/after-{status}"), "x").await;
        eventually("it is a dead letter", async || letters(&gateway).await.len() == buried + 1).await;
        eventually("it runs", async || gateway.destination("search").await["state"] == "running").await;
    }
    settled(&gateway).await;
}

/// TLS where none is spoken: held, and nothing dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_fails_holds_the_destination() {
    let source = obliging_source().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // All that was said is read, so that the answer is not followed by a reset.
            drop(stream.read(&mut [0; 16 * 1024]).await);
            // Whoever does not understand says so and goes; the other side may be gone already.
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        }
    });
    let text = format!(
        "{}[[destination]]\nname = \"search\"\nurl = \"{url}\"\n{EVERYTHING}[route.sync]\n\
         destinations = [\"search\"]\n",
        source.table(),
    );
    let gateway = Setup::new(text).start().await;
    gateway.put("/items/1", "x").await;
    eventually("it is held", async || gateway.destination("search").await["state"] == "held").await;
    let status = gateway.destination("search").await;
    assert_eq!((&status["last_error"], &status["dead_letters"]), (&json!("tls"), &json!(0)), "{status}");
}

/// A POST that is told "409" after its answer was lost has happened; one that was not is tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_after_a_lost_answer_is_a_delivery() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| match (delivery.attempt, delivery.request.text().as_str()) {
        (1, "lost") => Reply::none(Step::Reset),
        (1, _) => Reply::new(503, ""),
        (2, _) => Reply::new(409, "there already"),
        _ => Reply::ok(""),
    });
    source.on("*", |request| Reply::new(201, "").field("Location", &format!("/items/{}", request.text())));
    let gateway = setup(&source, &destination, "").start().await;
    let lost = id(&gateway.send(Ask::post("/items", "lost")).await);
    let refused = id(&gateway.send(Ask::post("/items", "refused")).await);
    destination.wait_for_body("refused").await;
    settled(&gateway).await;
    let tries = |id: &str| destination.deliveries.all().iter().filter(|one| one.id == id).count();
    assert_eq!((tries(&lost), tries(&refused)), (2, 3));
    assert!(letters(&gateway).await.is_empty());
}

/// A request that never left is no lost answer: the 409 that follows is a refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_after_no_connection_is_no_delivery() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    // Nobody accepts, and there is room for few: further connections wait in vain.
    let listener = socket.listen(1).unwrap();
    let mut crowd = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        crowd.push(stream.unwrap());
    }
    let source = obliging_source().await;
    let text = format!(
        "{}[[destination]]\nname = \"search\"\nurl = \"http://{address}\"\ntimeout = \"1s\"\n\
         retry = {{ base = \"100ms\", cap = \"100ms\" }}\n{PATIENT}\n\
         {EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
    );
    let gateway = Setup::new(text).start().await;
    gateway.send(Ask::post("/items", "x")).await;
    eventually("an attempt is over", async || attempts(&gateway, "retry").await > 0).await;
    assert_eq!(gateway.destination("search").await["last_error"], "timeout");
    drop(crowd);
    let answered = Arc::new(Record::new());
    let record = Arc::clone(&answered);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut head, record) = ([0; 4096], Arc::clone(&record));
            tokio::spawn(async move {
                while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    let status = if record.all().is_empty() { 409 } else { 200 };
                    let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                    drop(stream.write_all(answer.as_bytes()).await);
                    record.push(status);
                }
            });
        }
    });
    answered.until("the one after the conflict", |all| all.contains(&200)).await;
    settled(&gateway).await;
}

/// What is not there need not be deleted; where nothing was ever taken, the URL may be wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_of_nothing_is_settled_and_loud_while_nothing_was_taken() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| match delivery.request.method.as_str() {
        "DELETE" => Reply::new(named(delivery), ""),
        _ => Reply::ok(""),
    });
    let loud = |gateway: &Gateway| gateway.log_text().matches("never taken a delivery").count();
    let setup = setup(&source, &destination, "");
    let gateway = setup.start().await;
    for status in [404, 410] {
        let id = id(&gateway.send(Ask::new("DELETE", &format!("/items/{status}"))).await);
        eventually("it is absent", async || {
            let change = gateway.admin_get(&format!("/v1/changes/{id}")).await.json();
            change["deliveries"][0]["state"] == "absent"
        })
        .await;
    }
    settled(&gateway).await;
    assert_eq!(attempts(&gateway, "absent").await, 2);
    eventually("it is loud", async || loud(&gateway) == 2).await;
    let said = gateway.destination("search").await["last_error"].to_string();
    assert!(said.contains("is its url right?"), "{said}");
    gateway.put("/items/1", "x").await;
    destination.wait_for(3).await;
    settled(&gateway).await;
    gateway.send(Ask::new("DELETE", "/items/9/404")).await;
    destination.wait_for(4).await;
    settled(&gateway).await;
    assert_eq!((attempts(&gateway, "absent").await, loud(&gateway)), (3, 2), "it has taken one");
    gateway.terminate().await;
    let gateway = setup.start().await;
    gateway.send(Ask::new("DELETE", "/items/8/404")).await;
    destination.wait_for(5).await;
    settled(&gateway).await;
    assert_eq!((attempts(&gateway, "absent").await, loud(&gateway)), (1, 0), "it is remembered");
    assert!(letters(&gateway).await.is_empty());
}

/// `outcome` has the last word, for every class.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_may_say_what_its_statuses_mean() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| match (named(delivery), delivery.attempt) {
        (422 | 202, 2..) => Reply::ok(""),
        (status, _) => Reply::new(status, ""),
    });
    let outcome = r#"outcome = { "409" = "superseded", "404" = "permanent", "422" = "retry", "202" = "retry",
        "304" = "delivered", "405" = "absent", "503" = "hold" }"#
        .replace('\n', " ");
    let gateway = setup(&source, &destination, &outcome).start().await;
    let mut ids = BTreeMap::new();
    for status in [409, 404, 422, 202, 304, 405] {
        ids.insert(status, id(&gateway.put(&format!("/items/{status}"), "x").await));
    }
    // Its next change goes on: a superseded one is settled.
    gateway.put("/items/409", "next").await;
    destination.wait_for(9).await;
    settled(&gateway).await;
    let states = async |status: u16| {
        let change = gateway.admin_get(&format!("/v1/changes/{}", ids[&status])).await.json();
        change["deliveries"][0]["state"].as_str().unwrap_or_default().to_owned()
    };
    for (status, state) in [
        (409, "superseded"),
        (404, "dead-letter"),
        (422, "delivered"),
        (202, "delivered"),
        (304, "delivered"),
        (405, "absent"),
    ] {
        assert_eq!(states(status).await, state, "{status}");
    }
    assert_eq!((attempts(&gateway, "superseded").await, attempts(&gateway, "retry").await), (2, 2));
    gateway.put("/items/503", "x").await;
    eventually("it is held", async || gateway.destination("search").await["state"] == "held").await;
}

/// I12: what a destination repeats of our secrets is not kept, nor more than 1 KiB of anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_what_is_kept_of_an_answer_holds_no_secret() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let secret = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5";
    destination.answer(|delivery| {
        let told = delivery.request.fields.get("Authorization").unwrap_or_default().to_owned();
        let token = told.rsplit(' ').next().unwrap_or_default().to_owned();
        let echo = format!("{told}; {token}; Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5; \u{1b}[31m");
        let edge = format!("{echo}{}{token}", "x".repeat(1020 - echo.len()));
        Reply::new(400, if delivery.key == "/items/edge" { edge } else { echo + &"y".repeat(200 << 10) })
    });
    let more = format!(
        "headers = {{ authorization = \"Bearer token-canary-0123456789\" }}\nsecrets = [\"{secret}\"]"
    );
    let gateway = setup(&source, &destination, &more).start().await;
    gateway.put("/items/1", "x").await;
    gateway.put("/items/edge", "x").await;
    eventually("both are dead letters", async || letters(&gateway).await.len() == 2).await;
    for letter in letters(&gateway).await {
        let answer = letter["answer"].as_str().unwrap();
        assert!(answer.starts_with("redacted; redacted; redacted; \u{fffd}[31m"), "{answer}");
        assert!(answer.len() <= 1024 && answer.len() > 900, "{}", answer.len());
        assert!(!answer.contains("tok") && !answer.contains("Y2Fu"), "{answer}");
    }
    assert!(!gateway.log_text().contains("canary-0123"));
}

/// I12: nor what stands in its URL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_what_is_kept_of_an_answer_holds_nothing_of_the_urls_query() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery| {
        Reply::new(400, format!("no: {}, token canary/1 or canary%2F1", delivery.request.target))
    });
    let url = destination.url();
    let with_query = format!("{url}/in?token=canary%2F1");
    let table = destination.table("search").replace(&url, &with_query) + "format = \"cloudevents\"\n";
    let text = format!("{}{table}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n", source.table());
    let gateway = Setup::new(text).start().await;
    gateway.put("/items/1", "x").await;
    eventually("it is a dead letter", async || !letters(&gateway).await.is_empty()).await;
    let letter = letters(&gateway).await.remove(0);
    assert_eq!(letter["answer"], "no: /in?redacted, token redacted or redacted");
    assert!(!gateway.log_text().contains("canary"));
}

/// A destination that keeps connections open in silence holds no place for longer than its `timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_holds_no_place_for_ever() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let never = Gate::closed();
    let held = never.clone();
    destination.answer(move |delivery| match delivery.request.text().as_str() {
        "silence" => Reply::none(Step::Wait(held.clone())),
        // An answer that is always about to come.
        "interim" => {
            (0..200).fold(Reply::ok(""), |reply, _| reply.interim(103, "")).after(Step::Wait(held.clone()))
        }
        _ => Reply::ok(""),
    });
    let gateway = setup(&source, &destination, &format!("concurrency = 1\ntimeout = \"500ms\"\n{PATIENT}"))
        .start()
        .await;
    gateway.put("/items/1", "silence").await;
    gateway.put("/items/2", "interim").await;
    gateway.put("/items/3", "good").await;
    destination.wait_for_body("good").await;
    let status = gateway.destination("search").await;
    assert_eq!(status["dead_letters"], 0, "{status}");
}
