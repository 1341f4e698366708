//! A body that grows while many read it.
//!
//! One writer (the fill), any number of readers, each at its own pace. While everything fits into
//! `kept_bytes_max` all of it is kept, so that late readers begin at the beginning and the whole can
//! be stored. Beyond that only a window of that size is kept: the fastest reader sets the pace, and
//! a reader that falls out of the window is cut, visibly. Memory is bounded either way (I10).

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Why a body ends before it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The source's transfer broke.
    #[error("the source's answer broke off")]
    Aborted,
    /// This reader fell out of the window.
    #[error("the reader was too slow")]
    TooSlow,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is there to be read.
    Kept,
    /// Nobody reads any more.
    Abandoned,
}

/// The body; shared by its writer and its readers.
#[derive(Debug)]
pub struct Growing {
    inner: Mutex<Inner>,
    /// Told when a reader has moved on or left.
    moved: Notify,
    kept_bytes_max: u64,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: VecDeque<Bytes>,
    /// Index of the first chunk that is kept.
    first: u64,
    kept_bytes: u64,
    end: End,
    /// What came behind the content; it is not stored (RFC 9111 3.1).
    trailers: Option<HeaderMap>,
    readers: Vec<Option<ReaderState>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    Complete,
    Aborted,
}

#[derive(Debug)]
struct ReaderState {
    next: u64,
    waker: Option<Waker>,
}

