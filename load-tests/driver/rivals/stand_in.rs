//! What stands beside the real servers: this program again, as a child process in one of three parts.
//!
//! They show what the machine and hyper cost alone, so they do nothing that is not needed for an answer:
//! no `Age`, no validation, no expiry.

use super::origin;
use super::server::Place;
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use moka::sync::Cache;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The first argument that makes this program a stand-in.
pub(crate) const ARGUMENT: &str = "stand-in";
/// The most that is stored, in answers.
const STORED_MAX: u64 = 2_000_000;
/// The protocol of HTTP/2 in TLS.
const H2: &[u8] = b"h2";
/// What HTTP/2 without TLS begins with; no method of HTTP/1.1 does.
const H2_BEGINS: [u8; 3] = *b"PRI";

/// What it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Stores what the source answers.
    Bare,
    /// Asks the source each time.
    Forward,
    /// Writes a constant answer.
    Constant,
}

/// What it is told.
#[derive(Debug, Parser)]
struct Arguments {
    part: Part,
    listen: SocketAddr,
    tls: SocketAddr,
    source: SocketAddr,
    cert: PathBuf,
    key: PathBuf,
}

/// What runs one.
pub(crate) fn command(part: Part, place: &Place) -> anyhow::Result<Command> {
    let Place { setting, port, second_port, .. } = place;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).args(part.to_possible_value().map(|value| value.get_name().to_owned()));
    for port in [port, second_port] {
        command.arg(format!("127.0.0.1:{port}"));
    }
    command.arg(setting.source.to_string()).arg(&setting.cert).arg(&setting.key);
    // As many as all others have.
    command.env("TOKIO_WORKER_THREADS", "2");
    Ok(command)
}

/// Plays the part that the arguments behind the first tell, until it is killed.
pub(crate) async fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse_from(std::env::args_os().skip(1));
    anyhow::ensure!(arguments.listen.ip().is_loopback(), "{} is not on the loopback", arguments.listen);
    let listener = TcpListener::bind(arguments.listen).await?;
    if arguments.part == Part::Constant {
        return origin::serve(listener, now(), Arc::default()).await;
    }
    let served = Arc::new(Served {
        part: arguments.part,
        source: arguments.source,
        stored: Cache::new(STORED_MAX),
        client: Client::builder(TokioExecutor::new()).build_http(),
    });
    let acceptor = acceptor(&arguments.cert, &arguments.key)?;
    let tls = TcpListener::bind(arguments.tls).await?;
    tokio::spawn(listen_with_tls(tls, acceptor, served.clone()));
    loop {
        let stream = accepted(&listener).await?;
        let served = served.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, served.clone()));
            let mut first = [0; H2_BEGINS.len()];
            let is_h2 = stream.peek(&mut first).await.is_ok() && first == H2_BEGINS;
            let stream = TokioIo::new(stream);
            // A client that goes ends its own connection only.
            if is_h2 {
                let serving = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, answer);
                serving.await.unwrap_or_default();
            } else {
                http1::Builder::new().serve_connection(stream, answer).await.unwrap_or_default();
            }
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "read once, for the Date of constant answers")]
fn now() -> SystemTime {
    SystemTime::now()
}

async fn accepted(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn acceptor(cert: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let (cert, key) = (CertificateDer::from_pem_file(cert)?, PrivateKeyDer::from_pem_file(key)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)?;
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn listen_with_tls(listener: TcpListener, tls: TlsAcceptor, served: Arc<Served>) -> anyhow::Result<()> {
    loop {
        let stream = accepted(&listener).await?;
        let (tls, served) = (tls.clone(), served.clone());
        tokio::spawn(async move {
            let stream = tls.accept(stream).await?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
            let (stream, answer) =
                (TokioIo::new(stream), service_fn(move |request| answer(request, served.clone())));
            if is_h2 {
                http2::Builder::new(TokioExecutor::new()).serve_connection(stream, answer).await?;
            } else {
                http1::Builder::new().serve_connection(stream, answer).await?;
            }
            anyhow::Ok(())
        });
    }
}

/// An answer of the source.
struct Stored {
    status: StatusCode,
    fields: HeaderMap,
    body: Bytes,
}

struct Served {
    part: Part,
    source: SocketAddr,
    stored: Cache<String, Arc<Stored>>,
    client: Client<HttpConnector, Empty<Bytes>>,
}

type Body = Either<Full<Bytes>, Incoming>;

async fn answer(request: Request<Incoming>, served: Arc<Served>) -> anyhow::Result<Response<Body>> {
    if served.part == Part::Forward {
        return Ok(forward(&request, &served).await?.map(Either::Right));
    }
    let path = request.uri().path();
    let stored = match served.stored.get(path) {
        Some(stored) => stored,
        None => fill(&request, &served).await?,
    };
    let mut response = Response::new(Either::Left(Full::new(stored.body.clone())));
    *response.status_mut() = stored.status;
    *response.headers_mut() = stored.fields.clone();
    Ok(response)
}

async fn forward(request: &Request<Incoming>, served: &Served) -> anyhow::Result<Response<Incoming>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = format!("http://{}{path}", served.source).parse()?;
    let mut onward = Request::new(Empty::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = uri;
    *onward.headers_mut() = request.headers().clone();
    onward.headers_mut().remove(header::CONNECTION);
    Ok(served.client.request(onward).await?)
}

#[cold]
async fn fill(request: &Request<Incoming>, served: &Served) -> anyhow::Result<Arc<Stored>> {
    let (head, body) = forward(request, served).await?.into_parts();
    // Copies: as they came, body and fields are parts of a buffer of 8 KiB and hold all of it.
    let body = Bytes::copy_from_slice(&body.collect().await?.to_bytes());
    let own = |(name, value): (&HeaderName, &HeaderValue)| {
        Ok((name.clone(), HeaderValue::from_bytes(value.as_bytes())?))
    };
    let fields = head.headers.iter().map(own).collect::<anyhow::Result<_>>()?;
    let stored = Arc::new(Stored { status: head.status, fields, body });
    served.stored.insert(request.uri().path().to_owned(), stored.clone());
    Ok(stored)
}
