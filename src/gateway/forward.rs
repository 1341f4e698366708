//! To the source: the head is rebuilt from the validated model, never copied with its framing.

use super::forwarded::{self, Told};
use super::interim::Interim;
use super::max_forwards::Forwards;
use super::problem::SourceFailure;
use super::request::{self, Request, X_REQUEST_ID};
use super::route::Route;
use super::trailers::{self, Welcome};
use crate::cache::rules::hop_by_hop::{self, CDN_LOOP};
use crate::cache::rules::vary::folded_accept_encoding;
use crate::cache::rules::{ForwardReason, tags, validation};
use crate::in_flight::Full;
use crate::source::{
    Asks, Besides, HostSent, OnInterim, Protocol, RequestBody, Source, SourceBody, SourceError, Upload,
    Urgency, Visited,
};
use crate::telemetry::spans::{self, Span};
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// This gateway in Via, CDN-Loop and Cache-Status.
const SELF: &str = "tidegate";

/// What a head is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The client's own request: its preconditions and ranges are its affair.
    Relay,
    /// To fill the cache: a whole representation, whatever the client has of it.
    Fill,
    /// To fill the cache with what a Range names, for all who send the same.
    Part,
    /// The client's own request, whose answer is kept where it may be: only the codings are what a fill would
    /// ask for.
    Alone,
    /// A client's HEAD, whose answer also speaks of what is stored: the client's own request, but for the
    /// codings, which are what a GET would ask for.
    Head,
}

/// A head for the source.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub method: Method,
    /// Path and query as the source gets them, before its base path.
    pub path_and_query: String,
    pub fields: HeaderMap,
    /// Where interim responses go.
    pub interim: Option<Interim>,
    /// Whether trailers of the answer can be passed on.
    pub trailers: Welcome,
    /// The trailers that the content announces.
    pub announced: Option<HeaderValue>,
    /// The content, where all of it is held.
    pub held: Option<Bytes>,
    /// What the connection is asked to be switched to.
    pub upgrade: Option<Protocol>,
    /// How long it may take until the head of the answer.
    pub timeout: Duration,
    /// Whether somebody waits for the answer.
    pub urgency: Urgency,
    /// Where others go for the same.
    pub visited: Option<Visited>,
}

/// Fields of Tidegate's own in such a head, that of a trace included.
const OWN_FIELDS: usize = 8;

/// Builds the head that a source gets for a client's request.
pub(crate) fn head(route: &Route, request: &Request, purpose: Purpose) -> Head {
    let told = Told::of(request.client.peer, &request.target);
    let mut fields = HeaderMap::with_capacity(request.fields.keys_len() + OWN_FIELDS);
    if let Some(host) = host(&route.source, &told) {
        fields.insert(HOST, host);
    }
    pass(route, request, purpose, &mut fields);
    // What a fill brings is for many, and stored without its trailers.
    let (trailers, announced) = match purpose {
        Purpose::Relay | Purpose::Alone => {
            (Welcome::of(request.version, request.asking()), trailers::announced(request.asking()))
        }
        Purpose::Fill | Purpose::Part | Purpose::Head => (Welcome::No, None),
    };
    let timeout = match purpose {
        Purpose::Relay => route.timeout_alone(),
        // Others may wait for it longer than the request that began it.
        Purpose::Fill | Purpose::Part | Purpose::Alone | Purpose::Head => route.timeout(),
    };
    Forwards::of(&request.method, &request.fields).update(&mut fields);
    forwarded::tell(&mut fields, &told, request.target.scheme());
    forwarded::append(&mut fields, &VIA, via(request.version));
    forwarded::append(&mut fields, &CDN_LOOP, HeaderValue::from_static(SELF));
    fields.insert(X_REQUEST_ID, request.id.value());
    let method = match (purpose, &request.method) {
        // What HEAD asks for is filled by GET.
        (Purpose::Fill, &Method::HEAD) => Method::GET,
        (Purpose::Fill | Purpose::Part | Purpose::Relay | Purpose::Alone | Purpose::Head, method) => {
            method.clone()
        }
    };
    Head {
        method,
        path_and_query: route.forwarded(&request.target).path_and_query().to_owned(),
        fields,
        interim: request.interim.clone(),
        trailers,
        announced,
        held: request.content.held(),
        upgrade: None,
        timeout,
        urgency: Urgency::Awaited,
        visited: None,
    }
}

