//! The body of an answer: held, growing, or passed on as it comes.

use super::access_log::Logged;
use super::begun::Begun;
use super::kept::Kept;
use super::landing::Landing;
use super::pace::ReaderCut;
use super::trailers;
use crate::cache::collapse::Follower;
use crate::cache::growing::{Cut, Reader};
use crate::source::{BodyError, SourceBody};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes of a held body handed over at once: until the last are taken its request is under way, so that
/// a slow reader is no idle one.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a client is sent.
#[derive(Debug)]
pub(crate) enum Body {
    /// Nothing; what is known of its length is said by the fields.
    Empty,
    /// What is held.
    Full(Bytes),
    /// What a fill brings.
    Growing(Box<Growing>),
    /// What a source sends, for this client alone.
    Forwarded(Box<SourceBody>),
    /// What a source sends to this client, stored at its end.
    Kept(Box<Kept>),
    /// What was read to be kept before it is sent.
    Begun(Box<Begun>),
    /// Any of these, for a request that is logged when it is gone.
    Logged(Box<Logged>),
}

/// A reader of a fill, which holds its place among the fill's followers while it reads.
#[derive(Debug)]
pub(crate) struct Growing {
    reader: Reader,
    length: Option<u64>,
    _interest: Follower<Landing>,
}

/// Why a body broke off: the transfer is visibly broken for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Cut(#[from] Cut),
    #[error(transparent)]
    Source(#[from] BodyError),
}

impl Body {
    pub(crate) fn growing(reader: Reader, length: Option<u64>, interest: Follower<Landing>) -> Self {
        Self::Growing(Box::new(Growing { reader, length, _interest: interest }))
    }

    pub(crate) fn forwarded(body: SourceBody) -> Self {
        Self::Forwarded(Box::new(body))
    }

    /// Looks whether it is known already that it breaks off; waits for nothing.
    ///
    /// # Errors
    /// [`Broken`]: it is of use to nobody.
    pub(crate) fn look_ahead(&mut self) -> Result<(), Broken> {
        match self {
            Self::Empty | Self::Full(_) => Ok(()),
            Self::Growing(growing) => {
                if growing.reader.is_broken() {
                    Err(Cut::Aborted.into())
                } else {
                    Ok(())
                }
            }
            Self::Forwarded(body) => Ok(body.look_ahead()?),
            Self::Kept(body) => Ok(body.look_ahead()?),
            Self::Begun(body) => body.look_ahead(),
            Self::Logged(logged) => logged.body.look_ahead(),
        }
    }
}

/// A frame as it is passed on; trailers of which nothing may pass are the end.
fn passed_on(frame: Result<Frame<Bytes>, Broken>) -> Option<Result<Frame<Bytes>, Broken>> {
    match frame.map(Frame::into_trailers) {
        Ok(Ok(all)) => trailers::permitted(all).map(|some| Ok(Frame::trailers(some))),
        Ok(Err(frame)) => Some(Ok(frame)),
        Err(broken) => Some(Err(broken)),
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => {
                let length = bytes.len().min(CHUNK_BYTES);
                Poll::Ready(Some(Ok(Frame::data(bytes.split_to(length)))))
            }
            Self::Growing(growing) => {
                Pin::new(&mut growing.reader).poll_chunk(context).map(|chunk| match chunk {
                    Some(Ok(chunk)) => Some(Ok(Frame::data(chunk))),
                    Some(Err(cut)) => {
                        if cut == Cut::TooSlow {
                            ReaderCut::Window.count();
                        }
                        Some(Err(Broken::Cut(cut)))
                    }
                    None => growing.reader.trailers().map(|trailers| Ok(Frame::trailers(trailers))),
                })
            }
            Self::Forwarded(body) => Pin::new(&mut **body)
                .poll_frame(context)
                .map(|frame| passed_on(frame?.map_err(Broken::Source))),
            Self::Kept(body) => Pin::new(&mut **body)
                .poll_frame(context)
                .map(|frame| passed_on(frame?.map_err(Broken::Source))),
            Self::Begun(body) => Pin::new(&mut **body).poll_frame(context),
            Self::Logged(logged) => {
                let frame = Pin::new(&mut logged.body).poll_frame(context);
                if let Poll::Ready(Some(Ok(frame))) = &frame {
                    logged.pending.sent(frame.data_ref().map_or(0, Bytes::len));
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Growing(growing) => growing.length == Some(0),
            Self::Forwarded(body) => body.is_end_stream(),
            Self::Kept(body) => body.is_end_stream(),
            Self::Begun(body) => body.is_end_stream(),
            Self::Logged(logged) => logged.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Growing(growing) => growing.length.map_or_else(SizeHint::new, SizeHint::with_exact),
            Self::Forwarded(body) => body.size_hint(),
            Self::Kept(body) => body.size_hint(),
            Self::Begun(body) => body.size_hint(),
            Self::Logged(logged) => logged.body.size_hint(),
        }
    }
}
