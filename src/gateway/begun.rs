//! An answer that was read before it is sent, so that it can be kept: what was read goes first, then the
//! rest, where reading it ended early.

use super::body::{Body, Broken};
use crate::in_flight::Share;
use crate::sync::ANSWER_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is read before it is sent; a slower one is passed on as it comes.
const READ_MAX: Duration = Duration::from_secs(10);

/// What was read, and what was not.
#[derive(Debug)]
pub(crate) struct Begun {
    read: Bytes,
    trailers: Option<HeaderMap>,
    rest: Rest,
    /// Of all of it, as far as it is known.
    length: SizeHint,
    /// What it holds of what may be in flight.
    _share: Share,
}

#[derive(Debug)]
enum Rest {
    Nothing,
    Body(Body),
    Broken(Broken),
}

/// Reads a body of at most [`ANSWER_BYTES_MAX`]. What its client gets, and all of the content if it is there.
pub(super) async fn read(mut body: Body, mut share: Share) -> (Body, Option<Bytes>) {
    let length = body.size_hint();
    let (mut read, mut trailers) = (BytesMut::new(), None);
    let until = Instant::now() + READ_MAX;
    let is_too_large = length.lower() > ANSWER_BYTES_MAX as u64;
    let rest = loop {
        if is_too_large || read.len() > ANSWER_BYTES_MAX {
            break Rest::Body(body);
        }
        let frame = match tokio::time::timeout_at(until, body.frame()).await {
            Err(_) => break Rest::Body(body),
            Ok(None) => break Rest::Nothing,
            Ok(Some(Err(broken))) => break Rest::Broken(broken),
            Ok(Some(Ok(frame))) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                read.extend_from_slice(&data);
                // The bytes are there already: only what comes after them can be left alone.
                if share.grow(data.len() as u64).is_err() {
                    share.count_shed();
                    break Rest::Body(body);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    };
    let read = read.freeze();
    let is_whole = matches!(rest, Rest::Nothing) && read.len() <= ANSWER_BYTES_MAX;
    let content = is_whole.then(|| read.clone());
    if is_whole && read.is_empty() && trailers.is_none() {
        return (Body::Empty, content);
    }
    (Body::Begun(Box::new(Begun { read, trailers, rest, length, _share: share })), content)
}

impl Begun {
    /// As [`Body::look_ahead`].
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) fn look_ahead(&mut self) -> Result<(), Broken> {
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Broken(broken) => return Err(broken),
            Rest::Body(mut body) => {
                body.look_ahead()?;
                self.rest = Rest::Body(body);
            }
            Rest::Nothing => {}
        }
        Ok(())
    }
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.read)))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match &mut self.rest {
            Rest::Nothing => Poll::Ready(None),
            Rest::Body(body) => Pin::new(body).poll_frame(context),
            Rest::Broken(_) => match std::mem::replace(&mut self.rest, Rest::Nothing) {
                Rest::Broken(broken) => Poll::Ready(Some(Err(broken))),
                Rest::Nothing | Rest::Body(_) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_read = self.read.is_empty() && self.trailers.is_none();
        nothing_read
            && match &self.rest {
                Rest::Nothing => true,
                Rest::Body(body) => body.is_end_stream(),
                Rest::Broken(_) => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.rest, self.trailers.is_none()) {
            (Rest::Nothing, true) => SizeHint::with_exact(self.read.len() as u64),
            _ => self.length,
        }
    }
}
