//! The way of a write: to the source, recorded before and delivered after where the route says so;
//! what it made old is forgotten before the client is answered.
//!
//! The exchange with the source runs in a task of its own: a client that leaves changes nothing.

use super::Gateway;
use super::Invalidates;
use super::body::Body;
use super::cache_status::{CacheStatus, Stored};
use super::content::Bounds;
use super::forward::{self, Head, Purpose};
use super::problem::{GatewayError, SourceFailure};
use super::relay;
use super::reply::Answer;
use super::request::Request;
use super::route::Route;
use crate::cache::rules::{ForwardReason, ResponseHead, invalidation};
use crate::cache::{Lookup, Purge, PurgeMode};
use crate::clock::Timestamp;
use crate::rate_limit::Stage;
use crate::source::SourceBody;
use crate::sync::{Draft, Intent, KeySource, RecordError, RouteSync, Version};
use crate::target::Target;
use bytes::Bytes;
use http::header::{ETAG, LOCATION};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use std::sync::Arc;
use tokio::task::JoinHandle;

const TIDEGATE_CHANGE: HeaderName = HeaderName::from_static("tidegate-change");
const TIDEGATE_VERSION: HeaderName = HeaderName::from_static("tidegate-version");

/// Forwards a write of a route that records nothing; its content streams.
///
/// # Errors
/// [`GatewayError`]
pub(crate) async fn forward(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    request: Request,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let quota = route.admit(Stage::Source, &request, now)?;
    let bounds = route.content_bounds;
    request.content.within(bounds)?;
    let head = forward::head(route, &request, Purpose::Relay);
    let (gateway, route) = (Arc::clone(gateway), Arc::clone(route));
    let tasks = gateway.tasks.clone();
    joined(tasks.spawn(async move {
        let answer = relay::sent(&route, head, request.content, bounds, ForwardReason::Method).await?;
        forget(&gateway, &route, &request.target, &answer.response).await;
        Ok(Answer { quota: Some(quota), ..answer })
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
    mut request: Request,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let (Some(engine), Some(sync)) = (&gateway.engine, &route.settings.sync) else {
        return forward(gateway, route, request, now).await;
    };
    let quota = route.admit(Stage::Source, &request, now)?;
    let head = forward::head(route, &request, Purpose::Relay);
    let bounds = route.content_bounds;
    let bytes_max = bounds.bytes_max.map_or(sync.body_bytes_max, |bytes| bytes.min(sync.body_bytes_max));
    let content = std::mem::replace(&mut request.content, super::content::Content::None);
    let body = content.collect(Bounds { bytes_max: Some(bytes_max), ..bounds }).await?;
    let draft = draft(gateway, route, sync, &request, &head, body.clone()).await;
    let waited = tokio::time::timeout(gateway.settings.request_timeout, engine.begin(draft));
    let intent = waited.await.map_err(|_| GatewayError::Overloaded)??;
    let (gateway, route) = (Arc::clone(gateway), Arc::clone(route));
    let tasks = gateway.tasks.clone();
    let exchange = async move { carry(&gateway, &route, &request.target, head, body, intent).await };
    let answer = joined(tasks.spawn(exchange)).await?;
    Ok(Answer { quota: Some(quota), ..answer })
}

/// A task that dies is that request's 500; its intent, dropped, is in doubt.
async fn joined(task: JoinHandle<Result<Answer, GatewayError>>) -> Result<Answer, GatewayError> {
    task.await.unwrap_or(Err(GatewayError::Panicked))
}

/// What is known of a write before the source is called.
async fn draft(
    gateway: &Gateway,
    route: &Route,
    sync: &RouteSync,
    request: &Request,
    head: &Head,
    body: Bytes,
) -> Draft {
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
        known_etag: known_etag(gateway, route, request).await,
    }
}

/// The strong entity tag that is stored for the target, fresh or not: a source that still has it was not
/// changed.
async fn known_etag(gateway: &Gateway, route: &Route, request: &Request) -> Option<String> {
    let now = gateway.clock.now();
    let stored = match gateway.cache.peek(&route.key(&request.target), &request.fields, now).await {
        Lookup::Fresh(found) | Lookup::StaleUsable(found) | Lookup::MustValidate(found, _) => found.stored,
        Lookup::Forward(_) => return None,
    };
    let etag = stored.fields.get(ETAG)?.to_str().ok()?;
    (!etag.starts_with("W/")).then(|| etag.to_owned())
}

/// What a source's answer says about a synced write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Committed,
    Aborted,
    InDoubt,
}

impl Verdict {
    const fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 | 303 => Self::Committed,
            408 => Self::InDoubt,
            304 | 307 | 308 | 400..=499 | 501 | 505 => Self::Aborted,
            _ => Self::InDoubt,
        }
    }
}

