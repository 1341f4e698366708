//! The strict gate: what is not a well-formed, unambiguous request never gets further
//! (RFC 9112 3.2, 6; RFC 9110 7.2). Refused requests close their connection.

mod http2;
mod plain;

pub(crate) use plain::{plain, plain_http2};

use super::Settings;
use super::content::Content;
use super::door;
use super::forwarded;
use super::interim::Interim;
use super::request::{Asks, Client, Peer, Request, RequestId, TIDEGATE_MIN_VERSION};
use crate::cache::Token;
use crate::cache::rules::hop_by_hop;
use crate::explanation::Question;
use crate::redis::Patience;
use crate::target::{Authority, Scheme, Target, TargetError};
use crate::telemetry::metrics as names;
use crate::tls::Session;
use http::header::{EXPECT, HOST, MAX_FORWARDS};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use hyper::body::Incoming;
use std::borrow::Cow;
use std::sync::Arc;
use tokio::time::Instant;

/// Why a request is refused; a closed list for answer, log and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Target(TargetError),
    TargetTooLong,
    HeadTooLarge,
    TooManyFields,
    Host,
    Field,
    Framing,
    Coding,
    HeadTooSlow,
    Method,
    Expect,
    MinVersion,
    Version,
    Connections,
    ConnectionsOfAddress,
    Descriptors,
    Misdirected,
}

impl Refusal {
    /// The status of the answer.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Target(_) | Self::Host | Self::Field | Self::Framing | Self::MinVersion => {
                StatusCode::BAD_REQUEST
            }
            Self::HeadTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expect => StatusCode::EXPECTATION_FAILED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Connections | Self::ConnectionsOfAddress | Self::Descriptors => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    /// The word for log and metric.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::TargetTooLong => "target-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::Host => "host",
            Self::Field => "field",
            Self::Framing => "framing",
            Self::HeadTooSlow => "head-too-slow",
            Self::Coding => "transfer-coding",
            Self::Method => "method",
            Self::Expect => "expect",
            Self::MinVersion => "min-version",
            Self::Version => "version",
            Self::Connections => "connections",
            Self::ConnectionsOfAddress => "connections-per-address",
            Self::Descriptors => "descriptors",
            Self::Misdirected => "misdirected",
        }
    }

    /// Tells operators of it, by log and metric.
    pub(crate) fn tell(self) {
        let reason = self.as_str();
        metrics::counter!(names::REFUSED, "reason" => reason).increment(1);
        tracing::debug!(target: "tidegate::access", reason, "refused");
    }

    /// What the client is told.
    pub(crate) fn detail(self) -> String {
        match self {
            Self::Target(error) => error.to_string(),
            Self::TargetTooLong => "the target is longer than server.limits.target".into(),
            Self::HeadTooLarge => "the head is larger than server.limits.head".into(),
            Self::TooManyFields => "there are more field lines than server.limits.fields".into(),
            Self::Host => "exactly one Host of the form host[:port] is needed".into(),
            Self::Field => "a field line is not of the form name: value".into(),
            Self::Framing => "lines or the length of the content are not stated unambiguously".into(),
            Self::HeadTooSlow => "the head did not arrive within server.limits.header_timeout".into(),
            Self::Coding => "chunked is the only transfer coding that is understood".into(),
            Self::Method => "CONNECT and TRACE are not served".into(),
            Self::Expect => "100-continue is the only expectation that is understood".into(),
            Self::MinVersion => {
                "Tidegate-Min-Version is not what a Tidegate-Version was; leave it out to read without it"
                    .into()
            }
            Self::Version => "HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here".into(),
            Self::Connections => "there are as many connections as server.limits.connections".into(),
            Self::ConnectionsOfAddress => {
                "there are as many connections from here as server.limits.connections_per_address".into()
            }
            Self::Descriptors => "the process has no more descriptors to spare for clients".into(),
            Self::Misdirected => {
                "the connection is for another host than the one that is asked: connect anew".into()
            }
        }
    }
}

/// Makes the validated model of a request, or refuses it.
///
/// # Errors
/// The first [`Refusal`] found.
pub(crate) fn admit(
    request: http::Request<Incoming>,
    peer: &Peer,
    settings: &Settings,
    interim: Option<Interim>,
    since: Instant,
) -> Result<Box<Request>, Refusal> {
    let (mut head, body) = request.into_parts();
    sound(&mut head, settings)?;
    let (version, uri) = (head.version, &head.uri);
    let origin_form = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let head = Head { method: head.method, uri, version, fields: head.headers };
    let mut request = modelled(head, origin_form, Content::new(body), peer, settings, since)?;
    // RFC 9110 15.2: never to an HTTP/1.0 client.
    request.interim = interim.filter(|_| version == Version::HTTP_11);
    Ok(request)
}

