//! The way of a write: to the source, recorded before and delivered after where the route says so;
//! what it made old is forgotten before the client is answered.
//!
//! The exchange with the source runs in a task of its own: a client that leaves changes nothing.

use super::cache_status::CacheStatus;
use super::content::Bounds;
use super::forward::{self, Head, Purpose};
use super::idempotency::{self, IDEMPOTENCY_KEY};
use super::problem::{GatewayError, SourceFailure};
use super::relay;
use super::reply::Answer;
use super::request::Request;
use super::route::Route;
use super::written::{Aftermath, Written};
use super::{Gateway, accept};
use crate::cache::rules::ForwardReason;
use crate::cache::{Applied, Lookup};
use crate::clock::Timestamp;
use crate::in_flight::Work;
use crate::sync::{ClaimError, Claimed, Draft, Engine, Intent, KeySource, RecordError, RouteSync, SyncMode};
use crate::telemetry::metrics as names;
use bytes::Bytes;
use http::header::{ETAG, LOCATION};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Names the change of a synced write.
pub(crate) const TIDEGATE_CHANGE: HeaderName = HeaderName::from_static("tidegate-change");
/// Names a write that has happened, for those who read (I6).
pub(crate) const TIDEGATE_VERSION: HeaderName = HeaderName::from_static("tidegate-version");

/// Forwards a write of a route that records nothing; its content streams.
///
/// # Errors
/// [`GatewayError`]
pub(crate) async fn forward(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    request: Box<Request>,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let quota = route.admitted(&request, now).await?;
    let bounds = route.content_bounds;
    request.content.within(bounds)?;
    let head = forward::head(route, &request, Purpose::Relay);
    let (gateway, route) = (Arc::clone(gateway), Arc::clone(route));
    let tasks = gateway.tasks.clone();
    joined(tasks.spawn(async move {
        let written = Written::begin(&gateway, &route, &request, &head);
        let response = relay::exchange(&route, head, request.content, bounds, ForwardReason::Method).await?;
        let status = response.status();
        let Aftermath { fate, applied } = written.answered(&gateway, &route, &response).await;
        let mut answer = Answer { quota: Some(quota), ..fate.answer(response) };
        if status.is_success() || status == StatusCode::SEE_OTHER {
            tell_version(&gateway, &mut answer, applied);
        }
        Ok(answer)
    }))
    .await
}

/// Records a write, forwards it, and records what became of it (I1).
///
/// # Errors
/// [`GatewayError`]; where the source was asked, the problem carries the change's id.
pub(crate) async fn record(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    mut request: Box<Request>,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let (Some(engine), Some(sync)) = (&gateway.engine, &route.settings.sync) else {
        return forward(gateway, route, request, now).await;
    };
    let key = idempotency::key(&request.fields).map_err(|_| GatewayError::IdempotencyKey)?;
    // What may be answered again is charged when it is known that it is sent.
    let mut quota = match &key {
        None => Some(route.admitted(&request, now).await?),
        Some(_) => None,
    };
    let head = forward::head(route, &request, Purpose::Relay);
    let bounds = route.content_bounds;
    let bytes_max = bounds.bytes_max.map_or(sync.body_bytes_max, |bytes| bytes.min(sync.body_bytes_max));
    let content = std::mem::replace(&mut request.content, super::content::Content::None);
    let share = gateway.in_flight.share(Work::Forward);
    let body = content.collect(Bounds { bytes_max: Some(bytes_max), ..bounds }, share).await?;
    let mut draft = draft(route, sync, &request, &head, body.clone());
    if let Some(key) = key {
        match claimed(engine, route, &request, &key, &body).await? {
            Claimed::New(claim) => draft.claim = Some(claim),
            Claimed::Answered(change, kept) => return idempotency::again(change, *kept),
            Claimed::Accepted(change) => return Ok(accept::answer(change)),
        }
        quota = Some(route.admitted(&request, now).await?);
    }
    if let SyncMode::Accept(on_refusal) = sync.mode {
        let answer = accept::record(engine, draft, on_refusal).await?;
        return Ok(Answer { quota, ..answer });
    }
    let recorded = engine.begin(draft, async { known_etag(gateway, route, &request) });
    let waited = tokio::time::timeout(gateway.settings.request_timeout, recorded);
    let intent = waited.await.map_err(|_| GatewayError::Overloaded)??;
    let (gateway, route) = (Arc::clone(gateway), Arc::clone(route));
    let tasks = gateway.tasks.clone();
    let exchange = async move { carry(&gateway, &route, &request, head, body, intent).await };
    let answer = joined(tasks.spawn(exchange)).await?;
    Ok(Answer { quota, ..answer })
}