impl Growing {
    /// An empty body of which at most so many bytes are kept.
    #[must_use]
    pub fn new(kept_bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), moved: Notify::new(), kept_bytes_max })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics while the lock is held; a poisoned lock is still consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader from the beginning; `None` once the beginning is gone or the body is aborted.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut inner = self.lock();
        if inner.first > 0 || inner.end == End::Aborted {
            return None;
        }
        let state = Some(ReaderState { next: 0, waker: None });
        let slot = inner.readers.iter().position(Option::is_none).unwrap_or(inner.readers.len());
        match inner.readers.get_mut(slot) {
            Some(free) => *free = state,
            None => inner.readers.push(state),
        }
        Some(Reader { body: Arc::clone(self), slot, trailers: Trailers::Unread })
    }

    /// Adds a chunk; waits for the fastest reader where the window is full.
    pub async fn push(&self, chunk: Bytes) -> Pushed {
        let wakers = {
            let mut inner = self.lock();
            inner.kept_bytes += chunk.len() as u64;
            inner.chunks.push_back(chunk);
            inner.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Registered before the look, so that no move is missed.
            moved.as_mut().enable();
            match self.lock().make_room(self.kept_bytes_max) {
                Room::Made(cut) => {
                    cut.into_iter().for_each(Waker::wake);
                    return Pushed::Kept;
                }
                Room::Abandoned => return Pushed::Abandoned,
                Room::Full => {}
            }
            moved.await;
        }
    }

    /// Keeps the trailers, for readers that come to the end.
    pub fn trail(&self, trailers: HeaderMap) {
        self.lock().trailers = Some(trailers);
    }

    /// Ends it well. Where all of it was kept, the whole goes to `store` before any reader sees the end.
    pub fn complete(&self, store: impl FnOnce(Bytes)) {
        self.complete_with(Bytes::new(), store);
    }

    /// Ends it well with a last chunk, which no reader sees before the whole has gone to `store`.
    pub fn complete_with(&self, last: Bytes, store: impl FnOnce(Bytes)) {
        let whole = self.lock().whole_with(&last);
        if let Some(whole) = whole {
            store(whole);
        }
        let wakers = {
            let mut inner = self.lock();
            if !last.is_empty() {
                inner.kept_bytes += last.len() as u64;
                inner.chunks.push_back(last);
            }
            inner.end = End::Complete;
            inner.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends it visibly broken for everyone who reads it.
    pub fn abort(&self) {
        let wakers = {
            let mut inner = self.lock();
            if inner.end == End::Open {
                inner.end = End::Aborted;
            }
            inner.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

enum Room {
    Made(Vec<Waker>),
    Full,
    Abandoned,
}

impl Inner {
    fn take_wakers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().flatten().filter_map(|reader| reader.waker.take()).collect()
    }

    /// All that was kept and a last chunk; `None` where the beginning is gone.
    fn whole_with(&self, last: &Bytes) -> Option<Bytes> {
        if self.first > 0 {
            return None;
        }
        let parts: Vec<&Bytes> = self.chunks.iter().chain([last]).filter(|part| !part.is_empty()).collect();
        if let [] | [_] = parts.as_slice() {
            return Some(parts.first().copied().cloned().unwrap_or_default());
        }
        let bytes = parts.iter().map(|part| part.len()).sum();
        let mut whole = BytesMut::with_capacity(bytes);
        for part in parts {
            whole.extend_from_slice(part);
        }
        Some(whole.freeze())
    }

    /// Drops from the front what exceeds `kept_bytes_max` and the fastest reader has read.
    fn make_room(&mut self, kept_bytes_max: u64) -> Room {
        let mut cut = Vec::new();
        while self.kept_bytes > kept_bytes_max {
            let Some(fastest) = self.readers.iter().flatten().map(|reader| reader.next).max() else {
                return Room::Abandoned;
            };
            if fastest <= self.first {
                return Room::Full;
            }
            let Some(dropped) = self.chunks.pop_front() else { break };
            self.kept_bytes -= dropped.len() as u64;
            self.first += 1;
            let first = self.first;
            let behind = self.readers.iter_mut().flatten().filter(|reader| reader.next < first);
            cut.extend(behind.filter_map(|reader| reader.waker.take()));
        }
        Room::Made(cut)
    }
}

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
    /// The next chunk; `None` at the end of a complete body.
    pub fn poll_chunk(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut guard = self.body.lock();
        let inner = &mut *guard;
        let Some(Some(reader)) = inner.readers.get_mut(self.slot) else { return Poll::Ready(None) };
        let Some(offset) = reader.next.checked_sub(inner.first) else {
            return Poll::Ready(Some(Err(Cut::TooSlow)));
        };
        let chunk = usize::try_from(offset).ok().and_then(|offset| inner.chunks.get(offset));
        match (chunk, inner.end) {
            (Some(chunk), _) => {
                let chunk = chunk.clone();
                reader.next += 1;
                drop(guard);
                self.body.moved.notify_waiters();
                Poll::Ready(Some(Ok(chunk)))
            }
            (None, End::Complete) => Poll::Ready(None),
            (None, End::Aborted) => Poll::Ready(Some(Err(Cut::Aborted))),
            (None, End::Open) => {
                reader.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Reader {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn next(reader: &mut Reader) -> Option<Result<Bytes, Cut>> {
        poll_fn(|context| Pin::new(&mut *reader).poll_chunk(context)).await
    }

    #[tokio::test]
    async fn readers_read_what_is_there_while_it_grows() {
        let body = Growing::new(100);
        let mut early = body.reader().unwrap();
        assert_eq!(body.push(Bytes::from_static(b"ab")).await, Pushed::Kept);
        assert_eq!(next(&mut early).await, Some(Ok(Bytes::from_static(b"ab"))));
        let waiting = tokio::spawn(async move { next(&mut early).await });
        tokio::task::yield_now().await;
        assert_eq!(body.push(Bytes::from_static(b"cd")).await, Pushed::Kept);
        assert_eq!(waiting.await.unwrap(), Some(Ok(Bytes::from_static(b"cd"))));
        let mut late = body.reader().unwrap();
        let mut stored = None;
        body.complete_with(Bytes::from_static(b"e"), |whole| stored = Some(whole));
        assert_eq!(stored, Some(Bytes::from_static(b"abcde")));
        assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"ab"))));
        assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"cd"))));
        assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"e"))));
        assert_eq!(next(&mut late).await, None);
    }

    #[tokio::test]
    async fn an_abort_never_looks_complete() {
        let body = Growing::new(100);
        let mut reader = body.reader().unwrap();
        body.push(Bytes::from_static(b"ab")).await;
        body.abort();
        assert_eq!(next(&mut reader).await, Some(Ok(Bytes::from_static(b"ab"))));
        assert_eq!(next(&mut reader).await, Some(Err(Cut::Aborted)));
    }

    #[tokio::test]
    async fn i10_beyond_its_bound_the_fastest_reader_sets_the_pace() {
        let body = Growing::new(4);
        let mut fast = body.reader().unwrap();
        let mut slow = body.reader().unwrap();
        body.push(Bytes::from_static(b"abc")).await;
        let writer = tokio::spawn({
            let body = Arc::clone(&body);
            async move { body.push(Bytes::from_static(b"def")).await }
        });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished(), "nobody has read: the fill waits");
        assert_eq!(next(&mut fast).await, Some(Ok(Bytes::from_static(b"abc"))));
        assert_eq!(writer.await.unwrap(), Pushed::Kept);
        assert_eq!(next(&mut slow).await, Some(Err(Cut::TooSlow)));
        assert_eq!(next(&mut fast).await, Some(Ok(Bytes::from_static(b"def"))));
        assert!(body.reader().is_none(), "the beginning is gone");
        body.complete(|_| panic!("a body without its beginning is not stored"));
    }

    #[tokio::test]
    async fn a_body_that_nobody_reads_is_abandoned() {
        let body = Growing::new(1);
        let reader = body.reader().unwrap();
        let writer = tokio::spawn({
            let body = Arc::clone(&body);
            async move { body.push(Bytes::from_static(b"too much")).await }
        });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished(), "the reader may still come");
        drop(reader);
        assert_eq!(writer.await.unwrap(), Pushed::Abandoned);
    }
}
