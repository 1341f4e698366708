//! What stands behind the gateway: a source and a destination that cost as little as they can.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, put};
use futures_util::stream;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// What a read is answered with.
const BODY: [u8; 1024] = [b'x'; 1024];
/// A part of what `/stream/` answers; the first comes with the head.
const CHUNK: &[u8] = &BODY;
/// Parts of what `/stream/` answers.
pub(crate) const CHUNKS: u32 = 10;
/// Until the next part, or the end.
pub(crate) const CHUNK_EVERY: Duration = Duration::from_millis(200);

/// Source and destination, listening on free ports until dropped.
pub(crate) struct Stage {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    counts: Arc<Counts>,
    _serving: [AbortOnDropHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    delivered: AtomicU64,
    /// Reads of `/slow/` and `/stream/`.
    forwards: AtomicU64,
    /// What `/slow/` waits before it answers, in milliseconds.
    latency_ms: AtomicU64,
}

impl Stage {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let counts = Arc::<Counts>::default();
        let source = Router::new()
            .route("/items/{id}", get(read).put(write))
            .route("/slow/{id}", get(read_slowly))
            .route("/stream/{id}", get(read_in_parts))
            .with_state(counts.clone());
        let destination = Router::new().route("/items/{id}", put(deliver)).with_state(counts.clone());
        let (source, serving_source) = serve(source).await?;
        let (destination, serving_destination) = serve(destination).await?;
        Ok(Self { source, destination, counts, _serving: [serving_source, serving_destination] })
    }

    /// Writes that reached the source.
    pub(crate) fn written(&self) -> u64 {
        self.counts.written.load(Ordering::Relaxed)
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

async fn write(State(counts): State<Arc<Counts>>) {
    counts.written.fetch_add(1, Ordering::Relaxed);
}

async fn deliver(State(counts): State<Arc<Counts>>) {
    counts.delivered.fetch_add(1, Ordering::Relaxed);
}
