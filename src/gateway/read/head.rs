//! The way of a HEAD that nothing stored answers. It stays a HEAD: who wants no content makes nobody send
//! it. A GET's forward that is under way answers it too; else HEADs collapse among themselves. What the
//! source says of the representation updates what is stored of it (`told.rs`).

use super::alone::Because;
use super::collapsed::{Outcome, Part};
use super::{ROUNDS_MAX, Wanted};
use crate::cache::collapse::Lane;
use crate::cache::rules::reuse::{Demand, Failure, demand};
use crate::cache::rules::{NoStoreReason, ResponseHead, preconditions};
use crate::cache::{Found, Lookup};
use crate::gateway::body::Body;
use crate::gateway::cache_status::{CacheStatus, Stored, Trouble};
use crate::gateway::forward::{self, Purpose};
use crate::gateway::problem::GatewayError;
use crate::gateway::reply::{self, Answer};
use crate::gateway::request::Request;
use crate::gateway::told::Told;

impl Wanted<'_> {
    /// Answers a HEAD by what an earlier one was told or another request's forward, or leads one for all that
    /// ask alike.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn head(&self) -> Result<Answer, GatewayError> {
        let flights = &self.gateway.flights;
        for _ in 0..ROUNDS_MAX {
            if let Some(answer) = self.known_by_head().await {
                return Ok(answer);
            }
            let running = flights.join_running(self.key, Lane::Any, |fence| self.joins(fence));
            if let Some(follower) = running
                && let Outcome::Answered(answer) = self.awaited(follower, Part::Follower, Lane::Any).await?
            {
                return Ok(*answer);
            }
            match self.collapsed(Lane::Head).await? {
                Outcome::Answered(answer) => return Ok(*answer),
                Outcome::TooLate | Outcome::Released => {}
                Outcome::OtherVariant(_) | Outcome::Alone => break,
            }
        }
        self.forwarded_head(Because::Released).await
    }

    /// Forwards it for its client alone, updates what is stored, and passes the answer on; where there is no
    /// good one, a stale response answers if it may.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn forwarded_head(&self, because: Because) -> Result<Answer, GatewayError> {
        if let Some(answer) = self.known_by_head().await {
            return Ok(answer);
        }
        let quota = self.route.admitted(self.request, self.now).await?;
        let (response, exchange) = match self.asked_alone(Purpose::Head).await {
            Ok(answered) => answered,
            Err(failure) => return self.instead_of(failure),
        };
        let mut response = response.map(Body::forwarded);
        let came_in = response.version();
        forward::sign(response.headers_mut(), came_in);
        let (status, stale) = (response.status(), self.stale.as_ref());
        let Self { gateway, route, key, request, .. } = *self;
        let told = Told { gateway, route, key, request_fields: &request.fields, stale, exchange: &exchange };
        let stored = match told.note(ResponseHead { status, fields: response.headers() }) {
            Stored::No(_) if because == Because::Marked => Stored::No(NoStoreReason::HitForMiss),
            stored => stored,
        };
        if let Some(failure) = Failure::of_status(status)
            && let Some(answer) = self.stale_answer(failure, Trouble::Answered(status))
        {
            return Ok(answer);
        }
        forward::end_to_end(response.headers_mut());
        let status = CacheStatus::Forwarded { reason: self.reason, status, stored };
        Ok(Answer { response, status, quota: Some(quota) })
    }

    /// What an earlier HEAD was told, while it is fresh and nothing is stored for GET.
    async fn known_by_head(&self) -> Option<Answer> {
        if !self.may_be_known_by_head() {
            return None;
        }
        let key = self.key.of_head();
        let Request { fields, patience, .. } = self.request;
        self.as_told(self.gateway.cache.lookup(&key, fields, self.now, patience).await)
    }

    /// The same, from memory: what came while a flight was begun.
    pub(super) fn just_known_by_head(&self) -> Option<Answer> {
        if !self.may_be_known_by_head() {
            return None;
        }
        let key = self.key.of_head();
        self.as_told(self.gateway.cache.lookup_memory(&key, &self.request.fields, self.now))
    }

    fn as_told(&self, lookup: Lookup) -> Option<Answer> {
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
}
