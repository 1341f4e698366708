//! What stands behind the gateway: a source and a destination that cost as little as they can.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, put};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// What a read is answered with.
const BODY: [u8; 1024] = [b'x'; 1024];

/// Source and destination, listening on free ports until dropped.
pub(crate) struct Stage {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    written: Arc<AtomicU64>,
    delivered: Arc<AtomicU64>,
    _serving: [AbortOnDropHandle<()>; 2],
}

impl Stage {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (written, delivered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let source = Router::new().route("/items/{id}", get(read).put(count)).with_state(written.clone());
        let destination = Router::new().route("/items/{id}", put(count)).with_state(delivered.clone());
        let (source, serving_source) = serve(source).await?;
        let (destination, serving_destination) = serve(destination).await?;
        Ok(Self { source, destination, written, delivered, _serving: [serving_source, serving_destination] })
    }

    /// Writes that reached the source.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Deliveries that reached the destination.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
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

async fn count(State(counter): State<Arc<AtomicU64>>) {
    counter.fetch_add(1, Ordering::Relaxed);
}
