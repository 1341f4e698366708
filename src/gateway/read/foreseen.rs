//! What a read would get now, for people who ask why: the rules of `read.rs` in its order, with looks that
//! leave no trace in the place of its lookups, and nobody asked.

use super::judged::{Judged, Way, for_the_source, judge};
use super::{Wanted, floor};
use crate::cache::rules::{ForwardReason, preconditions};
use crate::cache::{CacheKey, Sight};
use crate::clock::Timestamp;
use crate::gateway::Gateway;
use crate::gateway::cache_status::CacheStatus;
use crate::gateway::part;
use crate::gateway::problem::{GatewayError, SourceFailure};
use crate::gateway::request::Request;
use crate::gateway::route::Route;
use crate::rate_limit::Stage;
use std::sync::Arc;

/// What a read would get.
#[derive(Debug)]
pub(crate) struct Foreseen {
    /// What is held for its key.
    pub sight: Sight,
    /// What becomes of it as far as the cache has a word.
    pub judged: Result<Judged, GatewayError>,
    /// How it would go to the source, where what is stored under the key itself does not answer it.
    pub way: Option<Way>,
    /// Where it would go to the source and cannot: what it gets instead.
    pub hindered: Option<Result<CacheStatus, GatewayError>>,
}

/// Foresees what a GET, HEAD or QUERY gets by what is stored under a key.
pub(crate) async fn foresee(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: &Request,
    now: Timestamp,
) -> Foreseen {
    let sight = gateway.cache.sight(key, &request.fields, now).await;
    let asked = route.directives(request);
    if preconditions::are_for_the_source(&request.fields) {
        let judged = for_the_source(asked.as_ref()).map(|()| Judged::Forward(ForwardReason::Request));
        let way = judged.is_ok().then_some(Way::Alone);
        let hindered = way.and_then(|_| hindered(route, request, ForwardReason::Request, None, now));
        return Foreseen { sight, judged, way, hindered };
    }
    let seen = match floor(gateway, request).await {
        Ok(floor) => judge(sight.lookup.clone(), asked.as_ref(), floor, now).map(|judged| (judged, floor)),
        Err(error) => Err(error),
    };
    let (judged, floor) = match seen {
        Ok((judged @ (Judged::Validate(..) | Judged::Forward(_)), floor)) => (judged, floor),
        Ok((judged, _)) => return Foreseen { sight, judged: Ok(judged), way: None, hindered: None },
        Err(error) => return Foreseen { sight, judged: Err(error), way: None, hindered: None },
    };
    let (stale, reason) = match &judged {
        Judged::Validate(found, why) => (Some(Arc::clone(&found.stored)), *why),
        Judged::Forward(why) => (None, *why),
        Judged::Fresh(_) | Judged::Stale(..) => (None, ForwardReason::Miss),
    };
    let way = Way::of(request, asked.as_ref(), stale.as_ref());
    let asked = asked.unwrap_or_default();
    let mut wanted = Wanted { gateway, route, key, request, asked, stale, reason, floor, now };
    let judged = match (way, judged) {
        (Way::Head | Way::HeadAlone, judged) => wanted.known_by_head_unseen().await.unwrap_or(judged),
        (Way::Part, Judged::Forward(otherwise)) => wanted.stored_part_unseen(otherwise).await,
        (_, judged) => judged,
    };
    if let Judged::Forward(why) = judged {
        wanted.reason = why;
    }
    if matches!(judged, Judged::Fresh(_)) {
        return Foreseen { sight, judged: Ok(judged), way: Some(way), hindered: None };
    }
    let with_stale = matches!(way, Way::Head | Way::HeadAlone | Way::Fill).then_some(&wanted);
    let hindered = hindered(route, request, wanted.reason, with_stale, now);
    Foreseen { sight, judged: Ok(judged), way: Some(way), hindered }
}

/// What a request gets that would go to the source, where its quotas or the source's breaker keep it away.
/// `with_stale`: on whose way a stale response may answer instead.
pub(crate) fn hindered(
    route: &Route,
    request: &Request,
    reason: ForwardReason,
    with_stale: Option<&Wanted<'_>>,
    now: Timestamp,
) -> Option<Result<CacheStatus, GatewayError>> {
    if let Some(denied) = route.would_deny(Stage::Source, request, now) {
        return Some(Err(denied));
    }
    let failure = SourceFailure::Open(route.source.outage()?);
    Some(match with_stale {
        Some(wanted) => wanted.instead_of(failure).map(|answer| answer.status),
        None => Err(GatewayError::Source(failure, reason)),
    })
}

impl Wanted<'_> {
    async fn known_by_head_unseen(&self) -> Option<Judged> {
        if !self.may_be_known_by_head() {
            return None;
        }
        let seen = self.gateway.cache.sight(&self.key.of_head(), &self.request.fields, self.now).await;
        self.suited(seen.lookup).map(Judged::Fresh)
    }

    async fn stored_part_unseen(&self, otherwise: ForwardReason) -> Judged {
        if !part::is_plain(self.request) {
            return Judged::Forward(otherwise);
        }
        let found = self.gateway.cache.sight_of_part(self.key, &self.request.fields, self.now).await;
        let answer = part::stored(found.clone(), self.route, self.request, (otherwise, self.floor), self.now);
        match (answer, found) {
            (Ok(_), Some(found)) => Judged::Fresh(found),
            (Ok(_), None) => Judged::Forward(otherwise),
            (Err(why), _) => Judged::Forward(why),
        }
    }
}
