//! A read that asks for a part where no whole is stored: answered from a stored part that has all of it.
//! Where nobody else's forward brings it (`read/ranged.rs`), it is forwarded as it is; the answer is kept
//! where that is right (RFC 9111 3.3).

use super::Gateway;
use super::body::Body;
use super::cache_status::{CacheStatus, Stored};
use super::content::Content;
use super::forward::{self, Purpose};
use super::kept::{Keeping, Kept, Whole};
use super::problem::{GatewayError, SourceFailure};
use super::ranged::Ranged;
use super::relay;
use super::reply::{self, Answer};
use super::request::Request;
use super::route::Route;
use crate::cache::rules::partial::{self, Forwarded, Piece};
use crate::cache::rules::reuse::{Demand, demand};
use crate::cache::rules::{Exchange, ForwardReason, NoStoreReason, RequestHead, ResponseHead, storable};
use crate::cache::{CacheKey, Floor, Found};
use crate::clock::Timestamp;
use crate::in_flight::Work;
use crate::source::SourceBody;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use std::sync::Arc;

/// Whether a request asks for a part in the way that is kept and shared.
pub(crate) fn is_plain(request: &Request) -> bool {
    request.method == Method::GET && request.content.is_none()
}

/// Answers a GET with a Range from the fresh part that is stored, if one is.
///
/// # Errors
/// Why it is forwarded: `otherwise`, unless a part is stored.
pub(crate) fn stored(
    found: Option<Found>,
    route: &Route,
    request: &Request,
    (otherwise, floor): (ForwardReason, Floor),
    now: Timestamp,
) -> Result<Answer, ForwardReason> {
    let found = found.filter(|found| floor.admits(found.stored.fence)).ok_or(otherwise)?;
    hit(&found, route, request, now).ok_or(ForwardReason::Partial)
}

fn hit(found: &Found, route: &Route, request: &Request, now: Timestamp) -> Option<Answer> {
    // The request's own Cache-Control, where it counts (RFC 9111 5.2.1).
    if route.directives(request).is_some_and(|asked| demand(&found.stored, &asked, now) != Demand::AsUsual) {
        return None;
    }
    let status = CacheStatus::Hit { ttl: found.stored.ttl_seconds(now), tier: found.tier };
    reply::of_part(&found.stored, request, now, status)
}

/// Forwards the request for this client alone, and keeps the answer where it may be.
///
/// # Errors
/// [`GatewayError`]
pub(crate) async fn fetch(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: Box<Request>,
    reason: ForwardReason,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    if !is_plain(&request) {
        return relay::alone(route, request, reason, now).await;
    }
    let quota = route.admitted(&request, now).await?;
    let head = forward::head(route, &request, Purpose::Relay);
    let (requested_at, fence) = (gateway.clock.now(), gateway.cache.fence());
    let sending = relay::exchange(route, head, Content::None, route.content_bounds, reason);
    let late = |_| GatewayError::Source(SourceFailure::Timeout, reason);
    let response = tokio::time::timeout_at(request.deadline, sending).await.map_err(late)??;
    let received_at = gateway.clock.now();
    let exchange = Exchange { requested_at, received_at, fence, jitter: fastrand::f64() };
    let (mut parts, body) = response.into_parts();
    forward::sign(&mut parts.headers, parts.version);
    let head = ResponseHead { status: parts.status, fields: &parts.headers };
    let asked = RequestHead { method: &request.method, fields: &request.fields };
    let forwarded = Forwarded { request: asked, policy: &route.settings.cache, exchange: &exchange };
    let piece = admit(gateway, forwarded, head, &body);
    let uncut = matches!(piece, Err(NoStoreReason::Partial));
    let whole = uncut.then(|| whole(gateway, route, key, &request, head, &exchange)).flatten();
    forward::end_to_end(&mut parts.headers);
    let share = gateway.in_flight.share(Work::Copy);
    let (body, stored) = match piece {
        Ok(piece) => {
            let (gateway, route, key) = (Arc::clone(gateway), Arc::clone(route), key.clone());
            let fields = request.fields;
            let ranged = Ranged { gateway, route, key, request_fields: fields, exchange, piece, share };
            (Body::Kept(Box::new(Kept::new(body, Keeping::Ranged(ranged)))), Stored::Yes)
        }
        Err(NoStoreReason::Partial) if let Some(whole) = whole => {
            (Body::Kept(Box::new(Kept::new(body, Keeping::Whole(whole)))), Stored::Yes)
        }
        Err(why) => (Body::forwarded(body), Stored::No(why)),
    };
    let status = CacheStatus::Forwarded { reason, status: parts.status, stored };
    Ok(Answer { response: Response::from_parts(parts, body), status, quota: Some(quota) })
}

/// Whether an answer may be kept: where the rules allow it, its framing says what Content-Range does,
/// a tier has room for it, and there is room to hold it until it is complete.
///
/// # Errors
/// Why it is not kept.
pub(crate) fn admit(
    gateway: &Gateway,
    forwarded: Forwarded<'_>,
    response: ResponseHead<'_>,
    body: &SourceBody,
) -> Result<Piece, NoStoreReason> {
    let piece = partial::admit(forwarded, response)?;
    // What does not say its length is compared when it has ended.
    if body.size_hint().exact().is_some_and(|length| length != piece.bytes()) {
        return Err(NoStoreReason::Partial);
    }
    if piece.bytes() > gateway.cache.object_bytes_max() {
        return Err(NoStoreReason::TooLarge);
    }
    if !gateway.in_flight.admits_copy(piece.bytes()) {
        return Err(NoStoreReason::Overload);
    }
    Ok(piece)
}

/// What is kept of a 200 that does not say its length: the source did not cut it, and it is complete when
/// it ends. Its coding is the one that this client asked for, so it must have none.
fn whole(
    gateway: &Gateway,
    route: &Route,
    key: &CacheKey,
    request: &Request,
    response: ResponseHead<'_>,
    exchange: &Exchange,
) -> Option<Whole> {
    let fields = response.fields;
    let is_plain = !fields.contains_key(CONTENT_LENGTH) && !fields.contains_key(CONTENT_ENCODING);
    if response.status != StatusCode::OK || !is_plain {
        return None;
    }
    let head = RequestHead { method: &request.method, fields: &request.fields };
    let admitted = storable::admit(head, response, &route.settings.cache, exchange).ok()?;
    let (cache, key, request_fields) = (Arc::clone(&gateway.cache), key.clone(), request.fields.clone());
    let share = gateway.in_flight.share(Work::Copy);
    Some(Whole { cache, key, admitted, request_fields, share })
}
