//! The way of a write: to the source, recorded before and delivered after where the route says so;
//! what it made old is forgotten before the client is answered.
//!
//! The exchange with the source runs in a task of its own: a client that leaves changes nothing.

use super::Gateway;
use super::body::Body;
use super::cache_status::{CacheStatus, Stored};
use super::content::Bounds;
use super::forward::{self, Head, Purpose};
use super::made_old;
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
use crate::target::{Authority, Scheme, Target};
use crate::telemetry::metrics as names;
use bytes::Bytes;
use http::header::{CONTENT_LOCATION, ETAG, HOST, LOCATION};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
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
        let bases = bases(&route, &request.target, &head);
        let answer = relay::sent(&route, head, request.content, bounds, ForwardReason::Method).await?;
        forget(&gateway, &route, &request.target, &bases, &answer.response).await;
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
    let draft = draft(route, sync, &request, &head, body.clone());
    let recorded = engine.begin(draft, async { known_etag(gateway, route, &request) });
    let waited = tokio::time::timeout(gateway.settings.request_timeout, recorded);
    let intent = waited.await.map_err(|_| GatewayError::Overloaded)??;
    let (gateway, route) = (Arc::clone(gateway), Arc::clone(route));
    let tasks = gateway.tasks.clone();
    let exchange = async move { carry(&gateway, &route, &request.target, head, body, intent).await };
    let answer = joined(tasks.spawn(exchange)).await?;
    Ok(Answer { quota: Some(quota), ..answer })
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
    }
}

