//! Connections to a source, each of which knows whether it was used before, and whether anything was
//! heard on it since something was last said.

use super::framing::{Finding, Framing};
use crate::tls::ClientTls;
use futures_util::future::Either;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::ServiceExt;

/// Why no connection came to stand.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Inner = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// What a connection has carried.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses(Arc<Carried>);

#[derive(Debug, Default)]
struct Carried {
    answered: AtomicBool,
    heard: AtomicBool,
    foul: AtomicBool,
    condemned: AtomicBool,
    /// A request is to be sent, of which nothing was said yet.
    asks: AtomicBool,
    /// Content was sent behind the end of its answer.
    late: AtomicBool,
    /// What comes is not looked at any more.
    blind: AtomicBool,
    /// It is about to be used: what has come of which the runtime does not know yet counts too.
    looks: AtomicBool,
}

impl Uses {
    /// The head of an answer came.
    pub(super) fn count(&self) {
        self.0.answered.store(true, Ordering::Relaxed);
    }

    /// Whether it has already carried an answer.
    pub(super) fn any(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed)
    }

    /// The next bytes that are sent begin a request.
    pub(super) fn ask(&self) {
        self.0.asks.store(true, Ordering::Relaxed);
    }

    /// From here on the system is asked for bytes, too, whenever the runtime knows of none.
    pub(super) fn look(&self) {
        self.0.looks.store(true, Ordering::Relaxed);
    }

    /// The end of [`Uses::look`].
    pub(super) fn looked(&self) {
        self.0.looks.store(false, Ordering::Relaxed);
    }

    /// Its framing is not seen any more.
    fn blind(&self) {
        self.0.blind.store(true, Ordering::Relaxed);
    }

    /// Whether it may carry another request: no content was sent behind the end of its answer, which a source may take
    /// for the next request, and what comes is looked at.
    pub(super) fn may_go_on(&self) -> bool {
        !self.0.late.load(Ordering::Relaxed) && !self.0.blind.load(Ordering::Relaxed)
    }

    /// Bytes are sent where no answer is awaited: whether they begin a request.
    fn begins(&self) -> bool {
        let begins = self.0.asks.swap(false, Ordering::Relaxed);
        self.0.late.fetch_or(!begins, Ordering::Relaxed);
        begins
    }

    /// Whether any byte came since the last one was sent.
    pub(super) fn heard(&self) -> bool {
        self.0.heard.load(Ordering::Relaxed)
    }

    /// Whether what has come is framed wrongly, or more than the answer has.
    pub(super) fn is_foul(&self) -> bool {
        self.0.foul.load(Ordering::Relaxed)
    }

    /// Bytes came, of which that was found.
    fn hears(&self, finding: Finding) {
        self.0.heard.store(true, Ordering::Relaxed);
        match finding {
            Finding::Sound => {}
            Finding::Foul => self.0.foul.store(true, Ordering::Relaxed),
            Finding::Beyond => self.condemn(),
        }
    }

    /// Nothing more is read from it or sent on it: what came last cannot be trusted.
    pub(super) fn condemn(&self) {
        self.0.condemned.store(true, Ordering::Relaxed);
    }

    fn is_condemned(&self) -> bool {
        self.0.condemned.load(Ordering::Relaxed)
    }

    /// Something is said: what was heard before belongs to an earlier answer, also where saying it fails.
    fn says(&self) -> io::Result<()> {
        self.0.heard.store(false, Ordering::Relaxed);
        if self.is_condemned() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

/// Connects by TCP, and by TLS where the URL says https.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    way: Way,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Way {
    /// No URL says https.
    Plain(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
}

impl Connector {
    pub(super) fn new(connect_timeout: Duration, tls: &ClientTls) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let way = match tls.config() {
            // It refuses what does not say http.
            None => Way::Plain(tcp),
            Some(config) => {
                tcp.enforce_http(false);
                let tls = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
                Way::Tls(tls.enable_http1().wrap_connector(tcp))
            }
        };
        Self { way, timeout: connect_timeout }
    }

    /// Connects to the host of a URI.
    ///
    /// # Errors
    /// The connectors' own, and a timeout.
    pub(super) async fn connect(&self, uri: http::Uri) -> Result<CountedStream, BoxError> {
        let connecting = match &self.way {
            Way::Plain(tcp) => {
                let connecting = tcp.clone().oneshot(uri);
                Either::Left(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
            Way::Tls(tls) => Either::Right(tls.clone().oneshot(uri)),
        };
        // The connector's own bound is for TCP alone: names and TLS may stand still as well.
        let connected: Result<_, BoxError> = tokio::time::timeout(self.timeout, Box::pin(connecting))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        Ok(CountedStream::new(TokioIo::new(connected?)))
    }
}

/// Whether the system has bytes of a connection, or its end.
fn has_come(stream: &Inner) -> bool {
    let tcp = match stream.inner() {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    };
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    !matches!(rustix::net::recv(tcp, &mut [0_u8; 1][..], flags), Err(Errno::AGAIN | Errno::INTR))
}

/// A connection that notes what it carries.
#[derive(Debug)]
pub(super) struct CountedStream {
    stream: Inner,
    uses: Uses,
    framing: Framing,
}

impl CountedStream {
    fn new(stream: Inner) -> Self {
        Self { stream, uses: Uses::default(), framing: Framing::new() }
    }

    /// What it carries.
    pub(super) fn uses(&self) -> Uses {
        self.uses.clone()
    }

    /// These bytes are sent, and may be others behind them.
    fn says(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.uses.says()?;
        if !bytes.is_empty() && self.framing.is_over() && self.uses.begins() {
            self.framing.asks(bytes);
            if self.framing.is_blind() {
                self.uses.blind();
            }
        }
        Ok(())
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.uses.is_condemned() {
            // As if the source had closed it.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_pending() && self.uses.0.looks.load(Ordering::Relaxed) && has_come(&self.stream) {
            self.uses.condemn();
            return Poll::Ready(Ok(()));
        }
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() {
            let finding = self.framing.hears(bytes);
            self.uses.hears(finding);
            if self.framing.is_blind() {
                self.uses.blind();
            }
        }
        outcome
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.says(bytes)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.says(buffers.iter().find(|buffer| !buffer.is_empty()).map_or(&[], |first| first))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
