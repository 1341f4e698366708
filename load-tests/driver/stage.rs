//! What stands behind the gateway: a source and destinations that cost as little as they can.

use anyhow::Context;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use futures_util::stream;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// What a read is answered with.
const BODY: [u8; 1024] = [b'x'; 1024];
/// A part of what `/stream/` answers; the first comes with the head.
const CHUNK: &[u8] = &BODY;
/// Parts of what `/stream/` answers.
pub(crate) const CHUNKS: u32 = 10;
/// Until the next part, or the end.
pub(crate) const CHUNK_EVERY: Duration = Duration::from_millis(200);

/// How many destinations there are; most scenarios use the first alone.
pub(crate) const DESTINATIONS: usize = 3;
/// The destination that can be silenced: the last.
pub(crate) const MUTABLE: usize = DESTINATIONS - 1;

/// What the last destination does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    Answers,
    /// It takes deliveries and never answers.
    Silent,
}

/// Source and destinations, listening on free ports until dropped.
pub(crate) struct Stage {
    pub(crate) source: SocketAddr,
    pub(crate) destinations: [SocketAddr; DESTINATIONS],
    counts: Arc<Counts>,
    arrivals: Arc<OnceLock<Arrivals>>,
    voice: watch::Sender<Voice>,
    _serving: Vec<AbortOnDropHandle<()>>,
}

/// When a change arrived at each destination first, by its number, in microseconds from `begun_at`; 0: not
/// yet.
#[derive(Debug)]
pub(crate) struct Arrivals {
    begun_at: Instant,
    at: [Vec<AtomicU64>; DESTINATIONS],
}

impl Arrivals {
    /// Room for so many changes.
    pub(crate) fn new(begun_at: Instant, changes: usize) -> Self {
        let empty = |_| (0..changes).map(|_| AtomicU64::new(0)).collect();
        Self { begun_at, at: std::array::from_fn(empty) }
    }

    /// A change's first arrival at a destination, from `begun_at`.
    pub(crate) fn of(&self, destination: usize, number: usize) -> Option<Duration> {
        let micros = self.at.get(destination)?.get(number)?.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    fn note(&self, destination: usize, number: usize) {
        let now = u64::try_from(self.begun_at.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        if let Some(at) = self.at.get(destination).and_then(|at| at.get(number)) {
            // A second attempt is no arrival.
            at.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).unwrap_or(now);
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    /// Reads of `/slow/` and `/stream/`.
    forwards: AtomicU64,
    /// What `/slow/` waits before it answers, in milliseconds.
    latency_ms: AtomicU64,
    /// After how many seconds `/accepted/` wants to be asked again; 0: it takes what comes.
    rest_seconds: AtomicU64,
}

impl Stage {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let counts = Arc::<Counts>::default();
        let source = Router::new()
            .route("/items/{id}", get(read).put(write))
            .route("/accepted/{id}", put(write_or_rest))
            .route("/followed/{id}", put(write))
            .route("/plain/{id}", put(write))
            .route("/tagged/{tag}/{id}", get(read_tagged))
            .route("/slow/{id}", get(read_slowly))
            .route("/stream/{id}", get(read_in_parts))
            .with_state(counts.clone());
        let arrivals = Arc::<OnceLock<Arrivals>>::default();
        let voice = watch::Sender::new(Voice::Answers);
        let (source, serving) = serve(source).await?;
        let (mut addresses, mut servings) = ([source; DESTINATIONS], vec![serving]);
        for (index, address) in addresses.iter_mut().enumerate() {
            let arrivals = arrivals.clone();
            let voice = (index == MUTABLE).then(|| voice.subscribe());
            let follow = Follow { index, arrivals, voice };
            let router = Router::new()
                .route("/items/{id}", put(deliver))
                .route("/accepted/{id}", put(deliver))
                .with_state(counts.clone())
                .route("/followed/{id}", put(follow_up).with_state(follow));
            let (listening, serving) = serve(router).await?;
            *address = listening;
            servings.push(serving);
        }
        Ok(Self { source, destinations: addresses, counts, arrivals, voice, _serving: servings })
    }

    /// From now on the source wants writes to `/accepted/` so many seconds later; 0: at once.
    pub(crate) fn rest_source(&self, seconds: u64) {
        self.counts.rest_seconds.store(seconds, Ordering::Relaxed);
    }

    /// From now on the arrivals of `/followed/` are noted there, once for a stage.
    pub(crate) fn note_arrivals(&self, arrivals: Arrivals) -> anyhow::Result<()> {
        self.arrivals.set(arrivals).ok().context("arrivals are noted already")
    }

    /// What was noted.
    pub(crate) fn arrivals(&self) -> Option<&Arrivals> {
        self.arrivals.get()
    }

    /// What the last destination does from now on.
    pub(crate) fn last_destination(&self, voice: Voice) {
        self.voice.send_replace(voice);
    }

    /// Deliveries that reached the destination.
    pub(crate) fn delivered(&self) -> u64 {
        self.counts.delivered.load(Ordering::Relaxed)
    }

    /// Reads of `/slow/` and `/stream/` that reached the source.
    pub(crate) fn forwards(&self) -> u64 {
        self.counts.forwards.load(Ordering::Relaxed)
    }

    /// What `/slow/` waits from now on, in whole milliseconds.
    pub(crate) fn set_latency(&self, latency: Duration) {
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.counts.latency_ms.store(latency_ms, Ordering::Relaxed);
    }
}

async fn serve(router: Router) -> anyhow::Result<(SocketAddr, AbortOnDropHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
    Ok((address, AbortOnDropHandle::new(serving)))
}

async fn read() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "max-age=3600"), (header::CONTENT_TYPE, "text/plain")], BODY.as_slice())
}

