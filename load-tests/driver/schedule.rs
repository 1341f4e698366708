//! The open loop: request number `n` is due at `n / rate`, and its latency runs from then.

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// The longest wait for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// How much, how long, by how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) rate: u64,
    pub(crate) length: Duration,
    pub(crate) clients: u64,
}

impl Load {
    /// All requests of the run.
    pub(crate) fn requests(self) -> u64 {
        self.rate.saturating_mul(self.length.as_secs())
    }

    /// When request `number` is due, from the start.
    fn due(self, number: u64) -> Duration {
        Duration::from_nanos(number.saturating_mul(1_000_000_000) / self.rate)
    }
}

/// One request.
pub(crate) struct Request {
    method: Method,
    url: String,
    json: String,
}

impl Request {
    pub(crate) fn get(url: String) -> Self {
        Self { method: Method::GET, url, json: String::new() }
    }

    /// With an empty JSON object, as admin calls want it.
    pub(crate) fn post(url: String) -> Self {
        Self { method: Method::POST, url, json: "{}".to_owned() }
    }

    pub(crate) fn put(url: String, json: String) -> Self {
        Self { method: Method::PUT, url, json }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 2xx out of memory.
    Hit,
    /// Another 2xx.
    Made,
    /// A refusal.
    Refused(StatusCode),
}

/// What a run measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// From the time a request was due to its answer, sorted.
    pub(crate) from_due: Vec<Duration>,
    /// From the time it was really sent, sorted.
    pub(crate) from_sent: Vec<Duration>,
    /// From the time a request was due until it was sent, sorted: what the driver itself could not hold.
    pub(crate) late: Vec<Duration>,
    pub(crate) answered: u64,
    pub(crate) hits: u64,
    /// Refusals, timeouts and broken connections.
    pub(crate) failed: u64,
    pub(crate) took: Duration,
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.from_due.extend(other.from_due);
        self.from_sent.extend(other.from_sent);
        self.late.extend(other.late);
        self.answered += other.answered;
        self.hits += other.hits;
        self.failed += other.failed;
    }
}

type Http = Client<HttpConnector, Full<Bytes>>;

fn client() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// One request outside of any schedule.
pub(crate) async fn send_once(request: Request) -> anyhow::Result<Answer> {
    send(&client(), request).await
}

async fn send(http: &Http, request: Request) -> anyhow::Result<Answer> {
    let mut head = http::Request::builder().method(request.method).uri(request.url);
    if !request.json.is_empty() {
        head = head.header(header::CONTENT_TYPE, "application/json");
    }
    let request = head.body(Full::new(Bytes::from(request.json)))?;
    let exchange = async {
        let (head, mut body) = http.request(request).await?.into_parts();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        anyhow::Ok(head)
    };
    let head = timeout(ANSWER_WAIT_MAX, exchange).await??;
    let hit = head
        .headers
        .get("cache-status")
        .is_some_and(|field| field.as_bytes().windows(5).any(|at| at == b"; hit"));
    Ok(match head.status {
        status if !status.is_success() => Answer::Refused(status),
        _ if hit => Answer::Hit,
        _ => Answer::Made,
    })
}

/// Sends every request of `load` when it is due, or as soon after as a client is free.
pub(crate) async fn run(load: Load, request: impl Fn(u64) -> Request + Clone + Send + 'static) -> Measured {
    let next = Arc::new(AtomicU64::new(0));
    let begun_at = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        clients.spawn(one_client(load, begun_at, next.clone(), request.clone()));
    }
    let mut measured = Measured::default();
    for each in clients.join_all().await {
        measured.add(each);
    }
    measured.took = begun_at.elapsed();
    measured.from_due.sort_unstable();
    measured.from_sent.sort_unstable();
    measured.late.sort_unstable();
    measured
}

async fn one_client(
    load: Load,
    begun_at: Instant,
    next: Arc<AtomicU64>,
    request: impl Fn(u64) -> Request + Send,
) -> Measured {
    let http = client();
    let mut measured = Measured::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.requests() {
            return measured;
        }
        let due_at = begun_at + load.due(number);
        sleep_until(due_at).await;
        let sent_at = Instant::now();
        measured.late.push(sent_at.saturating_duration_since(due_at));
        let answer = send(&http, request(number)).await;
        measured.from_due.push(due_at.elapsed());
        measured.from_sent.push(sent_at.elapsed());
        match answer {
            Ok(Answer::Hit) => {
                measured.answered += 1;
                measured.hits += 1;
            }
            Ok(Answer::Made) => measured.answered += 1,
            Ok(Answer::Refused(_)) | Err(_) => measured.failed += 1,
        }
    }
}
