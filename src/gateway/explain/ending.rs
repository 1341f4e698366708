//! What comes of a request, as Cache-Status would tell it. Pure.

use super::rule;
use crate::cache::rules::ForwardReason;
use crate::clock::Timestamp;
use crate::explanation::{Decision, Explanation, OwnAnswer, Rule};
use crate::gateway::cache_status::CacheStatus;
use crate::gateway::problem::GatewayError;
use crate::gateway::read::{Foreseen, Judged, Way, hindered};
use crate::gateway::request::Request;
use crate::gateway::route::Route;
use http::StatusCode;

/// The reason of what a stored response answers.
const HIT: &str = "hit";

/// What comes of a request.
pub(super) struct Ending {
    pub(super) decision: Decision,
    pub(super) reason: Option<String>,
    pub(super) rule: Rule,
    pub(super) answer: Option<OwnAnswer>,
}

impl Ending {
    /// An answer of Tidegate's own.
    pub(super) fn of_error(error: &GatewayError) -> Self {
        let reason = match error.cache_status() {
            CacheStatus::Failed { reason } => Some(reason.as_str().to_owned()),
            _ => None,
        };
        let answer = OwnAnswer { status: error.status().as_u16(), detail: error.detail() };
        Self { decision: Decision::Own, reason, rule: rule::of_error(error), answer: Some(answer) }
    }

    /// A write whose client is answered before its source is asked.
    pub(super) fn accepted() -> Self {
        Self::own(StatusCode::ACCEPTED, rule::ACCEPTED)
    }

    /// OPTIONS that may go no further.
    pub(super) fn last_hop() -> Self {
        Self::own(StatusCode::OK, rule::LAST_HOP)
    }

    fn own(status: StatusCode, rule: rule::Text) -> Self {
        let rule = rule::rule(rule);
        let answer = OwnAnswer { status: status.as_u16(), detail: rule.says.clone() };
        Self { decision: Decision::Own, reason: None, rule, answer: Some(answer) }
    }

    /// A request that goes to the source for its client alone, if nothing keeps it away.
    pub(super) fn sent(
        route: &Route,
        request: &Request,
        reason: ForwardReason,
        rule: rule::Text,
        now: Timestamp,
    ) -> Self {
        match hindered(route, request, reason, None, now) {
            Some(Err(error)) => Self::of_error(&error),
            Some(Ok(_)) | None => Self::to(Decision::Forward, reason.as_str(), rule::rule(rule)),
        }
    }

    /// A read.
    pub(super) fn of_read(foreseen: Foreseen, rule: Rule) -> Self {
        let Foreseen { judged, way, hindered, .. } = foreseen;
        match (judged, hindered) {
            (Err(error), _) | (_, Some(Err(error))) => Self::of_error(&error),
            (_, Some(Ok(_))) => {
                Self::to(Decision::Stale, ForwardReason::Stale.as_str(), rule::rule(rule::STALE_IF_ERROR))
            }
            (Ok(Judged::Fresh(_)), None) => Self::to(Decision::Fresh, HIT, rule),
            (Ok(Judged::Stale(..)), None) => Self::to(Decision::Stale, HIT, rule),
            // Alone it goes as its client sent it: nothing is asked about what is stored.
            (Ok(Judged::Validate(_, why)), None) if way == Some(Way::Alone) => {
                Self::to(Decision::Forward, why.as_str(), rule)
            }
            (Ok(Judged::Validate(_, why)), None) => Self::to(Decision::Validate, why.as_str(), rule),
            (Ok(Judged::Forward(why)), None) => Self::to(Decision::Forward, why.as_str(), rule),
        }
    }

    fn to(decision: Decision, reason: &str, rule: Rule) -> Self {
        Self { decision, reason: Some(reason.to_owned()), rule, answer: None }
    }

    /// The explanation that ends so.
    pub(super) fn told(self, told: Explanation) -> Explanation {
        let Self { decision, reason, rule, answer } = self;
        Explanation { decision, reason, rule, answer, ..told }
    }
}
