//! Asking the source about stored responses, and what its answer makes of them (RFC 9111 4.3).

use super::cache_control::Directives;
use super::entity_tag::EntityTag;
use super::identity::is_authorized;
use super::storable::{self, admit};
use super::vary;
use super::{Exchange, NoStoreReason, RequestHead, ResponseHead, date, early, hop_by_hop, tags};
use crate::cache::policy::Policy;
use crate::cache::stored::{Reuse, Span, StoredResponse};
use crate::clock::Timestamp;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE,
    DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::sync::Arc;

/// Bytes of entity tags sent in one request; the variants that no longer fit are not asked about.
pub const TAGS_BYTES_MAX: usize = 4096;

/// Fields by which the stored bytes are read, and of the bytes of one message.
const OF_THE_BYTES: [HeaderName; 4] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_TYPE, CONTENT_RANGE];

/// The client's own conditions and range.
pub(super) const CONDITIONS: [HeaderName; 6] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];

/// What a request to the source asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: it asks for the whole.
    #[default]
    Nothing,
    /// The stored response that the request selects.
    Selected(Arc<StoredResponse>),
    /// Variants that it does not select, any of which may be what the source would send (4.1, 4.3.1).
    Others(Vec<Arc<StoredResponse>>),
}

/// What a 304 made of a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshened {
    /// It takes the place of the stored response.
    Kept(StoredResponse),
    /// It answers the one whose request it was, and is not stored.
    NotKept(StoredResponse, NoStoreReason),
}

/// What a HEAD response made of a stored GET response (4.3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadEffect {
    /// This takes its place: it is freshened.
    Freshened(Box<StoredResponse>),
    /// This takes its place: it is stale, and validated before it is used.
    Stale(Box<StoredResponse>),
    /// It may no longer be stored.
    Removed,
    /// Nothing.
    None,
}

/// Whether a field is a client's own condition or range: it does not go with a request that fills or validates a
/// stored response, whose answer is for everybody.
#[must_use]
pub fn is_condition(name: &HeaderName) -> bool {
    CONDITIONS.contains(name)
}

fn remove_conditions(fields: &mut HeaderMap) {
    for name in CONDITIONS {
        fields.remove(name);
    }
}

/// Turns a request into one that asks about stored responses (4.3.1). Without validators, and about
/// nothing, it asks for the whole.
pub fn add_conditions(asked: &Asked, fields: &mut HeaderMap) {
    remove_conditions(fields);
    match asked {
        Asked::Nothing => {}
        Asked::Selected(stored) => {
            for (name, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
                if let Some(Ok(validator)) = stored.fields.get(&name).map(HeaderValue::from_bytes) {
                    fields.insert(condition, validator);
                }
            }
        }
        // A date does not tell one variant from another.
        Asked::Others(variants) => {
            if let Some(list) = tag_list(variants) {
                fields.insert(IF_NONE_MATCH, list);
            }
        }
    }
}

/// The entity tags of several, each once.
fn tag_list(variants: &[Arc<StoredResponse>]) -> Option<HeaderValue> {
    let mut tags: Vec<&[u8]> = Vec::new();
    let mut bytes = 0;
    for tag in variants.iter().filter_map(|stored| stored.fields.get(&ETAG)) {
        bytes += tag.len();
        if !tags.contains(&tag) && bytes <= TAGS_BYTES_MAX {
            tags.push(tag);
        }
    }
    if tags.is_empty() { None } else { HeaderValue::from_bytes(&tags.join(&b", "[..])).ok() }
}

/// What a request that selects none of the stored variants asks about: those whose content it may get.
/// Only a strong tag says that the content is the same whatever the request asked for.
#[must_use]
pub fn askable(variants: Vec<Arc<StoredResponse>>, request: &HeaderMap) -> Asked {
    let mut variants = variants;
    variants.retain(|stored| {
        tag_of(stored).is_some_and(|tag| tag.is_strong())
            && stored.status == StatusCode::OK
            && stored.selecting_fields.iter().all(|(name, value)| may_differ(name, value.as_ref(), request))
    });
    if variants.is_empty() { Asked::Nothing } else { Asked::Others(variants) }
}

/// Whether a variant may be asked about although it was selected by another value of this field. Some
/// sources give the codings of one representation one tag: the client could not read it, or would get it
/// uncompressed from then on. And no source's carelessness with tags shall show one user's response to
/// another.
fn may_differ(name: &HeaderName, value: Option<&HeaderValue>, request: &HeaderMap) -> bool {
    let counts = [ACCEPT_ENCODING, AUTHORIZATION, COOKIE].contains(name);
    !counts || vary::normalised(request, name).as_ref() == value
}

