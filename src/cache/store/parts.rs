//! Stored parts: in memory only, under keys of their own, beside the whole responses and within the same
//! bound of bytes. Purges judge them as they judge wholes (I5).

use super::{Cache, Found, Lookup};
use crate::cache::CacheKey;
use crate::cache::rules::partial::{Combined, Forwarded, Piece, combine};
use crate::clock::Timestamp;
use crate::telemetry::metrics;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Cache {
    /// Finds the fresh part of what `key` finds that a request selects; `None` also where there is a
    /// stale one, which is good for nothing but being added to.
    #[must_use]
    pub fn lookup_part(&self, key: &CacheKey, request: &HeaderMap, now: Timestamp) -> Option<Found> {
        match self.look_for_part(key, request, now)? {
            Lookup::Fresh(found) => Some(found),
            Lookup::StaleUsable(_) | Lookup::MustValidate(..) | Lookup::Forward(_) => None,
        }
    }

    fn look_for_part(&self, key: &CacheKey, request: &HeaderMap, now: Timestamp) -> Option<Lookup> {
        let kept = self.has_parts.load(Ordering::Relaxed);
        kept.then(|| self.look_in_memory(&key.of_parts(), request, now))
    }

    /// Stores a piece whose content has come completely, with the part that is stored already as far as
    /// the two belong together; as a whole where nothing is missing any more. What was purged after the
    /// piece's forward began is not stored.
    pub fn store_piece(&self, key: &CacheKey, piece: Piece, body: Bytes, forwarded: Forwarded<'_>) {
        let now = self.clock.now();
        let stored = match self.look_for_part(key, forwarded.request.fields, now) {
            // A stale one too: the piece's strong validator says that it is still right.
            Some(Lookup::Fresh(found) | Lookup::StaleUsable(found) | Lookup::MustValidate(found, _)) => {
                Some(found.stored)
            }
            Some(Lookup::Forward(_)) | None => None,
        };
        let bytes_max = self.memory.object_bytes();
        let combined = combine(piece, body, stored.as_deref(), forwarded, bytes_max);
        match combined {
            // Where it was purged meanwhile, nobody will have it.
            Combined::Whole(whole) => drop(self.store(key, whole)),
            Combined::Part(part) if self.may_store(key, &part) => {
                self.has_parts.store(true, Ordering::Relaxed);
                self.markers.remove(key);
                let key = key.of_parts();
                let part = self.noticed(part.packed(&key, &self.names));
                self.memory.insert(&key, &Arc::new(part), now);
                ::metrics::counter!(metrics::STORED, "tier" => "memory").increment(1);
            }
            Combined::Part(_) => ::metrics::counter!(metrics::STORES_FENCED).increment(1),
        }
    }

    /// Forgets the parts of what `key` finds: something newer is known of it.
    pub fn forget_parts(&self, key: &CacheKey) {
        if self.has_parts.load(Ordering::Relaxed) {
            self.memory.remove(&key.of_parts());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::rules::partial::admit;
    use crate::cache::rules::{Exchange, RequestHead, ResponseHead};
    use crate::cache::tiers::testing::{key, response};
    use crate::cache::{Fence, Policy, Purge, PurgeMode, Settings};
    use crate::clock::Clock;
    use crate::in_flight::InFlight;
    use crate::redis::Patience;
    use http::{HeaderName, HeaderValue, Method, StatusCode};

    fn cache() -> Arc<Cache> {
        let settings = Settings { memory_bytes: 1 << 20, memory_object_bytes: 8, shared: None };
        Cache::new(&settings, Clock::system(), None, &InFlight::new(u64::MAX))
    }

    /// Stores `text` as the bytes from `first` on of twenty, forwarded at `fence`.
    fn store(cache: &Cache, key: &CacheKey, first: usize, text: &'static str, fence: Fence) {
        let last = first + text.len() - 1;
        let content_range = format!("bytes {first}-{last}/20");
        let lines = [
            ("content-range", content_range.as_str()),
            ("cache-control", "max-age=60"),
            ("etag", "\"a\""),
            ("cache-tag", "t"),
        ];
        let fields: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let asked = HeaderMap::new();
        let now = cache.clock.now();
        let exchange = Exchange { requested_at: now, received_at: now, fence, jitter: 0.0 };
        let request = RequestHead { method: &Method::GET, fields: &asked };
        let forwarded = Forwarded { request, policy: &Policy::default(), exchange: &exchange };
        let head = ResponseHead { status: StatusCode::PARTIAL_CONTENT, fields: &fields };
        let piece = admit(forwarded, head).unwrap();
        cache.store_piece(key, piece, Bytes::from_static(text.as_bytes()), forwarded);
    }

    fn stored(cache: &Cache, key: &CacheKey) -> String {
        let found = cache.lookup_part(key, &HeaderMap::new(), cache.clock.now());
        found.map_or_else(String::new, |found| String::from_utf8(found.stored.body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn i5_a_purge_of_the_whole_is_one_of_its_parts() {
        let authority = || "h".to_owned();
        for purge in [
            Purge::Url { authority: authority(), path_and_query: "/a?b".into() },
            Purge::Path { authority: authority(), path: "/a".into() },
            Purge::Prefix { authority: None, path: "/".into() },
            Purge::Tag("t".into()),
            Purge::All,
        ] {
            let (cache, key) = (cache(), key("http://h/a?b"));
            let before = cache.fence();
            store(&cache, &key, 0, "0123", before);
            assert_eq!(stored(&cache, &key), "0123");
            cache.purge(vec![purge.clone()], PurgeMode::Hard).await;
            assert_eq!(stored(&cache, &key), "", "{purge:?}");
            store(&cache, &key, 4, "4567", before);
            assert_eq!(stored(&cache, &key), "", "{purge:?}: forwarded before it");
            store(&cache, &key, 4, "4567", cache.fence());
            assert_eq!(stored(&cache, &key), "4567", "{purge:?}: what was purged is not added to");
        }
    }

    #[tokio::test]
    async fn i10_a_part_is_no_larger_than_a_whole_may_be() {
        let (cache, key) = (cache(), key("http://h/a"));
        store(&cache, &key, 0, "01234", cache.fence());
        store(&cache, &key, 5, "567", cache.fence());
        assert_eq!(stored(&cache, &key), "01234567");
        store(&cache, &key, 8, "89", cache.fence());
        assert_eq!(stored(&cache, &key), "89", "both together are too large");
    }

    #[tokio::test]
    async fn parts_and_wholes_never_see_each_other() {
        let (cache, key) = (cache(), key("http://h/a"));
        store(&cache, &key, 0, "0123", cache.fence());
        let lookup = cache.lookup(&key, &HeaderMap::new(), cache.clock.now(), &Patience::none()).await;
        assert!(matches!(lookup, Lookup::Forward(_)), "{lookup:?}");
        cache.store(&key, response("whole", cache.clock.now())).unwrap();
        assert_eq!(stored(&cache, &key), "", "the whole is newer");
    }
}
