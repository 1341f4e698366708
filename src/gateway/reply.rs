//! A stored or shared response becomes this client's answer: preconditions, ranges, HEAD, Age.

use super::body::Body;
use super::cache_status::CacheStatus;
use super::landing::Shared;
use super::request::Request;
use crate::cache::StoredResponse;
use crate::cache::rules::preconditions::{self, Answer as Precondition};
use crate::cache::rules::range::{self, RangeAnswer};
use crate::cache::rules::{RequestHead, part_fields, partial};
use crate::clock::Timestamp;
use crate::rate_limit::Fields;
use crate::source::SourceBody;
use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, TRAILER};
use http::{HeaderMap, Method, Response, StatusCode};
use std::ops::Range;

/// An answer, and how it came about.
#[derive(Debug)]
pub(crate) struct Answer {
    pub response: Response<Body>,
    pub status: CacheStatus,
    /// What the quotas of forwards tell; `None` where this request was not forwarded.
    pub quota: Option<Fields>,
}

fn response(status: StatusCode, fields: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

pub(super) fn evaluated(stored: &StoredResponse, request: &Request) -> Precondition {
    let asking = request.asking();
    if !preconditions::are_given(asking) {
        return Precondition::Send;
    }
    preconditions::evaluate(asking, stored.status, (&stored.fields).into(), stored.received_at)
}

/// Answers with a stored response. Conditions that only the source can decide on never come here.
pub(crate) fn stored(
    stored: &StoredResponse,
    request: &Request,
    now: Timestamp,
    status: CacheStatus,
) -> Answer {
    let age = stored.current_age(now).as_secs();
    let mut response = match evaluated(stored, request) {
        Precondition::NotModified => {
            response(StatusCode::NOT_MODIFIED, preconditions::not_modified(&stored.fields), Body::Empty)
        }
        Precondition::Send if request.method == Method::HEAD => {
            let mut fields = stored.fields.to_map();
            if stored.status != StatusCode::NO_CONTENT {
                fields.entry(CONTENT_LENGTH).or_insert_with(|| stored.body.len().into());
            }
            response(stored.status, fields, Body::Empty)
        }
        Precondition::Send => {
            partial(stored, request, range::evaluate(&request.method, request.asking(), stored))
        }
    };
    response.headers_mut().insert(AGE, age.into());
    Answer { response, status, quota: None }
}

/// Answers a HEAD with what an earlier one was told; its content is not known.
pub(crate) fn head(
    stored: &StoredResponse,
    request: &Request,
    now: Timestamp,
    status: CacheStatus,
) -> Answer {
    let mut response = match evaluated(stored, request) {
        Precondition::NotModified => {
            response(StatusCode::NOT_MODIFIED, preconditions::not_modified(&stored.fields), Body::Empty)
        }
        Precondition::Send => response(stored.status, stored.fields.to_map(), Body::Empty),
    };
    response.headers_mut().insert(AGE, stored.current_age(now).as_secs().into());
    Answer { response, status, quota: None }
}

/// A part of a stored response (RFC 9110 14, 15.3.7, 15.5.17).
fn partial(stored: &StoredResponse, request: &Request, answer: RangeAnswer) -> Response<Body> {
    let (whole, length) = (&stored.body, stored.body.len() as u64);
    match answer {
        RangeAnswer::Whole => response(stored.status, stored.fields.to_map(), Body::Full(whole.clone())),
        RangeAnswer::Single(range) => {
            let mut fields = part_fields::of_part(stored.fields.to_map(), &request.fields);
            fields.insert(CONTENT_RANGE, range::content_range(&range, length));
            response(StatusCode::PARTIAL_CONTENT, fields, Body::Full(range::part(whole, &range)))
        }
        RangeAnswer::Several(ranges) => {
            let mut fields = part_fields::of_part(stored.fields.to_map(), &request.fields);
            let boundary = format!("{:032x}", fastrand::u128(..));
            let content_type = stored.fields.get(&CONTENT_TYPE);
            let parts = range::multipart(whole, &ranges, content_type, &boundary);
            fields.insert(CONTENT_TYPE, range::multipart_type(&boundary));
            response(StatusCode::PARTIAL_CONTENT, fields, Body::Full(joined(&parts)))
        }
        RangeAnswer::Unsatisfiable => {
            let mut fields = part_fields::of_unsatisfied(&stored.fields.to_map());
            fields.insert(CONTENT_RANGE, range::unsatisfied_range(length));
            response(StatusCode::RANGE_NOT_SATISFIABLE, fields, Body::Empty)
        }
    }
}

/// Answers with a stored part; `None` where it does not have all that is asked for.
pub(crate) fn of_part(
    stored: &StoredResponse,
    request: &Request,
    now: Timestamp,
    status: CacheStatus,
) -> Option<Answer> {
    let head = RequestHead { method: &request.method, fields: &request.fields };
    let slice = partial::answer(head, stored)?;
    let mut response = match evaluated(stored, request) {
        Precondition::NotModified => {
            response(StatusCode::NOT_MODIFIED, preconditions::not_modified(&stored.fields), Body::Empty)
        }
        Precondition::Send => {
            let mut fields = part_fields::of_part(stored.fields.to_map(), &request.fields);
            fields.insert(CONTENT_RANGE, range::content_range(&slice.content.range, slice.content.length));
            response(StatusCode::PARTIAL_CONTENT, fields, Body::Full(slice.body))
        }
    };
    response.headers_mut().insert(AGE, stored.current_age(now).as_secs().into());
    Some(Answer { response, status, quota: None })
}

/// At most five parts of what is held anyway (`range::RANGES_MAX`).
fn joined(parts: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        whole.extend_from_slice(part);
    }
    whole.freeze()
}

