//! `[telemetry]`.

use super::Check;
use super::scalar::HeaderSide;
use super::tls::ClientGiven;
use crate::config::file::Telemetry;
use crate::telemetry::spans;
use http::{HeaderValue, Uri};

/// Of how many requests one may begin a trace.
const ONE_IN_MAX: i64 = 1_000_000;

/// What OTLP over HTTP appends to the base of its endpoint.
const TRACES: &str = "/v1/traces";

impl Check<'_, '_> {
    /// `None` where no spans are recorded.
    pub(super) fn spans(&mut self, given: &Telemetry) -> Option<spans::Settings> {
        let one_in = self.count(&given.one_in, 0..=ONE_IN_MAX);
        self.name(&given.service);
        let headers = self.headers(&given.headers, HeaderSide::Source);
        let otlp = given.otlp.as_ref()?;
        if !cfg!(feature = "otlp") {
            let remedy = "take a build with the feature \"otlp\", or leave it out";
            self.report.fault(&otlp.span, "this build cannot send spans", remedy);
        }
        let url = self.endpoint(otlp)?;
        let mut url = url.expose().clone();
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            let remedy = "write what authenticates as headers = { authorization = \"Bearer ..\" }";
            self.report.fault(&otlp.span, "has user info or a query", remedy);
        }
        if url.path() == "/" {
            url.set_path(TRACES);
        }
        let Ok(endpoint) = url.as_str().parse::<Uri>() else {
            self.report.fault(&otlp.span, "is too long for a URI", "write a shorter one");
            return None;
        };
        let files = ClientGiven { ca: given.ca.as_ref(), cert: None, key: None };
        let tls = self.client_tls(&files, &[otlp])?.config();
        let headers = headers.into_iter().filter_map(|(name, value)| {
            // A value that no field may have has its fault.
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        Some(spans::Settings {
            endpoint,
            tls,
            headers: headers.collect(),
            one_in,
            service: given.service.to_string(),
        })
    }
}
