//! Sends spans to a collector: OTLP 1.x over HTTP, as protobuf. What it cannot take now is sent again a few
//! times; what it refuses is dropped and counted.

use super::{End, Ended, Settings, Side, Value};
use crate::telemetry::metrics as names;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use metrics::{Counter, counter};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Spans that are sent at once.
const BATCH_SPANS: usize = 512;
/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How often a batch is sent at most.
const ATTEMPTS: u32 = 3;
/// Until it is sent again; twice as long after that.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest Retry-After that is obeyed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an attribute may be; what is longer is cut.
const TEXT_BYTES_MAX: usize = 1024;

/// The way to the collector.
pub(super) struct Exporter {
    transport: Transport,
    endpoint: Uri,
    headers: HeaderMap,
    resource: Resource,
    sent: Counter,
    unreachable: Counter,
    refused: Counter,
    /// Trouble is told once, when it begins.
    is_well: bool,
}

enum Transport {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// Why a batch was not taken.
enum Trouble {
    /// It may be taken later.
    Passing { cause: String, after: Option<Duration> },
    /// It never will.
    Lasting(StatusCode),
}

impl Transport {
    fn to(settings: &Settings) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        let Some(config) = &settings.tls else { return Self::Plain(builder.build(connector)) };
        connector.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_tls_config(config.clone()).https_only().enable_http1();
        Self::Tls(builder.build(tls.wrap_connector(connector)))
    }
}

impl Exporter {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut headers: HeaderMap = settings.headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let agent = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let instance = format!("{:032x}", fastrand::u128(..));
        let attributes = [
            ("service.name", settings.service.as_str()),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", instance.as_str()),
        ];
        let attributes = attributes.map(|(key, value)| attribute(key, value.into())).into();
        Self {
            transport: Transport::to(settings),
            endpoint: settings.endpoint.clone(),
            headers,
            resource: Resource { attributes, ..Resource::default() },
            sent: counter!(names::SPANS_SENT),
            unreachable: counter!(names::SPANS_DROPPED, "reason" => "unreachable"),
            refused: counter!(names::SPANS_DROPPED, "reason" => "refused"),
            is_well: true,
        }
    }

    /// Sends until told to finish, or until nobody can record any more; what waits is sent first.
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Ended>, finish: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_SPANS);
        loop {
            let count = tokio::select! {
                biased;
                count = waiting.recv_many(&mut batch, BATCH_SPANS) => count,
                () = finish.cancelled() => return,
            };
            if count == 0 {
                return;
            }
            let until = Instant::now() + LINGER;
            while batch.len() < BATCH_SPANS {
                let room = BATCH_SPANS - batch.len();
                tokio::select! {
                    biased;
                    count = waiting.recv_many(&mut batch, room) => if count == 0 { break },
                    () = tokio::time::sleep_until(until) => break,
                    () = finish.cancelled() => break,
                }
            }
            self.batch(std::mem::take(&mut batch)).await;
        }
    }

    async fn batch(&mut self, spans: Vec<Ended>) {
        let count = spans.len() as u64;
        let content = Bytes::from(self.request(spans).encode_to_vec());
        let mut backoff = BACKOFF;
        for attempt in 1..=ATTEMPTS {
            match self.exchange(content.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.refused.increment(rejected);
                    self.sent.increment(count - rejected);
                    self.is_well = true;
                    return;
                }
                Err(Trouble::Lasting(status)) => {
                    self.refused.increment(count);
                    return self.tell(&format!("the collector answered {status}"));
                }
                Err(Trouble::Passing { cause, after }) => {
                    self.tell(&cause);
                    if attempt < ATTEMPTS {
                        tokio::time::sleep(after.unwrap_or(backoff).min(RETRY_AFTER_MAX)).await;
                        backoff *= 2;
                    }
                }
            }
        }
        self.unreachable.increment(count);
    }

    fn tell(&mut self, cause: &str) {
        if std::mem::replace(&mut self.is_well, false) {
            let collector = self.endpoint.authority().map(http::uri::Authority::as_str);
            tracing::warn!(
                collector,
                cause,
                "spans cannot be sent; they are dropped until the collector takes them"
            );
        }
    }

    /// How many spans the collector rejected of those that it took.
    async fn exchange(&self, content: Bytes) -> Result<u64, Trouble> {
        let mut request = Request::new(Full::new(content));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        self.headers.clone_into(request.headers_mut());
        let passing = |cause: String| Trouble::Passing { cause, after: None };
        let answering = async {
            let response = match &self.transport {
                Transport::Plain(client) => client.request(request).await,
                Transport::Tls(client) => client.request(request).await,
            };
            read(response.map_err(|error| passing(innermost(&error)))?).await
        };
        tokio::time::timeout(TIMEOUT, answering)
            .await
            .unwrap_or_else(|_| Err(passing("it does not answer".to_owned())))
    }

    fn request(&self, spans: Vec<Ended>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = spans.into_iter().map(span).collect();
        let spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource = Some(self.resource.clone());
        let spans = ResourceSpans { resource, scope_spans: vec![spans], ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }
    }
}

/// What an answer says of a batch.
async fn read(response: Response<Incoming>) -> Result<u64, Trouble> {
    let (head, body) = response.into_parts();
    let content =
        Limited::new(body, ANSWER_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes);
    if head.status.is_success() {
        // What is not said was taken.
        let said = content.ok().and_then(|content| ExportTraceServiceResponse::decode(content).ok());
        let rejected = said.and_then(|said| said.partial_success).map_or(0, |partly| partly.rejected_spans);
        return Ok(u64::try_from(rejected).unwrap_or_default());
    }
    Err(match head.status.as_u16() {
        429 | 502..=504 => {
            let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let cause = format!("the collector answered {}", head.status);
            Trouble::Passing { cause, after: after.map(Duration::from_secs) }
        }
        _ => Trouble::Lasting(head.status),
    })
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn span(ended: Ended) -> Span {
    let Ended { place, side, name, begun, took, attributes, end } = ended;
    let mut attributes: Vec<KeyValue> =
        attributes.into_iter().map(|(key, value)| attribute(key, value)).collect();
    if end == End::GivenUp {
        attributes.push(attribute("error.type", "cancelled".into()));
    }
    let code = if end == End::Well { SpanStatus::Unset } else { SpanStatus::Error };
    Span {
        trace_id: place.trace.to_be_bytes().into(),
        span_id: place.span.to_be_bytes().into(),
        parent_span_id: place.parent.map_or_else(Vec::new, |parent| parent.to_be_bytes().into()),
        flags: 1,
        name,
        kind: match side {
            Side::Server => SpanKind::Server,
            Side::Client => SpanKind::Client,
        }
        .into(),
        start_time_unix_nano: nanos(begun),
        end_time_unix_nano: nanos(begun + took),
        attributes,
        status: Some(Status { code: code.into(), message: String::new() }),
        ..Span::default()
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(mut text) => {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            Any::StringValue(text)
        }
        Value::Number(number) => Any::IntValue(number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
