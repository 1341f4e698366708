//! One request to a destination, with a typed outcome.
//!
//! hyper's client and not a URL library sends it: the target goes out byte for byte (I8), redirects
//! are not followed, proxy variables are not read, nothing is decompressed or repeated.

use super::outcome::{Before, Blame, Code, Failure, Outcome, retry_after};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::Head;
use crate::sync::settings::DestinationSettings;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::fmt::Write as _;
use std::pin::pin;
use std::time::Duration;

/// Until a connection is made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept; short, so that the other side rarely closes it first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer; the connection is not used again when there is more.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What is kept of an answer with a dead letter.
const ANSWER_KEPT_BYTES: usize = 1024;

type Resolver = tower::util::ServiceFn<fn(Name) -> futures_util::future::BoxFuture<'static, ResolverAnswer>>;
type ResolverAnswer = Result<hyper_util::client::legacy::connect::dns::GaiAddrs, Unresolved>;
type Connector = HttpConnector<Resolver>;

/// A name that has no address; a type of its own, so that it is told from other connect errors.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
struct Unresolved(#[source] std::io::Error);

/// What one delivery carries.
#[derive(Clone, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) id: ChangeId,
    pub(crate) key: &'a str,
    pub(crate) sequence: u64,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) head: &'a Head,
    pub(crate) body: Bytes,
    pub(crate) before: Before,
}

/// The way to one destination.
#[derive(Debug)]
pub(crate) struct Sender {
    transport: Transport,
    base: Base,
    timeout: Duration,
    fields: Vec<(HeaderName, Secret)>,
    clock: Clock,
}

#[derive(Debug)]
enum Transport {
    Plain(Client<Connector, Full<Bytes>>),
    Tls(Client<HttpsConnector<Connector>, Full<Bytes>>),
    /// No roots to trust: every attempt says so, and the destination is held.
    NoTls,
}

/// The parts of a destination's URL.
#[derive(Debug)]
struct Base {
    origin: String,
    path: String,
    query: Option<String>,
    authorization: Option<Secret>,
}

impl Base {
    fn of(url: &url::Url) -> Self {
        let authority = url.port().map_or_else(
            || url.host_str().unwrap_or_default().to_owned(),
            |port| format!("{}:{port}", url.host_str().unwrap_or_default()),
        );
        let has_user = !url.username().is_empty() || url.password().is_some();
        let basic = || {
            let decoded = |text: &str| percent_decoded(text);
            let pair = [decoded(url.username()), b":".to_vec(), decoded(url.password().unwrap_or_default())]
                .concat();
            Secret::new(format!("Basic {}", STANDARD.encode(pair)))
        };
        Self {
            origin: format!("{}://{authority}", url.scheme()),
            path: url.path().trim_end_matches('/').to_owned(),
            query: url.query().map(str::to_owned),
            authorization: has_user.then(basic),
        }
    }

    /// Where a change goes: its path behind the base path, its query behind the base's own.
    fn target(&self, path_and_query: &str) -> String {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut target = format!("{}{}{path}", self.origin, self.path);
        let mut separator = '?';
        for query in [self.query.as_deref(), query].into_iter().flatten() {
            target.push(separator);
            target.push_str(query);
            separator = '&';
        }
        target
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let escaped =
            others.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            rest = others.get(2..).unwrap_or_default();
        } else {
            decoded.push(*first);
            rest = others;
        }
    }
    decoded
}

fn resolve(name: Name) -> futures_util::future::BoxFuture<'static, ResolverAnswer> {
    Box::pin(async move { tower::Service::call(&mut GaiResolver::new(), name).await.map_err(Unresolved) })
}

fn connector() -> Connector {
    let resolver: Resolver = tower::service_fn(resolve as fn(Name) -> _);
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector
}