/// Adds what passes of a client's fields, each looked at once.
fn pass(route: &Route, request: &Request, purpose: Purpose, fields: &mut HeaderMap) {
    let named = hop_by_hop::named(request.asking());
    let goes = |name: &HeaderName| {
        hop_by_hop::is_hop_by_hop(name)
            || hop_by_hop::is_impostor(name)
            || named.contains(name)
            || *name == CONTENT_LENGTH
            || *name == EXPECT
            || (purpose == Purpose::Fill && validation::is_condition(name))
            // Fields by which clients speak to Tidegate, or could pretend to be it.
            || name.as_str().starts_with("tidegate-")
            || forwarded::is_lie(name, request.client.trust, &route.settings.let_through)
    };
    let (has_host, has_codings) = (fields.contains_key(HOST), purpose != Purpose::Relay);
    for (name, value) in &request.fields {
        let is_set = (has_host && *name == HOST) || (has_codings && *name == ACCEPT_ENCODING);
        if !is_set && (request::Asks::is_inert(name) || !goes(name)) {
            fields.append(name, value.clone());
        }
    }
    if let Some(folded) = has_codings.then(|| folded_accept_encoding(&request.fields)).flatten() {
        fields.insert(ACCEPT_ENCODING, folded);
    }
}

/// The Host that the source gets.
fn host(source: &Source, told: &Told) -> Option<HeaderValue> {
    match &source.settings().host {
        HostSent::Client => Some(told.host()),
        HostSent::Source => HeaderValue::try_from(source.authority()).ok(),
        HostSent::Name(name) => HeaderValue::from_str(name).ok(),
    }
}

/// Whether CDN-Loop names this gateway: the request has passed through here before (RFC 8586).
pub(crate) fn is_loop(fields: &HeaderMap) -> bool {
    let members =
        fields.get_all(CDN_LOOP).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members
        .filter_map(|member| member.split(|byte| *byte == b';').next())
        .any(|id| id.trim_ascii().eq_ignore_ascii_case(SELF.as_bytes()))
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 tidegate",
        Version::HTTP_2 => "2.0 tidegate",
        _ => "1.1 tidegate",
    })
}

/// Adds this gateway to the Via of a source's fields, with the version that they came in (RFC 9110 7.6.3).
pub(crate) fn sign(fields: &mut HeaderMap, came_in: Version) {
    forwarded::append(fields, &VIA, via(came_in));
}

