//! How a request would be answered now, and why. Nothing is sent, counted, charged, stored or noted as used:
//! the way of `pipeline.rs` is walked with looks in the place of deeds, and the same rules decide.

mod ending;
mod freshness;
mod held;
mod rule;

use super::Gateway;
use super::idempotency;
use super::max_forwards::Forwards;
use super::problem::GatewayError;
use super::read::{self, Foreseen, Judged};
use super::request::Request;
use super::route::{Action, Route};
use super::{door, forward, strict};
use crate::cache::rules::ForwardReason;
use crate::cache::rules::key::QueryDigest;
use crate::cache::{CacheKey, Found};
use crate::clock::Timestamp;
use crate::explanation::{Explanation, MarkedKey, MatchedRoute, PassedOver, Question};
use crate::rate_limit::Stage;
use crate::sync::{JournalState, RecordError, SyncMode};
use ending::Ending;
use http::Method;
use std::sync::Arc;

impl Gateway {
    /// How a request would be answered now, and why.
    pub async fn explain(self: &Arc<Self>, question: Question) -> Explanation {
        let now = self.clock.now();
        let mut told = blank(self.cache.fence().0);
        let mut request = match strict::foresee(question, &self.settings) {
            Ok(request) => request,
            Err(refusal) => return Ending::of_error(&GatewayError::Refused(refusal)).told(told),
        };
        told.target = Some(request.target.to_string());
        let routes = &self.routes;
        let matching = routes.settle(&mut request).map(Arc::clone);
        for route in &routes.0 {
            match route.mismatch(&request.method, &request.target, request.target.path()) {
                Some(because) => told
                    .passed_over
                    .push(PassedOver { name: route.name.to_string(), because: because.as_str().to_owned() }),
                None => break,
            }
        }
        let route = match matching {
            Ok(route) => route,
            Err(error) => return Ending::of_error(&error).told(told),
        };
        route.disbelieve(&mut request);
        let entered = door::foresee(&route, &mut request, now);
        told.route = Some(matched(&route, told.passed_over.len() + 1, &request));
        route.hear_quotas(&request, now).await;
        told.quotas = route.quota_states(&request, now);
        told.source = Some(route.source.health());
        let ending = self.ending(&route, &request, now, &mut told).await;
        let refused = entered.err().map(|error| Ending::of_error(&error));
        before(&route, &request, refused, now).unwrap_or(ending).told(told)
    }

    /// What comes of a request behind the quotas of every request.
    async fn ending(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: &Request,
        now: Timestamp,
        told: &mut Explanation,
    ) -> Ending {
        let sent = |reason, rule| Ending::sent(route, request, reason, rule, now);
        match route.action(request) {
            Action::Reuse => {
                self.read(route, &route.key(&request.target, &request.fields), request, now, told).await
            }
            Action::Query => {
                let digest = QueryDigest::new(&[], &request.fields);
                let key = route.query_key(&request.target, &request.fields, digest);
                self.read(route, &key, request, now, told).await
            }
            Action::Upgrade(_) => sent(ForwardReason::Bypass, rule::UPGRADE),
            Action::Relay(reason) => sent(reason, rule::relayed(reason)),
            Action::Write => sent(ForwardReason::Method, rule::WRITE),
            Action::Record => self.recorded(route, request, now),
        }
    }

    async fn read(
        self: &Arc<Self>,
        route: &Arc<Route>,
        key: &CacheKey,
        request: &Request,
        now: Timestamp,
        told: &mut Explanation,
    ) -> Ending {
        told.key = Some(key.to_string());
        let mut marked = self.cache.marked(key, now);
        if marked.is_none() && request.method == Method::HEAD {
            marked = self.cache.marked(&key.of_head(), now);
        }
        told.marker = marked.map(|marked| MarkedKey {
            reason: marked.reason.as_str().to_owned(),
            status: marked.status.as_u16(),
            left: marked.left.as_secs_f64(),
        });
        let foreseen = read::foresee(self, route, key, request, now).await;
        told.variants = foreseen.sight.held.iter().map(|one| held::variant(one, now)).collect();
        if let Some(found) = found(&foreseen) {
            told.tier = Some(found.tier.as_str().to_owned());
            told.variant = Some(held::selecting(&found.stored.selecting_fields));
            told.freshness = Some(freshness::arithmetic(found, &foreseen.sight, &route.settings.cache, now));
        }
        let rule = if self.waits_for_doubt(route, key, &foreseen) {
            rule::rule(rule::IN_DOUBT)
        } else {
            rule::of_read(&foreseen, route, request, told.marker.as_ref(), now)
        };
        Ending::of_read(foreseen, rule)
    }

