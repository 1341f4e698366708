//! Single values: durations, sizes, counts, URLs, names of the wire.

use super::Check;
use crate::config::given::{Address, Given, Hidden, RedisUrl};
use crate::config::quantity;
use crate::redis::Server;
use crate::secret::{Endpoint, Secret};
use crate::target::{Authority, Scheme, canonical_path};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// The longest name.
pub(super) const NAME_BYTES_MAX: usize = 100;

/// Fields that a connection or Tidegate itself sets.
pub(super) const OWN_FIELDS: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// Fields, and beginnings of fields, that tell a destination about a change.
const DELIVERY_FIELDS: [&str; 4] = ["idempotency-key", "tidegate-", "webhook-", "ce-"];

/// Whether zero makes sense.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Positive,
    ZeroAllowed,
}

/// Whose requests a field is added to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderSide {
    Source,
    Destination,
}

impl Check<'_, '_> {
    pub(super) fn duration(&mut self, given: &Given<String>, bound: Bound) -> Duration {
        match quantity::duration(given) {
            None => {
                let message = "is no duration with a unit, up to ten years";
                self.report.fault(&given.span, message, "write one such as \"250ms\", \"30s\" or \"5m\"");
                Duration::ZERO
            }
            Some(Duration::ZERO) if bound == Bound::Positive => {
                self.report.fault(&given.span, "must be longer than zero", "write one such as \"1s\"");
                Duration::ZERO
            }
            Some(duration) => duration,
        }
    }

    pub(super) fn size(&mut self, given: &Given<String>, bound: Bound) -> u64 {
        match quantity::bytes(given) {
            None => {
                let message = "is no size with a unit";
                self.report.fault(&given.span, message, "write one such as \"512B\", \"32KiB\" or \"64MiB\"");
                0
            }
            Some(0) if bound == Bound::Positive => {
                self.report.fault(&given.span, "must be larger than zero", "write one such as \"1MiB\"");
                0
            }
            Some(bytes) => bytes,
        }
    }

    /// A size that is held in memory for each request.
    pub(super) fn size_up_to(&mut self, given: &Given<String>, most: u64) -> u64 {
        let bytes = self.size(given, Bound::Positive);
        if bytes > most {
            let message = format!("must be at most {}KiB", most >> 10);
            self.report.fault(&given.span, message, "write a smaller size");
        }
        bytes
    }

    /// A size with a least value.
    pub(super) fn size_from(&mut self, given: &Given<String>, least: u64) -> u64 {
        let bytes = self.size(given, Bound::Positive);
        if (1..least).contains(&bytes) {
            let message = format!("must be at least {}KiB", least >> 10);
            self.report.fault(&given.span, message, "write a larger size");
        }
        bytes
    }

    /// A number within bounds.
    pub(super) fn count<T: TryFrom<i64> + Default>(
        &mut self,
        given: &Given<i64>,
        bounds: RangeInclusive<i64>,
    ) -> T {
        match T::try_from(**given) {
            Ok(count) if bounds.contains(given) => count,
            Ok(_) | Err(_) => {
                let message = format!("must be from {} to {}", bounds.start(), bounds.end());
                self.report.fault(&given.span, message, "write a number within these bounds");
                T::default()
            }
        }
    }

    /// The URL of a source or destination; user info is allowed.
    pub(super) fn endpoint(&mut self, given: &Given<Address>) -> Option<Endpoint> {
        let remedy = "write one such as \"http://127.0.0.1:9001\"";
        let message = match given.url() {
            Err(cause) => format!("is no absolute URL: {cause}"),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                "must begin with http:// or https://".to_owned()
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => "has no host".to_owned(),
            Ok(url) if url.fragment().is_some() => "must not have a #fragment".to_owned(),
            Ok(url) if url.port() == Some(0) => "must not have port 0".to_owned(),
            Ok(url) => return Some(Endpoint::new(url)),
        };
        self.report.fault(&given.span, message, remedy);
        None
    }

    /// The URL of Redis, and the file of its authorities.
    pub(super) fn redis(&mut self, given: &Given<RedisUrl>, ca: Option<&Given<String>>) -> Option<Server> {
        let server = given.server();
        if let Err(fault) = &server {
            let remedy = "write one such as \"redis://127.0.0.1:6379\"";
            self.report.fault(&given.span, fault.to_string(), remedy);
        }
        let Some(ca) = ca else { return server.ok() };
        let pem = self.certificates(ca);
        let server = server.ok()?;
        if !server.is_encrypted() {
            let message = "authorities are named, but the connection to Redis is not encrypted";
            self.report.fault(&ca.span, message, "write rediss://, or leave it out");
        }
        Some(server.with_ca(pem?))
    }

