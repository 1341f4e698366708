//! A read whose route honours the request's own Cache-Control (RFC 9111 5.2.1).

use crate::cache::rules::ForwardReason;
use crate::cache::rules::cache_control::{Directives, Flag};
use crate::cache::rules::reuse::{Demand, demand};
use crate::cache::{Found, Lookup};
use crate::clock::Timestamp;
use crate::gateway::cache_status::{CacheStatus, StaleBy};
use crate::gateway::problem::GatewayError;
use crate::gateway::reply::{self, Answer};
use crate::gateway::request::Request;

/// What is stored, as the request's own directives see it (RFC 9111 5.2.1).
pub(super) enum Asked {
    /// As if they were not there; what does not suit them has to be validated.
    Found(Lookup),
    /// It is stale, and within the request's `max-stale`.
    StaleAccepted(Found),
}

pub(super) fn as_asked(lookup: Lookup, asked: &Directives, now: Timestamp) -> Result<Asked, GatewayError> {
    let suited = match lookup {
        Lookup::Fresh(found) | Lookup::StaleUsable(found)
            if demand(&found.stored, asked, now) == Demand::Validate =>
        {
            Lookup::MustValidate(found, ForwardReason::Request)
        }
        Lookup::MustValidate(found, _) if demand(&found.stored, asked, now) == Demand::StaleIsFine => {
            return Ok(Asked::StaleAccepted(found));
        }
        lookup => lookup,
    };
    let needs_the_source = matches!(suited, Lookup::MustValidate(..) | Lookup::Forward(_));
    if needs_the_source && asked.has(Flag::OnlyIfCached) {
        return Err(GatewayError::OnlyIfCached);
    }
    Ok(Asked::Found(suited))
}

pub(super) fn accepted(found: &Found, request: &Request, now: Timestamp) -> Answer {
    let ttl = found.stored.ttl_seconds(now).min(0);
    reply::stored(&found.stored, request, now, CacheStatus::HitStale { ttl, by: StaleBy::MaxStale })
}