/// The stored responses that a 304 updates (4.3.4), the most recent first; none: it speaks of something
/// else, and the whole is asked for. `selected`: all that could have been chosen for the request, the
/// most recent first; `asked` is one of them.
#[must_use]
pub fn identified(
    asked: &Arc<StoredResponse>,
    selected: &[Arc<StoredResponse>],
    not_modified: &HeaderMap,
) -> Vec<Arc<StoredResponse>> {
    let others = selected.iter().filter(|other| other.selecting_fields != asked.selecting_fields);
    let initial: Vec<_> = std::iter::once(asked).chain(others).cloned().collect();
    if storable::has_validator(not_modified) {
        by_validator(&initial, not_modified)
    } else {
        // It answers the only response that it was asked about.
        vec![Arc::clone(asked)]
    }
}

/// As [`identified`], where the conditions were the client's: what the 304 does not name is unknown.
#[must_use]
pub fn by_validator(initial: &[Arc<StoredResponse>], not_modified: &HeaderMap) -> Vec<Arc<StoredResponse>> {
    let strong = match (EntityTag::of(not_modified), not_modified.get(ETAG)) {
        (Some(tag), _) => tag.is_strong(),
        // Not well-formed: the same bytes are the same validator.
        (None, Some(_)) => true,
        (None, None) => false,
    };
    let same = initial.iter().filter(|stored| has_same_validator(stored, not_modified)).cloned();
    same.take(if strong { usize::MAX } else { 1 }).collect()
}

/// The variant that a 304 names where the request selects none: only a strong tag names content.
#[must_use]
pub fn named<'a>(
    others: &'a [Arc<StoredResponse>],
    not_modified: &HeaderMap,
) -> Option<&'a Arc<StoredResponse>> {
    let tag = EntityTag::of(not_modified).filter(EntityTag::is_strong)?;
    others.iter().find(|other| tag_of(other).is_some_and(|own| own.matches_strongly(&tag)))
}

/// Whether the validator of a 304 is that of a stored response: its entity tag, else its date.
fn has_same_validator(stored: &StoredResponse, not_modified: &HeaderMap) -> bool {
    let (given, kept) = (not_modified.get(ETAG).map(HeaderValue::as_bytes), stored.fields.get(&ETAG));
    if given.is_some() {
        return match (EntityTag::of(not_modified), tag_of(stored)) {
            (Some(given), Some(kept)) if given.is_strong() => given.matches_strongly(&kept),
            (Some(given), Some(kept)) => given.matches_weakly(&kept),
            _ => given == kept,
        };
    }
    is_same_date(stored, not_modified)
}

/// The entity tag of a stored response; `None` where it has none that can be read.
fn tag_of(stored: &StoredResponse) -> Option<EntityTag<'_>> {
    stored.fields.get(&ETAG).and_then(EntityTag::parse)
}

fn last_modified(stored: &StoredResponse) -> Option<HeaderValue> {
    stored.fields.get(&LAST_MODIFIED).and_then(|value| HeaderValue::from_bytes(value).ok())
}

/// Whether Last-Modified is there and the same; what is no date is compared by its bytes.
fn is_same_date(stored: &StoredResponse, given: &HeaderMap) -> bool {
    let (given, kept) = (given.get(LAST_MODIFIED), last_modified(stored));
    let read = |value: Option<&HeaderValue>| date::parse(value?, stored.received_at);
    match (read(given), read(kept.as_ref())) {
        (Some(given), Some(kept)) => given == kept,
        _ => given.is_some() && given == kept.as_ref(),
    }
}

/// Updates `stored` with the 304 that identifies it (4.3.4). `request` is the request whose forward it
/// was: where the fields that select change, or it selected another variant, its own count.
#[must_use]
pub fn freshen(
    stored: &StoredResponse,
    request: RequestHead<'_>,
    not_modified: &HeaderMap,
    policy: &Policy,
    exchange: &Exchange,
) -> Freshened {
    // Whoever asked by HEAD, it is the stored GET response that is updated.
    let request = RequestHead { method: &Method::GET, ..request };
    let merged = merged(stored, not_modified, exchange);
    let response = ResponseHead { status: stored.status, fields: &merged };
    let admitted = if may_update(request, not_modified, policy) {
        admit(request, response, policy, exchange)
    } else {
        Err(NoStoreReason::Authorization)
    };
    match admitted {
        Ok(admitted) => {
            let fresh = early::smoothed(admitted.into_stored(stored.body.clone()), stored);
            let named = fresh.tags.into_iter().chain(stored.tags.iter().cloned());
            // The fields that named the old ones were not stored, so nothing says that they no longer hold.
            Freshened::Kept(StoredResponse { tags: tags::bounded(named).into(), ..fresh })
        }
        Err(reason) => {
            let once = storable::unstored(request, response, exchange);
            Freshened::NotKept(StoredResponse { body: stored.body.clone(), ..once }, reason)
        }
    }
}

