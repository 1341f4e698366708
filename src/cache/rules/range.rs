//! Ranges of a stored complete response (RFC 9110 14, 13.1.5).
//!
//! What is sent is never more than the representation and the heads of its parts: overlapping ranges are
//! joined, and a request for too many gets the whole.

use super::date;
use super::entity_tag::EntityTag;
use crate::cache::stored::StoredResponse;
use bytes::Bytes;
use http::header::{DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::ops::Range;

/// Ranges of one request; a request for more gets the whole (14.2: it may be an attack).
pub const RANGES_MAX: usize = 5;

/// The unit that is understood (14.1.2); any other is ignored (14.2).
pub(super) const UNIT: &str = "bytes";

/// What may stand around the members of a list (5.6.3).
const OPTIONAL_SPACE: [char; 2] = [' ', '\t'];

/// What a request's Range makes of a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// The whole, with its own status.
    Whole,
    /// 206 with Content-Range.
    Single(Range<u64>),
    /// 206 as multipart/byteranges, in the order in which they were asked for.
    Several(Vec<Range<u64>>),
    /// 416 with the length.
    Unsatisfiable,
}

/// Evaluates If-Range and Range against a complete stored response, after the other conditions (13.2.2).
#[must_use]
pub fn evaluate(method: &Method, request: &HeaderMap, stored: &StoredResponse) -> RangeAnswer {
    if stored.status != StatusCode::OK {
        return RangeAnswer::Whole;
    }
    asked(method, request, stored, byte_count(&stored.body))
}

/// What a request asks of a representation that has `length` bytes and the fields of `stored`, however
/// many of its bytes are stored.
#[must_use]
pub fn asked(method: &Method, request: &HeaderMap, stored: &StoredResponse, length: u64) -> RangeAnswer {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return RangeAnswer::Whole };
    // RFC 10008 2.8: for QUERY as for GET; 14.2: nothing is defined for others.
    let has_ranges = matches!(*method, Method::GET | Method::QUERY);
    if !has_ranges || !is_if_range_true(request, stored) {
        return RangeAnswer::Whole;
    }
    match line.to_str().ok().and_then(parse) {
        Some(specs) => satisfy(&specs, length),
        None => RangeAnswer::Whole,
    }
}

/// As [`asked`], of a representation whose length is not known: the whole, or a range that is the same
/// whatever the length is, if it has so many bytes. `None` where the length decides.
#[must_use]
pub fn asked_of_unknown(
    method: &Method,
    request: &HeaderMap,
    stored: &StoredResponse,
) -> Option<RangeAnswer> {
    match asked(method, request, stored, u64::MAX) {
        RangeAnswer::Whole => Some(RangeAnswer::Whole),
        RangeAnswer::Single(range) if range.end < u64::MAX => Some(RangeAnswer::Single(range)),
        RangeAnswer::Single(_) | RangeAnswer::Several(_) | RangeAnswer::Unsatisfiable => None,
    }
}

/// The length of a body.
pub(super) fn byte_count(body: &Bytes) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

/// True without If-Range, or where it names exactly what is stored by a strong validator (13.1.5).
fn is_if_range_true(request: &HeaderMap, stored: &StoredResponse) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    let (validator, None) = (lines.next(), lines.next()) else { return false };
    let Some(validator) = validator else { return true };
    if let Some(tag) = EntityTag::parse(validator.as_bytes()) {
        let kept = stored.fields.get(&ETAG).and_then(EntityTag::parse);
        return kept.is_some_and(|kept| kept.matches_strongly(&tag));
    }
    let kept = |name| stored.fields.get(name).and_then(|value| date::read(value, stored.received_at));
    let (modified, sent) = (kept(&LAST_MODIFIED), kept(&DATE).unwrap_or(stored.received_at));
    // 8.8.2.2: what may have changed again within the second that it was sent in is weak.
    let strong = modified.is_some_and(|modified| date::whole_seconds(modified) < date::whole_seconds(sent));
    strong && date::parse(validator, stored.received_at) == modified
}

/// One member of a range set (14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// `first-last` or `first-`.
    Positions { first: u64, last: u64 },
    /// `-length`.
    Suffix(u64),
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once('-')? {
            ("", length) => Some(Self::Suffix(position(length)?)),
            (first, "") => Some(Self::Positions { first: position(first)?, last: u64::MAX }),
            (first, last) => {
                let range = Self::Positions { first: position(first)?, last: position(last)? };
                (!is_less(last, first)).then_some(range)
            }
        }
    }

    /// The bytes that it means; `None` where there are none of them.
    fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Positions { first, last } => first..last.saturating_add(1).min(length),
            Self::Suffix(count) => length.saturating_sub(count)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Digits; a number that is too large is beyond any length.
