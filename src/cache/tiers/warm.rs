//! The hottest responses of the namespace, by the names of their places in Redis: who starts loads them
//! before it is ready. The list has no bodies and nothing readable that the names do not have.

use super::codec::Value;
use super::shared::{Shared, SharedFound};
use crate::cache::{CacheKey, StoredResponse};
use crate::redis::{Lane, Unavailable};
use futures_util::{Stream, StreamExt, stream};
use std::sync::Arc;
use std::time::Duration;

/// Places in the list.
pub(crate) const HOTTEST_MAX: usize = 1000;
/// How long the list is kept after it was last written.
const LIST_KEPT: Duration = Duration::from_hours(24);
/// What one command may take; nobody waits for it but a start.
const BUDGET: Duration = Duration::from_millis(500);
/// Commands at once.
const AT_ONCE: usize = 32;

impl Shared {
    /// Writes the list: the places of what memory has, the hottest first.
    pub(crate) async fn tell_hottest(
        &self,
        hottest: Vec<(CacheKey, Vec<Arc<StoredResponse>>)>,
    ) -> Result<(), Unavailable> {
        let places = stream::iter(hottest).map(|(key, variants)| self.places(key, variants));
        let places: Vec<Vec<String>> = places.buffered(AT_ONCE).collect().await;
        let names: Vec<String> = places.into_iter().flatten().take(HOTTEST_MAX).collect();
        let list = names.join("\n");
        self.parts.redis.set(&self.parts.naming.hottest(), list.as_bytes(), LIST_KEPT, BUDGET).await
    }

    async fn places(&self, key: CacheKey, variants: Vec<Arc<StoredResponse>>) -> Vec<String> {
        let primary = self.parts.naming.primary(&key);
        if variants.iter().all(|stored| stored.selecting_fields.is_empty()) {
            return vec![primary.name];
        }
        let Ok(Some(marker)) = self.parts.marker(&primary, BUDGET).await else { return Vec::new() };
        let place = |stored: &Arc<StoredResponse>| {
            self.parts.naming.variant(&key, marker.generation, &stored.selecting_fields).name
        };
        variants.iter().map(place).collect()
    }

    /// What stands in the places of the list, in no order.
    pub(crate) async fn hottest(
        &self,
    ) -> Result<impl Stream<Item = Option<(CacheKey, StoredResponse)>>, Unavailable> {
        let list = self.parts.redis.get(Lane::Large, &self.parts.naming.hottest(), BUDGET).await?;
        let list = String::from_utf8(list.unwrap_or_default().to_vec()).unwrap_or_default();
        let names: Vec<String> = list.lines().take(HOTTEST_MAX).map(str::to_owned).collect();
        Ok(stream::iter(names).map(|name| self.in_place(name)).buffer_unordered(AT_ONCE))
    }

    /// What stands in a place, and under which key: it tells that itself, and must stand where it belongs.
    async fn in_place(&self, name: String) -> Option<(CacheKey, StoredResponse)> {
        let parts = &self.parts;
        let bytes = parts.redis.get(Lane::Large, &name, BUDGET).await.ok()??;
        let text = parts.codec.key_of(&bytes)?;
        let Value::Response(mut packed) = parts.codec.decode(text, &bytes).ok()? else { return None };
        let (key, place) = parts.naming.belongs(&name, text, packed.selecting_fields())?;
        if let Some(pieces) = packed.packing.pieces {
            packed.bytes = parts.pieces(&key, &place, pieces, BUDGET).await.ok()??;
        }
        let stamp = packed.stamp;
        let stored = parts.open(packed).await.ok().filter(|stored| !parts.is_over(stored))?;
        match self.judged(Box::new(stored), stamp) {
            SharedFound::Response(stored) => Some((key, *stored)),
            _ => None,
        }
    }
}
