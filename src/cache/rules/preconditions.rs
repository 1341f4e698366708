//! A client's conditions against the response that it would get (RFC 9111 4.3.2, RFC 9110 13.2.2), and the
//! 304 that answers them.

use super::cache_control::CDN_CACHE_CONTROL;
use super::date;
use super::entity_tag::{EntityTag, TagList};
use crate::cache::stored::StoredFields;
use crate::clock::Timestamp;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// What a 304 that we make carries (RFC 9110 15.4.5), CDN-Cache-Control as Cache-Control (RFC 9213 2.2); Age
/// and Cache-Status are added as to every answer.
const NOT_MODIFIED_FIELDS: [HeaderName; 7] =
    [CACHE_CONTROL, CDN_CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY];

/// What a request's conditions make of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is sent; a Range may still select a part of it.
    Send,
    /// 304 instead.
    NotModified,
}

/// Whether a request has a condition that only the source can decide on: a cache does not evaluate
/// If-Match and If-Unmodified-Since (RFC 9111 4.3.2).
#[must_use]
pub fn are_for_the_source(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// Whether a request has a condition that is evaluated here.
#[must_use]
pub fn are_given(request: &HeaderMap) -> bool {
    !request.is_empty() && (request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE))
}

/// What conditions are compared with: the values of three fields of a response, where it has them.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    etag: Option<&'a [u8]>,
    last_modified: Option<&'a [u8]>,
    date: Option<&'a [u8]>,
}

impl<'a> From<&'a HeaderMap> for Compared<'a> {
    fn from(fields: &'a HeaderMap) -> Self {
        let of = |name| fields.get(name).map(HeaderValue::as_bytes);
        Self { etag: of(ETAG), last_modified: of(LAST_MODIFIED), date: of(DATE) }
    }
}

impl<'a> From<&'a StoredFields> for Compared<'a> {
    fn from(fields: &'a StoredFields) -> Self {
        let of = |name| fields.get(&name);
        Self { etag: of(ETAG), last_modified: of(LAST_MODIFIED), date: of(DATE) }
    }
}

/// Evaluates the conditions of a GET or HEAD request that are not for the source. `received_at` is when the response
/// arrived.
#[must_use]
pub fn evaluate(
    request: &HeaderMap,
    status: StatusCode,
    response: Compared<'_>,
    received_at: Timestamp,
) -> Answer {
    // RFC 9110 13.2.1: conditions count only where the answer would be successful without them.
    if !status.is_success() {
        return Answer::Send;
    }
    let unchanged = match TagList::of(request, &IF_NONE_MATCH) {
        Some(TagList::Any) => true,
        Some(TagList::Tags(tags)) => {
            let kept = response.etag.and_then(EntityTag::parse);
            kept.is_some_and(|kept| tags.iter().any(|tag| tag.matches_weakly(&kept)))
        }
        None => is_unmodified(request, response, received_at),
    };
    if unchanged { Answer::NotModified } else { Answer::Send }
}

/// If-Modified-Since, against Date or the arrival where there is no Last-Modified (RFC 9111 4.3.2).
fn is_unmodified(request: &HeaderMap, response: Compared<'_>, received_at: Timestamp) -> bool {
    let mut lines = request.get_all(IF_MODIFIED_SINCE).iter();
    // Several lines are no date (RFC 9110 13.1.3).
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some(since) = date::parse(line, received_at) else { return false };
    let read = |value: Option<&[u8]>| date::read(value?, received_at);
    let modified = read(response.last_modified).or_else(|| read(response.date)).unwrap_or(received_at);
    date::whole_seconds(modified) <= date::whole_seconds(since)
}

/// The fields of the 304 that stands for a response with these: those that a 200 would carry too, and
/// Last-Modified only where no entity tag says as much.
#[must_use]
pub fn not_modified_fields(response: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let modified = if response.contains_key(ETAG) { None } else { Some(LAST_MODIFIED) };
    for name in NOT_MODIFIED_FIELDS.into_iter().chain(modified) {
        for value in response.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

/// As [`not_modified_fields`], of a stored response.
#[must_use]
pub fn not_modified(response: &StoredFields) -> HeaderMap {
    response.select(tells_not_modified(response))
}

/// Which fields of a stored response the 304 that stands for it carries.
pub fn tells_not_modified(response: &StoredFields) -> impl Fn(&HeaderName) -> bool {
    let is_tagged = response.get(&ETAG).is_some();
    move |name| NOT_MODIFIED_FIELDS.contains(name) || (*name == LAST_MODIFIED && !is_tagged)
}

/// As [`not_modified_fields`], for an answer that came for this client alone: also what it says to the
/// client rather than of the content, and the age that it had.
#[must_use]
pub fn not_modified_fields_for_one(response: &HeaderMap) -> HeaderMap {
    let mut fields = not_modified_fields(response);
    for name in [AGE, SET_COOKIE] {
        for value in response.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

#[cfg(test)]
mod tests;
