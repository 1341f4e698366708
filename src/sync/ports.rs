//! How the engine reaches what lies on its own floor: functions that `app` gives it.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use std::fmt;

/// How the engine reaches what lies on its own floor: given by `app`.
pub struct Ports {
    /// Reads the state that a source has now.
    pub read_source: Box<dyn Fn(ReadSource) -> BoxFuture<'static, SourceState> + Send + Sync>,
    /// Moves the fence of what a change made old; called when a doubt begins and when it ends.
    pub fence: Box<dyn Fn(Fenced) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// A read that resolves a change in doubt: a GET past every cache.
#[derive(Clone, Debug)]
pub struct ReadSource {
    /// The source's name.
    pub source: String,
    /// The authority that the client asked.
    pub authority: String,
    /// Path and query as the source knows them.
    pub path_and_query: String,
    /// The Accept field kept with the change.
    pub accept: Option<HeaderValue>,
}

/// What a source answered to a [`ReadSource`].
#[derive(Clone, Debug)]
pub enum SourceState {
    /// 2xx: what it has.
    Present {
        /// Its strong `ETag`, if any.
        etag: Option<HeaderValue>,
        /// Content-* fields of the representation.
        fields: HeaderMap,
        /// The representation.
        body: Bytes,
    },
    /// 404 or 410.
    Absent,
    /// No answer that decides; asked again later.
    Unreadable,
}

/// What a change made old, as the cache knows it.
#[derive(Clone, Debug)]
pub struct Fenced {
    /// The route's name.
    pub route: String,
    /// The authority that the client asked.
    pub authority: String,
    /// The client's path and query.
    pub path_and_query: String,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}
