//! Looking without leaving a trace: for people who ask why. Nothing is counted, moved up in the order of use,
//! or carried from one tier to another. What is seen is judged by the rules that lookups use.

use super::{Cache, better};
use crate::cache::purge::Cause;
use crate::cache::rules::ForwardReason;
use crate::cache::rules::vary;
use crate::cache::tiers::memory::Variants;
use crate::cache::{CacheKey, Found, Lookup, Standing, StoredResponse, Tier};
use crate::clock::Timestamp;
use crate::redis::Patience;
use http::HeaderMap;
use std::sync::Arc;

/// What a lookup would answer, and all that it chooses from.
#[derive(Clone, Debug)]
pub struct Sight {
    /// What the next lookup answers.
    pub lookup: Lookup,
    /// What is held for the key, in the order in which requests choose; of the shared tier only what the
    /// request selects.
    pub held: Vec<Sighted>,
}

/// One of the stored responses of a key.
#[derive(Clone, Debug)]
pub struct Sighted {
    /// As it was stored.
    pub stored: Arc<StoredResponse>,
    /// Where it is.
    pub tier: Tier,
    /// Whether its fields are those of the request.
    pub selected: bool,
    /// What purges have made of it.
    pub standing: Standing,
    /// Which of them.
    pub purged_by: Vec<(Cause, Standing)>,
}

impl Cache {
    /// What a lookup of `key` would answer a request, as [`Cache::lookup`] does.
    pub async fn sight(self: &Arc<Self>, key: &CacheKey, request: &HeaderMap, now: Timestamp) -> Sight {
        let variants = self.memory.get_unseen(key).await;
        let near = self.seen_in_memory(key, variants.as_ref(), request, now);
        let mut held: Vec<Sighted> = Vec::new();
        for stored in variants.iter().flat_map(Variants::iter) {
            held.push(self.sighted(key, stored, Tier::Memory, request, now));
        }
        let Some(shared) = &self.shared else { return Sight { lookup: near, held } };
        if matches!(near, Lookup::Fresh(_) | Lookup::StaleUsable(_)) {
            return Sight { lookup: near, held };
        }
        let found = shared.tier.find_unseen(key, request, &Patience::of_request()).await;
        let Some((far, stored)) = self.of_shared(key, found, now) else {
            return Sight { lookup: near, held };
        };
        held.extend(stored.map(|stored| self.sighted(key, &stored, Tier::Shared, request, now)));
        Sight { lookup: better(near, far), held }
    }

    /// The fresh part of what `key` finds, as [`Cache::lookup_part`] does.
    pub async fn sight_of_part(
        self: &Arc<Self>,
        key: &CacheKey,
        request: &HeaderMap,
        now: Timestamp,
    ) -> Option<Found> {
        let key = key.of_parts();
        let variants = self.memory.get_unseen(&key).await;
        match self.seen_in_memory(&key, variants.as_ref(), request, now) {
            Lookup::Fresh(found) => Some(found),
            Lookup::StaleUsable(_) | Lookup::MustValidate(..) | Lookup::Forward(_) => None,
        }
    }

    fn seen_in_memory(
        &self,
        key: &CacheKey,
        variants: Option<&Variants>,
        request: &HeaderMap,
        now: Timestamp,
    ) -> Lookup {
        let Some(variants) = variants else { return Lookup::Forward(ForwardReason::UriMiss) };
        self.chosen(key, variants, request, now).map_or_else(Lookup::Forward, |(_, lookup)| lookup)
    }

    fn sighted(
        &self,
        key: &CacheKey,
        stored: &Arc<StoredResponse>,
        tier: Tier,
        request: &HeaderMap,
        now: Timestamp,
    ) -> Sighted {
        Sighted {
            stored: Arc::clone(stored),
            tier,
            selected: vary::matches(&stored.selecting_fields, request),
            standing: self.standing_of(key, stored, now),
            purged_by: self.purged.causes(key, &stored.tags, stored.fence),
        }
    }
}
