//! A client's connection with its timers: nobody holds one without using it.
//!
//! ```text
//! FIRST --bytes--> HEAD --a request is under way--> BUSY --answered--> IDLE --bytes--> HEAD
//!   | header_timeout | header_timeout: 408, close     | body_rate        | idle_timeout
//!   v                v                                v                  v
//! close            close                            cut                close
//! ```

use super::pace::{Pace, TooSlow};
use super::{Limits, body};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Sent where a head does not arrive in time.
pub(crate) const TIMEOUT_ANSWER: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\n\
Content-Length: 95\r\nConnection: close\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Request Timeout\",\"status\":408,\"detail\":\"the head came too slow\"}";

/// The requests under way on a connection; shared by its transport and its requests.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    under_way: AtomicUsize,
    begun: AtomicU64,
}

impl Activity {
    /// A request begins; it ends when the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
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

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    First,
    Head,
    Idle,
}

/// A client's transport.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: TcpStream,
    /// Read already, to see which protocol is spoken.
    read_ahead: Bytes,
    protocol: Protocol,
    limits: Limits,
    activity: Arc<Activity>,
    seen: u64,
    phase: Phase,
    deadline: Pin<Box<Sleep>>,
    write_pace: Pace,
}

impl Transport {
    /// Wraps a connection on which `read_ahead` has been read since `accepted_at`.
    pub(crate) fn new(
        stream: TcpStream,
        read_ahead: Bytes,
        protocol: Protocol,
        limits: Limits,
        accepted_at: Instant,
    ) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(accepted_at + limits.header_timeout));
        Self {
            stream,
            read_ahead,
            protocol,
            activity: Arc::default(),
            seen: 0,
            phase: Phase::First,
            deadline,
            write_pace: Pace::new(limits.body_rate_bytes),
            limits,
        }
    }

    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    fn received(&mut self) {
        if !self.activity.is_idle() || self.protocol == Protocol::Http2 {
            return;
        }
        self.notice_answers();
        if self.phase == Phase::Idle {
            self.deadline.as_mut().reset(Instant::now() + self.limits.header_timeout);
        }
        self.phase = Phase::Head;
    }

    /// A request was answered since the last look: the connection is idle from now on.
    fn notice_answers(&mut self) {
        let begun = self.activity.begun.load(Ordering::Relaxed);
        if begun != self.seen {
            self.seen = begun;
            self.phase = Phase::Idle;
            self.deadline.as_mut().reset(Instant::now() + self.limits.idle_timeout);
        }
    }

    fn poll_timers(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.activity.is_idle() {
            return Poll::Pending;
        }
        self.notice_answers();
        if self.deadline.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        match (self.phase, self.protocol) {
            (Phase::Head, Protocol::Http1) => {
                // Best effort: whoever does not read gets the close alone.
                let _sent = self.stream.try_write(TIMEOUT_ANSWER).is_ok();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            // The end of the stream: hyper closes an idle connection in order.
            (Phase::First | Phase::Idle | Phase::Head, _) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read_ahead.has_remaining() {
            let length = this.read_ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.read_ahead.split_to(length));
            this.received();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(outcome) => {
                if buffer.filled().len() > before {
                    this.received();
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => this.poll_timers(context),
        }
    }
}

impl Transport {
    /// Lets a write through, or cuts a reader that is under its least rate.
    fn paced(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let cut = match &written {
            Poll::Ready(Ok(length)) => match self.write_pace.moved(*length as u64) {
                Ok(()) => return written,
                Err(cut) => cut,
            },
            Poll::Ready(Err(_)) => return written,
            Poll::Pending => match self.write_pace.poll_waiting(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(cut) => cut,
            },
        };
        let TooSlow = cut;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.paced(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.paced(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_408_says_its_true_length() {
        let text = std::str::from_utf8(TIMEOUT_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
