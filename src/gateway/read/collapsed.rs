//! The way of a read that a forward answers: this request's own, or another's that it follows.

use super::{Wanted, fill, hit};
use crate::cache::collapse::{Follower, Joined, Landed, Lane, Lead, Role, Turn};
use crate::cache::rules::reuse::{Demand, Failure, Verdict, assess, demand};
use crate::cache::rules::vary;
use crate::cache::{Lookup, StoredResponse};
use crate::gateway::body::Body;
use crate::gateway::cache_status::{CacheStatus, Stored, Trouble, Unwaited};
use crate::gateway::fill::Private;
use crate::gateway::landing::{Audience, Landing, Shared};
use crate::gateway::problem::{GatewayError, SourceFailure};
use crate::gateway::reply::{self, Answer};
use crate::rate_limit::{Fields, Stage};
use http::{Method, StatusCode};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What became of a collapsed forward for one of those who waited.
pub(super) enum Outcome {
    Answered(Box<Answer>),
    /// It brought a variant that this request does not select; the lane of the one that it does.
    OtherVariant(Lane),
    /// Its body has gone on without this request, or broken off.
    Gone,
    /// It may not be shared: this request forwards for itself.
    Alone,
}

/// Whose forward it is.
pub(super) enum Part {
    Leader(Leader),
    Follower,
}

