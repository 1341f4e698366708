//! Tunnels: after a 101, bytes of another protocol in both directions.
//!
//! ```text
//! 101 from the source -> Opened, with the answer -> 101 written -> the transport is taken apart -> bytes
//! ```
//!
//! Until the 101 is written, the request counts as under way, and so the gate lets nothing behind it
//! pass. From then on there is no gate: what had come behind the head are the first bytes.

use super::activity::UnderWay;
use super::connection::Transport;
use super::request::RequestId;
use super::route::Route;
use super::wire::Wire;
use crate::source;
use bytes::Bytes;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes held for each direction of a tunnel: a reader that takes nothing holds up its sender.
const BUFFER_BYTES: usize = 16 * 1024;

/// How long a tunnel may stand still, unless the source's `body_idle` is longer.
const IDLE: Duration = Duration::from_hours(1);

/// How a tunnel ended; the label of its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides have said that they have no more.
    Closed,
    /// One of them broke off.
    Broken,
    /// Nothing moved for too long.
    Idle,
    /// Tidegate stops, or the client left before it had the 101.
    Cut,
}

impl End {
    /// Every end, in the order of the enum.
    pub(crate) const ALL: [Self; 4] = [Self::Closed, Self::Broken, Self::Idle, Self::Cut];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Cut => "cut",
        }
    }
}

/// The source's side of a tunnel, which is counted as open until it is dropped.
pub(crate) struct SourceSide {
    tunnel: source::Tunnel,
    open: Open,
}

impl SourceSide {
    pub(crate) fn new(tunnel: source::Tunnel, route: Arc<Route>, id: RequestId) -> Self {
        Self { tunnel, open: Open::new(route, id) }
    }

    async fn relay(mut self, client: Wire, first: Bytes) {
        let idle = Idle { whole: IDLE.max(self.tunnel.body_idle), half: self.tunnel.body_idle };
        self.open.end = relay((client, first), &mut self.tunnel.io, idle, &self.open.moved).await;
    }
}

/// What an answer of 101 carries to its connection.
#[derive(Clone)]
pub(crate) struct Opened(Arc<Mutex<Option<SourceSide>>>);

impl Opened {
    pub(crate) fn new(side: SourceSide) -> Self {
        Self(Arc::new(Mutex::new(Some(side))))
    }

    /// Takes it off an answer.
    pub(crate) fn of<B>(answer: &mut Response<B>) -> Option<SourceSide> {
        let Self(side) = answer.extensions_mut().remove()?;
        side.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Where a connection's request leaves the tunnel that follows its answer.
#[derive(Clone, Default)]
pub(crate) struct Follows(Arc<Mutex<Option<Both>>>);

struct Both {
    client: OnUpgrade,
    source: SourceSide,
    /// As long as it stands, the gate lets nothing pass.
    _under_way: UnderWay,
}

impl Follows {
    /// A tunnel follows the answer.
    pub(crate) fn set(&self, client: OnUpgrade, source: SourceSide, under_way: UnderWay) {
        let both = Both { client, source, _under_way: under_way };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(both);
    }

    /// Once hyper is done with the connection: relays, where there is something to relay.
    pub(crate) async fn relay(self) {
        let both = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Both { client, source, _under_way }) = both else { return };
        // An error: the client was gone before it had the 101.
        let Ok(upgraded) = client.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Transport>>() else { return };
        match parts.io.into_inner().into_tunnel() {
            // hyper has nothing that the gate did not let pass.
            Some((client, first)) if parts.read_buf.is_empty() => source.relay(client, first).await,
            Some(_) | None => {}
        }
    }
}

/// An open tunnel: counted, and told of in the access log at its end.
struct Open {
    route: Arc<Route>,
    id: RequestId,
    moved: Arc<Moved>,
    end: End,
}

impl Open {
    fn new(route: Arc<Route>, id: RequestId) -> Self {
        route.metrics.tunnel_opens();
        Self { route, id, moved: Arc::new(Moved::new()), end: End::Cut }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.route.metrics.tunnel_ends(self.end);
        tracing::debug!(
            target: "tidegate::access",
            request_id = %self.id,
            route = &*self.route.name,
            ended = self.end.as_str(),
            bytes_received = self.moved.received.load(Ordering::Relaxed),
            bytes_sent = self.moved.sent.load(Ordering::Relaxed),
            seconds = self.moved.began.elapsed().as_secs_f64(),
            "tunnel"
        );
    }
}

impl fmt::Debug for SourceSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceSide")
    }
}

/// How long a tunnel may stand still.
#[derive(Clone, Copy, Debug)]
struct Idle {
    /// While both sides may send.
    whole: Duration,
    /// Once one of them has ended: the other has little left to say, or is gone.
    half: Duration,
}

/// What has moved in a tunnel, seen from the client's side.
#[derive(Debug)]
struct Moved {
    began: Instant,
    /// When something moved last, in milliseconds since it began.
    last_millis: AtomicU64,
    /// Bytes from the client.
    received: AtomicU64,
    /// Bytes to the client.
    sent: AtomicU64,
    /// Directions that have ended.
    ended: AtomicU64,
    /// Told when a direction ends.
    ends: Notify,
}

