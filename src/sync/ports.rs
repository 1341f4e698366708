//! How the engine reaches what lies on its own floor: functions that `app` gives it.

use crate::tls::TlsFault;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::any::Any;
use std::fmt;

/// How the engine reaches what lies on its own floor: given by `app`.
pub struct Ports {
    /// Reads the state that a source has now.
    pub read_source: Box<dyn Fn(ReadSource) -> BoxFuture<'static, SourceState> + Send + Sync>,
    /// Sends an accepted write to its source, or one in doubt once more. What the write made old, or may have, is fenced before
    /// this returns (I5).
    pub write_source: Box<dyn Fn(WriteSource) -> BoxFuture<'static, SourceWritten> + Send + Sync>,
    /// Moves the fence of what a change made old; called when a doubt begins and when it ends.
    pub fence: Box<dyn Fn(Fenced) -> BoxFuture<'static, Hold> + Send + Sync>,
}

/// Nothing that a change in doubt may make old is stored until this is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Hold {
    _until_dropped: Option<Box<dyn Any + Send + Sync>>,
}

impl Hold {
    /// Ends when `guard` is dropped.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self { _until_dropped: Some(Box::new(guard)) }
    }
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
    /// The strong `ETag` that the target had before the change.
    pub known_etag: Option<HeaderValue>,
}

/// An accepted write on its way to its source.
#[derive(Clone, Debug)]
pub struct WriteSource {
    /// The source's name.
    pub source: String,
    /// The route's name.
    pub route: String,
    /// Its method.
    pub method: Method,
    /// The authority that the client asked.
    pub authority: String,
    /// The client's path and query: what the cache knows it by.
    pub client_path_and_query: String,
    /// Path and query as the source knows them.
    pub path_and_query: String,
    /// The fields kept with the change, its preconditions among them.
    pub fields: HeaderMap,
    /// `Idempotency-Key`: always the same for the same change.
    pub idempotency_key: String,
    /// The request's content.
    pub body: Bytes,
}

/// What became of a [`WriteSource`].
#[derive(Clone, Debug)]
pub enum SourceWritten {
    /// The source answered.
    Answered {
        /// Its status.
        status: StatusCode,
        /// Its fields.
        fields: HeaderMap,
        /// The path of its Location in the source's own space.
        location: Option<String>,
        /// The beginning of its content.
        answer: String,
    },
    /// Nothing was sent, for want of room or to spare the source: it was no attempt.
    Held,
    /// Nothing was sent: the source cannot be reached.
    Unreached(Unreached),
    /// Nothing was sent, and never can be: no request says it.
    Unsayable,
    /// It was sent, and no answer came: the source may have acted.
    Lost(Lost),
}

/// Why a source cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// No connection.
    Connect,
    /// No TLS with it.
    Tls(TlsFault),
    /// Its name has no address.
    Dns,
}

/// How an answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It did not come in time.
    Timeout,
    /// The connection broke, or what came is no proper answer.
    Broken,
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
    /// 304: it has what it had before the change.
    Unchanged,
    /// 404 or 410.
    Absent,
    /// No answer that decides; asked again later.
    Unreadable(Unreadable),
}

impl SourceState {
    /// See [`Unreadable::Unanswered`].
    pub const UNANSWERED: Self = Self::Unreadable(Unreadable::Unanswered);
}

/// Why a [`ReadSource`] decides nothing.
#[derive(Clone, Debug)]
pub enum Unreadable {
    /// The source answered with another status.
    Answered {
        /// Which one.
        status: StatusCode,
        /// Its fields.
        fields: HeaderMap,
    },
    /// It gave no whole answer, or there was no room for it.
    Unanswered,
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