/// Answers with the head and the growing body of a fill. The one whose request was forwarded hears it
/// at first hand; everyone else is told its age.
pub(crate) fn growing(
    head: &Shared,
    request: &Request,
    body: Body,
    now: Timestamp,
    status: CacheStatus,
) -> Answer {
    let shared = &head.head;
    let response = match evaluated(shared, request) {
        Precondition::NotModified => {
            response(StatusCode::NOT_MODIFIED, preconditions::not_modified(&shared.fields), Body::Empty)
        }
        Precondition::Send if request.method == Method::HEAD => {
            let mut fields = shared.fields.to_map();
            if let Some(length) = head.length {
                fields.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
            }
            response(shared.status, fields, Body::Empty)
        }
        Precondition::Send => {
            let mut fields = shared.fields.to_map();
            fields.extend(head.announced.clone().map(|names| (TRAILER, names)));
            response(shared.status, fields, body)
        }
    };
    aged(response, head, now, status)
}

/// Answers with a part of a growing body; `length`: of the whole, where it is known (RFC 9110 14.4).
pub(crate) fn growing_part(
    head: &Shared,
    request: &Request,
    body: Body,
    (range, length): (&Range<u64>, Option<u64>),
    now: Timestamp,
    status: CacheStatus,
) -> Answer {
    let mut fields = part_fields::of_part(head.head.fields.to_map(), &request.fields);
    let content_range = match length {
        Some(length) => range::content_range(range, length),
        None => range::content_range_of_unknown(range),
    };
    fields.insert(CONTENT_RANGE, content_range);
    aged(response(StatusCode::PARTIAL_CONTENT, fields, body), head, now, status)
}

/// Answers that a growing body of `length` bytes has nothing of what is asked for.
pub(crate) fn unsatisfied(head: &Shared, length: u64, now: Timestamp, status: CacheStatus) -> Answer {
    let mut fields = part_fields::of_unsatisfied(&head.head.fields.to_map());
    fields.insert(CONTENT_RANGE, range::unsatisfied_range(length));
    aged(response(StatusCode::RANGE_NOT_SATISFIABLE, fields, Body::Empty), head, now, status)
}

fn aged(mut response: Response<Body>, head: &Shared, now: Timestamp, status: CacheStatus) -> Answer {
    if let CacheStatus::Collapsed { .. } = status {
        response.headers_mut().insert(AGE, head.head.current_age(now).as_secs().into());
    } else {
        response.headers_mut().extend(head.age.iter().map(|age| (AGE, age.clone())));
    }
    Answer { response, status, quota: None }
}

/// What a client gets of an answer that came for it alone. The source was asked without the client's
/// conditions, because the answer might have been everybody's: so they are evaluated here.
pub(crate) fn private(
    answer: Response<SourceBody>,
    request: &Request,
    received_at: Timestamp,
) -> Response<Body> {
    match preconditions::evaluate(&request.fields, answer.status(), answer.headers().into(), received_at) {
        Precondition::NotModified => {
            let fields = preconditions::not_modified_fields_for_one(answer.headers());
            response(StatusCode::NOT_MODIFIED, fields, Body::Empty)
        }
        Precondition::Send => answer.map(Body::forwarded),
    }
}
