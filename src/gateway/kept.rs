//! An answer that is kept for others while one client reads it: a whole, for later reads, and what answers
//! a range (`ranged.rs`).

use super::ranged::Ranged;
use crate::cache::rules::storable::Admitted;
use crate::cache::{Cache, CacheKey, Lookup};
use crate::in_flight::Share;
use crate::source::{BodyError, SourceBody};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What is stored once its content is complete.
#[derive(Debug)]
pub(crate) enum Keeping {
    /// A whole that a read which went alone brought, a POST, or a range that the source did not cut.
    Whole(Whole),
    /// What answers a range.
    Ranged(Ranged),
}

impl Keeping {
    /// The most that is copied.
    fn bytes_max(&self) -> u64 {
        match self {
            Self::Whole(whole) => whole.cache.object_bytes_max(),
            Self::Ranged(ranged) => ranged.piece.bytes(),
        }
    }

    fn share(&mut self) -> &mut Share {
        match self {
            Self::Whole(whole) => &mut whole.share,
            Self::Ranged(ranged) => &mut ranged.share,
        }
    }

    fn store(self, content: Bytes) {
        match self {
            Self::Whole(whole) => whole.store(content),
            Self::Ranged(ranged) => ranged.store(content),
        }
    }
}

/// A whole answer that serves later reads.
#[derive(Debug)]
pub(crate) struct Whole {
    pub cache: Arc<Cache>,
    pub key: CacheKey,
    pub admitted: Admitted,
    /// The fields of the request, which select the variant.
    pub request_fields: HeaderMap,
    /// What the copy holds of what may be in flight.
    pub share: Share,
}

impl Whole {
    /// Stores the whole, unless what is stored by now is younger: that was asked for later.
    fn store(self, whole: Bytes) {
        let received_at = self.admitted.head().received_at;
        match self.cache.lookup_memory(&self.key, &self.request_fields, received_at) {
            Lookup::Fresh(found) | Lookup::StaleUsable(found) | Lookup::MustValidate(found, _)
                if found.stored.received_at > received_at => {}
            Lookup::Fresh(_) | Lookup::StaleUsable(_) | Lookup::MustValidate(..) | Lookup::Forward(_) => {
                // Purged meanwhile: this client has it, nobody else will.
                drop(self.cache.store(&self.key, self.admitted.into_stored(whole)));
            }
        }
    }
}

/// A source's body on its way to a client. A copy grows beside it, at most as large as a stored response
/// may be, and is stored before the client can see the end. What breaks off, or is not read to its end,
/// is not stored.
#[derive(Debug)]
pub(crate) struct Kept {
    body: SourceBody,
    length: Option<u64>,
    copy: BytesMut,
    /// Gone once it is stored, or too large, or there is no room for more.
    keeping: Option<Keeping>,
}

impl Kept {
    pub(crate) fn new(body: SourceBody, keeping: Keeping) -> Self {
        let length = body.size_hint().exact();
        let mut kept = Self { body, length, copy: BytesMut::new(), keeping: Some(keeping) };
        if length == Some(0) {
            kept.complete();
        }
        kept
    }

    /// As [`SourceBody::look_ahead`].
    ///
    /// # Errors
    /// [`BodyError`]: it breaks.
    pub(crate) fn look_ahead(&mut self) -> Result<(), BodyError> {
        self.body.look_ahead()
    }

    fn take(&mut self, data: &Bytes) {
        let Some(keeping) = &mut self.keeping else { return };
        let is_too_large = (self.copy.len() + data.len()) as u64 > keeping.bytes_max();
        if is_too_large || keeping.share().grow(data.len() as u64).is_err() {
            if !is_too_large {
                keeping.share().count_shed();
            }
            (self.keeping, self.copy) = (None, BytesMut::new());
            return;
        }
        self.copy.extend_from_slice(data);
        // Nobody asks for what comes after the last of a known length.
        if self.length == Some(self.copy.len() as u64) {
            self.complete();
        }
    }

    fn complete(&mut self) {
        if let Some(keeping) = self.keeping.take() {
            keeping.store(std::mem::take(&mut self.copy).freeze());
        }
    }
}

impl Body for Kept {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(None) => self.complete(),
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(data) => {
                    self.take(data);
                    if self.body.is_end_stream() {
                        self.complete();
                    }
                }
                // Trailers come after the last of the content.
                None => self.complete(),
            },
            Poll::Ready(Some(Err(_))) => self.keeping = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
