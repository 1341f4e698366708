//! The active check: a GET for each address now and then, on a connection of its own. Beside the places
//! for requests: at most one check of an address is under way.

use super::Source;
use super::address::Address;
use super::body::{RequestBody, empty};
use super::connector::Connector;
use super::draft::Line;
use super::ejection::{Outage, Report};
use super::exchange::Until;
use super::pool::{Client, Unanswered};
use super::settings::{HealthSettings, HostSent};
use crate::telemetry::metrics as names;
use http::header::{HOST, USER_AGENT, VIA};
use http::{HeaderValue, Request};
use metrics::{Counter, counter};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// The longest that a check takes; at most until the next one.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Who asks, for the source's log.
const AGENT: HeaderValue = HeaderValue::from_static("tidegate-health-check");

/// The active check of one address.
pub(super) struct Check {
    source: Arc<Source>,
    settings: HealthSettings,
    number: usize,
    client: Client,
    good: Counter,
    failed: Counter,
}

impl Check {
    /// The checks of a source that are configured: one for each address.
    pub(super) fn of(source: &Arc<Source>) -> Vec<Self> {
        let Some(settings) = &source.settings().health else { return Vec::new() };
        let (timeout, tls) = (source.settings().connect_timeout.min(CHECK_TIMEOUT), &source.settings().tls);
        let connector = Connector::new(timeout, tls);
        let client = Client::new(connector, 0, source.settings().idle_timeout);
        let addresses = source.addresses.list().iter().enumerate();
        let checks = addresses.map(|(number, address)| {
            let counted = |result: &'static str| {
                let source = source.settings().name.clone();
                let address = address.shown().to_owned();
                counter!(names::SOURCE_CHECKS, "source" => source, "address" => address, "result" => result)
            };
            Self {
                source: Arc::clone(source),
                settings: settings.clone(),
                number,
                client: client.clone(),
                good: counted("good"),
                failed: counted("failed"),
            }
        });
        checks.collect()
    }

    /// Checks until it is dropped.
    pub(super) async fn run(self) {
        let mut tick = tokio::time::interval(self.settings.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let report = self.once().await;
            match report {
                Report::Well => self.good.increment(1),
                Report::Unwell | Report::Missing(_) | Report::Overdue | Report::Nothing => {
                    self.failed.increment(1);
                }
            }
            self.source.addresses.checked(self.number, report);
        }
    }

    /// Good is 2xx in time; content is not read.
    async fn once(&self) -> Report {
        let Some(address) = self.source.addresses.list().get(self.number) else { return Report::Nothing };
        let Some(request) = self.request(address) else { return Report::Nothing };
        let until = Until::after(self.settings.every.min(CHECK_TIMEOUT));
        // No connection is kept: whether a new one can be made is part of the question.
        match self.client.send(address, request, Line::Own, until).await {
            Ok((answer, _)) if answer.status().is_success() => Report::Well,
            Ok(_) => Report::Unwell,
            Err(Unanswered::Late) => Report::Missing(Outage::Silent),
            Err(Unanswered::Unconnected(_) | Unanswered::Closed(..)) => Report::Missing(Outage::Disconnected),
        }
    }

    fn request(&self, address: &Address) -> Option<Request<RequestBody>> {
        let mut request = Request::new(empty());
        *request.uri_mut() = address.target(&self.settings.path)?;
        let settings = self.source.settings();
        let fields = request.headers_mut();
        super::own_fields(settings, fields);
        let host = match &settings.host {
            HostSent::Client | HostSent::Source => address.authority(),
            HostSent::Name(name) => name,
        };
        fields.insert(HOST, HeaderValue::from_str(host).ok()?);
        fields.insert(USER_AGENT, AGENT);
        fields.insert(VIA, HeaderValue::from_static("1.1 tidegate"));
        Some(request)
    }
}
