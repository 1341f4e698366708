//! The way of a read: what is stored, else what somebody's forward brings, else the source.

mod alone;
mod collapsed;
mod foreseen;
mod head;
mod judged;
mod ranged;
mod shared;

pub(crate) use foreseen::{Foreseen, foresee, hindered};
pub(crate) use judged::{Judged, Way, judge};

use super::Gateway;
use super::background;
use super::cache_status::{CacheStatus, StaleBy, Trouble};
use super::fill::{Among, BeganBy, Fill, Wants};
use super::forward::{self, Purpose};
use super::part;
use super::problem::{GatewayError, SourceFailure};
use super::relay;
use super::reply::{self, Answer};
use super::request::Request;
use super::route::Route;
use super::strict::Refusal;
use crate::cache::collapse::Lane;
use crate::cache::rules::cache_control::{Directives, Flag};
use crate::cache::rules::reuse::{Failure, insists, may_use_on_failure};
use crate::cache::rules::{ForwardReason, preconditions};
use crate::cache::stored::Reuse;
use crate::cache::{Cache, CacheKey, Fence, Floor, Found, Standing, StoredResponse};
use crate::clock::Timestamp;
use alone::Because;
use collapsed::Outcome;
use http::Method;
use ranged::Parted;
use std::sync::Arc;

/// How often a read looks for what answers it: again after a flight that brought nothing to it. Then it
/// forwards for itself.
const ROUNDS_MAX: usize = 3;

/// Answers a GET or HEAD.
///
/// # Errors
/// [`GatewayError`]
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    request: Box<Request>,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let key = route.key(&request.target, &request.fields);
    answer_by(gateway, route, &key, request, now).await
}

/// Answers a request by what is stored, or will be, under a key. What waits is boxed: a hit moves none of it.
///
/// # Errors
/// [`GatewayError`]
pub(crate) async fn answer_by(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: Box<Request>,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let asked = route.directives(&request);
    let (mut reason, mut lane) = (ForwardReason::Miss, Lane::Any);
    if preconditions::are_for_the_source(request.asking()) {
        return Box::pin(for_the_source(gateway, route, key, request, now)).await;
    }
    let floor = match &request.min_version {
        None => Floor::None,
        Some(_) => Box::pin(floor(gateway, &request)).await?,
    };
    for _ in 0..ROUNDS_MAX {
        let lookup = gateway.cache.lookup(key, &request.fields, now, &request.patience).await;
        let (stale, why) = match judge(lookup, asked.as_ref(), floor, now)? {
            Judged::Fresh(found) => {
                background::validate_early(gateway, route, key, &request, &found.stored, now);
                return Ok(hit(&found, &request, now));
            }
            Judged::Stale(found, by) => {
                if by == StaleBy::WhileRevalidate {
                    background::validate(gateway, route, key, &request, &found.stored);
                }
                return Ok(stale_hit(&found, &request, now, by));
            }
            Judged::Validate(found, why) => (Some(found.stored), why),
            Judged::Forward(why) => (None, why),
        };
        reason = why;
        let way = Way::of(&request, asked.as_ref(), stale.as_ref());
        let asked = asked.unwrap_or_default();
        let wanted = Wanted { gateway, route, key, request: &request, asked, stale, reason, floor, now };
        match way {
            Way::HeadAlone => return Box::pin(wanted.forwarded_head(Because::Asked)).await,
            Way::Head if is_marked_for_heads(&gateway.cache, key, now) => {
                return Box::pin(wanted.forwarded_head(Because::Marked)).await;
            }
            Way::Head => return Box::pin(wanted.head()).await,
            Way::Alone => break,
            Way::Part => match Box::pin(wanted.part()).await? {
                Parted::Answered(answer) => return Ok(*answer),
                Parted::Again => continue,
                Parted::Alone(reason) => {
                    return Box::pin(part::fetch(gateway, route, key, request, reason, now)).await;
                }
            },
            Way::Fill => {}
        }
        if gateway.cache.is_marked(key, now) {
            return Box::pin(wanted.forwarded_alone(Because::Marked)).await;
        }
        match Box::pin(wanted.collapsed(lane)).await? {
            Outcome::Answered(answer) => return Ok(*answer),
            Outcome::OtherVariant(own) => lane = own,
            Outcome::TooLate | Outcome::Released => {}
            Outcome::Alone => return Box::pin(wanted.forwarded_alone(Because::Released)).await,
        }
    }
    Box::pin(relay::alone(route, request, reason, now)).await
}

/// Whether nobody waits for another's HEAD: of what may not be stored for GET, or for HEAD.
fn is_marked_for_heads(cache: &Cache, key: &CacheKey, now: Timestamp) -> bool {
    cache.is_marked(key, now) || cache.is_marked(&key.of_head(), now)
}

/// Forwards a request whose conditions only the source can decide on.
async fn for_the_source(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: Box<Request>,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let (asked, reason) = (route.directives(&request), ForwardReason::Request);
    judged::for_the_source(asked.as_ref())?;
    let asked = asked.unwrap_or_default();
    if request.method == Method::HEAD {
        // Nothing that is stored answers it.
        let (stale, floor) = (None, Floor::None);
        let wanted = Wanted { gateway, route, key, request: &request, asked, stale, reason, floor, now };
        return wanted.forwarded_head(Because::Asked).await;
    }
    relay::alone(route, request, reason, now).await
}