pub(super) fn position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Compares numbers by their digits, so that those beyond 64 bits are compared too.
fn is_less(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    (one.len(), one) < (other.len(), other)
}

/// A set of ranges (14.1.1, 5.6.1); `None` where the field is to be ignored: another unit, malformed, or
/// too many.
fn parse(line: &str) -> Option<Vec<Spec>> {
    let (unit, set) = line.split_once('=')?;
    if !unit.eq_ignore_ascii_case(UNIT) || set.starts_with(OPTIONAL_SPACE) {
        return None;
    }
    let members = set.split(',').map(|member| member.trim_matches(OPTIONAL_SPACE));
    let members = members.filter(|member| !member.is_empty());
    let specs: Vec<Spec> = members.take(RANGES_MAX + 1).map(Spec::parse).collect::<Option<_>>()?;
    (!specs.is_empty() && specs.len() <= RANGES_MAX).then_some(specs)
}

fn satisfy(specs: &[Spec], length: u64) -> RangeAnswer {
    let suffix = |spec: &Spec| matches!(spec, Spec::Suffix(count) if *count > 0);
    if length == 0 && specs.iter().any(suffix) {
        // Satisfiable, but no Content-Range can name nothing.
        return RangeAnswer::Whole;
    }
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for range in specs.iter().filter_map(|spec| spec.within(length)) {
        join(&mut ranges, range);
    }
    match ranges.as_slice() {
        [] => RangeAnswer::Unsatisfiable,
        [range] => RangeAnswer::Single(range.clone()),
        _ => RangeAnswer::Several(ranges),
    }
}

/// Adds a range; those that it overlaps or touches become one with it, in the place of the first.
fn join(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    let mut place = ranges.len();
    // Joining may make it reach one that came earlier in the list, so each pass begins anew.
    while let Some(at) = ranges.iter().position(|other| other.start <= range.end && range.start <= other.end)
    {
        let other = ranges.remove(at);
        range = other.start.min(range.start)..other.end.max(range.end);
        place = place.min(at);
    }
    ranges.insert(place.min(ranges.len()), range);
}

/// Content-Range of a part (14.4).
#[must_use]
pub fn content_range(range: &Range<u64>, length: u64) -> HeaderValue {
    ascii(&format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1)))
}

/// Content-Range of a part of what has no known length (14.4).
#[must_use]
pub fn content_range_of_unknown(range: &Range<u64>) -> HeaderValue {
    ascii(&format!("bytes {}-{}/*", range.start, range.end.saturating_sub(1)))
}

/// Content-Range of a 416 (14.4).
#[must_use]
pub fn unsatisfied_range(length: u64) -> HeaderValue {
    ascii(&format!("bytes */{length}"))
}

/// The bytes of a range, shared with the body.
#[must_use]
pub fn part(body: &Bytes, range: &Range<u64>) -> Bytes {
    let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
    let (start, end) = (position(range.start), position(range.end));
    body.slice(start.min(end)..end)
}

/// Content-Type of a response with several parts (14.6).
#[must_use]
pub fn multipart_type(boundary: &str) -> HeaderValue {
    ascii(&format!("multipart/byteranges; boundary={boundary}"))
}

/// The content of a response with several parts, chunk by chunk; the bytes of the parts are shared with
/// the body. The boundary must not occur in the body: 128 random bits do not.
#[must_use]
pub fn multipart(
    body: &Bytes,
    ranges: &[Range<u64>],
    content_type: Option<&[u8]>,
    boundary: &str,
) -> Vec<Bytes> {
    let length = byte_count(body);
    let mut chunks = Vec::with_capacity(ranges.len() * 2 + 1);
    let mut line_end = "";
    for range in ranges {
        let mut head = format!("{line_end}--{boundary}\r\n").into_bytes();
        line_end = "\r\n";
        if let Some(content_type) = content_type {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(content_type);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"Content-Range: ");
        head.extend_from_slice(content_range(range, length).as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        chunks.push(head.into());
        chunks.push(part(body, range));
    }
    chunks.push(format!("\r\n--{boundary}--\r\n").into());
    chunks
}

/// Digits, letters and punctuation are a valid value.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
