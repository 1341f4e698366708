//! Whether a response may be stored (RFC 9111 3), and whether those who asked while it was on its way
//! may have it too (RFC 9111 4, I7). Everything that can be decided now is decided now.

use super::cache_control::{Directives, Flag};
use super::early::Early;
use super::freshness::{self, Lifetime};
use super::identity::is_authorized;
use super::vary::{self, Vary};
use super::{Exchange, NoStoreReason, RequestHead, ResponseHead};
use super::{incremental, reuse, stored_fields, tags};
use crate::cache::policy::{Policy, RequestDirectives, SetCookie, Storing};
use crate::cache::stored::{Few, Reuse, Span, StoredResponse, Uses};
use bytes::Bytes;
use http::header::{ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use std::time::Duration;

/// A response that may be stored as soon as its body is complete.
#[derive(Clone, Debug)]
pub struct Admitted {
    stored: StoredResponse,
    lifetime: Option<Lifetime>,
}

impl Admitted {
    /// What was decided, with an empty body.
    #[must_use]
    pub const fn head(&self) -> &StoredResponse {
        &self.stored
    }

    /// Its freshness lifetime and what that was taken from; `None`: it is validated before each use.
    #[must_use]
    pub const fn lifetime(&self) -> Option<Lifetime> {
        self.lifetime
    }

    /// The stored response.
    #[must_use]
    pub fn into_stored(self, body: Bytes) -> StoredResponse {
        StoredResponse { body, ..self.stored }
    }
}

/// Decides on storing when a response's head has arrived.
///
/// # Errors
/// Why it may not be stored.
pub fn admit(
    request: RequestHead<'_>,
    response: ResponseHead<'_>,
    policy: &Policy,
    exchange: &Exchange,
) -> Result<Admitted, NoStoreReason> {
    let directives = Directives::of_response(response.fields);
    let selecting_names = permitted(request, response, policy, &directives)?;
    let lifetime = freshness::lifetime(response, &directives, policy, exchange.received_at);
    let must_validate = lifetime.is_none() || directives.has(Flag::NoCache);
    if lifetime.is_none() && response.status.is_server_error() {
        return Err(NoStoreReason::Status);
    }
    if must_validate && !has_validator(response.fields) {
        return Err(NoStoreReason::NoFreshness);
    }
    if lifetime.is_none() && !freshness::is_cacheable_by_default(response.status, &directives) {
        return Err(NoStoreReason::NoFreshness);
    }
    let lifetime = lifetime.map(|lifetime| lifetime.jittered(exchange.jitter));
    let duration = lifetime.map_or(Duration::ZERO, |lifetime| lifetime.duration);
    let reuse = reuse::decide(&directives, lifetime, policy);
    let took = exchange.received_at.since(exchange.requested_at);
    let stored = StoredResponse {
        status: response.status,
        fields: stored_fields::of_response(response.fields, exchange).into(),
        body: Bytes::new(),
        received_at: exchange.received_at,
        initial_age: freshness::initial_age(response.fields, exchange).into(),
        freshness_lifetime: duration.into(),
        reuse,
        selecting_fields: vary::selecting_fields(selecting_names, request.fields).into(),
        tags: tags::of_response(response.fields, &policy.tags).into(),
        fence: exchange.fence,
        early: Early::decide(took, duration, reuse),
        uses: Uses::default(),
    };
    Ok(Admitted { stored, lifetime })
}

/// Whether the requests that were collapsed into this forward may be answered with its response: what
/// storing could, only that its freshness may be zero. A source that says `no-cache` wants to be asked
/// for each of them (5.2.2.4).
///
/// # Errors
/// Why each of them has to be forwarded.
pub fn may_share(
    request: RequestHead<'_>,
    response: ResponseHead<'_>,
    policy: &Policy,
    exchange: &Exchange,
) -> Result<(), NoStoreReason> {
    let directives = Directives::of_response(response.fields);
    permitted(request, response, policy, &directives)?;
    if directives.has(Flag::NoCache) {
        return Err(NoStoreReason::NoFreshness);
    }
    let lifetime = freshness::lifetime(response, &directives, policy, exchange.received_at);
    // A source in trouble is not asked once more for everyone who waited for its trouble.
    let in_trouble = response.status.is_server_error();
    if incremental::is_sent(response.fields) {
        return Err(NoStoreReason::TooLarge);
    }
    if in_trouble || lifetime.is_some() { Ok(()) } else { Err(NoStoreReason::NoFreshness) }
}

/// The head of a response that is shared but not stored: never to be reused.
#[must_use]
pub fn unstored(request: RequestHead<'_>, response: ResponseHead<'_>, exchange: &Exchange) -> StoredResponse {
    let names = match Vary::of_response(response.fields) {
        Vary::Anything => Vec::new(),
        Vary::Fields(names) => names,
    };
    StoredResponse {
        status: response.status,
        fields: stored_fields::of_response(response.fields, exchange).into(),
        body: Bytes::new(),
        received_at: exchange.received_at,
        initial_age: freshness::initial_age(response.fields, exchange).into(),
        freshness_lifetime: Span::ZERO,
        reuse: Reuse::ValidateAlways,
        selecting_fields: vary::selecting_fields(names, request.fields).into(),
        tags: Few::default(),
        fence: exchange.fence,
        early: Early::NEVER,
        uses: Uses::default(),
    }
}

/// Whether an answer that may not be stored tells that the next ones for its key will not be either, so
/// that nobody should wait for them. Trouble passes, a body's size may be another tomorrow, and what lies
/// in the request or the route says nothing of the response.
#[must_use]
pub fn leaves_marker(reason: NoStoreReason, status: StatusCode) -> bool {
    // The answer to one client's condition or range, where there was one.
    let is_of_one_request = matches!(status.as_u16(), 206 | 304 | 412 | 416);
    if status.is_server_error() || is_of_one_request {
        return false;
    }
    match reason {
        NoStoreReason::Private
        | NoStoreReason::NoStore
        | NoStoreReason::SetCookie
        | NoStoreReason::Authorization
        | NoStoreReason::VaryStar
        | NoStoreReason::Status
        | NoStoreReason::NoFreshness => true,
        NoStoreReason::TooLarge
        | NoStoreReason::Overload
        | NoStoreReason::Purged
        | NoStoreReason::Method
        | NoStoreReason::Bypass
        | NoStoreReason::ClientNoStore
        | NoStoreReason::Partial
        | NoStoreReason::HitForMiss => false,
    }
}

/// Whether the answer to a question about a stored response takes that one away, although it cannot take
/// its place (RFC 9111 4.3.3: what was asked about is not suitable any more). Only where it says what the
/// resource is now, whoever asked.
#[must_use]
pub fn supersedes(reason: NoStoreReason, status: StatusCode) -> bool {
    let says = status.is_success() || status.is_redirection() || matches!(status.as_u16(), 404 | 410);
    let is_of_the_response = !matches!(reason, NoStoreReason::Authorization);
    says && is_of_the_response && leaves_marker(reason, status)
}

/// Whether a response can be validated at all (RFC 9110 8.8).
#[must_use]
pub fn has_validator(fields: &HeaderMap) -> bool {
    fields.contains_key(ETAG) || fields.contains_key(LAST_MODIFIED)
}

/// Everything that forbids storing; what the response varies on where nothing does.
fn permitted(
    request: RequestHead<'_>,
    response: ResponseHead<'_>,
    policy: &Policy,
    directives: &Directives,
) -> Result<Vec<HeaderName>, NoStoreReason> {
    if policy.storing == Storing::Disabled {
        return Err(NoStoreReason::Bypass);
    }
    if !matches!(*request.method, Method::GET | Method::QUERY) {
        return Err(NoStoreReason::Method);
    }
    if policy.request_directives == RequestDirectives::Honour
        && Directives::of_request(request.fields).has(Flag::NoStore)
    {
        return Err(NoStoreReason::ClientNoStore);
    }
    permitted_status(response.status)?;
    permitted_directives(response.status, directives)?;
    if response.fields.contains_key(SET_COOKIE) && policy.set_cookie == SetCookie::NotStored {
        return Err(NoStoreReason::SetCookie);
    }
    // Split by identity, it is found by whoever sends the same only.
    if !policy.identity.splits()
        && is_authorized(request.fields)
        && !directives.allows_sharing_with_authorization()
    {
        return Err(NoStoreReason::Authorization);
    }
    match Vary::of_response(response.fields) {
        Vary::Anything => Err(NoStoreReason::VaryStar),
        Vary::Fields(names) => Ok(names),
    }
}

/// Interim responses, parts and 304 are no complete answer for anybody else. What a fill gets is never
/// the answer to one client's condition or range, so 412 and 416 are statuses as others.
fn permitted_status(status: StatusCode) -> Result<(), NoStoreReason> {
    let is_incomplete = matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED);
    if status.is_informational() || is_incomplete || forbids_storing(status) {
        return Err(NoStoreReason::Status);
    }
    Ok(())
}

/// Statuses of which their definition says that no cache stores them (RFC 6585 3 to 6).
fn forbids_storing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 428 | 429 | 431 | 511)
}

/// `no-store`, unless `must-understand` overrides it (5.2.2.3), and `private`.
fn permitted_directives(status: StatusCode, directives: &Directives) -> Result<(), NoStoreReason> {
    if directives.has(Flag::MustUnderstand) && !is_understood(status) {
        return Err(NoStoreReason::Status);
    }
    if directives.has(Flag::NoStore) && !directives.grants(Flag::MustUnderstand) {
        return Err(NoStoreReason::NoStore);
    }
    if directives.has(Flag::Private) { Err(NoStoreReason::Private) } else { Ok(()) }
}

/// Statuses whose definition asks nothing of a cache that this one does not do (RFC 9110 15).
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 451 | 500..=505)
}

#[cfg(test)]
mod tests;
