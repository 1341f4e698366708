//! Hits on a connection, answered by the fast path between hyper's answers.

use super::{Phase, Transport};
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Room for a head and the content that is copied behind it.
const HEAD_BYTES: usize = 8 * 1024;

thread_local! {
    /// Where answers are written before they are sent: in one place for all connections, which stays near.
    static HEAD: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(HEAD_BYTES));
}

impl Transport {
    /// Answers the hits that have arrived, one after the other. Resolves when what comes next is not one, or has not
    /// arrived. What a client may be sent at once is bounded by its reading, and by the runtime's budget for a turn.
    pub(super) fn poll_hits(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_outgoing(context))?;
            if self.arrived.is_empty() || !self.is_between() {
                return Poll::Ready(Ok(()));
            }
            let answered = HEAD.with_borrow_mut(|head| {
                head.clear();
                self.answer_hit(context, head)
            });
            if answered? == Answered::LongWay {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Sends the rest of a hit. Meanwhile what comes is read ahead: what lay unread when the connection ends would have
    /// the system take back what its client has not read yet.
    pub(super) fn poll_outgoing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.is_none() {
            return Poll::Ready(Ok(()));
        }
        let rest = match self.poll_unfinished(context) {
            Poll::Ready(Ok(())) => self.poll_sent(context),
            other => other,
        };
        let Poll::Ready(sent) = rest else {
            self.read_ahead(context);
            return Poll::Pending;
        };
        self.unfinished = Bytes::new().chain(Bytes::new());
        self.outgoing = None;
        self.flushed = self.activity.begun();
        self.notice_answers();
        Poll::Ready(sent)
    }

    /// Reads up to a head's length of what has come. That nothing more comes is seen again afterwards.
    fn read_ahead(&mut self, context: &mut Context<'_>) {
        while (self.arrived.len() as u64) < self.limits.head_bytes {
            let Poll::Ready(Ok(1..)) = self.poll_arrivals(context) else { return };
        }
    }

    /// Whether hyper waits for the next message and has handed over all it had for those before.
    fn is_between(&self) -> bool {
        self.passed == 0
            && self.gate.as_ref().is_some_and(super::Gate::is_between)
            && matches!(self.phase, Phase::First | Phase::Head | Phase::Idle)
            && self.activity.is_idle()
            && self.flushed == self.activity.begun()
    }

    /// Answers what is at the front of what has arrived, if it is a hit. The last answer of a connection says so, which
    /// is hyper's affair.
    fn answer_hit(&mut self, context: &mut Context<'_>, head: &mut Vec<u8>) -> io::Result<Answered> {
        let fast_path = self.fast_path.as_mut().filter(|_| !self.activity.is_last());
        let hit = fast_path.and_then(|fast_path| fast_path.answer(&self.arrived, &self.limits, head));
        let Some(hit) = hit else { return Ok(Answered::LongWay) };
        self.arrived.advance(hit.request_bytes);
        self.phase = Phase::Idle;
        self.deadline.move_to(hit.since + self.limits.idle_timeout);
        if !self.arrived.is_empty() {
            self.head_begins();
        }
        self.send(context, head, hit.content)?;
        Ok(Answered::Here)
    }

    /// Sends what the client takes, and keeps the rest.
    fn send(&mut self, context: &mut Context<'_>, head: &[u8], mut body: Bytes) -> io::Result<()> {
        let stream = Pin::new(&mut self.stream);
        let written = if body.is_empty() {
            stream.poll_write(context, head)
        } else {
            stream.poll_write_vectored(context, &[IoSlice::new(head), IoSlice::new(&body)])
        };
        let written = match self.paced(context, written) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        let left = head.get(written..).unwrap_or_default();
        body.advance(written.saturating_sub(head.len()).min(body.len()));
        if !left.is_empty() || !body.is_empty() {
            self.unfinished = Bytes::copy_from_slice(left).chain(body);
            self.outgoing = Some(self.activity.begin());
        } else if self.stream.holds_back() && self.poll_sent(context)?.is_pending() {
            self.outgoing = Some(self.activity.begin());
        }
        Ok(())
    }
}

/// By whom a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Here,
    LongWay,
}
