//! Stored responses for the tests of the cache.

use crate::cache::purge::Fence;
use crate::cache::rules::early::Early;
use crate::cache::stored::{Few, Millis, Reuse, Uses};
use crate::cache::{CacheKey, SharedSettings, StoredResponse};
use crate::clock::Timestamp;
use crate::redis::Server;
use crate::target::Target;
use bytes::Bytes;
use http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::time::Duration;

/// Of a Redis that nobody runs.
pub(crate) fn settings() -> SharedSettings {
    SharedSettings {
        redis: Server::parse("redis://127.0.0.1:1").unwrap(),
        namespace: "test".into(),
        object_bytes: 1 << 20,
        secret: None,
        hash_keys: true,
        max_unverified: Duration::from_secs(30),
        lease: Duration::ZERO,
        data: None,
    }
}

pub(crate) fn key(url: &str) -> CacheKey {
    CacheKey::new(&Target::parse_absolute(url).unwrap(), None)
}

/// Fresh for a minute.
pub(crate) fn response(body: &str, now: Timestamp) -> StoredResponse {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    StoredResponse {
        status: StatusCode::OK,
        fields: fields.into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        received_at: now,
        initial_age: Millis::ZERO,
        freshness_lifetime: Duration::from_mins(1).into(),
        reuse: Reuse::WhileFresh,
        selecting_fields: Few::default(),
        tags: Few::default(),
        fence: Fence::default(),
        early: Early::NEVER,
        uses: Uses::default(),
    }
}

/// Selected by its language.
pub(crate) fn varying(language: &str, body: &str, now: Timestamp) -> StoredResponse {
    let selecting_fields = vec![(ACCEPT_LANGUAGE, Some(HeaderValue::from_str(language).unwrap()))].into();
    StoredResponse { selecting_fields, ..response(body, now) }
}

pub(crate) fn asking_for(language: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_static(language))])
}
