//! A body that grows while many read it.
//!
//! One writer (the fill), any number of readers, each at its own pace. While everything fits into what a
//! tier takes, all of it is kept: late readers begin at the beginning, slow ones hold nobody up, and once
//! it is complete everybody reads on from the bytes that were stored. What outgrows that is not stored, and
//! only [`WINDOW_BYTES`] of it are kept: the fastest reader sets the pace, those that move on are waited for,
//! and who falls out of the window and does not is cut, visibly (`room.rs`). Memory is bounded either
//! way (I10), and all bodies together by what may be in flight: where that is full, a body is kept no further
//! for the store, and holds no more than it did.

mod reader;
mod room;

pub use reader::{Extent, Reader};

use crate::in_flight::Share;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use room::{Awaited, HOLD_MAX, Hold, ReaderState, Room, Window};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How much is kept of a body that is too large to be stored: so far a reader may be behind the fastest.
pub const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// The most that a reader is handed at once: until it comes for more it is at work, not idle.
const PART_BYTES: usize = 64 * 1024;

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

/// What is kept of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    Whole,
    /// A window: it is too large to be stored, or there is no room to hold it until then.
    Window,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is there to be read.
    Done(Kept),
    /// Nobody reads any more.
    Abandoned,
}

/// The body; shared by its writer and its readers.
#[derive(Debug)]
pub struct Growing {
    inner: Mutex<Inner>,
    /// Told when a reader has moved on or left.
    moved: Notify,
    whole_bytes_max: u64,
}

#[derive(Debug)]
struct Inner {
    chunks: VecDeque<Chunk>,
    /// What the chunks hold of what may be in flight.
    share: Share,
    /// Where the first byte that is kept lies.
    start: u64,
    /// How much has come so far.
    received: u64,
    kept: Kept,
    /// The wait for slow readers.
    hold: Hold,
    /// Whom the writer waits for.
    awaited: Awaited,
    end: End,
    /// What came behind the content; it is not stored (RFC 9111 3.1).
    trailers: Option<HeaderMap>,
    readers: Vec<Option<ReaderState>>,
    /// The places in `readers` that nobody has.
    free: Vec<usize>,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Bytes,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Complete,
    Aborted,
}

impl Growing {
    /// An empty body, kept whole up to so many bytes; 0: it is known that it will not be stored. What
    /// it holds is counted in `share`.
    #[must_use]
    pub fn new(whole_bytes_max: u64, share: Share) -> Arc<Self> {
        let inner = Inner {
            chunks: VecDeque::new(),
            share,
            start: 0,
            received: 0,
            kept: if whole_bytes_max == 0 { Kept::Window } else { Kept::Whole },
            hold: Hold::new(Instant::now()),
            awaited: Awaited::Nobody,
            end: End::Open,
            trailers: None,
            readers: Vec::new(),
            free: Vec::new(),
        };
        Arc::new(Self { inner: Mutex::new(inner), moved: Notify::new(), whole_bytes_max })
    }

    /// A body without content, complete.
    #[must_use]
    pub fn nothing(share: Share) -> Arc<Self> {
        let body = Self::new(0, share);
        body.lock().end = End::Complete;
        body
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics while the lock is held; a poisoned lock is still consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept of it.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.lock().kept
    }

