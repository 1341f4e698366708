//! What goes out to a client: hyper's answers, interim responses between them, and the answers of the fast path.

use super::{LINGER, Phase, Transport};
use crate::gateway::interim;
use crate::gateway::pace::{ReaderCut, TooSlow};
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

impl Transport {
    /// Lets a write, or a flush of 0 bytes, through, or cuts a reader that is under its least rate.
    pub(super) fn paced(
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
        ReaderCut::BodyRate.count();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// An answer broke whose client would take the connection's end for its end.
    fn see_broken(&self) {
        if self.activity.is_broken() {
            self.stream.reset_at_end();
        }
    }

    /// Writes what is left of what was written in part.
    pub(super) fn poll_unfinished(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unfinished.has_remaining() {
            let written = Pin::new(&mut self.stream).poll_write(context, self.unfinished.chunk());
            match ready!(self.paced(context, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.unfinished.advance(bytes),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Resolves when what was written is with the system: what TLS has taken and not yet sent is waited for here.
    pub(super) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context).map_ok(|()| 0);
        self.paced(context, flushed).map_ok(|_| ())
    }

    /// Writes the interim responses that wait. hyper flushes only when it has handed over all it has, so
    /// here a message has ended. A client that takes nothing at the moment is not sent them.
    fn poll_interims(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_unfinished(context))?;
            let Some(heads) = self.interims.take(context) else { return Poll::Ready(Ok(())) };
            match Pin::new(&mut self.stream).poll_write(context, &heads) {
                Poll::Ready(written) => self.unfinished = heads.slice(written?..).chain(Bytes::new()),
                Poll::Pending => interim::dropped(),
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.see_broken();
        ready!(self.poll_unfinished(context))?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.paced(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.see_broken();
        ready!(self.poll_unfinished(context))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.paced(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.see_broken();
        ready!(self.poll_interims(context))?;
        ready!(self.poll_sent(context))?;
        if self.activity.is_idle() {
            self.flushed = self.activity.begun();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A hit whose answer its client takes slowly is under way, though hyper knows nothing of it.
        ready!(self.poll_outgoing(context))?;
        if let shut @ Poll::Ready(_) = Pin::new(&mut self.stream).poll_shutdown(context) {
            return shut;
        }
        if self.phase != Phase::Closing {
            self.phase = Phase::Closing;
            self.deadline.move_by(LINGER);
        }
        self.deadline.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}
