//! A reader of a growing body, or of a part of it, at its own pace.

use super::room::{Gait, Position};
use super::{Cut, End, Growing, Kept};
use bytes::Bytes;
use http::HeaderMap;
use std::future::poll_fn;
use std::ops::Range;
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

/// What is known of how much there is of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// As much as was asked about has come, and more may come.
    Reached,
    /// All of it has come and was kept: so many bytes.
    Complete(u64),
    /// It has broken off.
    Broken,
    /// It is too large to be kept, and what comes later can only be read on the way.
    Passing,
}

impl Reader {
    pub(super) fn new(body: &Arc<Growing>, slot: usize) -> Self {
        Self { body: Arc::clone(body), slot, trailers: Trailers::Unread }
    }

    /// The next bytes; `None` at the end of a complete body.
    pub fn poll_chunk(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut guard = self.body.lock();
        let inner = &mut *guard;
        let state = inner.readers.get(self.slot).and_then(Option::as_ref);
        let Some(Position::At(next)) = state.map(|reader| reader.position) else {
            return Poll::Ready(None);
        };
        if next < inner.start {
            return Poll::Ready(Some(Err(Cut::TooSlow)));
        }
        let found = inner.at(next);
        let Some(Some(reader)) = inner.readers.get_mut(self.slot) else { return Poll::Ready(None) };
        match (found, inner.end) {
            (Some(mut bytes), _) => {
                bytes.truncate(usize::try_from(reader.end.saturating_sub(next)).unwrap_or(usize::MAX));
                let (to, gait) = (next + bytes.len() as u64, reader.gait);
                if to == inner.received {
                    reader.gait = Gait::ComesOn;
                }
                reader.go_on_from(to);
                // Nobody is held up by one that has all it wants.
                let is_over = reader.position == Position::Over;
                let wakes = inner.has_moved(next, to, gait) || is_over;
                drop(guard);
                if wakes {
                    self.body.moved.notify_waiters();
                }
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

    /// Reads only these bytes from now on: not those before, and none behind them, nor trailers. Where it has
    /// none of the first any more it is cut.
    #[must_use]
    pub fn only(mut self, range: &Range<u64>) -> Self {
        self.trailers = Trailers::Read;
        if let Some(Some(reader)) = self.body.lock().readers.get_mut(self.slot) {
            reader.end = range.end;
            reader.go_on_from(range.start);
        }
        self.body.moved.notify_waiters();
        self
    }

    /// Whether it has broken off before all that this one wants has come.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let inner = self.body.lock();
        let wanted = inner.readers.get(self.slot).and_then(Option::as_ref).map(|reader| reader.end);
        inner.end == End::Aborted && wanted.is_some_and(|end| end > inner.received)
    }

    /// What is known of the body once `bytes` of it have come, or it has ended, or it cannot be waited for.
    pub async fn extent(&self, bytes: u64) -> Extent {
        poll_fn(|context| {
            let mut inner = self.body.lock();
            match (inner.end, inner.kept) {
                (End::Aborted, _) => return Poll::Ready(Extent::Broken),
                (End::Complete, Kept::Whole) => return Poll::Ready(Extent::Complete(inner.received)),
                _ if inner.received >= bytes => return Poll::Ready(Extent::Reached),
                (_, Kept::Window) => return Poll::Ready(Extent::Passing),
                (End::Open, Kept::Whole) => {}
            }
            if let Some(Some(reader)) = inner.readers.get_mut(self.slot) {
                reader.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
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
        self.body.lock().free_slot(self.slot);
        self.body.moved.notify_waiters();
    }
}
