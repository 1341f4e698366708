//! What a hit is answered with at once. The look is apart from what follows from a use, because whoever looks may still
//! leave the request to the [`Cache::lookup`] that counts it.

use super::Cache;
use crate::cache::{CacheKey, Found, Lookup};
use crate::clock::Timestamp;
use http::HeaderMap;

/// A fresh response in memory, not used yet.
#[derive(Debug)]
pub struct Ready {
    found: Found,
}

impl Cache {
    /// What memory has that is fresh for a request of these fields.
    #[must_use]
    pub fn ready(&self, key: &CacheKey, request: &HeaderMap, now: Timestamp) -> Option<Ready> {
        let variants = self.memory.get_known(key)?;
        let Ok((_, Lookup::Fresh(found))) = self.chosen(key, &variants, request, now) else { return None };
        Some(Ready { found })
    }

    /// It is used: that is counted as a lookup is.
    #[must_use]
    pub fn take(&self, key: &CacheKey, ready: Ready, now: Timestamp) -> Found {
        let Ready { found } = ready;
        self.counters.memory.hit();
        self.used(key, &found.stored, now);
        found
    }
}

impl Ready {
    /// It.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }
}
