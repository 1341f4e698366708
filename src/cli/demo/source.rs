//! The sample source: a small inventory over HTTP, slow enough that a cache is worth having.
//!
//! `GET /items/{id}` with an `ETag` and a lifetime, `PUT /items/{id}` with the new state.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// How many items there are, numbered from 1.
pub(super) const ITEMS: u32 = 200;
/// Milliseconds that an answer takes.
const ANSWER_MILLIS: std::ops::RangeInclusive<u64> = 20..=80;

/// What a client writes, and what source and destination must agree about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) stock: u64,
}

impl Item {
    /// The item that source and destination begin with.
    pub(super) fn initial(id: u32) -> Self {
        Self { name: format!("Item {id}"), stock: u64::from(id) * 10 }
    }
}

/// An item as the source answers it.
#[derive(Clone, Serialize)]
struct Versioned {
    id: u32,
    #[serde(flatten)]
    item: Item,
    version: u64,
}

#[derive(Default)]
struct Inventory {
    items: Mutex<BTreeMap<u32, Versioned>>,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// The sample source, listening until it is dropped.
pub(super) struct SampleSource {
    pub(super) address: SocketAddr,
    inventory: Arc<Inventory>,
    _serving: AbortOnDropHandle<()>,
}

impl SampleSource {
    /// Starts it on a free port of the loopback.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let first = |id| (id, Versioned { id, item: Item::initial(id), version: 1 });
        let inventory =
            Inventory { items: Mutex::new((1..=ITEMS).map(first).collect()), ..Inventory::default() };
        let inventory = Arc::new(inventory);
        let router = Router::new().route("/items/{id}", get(read).put(write)).with_state(inventory.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let serving = AbortOnDropHandle::new(tokio::spawn(async move {
            // `axum::serve` ends only with its task.
            axum::serve(listener, router).await.unwrap_or_default();
        }));
        Ok(Self { address, inventory, _serving: serving })
    }

    /// Reads that reached it.
    pub(super) fn reads(&self) -> u64 {
        self.inventory.reads.load(Ordering::Relaxed)
    }

    /// Writes that reached it.
    pub(super) fn writes(&self) -> u64 {
        self.inventory.writes.load(Ordering::Relaxed)
    }
}

async fn read(State(inventory): State<Arc<Inventory>>, Path(id): Path<u32>, headers: HeaderMap) -> Response {
    inventory.reads.fetch_add(1, Ordering::Relaxed);
    think().await;
    let found = inventory.items.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    let Some(item) = found else { return StatusCode::NOT_FOUND.into_response() };
    let tag = format!("\"{id}-{}\"", item.version);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let fields =
        [(header::ETAG, tag), (header::CACHE_CONTROL, "max-age=3, stale-while-revalidate=3".to_owned())];
    if known {
        (StatusCode::NOT_MODIFIED, fields).into_response()
    } else {
        (fields, Json(item)).into_response()
    }
}

async fn write(
    State(inventory): State<Arc<Inventory>>,
    Path(id): Path<u32>,
    Json(item): Json<Item>,
) -> Response {
    inventory.writes.fetch_add(1, Ordering::Relaxed);
    think().await;
    let mut items = inventory.items.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(stored) = items.get_mut(&id) else { return StatusCode::NOT_FOUND.into_response() };
    *stored = Versioned { id, item, version: stored.version + 1 };
    Json(stored.clone()).into_response()
}

async fn think() {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(ANSWER_MILLIS))).await;
}
