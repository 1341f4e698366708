//! Parts that the source sent: which may be stored, how they become more of the whole, and whom they
//! answer (RFC 9111 3.3, 3.4; RFC 9110 15.3.7.3).
//!
//! A stored part is one run of bytes with status 206 and its Content-Range, under a key of its own
//! (`CacheKey::of_parts`): who asks for the whole never finds it. It is used only while fresh.

use super::content_range::ContentRange;
use super::entity_tag::EntityTag;
use super::range::{self, RangeAnswer};
use super::storable::{self, Admitted};
use super::{Exchange, NoStoreReason, RequestHead, ResponseHead, tags, validation};
use crate::cache::policy::Policy;
use crate::cache::stored::{Reuse, StoredResponse};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::ops::Range;

/// Fields of an earlier part that a later one does not replace (RFC 9111 3.2, RFC 9110 15.3.7.3).
const NOT_REPLACED: [HeaderName; 2] = [CONTENT_LENGTH, CONTENT_RANGE];

/// What answered a request for a range, to be stored when its content is complete.
#[derive(Clone, Debug)]
pub struct Piece {
    content: ContentRange,
    admitted: Admitted,
    /// As they came.
    fields: HeaderMap,
}

impl Piece {
    /// The bytes that its content must have.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.content.bytes()
    }

    /// What it is without its content: a part, or a whole where it is all there is.
    #[must_use]
    pub fn head(&self) -> StoredResponse {
        match finished(self.admitted.head().clone(), &self.content) {
            Combined::Whole(head) | Combined::Part(head) => head,
        }
    }
}

/// The Range of a request that nothing else makes one client's own: who sends the same one is answered by
/// the same part. After If-Range fields of the representation may be missing (RFC 9110 15.3.7).
#[must_use]
pub fn sole_range(request: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let is_conditional =
        validation::CONDITIONS.iter().any(|name| name != RANGE && request.contains_key(name));
    (!is_conditional).then_some(line)
}

/// Whether a 206 may be shared by those who sent the same Range while it was on its way: as the 200 might be
/// whose part it is.
///
/// # Errors
/// Why each of them has to be forwarded.
pub fn may_share(forwarded: Forwarded<'_>, response: ResponseHead<'_>) -> Result<(), NoStoreReason> {
    let Forwarded { request, policy, exchange } = forwarded;
    let whole = ResponseHead { status: StatusCode::OK, fields: response.fields };
    storable::may_share(request, whole, policy, exchange)
}

/// The forward that brought a piece.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// The request for a range.
    pub request: RequestHead<'a>,
    /// Its route's.
    pub policy: &'a Policy,
    /// When it went and what had been purged.
    pub exchange: &'a Exchange,
}

/// What there is to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Combined {
    /// A complete 200.
    Whole(StoredResponse),
    /// A part.
    Part(StoredResponse),
}

/// Decides whether the answer to a request for a range may be stored: a 200, or a 206 that says which
/// bytes it is. What holds for a 200 of this request holds for a part of it (RFC 9111 3.3).
///
/// # Errors
/// Why it may not.
pub fn admit(forwarded: Forwarded<'_>, response: ResponseHead<'_>) -> Result<Piece, NoStoreReason> {
    let content = content(forwarded.request.fields, response)?;
    // A fill asks for the codings that the key tells apart; this request went as the client wrote it.
    if response.fields.contains_key(CONTENT_ENCODING) {
        return Err(NoStoreReason::Partial);
    }
    let admitted = admitted_as_whole(forwarded, response.fields)?;
    if !content.is_whole() && !is_reusable_unasked(&admitted) {
        return Err(NoStoreReason::NoFreshness);
    }
    Ok(Piece { content, admitted, fields: response.fields.clone() })
}

/// Which bytes a response has.
fn content(request: &HeaderMap, response: ResponseHead<'_>) -> Result<ContentRange, NoStoreReason> {
    match response.status {
        StatusCode::OK => {
            let length = response.fields.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            let length = length.and_then(range::position).filter(|length| *length < u64::MAX);
            length.and_then(ContentRange::whole).ok_or(NoStoreReason::Partial)
        }
        // After If-Range it need not have the fields of the representation (9110 15.3.7).
        StatusCode::PARTIAL_CONTENT if !request.contains_key(IF_RANGE) && !is_multipart(response.fields) => {
            ContentRange::of(response.fields).ok_or(NoStoreReason::Partial)
        }
        StatusCode::PARTIAL_CONTENT => Err(NoStoreReason::Partial),
        _ => Err(NoStoreReason::Status),
    }
}

fn is_multipart(fields: &HeaderMap) -> bool {
    const MULTIPART: &[u8] = b"multipart/byteranges";
    let is = |value: &HeaderValue| {
        value
            .as_bytes()
            .trim_ascii()
            .get(..MULTIPART.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(MULTIPART))
    };
    fields.get_all(CONTENT_TYPE).iter().any(is)
}

