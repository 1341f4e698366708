//! The accept loop: which protocol is spoken, how many connections there may be, and how they end.

use super::access_log::Refusals;
use super::activity::{Activity, Answering, Ends};
use super::body::Body;
use super::cache_status::CacheStatus;
use super::connection::{Protocol, Transport};
use super::fast_path::{Block, FastPath};
use super::gate::PREFACE;
use super::pace::Piece;
use super::pipeline;
use super::problem::GatewayError;
use super::raw_answer::raw_answer;
use super::request::Peer;
use super::strict::Refusal;
use super::tunnel::{Follows, Opened};
use super::wire::Wire;
use super::{Gateway, InForce, Limits};
use crate::telemetry::metrics as names;
use crate::tls::{self, Acceptor, Handshake};
use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use http::header::CONNECTION;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bytes of the first read, before it is known which protocol is spoken.
const FIRST_READ_BYTES: usize = 4096;

/// How long an idle connection is kept after a signal to stop, for a request that is on its way.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How long the accept loop rests when the system has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How often it is told that no connection can be accepted.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The word for a handshake that has succeeded, in the metric.
const HANDSHAKE_DONE: &str = "done";

/// The word for one that took longer than `header_timeout`.
const HANDSHAKE_TOO_SLOW: &str = "timeout";

/// HTTP/2: requests at once on one connection.
const STREAMS_MAX: u32 = 100;

/// HTTP/2: how often a silent client is asked whether it is there, and how long it may take.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// HTTP/2: bytes buffered for one slow reader.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// What hyper may buffer at least: of a held body two chunks, so that 100 KiB and their head are one write.
const BUFFER_BYTES_MIN: usize = 128 * 1024;

/// HTTP/2: bytes beyond `limits.head` that hyper may take, so that the strict gate can answer.
const HEAD_SLACK_BYTES: u16 = u16::MAX;

/// The two words that end connections.
#[derive(Clone, Debug)]
pub(crate) struct Stops {
    /// No more connections, and no more requests than those under way.
    pub stop: CancellationToken,
    /// At once, whatever is under way.
    pub cut: CancellationToken,
}