/// How old an answer may be for a reader that has seen a write (I6).
async fn floor(gateway: &Gateway, request: &Request) -> Result<Floor, GatewayError> {
    let Some(token) = request.min_version.as_deref() else { return Ok(Floor::None) };
    let floor = gateway.cache.floor(*token, request.deadline).await;
    floor.map_err(|_| GatewayError::Refused(Refusal::MinVersion))
}

fn hit(found: &Found, request: &Request, now: Timestamp) -> Answer {
    let status = CacheStatus::Hit { ttl: found.stored.ttl_seconds(now), tier: found.tier };
    reply::stored(&found.stored, request, now, status)
}

fn stale_hit(found: &Found, request: &Request, now: Timestamp, by: StaleBy) -> Answer {
    let ttl = found.stored.ttl_seconds(now).min(0);
    let status = CacheStatus::HitStale { ttl, by };
    reply::stored(&found.stored, request, now, status)
}

/// What a request waits for.
pub(crate) struct Wanted<'a> {
    gateway: &'a Arc<Gateway>,
    route: &'a Arc<Route>,
    key: &'a CacheKey,
    request: &'a Request,
    /// The request's own directives; none where the route ignores them.
    asked: Directives,
    stale: Option<Arc<StoredResponse>>,
    reason: ForwardReason,
    /// How old the answer may be (I6).
    floor: Floor,
    /// When the request arrived.
    now: Timestamp,
}

impl Wanted<'_> {
    fn failed(&self, failure: SourceFailure) -> Result<Outcome, GatewayError> {
        self.instead_of(failure).map(|answer| Outcome::Answered(Box::new(answer)))
    }

    /// What there is where the source gives no answer.
    fn instead_of(&self, failure: SourceFailure) -> Result<Answer, GatewayError> {
        let stale = self.stale_answer(kind(failure), Trouble::NoAnswer(failure));
        stale.ok_or_else(|| self.no_answer(failure))
    }

    /// The error where there is no answer: its own where what is stored may only be used validated
    /// (RFC 9111 5.2.2.2).
    fn no_answer(&self, failure: SourceFailure) -> GatewayError {
        let must_validate = |stored: &Arc<StoredResponse>| stored.reuse == Reuse::WhileFresh;
        if self.stale.as_ref().is_some_and(must_validate) && failure.is_disconnect() {
            return GatewayError::Unvalidated(failure);
        }
        GatewayError::Source(failure, self.reason)
    }

    fn stale_or(
        &self,
        failure: Failure,
        trouble: Trouble,
        error: impl FnOnce() -> GatewayError,
    ) -> Result<Outcome, GatewayError> {
        self.stale_answer(failure, trouble)
            .map(|answer| Outcome::Answered(Box::new(answer)))
            .ok_or_else(error)
    }

    /// What is stored and stale, where a failure allows it (RFC 5861 4).
    fn stale_answer(&self, failure: Failure, trouble: Trouble) -> Option<Answer> {
        let stored = self.stale.as_deref().filter(|_| !self.asked.has(Flag::NoCache))?;
        if !self.floor.admits(stored.fence) {
            return None;
        }
        let now = self.gateway.clock.now();
        // Purged since it was found, it is as if absent, even now.
        let gone = self.gateway.cache.standing(self.key, Some(&stored.tags), stored.fence) == Standing::Gone;
        if gone || !may_use_on_failure(stored, now, failure) {
            return None;
        }
        let status = CacheStatus::StaleIfError { trouble, ttl: stored.ttl_seconds(now).min(0) };
        Some(reply::stored(stored, self.request, now, status))
    }
}

/// What a failure is to a stale response.
const fn kind(failure: SourceFailure) -> Failure {
    if failure.is_disconnect() { Failure::Disconnected } else { Failure::NoGoodAnswer }
}

impl Wanted<'_> {
    /// Whether a flight that began at `fence` may be joined (I5, I6).
    fn joins(&self, fence: Fence) -> bool {
        // Who wants nothing that the source said earlier does not join what began earlier.
        !insists(&self.asked) && self.floor.admits(fence) && is_joinable(&self.gateway.cache, self.key, fence)
    }
}

/// Whether a flight that began at `fence` may still be joined: nothing that its key falls under, or may
/// fall under by a tag that is not known yet, was purged since (I5).
pub(crate) fn is_joinable(cache: &Cache, key: &CacheKey, fence: Fence) -> bool {
    cache.standing(key, None, fence) == Standing::Valid
}

/// What fills the cache for a request.
pub(crate) fn fill(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: &Request,
    stale: Option<Arc<StoredResponse>>,
    reason: ForwardReason,
) -> Fill {
    Fill {
        gateway: Arc::clone(gateway),
        route: Arc::clone(route),
        key: key.clone(),
        head: forward::head(route, request, Purpose::Fill),
        request_fields: request.fields.clone(),
        stale,
        reason,
        began_by: BeganBy::Request,
        wants: Wants::Whole,
        among: Among::Nobody,
    }
}