/// The same with a tag.
async fn read_tagged(UrlPath((tag, _)): UrlPath<(String, u64)>) -> impl IntoResponse {
    ([("cache-tag", tag)], read().await)
}

async fn read_slowly(State(counts): State<Arc<Counts>>) -> impl IntoResponse {
    counts.forwards.fetch_add(1, Ordering::Relaxed);
    sleep(Duration::from_millis(counts.latency_ms.load(Ordering::Relaxed))).await;
    read().await
}

async fn read_in_parts(State(counts): State<Arc<Counts>>) -> impl IntoResponse {
    counts.forwards.fetch_add(1, Ordering::Relaxed);
    let parts = stream::unfold(0, |made| async move {
        if made > 0 {
            sleep(CHUNK_EVERY).await;
        }
        (made < CHUNKS).then(|| (Ok::<_, Infallible>(Bytes::from_static(CHUNK)), made + 1))
    });
    let fields = [(header::CACHE_CONTROL, "max-age=3600"), (header::CONTENT_TYPE, "text/plain")];
    (fields, Body::from_stream(parts))
}

async fn write() {}

async fn write_or_rest(State(counts): State<Arc<Counts>>) -> Response {
    match counts.rest_seconds.load(Ordering::Relaxed) {
        0 => StatusCode::OK.into_response(),
        seconds => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds.to_string())]).into_response()
        }
    }
}

async fn deliver(State(counts): State<Arc<Counts>>) {
    counts.delivered.fetch_add(1, Ordering::Relaxed);
}

/// One destination of `/followed/`.
#[derive(Clone)]
struct Follow {
    index: usize,
    arrivals: Arc<OnceLock<Arrivals>>,
    /// Of the one that can be silenced.
    voice: Option<watch::Receiver<Voice>>,
}

/// Notes the change whose number is the body's.
async fn follow_up(State(follow): State<Follow>, body: Bytes) -> StatusCode {
    if let Some(mut voice) = follow.voice
        && *voice.borrow_and_update() == Voice::Silent
    {
        // Until the gateway has given up, or hears that it came too late.
        drop(voice.wait_for(|voice| *voice == Voice::Answers).await);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let number = std::str::from_utf8(&body).ok().and_then(|text| text.trim().parse().ok());
    if let (Some(arrivals), Some(number)) = (follow.arrivals.get(), number) {
        arrivals.note(follow.index, number);
    }
    StatusCode::NO_CONTENT
}
