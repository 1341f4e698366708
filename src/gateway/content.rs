//! The content of a client's request: streamed, bounded, and never waited for without end.

use super::pace::{Pace, TooSlow};
use super::trailers;
use crate::in_flight::{Full, Share};
use crate::source::{RequestBody, Upload};
use crate::telemetry::metrics as names;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

/// Why a request's content is not taken. It is the client's fault, or Tidegate's own load, never the
/// source's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentFault {
    /// Over the bound: 413.
    #[error("the content is larger than is allowed here")]
    TooLarge,
    /// Slower than `body_rate`: 408.
    #[error("the content arrived too slowly")]
    TooSlow,
    /// Bad framing, or the client left: 400.
    #[error("the content broke off or is badly framed")]
    Broken,
    /// It must be held, and there is no room for it: 503.
    #[error("too many bytes are in flight to hold the content; try again")]
    NoRoom,
}

impl ContentFault {
    /// Counts it, once for each request.
    pub(crate) fn count(self) {
        let reason = match self {
            Self::TooLarge => "too-large",
            Self::TooSlow => "too-slow",
            Self::Broken => "broken",
            Self::NoRoom => "no-room",
        };
        metrics::counter!(names::CONTENT_REFUSED, "reason" => reason).increment(1);
    }
}

/// Bounds of a request's content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes after chunk decoding; `None`: no bound.
    pub bytes_max: Option<u64>,
    /// Bytes a second under which a sender is cut.
    pub rate_bytes: u64,
}

/// The longest content of a QUERY whose answer is stored or shared, in bytes: it is held in memory to
/// know the key. A longer one streams through for its client alone.
pub(crate) const QUERY_BYTES_MAX: u64 = 64 * 1024;

/// A request's content, if it has any.
#[derive(Debug)]
pub(crate) enum Content {
    None,
    Some(Incoming),
    /// All of it, in memory: it may be looked at, and sent more than once.
    Held(Bytes),
    /// Longer than was to be held: what was read of it goes first.
    Begun(Box<Metered>),
}

impl Content {
    pub(crate) fn new(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::None } else { Self::Some(incoming) }
    }

    /// Whether there is none.
    pub(crate) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// All of it, where it is known without reading.
    pub(crate) fn held(&self) -> Option<Bytes> {
        match self {
            Self::None => Some(Bytes::new()),
            Self::Held(bytes) => Some(bytes.clone()),
            Self::Some(_) | Self::Begun(_) => None,
        }
    }

    /// The declared length, where there is one.
    fn declared(&self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Some(incoming) => incoming.size_hint().exact(),
            Self::Held(bytes) => Some(bytes.len() as u64),
            // It was declared before it was begun.
            Self::Begun(_) => None,
        }
    }

    /// Refuses content that says beforehand that it is too large: before anything is read.
    ///
    /// # Errors
    /// [`ContentFault::TooLarge`]
    pub(crate) fn within(&self, bounds: Bounds) -> Result<(), ContentFault> {
        match (self.declared(), bounds.bytes_max) {
            (Some(declared), Some(bytes_max)) if declared > bytes_max => Err(ContentFault::TooLarge),
            _ => Ok(()),
        }
    }

    /// Reads all of it into memory. It holds its share as long as anybody has the bytes.
    ///
    /// # Errors
    /// [`ContentFault`]
    pub(crate) async fn collect(self, bounds: Bounds, mut share: Share) -> Result<Bytes, ContentFault> {
        self.within(bounds)?;
        let mut body = match self {
            Self::None => return Ok(Bytes::new()),
            Self::Held(bytes) => return Ok(bytes),
            Self::Some(incoming) => Metered::new(incoming, bounds),
            Self::Begun(begun) => *begun,
        };
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            share.grow(data.len() as u64).map_err(|Full| {
                share.count_shed();
                ContentFault::NoRoom
            })?;
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
        Ok(HeldContent::bytes(if rest.is_empty() { first } else { rest.freeze() }, share))
    }

    /// Reads it into memory where it is at most `held_bytes_max` long and there is room for it; another is
    /// left to be streamed, and where it says its length beforehand nothing of it is read.
    ///
    /// # Errors
    /// [`ContentFault`]
    pub(crate) async fn hold(
        self,
        bounds: Bounds,
        held_bytes_max: u64,
        mut share: Share,
    ) -> Result<Self, ContentFault> {
        self.within(bounds)?;
        if self.declared().is_some_and(|declared| declared > held_bytes_max) {
            return Ok(self);
        }
        let Self::Some(incoming) = self else { return Ok(self) };
        let mut body = Metered::new(incoming, bounds);
        let mut held = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            held.extend_from_slice(&data);
            let has_room = share.grow(data.len() as u64).is_ok();
            if !has_room || held.len() as u64 > held_bytes_max {
                body.read = held.freeze();
                return Ok(Self::Begun(Box::new(body)));
            }
        }
        Ok(Self::Held(HeldContent::bytes(held.freeze(), share)))
    }

    /// Hands it on as it comes.
    pub(crate) fn stream(self, bounds: Bounds) -> Stream {
        match self {
            Self::None => Stream::of(crate::source::empty()),
            Self::Held(bytes) => Stream::of(crate::source::full(bytes)),
            Self::Some(incoming) => Stream::metered(Metered::new(incoming, bounds)),
            Self::Begun(begun) => Stream::metered(*begun),
        }
    }
}

