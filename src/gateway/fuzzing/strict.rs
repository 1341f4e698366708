//! The gate on the bytes of HTTP/1 beside httparse, which hyper reads with: of what passes both must see the same
//! messages, however it arrives.

use crate::gateway::Limits;
use crate::gateway::gate::{Gate, Passage};
use std::time::Duration;

/// Messages of one input; further ones are left out.
const MESSAGES_MAX: usize = 8;

/// Trailer lines of an input: more than 16 KiB can hold.
const TRAILERS_MAX: usize = 8192;

/// Small, so that inputs reach the bounds.
const LIMITS: Limits = Limits {
    head_bytes: 400,
    fields: 8,
    target_bytes: 100,
    body_bytes: None,
    connections: 1,
    connections_per_address: None,
    in_flight_bytes: 1 << 20,
    header_timeout: Duration::from_secs(1),
    idle_timeout: Duration::from_secs(1),
    body_rate_bytes: 1,
};

/// Whole messages that passed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    messages: Vec<Vec<u8>>,
    /// What passed of one that is not whole.
    begun: Vec<u8>,
    is_refused: bool,
}

/// Checks one input: its first byte is the size of the pieces in which the rest arrives.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let at_once = passed(stream, stream.len().max(1));
    let in_pieces = passed(stream, usize::from(*size).max(1));
    assert_eq!(at_once, in_pieces, "how it arrives changes nothing");
    for message in &at_once.messages {
        assert_eq!(hypers(message), Some(message.len()), "httparse ends the message elsewhere");
    }
}

/// What the gate lets through of a stream, each message answered as soon as it is whole.
fn passed(stream: &[u8], size: usize) -> Passed {
    let mut gate = Gate::new(LIMITS);
    let mut arrived = Vec::new();
    let mut passed = Passed { messages: Vec::new(), begun: Vec::new(), is_refused: false };
    for piece in stream.chunks(size) {
        arrived.extend_from_slice(piece);
        loop {
            match gate.look(&arrived) {
                Err(_) => {
                    passed.is_refused = true;
                    // How much of content had passed by then depends on how it came.
                    passed.begun.clear();
                    return passed;
                }
                Ok(Passage::More) => break,
                Ok(Passage::Bytes(bytes)) => passed.begun.extend(arrived.drain(..bytes)),
                Ok(Passage::Done) => {
                    passed.messages.push(std::mem::take(&mut passed.begun));
                    if passed.messages.len() == MESSAGES_MAX {
                        return passed;
                    }
                    gate.answered();
                    if arrived.is_empty() {
                        break;
                    }
                }
            }
        }
    }
    // The rest of a head waits, of content it has passed.
    passed.begun.clear();
    passed
}

/// Where httparse and the types of `http` see the end of a message; `None` where they refuse it.
fn hypers(message: &[u8]) -> Option<usize> {
    let mut fields = [httparse::EMPTY_HEADER; LIMITS.fields];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(head) = request.parse(message).ok()? else { return None };
    http::Method::from_bytes(request.method?.as_bytes()).ok()?;
    http::Uri::try_from(request.path?).ok()?;
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for field in request.headers.iter() {
        let name = http::HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = http::HeaderValue::from_bytes(field.value).ok()?;
        match name {
            http::header::CONTENT_LENGTH => lengths.push(value),
            http::header::TRANSFER_ENCODING => codings.push(value),
            _ => {}
        }
    }
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Some(head),
        ([length], []) => Some(head + length.to_str().ok()?.parse::<usize>().ok()?),
        ([], [coding])
            if request.version == Some(1) && coding.as_bytes().eq_ignore_ascii_case(b"chunked") =>
        {
            Some(head + chunks(message.get(head..)?)?)
        }
        _ => None,
    }
}

/// The length of a chunked content.
fn chunks(content: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(content.get(at..)?).ok()?
        else {
            return None;
        };
        at += line;
        if size == 0 {
            break;
        }
        at += usize::try_from(size).ok()?;
        if content.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    let mut fields = vec![httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(content.get(at..)?, &mut fields).ok()? {
        httparse::Status::Complete((trailers, _)) => Some(at + trailers),
        httparse::Status::Partial => None,
    }
}
