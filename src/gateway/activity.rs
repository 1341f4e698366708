//! The requests under way on one connection.

use super::body;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The requests under way on a connection; shared by its transport and its requests.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    under_way: AtomicUsize,
    begun: AtomicU64,
    /// The transport, while it waits for an answer to end.
    waiting: AtomicWaker,
    /// Answers of which a part was handed over and no more asked for, and since when: HTTP/2 streams
    /// whose client grants no window. At most as many as there are streams.
    standing: Mutex<HashMap<u64, Instant>>,
    /// Told when the connection has been idle for too long.
    expired: Notify,
    /// Whether the next answer is the last.
    last: AtomicBool,
    /// Whether an answer broke whose end only the connection's tells.
    broken: AtomicBool,
}

impl Activity {
    /// A request begins; it ends when the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay { activity: Arc::clone(self), number, handed_over: Handed::Nothing }
    }

    /// How many requests have begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Wakes the transport when the next request ends: hyper does not look at it by itself then.
    pub(crate) fn wake_when_answered(&self, waker: &Waker) {
        self.waiting.register(waker);
    }

    /// Since when the answer stands that has stood the longest.
    pub(crate) fn standing_since(&self) -> Option<Instant> {
        self.standing().values().min().copied()
    }

    fn standing(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has been idle for too long.
    pub(crate) fn expire(&self) {
        self.expired.notify_one();
    }

    /// Resolves when the connection has been idle for too long.
    pub(crate) async fn expired(&self) {
        self.expired.notified().await;
    }

    /// The next answer is the last.
    pub(crate) fn end(&self) {
        self.last.store(true, Ordering::Release);
    }

    /// Whether the next answer is the last.
    pub(crate) fn is_last(&self) -> bool {
        self.last.load(Ordering::Acquire)
    }

    /// Whether the connection has to end so that its client sees that something broke.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    activity: Arc<Activity>,
    number: u64,
    handed_over: Handed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handed {
    Nothing,
    Part,
}

impl UnderWay {
    /// A part of the answer was handed over, and there is more.
    fn stands(&mut self) {
        self.handed_over = Handed::Part;
        self.activity.standing().insert(self.number, Instant::now());
    }

    /// More is asked for, or the answer has ended.
    fn moves(&mut self) {
        if std::mem::replace(&mut self.handed_over, Handed::Nothing) == Handed::Part {
            self.activity.standing().remove(&self.number);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.moves();
        self.activity.under_way.fetch_sub(1, Ordering::Release);
        self.activity.waiting.wake();
    }
}

/// An answer's body, during which its request is under way.
#[derive(Debug)]
pub(crate) struct Answering {
    body: body::Body,
    under_way: UnderWay,
    /// The longest part that is handed over at once.
    piece_bytes: usize,
    /// What is left of a longer one.
    rest: Bytes,
    /// What has ended it, and is not told yet.
    broken: Option<body::Broken>,
    ends: Ends,
}

/// How a client tells an answer's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// By its framing.
    Framed,
    /// It may be by the end of the connection (HTTP/1.0), which looks the same where the answer broke, unless
    /// that is reset (RFC 9112 8).
    WithConnection,
}

impl Ends {
    pub(crate) fn of(version: Version) -> Self {
        if version == Version::HTTP_10 { Self::WithConnection } else { Self::Framed }
    }
}

impl Answering {
    pub(crate) const fn new(
        body: body::Body,
        under_way: UnderWay,
        (piece_bytes, ends): (usize, Ends),
    ) -> Self {
        Self { body, under_way, piece_bytes, rest: Bytes::new(), broken: None, ends }
    }

    /// The next piece of what the body gave, or gives now. That it breaks is told a turn later: hyper drops what it
    /// has not flushed, and a client that has seen nothing of an answer would take it for none.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Broken>>> {
        let mut data = if self.rest.is_empty() {
            if let Some(broken) = self.broken.take() {
                return Poll::Ready(Some(Err(broken)));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(broken)) => {
                    self.broken = Some(broken);
                    if self.ends == Ends::WithConnection {
                        self.under_way.activity.broken.store(true, Ordering::Release);
                    }
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        } else {
            std::mem::take(&mut self.rest)
        };
        if data.len() > self.piece_bytes {
            self.rest = data.split_off(self.piece_bytes);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = body::Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Broken>>> {
        self.under_way.moves();
        let frame = self.poll_piece(context);
        if matches!(frame, Poll::Ready(Some(Ok(_)))) && !self.is_end_stream() {
            self.under_way.stands();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.broken.is_none() && self.body.is_end_stream()
    }

    /// Exact before the first piece, which is when it is asked for.
    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    /// A stream stands while a piece is with its client, so no piece may be longer than its patience.
    #[test]
    fn what_is_handed_over_is_never_longer_than_a_piece() {
        let activity = Arc::<Activity>::default();
        let content = Bytes::from(vec![b'x'; 25_000]);
        let mut answering =
            Answering::new(body::Body::Full(content), activity.begin(), (10_000, Ends::Framed));
        assert_eq!(answering.size_hint().exact(), Some(25_000));
        for (length, stands) in [(10_000, true), (10_000, true), (5_000, false)] {
            let frame = answering.frame().now_or_never().flatten().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap().len(), length);
            assert_eq!((activity.standing_since().is_some(), answering.is_end_stream()), (stands, !stands));
        }
        assert!(answering.frame().now_or_never().flatten().is_none());
    }
}