/// Held content and its share, which is given back with the last of the bytes.
struct HeldContent {
    content: Bytes,
    _share: Share,
}

impl HeldContent {
    fn bytes(content: Bytes, share: Share) -> Bytes {
        if content.is_empty() { content } else { Bytes::from_owner(Self { content, _share: share }) }
    }
}

impl AsRef<[u8]> for HeldContent {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

/// Content that is handed on as it comes.
pub(crate) struct Stream {
    /// The body for the source.
    pub body: RequestBody,
    /// What was wrong with it, once something was.
    pub fault: Arc<OnceLock<ContentFault>>,
    /// Tells that it still moves.
    pub upload: Option<Upload>,
}

impl Stream {
    /// Content that is there: nothing can go wrong with it.
    fn of(body: RequestBody) -> Self {
        Self { body, fault: Arc::default(), upload: None }
    }

    fn metered(metered: Metered) -> Self {
        let (fault, upload) = (Arc::clone(&metered.fault), metered.upload.clone());
        let body = RequestBody::Streams(metered.map_err(|fault| Box::new(fault).into()).boxed_unsync());
        Self { body, fault, upload: Some(upload) }
    }
}

/// Counts bytes, measures the rate, and remembers what went wrong.
#[derive(Debug)]
pub(crate) struct Metered {
    /// What was read and has not been handed on.
    read: Bytes,
    incoming: Incoming,
    bounds: Bounds,
    bytes: u64,
    fault: Arc<OnceLock<ContentFault>>,
    upload: Upload,
    pace: Pace,
}

impl Metered {
    fn new(incoming: Incoming, bounds: Bounds) -> Self {
        let (fault, upload) = (Arc::default(), Upload::default());
        Self {
            read: Bytes::new(),
            incoming,
            bounds,
            bytes: 0,
            fault,
            upload,
            pace: Pace::new(bounds.rate_bytes),
        }
    }

    fn fail(&self, fault: ContentFault) -> ContentFault {
        self.upload.breaks();
        *self.fault.get_or_init(|| fault)
    }

    fn received(&mut self, length: usize) -> Result<(), ContentFault> {
        self.bytes += length as u64;
        self.upload.report();
        if self.bounds.bytes_max.is_some_and(|bytes_max| self.bytes > bytes_max) {
            return Err(self.fail(ContentFault::TooLarge));
        }
        self.pace.moved(length as u64).map_err(|TooSlow| self.fail(ContentFault::TooSlow))
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = ContentFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ContentFault>>> {
        let this = &mut *self;
        if !this.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.read)))));
        }
        let frame = match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                this.upload.waits();
                let cut = this.pace.poll_waiting(context);
                return cut.map(|TooSlow| Some(Err(this.fail(ContentFault::TooSlow))));
            }
        };
        Poll::Ready(match frame {
            None => {
                this.upload.report();
                None
            }
            Some(Err(_)) => Some(Err(this.fail(ContentFault::Broken))),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match (this.received(length), frame.into_trailers()) {
                    (Err(fault), _) => Some(Err(fault)),
                    (Ok(()), Ok(all)) => trailers::permitted(all).map(|some| Ok(Frame::trailers(some))),
                    (Ok(()), Err(data)) => Some(Ok(data)),
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What was begun had not said its length.
        if self.bytes == 0 { self.incoming.size_hint() } else { SizeHint::default() }
    }
}