/// A task that dies is that request's 500; its intent, dropped, is in doubt.
async fn joined(task: JoinHandle<Result<Answer, GatewayError>>) -> Result<Answer, GatewayError> {
    task.await.unwrap_or_else(|error| {
        if error.is_panic() {
            metrics::counter!(names::PANICS).increment(1);
        }
        Err(GatewayError::Panicked)
    })
}

/// Claims the key that a client gave its write.
async fn claimed(
    engine: &Engine,
    route: &Route,
    request: &Request,
    key: &str,
    content: &[u8],
) -> Result<Claimed, ClaimError> {
    let claimed = engine.claim(idempotency::client_key(route, request, key, content)).await;
    if let Err(error) = &claimed {
        metrics::counter!(names::IDEMPOTENCY, "result" => error.as_str()).increment(1);
    }
    claimed
}

/// What is known of a write before the source is called.
fn draft(route: &Route, sync: &RouteSync, request: &Request, head: &Head, body: Bytes) -> Draft {
    let forwarded = route.forwarded(&request.target);
    let key = sync.key.resolve(&KeySource {
        method: &request.method,
        path: forwarded.path(),
        names: &route.names(&request.target),
        fields: &request.fields,
        body: &body,
    });
    Draft {
        route: Arc::clone(&route.name),
        source: route.source.settings().name.as_str().into(),
        key,
        method: request.method.clone(),
        authority: request.target.authority().as_str().to_owned(),
        client_path_and_query: request.target.path_and_query().to_owned(),
        path_and_query: head.path_and_query.clone(),
        fields: head.fields.clone(),
        body,
        destinations: sync.destinations.clone(),
        claim: None,
    }
}

/// The strong entity tag of what memory has fresh for the target: a source that still has it was not
/// changed. What is stale or was fenced may be older than an earlier write, and its tag proves nothing.
fn known_etag(gateway: &Gateway, route: &Route, request: &Request) -> Option<String> {
    let now = gateway.clock.now();
    let key = route.key(&request.target, &request.fields);
    let found = match gateway.cache.lookup_memory(&key, &request.fields, now) {
        Lookup::Fresh(found) => found,
        Lookup::StaleUsable(_) | Lookup::MustValidate(..) | Lookup::Forward(_) => return None,
    };
    let etag = std::str::from_utf8(found.stored.fields.get(&ETAG)?).ok().filter(|etag| etag.is_ascii())?;
    (!etag.starts_with("W/")).then(|| etag.to_owned())
}

/// What a source's answer says about a synced write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Committed,
    Aborted,
    InDoubt,
}

impl Verdict {
    /// 300 to 302 answer a POST that was done by sending the client to its result, as 303 does; after
    /// other methods they do not tell. 304, 307 and 308 say that nothing was done (RFC 9110 15.4).
    fn of(method: &Method, status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 | 303 => Self::Committed,
            300..=302 if *method == Method::POST => Self::Committed,
            304 | 307 | 308 => Self::Aborted,
            300..=399 | 408 => Self::InDoubt,
            501 | 505 | 400..=499 => Self::Aborted,
            _ => Self::InDoubt,
        }
    }
}

