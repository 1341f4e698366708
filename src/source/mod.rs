//! A source: its connections, how many requests it gets at once, how long it may take.

mod body;
mod connector;

pub use body::{BodyError, SourceBody, Upload};

use crate::clock::Clock;
use crate::secret::{Endpoint, Secret};
use crate::target::Target;
use crate::telemetry::metrics as names;
use bytes::Bytes;
use connector::{Connector, Uses};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connected;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The most that wait for a place toward one source; beyond it requests are told at once (I10).
const QUEUE_MAX: usize = 4096;

/// The largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most field lines of an answer.
const FIELDS_MAX: usize = 200;

/// What a request to a source may carry.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A source (`[[source]]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Where it is; a base path is kept in front.
    pub url: Endpoint,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Until the head of the answer.
    pub timeout: Duration,
    /// Between two parts of a body.
    pub body_idle: Duration,
    /// Requests at once, all causes together.
    pub concurrency: usize,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// The Host sent to it.
    pub host: HostSent,
    /// Fields of Tidegate's own requests; the values may be secrets.
    pub headers: Vec<(HeaderName, Secret)>,
}

/// The Host field that a source gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSent {
    /// The one that the client asked.
    Client,
    /// The source URL's own.
    Source,
    /// A fixed one.
    Name(String),
}

/// Why a source gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No place toward it became free in time: nothing was sent.
    #[error("too many requests toward the source are under way")]
    Busy,
    /// No connection: nothing was sent.
    #[error("the source cannot be reached")]
    Connect(#[source] hyper_util::client::legacy::Error),
    /// No head within the source's `timeout`; it may still act on the request.
    #[error("the source did not answer in time")]
    Timeout,
    /// It closed or reset the connection, or what it sent is no HTTP; it may have acted.
    #[error("the source closed without a proper answer")]
    Closed(#[source] hyper_util::client::legacy::Error),
    /// It changed the protocol, which nobody asked for (RFC 9110 7.8); it may have acted.
    #[error("the source switched protocols unasked")]
    Switched,
    /// The head of its answer is larger than anybody should send; it may have acted.
    #[error("the head of the source's answer is too large")]
    HeadTooLarge,
}

impl SourceError {
    /// Whether it is certain that the source has seen nothing of the request.
    #[must_use]
    pub const fn never_sent(&self) -> bool {
        match self {
            Self::Busy | Self::Connect(_) => true,
            Self::Timeout | Self::Closed(_) | Self::Switched | Self::HeadTooLarge => false,
        }
    }
}

/// A source that can be asked. One owner of its pool and of its places.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    client: Client<Connector, RequestBody>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    in_flight: metrics::Gauge,
    head_seconds: metrics::Histogram,
    clock: Clock,
}

impl Source {
    /// Prepares a source; connects to nothing yet.
    #[must_use]
    pub fn new(settings: Settings, clock: Clock) -> Arc<Self> {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(settings.concurrency)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_max_headers(FIELDS_MAX)
            .set_host(false)
            .build(Connector::new(settings.connect_timeout));
        let name = settings.name.clone();
        Arc::new(Self {
            client,
            places: Arc::new(Semaphore::new(settings.concurrency)),
            waiting: AtomicUsize::new(0),
            in_flight: metrics::gauge!(names::SOURCE_IN_FLIGHT, "source" => name.clone()),
            head_seconds: metrics::histogram!(names::SOURCE_SECONDS, "source" => name),
            settings,
            clock,
        })
    }

    /// How it is configured.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The URI of a canonical path and query at this source, its base path in front; `None` where no
    /// URI can say it.
    #[must_use]
    pub fn uri(&self, path_and_query: &str) -> Option<Uri> {
        let url = self.settings.url.expose();
        let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        let base = url.path().strip_suffix('/').unwrap_or_else(|| url.path());
        let path: PathAndQuery = match base {
            "" => path_and_query.parse().ok()?,
            _ => format!("{base}{path_and_query}").parse().ok()?,
        };
        Uri::builder().scheme(scheme).authority(self.authority()).path_and_query(path).build().ok()
    }

    /// What a target that the source names is without the base path that is put in front.
    #[must_use]
    pub fn without_base(&self, target: Target) -> Target {
        target.strip(self.settings.url.expose().path())
    }