/// Accepts until told to stop; connections live on in `connections`.
pub(crate) async fn serve(
    in_force: Arc<InForce>,
    listener: TcpListener,
    connections: TaskTracker,
    stops: Stops,
) {
    let Ok(local) = listener.local_addr() else { return };
    let mut told_at: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stops.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => match in_force.gateway().enter(&stream, address.ip()) {
                Ok(place) => {
                    let peer = Peer { address, local, tls: None };
                    let (in_force, stops) = (Arc::clone(&in_force), stops.clone());
                    connections.spawn(async move {
                        let ended = tokio::select! {
                            biased;
                            ended = connection(in_force, stream, peer, stops.stop) => ended,
                            _ = apart(stops.cut.cancelled()) => Err("cut".into()),
                        };
                        if let Err(error) = ended {
                            tracing::debug!(target: "tidegate::connection", %address, %error, "ended");
                        }
                        drop(place);
                    });
                }
                Err(refusal) => refuse(&in_force.gateway(), &stream, address, refusal),
            },
            Err(error) => {
                if told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told_at = Some(Instant::now());
                    tracing::warn!(target: "tidegate::connection", %error, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn refuse(gateway: &Gateway, stream: &TcpStream, address: SocketAddr, refusal: Refusal) {
    let reason = refusal.as_str();
    metrics::counter!(names::REFUSED, "reason" => reason).increment(1);
    // Best effort: a client that does not get it sees the close, as do those who speak TLS.
    let sent = gateway.tls.is_none() && stream.try_write(&raw_answer(refusal)).is_ok();
    tracing::debug!(target: "tidegate::connection", %address, sent, reason, "a connection is refused");
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    in_force: Arc<InForce>,
    stream: TcpStream,
    mut peer: Peer,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let accepted_at = Instant::now();
    stream.set_nodelay(true)?;
    // A connection keeps the bounds that it began with, and the certificate that it was shown.
    let (limits, tls) = in_force.gateway().begun_with();
    let begun = tokio::select! {
        begun = Box::pin(begin(tls.as_deref(), stream, &mut peer, &limits, accepted_at)) => begun?,
        () = async { stop.cancelled().await; tokio::time::sleep(LAST_REQUEST).await } => return Ok(()),
    };
    let Some((stream, protocol, read_ahead)) = begun else { return Ok(()) };
    let mut transport = Transport::new(stream, read_ahead, protocol, limits, accepted_at);
    transport.refusals = Some(Refusals::of(Arc::clone(&in_force), peer.address.ip()));
    let hits = fast_path(protocol, &mut transport, &in_force, &peer);
    let (activity, interims) = (transport.activity(), transport.interims());
    let pieces = if protocol == Protocol::Http2 { Piece::of(limits.body_rate_bytes) } else { None };
    let piece_bytes = pieces.map_or(usize::MAX, |piece| piece.bytes);
    let follows = Follows::default();
    let service = service_fn({
        let (activity, follows) = (Arc::clone(&activity), follows.clone());
        move |mut request: http::Request<Incoming>| {
            let under_way = activity.begin();
            if let Some(hit) = hits.as_ref().and_then(|hits| locked(hits).answer(&request)) {
                let hit = hit.map(|body| Answering::new(body, under_way, (piece_bytes, Ends::Framed)));
                return Either::Left(ready(Ok::<_, Infallible>(hit)));
            }
            let (ends, client) = (Ends::of(request.version()), hyper::upgrade::on(&mut request));
            let interim = (protocol == Protocol::Http1).then(|| interims.begin(activity.begun()));
            let (gateway, peer) = (in_force.gateway(), peer.clone());
            let (activity, follows) = (Arc::clone(&activity), follows.clone());
            Either::Right(async move {
                // Made here: a future that is moved in would be held twice, and copied with each request.
                let mut answer = pipeline::answer(&gateway, &peer, request, interim.clone()).await;
                if let Some(interim) = interim {
                    interim.finish().await;
                }
                if protocol == Protocol::Http1 && activity.is_last() {
                    answer = last(answer);
                }
                leave_tunnel(&mut answer, client, &activity, &follows);
                Ok(answer.map(|body| Answering::new(body, under_way, (piece_bytes, ends))))
            })
        }
    });
    let io = TokioIo::new(transport);
    let ending = apart(ending(&stop, &activity));
    match protocol {
        Protocol::Http1 => {
            let mut serving = pin!(http1(&limits).serve_connection(io, service).with_upgrades());
            tokio::select! {
                biased;
                ended = serving.as_mut() => ended?,
                _ = ending => {
                    serving.as_mut().graceful_shutdown();
                    serving.await?;
                }
            }
            follows.relay().await;
            Ok(())
        }
        Protocol::Http2 => {
            let mut serving = pin!(http2(&limits).serve_connection(io, service));
            tokio::select! {
                biased;
                ended = serving.as_mut() => return Ok(ended?),
                _ = ending => {}
                _ = apart(activity.expired()) => {}
            }
            // The client is told by GOAWAY.
            serving.as_mut().graceful_shutdown();
            Ok(serving.await?)
        }
    }
}

impl Gateway {
    /// What a connection that begins now keeps to its end.
    fn begun_with(&self) -> (Limits, Option<Arc<Acceptor>>) {
        (self.settings.limits, self.tls.clone())
    }
}

/// Gives a connection its fast path: of HTTP/1 the transport answers hits, of HTTP/2 the service does.
fn fast_path(
    protocol: Protocol,
    transport: &mut Transport,
    in_force: &Arc<InForce>,
    peer: &Peer,
) -> Option<Mutex<FastPath<Block>>> {
    let (in_force, peer) = (Arc::clone(in_force), peer.clone());
    match protocol {
        Protocol::Http1 => {
            transport.fast_path = Some(FastPath::new(in_force, peer));
            None
        }
        Protocol::Http2 => Some(Mutex::new(FastPath::new(in_force, peer))),
    }
}

/// Nobody else takes it at the time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves when the connection is to take no more requests; an idle one waits for one that is on its way.
async fn ending(stop: &CancellationToken, activity: &Activity) {
    stop.cancelled().await;
    activity.end();
    if activity.is_idle() {
        tokio::time::sleep(LAST_REQUEST).await;
    }
}

/// Polls a future only when it was woken itself. What all connections wait for has locks that all share: they
/// are not taken each time that something moves on one connection.
async fn apart<F: Future>(future: F) -> Option<F::Output> {
    FuturesUnordered::from_iter([future]).next().await
}

/// The last answer of a connection; a tunnel would not last.
fn last(mut answer: Response<Body>) -> Response<Body> {
    if Opened::of(&mut answer).is_some() {
        answer = GatewayError::Stopping.into_response();
        CacheStatus::Own.append_to(answer.headers_mut());
    }
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Leaves the tunnel that an answer opens to its connection. Its request stays under way: until the answer
/// is written, nothing behind it passes the gate.
fn leave_tunnel(answer: &mut Response<Body>, client: OnUpgrade, activity: &Arc<Activity>, follows: &Follows) {
    if let Some(source) = Opened::of(answer) {
        follows.set(client, source, activity.begin());
    }
}

fn http1(limits: &Limits) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    let head_bytes = usize::try_from(limits.head_bytes).unwrap_or(usize::MAX);
    builder
        .timer(TokioTimer::new())
        // The transport's own timers know an idle connection from a slow head, and answer 408.
        .header_read_timeout(None)
        // The gate has counted what hyper sees.
        .max_headers(limits.fields)
        .max_buf_size(head_bytes.max(BUFFER_BYTES_MIN));
    builder
}

fn http2(limits: &Limits) -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let head_bytes = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(head_bytes.saturating_add(HEAD_SLACK_BYTES.into()))
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}

/// Makes the handshake where TLS is spoken, and finds out which protocol is; `None` where nothing came in
/// time, or nothing that can be answered.
async fn begin(
    tls: Option<&Acceptor>,
    stream: TcpStream,
    peer: &mut Peer,
    limits: &Limits,
    accepted_at: Instant,
) -> io::Result<Option<(Wire, Protocol, BytesMut)>> {
    let (mut wire, agreed) = if let Some(tls) = tls {
        let handshake = tokio::time::timeout_at(accepted_at + limits.header_timeout, tls.accept(stream));
        let (result, made) = match handshake.await {
            Ok(Ok(made)) => (HANDSHAKE_DONE, Some(made)),
            Ok(Err(refused)) => (refused.as_str(), None),
            Err(_) => (HANDSHAKE_TOO_SLOW, None),
        };
        metrics::counter!(names::TLS_HANDSHAKES, "result" => result).increment(1);
        let Some(Handshake { stream, agreed, session }) = made else {
            tracing::debug!(target: "tidegate::connection", address = %peer.address, result, "no handshake");
            return Ok(None);
        };
        peer.tls = Some(Arc::new(session));
        (Wire::Tls(Box::new(stream)), agreed)
    } else {
        (Wire::Plain(stream), None)
    };
    let Some((sniffed, read_ahead)) = sniff(&mut wire, limits, accepted_at).await? else { return Ok(None) };
    // What was agreed on is spoken; other bytes are faults of that protocol.
    let protocol = match agreed {
        Some(tls::Protocol::Http1) => Protocol::Http1,
        Some(tls::Protocol::Http2) => Protocol::Http2,
        None => sniffed,
    };
    Ok(Some((wire, protocol, read_ahead)))
}

/// Reads just enough to know which protocol is spoken; `None` where nothing came in time.
async fn sniff(
    stream: &mut (impl AsyncRead + Unpin),
    limits: &Limits,
    accepted_at: Instant,
) -> io::Result<Option<(Protocol, BytesMut)>> {
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    while PREFACE.starts_with(&read) && read.len() < PREFACE.len() {
        let more = tokio::time::timeout_at(accepted_at + limits.header_timeout, stream.read_buf(&mut read));
        match more.await {
            Ok(Ok(0)) => return Ok(None),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) if read.is_empty() => return Ok(None),
            // The transport, whose time is over too, tells the client.
            Err(_) => break,
        }
    }
    let protocol = if read.starts_with(PREFACE) { Protocol::Http2 } else { Protocol::Http1 };
    Ok(Some((protocol, read)))
}
