//! The way of one request, top to bottom.

use super::access_log::{Asked, Logged};
use super::body::Body;
use super::cache_status::{CacheStatus, LABELS};
use super::interim::Interim;
use super::max_forwards::{self, Forwards};
use super::problem::{GatewayError, SourceFailure};
use super::reply::Answer;
use super::request::{Peer, Request, RequestId, X_REQUEST_ID};
use super::route::{Action, Route};
use super::trailers::Welcome;
use super::{Gateway, door, forward, proxy_status, query, read, relay, strict, upgrade, write};
use crate::clock::Timestamp;
use crate::rate_limit::{Fields, Stage};
use crate::telemetry::{metrics as names, spans};
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{Method, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;

/// Answers one request, whatever happens: an error becomes a problem, a panic a 500.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    peer: &Peer,
    request: http::Request<Incoming>,
    interim: Option<Interim>,
) -> Response<Body> {
    let (now, since) = (gateway.clock.now(), Instant::now());
    let method = request.method().clone();
    let mut request = match strict::admit(request, peer, &gateway.settings, interim, since) {
        Ok(request) => request,
        Err(refusal) => {
            refusal.tell();
            let (response, status) = finished(Err(GatewayError::Refused(refusal)), None, &Fields::default());
            let asked = Asked { began: now, since, method: Some(method), client: peer.address.ip() };
            return gateway.logged(&asked, None, status, response);
        }
    };
    let span = spans::enter(&mut request.fields, || request.method.to_string());
    let seen = Seen::of(gateway, &request, (now, since), span);
    let (outcome, route, quota) = match gateway.routes.settle(&mut request) {
        Err(error) => {
            if let GatewayError::Refused(refusal) = &error {
                refusal.tell();
            }
            (Err(error), None, Fields::default())
        }
        Ok(route) => {
            let mut quota = Fields::default();
            // In one expression: a future that is moved is held twice, and copied with each request.
            let outcome =
                AssertUnwindSafe(way(gateway, route, request, now, &mut quota)).catch_unwind().await;
            let mut outcome = contained(outcome);
            if let Ok(answer) = &mut outcome {
                break_off(answer);
            }
            (outcome, Some(route), quota)
        }
    };
    seen.finish(outcome, route.map(|route| &**route), &quota)
}

/// A panic is that request's 500 and nobody else's.
fn contained(outcome: std::thread::Result<Result<Answer, GatewayError>>) -> Result<Answer, GatewayError> {
    outcome.unwrap_or_else(|_| {
        metrics::counter!(names::PANICS).increment(1);
        Err(GatewayError::Panicked)
    })
}

/// Of an answer that is known to break nothing goes out, but a problem. What it tells of a write's change stays.
fn break_off(answer: &mut Answer) {
    let (CacheStatus::Forwarded { reason, .. } | CacheStatus::Collapsed { reason, .. }) = answer.status
    else {
        return;
    };
    let Err(broken) = answer.response.body_mut().look_ahead() else { return };
    let error = GatewayError::Source(SourceFailure::from(&broken), reason);
    answer.status = error.cache_status();
    let said = std::mem::replace(&mut answer.response, error.into_response());
    for name in [write::TIDEGATE_CHANGE, write::TIDEGATE_VERSION] {
        if let Some(value) = said.headers().get(&name) {
            answer.response.headers_mut().insert(name, value.clone());
        }
    }
}

/// The way: each line is a step, each step one named function.
async fn way(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    mut request: Box<Request>,
    now: Timestamp,
    quota: &mut Fields,
) -> Result<Answer, GatewayError> {
    if forward::is_loop(request.asking()) {
        return Err(GatewayError::Loop);
    }
    route.disbelieve(&mut request);
    if let Some(field) = &gateway.settings.client_name_field {
        door::name_client(&mut request, field);
    }
    let entered = door::enter(route, &mut request, now).await;
    // Whoever is not let in is counted as well: guesses are bounded by quotas.
    *quota = if route.quotas.asks_redis(Stage::Edge) {
        Box::pin(route.admitted_together(Stage::Edge, &request, now)).await?
    } else {
        route.admit(Stage::Edge, &request, now)?
    };
    entered?;
    if Forwards::of(&request.method, &request.fields) == Forwards::Last {
        return Ok(max_forwards::answer(route.settings.methods.as_deref()));
    }
    // What asks the source is boxed: a hit is moved with what it needs, not with what a write would.
    match route.action(&request) {
        Action::Reuse => read::answer(gateway, route, request, now).await,
        Action::Upgrade(protocol) => Box::pin(upgrade::answer(route, request, protocol, now)).await,
        Action::Query => Box::pin(query::answer(gateway, route, request, now)).await,
        Action::Relay(reason) => Box::pin(relay::alone(route, request, reason, now)).await,
        Action::Write => Box::pin(write::forward(gateway, route, request, now)).await,
        Action::Record => Box::pin(write::record(gateway, route, request, now)).await,
    }
}

/// What the log line and the answer need of a request that is gone by then.
struct Seen<'a> {
    gateway: &'a Gateway,
    began: Timestamp,
    id: RequestId,
    method: Method,
    /// When the head was read; finer than `began`.
    since: Instant,
    client: IpAddr,
    trailers: Welcome,
    line: Option<Line>,
    span: Option<spans::Span>,
}

