//! Numbered purges and fences (I5).

use serde::Serialize;

/// What had been purged when a forward began: a response that carries it is invalid if something
/// that it falls under was purged later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// What a purge names; every variant and identity of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// One target: authority, path and query.
    Url {
        /// Canonical authority.
        authority: String,
        /// Canonical path, with `?query` where there is one.
        path_and_query: String,
    },
    /// A path of an authority with every query; what a write makes old.
    Path {
        /// Canonical authority.
        authority: String,
        /// Canonical path.
        path: String,
    },
    /// Every path that begins so.
    Prefix {
        /// Canonical authority; `None`: any.
        authority: Option<String>,
        /// The canonical beginning.
        path: String,
    },
    /// Everything that carries the tag.
    Tag(String),
    /// Everything.
    All,
}

/// Whether purged responses are gone or merely stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeMode {
    /// As if absent, even on error.
    Hard,
    /// Stale as of the purge.
    Soft,
}

/// Who knows of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeScope {
    /// This gateway; the others when Redis is back.
    Local,
    /// Redis has it.
    Shared,
}

/// A purge that was applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Grows with each purge.
    pub seq: u64,
    /// Who knows of it.
    pub scope: PurgeScope,
}