/// Of HTTP/1 the gate has looked at the bytes themselves; of HTTP/2 it is done here.
fn sound(head: &mut Parts, settings: &Settings) -> Result<(), Refusal> {
    match head.version {
        Version::HTTP_10 | Version::HTTP_11 => Ok(()),
        Version::HTTP_2 if is_unserved(&head.method) => Err(Refusal::Method),
        Version::HTTP_2 => {
            sizes(&head.method, &head.uri, &head.headers, settings)?;
            http2::values(&head.headers)?;
            http2::framing(&head.headers)?;
            http2::join_cookies(&mut head.headers);
            Ok(())
        }
        _ => Err(Refusal::Version),
    }
}

/// As [`admit`], of a request that somebody asks about.
///
/// # Errors
/// The first [`Refusal`] found.
pub(crate) fn foresee(question: Question, settings: &Settings) -> Result<Box<Request>, Refusal> {
    let Question { authority, origin_form, method, mut fields, peer } = question;
    if !fields.contains_key(HOST) {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::Host)?;
        fields.insert(HOST, host);
    }
    let bytes = Sizes { method: method.as_str().len(), target: origin_form.len(), fields: &fields };
    bytes.within(settings)?;
    // Nobody has named a host in a handshake, and any may be asked about.
    let tls = settings.tls.as_ref().map(|_| Arc::new(Session::default()));
    let peer = Peer { address: peer, local: peer, tls };
    // What the target says of an authority stands in Host.
    let uri = http::Uri::from_static("/");
    let head = Head { method, uri: &uri, version: Version::HTTP_11, fields };
    let now = Instant::now();
    let mut request = modelled(head, &origin_form, Content::None, &peer, settings, now)?;
    // It is told what is so now: nothing is waited for.
    request.deadline = now;
    Ok(request)
}

/// A head whose framing is known to be sound.
struct Head<'a> {
    method: Method,
    /// For its scheme and authority.
    uri: &'a http::Uri,
    version: Version,
    fields: HeaderMap,
}

fn modelled(
    head: Head<'_>,
    origin_form: &str,
    content: Content,
    peer: &Peer,
    settings: &Settings,
    since: Instant,
) -> Result<Box<Request>, Refusal> {
    let Head { method, uri, version, mut fields } = head;
    if is_unserved(&method) {
        return Err(Refusal::Method);
    }
    let asks = Asks::of(&fields);
    expectation(asks.among(&fields))?;
    let trust = forwarded::trust(peer.address.ip(), &settings.trusted_proxies);
    // What a client would ask for by the one scheme must not be answered with what the other brought.
    let scheme = forwarded::scheme(&fields, trust, peer.scheme());
    let authority = authority(uri, &fields, version, peer, scheme)?;
    if !is_for(&authority, peer) {
        return Err(Refusal::Misdirected);
    }
    let of_the_server = origin_form == "*" && method == Method::OPTIONS;
    let origin_form = match origin_form {
        "*" if of_the_server => Cow::Borrowed("/"),
        // The absolute form may leave an empty path out (RFC 9112 3.2.2), `:path` may not (RFC 9113 8.3.1).
        query if query.starts_with('?') && version != Version::HTTP_2 => Cow::Owned(format!("/{query}")),
        whole => Cow::Borrowed(whole),
    };
    let target = Target::received(scheme, authority, &origin_form).map_err(Refusal::Target)?;
    if asks == Asks::Specially {
        hop_by_hop::remove_named(&mut fields);
        drop_impostors(&mut fields);
        door::remove_own(&mut fields);
    }
    if of_the_server {
        // RFC 9110 9.3.7: it asks what the server can do, and the server that it asked is this one.
        fields.insert(MAX_FORWARDS, HeaderValue::from_static("0"));
    }
    let min_version = min_version(asks.among(&fields))?;
    let address = forwarded::client_address(&fields, peer.address.ip(), trust, &settings.trusted_proxies);
    let client = Client { address, peer: peer.address.ip().to_canonical(), trust };
    let id = RequestId::of(asks.among(&fields));
    // Boxed: it is handed on from step to step.
    Ok(Box::new(Request {
        method,
        target,
        fields,
        asks,
        version,
        content,
        interim: None,
        client,
        tls: peer.tls.clone(),
        id,
        min_version,
        patience: Patience::of_request(),
        deadline: since + settings.request_timeout,
    }))
}

const fn is_unserved(method: &Method) -> bool {
    matches!(*method, Method::CONNECT | Method::TRACE)
}