/// Whether what this request was answered with may become part of a response for others: with
/// Authorization only by its own word (3.5), not by that of what it updates.
fn may_update(request: RequestHead<'_>, update: &HeaderMap, policy: &Policy) -> bool {
    policy.identity.splits()
        || !is_authorized(request.fields)
        || Directives::of_response(update).allows_sharing_with_authorization()
}

/// Whether what was stored goes when its update is not kept for this reason. Where the reason lies in the
/// request, nothing forbids what others were given before.
#[must_use]
pub const fn removes(reason: NoStoreReason) -> bool {
    !matches!(reason, NoStoreReason::Authorization | NoStoreReason::ClientNoStore)
}

/// What a response to a forwarded HEAD says about a stored GET response that the request selects (4.3.5).
///
/// A HEAD response without validators and length says nothing of a stored response that has a validator:
/// that one can be validated better.
#[must_use]
pub fn head_effect(
    stored: &StoredResponse,
    request: RequestHead<'_>,
    response: ResponseHead<'_>,
    policy: &Policy,
    exchange: &Exchange,
) -> HeadEffect {
    if response.status != StatusCode::OK {
        return HeadEffect::None;
    }
    let stale = || HeadEffect::Stale(Box::new(made_stale(stored, exchange.received_at)));
    let length = response.fields.get(CONTENT_LENGTH);
    let same_length = length.is_none_or(|length| is_length(length, stored.body.len()));
    let tag = response.fields.get(ETAG);
    let same_tag = tag.is_none_or(|tag| stored.fields.get(&ETAG) == Some(tag.as_bytes()));
    let same_date = !response.fields.contains_key(LAST_MODIFIED) || is_same_date(stored, response.fields);
    let says_something = storable::has_validator(response.fields) || length.is_some();
    let comparable = says_something
        || !(stored.fields.get(&ETAG).is_some() || stored.fields.get(&LAST_MODIFIED).is_some());
    if stored.status != StatusCode::OK || !(same_length && same_tag && same_date && comparable) {
        return stale();
    }
    match freshen(stored, request, response.fields, policy, exchange) {
        Freshened::Kept(fresh) => HeadEffect::Freshened(Box::new(fresh)),
        Freshened::NotKept(_, reason) if removes(reason) => HeadEffect::Removed,
        Freshened::NotKept(..) => HeadEffect::None,
    }
}

fn is_length(value: &HeaderValue, length: usize) -> bool {
    value.to_str().is_ok_and(|text| text.trim().parse() == Ok(length))
}

/// The same, stale from now on and validated before it is used; where the source then fails, the windows
/// for that run from now. It is not newer for it: received and fence stay (I5).
fn made_stale(stored: &StoredResponse, now: Timestamp) -> StoredResponse {
    let reuse = match stored.reuse {
        Reuse::WithStale { if_error, on_disconnect, .. } => {
            let none = Span::ZERO;
            Reuse::WithStale { while_revalidate: none, if_error, on_disconnect, on_request: none }
        }
        other => other,
    };
    let freshness_lifetime = stored.freshness_lifetime.min(stored.current_age(now).into());
    StoredResponse { freshness_lifetime, reuse, ..stored.clone() }
}

/// Whether a 304, or the response to a HEAD, changes a stored field of this name (3.2).
///
/// The stored bytes stay, so what they are read by stays too: a source that sends such a field with another
/// value speaks of other bytes, or of the empty content of its own message. Beginning with `Content-` is no
/// sign of that.
fn is_updated(name: &HeaderName) -> bool {
    !OF_THE_BYTES.contains(name)
}

/// The stored fields with those of the 304 in the place of their namesakes (3.2). A Date that is not in
/// the 304 is not kept: the response is as old as its last validation.
fn merged(stored: &StoredResponse, not_modified: &HeaderMap, exchange: &Exchange) -> HeaderMap {
    let mut update = not_modified.clone();
    hop_by_hop::remove(&mut update);
    let mut fields = stored.fields.to_map();
    fields.insert(DATE, date::format(exchange.received_at));
    for name in update.keys().filter(|name| is_updated(name)) {
        fields.remove(name);
        for value in update.get_all(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

#[cfg(test)]
mod tests;
