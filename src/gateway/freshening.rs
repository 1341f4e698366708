//! What a 304, or the response to a HEAD, makes of what is stored (RFC 9111 4.3.4, 4.3.5): the rules
//! decide, here it is written back. Whatever is written has the fence of the forward that confirmed it
//! (I5), or keeps its own where nothing did.

use super::Gateway;
use super::landing::Landing;
use super::route::Route;
use crate::cache::rules::validation::{self, Asked, Freshened, HeadEffect};
use crate::cache::rules::{Exchange, NoStoreReason, RequestHead, ResponseHead, vary};
use crate::cache::{CacheKey, StoredResponse};
use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;

/// A forward whose answer speaks of what is stored.
pub(crate) struct Freshening<'a> {
    pub gateway: &'a Gateway,
    pub route: &'a Route,
    pub key: &'a CacheKey,
    /// The fields of the request whose forward it was.
    pub request_fields: &'a HeaderMap,
    pub exchange: &'a Exchange,
}

/// What becomes of the response that an update was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// It is what was updated.
    Replaced,
    /// It stays: it is another variant, whose content this request was given too.
    Stays,
}

impl Freshening<'_> {
    /// What a 304 to a conditional request lands; `None` where it speaks of nothing that was asked about.
    pub(crate) fn not_modified(&self, asked: &Asked, fields: &HeaderMap) -> Option<Landing> {
        match asked {
            Asked::Nothing => None,
            Asked::Selected(stored) => {
                let identified = validation::identified(stored, &self.selected(), fields);
                self.update_all(&identified, fields)
            }
            Asked::Others(variants) => {
                let named = validation::named(variants, fields)?;
                Some(self.update(named, fields, Before::Stays))
            }
        }
    }

    /// What the answer to a HEAD makes of every stored response that its request selects. `found`: the one
    /// that a lookup found, which memory may be too small for.
    pub(crate) fn head(&self, found: Option<&Arc<StoredResponse>>, response: ResponseHead<'_>) {
        let mut selected = self.selected();
        let is_new = |found: &&Arc<StoredResponse>| {
            !selected.iter().any(|stored| stored.selecting_fields == found.selecting_fields)
        };
        if let Some(found) = found.filter(is_new) {
            selected.push(Arc::clone(found));
        }
        if response.status == StatusCode::NOT_MODIFIED {
            // The condition was the client's own.
            self.update_all(&validation::by_validator(&selected, response.fields), response.fields);
            return;
        }
        let request = self.request();
        let cache = &self.gateway.cache;
        for stored in selected.iter().rev() {
            let policy = &self.route.settings.cache;
            match validation::head_effect(stored, request, response, policy, self.exchange) {
                HeadEffect::Freshened(changed) | HeadEffect::Stale(changed) => {
                    // Purged meanwhile, it is gone anyway.
                    drop(self.put(stored, *changed, Before::Replaced));
                }
                HeadEffect::Removed => cache.discard(self.key, stored),
                HeadEffect::None => {}
            }
        }
    }

    fn request(&self) -> RequestHead<'_> {
        RequestHead { method: &Method::GET, fields: self.request_fields }
    }

    /// The stored responses that could have been chosen for the request.
    fn selected(&self) -> Vec<Arc<StoredResponse>> {
        let mut variants = self.gateway.cache.variants(self.key);
        variants.retain(|stored| vary::matches(&stored.selecting_fields, self.request_fields));
        variants
    }

    /// Updates them; what the first has become is landed.
    fn update_all(&self, identified: &[Arc<StoredResponse>], fields: &HeaderMap) -> Option<Landing> {
        let mut landing = None;
        // The first last: where an update makes several of them one variant, that is the one.
        for stored in identified.iter().rev() {
            landing = Some(self.update(stored, fields, Before::Replaced));
        }
        landing
    }

    fn update(&self, stored: &Arc<StoredResponse>, fields: &HeaderMap, before: Before) -> Landing {
        let policy = &self.route.settings.cache;
        match validation::freshen(stored, self.request(), fields, policy, self.exchange) {
            Freshened::Kept(fresh) => match self.put(stored, fresh, before) {
                Ok(fresh) => Landing::Validated(fresh),
                // Purged meanwhile: who asked before may have it, nobody else will.
                Err(once) => Landing::ValidatedOnce(Arc::from(once), NoStoreReason::Purged),
            },
            Freshened::NotKept(once, reason) => {
                if before == Before::Replaced && validation::removes(reason) {
                    self.gateway.cache.discard(self.key, stored);
                }
                Landing::ValidatedOnce(Arc::new(once), reason)
            }
        }
    }

    /// Stores what an update made; what other fields selected before is found by them no more.
    fn put(
        &self,
        old: &Arc<StoredResponse>,
        new: StoredResponse,
        before: Before,
    ) -> Result<Arc<StoredResponse>, Box<StoredResponse>> {
        let cache = &self.gateway.cache;
        if before == Before::Replaced && old.selecting_fields != new.selecting_fields {
            cache.discard(self.key, old);
        }
        cache.store(self.key, new)
    }
}
