//! What a fill lands for everybody who waits for it.

use super::cache_status::Stored;
use super::problem::SourceFailure;
use crate::cache::growing::Growing;
use crate::cache::rules::{NoStoreReason, vary};
use crate::cache::{Found, StoredResponse};
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// What a fill lands. Cheap to clone: every follower gets one.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// A head that may be shared, and the body that grows.
    Shared(Arc<Shared>),
    /// As [`Landing::Shared`], but for the leader alone: it is stored to be validated before each use.
    SharedOnce(Arc<Shared>),
    /// The source confirmed what was stored (304): here it is, freshened.
    Validated(Arc<StoredResponse>),
    /// Another replica has brought it meanwhile.
    Found(Found),
    /// The source confirmed it, and that it may not be kept (`private`, `no-store`): for the leader.
    ValidatedOnce(Arc<StoredResponse>, NoStoreReason),
    /// The answer may not be shared: everyone forwards for themselves.
    Alone,
    /// There was no answer.
    Failed(SourceFailure),
}

/// Whom a landing answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody who waited.
    All,
    /// The one whose forward it was; the others forward for themselves.
    Leader,
}

impl Landing {
    /// Whether it answers a request with these fields whose own forward was slower: not where it is for
    /// another alone, or another variant.
    pub(crate) fn spares(&self, request: &HeaderMap) -> bool {
        match self {
            Self::Failed(_) => true,
            Self::Shared(shared) => vary::matches(&shared.head.selecting_fields, request),
            Self::Found(found) => vary::matches(&found.stored.selecting_fields, request),
            Self::Validated(stored) => vary::matches(&stored.selecting_fields, request),
            Self::SharedOnce(_) | Self::ValidatedOnce(..) | Self::Alone => false,
        }
    }
}

/// An answer that several get.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The head, as it would be stored; its body is empty.
    pub head: StoredResponse,
    /// The content, as it comes.
    pub body: Arc<Growing>,
    /// The length that the source declared.
    pub length: Option<u64>,
    pub stored: Stored,
    /// Age as the source sent it, for whom the answer passes straight through.
    pub age: Vec<HeaderValue>,
    /// The Range that was asked for; whatever came but the whole answers nobody who asked for another.
    pub range: Option<HeaderValue>,
    /// The trailers that the source announced, as a value of `Trailer`.
    pub announced: Option<HeaderValue>,
}
