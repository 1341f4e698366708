//! Quotas: who may ask how often.

use http::HeaderName;
use std::num::NonZeroU32;
use std::time::Duration;

/// A quota (`[[route.limit]]`).
#[derive(Clone, Debug)]
pub struct QuotaSettings {
    /// The policy's name in `RateLimit-Policy`.
    pub name: String,
    /// Requests per `per`.
    pub requests: NonZeroU32,
    /// The window.
    pub per: Duration,
    /// Requests at once.
    pub burst: NonZeroU32,
    /// What is counted apart.
    pub key: QuotaKey,
    /// Whether it stops requests.
    pub mode: Mode,
    /// Which requests it counts.
    pub stage: Stage,
}

/// The partition key of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaKey {
    /// The client's address; IPv6 by /64.
    Client,
    /// The value of a request field; those without it share one.
    Header(HeaderName),
    /// All requests of the route together.
    Route,
}

/// Whether a quota stops requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It denies.
    Enforce,
    /// It only counts what it would deny.
    Shadow,
}

/// Which requests a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Every request.
    Edge,
    /// Only what is forwarded.
    Source,
}
