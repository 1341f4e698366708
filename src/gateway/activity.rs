//! The requests under way on one connection.

use super::body;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

/// The requests under way on a connection; shared by its transport and its requests.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    under_way: AtomicUsize,
    begun: AtomicU64,
    /// The transport, while it waits for an answer to end.
    waiting: AtomicWaker,
}

impl Activity {
    /// A request begins; it ends when the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// How many requests have begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Wakes the transport when the next request ends: hyper does not look at it by itself then.
    pub(crate) fn wake_when_answered(&self, waker: &Waker) {
        self.waiting.register(waker);
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Release);
        self.0.waiting.wake();
    }
}

/// An answer's body, during which its request is under way.
#[derive(Debug)]
pub(crate) struct Answering {
    body: body::Body,
    _under_way: UnderWay,
}

impl Answering {
    pub(crate) const fn new(body: body::Body, under_way: UnderWay) -> Self {
        Self { body, _under_way: under_way }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = body::Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Broken>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