/// The strong entity tag of what memory has fresh for the target: a source that still has it was not
/// changed. What is stale or was fenced may be older than an earlier write, and its tag proves nothing.
fn known_etag(gateway: &Gateway, route: &Route, request: &Request) -> Option<String> {
    let now = gateway.clock.now();
    let found = match gateway.cache.lookup_memory(&route.key(&request.target), &request.fields, now) {
        Lookup::Fresh(found) => found,
        Lookup::StaleUsable(_) | Lookup::MustValidate(..) | Lookup::Forward(_) => return None,
    };
    let etag = found.stored.fields.get(ETAG)?.to_str().ok()?;
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
    gateway: &Gateway,
    route: &Route,
    target: &Target,
    head: Head,
    body: Bytes,
    mut intent: Intent,
) -> Result<Answer, GatewayError> {
    let (bases, method) = (bases(route, target, &head), head.method.clone());
    let change = HeaderValue::try_from(intent.id().to_string());
    intent.sent();
    let sent = forward::send(route, head, crate::source::full(body), None, ForwardReason::Method).await;
    let mut answer = match sent {
        Err(error) => {
            if error.never_sent() {
                intent.abort();
            } else {
                intent.doubt().await;
            }
            let failure = SourceFailure::from(&error);
            Answer {
                response: GatewayError::Source(failure, ForwardReason::Method).into_response(),
                status: CacheStatus::Failed { reason: ForwardReason::Method },
                quota: None,
            }
        }
        Ok(response) => {
            forget(gateway, route, target, &bases, &response).await;
            match settle(route, &method, &bases, &response, intent).await {
                Ok(version) => passed_on(response, version),
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

/// Records the outcome of a write whose answer has come.
async fn settle(
    route: &Route,
    method: &Method,
    bases: &[Target],
    response: &Response<SourceBody>,
    intent: Intent,
) -> Result<Option<Version>, RecordError> {
    match Verdict::of(method, response.status()) {
        Verdict::Committed => {
            let located = response.headers().get(LOCATION).and_then(|location| located(bases, location));
            let location = located.map(|located| route.source.without_base(located).path().to_owned());
            intent.commit(location).await.map(Some)
        }
        Verdict::Aborted => {
            intent.abort();
            Ok(None)
        }
        Verdict::InDoubt => {
            intent.doubt().await;
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
async fn forget<B>(
    gateway: &Gateway,
    route: &Route,
    target: &Target,
    bases: &[Target],
    response: &Response<B>,
) {
    let head = ResponseHead { status: response.status(), fields: response.headers() };
    let mut purges = invalidation::invalidated(target, head);
    if purges.is_empty() {
        return;
    }
    let references = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| response.headers().get(name));
    let base_path = route.source.settings().url.expose().path();
    let paths = references
        .filter_map(|reference| located(bases, reference))
        .flat_map(|located| client_paths(located, base_path, route.settings.strip.as_deref()));
    let authority = target.authority().as_str();
    let named = paths.map(|path| Purge::Path { authority: authority.to_owned(), path });
    for purge in named.chain(made_old(&route.settings.invalidates, authority, target.path())) {
        if !purges.contains(&purge) {
            purges.push(purge);
        }
    }
    gateway.cache.purge(purges, PurgeMode::Hard).await;
}

/// The write's target as the source may speak of it: of the authority that the client asked, of the one
/// sent as Host, and of the source's own.
fn bases(route: &Route, target: &Target, head: &Head) -> Vec<Target> {
    let url = route.source.settings().url.expose();
    let scheme = if url.scheme() == "https" { Scheme::Https } else { Scheme::Http };
    let sent = head.fields.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let named = sent.into_iter().chain([route.source.authority()]);
    let named = named.filter_map(|text| Authority::parse(&text, scheme).ok());
    std::iter::once(target.authority().clone())
        .chain(named)
        .filter_map(|authority| Target::new(target.scheme(), authority, &head.path_and_query).ok())
        .collect()
}

/// What a reference of the source's means, in its own space.
fn located(bases: &[Target], reference: &HeaderValue) -> Option<Target> {
    bases.iter().find_map(|base| invalidation::resolve(base, reference))
}

/// The paths by which clients may know what the source names: as it stands, without the base path of
/// the source's URL, and each with the prefix that `strip` takes off.
fn client_paths(located: Target, base_path: &str, strip: Option<&str>) -> Vec<String> {
    let mut paths = vec![located.path().to_owned()];
    let without_base = located.strip(base_path);
    if !paths.iter().any(|path| path == without_base.path()) {
        paths.push(without_base.path().to_owned());
    }
    if let Some(prefix) = strip.map(|prefix| prefix.trim_end_matches('/')) {
        let behind_prefix: Vec<String> = paths.iter().map(|path| format!("{prefix}{path}")).collect();
        paths.extend(behind_prefix);
    }
    paths
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

    #[test]
    fn i5_what_a_source_names_is_found_as_clients_know_it() {
        for (base, strip, located, paths) in [
            ("/", None, "/items/7", &["/items/7"][..]),
            ("/v2", None, "/v2/items/7", &["/v2/items/7", "/items/7"]),
            ("/v2", None, "/v20/items/7", &["/v20/items/7"]),
            ("/", Some("/api"), "/items/7", &["/items/7", "/api/items/7"]),
            ("/", Some("/api/"), "/apis/7", &["/apis/7", "/api/apis/7"]),
            ("/v2/", Some("/api"), "/v2/a", &["/v2/a", "/a", "/api/v2/a", "/api/a"]),
        ] {
            let target = Target::parse_absolute(&format!("http://h{located}")).unwrap();
            assert_eq!(client_paths(target, base, strip), paths, "{base} {strip:?} {located}");
        }
    }

    #[test]
    fn a_source_may_name_itself_by_the_host_that_it_was_sent() {
        let base = |url| Target::parse_absolute(url).unwrap();
        let bases = [base("http://clients.example/items"), base("http://source:8080/items")];
        for (reference, path) in [
            ("/items/7", Some("/items/7")),
            ("http://clients.example/items/7", Some("/items/7")),
            ("http://source:8080/items/7", Some("/items/7")),
            ("http://source/items/7", None),
        ] {
            let located = located(&bases, &HeaderValue::from_static(reference));
            assert_eq!(located.as_ref().map(Target::path), path, "{reference}");
        }
    }
}
