//! What the answer to a HEAD tells: of what is stored for GET (RFC 9111 4.3.5), and to the next HEAD.

use super::Gateway;
use super::cache_status::Stored;
use super::freshening::Freshening;
use super::route::Route;
use crate::cache::rules::reuse::{Verdict, assess};
use crate::cache::rules::{Exchange, NoStoreReason, RequestHead, ResponseHead, storable};
use crate::cache::{CacheKey, StoredResponse};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;

/// A HEAD that was forwarded.
pub(crate) struct Told<'a> {
    pub gateway: &'a Gateway,
    pub route: &'a Route,
    pub key: &'a CacheKey,
    pub request_fields: &'a HeaderMap,
    /// What is stored for GET, and stale.
    pub stale: Option<&'a Arc<StoredResponse>>,
    pub exchange: &'a Exchange,
}

impl Told<'_> {
    /// Updates what is stored, and keeps the answer for the next HEAD, or that there is none to be kept.
    pub(crate) fn note(&self, response: ResponseHead<'_>) -> Stored {
        let freshening = Freshening {
            gateway: self.gateway,
            route: self.route,
            key: self.key,
            request_fields: self.request_fields,
            exchange: self.exchange,
        };
        freshening.head(self.stale, response);
        let cache = &self.gateway.cache;
        // Stored parts are not compared with it, so they go.
        cache.forget_parts(self.key);
        // What is stored for GET was updated.
        if self.stale.is_some() {
            return Stored::NotConsidered;
        }
        let policy = &self.route.settings.cache;
        match storable::admit(self.as_get(), response, policy, self.exchange) {
            Err(reason) => {
                // Of the next HEADs alone: a source may say less to them than to GET.
                cache.mark(&self.key.of_head(), reason, response.status, self.exchange);
                Stored::No(reason)
            }
            // Without content it can be validated, but nothing is won by that.
            Ok(admitted) if assess(admitted.head(), self.exchange.received_at) != Verdict::Fresh => {
                Stored::No(NoStoreReason::NoFreshness)
            }
            Ok(admitted) => {
                let stored = cache.store(&self.key.of_head(), admitted.into_stored(Bytes::new()));
                stored.map_or(Stored::No(NoStoreReason::Purged), |_| Stored::Yes)
            }
        }
    }

    /// What all who wait are told; `None` where it is for the one alone whose HEAD it was: what a GET's head
    /// may not be shared as (I7), and a 304, which is about that one's own conditions.
    pub(crate) fn shared(&self, response: ResponseHead<'_>) -> Option<StoredResponse> {
        let policy = &self.route.settings.cache;
        let shareable = storable::may_share(self.as_get(), response, policy, self.exchange);
        let is_for_all = response.status != StatusCode::NOT_MODIFIED && shareable.is_ok();
        is_for_all.then(|| storable::unstored(self.as_get(), response, self.exchange))
    }

    fn as_get(&self) -> RequestHead<'_> {
        RequestHead { method: &Method::GET, fields: self.request_fields }
    }
}
