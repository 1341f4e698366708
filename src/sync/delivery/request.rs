//! The one place where the request of an attempt is made, in the destination's format.

use super::cloudevents;
use super::percent::{decoded, field_value};
use crate::secret::Secret;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::Head;
use crate::sync::settings::{DestinationSettings, Format};
use crate::sync::signature::{SigningKey, signatures};
use crate::telemetry::spans::{self, Span};
use crate::telemetry::trace;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use std::time::{SystemTime, UNIX_EPOCH};

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
    /// The destination has had it before.
    pub(crate) replay: bool,
}

/// Makes the requests of one destination.
#[derive(Debug)]
pub(super) struct Requests {
    destination: String,
    format: Format,
    base: Base,
    fields: Vec<(HeaderName, HeaderValue)>,
    keys: Vec<SigningKey>,
}

impl Requests {
    pub(super) fn new(settings: &DestinationSettings) -> Self {
        let base = Base::of(settings.url.expose());
        let user = base.authorization.as_ref().map(|value| (header::AUTHORIZATION, value));
        let given = settings.headers.iter().map(|(name, value)| (name.clone(), value));
        // A value that no field may have is refused with the configuration.
        let fields = user.into_iter().chain(given).filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let fields = fields.collect();
        let (destination, keys) = (settings.name.clone(), settings.secrets.clone());
        Self { destination, format: settings.format, base, fields, keys }
    }

    /// What user info in the URL is sent as.
    pub(super) const fn authorization(&self) -> Option<&Secret> {
        self.base.authorization.as_ref()
    }

    /// The request of an attempt at `wall`, and its span if it is recorded; `None` where none can be made of the
    /// change.
    pub(super) fn of(
        &self,
        delivery: &Delivery<'_>,
        wall: SystemTime,
    ) -> Option<(Request<Full<Bytes>>, Option<Span>)> {
        let (method, target, mut fields) = match self.format {
            Format::Replay | Format::State => {
                let Head { path_and_query, .. } = delivery.head;
                (delivery.head.method(), self.base.target(path_and_query), delivery.head.fields())
            }
            Format::CloudEvents => {
                let mut fields = content_fields(&delivery.head.fields());
                fields.extend(cloudevents::attributes(delivery)?);
                (Method::POST, self.base.itself(), fields)
            }
        };
        let span = self.span(&mut fields, &method, delivery);
        // The later ones win: the client's fields, the destination's own, Tidegate's.
        for (name, value) in &self.fields {
            fields.insert(name, value.clone());
        }
        if delivery.body.is_empty() && expects_content(&method) {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        for (name, value) in self.own_fields(delivery, wall) {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?);
        }
        let uri: Uri = target.parse().ok()?;
        let mut request =
            Request::builder().method(method).uri(uri).body(Full::new(delivery.body.clone())).ok()?;
        *request.headers_mut() = fields;
        Some((request, span))
    }

    /// The trace that the change was written in goes on.
    fn span(&self, fields: &mut HeaderMap, method: &Method, delivery: &Delivery<'_>) -> Option<Span> {
        let mut span = spans::go_on(fields, || format!("deliver {}", self.destination))?;
        span.with("http.request.method", method.as_str());
        span.with("tidegate.destination", self.destination.as_str());
        span.with("tidegate.change", delivery.id.to_string().as_str());
        span.with("tidegate.attempt", delivery.attempt);
        Some(span)
    }

    fn own_fields(&self, delivery: &Delivery<'_>, wall: SystemTime) -> Vec<(&'static str, String)> {
        let id = delivery.id.to_string();
        let mut fields = vec![
            ("idempotency-key", format!("\"{id}\"")),
            ("tidegate-change", id.clone()),
            ("tidegate-key", field_value(delivery.key)),
            ("tidegate-sequence", delivery.sequence.to_string()),
            ("tidegate-attempt", delivery.attempt.to_string()),
            ("tidegate-source", field_value(&delivery.head.source)),
        ];
        if delivery.replay {
            fields.push(("tidegate-replay", "1".to_owned()));
        }
        if !self.keys.is_empty() {
            let timestamp = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let signature = signatures(&self.keys, &id, timestamp, &delivery.body);
            fields.push(("webhook-timestamp", timestamp.to_string()));
            fields.push(("webhook-signature", signature));
            fields.push(("webhook-id", id));
        }
        fields
    }
}

/// Whether a request of this method without content says so (RFC 9110 8.6).
fn expects_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Of a request's fields those that describe its content, which is an event's data, and its trace.
fn content_fields(fields: &HeaderMap) -> HeaderMap {
    let goes = |name: &str| name.starts_with("content-") || trace::is_field(name);
    let named = fields.iter().filter(|(name, _)| goes(name.as_str()));
    named.map(|(name, value)| (name.clone(), value.clone())).collect()
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
            let pair = [decoded(url.username()), b":".to_vec(), decoded(url.password().unwrap_or_default())]
                .concat();
            Secret::new(format!("Basic {}", STANDARD.encode(pair)))
        };
        Self {
            origin: format!("{}://{authority}", url.scheme()),
            path: url.path().to_owned(),
            query: url.query().map(str::to_owned),
            authorization: has_user.then(basic),
        }
    }

    /// The URL without its user info.
    fn itself(&self) -> String {
        let separator = if self.query.is_some() { "?" } else { "" };
        format!("{}{}{separator}{}", self.origin, self.path, self.query.as_deref().unwrap_or_default())
    }

    /// Where a change goes: its path behind the base path, its query behind the base's own.
    fn target(&self, path_and_query: &str) -> String {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut target = format!("{}{}{path}", self.origin, self.path.trim_end_matches('/'));
        let mut separator = '?';
        for query in [self.query.as_deref(), query].into_iter().flatten() {
            target.push(separator);
            target.push_str(query);
            separator = '&';
        }
        target
    }
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
    fn events_go_to_the_url_itself() {
        for (url, target) in [
            ("http://me:canary@h:1/hooks/?t=1", "http://h:1/hooks/?t=1"),
            ("http://h", "http://h/"),
            ("https://h/a%2Fb", "https://h/a%2Fb"),
        ] {
            assert_eq!(Base::of(&url::Url::parse(url).unwrap()).itself(), target);
        }
    }

    #[test]
    fn user_info_becomes_a_field() {
        let base = Base::of(&url::Url::parse("http://me:p%40ss@h/").unwrap());
        assert_eq!(base.authorization.unwrap().expose(), "Basic bWU6cEBzcw==");
        assert_eq!(base.origin, "http://h");
    }

    #[test]
    fn an_event_has_all_values_of_its_contents_fields() {
        let given =
            [("content-language", "de"), ("content-language", "en"), ("accept", "x"), ("prefer", "y")];
        let fields: HeaderMap = given
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .into_iter()
            .collect();
        let kept = content_fields(&fields);
        assert_eq!(kept.get_all("content-language").iter().count(), 2);
        assert_eq!(kept.len(), 2);
    }
}
