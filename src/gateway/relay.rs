//! A request and its answer, passed through for one client alone.

use super::body::Body;
use super::cache_status::{CacheStatus, Stored};
use super::content::{Bounds, Content};
use super::forward::{self, Purpose};
use super::problem::{GatewayError, SourceFailure};
use super::reply::Answer;
use super::request::Request;
use super::route::Route;
use crate::cache::rules::ForwardReason;
use crate::clock::Timestamp;
use crate::source::SourceBody;
use http::Response;
use std::pin::pin;
use std::sync::Arc;

/// Relays a request; both bodies stream.
///
/// # Errors
/// [`GatewayError`]: the content's fault, or the source's.
pub(crate) async fn alone(
    route: &Arc<Route>,
    request: Box<Request>,
    reason: ForwardReason,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let quota = route.admitted(&request, now).await?;
    let bounds = route.content_bounds;
    request.content.within(bounds)?;
    let head = forward::head(route, &request, Purpose::Relay);
    let (nothing_to_send, timeout) = (request.content.is_none(), head.timeout);
    let sending = pin!(sent(route, head, request.content, bounds, reason));
    let answer = if nothing_to_send {
        let late = GatewayError::Source(SourceFailure::Timeout, reason);
        forward::until(request.deadline, timeout, sending).await.ok_or(late)??
    } else {
        // An upload takes as long as it moves; then the source's own `timeout` counts.
        sending.await?
    };
    Ok(Answer { quota: Some(quota), ..answer })
}

/// Sends a head with a client's content.
///
/// # Errors
/// [`GatewayError`]: the content's fault, or the source's.
pub(crate) async fn exchange(
    route: &Route,
    head: forward::Head,
    content: Content,
    bounds: Bounds,
    reason: ForwardReason,
) -> Result<Response<SourceBody>, GatewayError> {
    let stream = content.stream(bounds);
    let outcome = forward::send(route, head, stream.body, stream.upload.as_ref(), reason).await;
    outcome.map_err(|error| match stream.fault.get() {
        Some(fault) => GatewayError::Content(*fault),
        None => GatewayError::Source(SourceFailure::from(&error), reason),
    })
}

/// Sends a head with a client's content and passes the answer on.
async fn sent(
    route: &Route,
    head: forward::Head,
    content: Content,
    bounds: Bounds,
    reason: ForwardReason,
) -> Result<Answer, GatewayError> {
    let mut response = exchange(route, head, content, bounds, reason).await?;
    let came_in = response.version();
    forward::pass_on(response.headers_mut(), came_in);
    let status = CacheStatus::Forwarded { reason, status: response.status(), stored: Stored::NotConsidered };
    Ok(Answer { response: response.map(Body::forwarded), status, quota: None })
}
