//! Purging: the number first, then the memory that what was purged takes.

use super::Cache;
use crate::cache::{Applied, CacheKey, Purge, PurgeMode, PurgeScope, PurgeStatus, Standing, StoredResponse};
use crate::redis::Patience;
use crate::target::{Authority, Scheme, Target};
use crate::telemetry::metrics;
use std::sync::Arc;

impl Cache {
    /// Forgets what the purges name: here at once, in the shared tier within a budget of its own (75 ms).
    pub async fn purge(&self, purges: Vec<Purge>, mode: PurgeMode) -> Applied {
        self.purge_within(purges, mode, &Patience::of_request()).await
    }

    /// The same for a request, which may have waited for Redis already.
    pub async fn purge_within(&self, purges: Vec<Purge>, mode: PurgeMode, patience: &Patience) -> Applied {
        for purge in &purges {
            let labels = [("kind", purge.kind()), ("mode", mode.as_str())];
            ::metrics::counter!(metrics::PURGES, &labels).increment(1);
        }
        let now = self.clock.now();
        let known = if mode == PurgeMode::Hard { known_keys(&purges) } else { Vec::new() };
        let (number, scope) = match &self.shared {
            Some(shared) => shared.log.purge(purges, mode, now, patience).await,
            None => (self.purged.apply(&purges, mode, now), PurgeScope::Local),
        };
        // Only for the memory they take: from the number on they are gone for every lookup.
        for key in known {
            self.forget_purged(&key);
            self.forget_parts(&key);
        }
        Applied { seq: number.0, scope }
    }

    /// Which replicas have applied a purge of this gateway; `None`: it has no purge of that number, or
    /// has forgotten it. It takes at most 75 ms.
    pub async fn purge_status(&self, seq: u64) -> Option<PurgeStatus> {
        if let Some(shared) = &self.shared {
            return shared.log.status(seq).await;
        }
        let is_known = (1..=self.purged.fence().0).contains(&seq);
        let applied = vec![format!("{:016x}", self.run)];
        is_known.then_some(PurgeStatus { seq, scope: PurgeScope::Local, applied, pending: Vec::new() })
    }

    fn forget_purged(&self, key: &CacheKey) {
        let Some(variants) = self.memory.get(key) else { return };
        // What was stored after the purge stays.
        let gone = |stored: &&Arc<StoredResponse>| {
            self.purged.judge(key, &stored.tags, stored.fence) == Standing::Gone
        };
        if variants.iter().all(|stored| gone(&stored)) {
            self.memory.remove(key);
        }
    }
}

/// The keys that purges name exactly; those split by identity are left to lookups and to capacity.
fn known_keys(purges: &[Purge]) -> Vec<CacheKey> {
    let key = |scheme, authority: &str, origin_form: &str| {
        let authority = Authority::parse(authority, scheme).ok()?;
        Some(CacheKey::new(&Target::new(scheme, authority, origin_form).ok()?, None))
    };
    let keys = purges.iter().filter_map(|purge| match purge {
        Purge::Url { authority, path_and_query } => Some((authority, path_and_query)),
        Purge::Path { authority, path } => Some((authority, path)),
        Purge::Prefix { .. } | Purge::Tag(_) | Purge::All | Purge::Group { .. } => None,
    });
    keys.flat_map(|(authority, path)| {
        [Scheme::Http, Scheme::Https].into_iter().filter_map(move |scheme| key(scheme, authority, path))
    })
    .collect()
}
