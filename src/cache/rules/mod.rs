//! The rules of RFC 9111, a file per section. Pure: no I/O, no clock, no async; `now` is a value.
//!
//! A head arrives: [`storable::may_share`] for who waited, [`storable::admit`] for who comes later,
//! [`partial::admit`] for parts. A stored response is found by [`key`] and [`vary`]; [`reuse::assess`]
//! says what may be done with it, [`early`] when a fresh one is validated all the same, [`preconditions`]
//! and [`range`] how much of it is sent, [`validation`] how the source is asked about it. [`invalidation`] says what a write makes old, [`post`] what of its
//! answer may serve reads.

pub mod cache_control;
pub mod content_range;
pub mod date;
pub mod early;
pub mod entity_tag;
pub mod freshness;
pub mod hop_by_hop;
pub mod identity;
pub mod incremental;
pub mod invalidation;
pub mod key;
#[cfg(test)]
mod oracle;
pub mod part_fields;
pub mod partial;
pub mod post;
pub mod preconditions;
pub mod range;
pub mod reuse;
pub mod storable;
pub mod stored_fields;
pub mod tags;
pub mod validation;
pub mod vary;

use super::purge::Fence;
use crate::clock::Timestamp;
use http::{HeaderMap, Method, StatusCode};

/// What the rules look at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its fields.
    pub fields: &'a HeaderMap,
}

/// What the rules look at in a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// Its final status.
    pub status: StatusCode,
    /// Its fields, as they came.
    pub fields: &'a HeaderMap,
}

/// One forward, as far as the rules need it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// When its request was sent (RFC 9111 4.2.3, `request_time`).
    pub requested_at: Timestamp,
    /// When its response's head arrived (`response_time`).
    pub received_at: Timestamp,
    /// What had been purged before it began (I5).
    pub fence: Fence,
    /// Uniform in 0 to 1: how much of the allowed tenth is taken off guessed freshness, so that what
    /// was stored together does not end together.
    pub jitter: f64,
}

/// Why a request was forwarded (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardReason {
    /// The route does not store.
    Bypass,
    /// The method's answers are not stored.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, nothing for these selecting fields.
    VaryMiss,
    /// Nothing is stored, and it is not known for what of the two.
    Miss,
    /// The request asked for it.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part is stored.
    Partial,
}

impl ForwardReason {
    /// RFC 9211's token, used in field, log and metric alike.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// Why a response was not stored or not reused (read by people: `detail` in Cache-Status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoStoreReason {
    /// `private`.
    Private,
    /// `no-store`.
    NoStore,
    /// Set-Cookie, where the route does not store it.
    SetCookie,
    /// Authorization without `public`, `s-maxage` or `must-revalidate` (RFC 9111 3.5).
    Authorization,
    /// `Vary: *`.
    VaryStar,
    /// Larger than every tier takes.
    TooLarge,
    /// There is no room to hold it until it is complete.
    Overload,
    /// A status that may not be stored.
    Status,
    /// Nothing says how long it is fresh, and it has no validator.
    NoFreshness,
    /// The source was asked before a purge, it answered after.
    Purged,
    /// A method whose answers are not stored.
    Method,
    /// The route does not store.
    Bypass,
    /// The request said `no-store`, and the route honours it.
    ClientNoStore,
    /// It answers a range, and is neither known to be a whole nor a part that may be used for others
    /// (RFC 9111 3.3).
    Partial,
    /// The one before could not be stored: nobody waited for this one, and it cannot be stored either.
    HitForMiss,
}

impl NoStoreReason {
    /// The word for field, log and metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::NoStore => "no-store",
            Self::SetCookie => "set-cookie",
            Self::Authorization => "authorization",
            Self::VaryStar => "vary-star",
            Self::TooLarge => "too-large",
            Self::Overload => "overload",
            Self::Status => "status",
            Self::NoFreshness => "no-freshness",
            Self::Purged => "purged",
            Self::Method => "method",
            Self::Bypass => "bypass",
            Self::ClientNoStore => "client-no-store",
            Self::Partial => "partial",
            Self::HitForMiss => "hit-for-miss",
        }
    }
}
