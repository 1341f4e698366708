//! The way of a read: what is stored, else what somebody's forward brings, else the source.

mod alone;
mod asked;
mod head;

use super::Gateway;
use super::body::Body;
use super::cache_status::{CacheStatus, StaleBy, Stored, Trouble};
use super::fill::{BeganBy, Fill, Private};
use super::forward::{self, Purpose};
use super::landing::{Landing, Shared};
use super::part;
use super::problem::{GatewayError, SourceFailure};
use super::relay;
use super::reply::{self, Answer};
use super::request::Request;
use super::route::{Route, is_partial};
use crate::cache::collapse::{Follower, Joined, Lead, Role};
use crate::cache::rules::cache_control::{Directives, Flag};
use crate::cache::rules::reuse::{Demand, Failure, Verdict, assess, demand, insists, may_use_on_failure};
use crate::cache::rules::{ForwardReason, preconditions, vary};
use crate::cache::stored::Reuse;
use crate::cache::{Cache, CacheKey, Fence, Found, Lookup, Standing, StoredResponse};
use crate::clock::Timestamp;
use crate::rate_limit::{Fields, Stage};
use alone::Because;
use asked::{Asked, accepted, as_asked};
use http::{Method, StatusCode};
use std::sync::Arc;
use tokio::sync::oneshot;

/// How often a read looks again after a flight brought another variant than it needs; then it
/// forwards for itself.
const ROUNDS_MAX: usize = 3;

/// Answers a GET or HEAD.
///
/// # Errors
/// [`GatewayError`]
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    request: Request,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let key = route.key(&request.target);
    answer_by(gateway, route, &key, request, now).await
}

/// Answers a request by what is stored, or will be, under a key.
///
/// # Errors
/// [`GatewayError`]
pub(crate) async fn answer_by(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: Request,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let asked = route.directives(&request);
    let mut reason = ForwardReason::Miss;
    if preconditions::are_for_the_source(&request.fields) {
        return for_the_source(gateway, route, key, request, now).await;
    }
    for _ in 0..ROUNDS_MAX {
        let mut lookup = gateway.cache.lookup(key, &request.fields, now).await;
        if let Some(asked) = &asked {
            lookup = match as_asked(lookup, asked, now)? {
                Asked::StaleAccepted(found) => match accepted(&found, &request, now) {
                    Some(answer) => return Ok(answer),
                    None => return relay::alone(route, request, ForwardReason::Request, now).await,
                },
                Asked::Found(lookup) => lookup,
            };
        }
        let (stale, why) = match lookup {
            Lookup::Fresh(found) => match hit(&found, &request, now) {
                Some(answer) => {
                    super::background::validate_early(gateway, route, key, &request, &found.stored, now);
                    return Ok(answer);
                }
                None => return relay::alone(route, request, ForwardReason::Request, now).await,
            },
            Lookup::StaleUsable(found) => match stale_hit(&found, &request, now) {
                Some(answer) => {
                    super::background::validate(gateway, route, key, &request, &found.stored);
                    return Ok(answer);
                }
                None => return relay::alone(route, request, ForwardReason::Request, now).await,
            },
            Lookup::MustValidate(found, why) => (Some(found.stored), why),
            Lookup::Forward(why) => (None, why),
        };
        reason = why;
        let no_store = asked.is_some_and(|asked| asked.has(Flag::NoStore));
        let asked = asked.unwrap_or_default();
        let wanted = Wanted { gateway, route, key, request: &request, asked, stale, reason, now };
        if request.method == Method::HEAD {
            return wanted.forwarded_head().await;
        }
        if no_store {
            break;
        }
        if wanted.stale.is_none() && is_partial(&request) {
            return part::answer(gateway, route, key, request, reason, now).await;
        }
        if gateway.cache.is_marked(key, now) {
            return wanted.forwarded_alone(Because::Marked).await;
        }
        match wanted.collapsed().await? {
            Outcome::Answered(answer) => return Ok(*answer),
            Outcome::OtherVariant => {}
            Outcome::Alone => return wanted.forwarded_alone(Because::Released).await,
        }
    }
    relay::alone(route, request, reason, now).await
}