/// Bytes around a field: `: ` and the line's end.
const FIELD_OVERHEAD_BYTES: usize = 4;

/// Bytes around the request line: two spaces, the version, its line's end and the empty line.
const REQUEST_LINE_OVERHEAD_BYTES: usize = 14;

/// A head of HTTP/2 is within its bounds, measured as one of HTTP/1.
///
/// # Errors
/// The [`Refusal`] of the bound that it is beyond.
pub(crate) fn sizes(
    method: &Method,
    uri: &http::Uri,
    fields: &HeaderMap,
    settings: &Settings,
) -> Result<(), Refusal> {
    let target = uri.path_and_query().map_or(1, |path| path.as_str().len());
    Sizes { method: method.as_str().len(), target, fields }.within(settings)
}

/// What a head measures.
struct Sizes<'a> {
    method: usize,
    target: usize,
    fields: &'a HeaderMap,
}

impl Sizes<'_> {
    fn within(&self, settings: &Settings) -> Result<(), Refusal> {
        if self.target as u64 > settings.limits.target_bytes {
            return Err(Refusal::TargetTooLong);
        }
        if self.fields.len() > settings.limits.fields {
            return Err(Refusal::TooManyFields);
        }
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES
        };
        let lines = self.fields.iter().map(line).sum::<usize>();
        let head = lines + self.method + self.target + REQUEST_LINE_OVERHEAD_BYTES;
        if head as u64 > settings.limits.head_bytes {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(())
    }
}

fn expectation(fields: &HeaderMap) -> Result<(), Refusal> {
    let met = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if fields.get_all(EXPECT).iter().all(met) { Ok(()) } else { Err(Refusal::Expect) }
}

/// The one token of a reader that has seen a write.
fn min_version(fields: &HeaderMap) -> Result<Option<Box<Token>>, Refusal> {
    let mut given = fields.get_all(TIDEGATE_MIN_VERSION).iter();
    let Some(token) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Refusal::MinVersion);
    }
    Token::parse(token.as_bytes()).map(|token| Some(Box::new(token))).map_err(|_| Refusal::MinVersion)
}

/// The one authority of a request: the absolute form's or `:authority`, else Host.
fn authority(
    uri: &http::Uri,
    fields: &HeaderMap,
    version: Version,
    peer: &Peer,
    scheme: Scheme,
) -> Result<Authority, Refusal> {
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Refusal::Target(TargetError::Scheme));
    }
    let parse = |text: &str| Authority::parse(text, scheme).map_err(|_| Refusal::Host);
    let mut hosts = fields.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Refusal::Host),
        (Some(host), None) => Some(parse(host.to_str().map_err(|_| Refusal::Host)?)?),
        (None, None) => None,
    };
    match (uri.authority(), host) {
        (Some(authority), host) => {
            let authority = parse(authority.as_str())?;
            // RFC 9113 8.3.1: host must not differ from :authority. In HTTP/1.1 the absolute form wins.
            if version == Version::HTTP_2 && host.is_some_and(|host| host != authority) {
                return Err(Refusal::Host);
            }
            if version == Version::HTTP_11 && !fields.contains_key(HOST) {
                return Err(Refusal::Host);
            }
            Ok(authority)
        }
        (None, Some(host)) => Ok(host),
        // HTTP/1.0 knows no Host: the address that was asked stands for it.
        (None, None) if version == Version::HTTP_10 => parse(&peer.local.to_string()),
        (None, None) => Err(Refusal::Host),
    }
}

/// Whether the connection was made for the host that is asked: else the certificate that its client has
/// verified, or the one that it has shown, was another's (RFC 9110 7.4). Without SNI nobody can tell.
fn is_for(authority: &Authority, peer: &Peer) -> bool {
    let asked_for = peer.tls.as_ref().and_then(|session| session.server_name.as_deref());
    asked_for.is_none_or(|name| name.eq_ignore_ascii_case(authority.host()))
}

/// Fields that another parser may take for a framing or forwarding field because it reads `_` as
/// `-`: they are dropped.
fn drop_impostors(fields: &mut HeaderMap) {
    let impostor = |name: &HeaderName| {
        name.as_str().contains('_') && {
            let read_as = name.as_str().replace('_', "-");
            matches!(read_as.as_str(), "content-length" | "transfer-encoding" | "cdn-loop")
                || read_as.starts_with("tidegate-")
                || forwarded::is_unkeyed(&read_as)
        }
    };
    let impostors: Vec<HeaderName> = fields.keys().filter(|name| impostor(name)).cloned().collect();
    for name in impostors {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests;
