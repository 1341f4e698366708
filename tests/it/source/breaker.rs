//! The breaker of a source, the queue for its places, and what is sent again.

use super::{NOBODY, asked, becomes, gateway_of, metric, nothing_is_left};
use crate::support::{Answer, Ask, Gate, Gateway, Reply, ScriptedSource, Step, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const REDUCED: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// What comes of a request that reaches no source. On a slow machine the breaker may be due for a probe just
/// then; the next one is refused.
async fn refused(gateway: &Gateway, source: &ScriptedSource, ask: Ask) -> Answer {
    loop {
        let before = asked(&[source]);
        let answer = gateway.send(ask.clone()).await;
        if asked(&[source]) == before {
            return answer;
        }
        assert!(before < vec![100], "the breaker refuses nobody");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_requests_without_an_answer_open_the_breaker_and_a_probe_closes_it() {
    let source = ScriptedSource::start().await;
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    source.on(
        "*",
        move |_| {
            if is_down.load(Ordering::SeqCst) { Reply::none(Step::Cut) } else { Reply::ok("good") }
        },
    );
    source.sequence("/stale", vec![Reply::ok("stale").cache_control("max-age=0, stale-if-error=600")]);
    let gateway = gateway_of(&[&source.url()], "", "").await;
    assert_eq!(gateway.get("/stale").await.text(), "stale");
    down.store(true, Ordering::SeqCst);
    for number in 0..5 {
        gateway.get(&format!("/{number}")).await.assert_problem(502);
    }
    for ask in [Ask::get("/a"), Ask::put("/a", "content")] {
        let refused = refused(&gateway, &source, ask).await;
        refused.assert_problem(503);
        assert_eq!(refused.json()["type"], REDUCED);
        assert_eq!(refused.field("Retry-After"), "1");
        assert_eq!(refused.field("Proxy-Status"), "tidegate; error=destination_unavailable");
        assert_eq!(refused.field("Cache-Status"), "tidegate", "nothing was forwarded");
    }
    let stale = refused(&gateway, &source, Ask::get("/stale")).await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "stale"), "{stale:?}");
    assert!(stale.says("fwd=stale") && stale.says("detail=stale-if-error"), "{stale:?}");
    assert!(metric(&gateway, "tidegate_source_refused_total", &["breaker"]).await > 2.5);
    eventually("it is seen to be open", async || {
        gateway.get("/knock").await;
        metric(&gateway, "tidegate_source_breaker_state", &[]).await > 1.5
    })
    .await;
    // Nobody asks, and the gauge does not stand still all the same.
    becomes(&gateway, "tidegate_source_breaker_state", &[], 1.0).await;

    down.store(false, Ordering::SeqCst);
    eventually("a probe closes it", async || gateway.get("/b").await.status == 200).await;
    assert_eq!(gateway.get("/c").await.status, 200);
    becomes(&gateway, "tidegate_source_breaker_state", &[], 0.0).await;
    nothing_is_left(&gateway).await;
}

/// What the source says itself is for the client, be it an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_the_source_answers_open_no_breaker() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| match request.path() {
        "/bad" => Reply::none(Step::Bytes(b"no HTTP\r\n\r\n".to_vec())).after(Step::Cut),
        path => Reply::new(path[1..].parse().expect("a status"), "own words"),
    });
    let gateway = gateway_of(&[&source.url()], "", "").await;
    for status in [500, 502, 503, 504] {
        for _ in 0..10 {
            let answer = gateway.get(&format!("/{status}")).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, "own words"));
        }
    }
    for _ in 0..10 {
        gateway.get("/bad").await.assert_problem(502);
    }
    nothing_is_left(&gateway).await;
}

