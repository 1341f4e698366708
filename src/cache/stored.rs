//! A stored response: what is ready to be sent, and what was decided when it was stored, so that
//! a hit parses nothing.

mod few;
mod fields;
mod span;
mod uses;

pub use few::Few;
pub use fields::{NameLists, Sending, StoredFields, write_line};
pub use span::{Millis, Span};
pub(crate) use uses::Touched;
pub use uses::Uses;

use super::CacheKey;
use super::purge::Fence;
use super::rules::early::Early;
use crate::clock::Timestamp;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use std::time::Duration;

/// A complete response as it is reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// The final status.
    pub status: StatusCode,
    /// The end-to-end fields that are sent to clients; without Age and what RFC 9111 3.1 leaves out.
    pub fields: StoredFields,
    /// The content of the representation.
    pub body: Bytes,
    /// When its head arrived, or when it was last validated.
    pub received_at: Timestamp,
    /// Its age at `received_at` (RFC 9111 4.2.3, `corrected_initial_age`).
    pub initial_age: Millis,
    /// How long it is fresh, counted from age zero (RFC 9111 4.2.1).
    pub freshness_lifetime: Span,
    /// What may be done with it when it is stale, and whether it may be used unvalidated at all.
    pub reuse: Reuse,
    /// The request fields that select it, normalised, in order of name; `None`: absent (4.1).
    pub selecting_fields: Few<(HeaderName, Option<HeaderValue>)>,
    /// Its tags, the route's included.
    pub tags: Few<String>,
    /// What had been purged before its forward began (I5).
    pub fence: Fence,
    /// When it is validated although it is fresh.
    pub early: Early,
    /// When it was used.
    pub uses: Uses,
}

/// How a stored response may be reused (RFC 9111 4.2.4, 5.2.2; RFC 5861).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Reuse {
    /// `no-cache`: never without validation.
    ValidateAlways,
    /// While fresh; stale never (`must-revalidate`, `proxy-revalidate`).
    WhileFresh,
    /// While fresh, and beyond that in four windows that begin where freshness ends; each may be zero.
    WithStale {
        /// Served while it is validated in the background.
        while_revalidate: Span,
        /// Served where the source gives no good answer.
        if_error: Span,
        /// Served where the source cannot be reached or closes without an answer.
        on_disconnect: Span,
        /// Served where the request tolerates it (RFC 9111 5.2.1.2, `max-stale`).
        on_request: Span,
    },
}

impl StoredResponse {
    /// The same with its selecting fields in memory of their own, with names that others have too, and with the
    /// key that it is kept under. What was read off a connection is a slice of its buffer, of which a few bytes
    /// would keep all: a kept response would cost several times what it is counted with.
    #[must_use]
    pub fn packed(self, key: &CacheKey, names: &NameLists) -> Self {
        let own = |value: HeaderValue| HeaderValue::from_bytes(value.as_bytes()).unwrap_or(value);
        let selecting = self.selecting_fields.into_iter().map(|(name, value)| (name, value.map(own)));
        Self { fields: names.shared(self.fields.under(key)), selecting_fields: selecting.collect(), ..self }
    }

    /// Its current age (RFC 9111 4.2.3).
    #[must_use]
    pub fn current_age(&self, now: Timestamp) -> Duration {
        self.initial_age.duration().saturating_add(now.since(self.received_at))
    }

    /// How far it is from the end of its freshness: positive while fresh, in whole seconds.
    #[must_use]
    pub fn ttl_seconds(&self, now: Timestamp) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let age = self.current_age(now);
        let lifetime = self.freshness_lifetime.duration();
        match lifetime.checked_sub(age) {
            Some(left) => seconds(left),
            None => -seconds(age.saturating_sub(lifetime)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::{key, response};
    use http::HeaderMap;
    use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};

    /// With the counts of an `Arc` it fills 160 bytes, which an allocator has: a field more costs 32.
    #[test]
    fn it_is_small() {
        assert!(size_of::<StoredResponse>() <= 144, "{} bytes", size_of::<StoredResponse>());
    }

    #[test]
    fn what_is_packed_is_the_same_and_holds_no_buffer_of_others() {
        let buffer = Bytes::from(b"text/plain|gzip".to_vec());
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
        let mut stored = response("body", Timestamp::default());
        stored.fields = HeaderMap::from_iter([(CONTENT_TYPE, value(0..10))]).into();
        stored.selecting_fields = vec![(ACCEPT_ENCODING, Some(value(11..15)))].into();
        let packed = stored.clone().packed(&key("http://h/a"), &NameLists::default());
        assert_eq!(packed, stored);
        drop(stored);
        assert!(buffer.is_unique(), "the buffer is still held");
    }
}