/// Forwards a request whose conditions only the source can decide on.
async fn for_the_source(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: Request,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let (asked, reason) = (route.directives(&request).unwrap_or_default(), ForwardReason::Request);
    if asked.has(Flag::OnlyIfCached) {
        return Err(GatewayError::OnlyIfCached);
    }
    if request.method == Method::HEAD {
        let wanted = Wanted { gateway, route, key, request: &request, asked, stale: None, reason, now };
        return wanted.forwarded_head().await;
    }
    relay::alone(route, request, reason, now).await
}

fn hit(found: &Found, request: &Request, now: Timestamp) -> Option<Answer> {
    let status = CacheStatus::Hit { ttl: found.stored.ttl_seconds(now), tier: found.tier };
    reply::stored(&found.stored, request, now, status)
}

fn stale_hit(found: &Found, request: &Request, now: Timestamp) -> Option<Answer> {
    let ttl = found.stored.ttl_seconds(now).min(0);
    let status = CacheStatus::HitStale { ttl, by: StaleBy::WhileRevalidate };
    reply::stored(&found.stored, request, now, status)
}

/// What became of a collapsed forward for one of those who waited.
enum Outcome {
    Answered(Box<Answer>),
    /// It brought a variant that this request does not select.
    OtherVariant,
    /// It may not be shared: this request forwards for itself.
    Alone,
}

/// What a request waits for.
struct Wanted<'a> {
    gateway: &'a Arc<Gateway>,
    route: &'a Arc<Route>,
    key: &'a CacheKey,
    request: &'a Request,
    /// The request's own directives; none where the route ignores them.
    asked: Directives,
    stale: Option<Arc<StoredResponse>>,
    reason: ForwardReason,
    /// When the request arrived.
    now: Timestamp,
}

/// Whose forward it is.
enum Part {
    Leader(Leader),
    Follower,
}

/// What the one whose forward it is has of it.
struct Leader {
    private: oneshot::Receiver<Private>,
    quota: Fields,
}

impl Part {
    /// The leader's answer tells of the quotas that its forward was charged to.
    fn told(&self, answer: Answer) -> Answer {
        match self {
            Self::Leader(leader) => Answer { quota: Some(leader.quota.clone()), ..answer },
            Self::Follower => answer,
        }
    }
}

