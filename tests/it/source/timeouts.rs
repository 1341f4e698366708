//! How long the head of an answer is waited for: the source's word, or the route's own.

use super::{becomes, gateway_of, metric, nothing_is_left};
use crate::support::{Ask, EVERYTHING, Gate, Reply, ScriptedSource, Setup, Step, eventually};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

/// A gateway's tables: the source's timeout, and that of the route for `/own`.
fn tables(source: &ScriptedSource, timeout: &str, own: &str) -> String {
    let route = "[[route]]\nname = \"own\"\npath = \"/own\"\nsource = \"inventory\"";
    format!("{}timeout = \"{timeout}\"\n{route}\ntimeout = \"{own}\"\n{EVERYTHING}", source.table())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routes_own_timeout_counts_instead_of_its_sources() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("*", Reply::ok("late").after(Step::Wait(gate.clone())));

    // A shorter one: the test would not wait for the source's.
    let gateway = Setup::new(tables(&source, "60s", "100ms")).start().await;
    gateway.get("/own").await.assert_problem(504);
    nothing_is_left(&gateway).await;

    // A longer one: it outlasts the source's.
    let gateway = Setup::new(tables(&source, "100ms", "30s")).start().await;
    let own = tokio::spawn(Ask::get("/own").send(gateway.public));
    source.wait_for("/own", 2).await;
    gateway.get("/other").await.assert_problem(504);
    gate.open();
    let own = own.await.expect("done").expect("an answer");
    assert_eq!((own.status, own.text().as_str()), (200, "late"));
    nothing_is_left(&gateway).await;
}

/// Whatever is asked, and whatever source and route have in mind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_longer_than_the_request_timeout_for_a_head() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("*", Reply::ok("late").after(Step::Wait(gate.clone())));
    let setup = Setup::new(tables(&source, "60s", "60s")).server("request_timeout = \"300ms\"");
    let gateway = setup.start().await;
    source.always("/good", Reply::ok("good").cache_control("no-store"));
    for path in ["/own", "/other"] {
        let asks = ["GET", "HEAD", "OPTIONS", "DELETE", "POST"].map(|method| Ask::new(method, path));
        for ask in asks.into_iter().chain([Ask::put(path, "content"), Ask::get(path).body("content")]) {
            let answer = gateway.send(ask.clone()).await;
            assert_eq!(answer.status, 504, "{ask:?}: {answer:?}");
            // So that the breaker stays closed.
            eventually("a good answer", async || gateway.get("/good").await.status == 200).await;
        }
    }
    nothing_is_left(&gateway).await;
}

/// An address whose connections are never made: nothing is accepted, and there is no room to wait for it.
struct BlackHole {
    url: String,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    async fn open() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("port 0 can be bound");
        let listener = socket.listen(1).expect("it can listen");
        let address = listener.local_addr().expect("an address");
        let mut waiting = Vec::new();
        // Full when one more is not taken at once.
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            waiting.push(stream.expect("a connection"));
            assert!(waiting.len() < 100, "this system takes any number");
        }
        Self { url: format!("http://{address}"), _listener: listener, _waiting: waiting }
    }
}

/// Connecting, connecting elsewhere and waiting for a place count, all of them together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_one_deadline_covers_every_address_that_cannot_be_reached() {
    let holes = futures_util::future::join_all((0..4).map(|_| BlackHole::open())).await;
    let urls: Vec<&str> = holes.iter().map(|hole| hole.url.as_str()).collect();
    let keys = "connect_timeout = \"300ms\"\ntimeout = \"700ms\"\nconcurrency = 1";
    let gateway = gateway_of(&urls, keys, "").await;
    let timed = async |ask: Ask| {
        let began = Instant::now();
        let answer = gateway.send(ask).await;
        (answer, began.elapsed())
    };
    // Two connects fail, and the third is cut short; the second request waits for the place of the first.
    let (first, second) = tokio::join!(timed(Ask::get("/a")), timed(Ask::post("/b", "content")));
    for (answer, took) in [first, second] {
        assert!([502, 503, 504].contains(&answer.status), "{answer:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    nothing_is_left(&gateway).await;

    // All but the last are ejected, and then the breaker opens: nobody waits any more.
    let mut requests = 0;
    while metric(&gateway, "tidegate_source_breaker_state", &[]).await < 1.5 {
        let (answer, took) = timed(Ask::get("/c")).await;
        assert!(answer.status >= 502 && took < Duration::from_secs(2), "{took:?} {answer:?}");
        requests += 1;
        assert!(requests < 100, "it never opens");
    }
    // On a slow machine one of them may be a probe.
    let mut at_once = 0;
    for _ in 0..10 {
        let (answer, took) = timed(Ask::get("/d")).await;
        assert!(answer.status >= 502, "{answer:?}");
        at_once += usize::from(answer.status == 503 && took < Duration::from_millis(300));
    }
    assert!(at_once >= 5, "{at_once} of 10 are told at once");
    becomes(&gateway, "tidegate_source_ejected", &[], 3.0).await;
    nothing_is_left(&gateway).await;
}
