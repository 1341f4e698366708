//! Writes to the shared tier: off the request's path, in order per key, dropped rather than waited for.

use super::codec::VaryMarker;
use super::keys::SharedKey;
use super::lease::Lease;
use super::memory::body_bytes;
use super::packing::{PIECE_BYTES, Packed, Pieces, is_slow};
use super::shared::Parts;
use crate::cache::rules::reuse::retention;
use crate::cache::{CacheKey, StoredResponse};
use crate::redis::Unavailable;
use crate::telemetry::metrics;
use http::HeaderName;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Tasks that write; each has the keys of its own.
const WORKERS: usize = 4;
/// Writes that wait for each worker.
const QUEUE_MAX: usize = 256;
/// KiB of bodies that wait in all: 64 MiB.
const QUEUE_KIBIBYTES: usize = 64 * 1024;
/// What one command of a write may take.
const WRITE_BUDGET: Duration = Duration::from_millis(500);
/// A write that is not done by then, waiting included, is given up: what it brings is missed no more.
const LATE_AFTER: Duration = Duration::from_secs(5);
/// Pieces of a body that was replaced are kept so long for those who read them.
const REPLACED_KEPT: Duration = Duration::from_secs(1);
/// A marker is kept at least so long, because variants that outlive it are lost.
const MARKER_KEPT: Duration = Duration::from_hours(1);

#[derive(Debug)]
enum Action {
    Store(Arc<StoredResponse>),
    Remove(Arc<StoredResponse>),
    /// What was queued before it has been written.
    Release(Lease),
}

#[derive(Debug)]
struct Write {
    key: CacheKey,
    action: Action,
    since: Instant,
    _room: OwnedSemaphorePermit,
}

/// The queues and their workers. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Writer {
    queues: Vec<mpsc::Sender<Write>>,
    spread: RandomState,
    room: Arc<Semaphore>,
    object_bytes: u64,
    _workers: Vec<AbortOnDropHandle<()>>,
}

impl Writer {
    pub(super) fn start(parts: &Arc<Parts>, object_bytes: u64) -> Self {
        let (queues, workers) = (0..WORKERS)
            .map(|_| {
                let (queue, writes) = mpsc::channel(QUEUE_MAX);
                let worker = tokio::spawn(work(Arc::clone(parts), writes));
                (queue, AbortOnDropHandle::new(worker))
            })
            .unzip();
        Self {
            queues,
            spread: RandomState::new(),
            room: Arc::new(Semaphore::new(QUEUE_KIBIBYTES)),
            object_bytes,
            _workers: workers,
        }
    }

    pub(super) fn store(&self, key: &CacheKey, stored: &Arc<StoredResponse>) {
        // What it replaces is old, also where it is itself too large.
        let too_large = body_bytes(stored) > self.object_bytes;
        let stored = Arc::clone(stored);
        self.push(key, if too_large { Action::Remove(stored) } else { Action::Store(stored) });
    }

    pub(super) fn remove(&self, key: &CacheKey, stored: &Arc<StoredResponse>) {
        self.push(key, Action::Remove(Arc::clone(stored)));
    }

    /// Gives a lease back behind the writes of its key; at once where there is no room.
    pub(super) fn release(&self, key: &CacheKey, lease: Lease) {
        self.push(key, Action::Release(lease));
    }

