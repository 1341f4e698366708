//! What memory serves is looked for in the shared tier again now and then, in the background: another gateway
//! may have put a newer one there.

use super::Cache;
use crate::cache::{CacheKey, StoredResponse};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::{Arc, Weak};
use tokio::sync::mpsc;

/// Responses that wait for their look; beyond, it is left to a hit a minute later.
const WAITING_MAX: usize = 256;

/// What is to be looked for again.
#[derive(Debug)]
pub(super) struct Again(mpsc::Sender<(CacheKey, Arc<StoredResponse>)>);

impl Again {
    pub(super) fn new() -> (Self, mpsc::Receiver<(CacheKey, Arc<StoredResponse>)>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }
}

/// Looks, one after the other, until the cache is gone.
pub(super) async fn look(cache: Weak<Cache>, mut wanted: mpsc::Receiver<(CacheKey, Arc<StoredResponse>)>) {
    while let Some((key, stored)) = wanted.recv().await {
        let Some(cache) = cache.upgrade() else { return };
        // What is newer is in memory by then; that is all that is wanted.
        cache.has_newer(&key, &selecting(&stored), &stored).await;
    }
}

/// The fields of a request that selects a response.
fn selecting(stored: &StoredResponse) -> HeaderMap {
    let fields = stored.selecting_fields.iter();
    let said = |(name, value): &(HeaderName, Option<HeaderValue>)| Some((name.clone(), value.clone()?));
    fields.filter_map(said).collect()
}

impl Cache {
    /// Has a response looked for again, unless Redis is away.
    pub(super) fn look_again(&self, key: &CacheKey, stored: &Arc<StoredResponse>) {
        if let Some(shared) = self.shared.as_ref().filter(|shared| shared.redis.is_connected()) {
            // Where too many wait, a later hit tries again.
            shared.again.0.try_send((key.clone(), Arc::clone(stored))).unwrap_or_default();
        }
    }
}
