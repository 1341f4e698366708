//! Bodies toward and from a source: what is sent reports its progress, what is received holds its
//! place and is cut when it stands still.

use super::address::Load;
use super::places::Place;
use super::pool::Lease;
use crate::in_flight::Share;
use crate::telemetry::metrics as names;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use metrics::{Counter, counter};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// What a request to a source may carry.
#[derive(Debug)]
pub enum RequestBody {
    /// What is held, or nothing.
    Held(Full<Bytes>),
    /// What comes while it is sent.
    Streams(UnsyncBoxBody<Bytes, BoxError>),
}

/// Why content cannot be sent.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// No content.
#[must_use]
pub fn empty() -> RequestBody {
    RequestBody::Held(Full::default())
}

/// Content that is held.
#[must_use]
pub fn full(bytes: Bytes) -> RequestBody {
    RequestBody::Held(Full::new(bytes))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Held(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Streams(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(body) => body.is_end_stream(),
            Self::Streams(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(body) => body.size_hint(),
            Self::Streams(body) => body.size_hint(),
        }
    }
}

/// Why the body of an answer ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The source's connection broke, or its framing is wrong.
    #[error("the source's answer broke off")]
    Broken(#[source] hyper::Error),
    /// It is framed in a way that can be read otherwise, or more came than it said.
    #[error("the source's answer is framed wrongly")]
    Foul,
    /// Nothing came for `body_idle`.
    #[error("the source's answer stood still")]
    Idle,
}

/// Counts bodies that ended early; handles, made once.
#[derive(Debug)]
pub(super) struct Broken {
    broken: Counter,
    idle: Counter,
}

impl Broken {
    pub(super) fn new(source: &str) -> Arc<Self> {
        let source = source.to_owned();
        let counted = |reason: &'static str| counter!(names::SOURCE_BODIES_BROKEN, "source" => source.clone(), "reason" => reason);
        Arc::new(Self { broken: counted("broken"), idle: counted("idle") })
    }

    fn count(&self, error: &BodyError) {
        match error {
            BodyError::Broken(_) | BodyError::Foul => self.broken.increment(1),
            BodyError::Idle => self.idle.increment(1),
        }
    }
}

/// The most parts of a body that are read before it is asked for; each is at most what is read at once.
const AHEAD_PARTS_MAX: usize = 8;

/// With so many bytes read ahead no further part is.
const AHEAD_BYTES_ENOUGH: usize = 16 * 1024;

/// How long an event stream may say nothing.
const EVENT_STREAM_IDLE: Duration = Duration::from_hours(1);

/// How long the body of an answer may stand still.
pub(super) fn idle_of(fields: &HeaderMap, body_idle: Duration) -> Duration {
    let is_event_stream = |value: &HeaderValue| {
        let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    if fields.get(CONTENT_TYPE).is_some_and(is_event_stream) {
        body_idle.max(EVENT_STREAM_IDLE)
    } else {
        body_idle
    }
}

/// Whether all of it was read: from then on its connection may be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ahead,
    Read,
}

/// The body of a source's answer.
#[derive(Debug)]
pub struct SourceBody {
    incoming: Incoming,
    idle: Duration,
    early_ends: Arc<Broken>,
    lease: Lease,
    /// What was read before it was asked for.
    ahead: VecDeque<Frame<Bytes>>,
    end: End,
    /// Set while a part is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Until it has ended, the request is under way, and counts toward what may be in flight.
    place: (Place, Load, Option<Share>),
}

impl SourceBody {
    pub(super) fn new(
        (incoming, mut lease): (Incoming, Lease),
        idle: Duration,
        early_ends: Arc<Broken>,
        (place, load): (Place, Load),
    ) -> Self {
        if incoming.is_end_stream() {
            lease.end();
        }
        let ahead = VecDeque::new();
        let end = End::Ahead;
        Self { incoming, idle, early_ends, lease, ahead, end, deadline: None, place: (place, load, None) }
    }

    /// What a connection holds on whose 101 this is the body: how long it may stand still, and its place.
    pub(super) fn into_place(self) -> (Duration, (Place, Load, Option<Share>)) {
        (self.idle, self.place)
    }

    /// The same, with its share of what may be in flight.
    #[must_use]
    pub fn holding(mut self, share: Share) -> Self {
        self.place.2 = Some(share);
        self
    }

    /// Reads a little of what has come already, and waits for nothing: of an answer that is known to break,
    /// nothing need go out.
    ///
    /// # Errors
    /// [`BodyError`]: it breaks.
    pub fn look_ahead(&mut self) -> Result<(), BodyError> {
        let mut context = Context::from_waker(Waker::noop());
        let mut bytes = 0;
        while self.ahead.len() < AHEAD_PARTS_MAX
            && bytes < AHEAD_BYTES_ENOUGH
            && !self.incoming.is_end_stream()
        {
            // Who asks for more is woken when more comes.
            let Poll::Ready(Some(part)) = self.poll_incoming(&mut context) else { break };
            let part = part?;
            bytes += part.data_ref().map_or(0, Bytes::len);
            self.ahead.push_back(part);
        }
        Ok(())
    }

    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.end == End::Read {
            return Poll::Ready(None);
        }
        let Self { incoming, lease, .. } = self;
        let polled = match lease.drive(context, |context| Pin::new(&mut *incoming).poll_frame(context)) {
            Poll::Ready(frame) => {
                self.deadline = None;
                let is_foul = lease.uses().is_foul();
                // Behind trailers nobody need look for the end; of chunks it is known only when it is there.
                let has_ended = match &frame {
                    None => true,
                    Some(Ok(part)) => part.is_trailers() || incoming.is_end_stream(),
                    Some(Err(_)) => false,
                };
                if is_foul {
                    lease.uses().condemn();
                } else if has_ended {
                    lease.end();
                    self.end = End::Read;
                }
                Poll::Ready(match frame {
                    None | Some(Ok(_)) if is_foul => Some(Err(BodyError::Foul)),
                    frame => frame.map(|frame| frame.map_err(BodyError::Broken)),
                })
            }
            Poll::Pending => {
                let idle = self.idle;
                let deadline = self
                    .deadline
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
                deadline.as_mut().poll(context).map(|()| Some(Err(BodyError::Idle)))
            }
        };
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.early_ends.count(error);
        }
        polled
    }
}