    /// Whether the source is asked, and will be asked again, because of a change in doubt.
    fn waits_for_doubt(&self, route: &Route, key: &CacheKey, foreseen: &Foreseen) -> bool {
        let is_missed = match &foreseen.judged {
            Ok(Judged::Validate(_, why)) => *why == ForwardReason::Stale,
            Ok(Judged::Forward(why)) => *why == ForwardReason::UriMiss,
            Ok(Judged::Fresh(_) | Judged::Stale(..)) | Err(_) => false,
        };
        let held = || foreseen.sight.held.iter().flat_map(|one| &one.stored.tags);
        let tags = || route.settings.cache.tags.iter().chain(held()).cloned().collect::<Vec<_>>();
        is_missed && self.cache.is_held(key, &tags())
    }

    /// A write that is recorded first.
    fn recorded(&self, route: &Route, request: &Request, now: Timestamp) -> Ending {
        if idempotency::key(&request.fields).is_err() {
            return Ending::of_error(&GatewayError::IdempotencyKey);
        }
        if let Some(denied) = route.would_deny(Stage::Source, request, now) {
            return Ending::of_error(&denied);
        }
        let state = self.engine.as_ref().map(|engine| engine.journal_state());
        match state {
            Some(JournalState::Full) => Ending::of_error(&GatewayError::Record(RecordError::Full)),
            Some(JournalState::Unavailable | JournalState::Damaged) => {
                Ending::of_error(&GatewayError::Record(RecordError::Unavailable))
            }
            Some(JournalState::Accepts) | None => match route.settings.sync.as_ref().map(|sync| sync.mode) {
                Some(SyncMode::Accept(_)) => Ending::accepted(),
                Some(SyncMode::Through) | None => {
                    Ending::sent(route, request, ForwardReason::Method, rule::RECORDED, now)
                }
            },
        }
    }
}

/// What is decided before anything else: loops, the quotas of every request, who may come in, hops.
fn before(route: &Route, request: &Request, refused: Option<Ending>, now: Timestamp) -> Option<Ending> {
    if forward::is_loop(&request.fields) {
        return Some(Ending::of_error(&GatewayError::Loop));
    }
    if let Some(denied) = route.would_deny(Stage::Edge, request, now) {
        return Some(Ending::of_error(&denied));
    }
    if refused.is_some() {
        return refused;
    }
    (Forwards::of(&request.method, &request.fields) == Forwards::Last).then(Ending::last_hop)
}

/// The stored response that answers, or is asked about.
fn found(foreseen: &Foreseen) -> Option<&Found> {
    match foreseen.judged.as_ref().ok()? {
        Judged::Fresh(found) | Judged::Stale(found, _) | Judged::Validate(found, _) => Some(found),
        Judged::Forward(_) => None,
    }
}

fn matched(route: &Route, place: usize, request: &Request) -> MatchedRoute {
    let settings = &route.settings;
    let methods = settings.methods.as_ref();
    let names = route.names(&request.target).into_iter();
    MatchedRoute {
        name: route.name.to_string(),
        place,
        host: settings.host.clone(),
        path: settings.path.to_string(),
        methods: methods.map(|methods| methods.iter().map(ToString::to_string).collect()),
        names: names.map(|(name, part)| (name.to_owned(), part.to_owned())).collect(),
        source: settings.source.clone(),
        forwarded: route.forwarded(&request.target).path_and_query().to_owned(),
    }
}

/// An explanation of which nothing is known yet.
fn blank(fence: u64) -> Explanation {
    let Ending { decision, reason, rule, answer } = Ending::of_error(&GatewayError::NoRoute);
    Explanation {
        target: None,
        decision,
        reason,
        rule,
        answer,
        tier: None,
        key: None,
        variant: None,
        freshness: None,
        route: None,
        passed_over: Vec::new(),
        variants: Vec::new(),
        marker: None,
        fence,
        quotas: Vec::new(),
        source: None,
    }
}