impl Wanted<'_> {
    async fn collapsed(&self) -> Result<Outcome, GatewayError> {
        let cache = &self.gateway.cache;
        // Who wants nothing that the source said earlier does not join what began earlier.
        let joins = !insists(&self.asked);
        let role = self
            .gateway
            .flights
            .join(self.key, cache.fence(), |fence| joins && is_joinable(cache, self.key, fence));
        let (mut follower, part) = match role {
            Role::Lead(lead) => {
                // Between the look and the flight somebody else's may have landed and been stored.
                let looked = cache.lookup_memory(self.key, &self.request.fields, self.now);
                if let Lookup::Fresh(found) = looked
                    && demand(&found.stored, &self.asked, self.now) == Demand::AsUsual
                {
                    lead.close();
                    lead.land(Landing::Validated(Arc::clone(&found.stored)));
                    let answer = hit(&found, self.request, self.now);
                    return Ok(answer.map_or(Outcome::Alone, |answer| Outcome::Answered(Box::new(answer))));
                }
                self.lead(lead)?
            }
            Role::Follow(follower) => (follower, Part::Follower),
            Role::Full => {
                return self.stale_or(Failure::NoGoodAnswer, Trouble::Crowded, || GatewayError::Overloaded);
            }
        };
        match tokio::time::timeout_at(self.request.deadline, follower.landed()).await {
            Err(_) => self.failed(SourceFailure::Timeout),
            Ok(None) => Err(GatewayError::Panicked),
            Ok(Some(Landing::Failed(failure))) => self.failed(failure),
            Ok(Some(Landing::Validated(stored))) => Ok(self.validated(&stored, Stored::Yes, &part)),
            Ok(Some(Landing::ValidatedOnce(stored, why))) => match part {
                Part::Leader(_) => Ok(self.validated(&stored, Stored::No(why), &part)),
                Part::Follower => Ok(Outcome::Alone),
            },
            Ok(Some(Landing::SharedOnce(shared))) => match part {
                Part::Leader(_) => Ok(self.shared(&shared, follower, &part)),
                Part::Follower => Ok(Outcome::Alone),
            },
            Ok(Some(Landing::Shared(shared))) => Ok(self.shared(&shared, follower, &part)),
            Ok(Some(Landing::Alone)) => match part {
                Part::Leader(leader) => Ok(self.private(leader).await),
                Part::Follower => Ok(Outcome::Alone),
            },
        }
    }

    /// Begins the forward in a task of its own.
    fn lead(&self, lead: Lead<Landing>) -> Result<(Follower<Landing>, Part), GatewayError> {
        let follower = lead.follow();
        let quota = self.route.admit(Stage::Source, self.request, self.now).inspect_err(|_| {
            // A denied leader does not deny its followers: each is judged by its own quota.
            lead.close();
            lead.land(Landing::Alone);
        })?;
        let fill = fill(self.gateway, self.route, self.key, self.request, self.stale.clone(), self.reason);
        let (private, receiver) = oneshot::channel();
        self.gateway.tasks.spawn(fill.run(lead, Some(private)));
        Ok((follower, Part::Leader(Leader { private: receiver, quota })))
    }

    fn validated(&self, stored: &StoredResponse, kept: Stored, part: &Part) -> Outcome {
        if !vary::matches(&stored.selecting_fields, &self.request.fields) {
            return Outcome::OtherVariant;
        }
        let status = self.forwarded_status(StatusCode::NOT_MODIFIED, kept, part);
        let now = self.gateway.clock.now();
        let answer = reply::stored(stored, self.request, now, status);
        answer.map_or(Outcome::Alone, |answer| Outcome::Answered(Box::new(part.told(answer))))
    }

    fn shared(&self, shared: &Shared, interest: Follower<Landing>, part: &Part) -> Outcome {
        if !vary::matches(&shared.head.selecting_fields, &self.request.fields) {
            return Outcome::OtherVariant;
        }
        let now = self.gateway.clock.now();
        if interest.joined() == Joined::AfterLanding && assess(&shared.head, now) != Verdict::Fresh {
            return Outcome::Alone;
        }
        if let Some(failure) = Failure::of_status(shared.head.status)
            && let Some(answer) = self.stale_answer(failure, Trouble::Answered(shared.head.status))
        {
            return Outcome::Answered(Box::new(answer));
        }
        let status = self.forwarded_status(shared.head.status, shared.stored, part);
        // A reader that comes when the beginning is gone already forwards for itself.
        let Some(reader) = shared.body.reader() else { return Outcome::Alone };
        let body = Body::growing(reader, shared.length, interest);
        Outcome::Answered(Box::new(part.told(reply::growing(shared, self.request, body, now, status))))
    }

    async fn private(&self, leader: Leader) -> Outcome {
        let Ok((response, why)) = leader.private.await else { return Outcome::Alone };
        if let Some(failure) = Failure::of_status(response.status())
            && let Some(answer) = self.stale_answer(failure, Trouble::Answered(response.status()))
        {
            return Outcome::Answered(Box::new(answer));
        }
        let status = CacheStatus::Forwarded {
            reason: self.reason,
            status: response.status(),
            stored: Stored::No(why),
        };
        let quota = Some(leader.quota);
        let response = reply::private(response, self.request, self.gateway.clock.now());
        Outcome::Answered(Box::new(Answer { response, status, quota }))
    }

    fn forwarded_status(&self, status: StatusCode, stored: Stored, part: &Part) -> CacheStatus {
        match part {
            Part::Leader(_) => CacheStatus::Forwarded { reason: self.reason, status, stored },
            Part::Follower => CacheStatus::Collapsed { reason: self.reason, status },
        }
    }

    fn failed(&self, failure: SourceFailure) -> Result<Outcome, GatewayError> {
        self.stale_or(kind(failure), Trouble::NoAnswer(failure), || self.no_answer(failure))
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
        let now = self.gateway.clock.now();
        // Purged since it was found, it is as if absent, even now.
        let gone = self.gateway.cache.standing(self.key, Some(&stored.tags), stored.fence) == Standing::Gone;
        if gone || !may_use_on_failure(stored, now, failure) {
            return None;
        }
        let status = CacheStatus::StaleIfError { trouble, ttl: stored.ttl_seconds(now).min(0) };
        reply::stored(stored, self.request, now, status)
    }
}

/// What a failure is to a stale response.
const fn kind(failure: SourceFailure) -> Failure {
    if failure.is_disconnect() { Failure::Disconnected } else { Failure::NoGoodAnswer }
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
    }
}