/// Carries a recorded write to the source, its outcome into the journal, and the answer back.
async fn carry(
    gateway: &Gateway,
    route: &Route,
    target: &Target,
    head: Head,
    body: Bytes,
    mut intent: Intent,
) -> Result<Answer, GatewayError> {
    let forwarded = Target::new(target.scheme(), target.authority().clone(), &head.path_and_query);
    let change = HeaderValue::try_from(intent.id().to_string());
    intent.sent();
    let sent = forward::send(route, head, crate::source::full(body), None, ForwardReason::Method).await;
    let mut answer = match sent {
        Err(error) => {
            if error.never_sent() {
                intent.abort();
            } else {
                intent.doubt();
            }
            let failure = SourceFailure::from(&error);
            Answer {
                response: GatewayError::Source(failure, ForwardReason::Method).into_response(),
                status: CacheStatus::Failed { reason: ForwardReason::Method },
                quota: None,
            }
        }
        Ok(response) => match settle(gateway, route, target, forwarded.ok(), &response, intent).await {
            Ok(version) => passed_on(response, version),
            Err(unrecorded) => Answer {
                response: GatewayError::Record(unrecorded).into_response(),
                status: CacheStatus::Failed { reason: ForwardReason::Method },
                quota: None,
            },
        },
    };
    if let Ok(change) = change {
        answer.response.headers_mut().insert(TIDEGATE_CHANGE, change);
    }
    Ok(answer)
}

/// Forgets what the write made old, then records its outcome.
async fn settle(
    gateway: &Gateway,
    route: &Route,
    target: &Target,
    forwarded: Option<Target>,
    response: &Response<SourceBody>,
    intent: Intent,
) -> Result<Option<Version>, RecordError> {
    forget(gateway, route, target, response).await;
    match Verdict::of(response.status()) {
        Verdict::Committed => {
            let location = response.headers().get(LOCATION);
            let location = forwarded.zip(location).and_then(|(base, location)| {
                let located = invalidation::resolve(&base, location)?;
                Some(route.source.without_base(located).path().to_owned())
            });
            intent.commit(location).await.map(Some)
        }
        Verdict::Aborted => {
            intent.abort();
            Ok(None)
        }
        Verdict::InDoubt => {
            intent.doubt();
            Ok(None)
        }
    }
}

fn passed_on(mut response: Response<SourceBody>, version: Option<Version>) -> Answer {
    forward::pass_on(response.headers_mut());
    if let Some(version) = version.and_then(|version| HeaderValue::try_from(version.0).ok()) {
        response.headers_mut().insert(TIDEGATE_VERSION, version);
    }
    let status = CacheStatus::Forwarded {
        reason: ForwardReason::Method,
        status: response.status(),
        stored: Stored::NotConsidered,
    };
    Answer { response: response.map(Body::forwarded), status, quota: None }
}

/// Moves the fence of everything that an answered write made old (RFC 9111 4.4): before the client
/// hears of it (I5).
async fn forget<B>(gateway: &Gateway, route: &Route, target: &Target, response: &Response<B>) {
    let head = ResponseHead { status: response.status(), fields: response.headers() };
    let mut purges = invalidation::invalidated(target, head);
    if purges.is_empty() {
        return;
    }
    purges.extend(stripped_again(route, &purges));
    purges.extend(route.settings.invalidates.iter().map(|what| match what {
        Invalidates::Path(path) => {
            Purge::Path { authority: target.authority().as_str().to_owned(), path: path.clone() }
        }
        Invalidates::Prefix(path) => {
            Purge::Prefix { authority: Some(target.authority().as_str().to_owned()), path: path.clone() }
        }
        Invalidates::Tag(tag) => Purge::Tag(tag.clone()),
    }));
    gateway.cache.purge(purges, PurgeMode::Hard).await;
}

/// A source behind `strip` names itself in Location without the prefix by which clients know it.
fn stripped_again(route: &Route, purges: &[Purge]) -> Vec<Purge> {
    let Some(prefix) = &route.settings.strip else { return Vec::new() };
    let prefix = prefix.trim_end_matches('/');
    let with_prefix = purges.iter().filter_map(|purge| match purge {
        Purge::Path { authority, path } if !path.starts_with(prefix) => {
            Some(Purge::Path { authority: authority.clone(), path: format!("{prefix}{path}") })
        }
        _ => None,
    });
    with_prefix.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_about_a_recorded_write() {
        for (status, verdict) in [
            (200, Verdict::Committed),
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
            assert_eq!(Verdict::of(StatusCode::from_u16(status).unwrap()), verdict, "{status}");
        }
    }
}