/// The parts of the log line; kept only where it is written.
struct Line {
    host: String,
    path: String,
}

impl<'a> Seen<'a> {
    fn of(
        gateway: &'a Gateway,
        request: &Request,
        (began, since): (Timestamp, Instant),
        span: Option<spans::Span>,
    ) -> Self {
        let logged = tracing::enabled!(target: "tidegate::access", tracing::Level::DEBUG);
        let line = logged.then(|| Line {
            host: request.target.authority().to_string(),
            path: request.target.path().to_owned(),
        });
        Self {
            gateway,
            began,
            id: request.id.clone(),
            method: request.method.clone(),
            since,
            client: request.client.address,
            trailers: Welcome::of(request.version, request.asking()),
            line,
            span,
        }
    }

    fn finish(
        self,
        outcome: Result<Answer, GatewayError>,
        route: Option<&Route>,
        quota: &Fields,
    ) -> Response<Body> {
        let (mut response, status) = finished(outcome, route, quota);
        // What a gateway says it says in its own version (RFC 9110 2.5).
        *response.version_mut() = Version::HTTP_11;
        if let Some(route) = route {
            route.metrics.answered(status, self.since.elapsed());
        }
        if self.method == Method::HEAD {
            without_content(&mut response);
        }
        if self.trailers == Welcome::No {
            response.headers_mut().remove(TRAILER);
        }
        response.headers_mut().insert(X_REQUEST_ID, self.id.value());
        if let Some(line) = self.line {
            let took = self.gateway.clock.now().since(self.began);
            let field = response.headers().get(super::cache_status::CACHE_STATUS);
            tracing::debug!(
                target: "tidegate::access",
                request_id = %self.id,
                method = %self.method,
                host = line.host,
                path = line.path,
                client = %self.client,
                route = route.map_or("", |route| &route.name),
                status = response.status().as_u16(),
                cache_status = field.and_then(|value| value.to_str().ok()).unwrap_or_default(),
                seconds = took.as_secs_f64(),
                "request"
            );
        }
        if let Some(span) = self.span {
            told(span, &self.method, route, status, &response);
        }
        let Self { gateway, began, since, method, client, .. } = self;
        let asked = Asked { began, since, method: Some(method), client };
        gateway.logged(&asked, route.map(|route| &route.name), status, response)
    }
}

impl Gateway {
    /// An answer that leaves a line in the access log once it is sent, where its rule takes it.
    fn logged(
        &self,
        asked: &Asked,
        route: Option<&Arc<str>>,
        status: CacheStatus,
        response: Response<Body>,
    ) -> Response<Body> {
        let Some(log) = &self.access_log else { return response };
        match log.pending(asked, route, (response.status(), status), response.headers()) {
            Some(pending) => response.map(|body| Body::Logged(Box::new(Logged { body, pending }))),
            None => response,
        }
    }
}

/// What a client's span tells; its time is until the head of the answer.
fn told(
    mut span: spans::Span,
    method: &Method,
    route: Option<&Route>,
    status: CacheStatus,
    response: &Response<Body>,
) {
    span.with("http.request.method", method.as_str());
    if let Some(route) = route {
        span.named(format!("{method} {}", route.name));
        span.with("tidegate.route", &*route.name);
    }
    span.with("tidegate.cache_status", LABELS.get(status.index()).copied().unwrap_or_default());
    let change = response.headers().get(write::TIDEGATE_CHANGE);
    if let Some(change) = change.and_then(|value| value.to_str().ok()) {
        span.with("tidegate.change", change);
    }
    span.answered(response.status().as_u16());
}

/// An answer to HEAD has the fields of its content and no content (RFC 9110 9.3.2); HTTP/2 would send it.
fn without_content(response: &mut Response<Body>) {
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    *response.body_mut() = Body::Empty;
}

/// Adds what every answer carries.
fn finished(
    outcome: Result<Answer, GatewayError>,
    route: Option<&Route>,
    quota: &Fields,
) -> (Response<Body>, CacheStatus) {
    let (mut response, status, last) = match outcome {
        Ok(Answer { mut response, status, quota }) => {
            if let Some(route) = route {
                let own = response.status();
                route.settings.response_fields.apply_to_response(own, response.headers_mut());
            }
            (response, status, quota)
        }
        Err(GatewayError::Quota(denied)) => {
            let fields = denied.fields.clone();
            (GatewayError::Quota(denied).into_response(), CacheStatus::Own, Some(fields))
        }
        Err(error) => {
            if let GatewayError::Content(fault) = &error {
                fault.count();
            }
            let status = error.cache_status();
            (error.into_response(), status, None)
        }
    };
    status.append_to(response.headers_mut());
    proxy_status::forwarded(status, response.headers_mut());
    last.as_ref().unwrap_or(quota).apply(response.headers_mut());
    (response, status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[tokio::test]
    async fn a_panic_is_that_requests_500() {
        let way = AssertUnwindSafe(async { panic!("a fault of its own") });
        let outcome = contained(way.catch_unwind().await);
        let (response, status) = finished(outcome, None, &Fields::default());
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status, CacheStatus::Own);
    }
}
