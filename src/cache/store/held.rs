//! What is not stored: what a purge has made old meanwhile, and what a change in doubt may make old (I5).

use super::Cache;
use crate::cache::purge::holds::Held;
use crate::cache::{CacheKey, Purge, Standing, StoredResponse};

impl Cache {
    /// Nothing that is named is stored until what is returned is dropped.
    #[must_use]
    pub fn hold(&self, names: Vec<Purge>) -> Held {
        self.holds.hold(names)
    }

    /// Whether what would be stored now is held.
    #[must_use]
    pub fn is_held(&self, key: &CacheKey, tags: &[String]) -> bool {
        self.holds.covers(key, tags)
    }

    pub(super) fn may_store(&self, key: &CacheKey, stored: &StoredResponse) -> bool {
        self.purged.judge(key, &stored.tags, stored.fence) == Standing::Valid
            && !self.is_held(key, &stored.tags)
    }
}