/// What a 200 with these fields would be admitted as.
fn admitted_as_whole(forwarded: Forwarded<'_>, fields: &HeaderMap) -> Result<Admitted, NoStoreReason> {
    let mut fields = fields.clone();
    for name in NOT_REPLACED {
        fields.remove(name);
    }
    let Forwarded { request, policy, exchange } = forwarded;
    storable::admit(request, ResponseHead { status: StatusCode::OK, fields: &fields }, policy, exchange)
}

fn is_reusable_unasked(admitted: &Admitted) -> bool {
    admitted.lifetime().is_some() && admitted.head().reuse != Reuse::ValidateAlways
}

/// Makes of a piece, its complete content and the part that is stored what is stored from now on: both
/// together where they share a strong validator and no byte is missing between them, else the piece
/// alone. No part becomes larger than `bytes_max`.
#[must_use]
pub fn combine(
    piece: Piece,
    body: Bytes,
    stored: Option<&StoredResponse>,
    forwarded: Forwarded<'_>,
    bytes_max: u64,
) -> Combined {
    let more = stored.and_then(|stored| joined(&piece, &body, stored, forwarded, bytes_max));
    more.unwrap_or_else(|| finished(piece.admitted.into_stored(body), &piece.content))
}

fn joined(
    piece: &Piece,
    body: &Bytes,
    stored: &StoredResponse,
    forwarded: Forwarded<'_>,
    bytes_max: u64,
) -> Option<Combined> {
    let kept = stored.fields.to_map();
    let before = ContentRange::of(&kept)?;
    let content = before.joined(&piece.content).filter(|both| both.bytes() <= bytes_max)?;
    let same = EntityTag::of(&piece.fields)?.matches_strongly(&EntityTag::of(&kept)?);
    if !same || piece.content.is_whole() {
        return None;
    }
    let fields = updated(kept.clone(), &piece.fields);
    let admitted = admitted_as_whole(forwarded, &fields).ok()?;
    if !content.is_whole() && !is_reusable_unasked(&admitted) {
        return None;
    }
    let whole = admitted.into_stored(union(&before, &stored.body, &piece.content, body));
    // The fields that named the earlier tags were not stored, so nothing says that they no longer hold.
    let named = tags::bounded(whole.tags.iter().chain(&stored.tags).cloned());
    Some(finished(StoredResponse { tags: named.into(), ..whole }, &content))
}

/// Stored fields with those of a new response in the place of their namesakes.
fn updated(stored: HeaderMap, new: &HeaderMap) -> HeaderMap {
    let mut fields = stored;
    for name in new.keys().filter(|name| !NOT_REPLACED.contains(name)) {
        fields.remove(name);
        for value in new.get_all(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

/// The bytes of two runs that touch; where they overlap, the later one's.
fn union(earlier: &ContentRange, old: &Bytes, later: &ContentRange, new: &Bytes) -> Bytes {
    let (before, after) = (&earlier.range, &later.range);
    let head = range::part(old, &(0..after.start.saturating_sub(before.start)));
    let tail = range::part(old, &(after.end.saturating_sub(before.start)..range::byte_count(old)));
    let mut bytes = BytesMut::with_capacity(head.len() + new.len() + tail.len());
    for run in [&head, new, &tail] {
        bytes.extend_from_slice(run);
    }
    bytes.freeze()
}

/// A whole with its length, or a part with its range.
fn finished(stored: StoredResponse, content: &ContentRange) -> Combined {
    let mut fields = stored.fields.to_map();
    if content.is_whole() {
        fields.insert(CONTENT_LENGTH, content.length.into());
        return Combined::Whole(StoredResponse { fields: fields.into(), ..stored });
    }
    fields.insert(CONTENT_RANGE, range::content_range(&content.range, content.length));
    Combined::Part(StoredResponse { status: StatusCode::PARTIAL_CONTENT, fields: fields.into(), ..stored })
}

/// What a stored part has for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The bytes of the representation that were asked for.
    pub content: ContentRange,
    /// They themselves.
    pub body: Bytes,
}

/// The slice that a request asks for; `None` where it asks for anything that is not stored (3.3), or for
/// several.
#[must_use]
pub fn answer(request: RequestHead<'_>, stored: &StoredResponse) -> Option<Slice> {
    let kept = ContentRange::of(&stored.fields.to_map())?;
    match range::asked(request.method, request.fields, stored, kept.length) {
        RangeAnswer::Single(range) if kept.contains(&range) => Some(slice(&kept, &stored.body, range)),
        _ => None,
    }
}

fn slice(kept: &ContentRange, body: &Bytes, range: Range<u64>) -> Slice {
    let body = range::part(body, &(range.start - kept.range.start..range.end - kept.range.start));
    Slice { content: ContentRange { range, length: kept.length }, body }
}

#[cfg(test)]
mod tests;
