//! A change: one write that happened, or may have.

use super::answers::Claim;
use super::journal::record::{Head, kept_fields};
use crate::clock::Timestamp;
use bytes::Bytes;
use http::{HeaderMap, Method};
use std::fmt;
use std::sync::Arc;

pub use super::key::{DraftKey, KeySource, KeyTemplate, KeyTemplateError};

/// The id of a change: what `Tidegate-Change` and the deliveries' `Idempotency-Key` carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChangeId(pub uuid::Uuid);

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ChangeId {
    /// Reads the form that [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().map(Self)
    }

    /// When it was made; the epoch for an id that no gateway has made.
    pub(super) fn made_at(self) -> Timestamp {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(u64::from(nanos / 1_000_000)))
    }
}

/// A write as it is recorded before the source is called.
#[derive(Debug)]
pub struct Draft {
    /// The route's name.
    pub route: Arc<str>,
    /// The source's name.
    pub source: Arc<str>,
    /// Its key.
    pub key: DraftKey,
    /// Its method.
    pub method: Method,
    /// The authority that the client asked.
    pub authority: String,
    /// The client's path and query: what the cache knows it by.
    pub client_path_and_query: String,
    /// Path and query as forwarded to the source: what destinations get.
    pub path_and_query: String,
    /// The request's end-to-end fields; the journal keeps those that destinations get.
    pub fields: HeaderMap,
    /// The request's content.
    pub body: Bytes,
    /// The destinations of this change, fixed now.
    pub destinations: Vec<String>,
    /// The client's Idempotency-Key, claimed; `None`: it sent none.
    pub claim: Option<Claim>,
}

impl Draft {
    /// What of it destinations and the resolver need, but for its content.
    pub(super) fn head(&self, known_etag: Option<String>) -> Head {
        Head {
            route: self.route.to_string(),
            source: self.source.to_string(),
            method: self.method.to_string(),
            authority: self.authority.clone(),
            client_path_and_query: self.client_path_and_query.clone(),
            path_and_query: self.path_and_query.clone(),
            fields: kept_fields(&self.fields),
            known_etag,
        }
    }
}
