//! Spans: what became of a client's request, of a forward and of a delivery, for a collector (`[telemetry]`).
//!
//! They are of the trace that the client began, where it is sampled; of those who bring none one in so many
//! begins a trace here. What is recorded goes through a bounded queue to `otlp.rs`; where that is full it is
//! dropped and counted, so that nothing waits for a collector. Nothing that may be a secret is in a span: no
//! path, query, field, key or cookie.

#[cfg(feature = "otlp")]
mod otlp;

use super::metrics as names;
use super::trace::{self, Place};
use crate::clock::Clock;
use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use metrics::{Counter, counter};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Spans that wait to be sent; further ones are dropped.
const QUEUE_SPANS: usize = 4096;
/// How long the last spans may take at the end.
const FINISH: Duration = Duration::from_secs(2);

/// The recorder of this process, as the one of `metrics` is: who opens spans stands on every floor.
static IN_FORCE: ArcSwapOption<Recorder> = ArcSwapOption::const_empty();

/// Where spans go, and which (`[telemetry]` with `otlp`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector's endpoint for traces, without user info and query.
    pub endpoint: Uri,
    /// How it is known; `None`: it speaks plain HTTP.
    pub tls: Option<rustls::ClientConfig>,
    /// Fields of the requests to it; their values may be secrets, and are marked so.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// One of so many requests that bring no trace begins one; 0: none.
    pub one_in: u32,
    /// What this gateway is called among others (`service.name`).
    pub service: String,
}

/// Which side of an exchange a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Somebody asked Tidegate.
    Server,
    /// Tidegate asks somebody.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// How what a span is about ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was given up: whoever waited has left.
    GivenUp,
    Well,
    Failed,
}

/// A span that has ended.
#[derive(Debug)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "without the feature nothing reads it"))]
struct Ended {
    place: Place,
    side: Side,
    name: String,
    begun: SystemTime,
    took: Duration,
    attributes: Vec<(&'static str, Value)>,
    end: End,
}

/// A span that is open; dropped, it is recorded.
#[derive(Debug)]
pub struct Span(Box<Open>);

#[derive(Debug)]
struct Open {
    /// `None`: it was recorded.
    ended: Option<Ended>,
    since: Instant,
    recorder: Arc<Recorder>,
}

impl Span {
    /// What it is called from now on.
    pub fn named(&mut self, name: String) {
        if let Some(span) = &mut self.0.ended {
            span.name = name;
        }
    }

    /// Adds an attribute.
    pub fn with(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0.ended {
            span.attributes.push((key, value.into()));
        }
    }

    /// It is over, and an answer has this status: a failure from 500 on, and of who asks from 400 on.
    pub fn answered(&mut self, status: u16) {
        self.with("http.response.status_code", u32::from(status));
        let Some(span) = &mut self.0.ended else { return };
        let fails_from = if span.side == Side::Server { 500 } else { 400 };
        span.end = if status < fails_from { End::Well } else { End::Failed };
        if span.end == End::Failed {
            self.with("error.type", status.to_string().as_str());
        }
    }

    /// It is over without an answer.
    pub fn failed(&mut self, why: &str) {
        self.with("error.type", why);
        if let Some(span) = &mut self.0.ended {
            span.end = End::Failed;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut ended) = self.ended.take() {
            ended.took = self.since.elapsed();
            self.recorder.record(ended);
        }
    }
}

/// Whether any are.
#[must_use]
pub fn are_recorded() -> bool {
    IN_FORCE.load().is_some()
}

/// The span of a client's request, if it is recorded; its fields are then those of that span.
pub fn enter(fields: &mut HeaderMap, name: impl FnOnce() -> String) -> Option<Span> {
    let recorder = IN_FORCE.load();
    let recorder = recorder.as_ref()?;
    let place = trace::enter(fields, || recorder.begins(fastrand::u32(..)))?;
    Some(Recorder::open(recorder, place, Side::Server, name()))
}

/// Makes the fields of a request that Tidegate sends those of the next span of the trace, and gives that span
/// if it is recorded.
pub fn go_on(fields: &mut HeaderMap, name: impl FnOnce() -> String) -> Option<Span> {
    let place = trace::go_on(fields)?;
    let recorder = IN_FORCE.load();
    Some(Recorder::open(recorder.as_ref()?, place, Side::Client, name()))
}

/// Records by `settings` from now on; `None`: nothing. What was recorded before is still sent.
pub fn record_by(settings: Option<&Settings>, clock: &Clock) {
    for reason in ["queue-full", "refused", "unreachable"] {
        // The series are there from the start, also while nothing is recorded.
        counter!(names::SPANS_DROPPED, "reason" => reason).absolute(0);
    }
    counter!(names::SPANS_SENT).absolute(0);
    IN_FORCE.store(settings.map(|settings| Recorder::start(settings, clock.clone())));
}

/// Sends what still waits, and records nothing any more.
pub async fn finish() {
    let Some(recorder) = IN_FORCE.swap(None) else { return };
    let sending = recorder.sending.lock().unwrap_or_else(PoisonError::into_inner).take();
    recorder.finish.cancel();
    let Some(sending) = sending else { return };
    if tokio::time::timeout(FINISH, sending).await.is_err() {
        tracing::warn!("the last spans are not sent");
    }
}

struct Recorder {
    queue: mpsc::Sender<Ended>,
    dropped: Counter,
    one_in: u32,
    clock: Clock,
    finish: CancellationToken,
    sending: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// Starts what sends on the current runtime; it ends with the last span of this recorder.
    fn start(settings: &Settings, clock: Clock) -> Arc<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_SPANS);
        let finish = CancellationToken::new();
        let sending = tokio::spawn(send(settings, waiting, finish.clone()));
        Arc::new(Self {
            queue,
            dropped: counter!(names::SPANS_DROPPED, "reason" => "queue-full"),
            one_in: settings.one_in,
            clock,
            finish,
            sending: Mutex::new(Some(sending)),
        })
    }

    /// Whether a trace begins with a request that brings none; `drawn` is any number.
    const fn begins(&self, drawn: u32) -> bool {
        matches!(drawn.checked_rem(self.one_in), Some(0))
    }

    fn open(recorder: &Arc<Self>, place: Place, side: Side, name: String) -> Span {
        let ended = Ended {
            place,
            side,
            name,
            begun: recorder.clock.wall(),
            took: Duration::ZERO,
            attributes: Vec::new(),
            end: End::GivenUp,
        };
        let (since, recorder) = (Instant::now(), Arc::clone(recorder));
        Span(Box::new(Open { ended: Some(ended), since, recorder }))
    }

    fn record(&self, ended: Ended) {
        if self.queue.try_send(ended).is_err() {
            self.dropped.increment(1);
        }
    }
}

#[cfg(feature = "otlp")]
fn send(
    settings: &Settings,
    waiting: mpsc::Receiver<Ended>,
    finish: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    otlp::Exporter::new(settings).run(waiting, finish)
}

/// Nobody gets here: the configuration refuses `otlp` in a build that cannot send.
#[cfg(not(feature = "otlp"))]
fn send(
    _: &Settings,
    mut waiting: mpsc::Receiver<Ended>,
    finish: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    async move {
        waiting.close();
        finish.cancelled().await;
    }
}

#[cfg(test)]
#[cfg(feature = "otlp")]
mod tests;