/// What the one whose forward it is has of it.
pub(super) struct Leader {
    turn: Turn,
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
    /// Joins the flight of a lane, or leads one.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn collapsed(&self, lane: Lane) -> Result<Outcome, GatewayError> {
        let cache = &self.gateway.cache;
        match self.gateway.flights.join(self.key, lane, cache.fence(), |fence| self.joins(fence)) {
            Role::Lead(lead) => {
                // Between the look and the flight somebody else's may have landed and been stored.
                let looked = cache.lookup_memory(self.key, &self.request.fields, self.now);
                if let Lookup::Fresh(found) = looked
                    && demand(&found.stored, &self.asked, self.now) == Demand::AsUsual
                    && self.floor.admits(found.stored.fence)
                {
                    lead.close();
                    lead.land(Landing::Validated(Arc::clone(&found.stored)));
                    return Ok(Outcome::Answered(Box::new(hit(&found, self.request, self.now))));
                }
                let follower = lead.follow();
                let quota = self.route.admit(Stage::Source, self.request, self.now).inspect_err(|_| {
                    // A denied leader does not deny its followers: each is judged by its own quota.
                    lead.close();
                    lead.land(Landing::Alone);
                })?;
                let leader = self.begin(lead, quota);
                self.awaited(follower, Part::Leader(leader)).await
            }
            Role::Follow(follower) => self.awaited(follower, Part::Follower).await,
            Role::Full => self.unwaited(Unwaited::Crowded),
        }
    }

    /// Waits for what is landed; one of those who wait steps in where no head comes for long.
    pub(super) async fn awaited(
        &self,
        mut follower: Follower<Landing>,
        part: Part,
    ) -> Result<Outcome, GatewayError> {
        let overdue_at = follower.began() + self.route.source.overdue_after();
        let mut part = part;
        let mut landed =
            tokio::time::timeout_at(overdue_at.min(self.request.deadline), follower.landed()).await;
        if landed.is_err() {
            if let Part::Follower = part
                && let Some(leader) = self.step_in(&follower)
            {
                part = Part::Leader(leader);
            }
            landed = tokio::time::timeout_at(self.request.deadline, follower.landed()).await;
        }
        match (landed, part) {
            (Err(_), Part::Leader(_)) => self.failed(SourceFailure::Timeout),
            (Err(_), Part::Follower) => self.unwaited(Unwaited::Timeout),
            // Every leader is gone without a word: nobody else is hurt by that.
            (Ok(None), _) => Ok(Outcome::Alone),
            (Ok(Some(landed)), part) => self.landed(landed, part, follower).await,
        }
    }

    async fn landed(
        &self,
        landed: Landed<Landing>,
        part: Part,
        follower: Follower<Landing>,
    ) -> Result<Outcome, GatewayError> {
        let landing = match (landed.landing, part) {
            // What the other leader brought is for its own client alone: this one's is on its way.
            (landing, Part::Leader(leader)) if leader.turn != landed.by => {
                return match landing.audience() {
                    Audience::All => self.for_all(landing, &Part::Follower, follower),
                    Audience::Leader => Ok(self.private(leader).await),
                };
            }
            (Landing::Alone, Part::Leader(leader)) => return Ok(self.private(leader).await),
            (Landing::ValidatedOnce(stored, why), part @ Part::Leader(_)) => {
                return Ok(self.validated(&stored, Stored::No(why), &part));
            }
            (Landing::SharedOnce(shared), part @ Part::Leader(_)) => {
                return Ok(self.shared(&shared, follower, &part));
            }
            (landing, part) => (landing, part),
        };
        self.for_all(landing.0, &landing.1, follower)
    }

    fn for_all(
        &self,
        landing: Landing,
        part: &Part,
        follower: Follower<Landing>,
    ) -> Result<Outcome, GatewayError> {
        match landing {
            Landing::Failed(failure) => self.failed(failure),
            // A leader that asked for less may have found what is too old for one of those who follow (I6).
            Landing::Validated(stored)
                if matches!(part, Part::Follower) && !self.floor.admits(stored.fence) =>
            {
                Ok(Outcome::Alone)
            }
            Landing::Validated(stored) => Ok(self.validated(&stored, Stored::Yes, part)),
            Landing::Shared(shared) => Ok(self.shared(&shared, follower, part)),
            Landing::ValidatedOnce(..) | Landing::SharedOnce(_) | Landing::Alone => Ok(Outcome::Alone),
        }
    }

    /// Begins the forward in a task of its own.
    fn begin(&self, lead: Lead<Landing>, quota: Fields) -> Leader {
        let fill = fill(self.gateway, self.route, self.key, self.request, self.stale.clone(), self.reason);
        let (private, receiver) = oneshot::channel();
        let turn = lead.turn();
        self.gateway.tasks.spawn(fill.run(lead, Some(private)));
        Leader { turn, private: receiver, quota }
    }

    /// Forwards for everybody once more, where nobody has yet, the source has a place at once, and the
    /// quotas admit it; else goes on waiting.
    fn step_in(&self, follower: &Follower<Landing>) -> Option<Leader> {
        // A HEAD asks for less than the others wait for.
        if self.request.method == Method::HEAD || !self.route.source.has_place() {
            return None;
        }
        // Before the forward begins, so that a purge meanwhile counts (I5).
        let lead = self.gateway.flights.step_in(follower, self.gateway.cache.fence())?;
        let quota = self.route.admit(Stage::Source, self.request, self.now).ok()?;
        self.route.metrics.stepped_in();
        Some(self.begin(lead, quota))
    }

    pub(super) fn unwaited(&self, why: Unwaited) -> Result<Outcome, GatewayError> {
        self.route.metrics.unwaited(why);
        self.stale_or(Failure::NoGoodAnswer, Trouble::Unwaited(why), || GatewayError::Unwaited(why))
    }

    /// The lane of the variant that this request selects, by the fields that another one is selected by.
    pub(super) fn own_lane(&self, other: &StoredResponse) -> Outcome {
        let names = other.selecting_fields.iter().map(|(name, _)| name.clone()).collect();
        let selecting = vary::selecting_fields(names, &self.request.fields);
        Outcome::OtherVariant(self.gateway.flights.variant(&selecting))
    }

    fn validated(&self, stored: &StoredResponse, kept: Stored, part: &Part) -> Outcome {
        if !vary::matches(&stored.selecting_fields, &self.request.fields) {
            return self.own_lane(stored);
        }
        let status = self.forwarded_status(StatusCode::NOT_MODIFIED, kept, part);
        let now = self.gateway.clock.now();
        let answer = reply::stored(stored, self.request, now, status);
        Outcome::Answered(Box::new(part.told(answer)))
    }

    fn shared(&self, shared: &Shared, interest: Follower<Landing>, part: &Part) -> Outcome {
        if !vary::matches(&shared.head.selecting_fields, &self.request.fields) {
            return self.own_lane(&shared.head);
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
        // Who waited for it is told that it broke off; who came late, or too late for the beginning, finds
        // another flight.
        if interest.joined() == Joined::AfterLanding && shared.body.is_aborted() {
            return Outcome::Gone;
        }
        let Some(reader) = shared.body.reader() else { return Outcome::Gone };
        let body = Body::growing(reader, shared.length, interest);
        let answer = reply::growing(shared, self.request, body, now, status);
        Outcome::Answered(Box::new(part.told(answer)))
    }

    async fn private(&self, leader: Leader) -> Outcome {
        // An extra leader that was outrun by what is not for it waits for its own answer, as long as it may.
        let Ok(Ok((response, stored))) = tokio::time::timeout_at(self.request.deadline, leader.private).await
        else {
            return Outcome::Alone;
        };
        if let Some(failure) = Failure::of_status(response.status())
            && let Some(answer) = self.stale_answer(failure, Trouble::Answered(response.status()))
        {
            return Outcome::Answered(Box::new(answer));
        }
        let status = CacheStatus::Forwarded { reason: self.reason, status: response.status(), stored };
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
}