/// `stale_on_disconnect` holds while the breaker is open as it did before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_breaker_serves_what_a_closed_one_would_have_served() {
    let source = ScriptedSource::start().await;
    let replies = vec![Reply::ok("stale").cache_control("max-age=0"), Reply::none(Step::Cut)];
    source.sequence("/a", replies);
    let route = "[route.cache]\nstale_if_error = \"0s\"\nstale_on_disconnect = true\n";
    let gateway = gateway_of(&[&source.url()], "", route).await;
    assert_eq!(gateway.get("/a").await.status, 200);
    for turn in 0..20 {
        let answer = gateway.get("/a").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "stale"), "turn {turn}: {answer:?}");
    }
    assert!(metric(&gateway, "tidegate_source_refused_total", &["breaker"]).await > 0.5);
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_places_requests_wait_to_their_deadline_and_then_it_is_503() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let body = vec![Step::Bytes(b"good".to_vec()), Step::Wait(gate.clone())];
    source.always("*", Reply::chunks(body).cache_control("no-store"));
    let gateway = gateway_of(&[&source.url()], "concurrency = 1\ntimeout = \"1s\"", "").await;
    let mut held = Ask::get("/first").open(gateway.public).await.expect("a head");
    // A place is held until the body has ended: the second request waits for it in vain.
    let waiting = gateway.send(Ask::put("/second", "x")).await;
    waiting.assert_problem(503);
    assert_eq!((waiting.json()["type"].as_str(), waiting.field("Retry-After")), (Some(REDUCED), "1"));
    assert_eq!(source.count("/second"), 0);
    assert!((metric(&gateway, "tidegate_source_refused_total", &["busy"]).await - 1.0).abs() < 0.5);
    gate.open();
    assert_eq!(held.rest().await.expect("the whole body"), b"good");
    drop(held);
    assert_eq!(gateway.get("/third").await.text(), "good");
    nothing_is_left(&gateway).await;
}

/// Rows: the method, what the source does with a first request, how often it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_safe_requests_are_sent_again_and_never_once_an_answer_began() {
    let source = ScriptedSource::start().await;
    let begun = || Reply::none(Step::Bytes(b"HTTP/1.1 200 OK\r\n".to_vec()));
    let gateway = gateway_of(&[&source.url()], "", "").await;
    for (number, (what, method, first, count)) in [
        ("a reset", "GET", Reply::none(Step::Reset), 2),
        ("a close", "GET", Reply::none(Step::Cut), 2),
        ("a close", "HEAD", Reply::none(Step::Cut), 2),
        ("a close", "OPTIONS", Reply::none(Step::Cut), 2),
        ("a close", "POST", Reply::none(Step::Cut), 1),
        ("a close", "PATCH", Reply::none(Step::Cut), 1),
        ("a reset", "PUT", Reply::none(Step::Reset), 1),
        ("a close", "DELETE", Reply::none(Step::Cut), 1),
        ("a part of an answer", "GET", begun().after(Step::Cut), 1),
        ("a part of an answer", "GET", begun().after(Step::Reset), 1),
        ("an error", "GET", Reply::new(503, ""), 1),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        source.sequence(&path, vec![first, Reply::ok("")]);
        let answer = gateway.send(Ask::new(method, &path)).await;
        assert_eq!(source.count(&path), count, "{method}, {what}");
        assert_eq!(answer.status == 200, count == 2, "{method}, {what}: {answer:?}");
        gateway.get("/").await;
    }
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_two_retries_and_they_count_as_one_failure() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::none(Step::Cut));
    let gateway = gateway_of(&[&source.url()], "", "").await;
    for request in 1..=5 {
        gateway.get("/a").await.assert_problem(502);
        assert_eq!(source.count("/a"), 3 * request);
    }
    assert!((metric(&gateway, "tidegate_source_retries_total", &["sent"]).await - 10.0).abs() < 0.5);
    refused(&gateway, &source, Ask::get("/a")).await.assert_problem(503);
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_nobody_listens_for_is_502_and_then_503() {
    let gateway = gateway_of(&[NOBODY], "", "").await;
    let status = async || gateway.send(Ask::post("/a", "content")).await.status;
    for _ in 0..5 {
        assert_eq!(status().await, 502);
    }
    // On a slow machine the next one may be a probe.
    eventually("nobody is asked", async || status().await == 503).await;
    nothing_is_left(&gateway).await;
}