/// Sends a head with its content, if there is room for what is then in flight; counts why.
///
/// # Errors
/// [`SourceError`]
pub(crate) async fn send(
    route: &Route,
    head: Head,
    body: RequestBody,
    upload: Option<&Upload>,
    reason: ForwardReason,
) -> Result<Response<SourceBody>, SourceError> {
    let share = route.in_flight.forward().map_err(|Full| SourceError::Full)?;
    let uri = route.source.uri(&head.path_and_query).ok_or(SourceError::Unsayable)?;
    // Some servers want to be told that there is no content where there could be (RFC 9110 8.6).
    let nothing = http_body::Body::is_end_stream(&body);
    let says_nothing =
        nothing && matches!(head.method, Method::POST | Method::PUT | Method::PATCH | Method::QUERY);
    let in_chunks = !nothing && http_body::Body::size_hint(&body).exact().is_none();
    let mut request = http::Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = head.fields;
    let span = span(&route.source, &mut request, reason.as_str());
    // Not before: what a change is delivered with is not meant for the source alone.
    route.settings.request_fields.apply(request.headers_mut());
    if says_nothing {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    if in_chunks {
        // Said here, because hyper takes a GET without a length for one without content.
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        let announced = head.announced.filter(|names| !route.settings.request_fields.are_undone_by(names));
        if let Some(names) = announced {
            request.headers_mut().insert(TRAILER, names);
        }
    }
    if head.trailers == Welcome::Yes {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        request.headers_mut().append(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(protocol) = &head.upgrade {
        request.headers_mut().append(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, protocol.value());
    }
    let tells = |interim: Interim| OnInterim::new(move |status, fields| interim.tell(status, fields));
    let besides = Besides {
        held: head.held,
        visited: head.visited,
        asks: head.upgrade.map(Asks),
        interim: head.interim.map(tells),
    };
    // Of what was never asked the source's metrics tell, and what a client broke off is no news of the source; a
    // line for each would bury the reason.
    let pass = match route.source.admit(head.timeout, head.urgency).await {
        Ok(pass) => pass,
        Err(error) => {
            tell(span, Err(&error));
            return Err(error);
        }
    };
    route.metrics.forwarded(reason);
    let outcome = pass.send(request, besides, upload).await;
    tell(span, outcome.as_ref().map(Response::status));
    if let Err(error) = &outcome
        && !matches!(error, SourceError::Open(_) | SourceError::Unfinished)
    {
        let failure = SourceFailure::from(error);
        tracing::warn!(
            target: "tidegate::source",
            source = route.source.settings().name,
            failure = failure.as_str(),
            cause = cause(error),
            "no answer"
        );
    }
    Ok(outcome?.map(|body| body.holding(share)))
}

/// Waits until `deadline` for what is sent without content, and so ends `timeout` after now at the latest: where that
/// is earlier no second timer is set.
pub(super) async fn until<T>(
    deadline: Instant,
    timeout: Duration,
    sending: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    if Instant::now() + timeout < deadline {
        return Some(sending.await);
    }
    tokio::time::timeout_at(deadline, sending).await.ok()
}

/// The span of a request to a source, if it is recorded; its time is until the head of the answer.
pub(super) fn span<B>(source: &Source, request: &mut http::Request<B>, reason: &str) -> Option<Span> {
    let (source, method) = (&source.settings().name, request.method().clone());
    let mut span = spans::go_on(request.headers_mut(), || format!("{method} {source}"))?;
    span.with("http.request.method", method.as_str());
    span.with("tidegate.source", source.as_str());
    span.with("tidegate.reason", reason);
    Some(span)
}

/// What came of it.
pub(super) fn tell(span: Option<Span>, outcome: Result<StatusCode, &SourceError>) {
    let Some(mut span) = span else { return };
    match outcome {
        Ok(status) => span.answered(status.as_u16()),
        Err(error) => span.failed(SourceFailure::from(error).as_str()),
    }
}

/// The innermost cause, in words.
fn cause(error: &SourceError) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Makes a source's fields fit for clients: end-to-end ones only, with Via.
pub(crate) fn pass_on(fields: &mut HeaderMap, came_in: Version) {
    sign(fields, came_in);
    end_to_end(fields);
}

/// Leaves of a source's fields those that are meant for clients. Trailers pass, and so does what
/// announces them.
pub(crate) fn end_to_end(fields: &mut HeaderMap) {
    let announced = trailers::announced(fields);
    hop_by_hop::remove_with(fields, tags::is_private);
    if let Some(names) = announced {
        fields.insert(TRAILER, names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8586_a_loop_is_seen() {
        for (value, seen) in [("tidegate", true), ("other, Tidegate;v=1", true), ("nottidegate", false)] {
            let mut fields = HeaderMap::new();
            fields.insert(CDN_LOOP, HeaderValue::from_static(value));
            assert_eq!(is_loop(&fields), seen, "{value}");
        }
    }
}
