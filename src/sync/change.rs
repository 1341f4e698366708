//! A change: one write that happened, or may have.

use bytes::Bytes;
use http::{HeaderMap, Method};
use std::fmt;
use std::sync::Arc;

/// The id of a change: what `Tidegate-Change` and the deliveries' `Idempotency-Key` carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChangeId(pub uuid::Uuid);

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The token of `Tidegate-Version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// What orders changes: a template of texts and parts of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {}

/// Why a key template is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTemplateError {
    /// A part that is neither known nor a name of the path pattern.
    #[error("unknown part {{{0}}}")]
    UnknownPart(String),
    /// A brace without its partner.
    #[error("unbalanced braces")]
    Braces,
    /// No part at all: every change would have the same key.
    #[error("no part in braces")]
    Constant,
}

impl KeyTemplate {
    /// Reads `"{location}"`, `"{path}"`, `"{header:X-Tenant}"`, `"{json:/id}"`, names of the path
    /// pattern, and texts between them.
    ///
    /// # Errors
    /// [`KeyTemplateError`] for what is not one of these.
    pub fn parse(text: &str, pattern_names: &[&str]) -> Result<Self, KeyTemplateError> {
        let _ = (text, pattern_names);
        unimplemented!()
    }

    /// The key of a request. A missing part is replaced by the path.
    #[must_use]
    pub fn resolve(&self, request: &KeySource<'_>) -> DraftKey {
        let _ = request;
        unimplemented!()
    }
}

/// What a key template reads. `path` is in the source's own space (after `strip`).
#[derive(Clone, Copy, Debug)]
pub struct KeySource<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The path as forwarded.
    pub path: &'a str,
    /// What the path pattern's names matched.
    pub names: &'a [(&'a str, &'a str)],
    /// The request's fields.
    pub fields: &'a HeaderMap,
    /// The request's content.
    pub body: &'a [u8],
}

/// What is known of a key before the source has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftKey {
    /// Writes of this key pass one at a time.
    Known(String),
    /// POST by `{location}`: the path of the answer's Location, else this.
    FromLocation {
        /// The key where the answer has no Location.
        otherwise: String,
    },
}

/// A write as it is recorded before the source is called.
#[derive(Clone, Debug)]
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
    /// The strong ETag that was known just before.
    pub known_etag: Option<String>,
}
