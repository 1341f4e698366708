//! Whether a stored response may be used now (RFC 9111 4, 4.2.4; RFC 5861).

use super::cache_control::{Directives, Flag};
use super::freshness::Lifetime;
use crate::cache::policy::Policy;
use crate::cache::stored::{Reuse, Span, StoredResponse};
use crate::clock::Timestamp;
use http::StatusCode;
use std::time::Duration;

/// No window of stale use is longer.
pub const STALE_WINDOW_MAX: Duration = Duration::from_hours(24);

/// Kept beyond freshness and windows, so that it can still be validated instead of fetched.
pub const KEPT_FOR_VALIDATION: Duration = Duration::from_mins(10);

/// What may be done with a stored response that a request selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer with it.
    Fresh,
    /// Answer with it and validate it in the background (RFC 5861 3).
    StaleWhileRevalidate,
    /// Ask the source first.
    MustValidate,
}

/// How the source failed to give a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be reached, or closed without an answer.
    Disconnected,
    /// It answered an error, or too late, or is not asked while its breaker is open.
    NoGoodAnswer,
}

impl Failure {
    /// The failure that a status means, if it means one (RFC 5861 4).
    #[must_use]
    pub fn of_status(status: StatusCode) -> Option<Self> {
        matches!(status.as_u16(), 500 | 502 | 503 | 504).then_some(Self::NoGoodAnswer)
    }
}

/// What a request's own directives make of a verdict (RFC 9111 5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The verdict stands.
    AsUsual,
    /// Ask the source first.
    Validate,
    /// It may be used although it is stale.
    StaleIsFine,
}

/// What may be done with it at `now`.
#[must_use]
pub fn assess(stored: &StoredResponse, now: Timestamp) -> Verdict {
    let age = stored.current_age(now);
    match stored.reuse {
        Reuse::ValidateAlways => Verdict::MustValidate,
        _ if age < stored.freshness_lifetime.duration() => Verdict::Fresh,
        Reuse::WithStale { while_revalidate, .. } if is_within(stored, age, while_revalidate) => {
            Verdict::StaleWhileRevalidate
        }
        _ => Verdict::MustValidate,
    }
}

/// Whether it may be used because the source failed (RFC 5861 4, RFC 9111 4.2.4).
#[must_use]
pub fn may_use_on_failure(stored: &StoredResponse, now: Timestamp, failure: Failure) -> bool {
    let age = stored.current_age(now);
    match stored.reuse {
        Reuse::ValidateAlways => false,
        _ if age < stored.freshness_lifetime.duration() => true,
        Reuse::WhileFresh => false,
        Reuse::WithStale { if_error, on_disconnect, .. } => {
            let disconnected = failure == Failure::Disconnected && is_within(stored, age, on_disconnect);
            disconnected || is_within(stored, age, if_error)
        }
    }
}

/// Whether the request's directives refuse what the source said before they came: such a request waits
/// for no forward but its own (5.2.1.1, 5.2.1.4).
#[must_use]
pub fn insists(request: &Directives) -> bool {
    request.has(Flag::NoCache) || request.max_age.is_some_and(|oldest| oldest.is_zero())
}

/// What the request's directives demand, where the route honours them. `no-store` does not keep a stored
/// response from being used (5.2.1.5); `only-if-cached` is answered 504 by whoever would forward.
#[must_use]
pub fn demand(stored: &StoredResponse, request: &Directives, now: Timestamp) -> Demand {
    let age = stored.current_age(now);
    let left = stored.freshness_lifetime.duration().checked_sub(age).filter(|left| !left.is_zero());
    let tolerable = match stored.reuse {
        Reuse::ValidateAlways | Reuse::WhileFresh => Duration::ZERO,
        Reuse::WithStale { on_request, .. } => on_request.duration(),
    };
    let stale_allowed =
        |by: Duration| request.max_stale.is_some_and(|longest| by <= longest) && by < tolerable;
    if request.has(Flag::NoCache)
        || stored.reuse == Reuse::ValidateAlways
        || request.max_age.is_some_and(|oldest| age > oldest)
    {
        return Demand::Validate;
    }
    match left {
        Some(left) if request.min_fresh.is_some_and(|least| left < least) => Demand::Validate,
        None if stale_allowed(age.saturating_sub(stored.freshness_lifetime.duration())) => {
            Demand::StaleIsFine
        }
        // Who bounds the age and tolerates no staleness wants none (5.2.1.1).
        None if request.min_fresh.is_some() || request.max_age.is_some() => Demand::Validate,
        _ => Demand::AsUsual,
    }
}

/// Decides, when a response is stored, how it may be reused.
///
/// `s-maxage` stands for `proxy-revalidate` too (5.2.2.10): it forbids what the route would add, not the
/// windows that the source itself states. So does a response without any freshness.
pub(super) fn decide(directives: &Directives, lifetime: Option<Lifetime>, policy: &Policy) -> Reuse {
    if directives.has(Flag::NoCache) {
        return Reuse::ValidateAlways;
    }
    if directives.has(Flag::MustRevalidate) || directives.has(Flag::ProxyRevalidate) {
        return Reuse::WhileFresh;
    }
    let route_decides = does_route_decide(directives, lifetime.map(|lifetime| lifetime.duration));
    let window = |stated: Option<Duration>, given: Duration| {
        let given = if route_decides { given } else { Duration::ZERO };
        Span::from(stated.unwrap_or(given).min(STALE_WINDOW_MAX))
    };
    let disconnected = if policy.stale_on_disconnect { STALE_WINDOW_MAX } else { Duration::ZERO };
    Reuse::WithStale {
        while_revalidate: window(directives.stale_while_revalidate, policy.stale_while_revalidate),
        if_error: window(directives.stale_if_error, policy.stale_if_error),
        on_disconnect: window(None, disconnected),
        on_request: if route_decides { Span::MAX } else { Span::ZERO },
    }
}

/// Whether the windows that a response does not state are the route's.
#[must_use]
pub fn does_route_decide(directives: &Directives, lifetime: Option<Duration>) -> bool {
    lifetime.is_some() && directives.s_maxage.is_none()
}

/// How long after `received_at` it is of any use; a tier keeps it no longer.
#[must_use]
pub fn retention(stored: &StoredResponse) -> Duration {
    let fresh = stored.freshness_lifetime.duration().saturating_sub(stored.initial_age.duration());
    let window = match stored.reuse {
        Reuse::ValidateAlways | Reuse::WhileFresh => Duration::ZERO,
        // What is served beyond that on request is what happens to be there still.
        Reuse::WithStale { while_revalidate, if_error, on_disconnect, .. } => {
            while_revalidate.max(if_error).max(on_disconnect).duration()
        }
    };
    fresh.saturating_add(window).saturating_add(KEPT_FOR_VALIDATION)
}

fn is_within(stored: &StoredResponse, age: Duration, window: Span) -> bool {
    age < stored.freshness_lifetime.duration().saturating_add(window.duration())
}

#[cfg(test)]
mod tests;
