//! The sample destination: a search index that is sometimes slow, sometimes answers 503 or 429,
//! and is unreachable for a while in the middle.

use super::source::{ITEMS, Item};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The item that ordinary traffic leaves alone; it is written once, at the very end.
pub(super) const RESERVED: u32 = ITEMS;

/// Whether the destination can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It answers.
    Up,
    /// Connections are cut.
    Down,
}

/// What the destination does with what it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Honesty {
    /// It applies it.
    Applies,
    /// It acknowledges writes of the reserved item and drops them.
    DropsReserved,
}

#[derive(Clone)]
struct Indexed {
    item: Item,
    sequence: u64,
}

struct Index {
    items: Mutex<BTreeMap<u32, Indexed>>,
    reach: watch::Sender<Reach>,
    honesty: Honesty,
    attempts: AtomicU64,
    retries: AtomicU64,
    acknowledged: AtomicU64,
}

/// The sample destination, listening until it is dropped.
pub(super) struct SampleDestination {
    pub(super) address: SocketAddr,
    index: Arc<Index>,
    _serving: AbortOnDropHandle<()>,
}

/// Accepts and cuts connections while the destination is down.
struct Reachable {
    listener: TcpListener,
    reach: watch::Receiver<Reach>,
}

impl Listener for Reachable {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = Listener::accept(&mut self.listener).await;
            if *self.reach.borrow() == Reach::Up {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl SampleDestination {
    /// Starts it on a free port of the loopback, with the items that the source begins with.
    pub(super) async fn start(honesty: Honesty) -> anyhow::Result<Self> {
        let first = |id| (id, Indexed { item: Item::initial(id), sequence: 0 });
        let (reach, reachable) = watch::channel(Reach::Up);
        let index = Arc::new(Index {
            items: Mutex::new((1..=ITEMS).map(first).collect()),
            reach,
            honesty,
            attempts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
        });
        let router = Router::new().route("/items/{id}", get(search).put(apply)).with_state(index.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let serving = AbortOnDropHandle::new(tokio::spawn(async move {
            // `axum::serve` ends only with its task.
            axum::serve(Reachable { listener, reach: reachable }, router).await.unwrap_or_default();
        }));
        Ok(Self { address, index, _serving: serving })
    }

    /// Takes it down or brings it back.
    pub(super) fn set(&self, reach: Reach) {
        self.index.reach.send_replace(reach);
    }

    /// Attempts that reached it.
    pub(super) fn attempts(&self) -> u64 {
        self.index.attempts.load(Ordering::Relaxed)
    }

    /// Attempts that reached it and were not the first of their delivery.
    pub(super) fn retries(&self) -> u64 {
        self.index.retries.load(Ordering::Relaxed)
    }

    /// Attempts that it acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.index.acknowledged.load(Ordering::Relaxed)
    }
}

async fn search(State(index): State<Arc<Index>>, Path(id): Path<u32>) -> Response {
    let found = index.items.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    match found {
        Some(found) => Json(found.item).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn apply(
    State(index): State<Arc<Index>>,
    Path(id): Path<u32>,
    headers: HeaderMap,
    Json(item): Json<Item>,
) -> Response {
    let number = |name: &str| -> u64 {
        headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or_default()
    };
    index.attempts.fetch_add(1, Ordering::Relaxed);
    if number("tidegate-attempt") > 1 {
        index.retries.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(trouble) = trouble(&index).await {
        return trouble;
    }
    if index.honesty == Honesty::Applies || id != RESERVED {
        let sequence = number("tidegate-sequence");
        let mut items = index.items.lock().unwrap_or_else(PoisonError::into_inner);
        // A delivery that was overtaken changes nothing; a repeated one carries the same content.
        if items.get(&id).is_none_or(|known| known.sequence <= sequence) {
            items.insert(id, Indexed { item, sequence });
        }
    }
    index.acknowledged.fetch_add(1, Ordering::Relaxed);
    StatusCode::OK.into_response()
}

/// What goes wrong with this attempt, if anything.
async fn trouble(index: &Index) -> Option<Response> {
    if *index.reach.borrow() == Reach::Down {
        return Some((StatusCode::SERVICE_UNAVAILABLE, [(header::CONNECTION, "close")]).into_response());
    }
    match fastrand::u32(0..100) {
        0..3 => Some(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        3 => Some((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response()),
        4..8 => {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(200..600))).await;
            None
        }
        _ => {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(2..15))).await;
            None
        }
    }
}