impl Body for SourceBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.ahead.pop_front() {
            Some(part) => Poll::Ready(Some(Ok(part))),
            None => self.poll_incoming(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: usize = self.ahead.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        match self.incoming.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + ahead as u64),
            None => SizeHint::new(),
        }
    }
}

/// A request's content on its way: when it moved last, and who is waited for.
#[derive(Clone, Debug, Default)]
pub struct Upload(Arc<Mutex<Content>>);

#[derive(Clone, Copy, Debug, Default)]
struct Content {
    moved_at: Option<Instant>,
    awaits: Awaits,
}

/// Who is waited for while content is sent: what takes long, or breaks, because of its client tells nothing of
/// the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Awaits {
    /// All that has come was handed on.
    #[default]
    Source,
    /// The next part has not come.
    Client,
    /// No next part: what came broke off, or is refused.
    Nobody,
}

impl Upload {
    /// A part was handed on, or the last one had been.
    pub fn report(&self) {
        *self.content() = Content { moved_at: Some(Instant::now()), awaits: Awaits::Source };
    }

    /// The next part has not come.
    pub fn waits(&self) {
        self.content().awaits = Awaits::Client;
    }

    /// It will not be complete.
    pub fn breaks(&self) {
        self.content().awaits = Awaits::Nobody;
    }

    pub(super) fn moved_at(&self) -> Option<Instant> {
        self.content().moved_at
    }

    pub(super) fn awaits(&self) -> Awaits {
        self.content().awaits
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_streams_may_stand_still_for_an_hour() {
        let idle = |content_type: &'static str, seconds| {
            let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            idle_of(&fields, Duration::from_secs(seconds)).as_secs()
        };
        for (content_type, configured, seconds) in [
            ("text/event-stream", 60, 3600),
            ("Text/Event-Stream ; charset=utf-8", 60, 3600),
            ("text/event-stream", 7200, 7200),
            ("text/plain", 60, 60),
            ("text/event-streams", 60, 60),
        ] {
            assert_eq!(idle(content_type, configured), seconds, "{content_type}");
        }
    }
}