/// Carries a recorded write to the source, its outcome into the journal, and the answer back.
async fn carry(
    gateway: &Arc<Gateway>,
    route: &Route,
    request: &Request,
    mut head: Head,
    body: Bytes,
    mut intent: Intent,
) -> Result<Answer, GatewayError> {
    let written = Written::begin(gateway, route, request, &head);
    let change = HeaderValue::try_from(intent.id().to_string());
    if let Some(own) = intent.own_key() {
        head.fields.entry(IDEMPOTENCY_KEY).or_insert_with(|| own.clone());
    }
    intent.sent();
    let sent = forward::send(route, head, crate::source::full(body), None, ForwardReason::Method).await;
    let mut answer = match sent {
        Err(error) => {
            if error.never_sent() {
                // Without an answer there is nothing that had to be durable.
                intent.refused(None).await.unwrap_or_default();
            } else {
                intent.doubt().await;
            }
            let error = GatewayError::Source(SourceFailure::from(&error), ForwardReason::Method);
            Answer { status: error.cache_status(), response: error.into_response(), quota: None }
        }
        Ok(response) => {
            let verdict = Verdict::of(written.method(), response.status());
            let location = response.headers().get(LOCATION).and_then(|location| written.located(location));
            let location = location.map(|located| route.source.without_base(located).path().to_owned());
            let Aftermath { fate, applied } = written.answered(gateway, route, &response).await;
            let mut answer = fate.answer(response);
            if verdict == Verdict::Committed {
                tell_version(gateway, &mut answer, applied);
            }
            match settle(gateway, verdict, location, &mut answer, intent).await {
                Ok(()) => answer,
                Err(unrecorded) => Answer {
                    response: GatewayError::Record(unrecorded).into_response(),
                    status: CacheStatus::Failed { reason: ForwardReason::Method },
                    quota: None,
                },
            }
        }
    };
    if let Ok(change) = change {
        answer.response.headers_mut().insert(TIDEGATE_CHANGE, change);
    }
    Ok(answer)
}

/// Records the outcome of a write whose answer has come, with the answer where that is kept.
async fn settle(
    gateway: &Gateway,
    verdict: Verdict,
    location: Option<String>,
    answer: &mut Answer,
    intent: Intent,
) -> Result<(), RecordError> {
    let kept = if intent.keeps_answer() && idempotency::keeps(verdict, answer.response.status()) {
        idempotency::captured(answer, gateway.in_flight.share(Work::Copy)).await
    } else {
        None
    };
    match verdict {
        Verdict::Committed => intent.commit(location, kept).await,
        Verdict::Aborted => intent.refused(kept).await,
        Verdict::InDoubt => {
            intent.doubt().await;
            Ok(())
        }
    }
}

/// Tells the client the version that its write has.
fn tell_version(gateway: &Gateway, answer: &mut Answer, applied: Option<Applied>) {
    let version = applied.and_then(|applied| HeaderValue::try_from(gateway.cache.version(applied)).ok());
    if let Some(version) = version {
        answer.response.headers_mut().insert(TIDEGATE_VERSION, version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_about_a_recorded_write() {
        for (status, verdict) in [
            (200, Verdict::Committed),
            (300, Verdict::InDoubt),
            (301, Verdict::InDoubt),
            (302, Verdict::InDoubt),
            (305, Verdict::InDoubt),
            (201, Verdict::Committed),
            (204, Verdict::Committed),
            (303, Verdict::Committed),
            (304, Verdict::Aborted),
            (307, Verdict::Aborted),
            (308, Verdict::Aborted),
            (400, Verdict::Aborted),
            (404, Verdict::Aborted),
            (408, Verdict::InDoubt),
            (409, Verdict::Aborted),
            (429, Verdict::Aborted),
            (500, Verdict::InDoubt),
            (501, Verdict::Aborted),
            (502, Verdict::InDoubt),
            (503, Verdict::InDoubt),
            (504, Verdict::InDoubt),
            (505, Verdict::Aborted),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Verdict::of(&Method::PUT, status), verdict, "{status}");
            let seen_other = matches!(status.as_u16(), 300..=302);
            let of_post = if seen_other { Verdict::Committed } else { verdict };
            assert_eq!(Verdict::of(&Method::POST, status), of_post, "POST {status}");
        }
    }
}
