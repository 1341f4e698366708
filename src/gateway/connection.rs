//! A client's connection with its timers: nobody holds one without using it.
//!
//! ```text
//! FIRST --bytes--> HEAD --a request is under way--> BUSY --answered--> IDLE --bytes--> HEAD
//!   | header_timeout | header_timeout: 408, close     | body_rate        | idle_timeout
//!   v                v                                v                  v
//! close            close                            cut                close
//! ```

mod hits;
mod outward;

use super::Limits;
use super::access_log::Refusals;
use super::activity::{Activity, UnderWay};
use super::fast_path::{FastPath, Lines};
use super::gate::{Gate, Passage};
use super::interim::Interims;
use super::pace::{Pace, Piece, ReaderCut};
use super::raw_answer::raw_answer;
use super::strict::Refusal;
use super::wire::Wire;
use crate::clock::Deadline;
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long a refused client may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a refused client that are read away meanwhile, so that its system does not drop the answer.
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

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
    /// HTTP/2: the client is told that the connection ends (RFC 9113 6.8), and has a moment to take note.
    Leaving,
    /// Refused: what still comes is read away, so many bytes of it so far.
    Lingering(usize),
    /// The client is told that nothing more comes, which over TLS takes its reading.
    Closing,
}

/// A head, and content that may stand behind it.
type Unfinished = bytes::buf::Chain<Bytes, Bytes>;

/// A client's transport.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: Wire,
    /// What has arrived and was not handed on.
    arrived: BytesMut,
    /// So many bytes of it have passed the gate.
    passed: usize,
    /// HTTP/1 only; HTTP/2 frames itself.
    gate: Option<Gate>,
    limits: Limits,
    activity: Arc<Activity>,
    pub(super) refusals: Option<Refusals>,
    interims: Arc<Interims>,
    /// What is left of what was written in part, an interim response or a hit: it goes before anything else.
    unfinished: Unfinished,
    /// The hit that is with the system in part only.
    outgoing: Option<UnderWay>,
    /// HTTP/1: answers hits before hyper hears of them.
    pub(super) fast_path: Option<FastPath<Lines>>,
    /// Of so many requests hyper has handed over the answers, to their ends.
    flushed: u64,
    seen: u64,
    phase: Phase,
    deadline: Deadline,
    write_pace: Pace,
    /// HTTP/2: what streams are given at once.
    piece: Option<Piece>,
}

impl Transport {
    /// Wraps a connection on which `arrived` has been read since `accepted_at`.
    pub(crate) fn new(
        stream: Wire,
        arrived: BytesMut,
        protocol: Protocol,
        limits: Limits,
        accepted_at: Instant,
    ) -> Self {
        let phase = if arrived.is_empty() { Phase::First } else { Phase::Head };
        Self {
            stream,
            arrived,
            passed: 0,
            gate: (protocol == Protocol::Http1).then(|| Gate::new(limits)),
            activity: Arc::default(),
            refusals: None,
            interims: Arc::default(),
            unfinished: Bytes::new().chain(Bytes::new()),
            outgoing: None,
            fast_path: None,
            flushed: 0,
            seen: 0,
            phase,
            deadline: Deadline::at(accepted_at + limits.header_timeout),
            write_pace: Pace::new(limits.body_rate_bytes),
            piece: Piece::of(limits.body_rate_bytes),
            limits,
        }
    }

    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    pub(crate) fn interims(&self) -> Arc<Interims> {
        Arc::clone(&self.interims)
    }

    /// The connection, and what has come on it behind the request whose answer switched to another protocol:
    /// from here on there is no gate. `None` where not all of that request and its answer has passed.
    pub(crate) fn into_tunnel(self) -> Option<(Wire, Bytes)> {
        let is_between = self.passed == 0 && !self.unfinished.has_remaining();
        is_between.then(|| (self.stream, self.arrived.freeze()))
    }

