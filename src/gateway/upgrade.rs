//! Requests that ask for another protocol (RFC 9110 7.8), on routes that allow it: forwarded for their
//! client alone, never collapsed, stored or sent twice. Only a 101 of the source opens a tunnel.
//!
//! ```text
//! HTTP/1.1 GET without content, a protocol that the route allows?
//!   no  -> an ordinary request: nobody hears of the upgrade
//!   yes -> forward on a connection of its own --101 to that protocol--> answer, then the tunnel
//!                                            `--any other status-----> an ordinary answer
//!                                            `--any other 101--------> 502
//! ```

use super::body::Body;
use super::cache_status::{CacheStatus, Stored};
use super::content::Content;
use super::forward::{self, Purpose};
use super::problem::{GatewayError, SourceFailure};
use super::relay;
use super::reply::Answer;
use super::request::Request;
use super::route::Route;
use super::tunnel::{Opened, SourceSide};
use crate::cache::rules::ForwardReason;
use crate::clock::Timestamp;
use crate::source::{Protocol, SourceBody, Tunnel};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use std::sync::Arc;

/// The route is configured not to look for what is stored: `fwd=bypass` (RFC 9211 2.2).
const REASON: ForwardReason = ForwardReason::Bypass;

/// The protocol that a request asks for, where it may have it. With content there is none: what follows
/// a head is then content, and cannot be the other protocol's as well.
pub(crate) fn asked(route: &Route, request: &Request) -> Option<Protocol> {
    let allowed = route.settings.upgrade.as_slice();
    let may_ask =
        request.version == Version::HTTP_11 && request.method == Method::GET && request.content.is_none();
    if allowed.is_empty() || !may_ask {
        return None;
    }
    Protocol::asked_for(allowed, &request.fields)
}

/// Forwards a request with the upgrade that it asks for.
///
/// # Errors
/// [`GatewayError`]: a quota's word, or the source's failure.
pub(crate) async fn answer(
    route: &Arc<Route>,
    request: Box<Request>,
    protocol: Protocol,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let quota = route.admitted(&request, now).await?;
    let mut head = forward::head(route, &request, Purpose::Relay);
    head.upgrade = Some(protocol.clone());
    let exchange = async {
        let bounds = route.content_bounds;
        let mut response = relay::exchange(route, head, Content::None, bounds, REASON).await?;
        let came_in = response.version();
        forward::pass_on(response.headers_mut(), came_in);
        let status = CacheStatus::Forwarded {
            reason: REASON,
            status: response.status(),
            stored: Stored::NotConsidered,
        };
        let response = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            switched(route, &request, &protocol, response).await?
        } else {
            response.map(Body::forwarded)
        };
        Ok(Answer { response, status, quota: Some(quota) })
    };
    let late = |_| GatewayError::Source(SourceFailure::Timeout, REASON);
    tokio::time::timeout_at(request.deadline, exchange).await.map_err(late)?
}

/// The 101 for the client, with the source's side of the tunnel.
async fn switched(
    route: &Arc<Route>,
    request: &Request,
    protocol: &Protocol,
    response: Response<SourceBody>,
) -> Result<Response<Body>, GatewayError> {
    let gone = |_| GatewayError::Source(SourceFailure::Terminated, REASON);
    let (response, tunnel) = Tunnel::taken(response).await.map_err(gone)?;
    let mut response = response.map(|()| Body::Empty);
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, protocol.value());
    let side = SourceSide::new(tunnel, Arc::clone(route), request.id.clone());
    response.extensions_mut().insert(Opened::new(side));
    Ok(response)
}
