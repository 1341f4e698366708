//! The [`Cache`]: memory first, then the shared tier within its budget.
//!
//! Whatever a tier has is judged against the purges since its fence at each lookup (I5); so a store
//! or a promotion that loses a race against a purge is harmless.

mod again;
mod bodies;
mod counters;
mod held;
mod hot;
mod markers;
mod parts;
mod purges;
mod ready;
mod sight;
mod turns;
mod versions;

pub use markers::Marked;
pub use ready::Ready;
pub use sight::{Sight, Sighted};
pub use turns::{Begun, Brought, FillTurn};

use super::purge::holds::Holds;
use super::purge::log::Log;
use super::purge::tables::Tables;
use super::rules::ForwardReason;
use super::rules::reuse::{Verdict, assess};
use super::rules::vary;
use super::stored::{NameLists, Reuse, Touched};
use super::tiers::large::LargeBodies;
use super::tiers::memory::{Memory, Variants};
use super::tiers::shared::{Shared, SharedFound};
use super::version::Signing;
use super::{CacheKey, Fence, Found, Lookup, Settings, Standing, StoredResponse, Tier};
use crate::clock::{Clock, Timestamp};
use crate::in_flight::InFlight;
use crate::redis::{Patience, Redis};
use crate::telemetry::metrics;
use again::Again;
use counters::Counters;
use hot::Hot;
use http::HeaderMap;
use markers::Markers;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The stored responses of this gateway.
#[derive(Debug)]
pub struct Cache {
    memory: Memory,
    large: Arc<LargeBodies>,
    purged: Arc<Tables>,
    shared: Option<SharedTier>,
    clock: Clock,
    counters: Counters,
    /// Whether a part was ever stored: until then nobody looks for one.
    has_parts: AtomicBool,
    /// The keys whose answers may not be stored.
    markers: Markers,
    /// What is not stored while a change in doubt may make it old.
    holds: Arc<Holds>,
    /// Which keys are asked for most, for other gateways.
    hot: Hot,
    /// Names this run of this gateway in version tokens.
    run: u64,
    signing: Signing,
    /// The names of fields that stored responses have in common.
    names: NameLists,
}

#[derive(Debug)]
struct SharedTier {
    tier: Shared,
    log: Arc<Log>,
    redis: Arc<Redis>,
    again: Again,
}

impl Cache {
    /// An empty cache. With a shared tier it needs a running Tokio, but no running Redis; `redis` is
    /// the handle to `settings.shared`'s Redis, and left out where there is none.
    #[must_use]
    pub fn new(
        settings: &Settings,
        clock: Clock,
        redis: Option<Arc<Redis>>,
        in_flight: &Arc<InFlight>,
    ) -> Arc<Self> {
        let large = LargeBodies::new(Arc::clone(in_flight));
        let purged = Arc::new(Tables::new(settings.names_seed()));
        let (again, wanted) = Again::new();
        let shared = settings.shared.as_ref().zip(redis).map(|(settings, redis)| {
            let log = Log::start(settings, Arc::clone(&redis), Arc::clone(&purged), clock.clone());
            let log = Arc::new(log);
            let tier = Shared::start(settings, Arc::clone(&redis), Arc::clone(&log), clock.clone());
            SharedTier { tier, log, redis, again }
        });
        let run = shared.as_ref().map_or_else(|| fastrand::u64(..), |shared| shared.log.gateway());
        let secret = settings.shared.as_ref().and_then(|shared| shared.secret.clone());
        let cache = Arc::new(Self {
            memory: Memory::new(settings.memory_bytes, settings.memory_object_bytes, Arc::clone(&large)),
            large,
            purged,
            shared,
            clock,
            counters: Counters::new(),
            has_parts: AtomicBool::new(false),
            markers: Markers::new(),
            holds: Arc::default(),
            hot: Hot::default(),
            run,
            signing: Signing::new(secret),
            names: NameLists::default(),
        });
        if cache.shared.is_some() {
            tokio::spawn(hot::tell(Arc::downgrade(&cache)));
            tokio::spawn(again::look(Arc::downgrade(&cache), wanted));
        }
        cache
    }

    /// Takes what of other settings can be in force without a restart: the largest body kept in memory.
    pub fn reload(&self, settings: &Settings) {
        self.memory.set_object_bytes(settings.memory_object_bytes);
    }

    /// The largest body that any tier takes; a fill collects no more.
    #[must_use]
    pub fn object_bytes_max(&self) -> u64 {
        let shared = self.shared.as_ref().map_or(0, |shared| shared.tier.object_bytes());
        self.memory.object_bytes().max(shared)
    }

    /// Finds what may answer a request for `key` whose fields are `request`, at `now`; in memory only where
    /// it has waited for Redis as long as it may.
    pub async fn lookup(
        &self,
        key: &CacheKey,
        request: &HeaderMap,
        now: Timestamp,
        patience: &Patience,
    ) -> Lookup {
        let near = self.look_in_memory(key, request, now);
        self.counters.memory.count(&near);
        let Some(shared) = &self.shared else { return near };
        if matches!(near, Lookup::Fresh(_) | Lookup::StaleUsable(_)) {
            return near;
        }
        // Boxed: a hit in memory moves none of it.
        let found = Box::pin(shared.tier.find(key, request, patience)).await;
        let Some(far) = self.promoted(key, found, now) else { return near };
        self.counters.shared.count(&far);
        better(near, far)
    }

