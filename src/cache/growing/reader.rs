//! A reader of a growing body, at its own pace.

use super::{Cut, End, Growing};
use bytes::Bytes;
use http::HeaderMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One reader of a growing body.
#[derive(Debug)]
pub struct Reader {
    body: Arc<Growing>,
    slot: usize,
    trailers: Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailers {
    Unread,
    Read,
}

impl Reader {
    pub(super) fn new(body: &Arc<Growing>, slot: usize) -> Self {
        Self { body: Arc::clone(body), slot, trailers: Trailers::Unread }
    }

    /// The next bytes; `None` at the end of a complete body.
    pub fn poll_chunk(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut guard = self.body.lock();
        let inner = &mut *guard;
        let Some(next) = inner.readers.get(self.slot).and_then(Option::as_ref).map(|reader| reader.next)
        else {
            return Poll::Ready(None);
        };
        if next < inner.start {
            return Poll::Ready(Some(Err(Cut::TooSlow)));
        }
        let found = inner.at(next);
        let Some(Some(reader)) = inner.readers.get_mut(self.slot) else { return Poll::Ready(None) };
        match (found, inner.end) {
            (Some(bytes), _) => {
                reader.next += bytes.len() as u64;
                drop(guard);
                self.body.moved.notify_waiters();
                Poll::Ready(Some(Ok(bytes)))
            }
            (None, End::Complete) => Poll::Ready(None),
            (None, End::Aborted) => Poll::Ready(Some(Err(Cut::Aborted))),
            (None, End::Open) => {
                reader.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The trailers, once, where the body is complete and there are some.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        match std::mem::replace(&mut self.trailers, Trailers::Read) {
            Trailers::Unread => self.body.lock().trailers.clone(),
            Trailers::Read => None,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(reader) = self.body.lock().readers.get_mut(self.slot) {
            *reader = None;
        }
        self.body.moved.notify_waiters();
    }
}
