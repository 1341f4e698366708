//! The bytes of a hit's answer: what is stored, and behind it what each answer adds, as hyper would write it.

use super::Hit;
use crate::cache::StoredResponse;
use crate::cache::rules::preconditions::{self, Answer as Precondition};
use crate::cache::stored::{Sending, write_line};
use crate::clock::Timestamp;
use crate::gateway::cache_status::CACHE_STATUS;
use crate::gateway::reply;
use crate::gateway::request::{Request, X_REQUEST_ID};
use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH};
use http::{Method, StatusCode};

/// Content that is copied behind its head, so that both are one write of one piece; longer content is a second piece of
/// the same write.
const COPIED_MAX: usize = 4 * 1024;

/// What of a stored response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Whole,
    Head,
    NotModified,
}

impl Shape {
    /// What is sent to a plain request; `None`: that has to be made as a map.
    pub(super) fn of(request: &Request, stored: &StoredResponse) -> Option<Self> {
        let is_framed_otherwise = stored.status.is_informational()
            || matches!(
                stored.status,
                StatusCode::NO_CONTENT
                    | StatusCode::RESET_CONTENT
                    | StatusCode::PARTIAL_CONTENT
                    | StatusCode::NOT_MODIFIED
            );
        if is_framed_otherwise || stored.fields.sending() == Sending::MadeAnew {
            return None;
        }
        Some(match reply::evaluated(stored, request) {
            Precondition::NotModified => Self::NotModified,
            Precondition::Send if request.method == Method::HEAD => Self::Head,
            Precondition::Send => Self::Whole,
        })
    }
}

/// Writes the head, and the content where it is short; else the content that goes behind it is returned.
pub(super) fn write(hit: &Hit<'_, Shape>, request: &Request, now: Timestamp, out: &mut Vec<u8>) -> Bytes {
    let Hit { shape, status, quota, .. } = hit;
    let stored = &hit.found.stored;
    let mut digits = itoa::Buffer::new();
    match shape {
        Shape::NotModified => {
            write_status(out, StatusCode::NOT_MODIFIED);
            stored.fields.write(out, preconditions::tells_not_modified(&stored.fields));
        }
        Shape::Whole | Shape::Head => {
            write_status(out, stored.status);
            stored.fields.write(out, |_| true);
            if stored.fields.sending() == Sending::WithLength {
                write_line(out, CONTENT_LENGTH.as_str(), digits.format(stored.body.len()).as_bytes());
            }
        }
    }
    write_line(out, AGE.as_str(), digits.format(stored.current_age(now).as_secs()).as_bytes());
    write_line(out, CACHE_STATUS.as_str(), status.member().as_bytes());
    for (name, value) in quota.lines() {
        write_line(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(X_REQUEST_ID.as_str().as_bytes());
    out.extend_from_slice(b": ");
    request.id.write(out);
    out.extend_from_slice(b"\r\n\r\n");
    match shape {
        Shape::Head | Shape::NotModified => Bytes::new(),
        Shape::Whole if stored.body.len() > COPIED_MAX => stored.body.clone(),
        Shape::Whole => {
            out.extend_from_slice(&stored.body);
            Bytes::new()
        }
    }
}

fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    // As hyper names one that has no name.
    out.extend_from_slice(status.canonical_reason().unwrap_or("<none>").as_bytes());
    out.extend_from_slice(b"\r\n");
}
