//! The second tier: Redis, read within a budget, written off the request's path (I9).

use super::codec::{Codec, DecodeError, PackedResponse, Value, VaryMarker};
use super::keys::{Naming, SharedKey};
use super::packing::{Pieces, is_slow};
use super::reads::Reads;
use super::writer::Writer;
use crate::cache::purge::log::{Log, Stamp};
use crate::cache::rules::reuse::retention;
use crate::cache::rules::vary;
use crate::cache::{CacheKey, SharedSettings, StoredResponse};
use crate::clock::Clock;
use crate::redis::{Lane, Patience, Redis, Unavailable};
use crate::telemetry::metrics;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a lookup waits for Redis in all, unless it has found a large body.
const READ_BUDGET: Duration = Duration::from_millis(20);
/// What it waits then.
const LARGE_BUDGET: Duration = Duration::from_millis(60);
/// Pieces of a body that are asked for at once.
const PIECES_AT_ONCE: usize = 16;

/// What the tier has for a request.
#[derive(Debug)]
pub(crate) enum SharedFound {
    /// A response; its fence is this gateway's.
    Response(Box<StoredResponse>),
    /// Nothing for the key.
    Nothing,
    /// Variants of the key, but none that the request selects.
    OtherVariants,
    /// It cannot be asked now.
    Unasked,
    /// It does not answer, or what it has cannot be judged.
    Unavailable,
}

/// The tier.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) parts: Arc<Parts>,
    pub(super) writer: Writer,
    object_bytes: u64,
}

/// What reading and writing share.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) redis: Arc<Redis>,
    pub(super) log: Arc<Log>,
    pub(super) naming: Naming,
    pub(super) codec: Codec,
    pub(super) clock: Clock,
    /// How long one replica has a key to itself; zero: never.
    pub(super) lease: Duration,
    object_bytes: u64,
    reads: Reads<Result<Read, Unavailable>>,
}

/// Until when a lookup waits: for what is small, and in all.
#[derive(Clone, Copy, Debug)]
struct Within {
    small: Instant,
    large: Instant,
}

impl Within {
    fn of(patience: &Patience) -> Self {
        let now = Instant::now();
        Self { small: now + patience.left(READ_BUDGET), large: now + patience.left(LARGE_BUDGET) }
    }
}

/// What was found under a key.
#[derive(Clone, Debug)]
enum Read {
    Nothing,
    Response(Box<StoredResponse>, Stamp),
    Variants(VaryMarker),
}

impl Shared {
    pub(crate) fn start(settings: &SharedSettings, redis: Arc<Redis>, log: Arc<Log>, clock: Clock) -> Self {
        let parts = Arc::new(Parts {
            redis,
            log,
            naming: Naming::new(settings),
            codec: Codec::new(settings),
            clock,
            lease: settings.lease,
            object_bytes: settings.object_bytes,
            reads: Reads::new(),
        });
        let writer = Writer::start(&parts, settings.object_bytes);
        Self { parts, writer, object_bytes: settings.object_bytes }
    }

    /// The largest body that is kept.
    pub(crate) const fn object_bytes(&self) -> u64 {
        self.object_bytes
    }

    /// Finds what a request selects.
    pub(crate) async fn find(&self, key: &CacheKey, request: &HeaderMap, patience: &Patience) -> SharedFound {
        let start = Instant::now();
        let found = self.find_unseen(key, request, patience).await;
        if !matches!(found, SharedFound::Unasked) {
            ::metrics::histogram!(metrics::TIER_SECONDS, "operation" => "read")
                .record(start.elapsed().as_secs_f64());
        }
        found
    }

    /// As [`Shared::find`], unmeasured.
    pub(crate) async fn find_unseen(
        &self,
        key: &CacheKey,
        request: &HeaderMap,
        patience: &Patience,
    ) -> SharedFound {
        // Neither waits: what could not be judged is not read.
        if patience.is_over() || !self.parts.log.is_trusted() || !self.parts.redis.is_connected() {
            return SharedFound::Unasked;
        }
        let within = Within::of(patience);
        let found = patience.spent_on(self.find_within(key, request, within)).await;
        found.unwrap_or(SharedFound::Unavailable)
    }

    async fn find_within(
        &self,
        key: &CacheKey,
        request: &HeaderMap,
        within: Within,
    ) -> Result<SharedFound, Unavailable> {
        let marker = match self.parts.read(key, &self.parts.naming.primary(key), within).await? {
            Read::Nothing => return Ok(SharedFound::Nothing),
            Read::Response(stored, stamp) if vary::matches(&stored.selecting_fields, request) => {
                return Ok(self.judged(stored, stamp));
            }
            Read::Response(..) => return Ok(SharedFound::OtherVariants),
            Read::Variants(marker) => marker,
        };
        let selecting = vary::selecting_fields(marker.names, request);
        let variant = self.parts.naming.variant(key, marker.generation, &selecting);
        match self.parts.read(key, &variant, within).await? {
            Read::Response(mut stored, stamp) => {
                // Not written with it; that they are these, its key says.
                stored.selecting_fields = selecting.into();
                Ok(self.judged(stored, stamp))
            }
            Read::Variants(_) | Read::Nothing => Ok(SharedFound::OtherVariants),
        }
    }

    /// Puts a response in its place in Redis, later, or takes that place away if it is too large.
    pub(crate) fn store(&self, key: &CacheKey, stored: &Arc<StoredResponse>) {
        self.writer.store(key, stored);
    }

    /// Takes a response away, later.
    pub(crate) fn remove(&self, key: &CacheKey, stored: &Arc<StoredResponse>) {
        self.writer.remove(key, stored);
    }

