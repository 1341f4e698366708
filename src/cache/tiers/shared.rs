//! The second tier: Redis, read within a budget, written off the request's path (I9).

use super::codec::{self, Value, VaryMarker};
use super::keys::{Naming, SharedKey};
use super::writer::Writer;
use crate::cache::purge::log::{Log, Stamp};
use crate::cache::rules::vary;
use crate::cache::{CacheKey, SharedSettings, StoredResponse};
use crate::clock::Clock;
use crate::redis::{Redis, Unavailable};
use crate::telemetry::metrics;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a lookup waits for Redis in all.
const READ_BUDGET: Duration = Duration::from_millis(20);

/// What the tier has for a request.
#[derive(Debug)]
pub(crate) enum SharedFound {
    /// A response; its fence is this gateway's.
    Response(Box<StoredResponse>),
    /// Nothing for the key.
    Nothing,
    /// Variants of the key, but none that the request selects.
    OtherVariants,
    /// It cannot be asked, or what it has cannot be judged.
    Unavailable,
}

/// The tier.
#[derive(Debug)]
pub(crate) struct Shared {
    parts: Arc<Parts>,
    writer: Writer,
    object_bytes: u64,
}

/// What reading and writing share.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) redis: Arc<Redis>,
    pub(super) log: Arc<Log>,
    pub(super) naming: Naming,
    pub(super) clock: Clock,
}

impl Shared {
    pub(crate) fn start(settings: &SharedSettings, redis: Arc<Redis>, log: Arc<Log>, clock: Clock) -> Self {
        let parts = Arc::new(Parts { redis, log, naming: Naming::new(settings), clock });
        let writer = Writer::start(&parts, settings.object_bytes);
        Self { parts, writer, object_bytes: settings.object_bytes }
    }

    /// The largest body that is kept.
    pub(crate) const fn object_bytes(&self) -> u64 {
        self.object_bytes
    }

    /// Finds what a request selects.
    pub(crate) async fn find(&self, key: &CacheKey, request: &HeaderMap) -> SharedFound {
        // Neither waits: what could not be judged is not read.
        if !self.parts.log.is_trusted() || !self.parts.redis.is_connected() {
            return SharedFound::Unavailable;
        }
        let start = Instant::now();
        let found = self.find_within(key, request, start).await;
        ::metrics::histogram!(metrics::TIER_SECONDS, "operation" => "read")
            .record(start.elapsed().as_secs_f64());
        found.unwrap_or(SharedFound::Unavailable)
    }

    async fn find_within(
        &self,
        key: &CacheKey,
        request: &HeaderMap,
        start: Instant,
    ) -> Result<SharedFound, Unavailable> {
        let marker = match self.parts.read(&self.parts.naming.primary(key), READ_BUDGET).await? {
            None => return Ok(SharedFound::Nothing),
            Some(Value::Response(stored, stamp)) if vary::matches(&stored.selecting_fields, request) => {
                return Ok(self.judged(stored, stamp));
            }
            Some(Value::Response(..)) => return Ok(SharedFound::OtherVariants),
            Some(Value::Variants(marker)) => marker,
        };
        let selecting = vary::selecting_fields(marker.names, request);
        let variant = self.parts.naming.variant(key, marker.generation, &selecting);
        let left = READ_BUDGET.saturating_sub(start.elapsed());
        match self.parts.read(&variant, left).await? {
            Some(Value::Response(mut stored, stamp)) => {
                // Not written with it; that they are these, its key says.
                stored.selecting_fields = selecting;
                Ok(self.judged(stored, stamp))
            }
            Some(Value::Variants(_)) | None => Ok(SharedFound::OtherVariants),
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

    fn judged(&self, mut stored: Box<StoredResponse>, stamp: Stamp) -> SharedFound {
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
    /// What stands under a key; what does not verify counts as nothing.
    pub(super) async fn read(&self, key: &SharedKey, budget: Duration) -> Result<Option<Value>, Unavailable> {
        let Some(bytes) = self.redis.get(&key.name, budget).await? else { return Ok(None) };
        match codec::decode(&key.text, &bytes) {
            Ok(value) => Ok(Some(value)),
            Err(cause) => {
                tracing::debug!(%cause, "what is in Redis does not verify");
                ::metrics::counter!(metrics::TIER_UNREADABLE).increment(1);
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
        Ok(self.read(key, budget).await?.and_then(|value| match value {
            Value::Variants(marker) => Some(marker),
            Value::Response(..) => None,
        }))
    }
}

#[cfg(test)]
impl Shared {
    /// The name of a key in Redis.
    pub(super) fn name(&self, key: &CacheKey) -> String {
        self.parts.naming.primary(key).name
    }

    /// Whether it has a response that can be judged.
    pub(super) async fn has(&self, key: &CacheKey) -> bool {
        matches!(self.find(key, &HeaderMap::new()).await, SharedFound::Response(_))
    }
}
