//! Interim responses (1xx, RFC 9110 15.2) of a source, on their way to the client over HTTP/1.1.
//!
//! hyper's server sends none, so they go past it: the one who forwards queues them, the transport
//! writes them where one message has ended and the next has not begun
//! (`docs/decisions/0005-interim.md`).
//!
//! ```text
//! begin --tell--> queued --take (transport, between messages)--> written
//!   |               `-- over a bound, or the client does not read: dropped, counted
//!   `--finish: waits until nothing is queued, then the final response may go to hyper
//! ```

use super::forward;
use crate::telemetry::metrics as names;
use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, StatusCode, Version};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// The most interim responses that one request's client is sent.
const TOLD_MAX: usize = 100;

/// Bytes of interim responses that wait for one client.
const QUEUED_BYTES_MAX: usize = 32 * 1024;

/// Bytes around a status line: the version, three digits, two spaces and the line's end.
const STATUS_LINE_OVERHEAD_BYTES: usize = 15;

/// The interim responses of one connection; shared by its transport and its requests.
#[derive(Debug, Default)]
pub(crate) struct Interims {
    /// The number of the request that may still be told of; 0: none. Only the connection's own task
    /// changes it.
    open: AtomicU64,
    /// Whether the queue may hold something: so that a request without interim responses locks nothing.
    waiting: AtomicBool,
    queue: Mutex<Queue>,
    /// The transport, woken when there is something to write.
    transport: AtomicWaker,
    /// The answer that waits until the queue is empty.
    answer: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whose they are.
    request: u64,
    /// How many have come for that request so far.
    told: usize,
    /// Their heads, one after the other.
    heads: BytesMut,
}

impl Interims {
    /// Opens the way for a request. Requests of a connection come one at a time, by growing numbers
    /// from 1.
    pub(crate) fn begin(self: &Arc<Self>, request: u64) -> Interim {
        self.open.store(request, Ordering::Release);
        Interim { connection: Arc::clone(self), request }
    }