impl Moved {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last_millis: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            ends: Notify::new(),
        }
    }

    fn add(&self, bytes: &AtomicU64, count: usize) {
        bytes.fetch_add(count as u64, Ordering::Relaxed);
        self.touch();
    }

    fn touch(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_millis.store(millis, Ordering::Relaxed);
    }

    fn direction_ended(&self) {
        self.touch();
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.ends.notify_one();
    }

    /// Resolves when nothing has moved for too long.
    async fn stands(&self, idle: Idle) {
        loop {
            let last = self.began + Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
            let patience = if self.ended.load(Ordering::Relaxed) == 0 { idle.whole } else { idle.half };
            let deadline = last + patience;
            if deadline <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => {}
                () = self.ends.notified() => {}
            }
        }
    }
}

/// Passes bytes on in both directions, and the end of each, until both have ended.
async fn relay<C, S>((client, first): (C, Bytes), source: &mut S, idle: Idle, moved: &Arc<Moved>) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    moved.touch();
    let mut client = ClientSide { stream: client, first, moved: Arc::clone(moved) };
    let copying = copy_bidirectional_with_sizes(&mut client, source, BUFFER_BYTES, BUFFER_BYTES);
    tokio::select! {
        copied = copying => if copied.is_ok() { End::Closed } else { End::Broken },
        () = moved.stands(idle) => End::Idle,
    }
}

/// The client's side of a tunnel.
struct ClientSide<C> {
    stream: C,
    /// What had come before the tunnel stood; it is read first.
    first: Bytes,
    moved: Arc<Moved>,
}

impl<C: AsyncRead + Unpin> AsyncRead for ClientSide<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if !this.first.is_empty() {
            let count = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first.split_to(count));
            this.moved.add(&this.moved.received, count);
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = outcome {
            match buffer.filled().len() - before {
                0 => this.moved.direction_ended(),
                count => this.moved.add(&this.moved.received, count),
            }
        }
        outcome
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for ClientSide<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = outcome {
            self.moved.add(&self.moved.sent, count);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        if outcome.is_ready() {
            self.moved.direction_ended();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    const PATIENCE: Idle = Idle { whole: Duration::from_secs(100), half: Duration::from_secs(10) };

    struct Play {
        client: DuplexStream,
        source: DuplexStream,
        moved: Arc<Moved>,
        ended: JoinHandle<End>,
    }

    /// A tunnel whose ends take `bytes` before they are read.
    fn play(first: &'static [u8], bytes: usize) -> Play {
        let (client, client_end) = duplex(bytes);
        let (source, mut source_end) = duplex(bytes);
        let moved = Arc::new(Moved::new());
        let own = Arc::clone(&moved);
        let ended = tokio::spawn(async move {
            relay((client_end, Bytes::from_static(first)), &mut source_end, PATIENCE, &own).await
        });
        Play { client, source, moved, ended }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_and_ends_pass_in_both_directions() {
        let mut play = play(b"first ", 1024);
        play.client.write_all(b"second").await.unwrap();
        play.client.shutdown().await.unwrap();
        let mut heard = String::new();
        play.source.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "first second");
        play.source.write_all(b"answer").await.unwrap();
        play.source.shutdown().await.unwrap();
        heard.clear();
        play.client.read_to_string(&mut heard).await.unwrap();
        assert_eq!((heard.as_str(), play.ended.await.unwrap()), ("answer", End::Closed));
        let count = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        assert_eq!((count(&play.moved.received), count(&play.moved.sent)), (12, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn i10_a_tunnel_that_stands_still_ends() {
        let mut play = play(b"", 1024);
        let (began, pause) = (Instant::now(), Duration::from_secs(99));
        for _ in 0..5 {
            tokio::time::sleep(pause).await;
            play.source.write_all(b"x").await.unwrap();
        }
        assert_eq!(play.ended.await.unwrap(), End::Idle);
        assert_eq!(began.elapsed(), 5 * pause + PATIENCE.whole);
    }

    #[tokio::test(start_paused = true)]
    async fn i10_with_one_side_ended_the_other_may_stand_still_for_less() {
        let mut play = play(b"", 1024);
        play.source.shutdown().await.unwrap();
        let began = Instant::now();
        assert_eq!(play.ended.await.unwrap(), End::Idle);
        assert_eq!(began.elapsed(), PATIENCE.half);
    }

    #[tokio::test(start_paused = true)]
    async fn i10_a_reader_that_takes_nothing_holds_up_its_sender() {
        let mut play = play(b"", 1024);
        let mut taken = 0;
        let sending = async {
            loop {
                taken += play.client.write(&[b'x'; 512]).await.unwrap();
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(1), sending).await.is_err());
        assert!((1..=2 * 1024 + BUFFER_BYTES).contains(&taken), "{taken}");
    }

    #[test]
    fn ends_stand_in_the_order_of_the_enum() {
        for (index, end) in End::ALL.iter().enumerate() {
            assert_eq!(*end as usize, index);
        }
    }
}
