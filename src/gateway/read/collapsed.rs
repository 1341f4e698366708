//! The way of a read that a forward answers: this request's own, or another's that it follows.

use super::{Wanted, fill, hit};
use crate::cache::collapse::{Follower, Landed, Lane, Lead, Role, Turn};
use crate::cache::rules::partial;
use crate::cache::rules::reuse::{Demand, Failure, demand, insists};
use crate::cache::rules::vary;
use crate::cache::{Floor, Found, Lookup, StoredResponse};
use crate::gateway::cache_status::{CacheStatus, Stored, Trouble, Unwaited};
use crate::gateway::fill::{Among, Private, Wants};
use crate::gateway::forward::{self, Purpose};
use crate::gateway::landing::Landing;
use crate::gateway::problem::{GatewayError, SourceFailure};
use crate::gateway::reply::{self, Answer};
use crate::rate_limit::{Fields, Stage};
use http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What the request whose forward it is may still wait for Redis besides: for another charge, where it has to
/// forward again.
const KEPT_FOR_ITSELF: Duration = Duration::from_millis(20);

/// What became of a collapsed forward for one of those who waited.
pub(super) enum Outcome {
    Answered(Box<Answer>),
    /// It brought a variant that this request does not select; the lane of the one that it does.
    OtherVariant(Lane),
    /// This request came too late for it: it is not fresh any more, or its body has gone on without this
    /// request, or has broken off. It takes no newcomers any more, so the next one is looked for.
    TooLate,
    /// It has ended without a word, for a reason that is its leader's own: the next one is looked for.
    Released,
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
    pub(super) fn told(&self, answer: Answer) -> Answer {
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
                let just_known = match lane {
                    Lane::Part(_) => self.stored_part().ok(),
                    Lane::Head => self.just_known_by_head(),
                    Lane::Any | Lane::Variant(_) => None,
                };
                if let Some(answer) = just_known {
                    // Those who follow look again, and find it too.
                    return Ok(Outcome::Answered(Box::new(answer)));
                }
                let follower = lead.follow();
                // A denied leader does not deny its followers: they look again, and another one leads.
                let quota = self.route.admitted(self.request, self.now).await?;
                let leader = self.begin(lead, quota, lane);
                self.awaited(follower, Part::Leader(leader), lane).await
            }
            Role::Follow(follower) => self.awaited(follower, Part::Follower, lane).await,
            Role::Full(landed) => self.crowded(landed, lane).await,
        }
    }

    /// Past the bound of those who wait: what is stale if that may be, else what was landed already.
    pub(super) async fn crowded(
        &self,
        landed: Option<Follower<Landing>>,
        lane: Lane,
    ) -> Result<Outcome, GatewayError> {
        let why = Unwaited::Crowded;
        match (landed, self.stale_answer(Failure::NoGoodAnswer, Trouble::Unwaited(why))) {
            (Some(follower), None) => self.awaited(follower, Part::Follower, lane).await,
            _ => self.unwaited(why),
        }
    }

    /// Waits for what is landed, at most to its own deadline: every forward of a flight ends by that of the
    /// first. One of those who wait steps in where no head comes for long; one that cannot yet tries again
    /// after as long.
    pub(super) async fn awaited(
        &self,
        mut follower: Follower<Landing>,
        mut part: Part,
        lane: Lane,
    ) -> Result<Outcome, GatewayError> {
        let (deadline, overdue_after) = (self.request.deadline, self.route.source.overdue_after());
        let mut steps_in_at = follower.began() + overdue_after;
        let landed = loop {
            let until = if let Part::Follower = part { steps_in_at.min(deadline) } else { deadline };
            match tokio::time::timeout_at(until, follower.landed()).await {
                Ok(landed) => break Some(landed),
                Err(_) if until == deadline => break None,
                Err(_) => {
                    part = self.step_in(&follower, lane).map_or(Part::Follower, Part::Leader);
                    steps_in_at = Instant::now() + overdue_after;
                }
            }
        };
        match (landed, part) {
            (None, Part::Leader(_)) => self.failed(SourceFailure::Timeout),
            (None, Part::Follower) => self.unwaited(Unwaited::Timeout),
            // Every leader is gone: nobody else is hurt by that.
            (Some(None), _) => Ok(Outcome::Released),
            (Some(Some(landed)), part) => self.landed(landed, part, follower).await,
        }
    }

    async fn landed(
        &self,
        landed: Landed<Landing>,
        part: Part,
        follower: Follower<Landing>,
    ) -> Result<Outcome, GatewayError> {
        let landing = match (landed.landing, part) {
            // What the other leader brought is not for this one: its own is on its way.
            (landing, Part::Leader(leader)) if leader.turn != landed.by => {
                return if landing.spares(&self.request.fields) {
                    self.for_all(landing, &Part::Follower, follower).await
                } else {
                    Ok(self.private(leader, &follower).await)
                };
            }
            (Landing::Alone, Part::Leader(leader)) => return Ok(self.private(leader, &follower).await),
            (Landing::ValidatedOnce(stored, why), part @ Part::Leader(_)) => {
                return Ok(self.validated(&stored, Stored::No(why), &part));
            }
            (Landing::SharedOnce(shared), part @ Part::Leader(_)) => {
                return Ok(self.shared(&shared, follower, &part).await);
            }
            (landing, part) => (landing, part),
        };
        self.for_all(landing.0, &landing.1, follower).await
    }

    async fn for_all(
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
            Landing::Found(found) if !self.floor.admits(found.stored.fence) => Ok(Outcome::Alone),
            Landing::Found(found) => Ok(self.found(&found, part)),
            Landing::Validated(stored) => Ok(self.validated(&stored, Stored::Yes, part)),
            Landing::Shared(shared) => Ok(self.shared(&shared, follower, part).await),
            Landing::ValidatedOnce(..) | Landing::SharedOnce(_) | Landing::Alone => Ok(Outcome::Alone),
        }
    }

    /// Begins the forward in a task of its own.
    fn begin(&self, lead: Lead<Landing>, quota: Fields, lane: Lane) -> Leader {
        let mut fill =
            fill(self.gateway, self.route, self.key, self.request, self.stale.clone(), self.reason);
        match lane {
            Lane::Part(_) => {
                if let Some(range) = partial::sole_range(&self.request.fields) {
                    fill.wants = Wants::Part(range.clone());
                    fill.head = forward::head(self.route, self.request, Purpose::Part);
                }
            }
            Lane::Head => {
                fill.wants = Wants::Head;
                fill.head = forward::head(self.route, self.request, Purpose::Head);
            }
            Lane::Any | Lane::Variant(_) => {}
        }
        // Who insists, or has seen a write, wants what the source says from now on.
        if self.floor == Floor::None && !insists(&self.asked) {
            fill.among = Among::Replicas(self.request.patience.handed_on(KEPT_FOR_ITSELF));
        }
        let (private, receiver) = oneshot::channel();
        let turn = lead.turn();
        self.gateway.tasks.spawn(fill.run(lead, Some(private)));
        Leader { turn, private: receiver, quota }
    }

    /// Forwards for everybody once more, where nobody has yet, the source has a place at once, and the
    /// quotas admit it; else goes on waiting.
    fn step_in(&self, follower: &Follower<Landing>, lane: Lane) -> Option<Leader> {
        // A HEAD asks for less than those wait for who want the content.
        let asks_for_less = self.request.method == Method::HEAD && lane != Lane::Head;
        if asks_for_less || !self.route.source.has_place() {
            return None;
        }
        // Before the forward begins, so that a purge meanwhile counts (I5).
        let fence = self.gateway.cache.fence();
        // Nothing is awaited here: of quotas of several gateways this one's share decides.
        let admitted = || self.route.admit(Stage::Source, self.request, self.now).ok();
        let (lead, quota) = self.gateway.flights.step_in(follower, fence, admitted)?;
        self.route.metrics.stepped_in();
        Some(self.begin(lead, quota, lane))
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

    /// What another replica has brought, and both tiers have by now.
    fn found(&self, found: &Found, part: &Part) -> Outcome {
        if !vary::matches(&found.stored.selecting_fields, &self.request.fields) {
            return self.own_lane(&found.stored);
        }
        let answer = hit(found, self.request, self.gateway.clock.now());
        Outcome::Answered(Box::new(part.told(answer)))
    }

    /// What came for its client alone, which counts as `_waiting` until then: its forward is not deserted.
    async fn private(&self, leader: Leader, _waiting: &Follower<Landing>) -> Outcome {
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

    pub(super) fn forwarded_status(&self, status: StatusCode, stored: Stored, part: &Part) -> CacheStatus {
        match part {
            Part::Leader(_) => CacheStatus::Forwarded { reason: self.reason, status, stored },
            Part::Follower => CacheStatus::Collapsed { reason: self.reason, status },
        }
    }
}
