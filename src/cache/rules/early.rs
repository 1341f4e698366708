//! Validating a fresh response before its freshness ends, so that the end of a response that many ask for
//! is noticed by nobody: optimal probabilistic early expiration. A hit decides for itself whether it is the
//! one, the likelier the nearer the end and the longer a forward takes.

use crate::cache::stored::{Reuse, Span, StoredResponse};
use crate::clock::Timestamp;
use std::time::Duration;

/// Shorter lifetimes simply end.
pub const LIFETIME_MIN: Duration = Duration::from_secs(10);

/// How many forward times before the end the chance is one in a million, ln(10^6): no hit draws before.
const REACH: f64 = 13.815_510_557_964_274;

/// What was decided when a response was stored: how long its forward took, smoothed with the one before,
/// and from which age on a hit draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    forward: Span,
    from: Span,
}

impl Early {
    /// No hit draws.
    pub const NEVER: Self = Self { forward: Span::ZERO, from: Span::MAX };

    /// For a response that took `forward` to get and is fresh for `lifetime` from age zero.
    #[must_use]
    pub fn decide(forward: Duration, lifetime: Duration, reuse: Reuse) -> Self {
        let reach = Duration::try_from_secs_f64(forward.as_secs_f64() * REACH).unwrap_or(Duration::MAX);
        let from = match reuse {
            // Nothing is gained: it is asked about before each use.
            Reuse::ValidateAlways => Duration::MAX,
            _ if lifetime < LIFETIME_MIN || forward.is_zero() => Duration::MAX,
            Reuse::WhileFresh | Reuse::WithStale { .. } => lifetime.saturating_sub(reach),
        };
        Self { forward: forward.into(), from: from.into() }
    }

    /// How long a forward for the response takes, as far as is known.
    #[must_use]
    pub const fn forward_time(self) -> Duration {
        self.forward.duration()
    }
}

/// A response that takes the place of `before`: what was known of forwards counts half, if anything was.
#[must_use]
pub fn smoothed(stored: StoredResponse, before: &StoredResponse) -> StoredResponse {
    let (known, new) = (before.early.forward_time(), stored.early.forward_time());
    let forward = if known.is_zero() { new } else { known.saturating_add(new) / 2 };
    let early = Early::decide(forward, stored.freshness_lifetime.duration(), stored.reuse);
    StoredResponse { early, ..stored }
}

/// Whether a hit has to draw at all: almost always not.
#[must_use]
pub fn draws(stored: &StoredResponse, now: Timestamp) -> bool {
    stored.current_age(now) >= stored.early.from.duration()
}

/// Whether a hit on a fresh response is the one that has it validated: `now + d * ln(1/u) >= expiry`, `d`
/// the forward time. `draw` is `u`, uniform in (0, 1].
#[must_use]
pub fn is_due(stored: &StoredResponse, now: Timestamp, draw: f64) -> bool {
    let left = stored.freshness_lifetime.duration().saturating_sub(stored.current_age(now));
    draws(stored, now) && stored.early.forward_time().as_secs_f64() * -draw.ln() >= left.as_secs_f64()
}

#[cfg(test)]
mod tests;
