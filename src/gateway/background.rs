//! Bounded work after the answer: validation of what was served stale.

use super::Gateway;
use super::read;
use super::request::Request;
use super::route::Route;
use crate::cache::collapse::Role;
use crate::cache::rules::ForwardReason;
use crate::cache::{CacheKey, StoredResponse};
use std::sync::Arc;

/// The most that is validated in the background at once; beyond it the next hit tries again.
pub(crate) const VALIDATIONS_MAX: usize = 256;

/// Validates a stale response once, however many hits ask for it.
pub(crate) fn validate(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: &Request,
    stale: Arc<StoredResponse>,
) {
    let Ok(place) = Arc::clone(&gateway.background).try_acquire_owned() else { return };
    let cache = &gateway.cache;
    let role = gateway.flights.join(key, cache.fence(), |fence| read::is_joinable(cache, key, fence));
    let Role::Lead(lead) = role else { return };
    let fill = read::fill(gateway, route, key, request, Some(stale), ForwardReason::Stale);
    gateway.tasks.spawn(async move {
        // Somebody who waits: so the fill is finished although no client reads it.
        let _interest = lead.follow();
        fill.run(lead, None).await;
        drop(place);
    });
}