    pub(super) fn judged(&self, mut stored: Box<StoredResponse>, stamp: Stamp) -> SharedFound {
        match self.parts.log.fence_of(stamp) {
            Some(fence) => {
                stored.fence = fence;
                SharedFound::Response(stored)
            }
            None => SharedFound::Unavailable,
        }
    }
}

impl Parts {
    /// What stands at a place; once for all who ask for it at one time. What does not verify counts as
    /// nothing.
    async fn read(&self, key: &CacheKey, place: &SharedKey, within: Within) -> Result<Read, Unavailable> {
        let read = self.reads.once(&place.name, Box::pin(self.read_alone(key, place, within)));
        // Also who waits for another's read has begun at some time.
        let read = tokio::time::timeout_at(within.large, read).await;
        read.map_err(|_| Unavailable::TimedOut)?.unwrap_or(Err(Unavailable::Lost))
    }

    async fn read_alone(
        &self,
        key: &CacheKey,
        place: &SharedKey,
        within: Within,
    ) -> Result<Read, Unavailable> {
        let budget = within.small.saturating_duration_since(Instant::now());
        let mut packed = match self.value(Lane::Quick, place, budget).await? {
            Some(Value::Response(packed)) => packed,
            Some(Value::Variants(marker)) => return Ok(Read::Variants(marker)),
            Some(Value::Piece(_)) | None => return Ok(Read::Nothing),
        };
        if let Some(pieces) = packed.packing.pieces {
            let left = within.large.saturating_duration_since(Instant::now());
            match self.pieces(key, place, pieces, left).await? {
                Some(bytes) => packed.bytes = bytes,
                None => return Ok(Read::Nothing),
            }
        }
        let stamp = packed.stamp;
        match self.open(packed).await {
            Ok(stored) if self.is_over(&stored) => Ok(not_used("expired")),
            Ok(stored) => Ok(Read::Response(Box::new(stored), stamp)),
            Err(cause) => Ok(not_used(cause.as_str())),
        }
    }

    /// A body that is in pieces, packed; `None`: not all of them are there.
    pub(super) async fn pieces(
        &self,
        key: &CacheKey,
        place: &SharedKey,
        pieces: Pieces,
        budget: Duration,
    ) -> Result<Option<Bytes>, Unavailable> {
        if pieces.bytes_min() > self.object_bytes {
            not_used(DecodeError::Body.as_str());
            return Ok(None);
        }
        let piece = |index| async move {
            let place = self.naming.piece(key, place, &pieces.digest, index);
            self.value(Lane::Large, &place, budget).await
        };
        let all = stream::iter((0..pieces.count).map(piece)).buffered(PIECES_AT_ONCE);
        let all: Vec<Option<Value>> = match tokio::time::timeout(budget, all.try_collect()).await {
            Ok(all) => all?,
            Err(_) => return Err(Unavailable::TimedOut),
        };
        let bodies = all.into_iter().map(|value| match value {
            Some(Value::Piece(bytes)) => Some(bytes),
            Some(_) | None => None,
        });
        let bodies: Option<Vec<Bytes>> = bodies.collect();
        Ok(bodies.map(|bodies| bodies.concat().into()))
    }

    /// The pieces that a value leads to.
    pub(super) fn pieces_of(&self, place: &SharedKey, value: &Bytes) -> Option<Pieces> {
        match self.codec.decode(&place.text, value).ok()? {
            Value::Response(packed) => packed.packing.pieces,
            Value::Variants(_) | Value::Piece(_) => None,
        }
        .filter(|pieces| pieces.bytes_min() <= self.object_bytes)
    }

    pub(super) async fn open(&self, packed: Box<PackedResponse>) -> Result<StoredResponse, DecodeError> {
        let most = self.object_bytes;
        if !is_slow(packed.packing.length) {
            return packed.open(most);
        }
        let opening = tokio::task::spawn_blocking(move || packed.open(most));
        opening.await.unwrap_or(Err(DecodeError::Body))
    }

    /// Whether it is older than it is ever kept: somebody has put it back.
    pub(super) fn is_over(&self, stored: &StoredResponse) -> bool {
        self.clock.now().since(stored.received_at) > retention(stored)
    }

    /// What stands under a key, as it is.
    async fn value(
        &self,
        lane: Lane,
        key: &SharedKey,
        budget: Duration,
    ) -> Result<Option<Value>, Unavailable> {
        let Some(bytes) = self.redis.get(lane, &key.name, budget).await? else { return Ok(None) };
        match self.codec.decode(&key.text, &bytes) {
            Ok(value) => Ok(Some(value)),
            Err(cause) => {
                tracing::debug!(%cause, "what is in Redis does not verify");
                not_used(cause.as_str());
                Ok(None)
            }
        }
    }

    /// The marker of a key, as it stands in Redis.
    pub(super) async fn marker(
        &self,
        key: &SharedKey,
        budget: Duration,
    ) -> Result<Option<VaryMarker>, Unavailable> {
        Ok(self.value(Lane::Quick, key, budget).await?.and_then(|value| match value {
            Value::Variants(marker) => Some(marker),
            Value::Response(..) | Value::Piece(_) => None,
        }))
    }
}

fn not_used(reason: &'static str) -> Read {
    ::metrics::counter!(metrics::TIER_UNREADABLE, "reason" => reason).increment(1);
    Read::Nothing
}

#[cfg(test)]
impl Shared {
    /// The name of a key in Redis.
    pub(super) fn name(&self, key: &CacheKey) -> String {
        self.parts.naming.primary(key).name
    }

    /// Whether it has a response that can be judged.
    pub(super) async fn has(&self, key: &CacheKey) -> bool {
        matches!(self.find(key, &HeaderMap::new(), &Patience::of_request()).await, SharedFound::Response(_))
    }
}
