//! Pooled connections that the source has closed: nobody who may be helped is hurt, and nothing is sent twice
//! that must not be.

use super::{becomes, gateway_of, metric, nothing_is_left};
use crate::support::{Ask, Gateway};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// Connections that are pooled before they are closed: more than a request is ever sent again.
const POOLED: usize = 6;

/// What becomes of a pooled connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wear {
    /// It is closed when the next request's bytes have come.
    Closed,
    /// It is reset then.
    Reset,
}

/// A source whose first [`POOLED`] connections answer one request each, all at once, and wear out then.
struct Wearing {
    url: String,
    /// Requests that came, and those of them on worn connections.
    requests: Arc<AtomicUsize>,
    worn: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Wearing {
    async fn start(wear: Wear) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (requests, worn) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, counted_worn) = (Arc::clone(&requests), Arc::clone(&worn));
        let all_there = Arc::new(Barrier::new(POOLED));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            let mut number = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                number += 1;
                let is_first = number <= POOLED;
                let (requests, worn) = (Arc::clone(&counted), Arc::clone(&counted_worn));
                let all_there = Arc::clone(&all_there);
                open.spawn(async move {
                    let mut answered = 0;
                    while asked(&mut stream).await {
                        requests.fetch_add(1, Ordering::SeqCst);
                        if is_first && answered == 1 {
                            worn.fetch_add(1, Ordering::SeqCst);
                            if wear == Wear::Reset {
                                drop(stream.set_zero_linger());
                            }
                            return;
                        }
                        if is_first {
                            all_there.wait().await;
                        }
                        answered += 1;
                        let answer =
                            b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 4\r\n\r\ngood";
                        drop(stream.write_all(answer).await);
                    }
                });
            }
        });
        Self { url, requests, worn, _tasks: tasks }
    }

    fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Reads a request with its content, in one write each; whether there was one.
async fn asked(stream: &mut TcpStream) -> bool {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length = length.and_then(|digits| digits.parse::<usize>().ok()).unwrap_or_default();
        if bytes.len() >= end + 4 + length {
            return true;
        }
    }
}

/// A gateway whose pool holds as many connections as wear out.
async fn pooled(source: &Wearing) -> Gateway {
    let gateway = gateway_of(&[&source.url], "idle_timeout = \"60s\"", "").await;
    let answers =
        join_all((0..POOLED).map(|number| gateway.send(Ask::get(&format!("/fill/{number}"))))).await;
    assert!(answers.iter().all(|answer| answer.text() == "good"));
    becomes(&gateway, "tidegate_source_in_flight", &[], 0.0).await;
    assert_eq!(source.count(), POOLED);
    gateway
}

async fn nobody_was_blamed(gateway: &Gateway) {
    for name in ["tidegate_source_failures_total", "tidegate_source_ejected", "tidegate_source_breaker_state"]
    {
        assert!(metric(gateway, name, &[]).await < 0.5, "{name}");
    }
    nothing_is_left(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9112_9_3_1_however_many_pooled_connections_are_worn_a_safe_request_is_answered() {
    for wear in [Wear::Closed, Wear::Reset] {
        let source = Wearing::start(wear).await;
        let gateway = pooled(&source).await;
        for number in 0..2 * POOLED {
            let ask =
                if number % 3 == 2 { Ask::new("OPTIONS", "/o") } else { Ask::get(&format!("/{number}")) };
            let answer = gateway.send(ask).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "{wear:?} {answer:?}");
        }
        assert_eq!(source.worn.load(Ordering::SeqCst), POOLED, "{wear:?}: all of them were met");
        nobody_was_blamed(&gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_on_worn_connections_are_all_answered() {
    let source = Wearing::start(Wear::Closed).await;
    let gateway = pooled(&source).await;
    let answers = join_all((0..4 * POOLED).map(|number| gateway.send(Ask::get(&format!("/{number}"))))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    nobody_was_blamed(&gateway).await;
}

/// What is not safe is sent once; where the source is known to close connections, on a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_never_sent_twice_and_keeps_away_from_connections_that_wear_out() {
    for (method, body) in [("PUT", "content"), ("POST", "content"), ("DELETE", ""), ("POST", "")] {
        let source = Wearing::start(Wear::Closed).await;
        let gateway = pooled(&source).await;
        let ask = || {
            let ask = Ask::new(method, "/a");
            if body.is_empty() { ask } else { ask.body(body) }
        };
        // Nobody could know: the source may have acted on it.
        assert_eq!(gateway.send(ask()).await.status, 502, "{method}");
        assert_eq!(source.count(), POOLED + 1, "{method}: sent once");
        for turn in 1..=POOLED {
            assert_eq!(gateway.send(ask()).await.status, 200, "{method}");
            assert_eq!(source.count(), POOLED + 1 + turn, "{method}: sent once each");
        }
        assert_eq!(source.worn.load(Ordering::SeqCst), 1, "{method}");
        nobody_was_blamed(&gateway).await;
    }
}