    /// What is to be written. To be called only where hyper has handed over all it has: as long as a
    /// request is open, that is between two messages.
    pub(crate) fn take(&self, context: &Context<'_>) -> Option<Bytes> {
        // Registered before the look, so that nothing is missed.
        self.transport.register(context.waker());
        if !self.waiting.load(Ordering::Acquire) {
            return None;
        }
        let (heads, request) = {
            let mut queue = self.lock();
            self.waiting.store(false, Ordering::Release);
            (queue.heads.split().freeze(), queue.request)
        };
        self.answer.wake();
        // Of a request that has its final response nothing more is told.
        (request == self.open.load(Ordering::Acquire) && !heads.is_empty()).then_some(heads)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way of one request's interim responses to its client.
#[derive(Clone, Debug)]
pub(crate) struct Interim {
    connection: Arc<Interims>,
    request: u64,
}

impl Interim {
    /// Queues an interim response of the source's, with its end-to-end fields. Never waits: beyond the
    /// bounds it is dropped.
    pub(crate) fn tell(&self, status: StatusCode, fields: &HeaderMap) {
        // 100 is hyper's own, when content is first needed; 101 is no interim response.
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let connection = &self.connection;
        {
            let mut queue = connection.lock();
            if connection.open.load(Ordering::Acquire) != self.request {
                return;
            }
            if queue.request != self.request {
                *queue = Queue { request: self.request, ..Queue::default() };
            }
            queue.told += 1;
            let room = QUEUED_BYTES_MAX.saturating_sub(queue.heads.len());
            match head(status, fields, room) {
                Some(head) if queue.told <= TOLD_MAX => queue.heads.extend_from_slice(&head),
                Some(_) | None => return dropped(),
            }
            connection.waiting.store(true, Ordering::Release);
        }
        connection.transport.wake();
    }

    /// Resolves when all that was queued is in the transport's hands; no more is taken then.
    pub(crate) async fn finish(self) {
        let connection = &self.connection;
        let is_taken = || !connection.waiting.load(Ordering::Acquire);
        if !is_taken() {
            poll_fn(|context| {
                connection.answer.register(context.waker());
                if is_taken() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        connection.open.store(0, Ordering::Release);
    }
}

/// Counts interim responses that a client is not sent.
pub(crate) fn dropped() {
    metrics::counter!(names::INTERIM_DROPPED).increment(1);
}

/// An interim response's bytes: a status line and fields that were parsed, nothing else; `None` where
/// they are more than `bytes_max`. It has no content, so none of the fields that frame it
/// (RFC 9110 8.6, RFC 9112 6.1).
fn head(status: StatusCode, fields: &HeaderMap, bytes_max: usize) -> Option<Vec<u8>> {
    let mut fields = fields.clone();
    // Only HTTP/1.1 has them.
    forward::pass_on(&mut fields, Version::HTTP_11);
    fields.remove(CONTENT_LENGTH);
    fields.remove(TRAILER);
    let reason = status.canonical_reason().unwrap_or_default();
    let lines = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let bytes = STATUS_LINE_OVERHEAD_BYTES + reason.len() + lines.sum::<usize>() + 2;
    if bytes > bytes_max {
        return None;
    }
    let mut head = Vec::with_capacity(bytes);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(reason.as_bytes());
    head.extend_from_slice(b"\r\n");
    for (name, value) in &fields {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use futures_util::task::noop_waker;
    use http::{HeaderName, HeaderValue};

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn taken(interims: &Interims) -> Option<String> {
        let waker = noop_waker();
        let heads = interims.take(&Context::from_waker(&waker));
        heads.map(|heads| String::from_utf8(heads.to_vec()).unwrap())
    }

    #[test]
    fn rfc9110_15_2_end_to_end_fields_alone_and_no_content() {
        let given = [
            ("link", "</a.css>; rel=preload"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("trailer", "x-t"),
            ("surrogate-key", "a"),
            ("via", "1.1 source"),
        ];
        let head = String::from_utf8(head(StatusCode::EARLY_HINTS, &fields(&given), 1000).unwrap()).unwrap();
        let mut lines: Vec<&str> = head.split("\r\n").collect();
        lines[1..].sort_unstable();
        let expected = [
            "HTTP/1.1 103 Early Hints",
            "",
            "",
            "link: </a.css>; rel=preload",
            "via: 1.1 source, 1.1 tidegate",
        ];
        assert_eq!(lines, expected);
        let bytes = head.len();
        let within = |bytes_max| super::head(StatusCode::EARLY_HINTS, &fields(&given), bytes_max).is_some();
        assert!(within(bytes) && !within(bytes - 1), "{bytes}");
    }

    #[test]
    fn rfc9110_15_2_what_is_told_in_order_and_what_is_not() {
        let interims = Arc::new(Interims::default());
        let interim = interims.begin(1);
        let none = HeaderMap::new();
        for status in [100, 102, 101, 103, 199] {
            interim.tell(StatusCode::from_u16(status).unwrap(), &none);
        }
        assert!(interim.clone().finish().now_or_never().is_none(), "something waits to be written");
        let text = taken(&interims).unwrap();
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with("HTTP/")).collect();
        assert_eq!(told, ["HTTP/1.1 102 Processing", "HTTP/1.1 103 Early Hints", "HTTP/1.1 199 "]);
        assert_eq!(taken(&interims), None);
        assert!(interim.clone().finish().now_or_never().is_some());
        interim.tell(StatusCode::EARLY_HINTS, &none);
        assert_eq!(taken(&interims), None, "the final response has begun");
    }

    #[test]
    fn nothing_of_an_earlier_request_reaches_a_later_one() {
        let interims = Arc::new(Interims::default());
        let first = interims.begin(1);
        first.tell(StatusCode::EARLY_HINTS, &fields(&[("x-of", "first")]));
        let second = interims.begin(2);
        assert_eq!(taken(&interims), None);
        first.tell(StatusCode::EARLY_HINTS, &fields(&[("x-of", "first")]));
        second.tell(StatusCode::EARLY_HINTS, &fields(&[("x-of", "second")]));
        let text = taken(&interims).unwrap();
        assert!(text.contains("x-of: second") && !text.contains("first"), "{text}");
    }

    #[test]
    fn i10_interim_responses_are_bounded_in_number_and_bytes() {
        let interims = Arc::new(Interims::default());
        let interim = interims.begin(1);
        let mut told = 0;
        for _ in 0..TOLD_MAX + 10 {
            interim.tell(StatusCode::PROCESSING, &HeaderMap::new());
            told += usize::from(taken(&interims).is_some());
        }
        assert_eq!(told, TOLD_MAX);
        let interim = interims.begin(2);
        let mut large = HeaderMap::new();
        large.insert("link", HeaderValue::from_str(&"x".repeat(QUEUED_BYTES_MAX / 2)).unwrap());
        for _ in 0..3 {
            interim.tell(StatusCode::EARLY_HINTS, &large);
        }
        let text = taken(&interims).unwrap();
        assert_eq!(text.matches("103 Early Hints").count(), 1);
    }
}
