//! The way of a HEAD that nothing stored answers. It stays a HEAD: who wants no content makes nobody send
//! it. A GET's forward that is under way answers it too; else HEADs collapse among themselves. What the
//! source says of the representation updates what is stored of it (RFC 9111 4.3.5).

use super::Wanted;
use super::collapsed::{Outcome, Part};
use crate::cache::collapse::{Lane, Lead, Role};
use crate::cache::growing::Growing;
use crate::cache::rules::reuse::{Demand, Failure, Verdict, assess, demand};
use crate::cache::rules::{Exchange, ForwardReason, NoStoreReason, RequestHead, ResponseHead};
use crate::cache::rules::{preconditions, storable};
use crate::cache::{CacheKey, Found, Lookup, StoredResponse};
use crate::gateway::Gateway;
use crate::gateway::body::Body;
use crate::gateway::cache_status::{CacheStatus, Stored, Trouble};
use crate::gateway::forward::{self, Head, Purpose};
use crate::gateway::forwarded;
use crate::gateway::freshening::Freshening;
use crate::gateway::landing::{Landing, Shared};
use crate::gateway::problem::{GatewayError, SourceFailure};
use crate::gateway::reply::{self, Answer};
use crate::gateway::route::Route;
use crate::in_flight::Work;
use crate::source::SourceBody;
use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, VIA};
use http::{HeaderMap, Method, Response, StatusCode};
use std::sync::Arc;
use tokio::sync::oneshot;

impl Wanted<'_> {
    /// Answers a HEAD by another request's forward, or leads one for all that ask alike.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn head(&self) -> Result<Answer, GatewayError> {
        let cache = &self.gateway.cache;
        let holds = |fence| self.joins(fence);
        if let Some(follower) = self.gateway.flights.join_running(self.key, Lane::Any, holds)
            && let Outcome::Answered(answer) = self.awaited(follower, Part::Follower, Lane::Any).await?
        {
            return Ok(*answer);
        }
        let outcome = match self.gateway.flights.join(self.key, Lane::Head, cache.fence(), holds) {
            Role::Lead(lead) => return self.forwarded_head(Some(lead)).await,
            Role::Follow(follower) => self.awaited(follower, Part::Follower, Lane::Head).await?,
            Role::Full(landed) => self.crowded(landed, Lane::Head).await?,
        };
        match outcome {
            Outcome::Answered(answer) => Ok(*answer),
            Outcome::OtherVariant(_) | Outcome::TooLate | Outcome::Alone => self.forwarded_head(None).await,
        }
    }

    /// Forwards it, updates what is stored, and passes the answer on; where there is no good one, a stale
    /// response answers if it may. `lead`: for whom else.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn forwarded_head(&self, lead: Option<Lead<Landing>>) -> Result<Answer, GatewayError> {
        if let Some(answer) = self.known_by_head().await {
            // Those who follow find it too.
            release(lead.as_ref());
            return Ok(answer);
        }
        // A denied leader does not deny its followers.
        let admitted = self.route.admitted(self.request, self.now).await;
        let quota = admitted.inspect_err(|_| release(lead.as_ref()))?;
        let (sender, receiver) = oneshot::channel();
        let for_others = lead.is_some();
        self.gateway.tasks.spawn(self.head_forward().run(lead, sender));
        let response = match tokio::time::timeout_at(self.request.deadline, receiver).await {
            Err(_) => Err(SourceFailure::Timeout),
            // Its task ended without a word: who led for others goes on alone, as they do.
            Ok(Err(_)) if for_others => return Box::pin(self.forwarded_head(None)).await,
            Ok(Err(_)) => return Err(GatewayError::Panicked),
            Ok(Ok(answered)) => answered,
        };
        let (response, stored) = match response {
            Ok(answered) => answered,
            Err(failure) => return self.instead_of(failure),
        };
        let status = response.status();
        if let Some(failure) = Failure::of_status(status)
            && let Some(answer) = self.stale_answer(failure, Trouble::Answered(status))
        {
            return Ok(answer);
        }
        let status = CacheStatus::Forwarded { reason: self.reason, status, stored };
        Ok(Answer { response: response.map(Body::forwarded), status, quota: Some(quota) })
    }

    /// What an earlier HEAD was told, while it is fresh and nothing is stored for GET.
    async fn known_by_head(&self) -> Option<Answer> {
        if !self.may_be_known_by_head() {
            return None;
        }
        let key = self.key.of_head();
        let lookup = self.gateway.cache.lookup(&key, &self.request.fields, self.now).await;
        let found = self.suited(lookup)?;
        let status = CacheStatus::Hit { ttl: found.stored.ttl_seconds(self.now), tier: found.tier };
        Some(reply::head(&found.stored, self.request, self.now, status))
    }

    /// Whether what an earlier HEAD was told could answer.
    pub(super) fn may_be_known_by_head(&self) -> bool {
        self.stale.is_none() && !preconditions::are_for_the_source(&self.request.fields)
    }

    /// What was found of it, where it is fresh and the request does not ask for more.
    pub(super) fn suited(&self, lookup: Lookup) -> Option<Found> {
        let Lookup::Fresh(found) = lookup else { return None };
        let suits = demand(&found.stored, &self.asked, self.now) == Demand::AsUsual;
        (suits && self.floor.admits(found.stored.fence)).then_some(found)
    }

    fn head_forward(&self) -> HeadForward {
        HeadForward {
            gateway: Arc::clone(self.gateway),
            route: Arc::clone(self.route),
            key: self.key.clone(),
            head: forward::head(self.route, self.request, Purpose::Head),
            request_fields: self.request.fields.clone(),
            stale: self.stale.clone(),
            reason: self.reason,
        }
    }
}

