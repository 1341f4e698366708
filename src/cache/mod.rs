//! Stored responses (RFC 9111): lookup, store, freshen, invalidate.
//!
//! `store` has the [`Cache`] itself: the order in which the tiers are asked, and what purges have made
//! of what they have.

pub mod collapse;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod growing;
pub mod policy;
pub mod purge;
pub mod rules;
mod store;
pub mod stored;
mod tiers;
pub mod version;

pub use policy::Policy;
pub use purge::log::PurgeStatus;
pub use purge::{Applied, Cause, Fence, Purge, PurgeMode, PurgeScope, Standing};
pub use rules::key::CacheKey;
pub use store::{Begun, Brought, Cache, FillTurn, Marked, Ready, Sight, Sighted};
pub use stored::StoredResponse;
pub use version::{Floor, Token};

use crate::secret::{KeyedHash, Secret};
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
    pub redis: crate::redis::Server,
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
    /// How long one replica may be the only one to forward for a key; zero: each forwards for itself.
    pub lease: Duration,
    /// The folder in which purges wait that Redis does not have yet; `None`: in memory only.
    pub data: Option<std::path::PathBuf>,
}

impl Settings {
    /// What stands for clients in keys: the same for all gateways that share a tier.
    #[must_use]
    pub fn keyed_hash(&self) -> KeyedHash {
        self.shared.as_ref().map_or_else(KeyedHash::drawn, SharedSettings::keyed_hash)
    }
}

impl Settings {
    /// By which names of purges are hashed: all gateways that share a tier come to the same.
    pub(crate) fn names_seed(&self) -> u64 {
        let shared = self.shared.as_ref();
        let hash =
            self.keyed_hash().digest("names of purges", shared.map(|shared| shared.namespace.as_bytes()));
        hash.first_chunk().map_or(0, |seed| u64::from_be_bytes(*seed))
    }
}

impl SharedSettings {
    pub(crate) fn keyed_hash(&self) -> KeyedHash {
        KeyedHash::of_namespace(&self.namespace, self.secret.as_ref())
    }
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