    /// As a lookup, but in memory only: waits for nothing and counts nothing.
    #[must_use]
    pub fn lookup_memory(&self, key: &CacheKey, request: &HeaderMap, now: Timestamp) -> Lookup {
        self.look_in_memory(key, request, now)
    }

    /// Whether a tier has what is fresh for a request and came later than a stored response: memory is
    /// asked, then the shared tier, from which it goes into memory.
    pub async fn has_newer(&self, key: &CacheKey, request: &HeaderMap, than: &StoredResponse) -> bool {
        let now = self.clock.now();
        let is_newer = |lookup: &Lookup| matches!(lookup, Lookup::Fresh(found) if found.stored.received_at > than.received_at);
        if is_newer(&self.look_in_memory(key, request, now)) {
            return true;
        }
        let Some(shared) = &self.shared else { return false };
        let found = shared.tier.find(key, request, &Patience::of_request()).await;
        if matches!(&found, SharedFound::Response(stored) if stored.received_at <= than.received_at) {
            return false;
        }
        self.promoted(key, found, now).is_some_and(|far| is_newer(&far))
    }

    /// What the shared tier's answer is good for; memory keeps it too. `None`: it has no answer.
    fn promoted(&self, key: &CacheKey, found: SharedFound, now: Timestamp) -> Option<Lookup> {
        let found = self.taken_in(found);
        let had_one = matches!(found, SharedFound::Response(_));
        let Some((far, stored)) = self.of_shared(key, found, now) else {
            self.counters.shared_unavailable.increment(1);
            return None;
        };
        match stored {
            Some(stored) => self.memory.insert(key, &stored, now),
            None if had_one => {
                ::metrics::counter!(metrics::TIER_UNREADABLE, "reason" => "purged").increment(1);
            }
            None => {}
        }
        Some(far)
    }

    /// What memory has of a key, whatever selects it, in the order in which requests choose; as purges
    /// have left it.
    #[must_use]
    pub fn variants(&self, key: &CacheKey) -> Vec<Arc<StoredResponse>> {
        let Some(variants) = self.memory.get(key) else { return Vec::new() };
        let standing = |stored: &Arc<StoredResponse>| {
            as_it_stands(stored, self.purged.judge(key, &stored.tags, stored.fence))
        };
        variants.iter().filter_map(standing).collect()
    }

    /// What memory has for a request.
    fn look_in_memory(&self, key: &CacheKey, request: &HeaderMap, now: Timestamp) -> Lookup {
        let Some(variants) = self.memory.get(key) else { return Lookup::Forward(ForwardReason::UriMiss) };
        match self.chosen(key, &variants, request, now) {
            Ok((stored, lookup)) => {
                self.used(key, stored, now);
                lookup
            }
            Err(reason) => Lookup::Forward(reason),
        }
    }

    /// Notes that a request gets what memory has.
    fn used(&self, key: &CacheKey, stored: &Arc<StoredResponse>, now: Timestamp) {
        if stored.uses.note(now) == Touched::LookAgain {
            self.look_again(key, stored);
        }
        self.hot.note(key);
    }