    /// The text of a PEM file that has certificates.
    pub(super) fn certificates(&mut self, given: &Given<String>) -> Option<Vec<u8>> {
        let read = std::fs::read(self.base.join(given.as_str())).map_err(|cause| cause.to_string());
        let checked = read.and_then(|pem| {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            match all {
                Ok(certificates) if !certificates.is_empty() => Ok(pem),
                Ok(_) => Err("there is no certificate in the file".to_owned()),
                Err(cause) => Err(cause.to_string()),
            }
        });
        checked.map_err(|cause| self.unreadable(&given.span, &cause)).ok()
    }

    pub(super) fn unreadable(&mut self, span: &Range<usize>, cause: &str) {
        self.report.fault(span, format!("cannot be read: {cause}"), "name a PEM file that can be read");
    }

    pub(super) fn socket(&mut self, given: &Given<String>) -> Option<SocketAddr> {
        let address = given.parse().ok();
        if address.is_none() {
            let remedy = "write one such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\"";
            self.report.fault(&given.span, "is no IP address with a port", remedy);
        }
        address
    }

    /// The network that a value, or a part of one, names.
    pub(super) fn network(&mut self, span: &Range<usize>, text: &str) -> Option<IpNet> {
        let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if network.is_none() {
            self.report.fault(span, "is no CIDR", "write one such as \"10.0.0.0/8\" or \"fd00::/8\"");
        }
        network
    }

    /// `host[:port]`, canonical where this scheme is spoken.
    pub(super) fn authority(&mut self, given: &Given<String>, scheme: Scheme) -> String {
        match Authority::parse(given, scheme) {
            Ok(authority) => authority.as_str().to_owned(),
            Err(cause) => {
                let remedy = "write one such as \"api.example.com\"";
                self.report.fault(&given.span, cause.to_string(), remedy);
                String::new()
            }
        }
    }

    /// A path without a query, canonical.
    pub(super) fn path(&mut self, given: &Given<String>) -> String {
        self.path_text(given, given)
    }

    /// The path that a part of a value names.
    pub(super) fn path_text(&mut self, given: &Given<String>, text: &str) -> String {
        let remedy = "write one such as \"/items\"";
        if text.contains('?') {
            self.report.fault(&given.span, "a path has no query here", remedy);
        }
        canonical_path(text).unwrap_or_else(|cause| {
            self.report.fault(&given.span, cause.to_string(), remedy);
            String::new()
        })
    }

    /// A field name that is part of a value, such as `header:X-Api-Key`.
    pub(super) fn field_name(&mut self, given: &Given<String>, name: &str) -> Option<HeaderName> {
        let name = name.parse().ok();
        if name.is_none() {
            let remedy = "write one such as \"header:X-Api-Key\"";
            self.report.fault(&given.span, "is no name of a field", remedy);
        }
        name
    }

    /// Fields that are added to Tidegate's own requests. The values may be secrets.
    pub(super) fn headers(
        &mut self,
        given: &BTreeMap<String, Given<Hidden>>,
        side: HeaderSide,
    ) -> Vec<(HeaderName, Secret)> {
        let mut headers = Vec::with_capacity(given.len());
        for (name, value) in given {
            match name.parse::<HeaderName>() {
                Err(_) => self.report.fault(&value.span, "is no name of a field", "rename it"),
                Ok(name) if is_own_field(name.as_str(), side) => {
                    self.report.fault(&value.span, "is a field that Tidegate sets itself", "leave it out");
                }
                Ok(name) => headers.push((name, Secret::new(value.expose().to_owned()))),
            }
            if HeaderValue::from_str(value.expose()).is_err() {
                let message = "has a character that no field value may contain";
                self.report.fault(&value.span, message, "use visible ASCII characters, spaces and tabs");
            }
        }
        headers
    }
}

fn is_own_field(name: &str, side: HeaderSide) -> bool {
    let tells_of_change = || DELIVERY_FIELDS.iter().any(|field| name.starts_with(field));
    OWN_FIELDS.contains(&name) || (side == HeaderSide::Destination && tells_of_change())
}
