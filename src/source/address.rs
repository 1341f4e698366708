//! One address of a source: what its URL says, and how busy it is.

use crate::clock::Timestamp;
use crate::secret::Endpoint;
use crate::target;
use crate::telemetry::metrics as names;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use metrics::{Counter, Gauge, counter, gauge};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Whether an address is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is.
    In,
    /// It is ejected.
    Out,
}

/// One address of a source (one of its `urls`).
#[derive(Debug)]
pub(super) struct Address {
    scheme: Scheme,
    authority: Option<Authority>,
    /// What is connected to.
    origin: Option<Uri>,
    /// Its authority as a Host.
    host: Option<HeaderValue>,
    /// The base path, without a slash at its end.
    base: String,
    /// Scheme, authority and base path: no user info, no query.
    shown: Arc<str>,
    in_flight: AtomicUsize,
    /// Until when, in milliseconds, pooled connections are thought to be closed.
    worn_until: AtomicU64,
    /// How many heads have come.
    heads: AtomicU64,
    failures: Counter,
    ejected: Gauge,
}

impl Address {
    pub(super) fn new(source: &str, url: &Endpoint) -> Self {
        let url = url.expose();
        let authority = authority(url);
        let base = url.path().strip_suffix('/').unwrap_or_else(|| url.path()).to_owned();
        let shown = format!("{}://{authority}{base}", url.scheme());
        let labels = [("source", source.to_owned()), ("address", shown.clone())];
        let ejected = gauge!(names::SOURCE_EJECTED, &labels);
        ejected.set(0.0);
        let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        let origin = Uri::builder().scheme(scheme.clone()).authority(authority.as_str()).path_and_query("/");
        Self {
            scheme,
            origin: origin.build().ok(),
            host: HeaderValue::from_str(&authority).ok(),
            authority: authority.parse().ok(),
            base,
            in_flight: AtomicUsize::new(0),
            worn_until: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            failures: counter!(names::SOURCE_FAILURES, &labels),
            ejected,
            shown: shown.into(),
        }
    }

    pub(super) fn scheme(&self) -> target::Scheme {
        if self.scheme == Scheme::HTTPS { target::Scheme::Https } else { target::Scheme::Http }
    }

    /// `host[:port]`.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_ref().map_or("", Authority::as_str)
    }

    /// The base path, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// How it is named in logs and metrics.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The same, shared.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.shown)
    }

    /// How many requests are under way, the bodies of their answers included.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A pooled connection had been closed by the source: until then others may have been, too.
    pub(super) fn wore_out(&self, until: Timestamp) {
        self.worn_until.fetch_max(until.as_millis(), Ordering::Relaxed);
    }

    /// Whether pooled connections may be closed without anybody having seen it.
    pub(super) fn is_worn(&self, now: Timestamp) -> bool {
        now.as_millis() < self.worn_until.load(Ordering::Relaxed)
    }

    /// A head has come.
    pub(super) fn has_answered(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
    }

    /// How many heads have come.
    pub(super) fn heads(&self) -> u64 {
        self.heads.load(Ordering::Relaxed)
    }

    /// Counts an exchange that failed.
    pub(super) fn failed(&self) {
        self.failures.increment(1);
    }

    /// Shows where it stands.
    pub(super) fn show(&self, standing: Standing) {
        self.ejected.set(match standing {
            Standing::In => 0.0,
            Standing::Out => 1.0,
        });
    }

    /// Where connections are made to; `None` where no URI can say it.
    pub(super) const fn origin(&self) -> Option<&Uri> {
        self.origin.as_ref()
    }

    /// The Host of its own.
    pub(super) const fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// What is asked for here: a path and query, the base path in front; `None` where no URI can say it.
    pub(super) fn target(&self, path: &PathAndQuery) -> Option<Uri> {
        Some(Uri::from(match self.base.as_str() {
            "" => path.clone(),
            base => format!("{base}{path}").parse().ok()?,
        }))
    }
}

/// `host[:port]` of a URL.
fn authority(url: &url::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A request under way at an address, its answer's body included.
#[derive(Debug)]
pub(super) struct Load(Arc<Address>);

impl Load {
    pub(super) fn new(address: &Arc<Address>) -> Self {
        address.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(address))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_kept_in_front_and_user_info_is_not_shown() {
        for (url, path, origin, asked, shown) in [
            ("http://h", "/a?b", "http://h/", "/a?b", "http://h"),
            ("http://h:80/", "/a", "http://h/", "/a", "http://h"),
            (
                "https://h:8443/v2/",
                "/a%2Fb//c?d=%20",
                "https://h:8443/",
                "/v2/a%2Fb//c?d=%20",
                "https://h:8443/v2",
            ),
            ("http://me:canary@[::1]:9/v1", "/", "http://[::1]:9/", "/v1/", "http://[::1]:9/v1"),
        ] {
            let url = Endpoint::new(url::Url::parse(url).unwrap());
            let address = Address::new("s", &url);
            let target = address.target(&path.parse().unwrap()).unwrap();
            assert_eq!(address.origin().unwrap().to_string(), origin);
            assert_eq!(address.host().unwrap(), address.authority());
            assert_eq!((target.to_string().as_str(), address.shown()), (asked, shown));
        }
    }
}
