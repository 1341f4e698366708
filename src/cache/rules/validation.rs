//! Asking the source about a stored response, and what its answer makes of it (RFC 9111 4.3).

use super::entity_tag::EntityTag;
use super::storable::{self, admit};
use super::{
    Exchange, NoStoreReason, RequestHead, ResponseHead, date, freshness, hop_by_hop, stored_fields, tags,
};
use crate::cache::policy::Policy;
use crate::cache::stored::{Reuse, StoredResponse};
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use std::time::Duration;

/// Fields that a 304 or HEAD never changes: what the stored bytes depend on (RFC 9111 3.2).
const NOT_UPDATED: [HeaderName; 4] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_TYPE, CONTENT_RANGE];

/// The client's own conditions and range.
const CONDITIONS: [HeaderName; 6] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];

/// What a 304 made of a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshened {
    /// It takes the place of the stored response.
    Kept(StoredResponse),
    /// It answers those who waited for this validation as far as they may share; the stored one goes.
    NotKept(StoredResponse, NoStoreReason),
    /// The 304 speaks of another response: ask once more without conditions.
    Mismatch,
}

/// What a HEAD response made of a stored GET response (4.3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadEffect {
    /// It takes the place of the stored response.
    Freshened(Box<StoredResponse>),
    /// The stored response is no longer what the source has.
    Invalidates,
    /// Nothing.
    None,
}

/// Takes the client's conditions and range out of a request that fills or validates a stored response:
/// its answer is for everybody.
pub fn remove_conditions(fields: &mut HeaderMap) {
    for name in CONDITIONS {
        fields.remove(name);
    }
}

/// Turns a request into one that validates `stored` (4.3.1); without validators it asks anew.
pub fn add_conditions(stored: &StoredResponse, fields: &mut HeaderMap) {
    remove_conditions(fields);
    if let Some(tag) = stored.fields.get(ETAG) {
        fields.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(modified) = stored.fields.get(LAST_MODIFIED) {
        fields.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Freshens `stored` with the 304 that answered its validation (4.3.4). `request` is the request whose
/// forward it was.
#[must_use]
pub fn freshen(
    stored: &StoredResponse,
    request: RequestHead<'_>,
    not_modified: &HeaderMap,
    policy: &Policy,
    exchange: &Exchange,
) -> Freshened {
    if !speaks_of(stored, not_modified) {
        return Freshened::Mismatch;
    }
    // Whoever asked by HEAD, it is the stored GET response that is updated.
    let request = RequestHead { method: &Method::GET, ..request };
    let merged = merged(stored, not_modified, exchange);
    let response = ResponseHead { status: stored.status, fields: &merged };
    match admit(request, response, policy, exchange) {
        Ok(admitted) => {
            let fresh = admitted.into_stored(stored.body.clone());
            let named = fresh.tags.into_iter().chain(stored.tags.iter().cloned());
            // The fields that named the old ones were not stored, so nothing says that they no longer hold.
            Freshened::Kept(StoredResponse { tags: tags::bounded(named), ..fresh })
        }
        Err(reason) => {
            let once = StoredResponse {
                fields: stored_fields::of_response(&merged, exchange),
                received_at: exchange.received_at,
                initial_age: freshness::initial_age(&merged, exchange),
                freshness_lifetime: Duration::ZERO,
                reuse: Reuse::ValidateAlways,
                ..stored.clone()
            };
            Freshened::NotKept(once, reason)
        }
    }
}

/// What a response to a forwarded HEAD says about a stored GET response that the request selects.
#[must_use]
pub fn head_effect(
    stored: &StoredResponse,
    request: RequestHead<'_>,
    response: ResponseHead<'_>,
    policy: &Policy,
    exchange: &Exchange,
) -> HeadEffect {
    if response.status != StatusCode::OK || stored.status != StatusCode::OK {
        return HeadEffect::None;
    }
    let equal_where_given = |name: &HeaderName| match (response.fields.get(name), stored.fields.get(name)) {
        (Some(given), Some(stored)) => given == stored,
        (Some(_), None) => false,
        (None, _) => true,
    };
    let length = response.fields.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let same_length = length.is_none_or(|length| length.parse() == Ok(stored.body.len()));
    if !same_length || !equal_where_given(&ETAG) || !equal_where_given(&LAST_MODIFIED) {
        return HeadEffect::Invalidates;
    }
    if !storable::has_validator(response.fields) {
        return HeadEffect::None;
    }
    match freshen(stored, request, response.fields, policy, exchange) {
        Freshened::Kept(fresh) => HeadEffect::Freshened(Box::new(fresh)),
        Freshened::NotKept(..) => HeadEffect::Invalidates,
        Freshened::Mismatch => HeadEffect::None,
    }
}

/// Whether a 304 identifies this stored response. One without validators answers the only ones that
/// were asked about, which are this response's.
fn speaks_of(stored: &StoredResponse, not_modified: &HeaderMap) -> bool {
    if not_modified.contains_key(ETAG) {
        let (given, kept) = (EntityTag::of(not_modified), EntityTag::of(&stored.fields));
        return match (given, kept) {
            (Some(given), Some(kept)) if given.is_strong() => given.matches_strongly(&kept),
            (Some(given), Some(kept)) => given.matches_weakly(&kept),
            // Not well-formed: the same bytes are the same validator.
            _ => not_modified.get(ETAG) == stored.fields.get(ETAG),
        };
    }
    let modified = |fields| date::of_field(fields, &LAST_MODIFIED, stored.received_at);
    match (modified(not_modified), modified(&stored.fields)) {
        (Some(given), Some(kept)) => given == kept,
        // A date that only the 304 has cannot contradict the entity tag that was asked about.
        (Some(_), None) => stored.fields.contains_key(ETAG),
        (None, _) => true,
    }
}

/// The stored fields with those of the 304 in the place of their namesakes (3.2). A Date that is not in
/// the 304 is not kept: the response is as old as its last validation.
fn merged(stored: &StoredResponse, not_modified: &HeaderMap, exchange: &Exchange) -> HeaderMap {
    let mut update = not_modified.clone();
    hop_by_hop::remove(&mut update);
    let mut fields = stored.fields.clone();
    fields.insert(DATE, date::format(exchange.received_at));
    for name in update.keys().filter(|name| !NOT_UPDATED.contains(name)) {
        fields.remove(name);
        for value in update.get_all(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

#[cfg(test)]
mod tests;
