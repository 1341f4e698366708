//! How often each tier was asked, and what it had.

use super::Lookup;
use crate::cache::Tier;
use crate::telemetry::metrics;
use ::metrics::Counter;

/// Handles, because finding a counter by its name costs more than a hit.
pub(super) struct Counters {
    pub(super) memory: Outcomes,
    pub(super) shared: Outcomes,
    pub(super) shared_unavailable: Counter,
}

pub(super) struct Outcomes {
    hit: Counter,
    stale: Counter,
    miss: Counter,
}

impl Counters {
    pub(super) fn new() -> Self {
        let unavailable = [("tier", Tier::Shared.as_str()), ("result", "unavailable")];
        Self {
            memory: Outcomes::new(Tier::Memory),
            shared: Outcomes::new(Tier::Shared),
            shared_unavailable: ::metrics::counter!(metrics::TIER_LOOKUPS, &unavailable),
        }
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Outcomes {
    fn new(tier: Tier) -> Self {
        let counter = |result: &'static str| ::metrics::counter!(metrics::TIER_LOOKUPS, "tier" => tier.as_str(), "result" => result);
        Self { hit: counter("hit"), stale: counter("stale"), miss: counter("miss") }
    }

    pub(super) fn hit(&self) {
        self.hit.increment(1);
    }

    pub(super) fn count(&self, lookup: &Lookup) {
        match lookup {
            Lookup::Fresh(_) => self.hit(),
            Lookup::StaleUsable(_) | Lookup::MustValidate(..) => self.stale.increment(1),
            Lookup::Forward(_) => self.miss.increment(1),
        }
    }
}
