//! The accept loop: which protocol is spoken, how many connections there may be, and how they end.

use super::activity::{Activity, Answering};
use super::body::Body;
use super::cache_status::CacheStatus;
use super::connection::{Protocol, Transport, raw_answer};
use super::pipeline;
use super::problem::GatewayError;
use super::request::Peer;
use super::strict::Refusal;
use super::tunnel::{Follows, Opened};
use super::{Gateway, Limits};
use bytes::BytesMut;
use http::header::CONNECTION;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of the first read, before it is known which protocol is spoken.
const FIRST_READ_BYTES: usize = 4096;

/// How long an idle connection is kept after a signal to stop, for a request that is on its way.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How long the accept loop rests when the system has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// HTTP/2: requests at once on one connection.
const STREAMS_MAX: u32 = 100;

/// HTTP/2: how often a silent client is asked whether it is there, and how long it may take.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// HTTP/2: bytes buffered for one slow reader.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// What hyper may buffer of content at least.
const BUFFER_BYTES_MIN: usize = 64 * 1024;

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
    gateway: Arc<Gateway>,
    listener: TcpListener,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    stops: Stops,
) {
    let Ok(local) = listener.local_addr() else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stops.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let peer = Peer { address, local };
                    let (gateway, stops) = (Arc::clone(&gateway), stops.clone());
                    connections.spawn(async move {
                        let _open = gateway.open_connections.enter();
                        let ended = tokio::select! {
                            ended = connection(gateway.clone(), stream, peer, stops.stop) => ended,
                            () = stops.cut.cancelled() => Err("cut".into()),
                        };
                        if let Err(error) = ended {
                            tracing::debug!(target: "tidegate::connection", %address, %error, "ended");
                        }
                        drop(place);
                    });
                }
                Err(_full) => refuse(&stream, address),
            },
            Err(error) => {
                tracing::warn!(target: "tidegate::connection", %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn refuse(stream: &TcpStream, address: SocketAddr) {
    // Best effort: a client that does not get it sees the close.
    let sent = stream.try_write(&raw_answer(Refusal::Connections)).is_ok();
    tracing::debug!(target: "tidegate::connection", %address, sent, "refused: server.limits.connections");
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    gateway: Arc<Gateway>,
    mut stream: TcpStream,
    peer: Peer,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let accepted_at = Instant::now();
    stream.set_nodelay(true)?;
    let limits = gateway.settings.limits;
    let sniffed = tokio::select! {
        sniffed = sniff(&mut stream, &limits, accepted_at) => sniffed?,
        () = async { stop.cancelled().await; tokio::time::sleep(LAST_REQUEST).await } => return Ok(()),
    };
    let Some((protocol, read_ahead)) = sniffed else { return Ok(()) };
    let transport = Transport::new(stream, read_ahead, protocol, limits, accepted_at);
    let (activity, interims) = (transport.activity(), transport.interims());
    let follows = Follows::default();
    let service = service_fn({
        let (activity, stopping, follows) = (Arc::clone(&activity), stop.clone(), follows.clone());
        move |mut request: http::Request<Incoming>| {
            let under_way = activity.begin();
            let client = hyper::upgrade::on(&mut request);
            let interim = (protocol == Protocol::Http1).then(|| interims.begin(activity.begun()));
            let answer = pipeline::answer(Arc::clone(&gateway), peer, request, interim.clone());
            let (activity, stopping, follows) = (Arc::clone(&activity), stopping.clone(), follows.clone());
            async move {
                let mut answer = answer.await;
                if let Some(interim) = interim {
                    interim.finish().await;
                }
                if protocol == Protocol::Http1 && stopping.is_cancelled() {
                    answer = last(answer);
                }
                leave_tunnel(&mut answer, client, &activity, &follows);
                Ok::<_, Infallible>(answer.map(|body| Answering::new(body, under_way)))
            }
        }
    });
    let io = TokioIo::new(transport);
    let ending = async {
        stop.cancelled().await;
        if activity.is_idle() {
            tokio::time::sleep(LAST_REQUEST).await;
        }
    };
    match protocol {
        Protocol::Http1 => {
            let mut serving = pin!(http1(&limits).serve_connection(io, service).with_upgrades());
            tokio::select! {
                ended = serving.as_mut() => ended?,
                () = ending => {
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
                ended = serving.as_mut() => return Ok(ended?),
                () = ending => {}
                () = activity.expired() => {}
            }
            // The client is told by GOAWAY.
            serving.as_mut().graceful_shutdown();
            Ok(serving.await?)
        }
    }
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

/// Reads just enough to know which protocol is spoken; `None` where nothing came in time.
async fn sniff(
    stream: &mut TcpStream,
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
