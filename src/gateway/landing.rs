//! What a fill lands for everybody who waits for it.

use super::problem::SourceFailure;
use crate::cache::StoredResponse;
use crate::cache::growing::Growing;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;

/// What a fill lands. Cheap to clone: every follower gets one.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// A head that may be shared, and the body that grows.
    Shared(Arc<Shared>),
    /// The source confirmed what is stored (304): here it is, freshened.
    Validated(Arc<StoredResponse>),
    /// The answer may not be shared: everyone forwards for themselves.
    Alone,
    /// There was no answer.
    Failed(SourceFailure),
}

/// An answer that several get.
#[derive(Debug)]
pub(crate) struct Shared {
    pub status: StatusCode,
    /// The end-to-end fields.
    pub fields: HeaderMap,
    /// The request fields that select it, as in a stored response.
    pub selecting_fields: Vec<(HeaderName, Option<HeaderValue>)>,
    pub body: Arc<Growing>,
    /// The length that the source declared.
    pub length: Option<u64>,
    pub stored: super::cache_status::Stored,
}