    fn push(&self, key: &CacheKey, action: Action) {
        let body = match &action {
            Action::Store(stored) => stored.body.len(),
            Action::Remove(_) | Action::Release(_) => 0,
        };
        let kibibytes = u32::try_from(body / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(kibibytes) else {
            return dropped("bytes");
        };
        let index = self.spread.hash_one(key) % u64::try_from(WORKERS).unwrap_or(1);
        let queue = usize::try_from(index).ok().and_then(|index| self.queues.get(index));
        let write = Write { key: key.clone(), action, since: Instant::now(), _room: room };
        if queue.is_none_or(|queue| queue.try_send(write).is_err()) {
            dropped("queue");
        }
    }
}

fn dropped(reason: &'static str) {
    ::metrics::counter!(metrics::TIER_DROPPED, "reason" => reason).increment(1);
}

async fn work(parts: Arc<Parts>, mut writes: mpsc::Receiver<Write>) {
    while let Some(write) = writes.recv().await {
        let start = Instant::now();
        let writing = async {
            match write.action {
                Action::Store(stored) => store(&parts, &write.key, &stored).await,
                Action::Remove(stored) => remove(&parts, &write.key, &stored).await,
                Action::Release(lease) => {
                    drop(lease);
                    Ok(())
                }
            }
        };
        match tokio::time::timeout_at(write.since + LATE_AFTER, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => dropped(cause.as_str()),
            Err(_) => dropped("late"),
        }
        ::metrics::histogram!(metrics::TIER_SECONDS, "operation" => "write")
            .record(start.elapsed().as_secs_f64());
    }
}

async fn store(parts: &Parts, key: &CacheKey, stored: &StoredResponse) -> Result<(), Unavailable> {
    let kept_for = retention(stored).saturating_sub(parts.clock.now().since(stored.received_at));
    // Without a stamp nobody could judge it.
    let Some(stamp) = parts.log.stamp(stored.fence) else {
        dropped("unstamped");
        return Ok(());
    };
    let primary = parts.naming.primary(key);
    let place = if stored.selecting_fields.is_empty() {
        primary
    } else {
        let names: Vec<HeaderName> = stored.selecting_fields.iter().map(|(name, _)| name.clone()).collect();
        let before = parts.marker(&primary, WRITE_BUDGET).await?.filter(|before| before.names == names);
        let marker = before.unwrap_or_else(|| VaryMarker { names, generation: fastrand::u64(..) });
        if let Some(bytes) = parts.codec.encode_marker(&primary.text, &marker) {
            parts.redis.set(&primary.name, &bytes, kept_for.max(MARKER_KEPT), WRITE_BUDGET).await?;
        }
        parts.naming.variant(key, marker.generation, &stored.selecting_fields)
    };
    // What the client sent may be a credential; its reader has sent the same (I12).
    let selecting_fields = stored.selecting_fields.iter().map(|(name, _)| (name.clone(), None)).collect();
    let written = StoredResponse { selecting_fields, ..stored.clone() };
    let packed = packed(stored).await;
    let Some(bytes) = parts.codec.encode_response(&place.text, &written, stamp, &packed) else {
        dropped("too-large");
        return Ok(());
    };
    let Some(pieces) = packed.packing.pieces else {
        parts.redis.set(&place.name, &bytes, kept_for, WRITE_BUDGET).await?;
        stored_one();
        return Ok(());
    };
    // Before what leads to them.
    put_pieces(parts, key, &place, &packed, kept_for).await?;
    let before = match parts.redis.replace(&place.name, &bytes, kept_for, WRITE_BUDGET).await {
        // Something of another type stands there.
        Err(Unavailable::Refused) => {
            parts.redis.set(&place.name, &bytes, kept_for, WRITE_BUDGET).await?;
            None
        }
        before => before?,
    };
    stored_one();
    match before.and_then(|before| parts.pieces_of(&place, &before)) {
        Some(before) if before.digest != pieces.digest => let_go(parts, key, &place, before).await,
        Some(_) | None => Ok(()),
    }
}

fn stored_one() {
    ::metrics::counter!(metrics::STORED, "tier" => "shared").increment(1);
}

/// Has the pieces of a body that was replaced expire soon.
async fn let_go(parts: &Parts, key: &CacheKey, place: &SharedKey, pieces: Pieces) -> Result<(), Unavailable> {
    for index in 0..pieces.count {
        let piece = parts.naming.piece(key, place, &pieces.digest, index);
        parts.redis.expire(&piece.name, REPLACED_KEPT, WRITE_BUDGET).await?;
    }
    Ok(())
}

async fn packed(stored: &StoredResponse) -> Packed {
    let (body, fields) = (stored.body.clone(), stored.fields.clone());
    if !is_slow(body_bytes(stored)) {
        return Packed::new(&body, &fields);
    }
    let packing = tokio::task::spawn_blocking(move || Packed::new(&body, &fields));
    packing.await.unwrap_or_else(|_| Packed::plain(&stored.body))
}

async fn put_pieces(
    parts: &Parts,
    key: &CacheKey,
    place: &SharedKey,
    packed: &Packed,
    kept_for: Duration,
) -> Result<(), Unavailable> {
    let Some(pieces) = packed.packing.pieces else { return Ok(()) };
    for (index, piece) in (0..pieces.count).zip(packed.bytes.chunks(PIECE_BYTES)) {
        let place = parts.naming.piece(key, place, &pieces.digest, index);
        if let Some(bytes) = parts.codec.encode_piece(&place.text, piece) {
            parts.redis.set(&place.name, &bytes, kept_for, WRITE_BUDGET).await?;
        }
    }
    Ok(())
}

async fn remove(parts: &Parts, key: &CacheKey, stored: &StoredResponse) -> Result<(), Unavailable> {
    let primary = parts.naming.primary(key);
    let place = match parts.marker(&primary, WRITE_BUDGET).await? {
        Some(marker) => parts.naming.variant(key, marker.generation, &stored.selecting_fields),
        None if stored.selecting_fields.is_empty() => primary,
        // What stands there now varies on nothing: it is another response.
        None => return Ok(()),
    };
    let before = parts.redis.remove(&place.name, WRITE_BUDGET).await?;
    match before.and_then(|before| parts.pieces_of(&place, &before)) {
        Some(pieces) => let_go(parts, key, &place, pieces).await,
        None => Ok(()),
    }
}
