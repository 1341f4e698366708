//! Stored responses (RFC 9111): lookup, store, freshen, invalidate.

pub mod collapse;
pub mod growing;
pub mod policy;
pub mod purge;
pub mod rules;
pub mod stored;
pub mod tiers;

pub use policy::Policy;
pub use purge::{Applied, Fence, Purge, PurgeMode, PurgeScope};
pub use rules::key::CacheKey;
pub use stored::StoredResponse;

use crate::clock::Timestamp;
use crate::secret::{Endpoint, Secret};
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;

/// What the cache is built from (`[cache]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of stored responses kept in memory.
    pub memory_bytes: u64,
    /// The largest response kept in memory, in bytes.
    pub memory_object_bytes: u64,
    /// The second tier; `None`: memory only.
    pub shared: Option<SharedSettings>,
}

/// What the shared tier is built from (`[cache.shared]`).
#[derive(Clone, Debug)]
pub struct SharedSettings {
    /// Where Redis is.
    pub redis: Endpoint,
    /// Every key in Redis begins with it and `:`.
    pub namespace: String,
    /// The largest response kept in Redis, in bytes.
    pub object_bytes: u64,
    /// Authenticates stored bytes; `None`: a checksum only.
    pub secret: Option<Secret>,
    /// Whether keys in Redis carry no readable path.
    pub hash_keys: bool,
    /// How long memory is served when cut off from the purge log.
    pub max_unverified: Duration,
}

/// The tier that a stored response was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// This process.
    Memory,
    /// Redis.
    Shared,
}

impl Tier {
    /// The word for fields, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Shared => "shared",
        }
    }
}

/// A stored response that matches the request, and where it was.
#[derive(Clone, Debug)]
pub struct Found {
    /// The stored response.
    pub stored: Arc<StoredResponse>,
    /// Where it was found.
    pub tier: Tier,
}

/// What a lookup can answer. It never fails: a lost tier is a counted miss (I9).
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Answer with it.
    Fresh(Found),
    /// Answer with it and validate in the background (RFC 5861 3).
    StaleUsable(Found),
    /// Ask the source with its validators before it is used.
    MustValidate(Found, rules::ForwardReason),
    /// Nothing usable is stored.
    Forward(rules::ForwardReason),
}

/// The stored responses of this gateway.
#[derive(Debug)]
pub struct Cache {}

impl Cache {
    /// Finds what may answer a request for `key` whose fields are `request`, at `now`.
    pub async fn lookup(&self, key: &CacheKey, request: &HeaderMap, now: Timestamp) -> Lookup {
        let _ = (key, request, now);
        unimplemented!()
    }

    /// The fence to remember before a forward begins (I5).
    #[must_use]
    pub fn fence(&self) -> Fence {
        unimplemented!()
    }

    /// Stores a response, unless something that it falls under was purged after `stored.fence`.
    /// Memory at once, the shared tier off the caller's path.
    pub fn store(&self, key: &CacheKey, stored: StoredResponse) -> Arc<StoredResponse> {
        let _ = (key, stored);
        unimplemented!()
    }

    /// Forgets what the purges name: here at once, in the shared tier within its budget (75 ms).
    pub async fn purge(&self, purges: Vec<Purge>, mode: PurgeMode) -> Applied {
        let _ = (purges, mode);
        unimplemented!()
    }

    /// Sets the gauges of what is kept; called when scraped.
    pub fn observe(&self) {
        unimplemented!()
    }

    /// Whether nothing was purged since `fence` that `key` falls under, or might.
    #[must_use]
    pub fn holds(&self, key: &CacheKey, fence: Fence) -> bool {
        let _ = (key, fence);
        unimplemented!()
    }

    /// The stored response that a request selects, usable or not.
    pub async fn peek(&self, key: &CacheKey, request: &HeaderMap) -> Option<Arc<StoredResponse>> {
        let _ = (key, request);
        unimplemented!()
    }

    /// Removes one stored response from every tier.
    pub fn forget(&self, key: &CacheKey, stored: &StoredResponse) {
        let _ = (key, stored);
        unimplemented!()
    }

    /// The largest body that any tier keeps, in bytes.
    #[must_use]
    pub fn object_bytes_max(&self) -> u64 {
        unimplemented!()
    }

    pub fn start(_s: Settings, _c: crate::clock::Clock) -> Result<Arc<Self>, crate::redis::OpenError> { unimplemented!() }
    pub fn shared_state(self: &Arc<Self>) -> Option<Box<dyn Fn() -> crate::breaker::State + Send + Sync>> { None }
}
