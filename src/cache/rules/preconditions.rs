//! A client's conditions against a stored response (RFC 9111 4.3.2, RFC 9110 13.2.2), and the 304 that
//! answers them.

use super::cache_control::CDN_CACHE_CONTROL;
use super::date;
use super::entity_tag::{EntityTag, TagList};
use crate::cache::stored::StoredResponse;
use http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName};

/// What a 304 that we make carries (RFC 9110 15.4.5), CDN-Cache-Control as Cache-Control (RFC 9213 2.2); Age
/// and Cache-Status are added as to every answer.
const NOT_MODIFIED_FIELDS: [HeaderName; 7] =
    [CACHE_CONTROL, CDN_CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY];

/// What a request's conditions make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is sent; a Range may still select a part of it.
    Send,
    /// 304 instead.
    NotModified,
    /// The condition is the source's to decide (If-Match, If-Unmodified-Since).
    Forward,
}

/// Evaluates the conditions of a GET or HEAD request.
#[must_use]
pub fn evaluate(request: &HeaderMap, stored: &StoredResponse) -> Answer {
    if request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE) {
        return Answer::Forward;
    }
    // RFC 9110 13.2.1: conditions count only where the answer would be successful without them.
    if !stored.status.is_success() {
        return Answer::Send;
    }
    let unchanged = match TagList::of(request, &IF_NONE_MATCH) {
        Some(TagList::Any) => true,
        Some(TagList::Tags(tags)) => {
            let kept = EntityTag::of(&stored.fields);
            kept.is_some_and(|kept| tags.iter().any(|tag| tag.matches_weakly(&kept)))
        }
        None => is_unmodified(request, stored),
    };
    if unchanged { Answer::NotModified } else { Answer::Send }
}

/// If-Modified-Since, against Date or the arrival where there is no Last-Modified (RFC 9111 4.3.2).
fn is_unmodified(request: &HeaderMap, stored: &StoredResponse) -> bool {
    let mut lines = request.get_all(IF_MODIFIED_SINCE).iter();
    // Several lines are no date (RFC 9110 13.1.3).
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some(since) = date::parse(line, stored.received_at) else { return false };
    let modified = date::of_field(&stored.fields, &LAST_MODIFIED, stored.received_at)
        .or_else(|| date::of_field(&stored.fields, &DATE, stored.received_at))
        .unwrap_or(stored.received_at);
    date::whole_seconds(modified) <= date::whole_seconds(since)
}

/// The fields of the 304: those that a 200 would carry too, and Last-Modified only where no entity tag
/// says as much.
#[must_use]
pub fn not_modified_fields(stored: &StoredResponse) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let modified = if stored.fields.contains_key(ETAG) { None } else { Some(LAST_MODIFIED) };
    for name in NOT_MODIFIED_FIELDS.into_iter().chain(modified) {
        for value in stored.fields.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

#[cfg(test)]
mod tests;