    /// Whether the message whose answer was given has not ended: what comes is its content, and no head.
    fn is_in_content(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::is_in_content)
    }

    /// Bytes have come on an idle connection: a head begins, or content goes on, which has its own least rate.
    fn head_begins(&mut self) {
        if self.is_in_content() {
            return self.deadline.move_by(self.limits.idle_timeout);
        }
        if self.phase == Phase::Idle && self.gate.is_some() {
            self.deadline.move_by(self.limits.header_timeout);
        }
        if self.phase != Phase::Idle || self.gate.is_some() {
            self.phase = Phase::Head;
        }
    }

    /// A request was answered since the last look: the connection is idle from now on, and the next
    /// message may pass.
    fn notice_answers(&mut self) {
        let begun = self.activity.begun();
        if begun == self.seen || !self.activity.is_idle() {
            return;
        }
        self.seen = begun;
        self.phase = Phase::Idle;
        self.deadline.move_by(self.limits.idle_timeout);
        if let Some(gate) = &mut self.gate {
            gate.answered();
        }
        if !self.arrived.is_empty() {
            self.head_begins();
        }
    }

    /// Resolves when the connection has to end: well, where it was idle.
    fn poll_timers(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.activity.is_idle() {
            // Over HTTP/1 a reader's pace is seen at the socket.
            return if self.gate.is_some() { Poll::Pending } else { self.poll_standing(context) };
        }
        ready!(self.deadline.poll(context));
        match self.phase {
            Phase::Head if self.gate.is_some() => self.refuse(Refusal::HeadTooSlow, context),
            Phase::First | Phase::Idle | Phase::Head if self.gate.is_none() => {
                self.phase = Phase::Leaving;
                self.activity.expire();
                self.deadline.move_by(LINGER);
                self.deadline.poll(context).map(Ok)
            }
            // The end of the stream: hyper closes an idle connection in order.
            Phase::First
            | Phase::Idle
            | Phase::Head
            | Phase::Leaving
            | Phase::Lingering(_)
            | Phase::Closing => Poll::Ready(Ok(())),
        }
    }

    /// Resolves when an HTTP/2 client has granted no window to an answer for as long as a reader may
    /// stand still.
    fn poll_standing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(piece) = self.piece else { return Poll::Pending };
        while let Some(since) = self.activity.standing_since() {
            self.deadline.move_to(since + piece.patience);
            ready!(self.deadline.poll(context));
            if self.activity.standing_since() == Some(since) {
                ReaderCut::BodyRate.count();
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Tells the client why, and reads away what it still sends.
    fn refuse(&mut self, refusal: Refusal, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        refusal.tell();
        if let Some(refusals) = &self.refusals {
            refusals.note(refusal);
        }
        // Best effort: whoever does not read gets the close alone.
        let told = Pin::new(&mut self.stream).poll_write(context, &raw_answer(refusal)).is_ready();
        self.arrived.clear();
        self.deadline.move_by(LINGER);
        self.phase = Phase::Lingering(0);
        if !told || Pin::new(&mut self.stream).poll_shutdown(context).is_pending() {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(context)
    }

    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Phase::Lingering(mut read_away) = self.phase else { return Poll::Ready(Ok(())) };
        while read_away < LINGER_BYTES_MAX {
            self.arrived.clear();
            match self.poll_arrivals(context) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(bytes)) => read_away += bytes,
                Poll::Pending => {
                    self.phase = Phase::Lingering(read_away);
                    return self.deadline.poll(context).map(Ok);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more from the client; how much came.
    fn poll_arrivals(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.arrived.reserve(READ_BYTES);
        tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), context, &mut self.arrived)
    }

    /// Moves what has passed the gate to hyper.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let bytes = self.passed.min(buffer.remaining());
        self.passed -= bytes;
        buffer.put_slice(self.arrived.get(..bytes).unwrap_or_default());
        self.arrived.advance(bytes);
    }

    fn poll_http1(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.passed > 0 {
                self.hand_on(buffer);
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_hits(context))?;
            let looked = self.gate.as_mut().map(|gate| gate.look(&self.arrived));
            match looked {
                Some(Ok(Passage::Bytes(bytes))) => self.passed = bytes,
                Some(Ok(Passage::Done)) if !self.arrived.is_empty() => {
                    // The next waits until whoever ends this one wakes us; a client that leaves is noticed meanwhile.
                    self.activity.wake_when_answered(context.waker());
                    if self.arrived.len() as u64 >= self.limits.head_bytes {
                        return self.poll_timers(context);
                    }
                    match self.poll_arrivals(context)? {
                        Poll::Ready(0) => return Poll::Ready(Ok(())),
                        Poll::Ready(_) => {}
                        Poll::Pending => return self.poll_timers(context),
                    }
                }
                Some(Ok(Passage::More | Passage::Done)) | None => {
                    let is_left =
                        self.phase == Phase::Idle && !self.arrived.is_empty() && !self.is_in_content();
                    if is_left && self.activity.is_idle() {
                        // Behind the end of such content.
                        self.head_begins();
                    }
                    self.activity.wake_when_answered(context.waker());
                    match self.poll_arrivals(context) {
                        Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                        Poll::Ready(Ok(_)) if self.activity.is_idle() => self.head_begins(),
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return self.poll_timers(context),
                    }
                }
                // Nothing of this message has passed: hyper never hears of it. Content behind its answer gets no other.
                Some(Err(refusal)) if self.activity.is_idle() && !self.is_in_content() => {
                    return self.refuse(refusal, context);
                }
                Some(Err(refusal)) => {
                    refusal.tell();
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
            }
        }
    }

    fn poll_http2(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.arrived.is_empty() {
            self.passed = self.arrived.len();
            self.hand_on(buffer);
            return Poll::Ready(Ok(()));
        }
        self.activity.wake_when_answered(context.waker());
        // First, since one who sends without end leaves no moment at which nothing has come.
        let ended = self.poll_timers(context);
        if ended.is_ready() { ended } else { Pin::new(&mut self.stream).poll_read(context, buffer) }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.notice_answers();
        match (this.phase, &this.gate) {
            (Phase::Lingering(_), _) => this.poll_linger(context),
            (_, Some(_)) => this.poll_http1(context, buffer),
            (_, None) => this.poll_http2(context, buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::body;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};

    const FILL: &str = "...................................................................................................\
                        ...................................................................................................";

    /// A connection whose client has small buffers, and the client's end of it.
    async fn narrow() -> (Transport, TcpStream) {
        let listening = TcpSocket::new_v4().unwrap();
        listening.set_recv_buffer_size(4096).unwrap();
        listening.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = listening.listen(1).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let limits = Limits {
            head_bytes: 1000,
            fields: 10,
            target_bytes: 100,
            body_bytes: None,
            connections: 1,
            connections_per_address: None,
            in_flight_bytes: 1 << 20,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            body_rate_bytes: 1,
        };
        let arrived = BytesMut::from(&b"GET"[..]);
        let transport = Transport::new(Wire::Plain(stream), arrived, Protocol::Http1, limits, Instant::now());
        (transport, listener.accept().await.unwrap().0)
    }

    /// While a request counts as under way, nothing behind it is read as HTTP, though its 101 is with the
    /// system in part only; then the bytes are the other protocol's.
    #[tokio::test]
    async fn rfc9110_7_8_what_is_behind_an_upgrade_never_passes_the_gate() {
        let (mut transport, mut client) = narrow().await;
        transport.arrived = BytesMut::from(
            &b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /early HTTP/1.1\r\n\r\n"[..],
        );
        let activity = transport.activity();
        let under_way = activity.begin();
        let (upgrades, mut upgrade) = tokio::sync::mpsc::channel(1);
        let service = hyper::service::service_fn(move |mut request| {
            // The answer's own part, which ends as soon as hyper has it.
            drop(activity.begin());
            upgrades.try_send(hyper::upgrade::on(&mut request)).unwrap();
            let mut answer = http::Response::new(body::Body::Empty);
            *answer.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            for _ in 0..100 {
                answer.headers_mut().append("fill", http::HeaderValue::from_static(FILL));
            }
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        });
        let io = hyper_util::rt::TokioIo::new(transport);
        let mut serving = Box::pin(
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades(),
        );
        for _ in 0..10 {
            assert!(serving.as_mut().now_or_never().is_none(), "the client takes nothing");
            tokio::task::yield_now().await;
        }
        let reading = tokio::spawn(async move {
            let mut all = String::new();
            client.read_to_string(&mut all).await.map(|_| all)
        });
        serving.await.unwrap();
        let parts = upgrade.recv().await.unwrap().await.unwrap();
        let parts = parts.downcast::<hyper_util::rt::TokioIo<Transport>>().unwrap();
        assert_eq!(parts.read_buf, "");
        let (stream, first) = parts.io.into_inner().into_tunnel().unwrap();
        assert_eq!(first, "GET /early HTTP/1.1\r\n\r\n");
        drop((stream, under_way));
        let all = reading.await.unwrap().unwrap();
        assert_eq!((all.matches("HTTP/1.1").count(), all.matches(FILL).count()), (1, 100));
        assert!(all.ends_with("\r\n\r\n"));
    }

    /// An HTTP/2 client that asks for nothing is told that the connection ends, and then it does, though the next
    /// bytes have always come already.
    #[tokio::test]
    async fn i10_one_who_sends_without_end_is_as_idle_as_one_who_sends_nothing() {
        let (mut transport, client) = narrow().await;
        (transport.gate, transport.arrived) = (None, BytesMut::new());
        client.try_write(&[0; 1024]).unwrap();
        let Wire::Plain(stream) = &transport.stream else { panic!("no TLS here") };
        stream.readable().await.unwrap();
        tokio::time::pause();
        let mut part = [0; 1];
        for (pause, read, is_told) in [(9, 1, false), (2, 1, true), (0, 1, false), (2, 0, false)] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            assert_eq!(transport.read(&mut part).await.unwrap(), read, "after {pause} s more");
            assert_eq!(
                transport.activity.expired().now_or_never().is_some(),
                is_told,
                "after {pause} s more"
            );
        }
    }

    /// Nothing that hyper writes comes into the middle of an interim response, however little the client takes.
    #[tokio::test]
    async fn rfc9110_15_2_what_was_written_in_part_is_finished_first_and_the_rest_is_dropped() {
        let (mut transport, mut client) = narrow().await;
        let interim = transport.interims().begin(1);
        let mut flushed = 0;
        for number in 0..100 {
            let mut fields = http::HeaderMap::new();
            fields.insert("number", number.into());
            fields.insert("fill", http::HeaderValue::from_str(&"x".repeat(20_000)).unwrap());
            interim.tell(http::StatusCode::EARLY_HINTS, &fields);
            flushed += usize::from(transport.flush().now_or_never().is_some());
        }
        assert!(flushed < 100, "the buffers are full at some time");
        let reading = tokio::spawn(async move {
            let mut all = String::new();
            client.read_to_string(&mut all).await.map(|_| all)
        });
        transport.flush().await.unwrap();
        interim.finish().await;
        transport.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        drop(transport);
        let all = reading.await.unwrap().unwrap();
        let mut heads: Vec<&str> = all.split("\r\n\r\n").collect();
        assert_eq!((heads.pop(), heads.pop()), (Some(""), Some("HTTP/1.1 200 OK")));
        assert!(!heads.is_empty());
        for head in heads {
            assert!(head.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{head:.40}");
            assert_eq!(head.matches('x').count(), 20_000);
        }
    }
}
