//! Sending an accepted write to its source, and forgetting what it made old: what the sync engine's
//! `write_source` does.

use super::forward;
use super::forwarded;
use super::problem::SourceFailure;
use super::written::Written;
use super::{Gateway, RouteSettings, fence, made_old};
use crate::cache::PurgeMode;
use crate::cache::rules::ResponseHead;
use crate::cache::rules::hop_by_hop::CDN_LOOP;
use crate::in_flight::{Share, Work};
use crate::source::{Besides, HostSent, RequestBody, Source, SourceBody, SourceError, Urgency};
use crate::sync::{Fenced, Keeper, Lost, SourceWritten, Unreached, WriteSource};
use crate::telemetry::metrics as names;
use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, HOST, LOCATION, VIA};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use std::time::Duration;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long an answer's content may take once its head has come: the head decides.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Sends a write to its source. Fences are moved before this returns (I5).
pub async fn write_source(gateway: &Gateway, write: WriteSource) -> SourceWritten {
    // A source that was taken out of the configuration has no worker either.
    let Some(source) = gateway.source(&write.source) else {
        return SourceWritten::Held;
    };
    let mut share = gateway.in_flight.share(Work::Background);
    if share.grow(write.body.len() as u64).is_err() {
        share.count_shed();
        return SourceWritten::Held;
    }
    let host = match &source.settings().host {
        HostSent::Client => write.authority.clone(),
        HostSent::Source => source.authority(),
        HostSent::Name(name) => name.clone(),
    };
    let settings = gateway.settings.routes.iter().find(|route| route.name == write.route);
    let Some(request) = request(source, settings, &write, &host) else { return SourceWritten::Unsayable };
    let written = Written::accepted(&gateway.cache, source, &write, &host);
    match sent(source, settings.and_then(|settings| settings.timeout), request).await {
        Ok(response) => {
            let located = response.headers().get(LOCATION);
            let located = located.zip(written.as_ref()).and_then(|(value, written)| written.located(value));
            let location = located.map(|located| source.without_base(located).path().to_owned());
            make_old(gateway, source, settings, &write, written.as_ref(), &response).await;
            answered(source, response, location, share).await
        }
        Err(error) => {
            let ended = unanswered(&error);
            if matches!(ended, SourceWritten::Lost(_)) {
                soften(gateway, &write).await;
            }
            ended
        }
    }
}

/// Waits for a place like any other: accepted writes are few at once, and what yields to everybody would
/// starve behind a busy source.
async fn sent(
    source: &Source,
    timeout: Option<Duration>,
    mut request: Request<RequestBody>,
) -> Result<Response<SourceBody>, SourceError> {
    let timeout = timeout.unwrap_or(source.settings().timeout);
    let span = forward::span(source, &mut request, "accepted");
    let sending = async {
        let pass = source.admit(timeout, Urgency::Awaited).await?;
        let name = source.settings().name.clone();
        metrics::counter!(names::SOURCE_REQUESTS, "source" => name, "reason" => "accepted").increment(1);
        pass.send(request, Besides::default(), None).await
    };
    let outcome = sending.await;
    forward::tell(span, outcome.as_ref().map(Response::status));
    outcome
}

fn request(
    source: &Source,
    settings: Option<&RouteSettings>,
    write: &WriteSource,
    host: &str,
) -> Option<Request<RequestBody>> {
    let nothing = write.body.is_empty();
    let body = if nothing { crate::source::empty() } else { crate::source::full(write.body.clone()) };
    let mut request = Request::new(body);
    write.method.clone_into(request.method_mut());
    *request.uri_mut() = source.uri(&write.path_and_query)?;
    write.fields.clone_into(request.headers_mut());
    let fields = request.headers_mut();
    // Some servers want to be told that there is no content where there could be (RFC 9110 8.6).
    if nothing && write.method != Method::DELETE {
        fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    crate::source::own_fields(source.settings(), fields);
    if let Some(settings) = settings {
        settings.request_fields.apply(fields);
    }
    fields.insert(HOST, HeaderValue::try_from(host).ok()?);
    fields.insert(VIA, HeaderValue::from_static("1.1 tidegate"));
    forwarded::append(fields, &CDN_LOOP, HeaderValue::from_static("tidegate"));
    fields.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(&write.idempotency_key).ok()?);
    Some(request)
}

/// What an answered write made old goes; where an error hides whether anything was done, it is
/// validated first.
async fn make_old(
    gateway: &Gateway,
    source: &Source,
    settings: Option<&RouteSettings>,
    write: &WriteSource,
    written: Option<&Written>,
    response: &Response<SourceBody>,
) {
    if response.status().is_server_error() || response.status() == StatusCode::REQUEST_TIMEOUT {
        return soften(gateway, write).await;
    }
    let head = ResponseHead { status: response.status(), fields: response.headers() };
    let purges = if let (Some(written), Some(settings)) = (written, settings) {
        written.made_old(source, settings, head)
    } else {
        // Its route is not configured any more, and has no further word on it.
        let path = write.client_path_and_query.split('?').next().unwrap_or_default();
        made_old(&[], &write.authority, path)
    };
    if !purges.is_empty() {
        gateway.cache.purge(purges, PurgeMode::Hard).await;
    }
}

async fn soften(gateway: &Gateway, write: &WriteSource) {
    let fenced = Fenced {
        route: write.route.clone(),
        authority: write.authority.clone(),
        path_and_query: write.client_path_and_query.clone(),
    };
    drop(fence(gateway, fenced).await);
}

/// Reads an answer to its end, within bounds, so that its connection can be used again; keeps its
/// beginning, without the secrets that it may repeat (I12).
async fn answered(
    source: &Source,
    response: Response<SourceBody>,
    location: Option<String>,
    _share: Share,
) -> SourceWritten {
    let (head, body) = response.into_parts();
    let settings = source.settings();
    let keeper = Keeper::of(settings.headers.iter().map(|(_, value)| value), settings.urls.iter());
    let mut beginning = BytesMut::new();
    // What does not come in time is not needed.
    tokio::time::timeout(ANSWER_WAIT, keeper.read(body, &mut beginning)).await.unwrap_or_default();
    SourceWritten::Answered {
        status: head.status,
        fields: head.headers,
        location,
        answer: keeper.shown(&beginning),
    }
}

fn unanswered(error: &SourceError) -> SourceWritten {
    match error {
        SourceError::Busy | SourceError::Yielded | SourceError::Full | SourceError::Open(_) => {
            SourceWritten::Held
        }
        SourceError::Unsayable => SourceWritten::Unsayable,
        SourceError::Connect(_) => SourceWritten::Unreached(match SourceFailure::from(error) {
            SourceFailure::Tls(fault) => Unreached::Tls(fault),
            SourceFailure::Dns => Unreached::Dns,
            _ => Unreached::Connect,
        }),
        SourceError::Timeout => SourceWritten::Lost(Lost::Timeout),
        SourceError::Closed(_)
        | SourceError::Unfinished
        | SourceError::Switched
        | SourceError::HeadTooLarge
        | SourceError::Framing
        | SourceError::Flood => SourceWritten::Lost(Lost::Broken),
    }
}