/// The forward of a HEAD, in a task that no client owns.
struct HeadForward {
    gateway: Arc<Gateway>,
    route: Arc<Route>,
    key: CacheKey,
    head: Head,
    request_fields: HeaderMap,
    stale: Option<Arc<StoredResponse>>,
    reason: ForwardReason,
}

/// What the one whose HEAD it was gets.
type Answered = Result<(Response<SourceBody>, Stored), SourceFailure>;

/// Sends everybody who follows on their own ways.
fn release(lead: Option<&Lead<Landing>>) {
    if let Some(lead) = lead {
        lead.close();
        lead.land(Landing::Alone);
    }
}

/// Resolves when neither its own client nor anybody else waits for it.
async fn unwanted(lead: Option<&Lead<Landing>>, own: &mut oneshot::Sender<Answered>) {
    own.closed().await;
    if let Some(lead) = lead {
        lead.deserted().await;
    }
}

impl HeadForward {
    async fn run(self, lead: Option<Lead<Landing>>, mut own: oneshot::Sender<Answered>) {
        // Before the forward begins, so that a purge meanwhile counts (I5).
        let fence = lead.as_ref().map_or_else(|| self.gateway.cache.fence(), Lead::fence);
        let requested_at = self.gateway.clock.now();
        let sending =
            forward::send(&self.route, self.head.clone(), crate::source::empty(), None, self.reason);
        let outcome = tokio::select! {
            outcome = sending => outcome,
            () = unwanted(lead.as_ref(), &mut own) => return,
        };
        let received_at = self.gateway.clock.now();
        let exchange = Exchange { requested_at, received_at, fence, jitter: fastrand::f64() };
        let (landing, answered) = match outcome {
            Err(error) => {
                let failure = SourceFailure::from(&error);
                (Landing::Failed(failure), Err(failure))
            }
            Ok(mut response) => {
                forwarded::append(response.headers_mut(), &VIA, "1.1 tidegate");
                self.freshen(&response, &exchange);
                let head = ResponseHead { status: response.status(), fields: response.headers() };
                let stored = self.keep(head, &exchange);
                let landing = self.landing(&response, &exchange);
                forward::end_to_end(response.headers_mut());
                (landing, Ok((response, stored)))
            }
        };
        if let Some(lead) = lead {
            lead.close();
            lead.land(landing);
        }
        // A client that has left has no use for it.
        drop(own.send(answered));
    }

    fn freshen(&self, response: &Response<SourceBody>, exchange: &Exchange) {
        let freshening = Freshening {
            gateway: &self.gateway,
            route: &self.route,
            key: &self.key,
            request_fields: &self.request_fields,
            exchange,
        };
        let head = ResponseHead { status: response.status(), fields: response.headers() };
        freshening.head(self.stale.as_ref(), head);
        // Stored parts are not compared with it, so they go.
        self.gateway.cache.forget_parts(&self.key);
    }

    /// Keeps what a HEAD was told for the next one, by the rules of GET; where a response to GET is stored,
    /// that one was updated.
    fn keep(&self, response: ResponseHead<'_>, exchange: &Exchange) -> Stored {
        if self.stale.is_some() {
            return Stored::NotConsidered;
        }
        let request = RequestHead { method: &Method::GET, fields: &self.request_fields };
        let admitted = storable::admit(request, response, &self.route.settings.cache, exchange);
        match admitted {
            Err(reason) => Stored::No(reason),
            // Without content it can be validated, but nothing is won by that.
            Ok(admitted) if assess(admitted.head(), exchange.received_at) != Verdict::Fresh => {
                Stored::No(NoStoreReason::NoFreshness)
            }
            Ok(admitted) => {
                let stored =
                    self.gateway.cache.store(&self.key.of_head(), admitted.into_stored(Bytes::new()));
                stored.map_or(Stored::No(NoStoreReason::Purged), |_| Stored::Yes)
            }
        }
    }

    /// What the others get: what a GET's head would be shared as (I7). A 304 is about the leader's own
    /// conditions.
    fn landing(&self, response: &Response<SourceBody>, exchange: &Exchange) -> Landing {
        let request = RequestHead { method: &Method::GET, fields: &self.request_fields };
        let head = ResponseHead { status: response.status(), fields: response.headers() };
        let shareable = storable::may_share(request, head, &self.route.settings.cache, exchange);
        if response.status() == StatusCode::NOT_MODIFIED || shareable.is_err() {
            return Landing::Alone;
        }
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Landing::Shared(Arc::new(Shared {
            head: storable::unstored(request, head, exchange),
            body: Growing::nothing(self.gateway.in_flight.share(Work::Copy)),
            length: length.and_then(|text| text.parse().ok()),
            stored: Stored::NotConsidered,
            age: response.headers().get_all(AGE).iter().cloned().collect(),
            range: None,
            announced: None,
        }))
    }
}
