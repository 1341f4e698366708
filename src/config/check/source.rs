//! `[[source]]`.

use super::Check;
use super::scalar::{Bound, HeaderSide};
use super::tls::ClientGiven;
use crate::config::file::{self, Health, Source};
use crate::config::given::{Address, Given};
use crate::secret::Endpoint;
use crate::target::Scheme;
use crate::{source, sync};
use std::time::Duration;

/// How often an address is checked at most.
const CHECK_EVERY_MIN: Duration = Duration::from_millis(100);

/// The most requests at once to one source.
const CONCURRENCY_MAX: i64 = 65_535;

impl Check<'_, '_> {
    pub(super) fn source(&mut self, given: &Source) -> Option<source::Settings> {
        let urls = self.addresses(&given.urls);
        let (ca, cert, key) = (given.ca.as_ref(), given.cert.as_ref(), given.key.as_ref());
        let tls = self.client_tls(&ClientGiven { ca, cert, key }, &given.urls.iter().collect::<Vec<_>>());
        let health = given.health.as_ref().map(|health| self.health(health));
        let settings = source::Settings {
            name: given.name.to_string(),
            connect_timeout: self.duration(&given.connect_timeout, Bound::Positive),
            timeout: self.duration(&given.timeout, Bound::Positive),
            body_idle: self.duration(&given.body_idle, Bound::Positive),
            concurrency: self.count(&given.concurrency, 1..=CONCURRENCY_MAX),
            concurrency_mode: match *given.concurrency_mode {
                file::ConcurrencyMode::Fixed => source::ConcurrencyMode::Fixed,
                file::ConcurrencyMode::Adaptive => source::ConcurrencyMode::Adaptive,
            },
            idle_timeout: self.duration(&given.idle_timeout, Bound::ZeroAllowed),
            host: match given.host.as_str() {
                "client" => source::HostSent::Client,
                "source" => source::HostSent::Source,
                _ => source::HostSent::Name(self.authority(&given.host, Scheme::Http)),
            },
            headers: self.headers(&given.headers, HeaderSide::Source),
            health: match health {
                Some(health) => Some(health?),
                None => None,
            },
            tls: tls?,
            urls: urls?,
        };
        Some(settings)
    }

    /// How its accepted writes are sent to it; faults of what both need are found by [`Self::source`].
    pub(super) fn accepted_writes(&mut self, given: &Source) -> sync::SourceSettings {
        sync::SourceSettings {
            name: given.name.to_string(),
            concurrency: usize::try_from(*given.concurrency).unwrap_or(1),
            repeats: if *given.idempotent { sync::Repeats::ByKey } else { sync::Repeats::ByMethod },
            retry: self.retry(&given.retry),
            addresses: if given.urls.len() == 1 { sync::Addresses::One } else { sync::Addresses::Several },
        }
    }

    /// Each address once, at least one.
    fn addresses(&mut self, given: &Given<Vec<Given<Address>>>) -> Option<Vec<Endpoint>> {
        if given.is_empty() {
            let remedy = "write urls = [\"http://127.0.0.1:9001\"]";
            self.report.fault(&given.span, "a source needs a URL", remedy);
        }
        if let Some(first_too_many) = given.get(source::ADDRESSES_MAX) {
            let message = format!("a source has at most {} URLs", source::ADDRESSES_MAX);
            self.report.fault(&first_too_many.span, message, "leave out the rest");
        }
        let urls: Vec<Option<Endpoint>> = given.iter().map(|url| self.endpoint(url)).collect();
        for (at, url) in urls.iter().enumerate() {
            let is_again = url.is_some() && urls.iter().take(at).any(|earlier| earlier == url);
            if let Some(given) = given.get(at).filter(|_| is_again) {
                self.report.fault(&given.span, "is there twice", "leave one of them out");
            }
        }
        urls.into_iter().collect()
    }

    fn health(&mut self, given: &Given<Health>) -> Option<source::HealthSettings> {
        let every = self.duration(&given.every, Bound::Positive);
        if !every.is_zero() && every < CHECK_EVERY_MIN {
            let message = format!("must be at least {}ms", CHECK_EVERY_MIN.as_millis());
            self.report.fault(&given.every.span, message, "write one such as \"5s\"");
        }
        let path = self.path(&given.path);
        let parsed = path.parse().ok();
        if parsed.is_none() && !path.is_empty() {
            self.report.fault(&given.path.span, "is too long for a URI", "write a shorter one");
        }
        Some(source::HealthSettings { path: parsed?, every })
    }
}