    /// `host[:port]` of its URL.
    #[must_use]
    pub fn authority(&self) -> String {
        let url = self.settings.url.expose();
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Sends a request as it is and waits for the head of the answer, all within the source's `timeout`;
    /// while content still moves toward the source that begins anew. A safe request without content,
    /// or with [`Held`] content, whose pooled connection closes before any byte of an answer is sent once more
    /// (RFC 9110 9.2.2, RFC 9112 9.3.1).
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        upload: Option<&Upload>,
    ) -> Result<Response<SourceBody>, SourceError> {
        let deadline = Instant::now() + self.settings.timeout;
        let place = self.place(deadline).await?;
        let again = repeatable(&request);
        self.in_flight.increment(1.0);
        let place = Place { _permit: place, in_flight: self.in_flight.clone() };
        let sent_at = self.clock.now();
        let response = match (self.attempt(request, upload, deadline).await, again) {
            (Err(Attempt { error: SourceError::Closed(_), reused: Reused::Pooled }), Some(again)) => {
                self.attempt(again, None, deadline).await
            }
            (outcome, _) => outcome,
        };
        let response = response.map_err(|attempt| attempt.error)?;
        self.head_seconds.record(self.clock.now().since(sent_at));
        Ok(response.map(|incoming| SourceBody::new(incoming, self.settings.body_idle, place)))
    }

    async fn attempt(
        &self,
        request: Request<RequestBody>,
        upload: Option<&Upload>,
        mut deadline: Instant,
    ) -> Result<Response<hyper::body::Incoming>, Attempt> {
        let answer = self.client.request(request);
        tokio::pin!(answer);
        loop {
            match tokio::time::timeout_at(deadline, &mut answer).await {
                Ok(Ok(mut response)) => {
                    if head_bytes(response.headers()) > HEAD_BYTES_MAX {
                        return Err(Attempt { error: SourceError::HeadTooLarge, reused: Reused::Fresh });
                    }
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        return Err(Attempt { error: SourceError::Switched, reused: Reused::Fresh });
                    }
                    if let Some(uses) = response.extensions_mut().remove::<Uses>() {
                        uses.count();
                    }
                    return Ok(response);
                }
                Ok(Err(error)) if error.is_connect() => {
                    return Err(Attempt { error: SourceError::Connect(error), reused: Reused::Fresh });
                }
                Ok(Err(error)) => {
                    let reused = error.connect_info().map_or(Reused::Fresh, reused);
                    return Err(Attempt { error: SourceError::Closed(error), reused });
                }
                // A request that is still being sent has not begun to wait for its answer.
                Err(_) => {
                    let moved_at = upload.and_then(Upload::moved_at);
                    let later =
                        moved_at.map(|at| at + self.settings.timeout).filter(|later| *later > deadline);
                    deadline = later.ok_or(Attempt { error: SourceError::Timeout, reused: Reused::Fresh })?;
                }
            }
        }
    }

    async fn place(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, SourceError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(SourceError::Busy);
        }
        let _waiting = Waiting(&self.waiting);
        let place = tokio::time::timeout_at(deadline, Arc::clone(&self.places).acquire_owned());
        place.await.ok().and_then(Result::ok).ok_or(SourceError::Busy)
    }
}

/// Somebody who waits for a place; leaves the queue however the wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place toward the source, held until the answer's body has ended.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    in_flight: metrics::Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.in_flight.decrement(1.0);
    }
}

struct Attempt {
    error: SourceError,
    reused: Reused,
}

/// About the bytes of an answer's fields: hyper bounds its buffer, not what it finds in it.
fn head_bytes(fields: &http::HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

enum Reused {
    Pooled,
    Fresh,
}

fn reused(connected: &Connected) -> Reused {
    let mut extras = http::Extensions::new();
    connected.get_extras(&mut extras);
    match extras.get::<Uses>() {
        Some(uses) if uses.any() => Reused::Pooled,
        Some(_) | None => Reused::Fresh,
    }
}

/// Content that is held, as an extension of its request: with it a QUERY can be sent once more.
#[derive(Clone, Debug)]
pub struct Held(pub Bytes);

/// A copy of a safe request without content, or whose content is held; nothing else is ever sent twice.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::QUERY);
    let content = if http_body::Body::is_end_stream(request.body()) {
        empty()
    } else {
        full(request.extensions().get::<Held>()?.0.clone())
    };
    if !safe {
        return None;
    }
    let mut copy = Request::new(content);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    request.extensions().clone_into(copy.extensions_mut());
    Some(copy)
}

/// No content.
#[must_use]
pub fn empty() -> RequestBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Content that is held.
#[must_use]
pub fn full(bytes: Bytes) -> RequestBody {
    http_body_util::Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