impl Sender {
    pub(crate) fn new(settings: &DestinationSettings, clock: Clock) -> Self {
        let url = settings.url.expose();
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new());
        builder.timer(TokioTimer::new());
        builder.pool_idle_timeout(IDLE_TIMEOUT);
        builder.pool_max_idle_per_host(settings.concurrency);
        let transport = if url.scheme() == "https" {
            let provider = rustls::crypto::ring::default_provider();
            match hyper_rustls::HttpsConnectorBuilder::new().with_provider_and_platform_verifier(provider) {
                Ok(tls) => {
                    Transport::Tls(builder.build(tls.https_only().enable_http1().wrap_connector(connector())))
                }
                Err(error) => {
                    tracing::error!(destination = %settings.name, %error, "TLS cannot be set up");
                    Transport::NoTls
                }
            }
        } else {
            Transport::Plain(builder.build(connector()))
        };
        Self {
            transport,
            base: Base::of(url),
            timeout: settings.timeout,
            fields: settings.headers.clone(),
            clock,
        }
    }

    /// Sends one delivery and reads the answer.
    pub(crate) async fn attempt(&self, delivery: Delivery<'_>) -> Outcome {
        let method = delivery.head.method();
        let before = delivery.before;
        let Some(request) = self.request(delivery) else {
            return Outcome::Permanent(Failure::of(Code::Unsendable));
        };
        match self.exchange(request).await {
            Err(failure) if failure.code == Code::Tls => Outcome::Hold(failure),
            Err(failure) => Outcome::Retry(failure, Blame::Destination),
            Ok((response, answer)) => {
                let after = retry_after(response.headers(), self.clock.wall());
                Outcome::of_answer(&method, response.status(), after, answer, before)
            }
        }
    }

    fn request(&self, delivery: Delivery<'_>) -> Option<Request<Full<Bytes>>> {
        let uri: Uri = self.base.target(&delivery.head.path_and_query).parse().ok()?;
        let mut request = Request::builder().method(delivery.head.method()).uri(uri);
        *request.headers_mut()? = self.fields(&delivery)?;
        request.body(Full::new(delivery.body)).ok()
    }

    /// The kept fields, then the destination's own, then Tidegate's: the later ones win.
    fn fields(&self, delivery: &Delivery<'_>) -> Option<HeaderMap> {
        let mut fields = delivery.head.fields();
        let secret = |secret: &Secret| {
            let mut value = HeaderValue::from_str(secret.expose()).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        if let Some(authorization) = &self.base.authorization {
            fields.insert(header::AUTHORIZATION, secret(authorization)?);
        }
        for (name, value) in &self.fields {
            fields.insert(name, secret(value)?);
        }
        let own = [
            ("idempotency-key", format!("\"{}\"", delivery.id)),
            ("tidegate-change", delivery.id.to_string()),
            ("tidegate-key", field_value(delivery.key)),
            ("tidegate-sequence", delivery.sequence.to_string()),
            ("tidegate-attempt", delivery.attempt.to_string()),
            ("tidegate-source", field_value(&delivery.head.source)),
        ];
        for (name, value) in own {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?);
        }
        Some(fields)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(Response<()>, String), Failure> {
        let answering = match &self.transport {
            Transport::Plain(client) => client.request(request),
            Transport::Tls(client) => client.request(request),
            Transport::NoTls => return Err(Failure::of(Code::Tls)),
        };
        let deadline = pin!(tokio::time::sleep(self.timeout));
        let (response, deadline) = match select(answering, deadline).await {
            Either::Left((response, deadline)) => (response.map_err(|error| failure(&error))?, deadline),
            Either::Right(_) => return Err(Failure::of(Code::Timeout)),
        };
        let (parts, body) = response.into_parts();
        // The status decides; an answer whose content breaks off or stalls has been given all the same.
        let mut answer = BytesMut::new();
        select(pin!(read_answer(body, &mut answer)), deadline).await;
        Ok((Response::from_parts(parts, ()), String::from_utf8_lossy(&answer).into_owned()))
    }
}

/// Reads an answer to its end, keeping its beginning.
async fn read_answer(mut body: Incoming, kept: &mut BytesMut) {
    let mut read = 0_usize;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        read = read.saturating_add(data.len());
        let wanted = data.len().min(ANSWER_KEPT_BYTES.saturating_sub(kept.len()));
        kept.extend_from_slice(data.get(..wanted).unwrap_or_default());
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
}

fn failure(error: &ClientError) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Unresolved>() {
            return Failure::of(Code::Dns);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if inner.is_some() || error.is::<rustls::Error>() {
            return Failure::of(Code::Tls);
        }
        cause = error.source();
    }
    // Once connected the request may have arrived, whatever broke afterwards.
    Failure { answer_lost: !error.is_connect(), ..Failure::of(Code::Connect) }
}

/// A key as a field value: what is not visible ASCII, and `%`, is percent-encoded.
fn field_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, 0x21..=0x7E) && (byte != b'%' || text.is_ascii()) {
            value.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            write!(value, "%{byte:02X}").unwrap_or_default();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_keep_their_bytes() {
        for (base, given, target) in [
            ("http://h:1", "/a%2Fb//c;d=%7B?x=%zz", "http://h:1/a%2Fb//c;d=%7B?x=%zz"),
            ("http://h/base/", "/a", "http://h/base/a"),
            ("http://h/base?t=1", "/a?b=2", "http://h/base/a?t=1&b=2"),
            ("https://h:443", "/", "https://h/"),
        ] {
            assert_eq!(Base::of(&url::Url::parse(base).unwrap()).target(given), target);
        }
    }

    #[test]
    fn user_info_becomes_a_field() {
        let base = Base::of(&url::Url::parse("http://me:p%40ss@h/").unwrap());
        assert_eq!(base.authorization.unwrap().expose(), "Basic bWU6cEBzcw==");
        assert_eq!(base.origin, "http://h");
    }

    #[test]
    fn keys_are_legal_field_values() {
        for (key, value) in
            [("/items/7%2F1", "/items/7%2F1"), ("a b", "a%20b"), ("\u{e9}%", "%C3%A9%25"), ("\r\n", "%0D%0A")]
        {
            assert_eq!(field_value(key), value);
        }
    }
}