    /// A reader from the beginning; `None` once that is gone. Of an aborted body it reads that it is broken.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut inner = self.lock();
        if inner.start > 0 {
            return None;
        }
        let slot = inner.take_slot();
        // Whoever waits for somebody to read need not give up.
        let is_first = inner.awaited == Awaited::Newcomer;
        drop(inner);
        if is_first {
            self.moved.notify_waiters();
        }
        Some(Reader::new(self, slot))
    }

    /// What breaks the body visibly, unless it has ended, when it is dropped: nobody waits for a writer that
    /// is gone.
    #[must_use]
    pub fn unfinished(self: &Arc<Self>) -> Unfinished {
        Unfinished(Arc::clone(self))
    }

    /// Whether it is broken: for those who waited for it, and nobody else.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.lock().end == End::Aborted
    }

    /// Adds a chunk; where the window is full, waits for the fastest reader, and a little for the others.
    /// Dropped while it waits, it has added the chunk all the same.
    pub async fn push(&self, chunk: Bytes) -> Pushed {
        let (wakers, window) = {
            let mut inner = self.lock();
            let window = inner.take_in(chunk, self.whole_bytes_max);
            (inner.take_wakers(), window)
        };
        wakers.into_iter().for_each(Waker::wake);
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Registered before the look, so that no move is missed.
            moved.as_mut().enable();
            let (room, left) = {
                let mut inner = self.lock();
                let room = inner.make_room(window);
                inner.await_readers(room, Instant::now());
                if room == Room::Made {
                    return Pushed::Done(inner.kept);
                }
                (room, inner.patience_left())
            };
            match room {
                Room::Abandoned if left.is_zero() => return Pushed::Abandoned,
                Room::Behind if left.is_zero() => self.judge(),
                // Those who join late may not read yet.
                Room::Behind | Room::Abandoned => {
                    let since = Instant::now();
                    // Whether they moved or not is looked at again.
                    drop(tokio::time::timeout(left, moved).await);
                    self.lock().has_waited(since.elapsed());
                }
                // However they were counted, it is looked at again.
                Room::Full | Room::Made => drop(tokio::time::timeout(HOLD_MAX, moved).await),
            }
        }
    }

    /// Makes room at the cost of those who stand still.
    fn judge(&self) {
        let wakers = {
            let mut inner = self.lock();
            inner.judge();
            inner.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Keeps the trailers, for readers that come to the end.
    pub fn trail(&self, trailers: HeaderMap) {
        self.lock().trailers = Some(trailers);
    }

    /// Ends it well. Where all of it was kept, the whole goes to `store` before any reader sees the end: from
    /// then on readers read what that gives back, which the store bounds. What it does not have counts on,
    /// until the last of them has left.
    pub fn complete(&self, store: impl FnOnce(Bytes) -> Option<Bytes>) {
        self.complete_with(Bytes::new(), store);
    }

    /// Ends it well with a last chunk, which no reader sees before the whole has gone to `store`.
    pub fn complete_with(&self, last: Bytes, store: impl FnOnce(Bytes) -> Option<Bytes>) {
        let parts = self.lock().parts_with(&last, self.whole_bytes_max);
        // Joined without the lock: nobody waits for the copy, and there is no other writer.
        let whole = parts.map(joined);
        let stored = whole.as_ref().and_then(|whole| store(whole.clone()));
        let wakers = {
            let mut inner = self.lock();
            inner.share.add(last.len() as u64);
            inner.append(last);
            if stored.is_some() {
                // From here on these are bytes of the store.
                inner.share.give_all_back();
            }
            if let Some(bytes) = stored.or(whole) {
                inner.chunks = VecDeque::from([Chunk { start: 0, bytes }]);
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

/// See [`Growing::unfinished`].
#[derive(Debug)]
pub struct Unfinished(Arc<Growing>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A copy, also of a single part: it is a slice of what was read off the connection, and keeps all of that.
fn joined(parts: Vec<Bytes>) -> Bytes {
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}

impl Inner {
    /// Appends a chunk, which is counted in any case: it is in memory. How much may be held before the next.
    fn take_in(&mut self, chunk: Bytes, whole_bytes_max: u64) -> Window {
        let (held_bytes, bytes) = (self.held_bytes(), chunk.len() as u64);
        let grown = self.share.grow(bytes);
        self.append(chunk);
        if self.received > whole_bytes_max {
            self.kept = Kept::Window;
        }
        if grown.is_ok() {
            return Window::Open;
        }
        self.share.add(bytes);
        if self.kept == Kept::Whole {
            self.share.count_shed();
            self.kept = Kept::Window;
        }
        Window::Shut(held_bytes)
    }

    fn append(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            let start = self.received;
            self.received += bytes.len() as u64;
            self.chunks.push_back(Chunk { start, bytes });
        }
    }

    /// A place for a new reader.
    fn take_slot(&mut self) -> usize {
        let state = Some(ReaderState::new());
        let slot = self.free.pop().unwrap_or(self.readers.len());
        match self.readers.get_mut(slot) {
            Some(free) => *free = state,
            None => self.readers.push(state),
        }
        slot
    }

    /// A reader has left.
    fn free_slot(&mut self, slot: usize) {
        if let Some(state) = self.readers.get_mut(slot)
            && state.take().is_some()
        {
            self.free.push(slot);
        }
    }

    fn held_bytes(&self) -> u64 {
        self.received - self.start
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().flatten().filter_map(|reader| reader.waker.take()).collect()
    }

    /// All that was kept and a last chunk; `None` where it cannot be the whole, or is too large.
    fn parts_with(&self, last: &Bytes, whole_bytes_max: u64) -> Option<Vec<Bytes>> {
        let bytes = self.received + last.len() as u64;
        if bytes > whole_bytes_max || self.start > 0 {
            return None;
        }
        let kept = self.chunks.iter().map(|chunk| &chunk.bytes);
        Some(kept.chain([last]).filter(|part| !part.is_empty()).cloned().collect())
    }

    /// The bytes from an offset on, as far as one chunk has them.
    fn at(&self, offset: u64) -> Option<Bytes> {
        let index = self.chunks.partition_point(|chunk| chunk.end() <= offset);
        let chunk = self.chunks.get(index)?;
        let begin = usize::try_from(offset.checked_sub(chunk.start)?).ok()?;
        let end = chunk.bytes.len().min(begin.saturating_add(PART_BYTES));
        Some(chunk.bytes.slice(begin..end))
    }
}

#[cfg(test)]
mod tests;
