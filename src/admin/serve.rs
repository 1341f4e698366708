//! The accept loop of the admin listener: few connections, each with timers.

use super::listen::{Listener, Stream};
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

/// Connections at once; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 256;
/// Until a head is complete, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// A connection is asked to end after this, so that a reader that stands still does not keep one.
const CONNECTION_LIFE: Duration = Duration::from_mins(5);
/// How long a request under way may still take after that, or after the stop.
const FINISH: Duration = Duration::from_secs(10);
/// Pause after an accept that failed: the process has no descriptors, and will not at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Who is connected, where they have an address; stands in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) Option<SocketAddr>);

/// How long the connection of a request lasts; stands in its extensions. What streams ends before it is cut.
#[derive(Clone, Debug)]
pub(super) struct Life {
    stop: CancellationToken,
    until: Instant,
}

impl Life {
    /// Waits until it is time to end.
    pub(super) async fn over(&self) {
        let Self { stop, until } = self;
        tokio::select! {
            () = stop.cancelled() => (),
            () = tokio::time::sleep_until(*until) => (),
        }
    }
}

/// Answers on `listener` until `stop`, then lets the requests under way finish.
pub async fn serve(listener: Listener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let accept = async || {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        (place, listener.accept().await)
    };
    while let Some((place, accepted)) = stop.run_until_cancelled(accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                let (peer, router, stop) = (Peer(peer), router.clone(), stop.clone());
                connections.spawn(async move {
                    match stream {
                        Stream::Tcp(stream) => connection(stream, peer, router, stop).await,
                        Stream::Unix(stream) => connection(stream, peer, router, stop).await,
                    }
                    drop(place);
                });
            }
            Err(cause) => {
                warn!(%cause, "the admin listener cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    stop: CancellationToken,
) {
    let until = Instant::now() + CONNECTION_LIFE;
    let life = Life { stop: stop.clone(), until };
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(life.clone());
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            finish(connection.as_mut()).await
        }
        () = tokio::time::sleep_until(until) => {
            connection.as_mut().graceful_shutdown();
            finish(connection.as_mut()).await
        }
    };
    if let Err(cause) = ended {
        debug!(peer = peer.0.map(tracing::field::display), %cause, "an admin connection broke off");
    }
}

async fn finish(connection: impl Future<Output = hyper::Result<()>>) -> hyper::Result<()> {
    tokio::time::timeout(FINISH, connection).await.unwrap_or(Ok(()))
}