    /// Which of the variants that memory has a request gets.
    ///
    /// # Errors
    /// Why it gets none.
    fn chosen<'a>(
        &self,
        key: &CacheKey,
        variants: &'a Variants,
        request: &HeaderMap,
        now: Timestamp,
    ) -> Result<(&'a Arc<StoredResponse>, Lookup), ForwardReason> {
        let mut selected = variants.iter().filter(|stored| vary::matches(&stored.selecting_fields, request));
        let answer = |stored| Some((stored, self.answer(key, stored, Tier::Memory, now)?));
        selected.find_map(answer).ok_or_else(|| {
            let is_there = |stored| self.answer(key, stored, Tier::Memory, now).is_some();
            if variants.iter().any(is_there) { ForwardReason::VaryMiss } else { ForwardReason::UriMiss }
        })
    }

    /// What the shared tier's answer is good for, and what of it memory should have too; `None`: it has no
    /// answer.
    fn of_shared(
        &self,
        key: &CacheKey,
        found: SharedFound,
        now: Timestamp,
    ) -> Option<(Lookup, Option<Arc<StoredResponse>>)> {
        let stored = match found {
            SharedFound::Response(stored) => Arc::new(stored.packed(key, &self.names)),
            SharedFound::OtherVariants => return Some((Lookup::Forward(ForwardReason::VaryMiss), None)),
            SharedFound::Nothing => return Some((Lookup::Forward(ForwardReason::UriMiss), None)),
            SharedFound::Unasked | SharedFound::Unavailable => return None,
        };
        Some(match self.answer(key, &stored, Tier::Shared, now) {
            Some(lookup) => (lookup, Some(stored)),
            None => (Lookup::Forward(ForwardReason::UriMiss), None),
        })
    }

    /// What a stored response is good for; `None`: as if absent.
    fn answer(
        &self,
        key: &CacheKey,
        stored: &Arc<StoredResponse>,
        tier: Tier,
        now: Timestamp,
    ) -> Option<Lookup> {
        let standing = self.standing_of(key, stored, now);
        let found = Found { stored: as_it_stands(stored, standing)?, tier };
        Some(match assess(&found.stored, now) {
            Verdict::Fresh => Lookup::Fresh(found),
            Verdict::StaleWhileRevalidate => Lookup::StaleUsable(found),
            Verdict::MustValidate => Lookup::MustValidate(found, ForwardReason::Stale),
        })
    }

    /// What purges, or not having heard of them, have made of a stored response.
    fn standing_of(&self, key: &CacheKey, stored: &StoredResponse, now: Timestamp) -> Standing {
        let standing = self.purged.judge(key, &stored.tags, stored.fence);
        let log = self.shared.as_ref().map(|shared| &shared.log);
        if log.is_some_and(|log| log.is_unverified(stored.received_at, now)) {
            return standing.and(Standing::Unverified);
        }
        standing
    }

    /// The fence to remember before a forward begins (I5).
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.purged.fence()
    }

    /// What purges have made of a response of `key` whose forward began at `fence`. `tags`: those it
    /// carries; `None` while they are not known, which counts as carrying every tag.
    #[must_use]
    pub fn standing(&self, key: &CacheKey, tags: Option<&[String]>, fence: Fence) -> Standing {
        let standing = self.purged.judge(key, tags.unwrap_or_default(), fence);
        match tags {
            None if self.purged.tags_purged_since(fence) => standing.and(Standing::Gone),
            _ => standing,
        }
    }

    /// Stores a response, in the place of the variant with the same selecting fields, unless something
    /// that it falls under was purged after `stored.fence`. Memory at once, the shared tier off the
    /// caller's path.
    ///
    /// # Errors
    /// The response itself, where it was purged meanwhile.
    pub fn store(
        &self,
        key: &CacheKey,
        stored: StoredResponse,
    ) -> Result<Arc<StoredResponse>, Box<StoredResponse>> {
        if !self.may_store(key, &stored) {
            ::metrics::counter!(metrics::STORES_FENCED).increment(1);
            return Err(Box::new(stored));
        }
        let stored = Arc::new(self.noticed(stored.packed(key, &self.names)));
        self.memory.insert(key, &stored, self.clock.now());
        self.forget_parts(key);
        self.markers.remove(key);
        ::metrics::counter!(metrics::STORED, "tier" => "memory").increment(1);
        if let Some(shared) = &self.shared {
            shared.tier.store(key, &stored);
        }
        Ok(stored)
    }

    /// Takes a response out of every tier, because it may no longer be stored; unless another has taken its
    /// place meanwhile.
    pub fn discard(&self, key: &CacheKey, stored: &Arc<StoredResponse>) {
        if self.memory.has_newer(key, stored) {
            return;
        }
        self.memory.remove_variant(key, stored);
        if let Some(shared) = &self.shared {
            shared.tier.remove(key, stored);
        }
    }

    /// Sets the gauges; called when they are read.
    pub fn observe(&self) {
        self.memory.observe();
        self.markers.observe(self.clock.now());
        if let Some(shared) = &self.shared {
            ::metrics::gauge!(metrics::REDIS_BREAKER).set(shared.redis.state().as_gauge());
        }
    }
}

/// A stored response as purges have left it; `None`: not at all.
fn as_it_stands(stored: &Arc<StoredResponse>, standing: Standing) -> Option<Arc<StoredResponse>> {
    match standing {
        Standing::Valid => Some(Arc::clone(stored)),
        Standing::Gone => None,
        Standing::Unverified => {
            Some(Arc::new(StoredResponse { reuse: Reuse::ValidateAlways, ..StoredResponse::clone(stored) }))
        }
        Standing::StaleSince(at) => {
            // Its freshness ended at the purge; the stale windows run from there.
            let lifetime = stored.freshness_lifetime.min(stored.current_age(at).into());
            Some(Arc::new(StoredResponse { freshness_lifetime: lifetime, ..StoredResponse::clone(stored) }))
        }
    }
}

/// What two tiers' answers come to: memory's, unless the shared tier's is usable at once, or all there is.
fn better(near: Lookup, far: Lookup) -> Lookup {
    match (&near, &far) {
        (_, Lookup::Fresh(_) | Lookup::StaleUsable(_))
        | (Lookup::Forward(ForwardReason::UriMiss), _)
        | (Lookup::Forward(_), Lookup::MustValidate(..)) => far,
        _ => near,
    }
}

#[cfg(test)]
impl Cache {
    pub(super) fn memory_for_tests(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn shared_for_tests(&self) -> &Shared {
        &self.shared.as_ref().unwrap().tier
    }
}
