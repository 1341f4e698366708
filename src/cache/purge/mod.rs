//! Numbered purges and fences (I5).
//!
//! Every purge gets the next number of this gateway. A stored response carries the number that was
//! applied before its forward began, and is invalid if something that it falls under has a higher
//! one. So a purge costs the same for one response or a million, and cannot lose against a fill in
//! flight: whatever is stored late is judged again by each lookup.
//!
//! `tables` has what was purged, `log` tells other gateways and hears from them, `positions`
//! translates between this gateway's numbers and places in the log.

pub(super) mod holds;
pub(super) mod log;
mod marks;
mod positions;
mod prefixes;
pub(super) mod tables;

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// What had been purged when a forward began: a response that carries it is invalid if something
/// that it falls under was purged later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// What a purge names; every variant and identity of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Everything of one origin that carries the tag: what a response names speaks for its own origin
    /// alone (RFC 9875 2.1).
    Group {
        /// `http` or `https`.
        scheme: String,
        /// Canonical authority.
        authority: String,
        /// The tag.
        group: String,
    },
}

impl Purge {
    /// The word for metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::Path { .. } => "path",
            Self::Prefix { .. } => "prefix",
            Self::Tag(_) => "tag",
            Self::All => "all",
            Self::Group { .. } => "group",
        }
    }
}

/// Whether purged responses are gone or merely stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeMode {
    /// As if absent, even on error.
    Hard,
    /// Stale as of the purge.
    Soft,
}

impl PurgeMode {
    /// The word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

/// Who knows of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PurgeScope {
    /// This gateway; the others when Redis is back.
    Local,
    /// Redis has it.
    Shared,
}

/// A purge that was applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Applied {
    /// Grows with each purge.
    pub seq: u64,
    /// Who knows of it.
    pub scope: PurgeScope,
}

/// What the purges since its fence have made of a response; the later the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that it falls under was purged.
    Valid,
    /// Stale as of then (soft).
    StaleSince(Timestamp),
    /// Not known any more: the source must say that it is still right.
    Unverified,
    /// As if absent (hard).
    Gone,
}

/// What has changed the standing of a response, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Purges may have been missed, or too many are remembered.
    Unheard,
    /// A purge of everything.
    All,
    /// A purge of its URL.
    Url,
    /// A write of its path, or what a write names.
    Path,
    /// A purge of a beginning of its path.
    Prefix,
    /// A purge of one of its tags.
    Tag,
    /// What a response said of one of its groups (RFC 9875).
    Group,
}

impl Cause {
    /// The word for operators.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unheard => "unheard",
            Self::All => "all",
            Self::Url => "url",
            Self::Path => "path",
            Self::Prefix => "prefix",
            Self::Tag => "tag",
            Self::Group => "group",
        }
    }
}

impl Standing {
    /// The word for operators.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::StaleSince(_) => "stale",
            Self::Unverified => "unverified",
            Self::Gone => "gone",
        }
    }

    /// The stricter of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::StaleSince(one), Self::StaleSince(another)) => Self::StaleSince(one.min(another)),
            _ if other.rank() > self.rank() => other,
            _ => self,
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::StaleSince(_) => 1,
            Self::Unverified => 2,
            Self::Gone => 3,
        }
    }
}
