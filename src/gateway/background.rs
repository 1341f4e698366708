//! Bounded work after the answer: validation of what was served stale.

use super::Gateway;
use super::landing::Landing;
use super::read;
use super::request::Request;
use super::route::Route;
use crate::cache::collapse::{Landed, Lane, Role};
use crate::cache::rules::ForwardReason;
use crate::cache::{CacheKey, StoredResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The most that is validated at once; beyond it the next hit tries again.
const VALIDATIONS_MAX: usize = 256;

/// How long a key rests after a validation that got no answer: hits do not hammer a source in trouble.
const REST: Duration = Duration::from_secs(1);

/// The most keys that rest; beyond them some are tried again earlier.
const RESTING_MAX: u64 = 10_000;

/// The bounds of background work.
#[derive(Debug)]
pub(crate) struct Background {
    places: Arc<Semaphore>,
    resting: moka::sync::Cache<CacheKey, ()>,
}

impl Background {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(VALIDATIONS_MAX)),
            resting: moka::sync::Cache::builder().max_capacity(RESTING_MAX).time_to_live(REST).build(),
        }
    }
}

/// Validates a stale response once, however many hits ask for it.
pub(crate) fn validate(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: &Request,
    stale: Arc<StoredResponse>,
) {
    if gateway.background.resting.contains_key(key) {
        return;
    }
    let Ok(place) = Arc::clone(&gateway.background.places).try_acquire_owned() else { return };
    let cache = &gateway.cache;
    let role =
        gateway.flights.join(key, Lane::Any, cache.fence(), |fence| read::is_joinable(cache, key, fence));
    let Role::Lead(lead) = role else { return };
    let mut fill = read::fill(gateway, route, key, request, Some(stale), ForwardReason::Stale);
    // The request that began it has its final response.
    fill.head.interim = None;
    let (gateway, key) = (Arc::clone(gateway), key.clone());
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        // Somebody who waits: so the fill is finished although no client reads it.
        let mut interest = lead.follow();
        fill.run(lead, None).await;
        if let Some(Landed { landing: Landing::Failed(_), .. }) = interest.landed().await {
            gateway.background.resting.insert(key, ());
        }
        drop(place);
    });
}
