//! `[[destination]]`.

use super::Check;
use super::scalar::{Bound, HeaderSide};
use super::tls::ClientGiven;
use crate::config::file::{self, AllowKnown, Destination};
use crate::config::given::{Given, Hidden};
use crate::sync;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// The most deliveries at once to one destination.
const CONCURRENCY_MAX: i64 = 10_000;
/// The new secret and, while it is taken up, the old one.
const SECRETS_MAX: usize = 2;

impl Check<'_, '_> {
    pub(super) fn destination(&mut self, given: &Destination) -> Option<sync::DestinationSettings> {
        let url = self.endpoint(&given.url);
        let (ca, cert, key) = (given.ca.as_ref(), given.cert.as_ref(), given.key.as_ref());
        let tls = self.client_tls(&ClientGiven { ca, cert, key }, &[&given.url]);
        let settings = sync::DestinationSettings {
            name: given.name.to_string(),
            format: Self::format(&given.format),
            concurrency: self.count(&given.concurrency, 1..=CONCURRENCY_MAX),
            timeout: self.duration(&given.timeout, Bound::Positive),
            on_failure: match *given.on_failure {
                file::OnFailure::ParkKey => sync::OnFailure::ParkKey,
                file::OnFailure::Block => sync::OnFailure::Block,
                file::OnFailure::Skip => sync::OnFailure::Skip,
            },
            retry: self.retry(&given.retry),
            breaker: self.breaker(&given.breaker),
            backlog_bytes: given.backlog.as_ref().map(|backlog| self.size(backlog, Bound::Positive)),
            start: match *given.from {
                file::From::Now => sync::Start::Now,
                file::From::Retention => sync::Start::Retention { routes: self.routes_to(&given.name) },
            },
            rate: given.rate.as_ref().map(|rate| self.rate(rate)),
            secrets: self.signing_keys(&given.secrets),
            allow: self.allow(&given.allow),
            outcome: self.outcome(&given.outcome),
            headers: self.headers(&given.headers, HeaderSide::Destination),
            tls: tls?,
            url: url?,
        };
        Some(settings)
    }

    pub(super) fn retry(&mut self, given: &file::Retry) -> sync::RetrySettings {
        let settings = sync::RetrySettings {
            base: self.duration(&given.base, Bound::Positive),
            cap: self.duration(&given.cap, Bound::Positive),
            give_up: self.duration(&given.give_up, Bound::ZeroAllowed),
            after_cap: self.duration(&given.after_cap, Bound::ZeroAllowed),
            attempts: given.attempts.as_ref().map(|attempts| self.count(attempts, 1..=i64::from(u32::MAX))),
        };
        if settings.cap < settings.base {
            self.report.fault(&given.cap.span, "is shorter than base", "make it at least as long");
        }
        settings
    }

    fn breaker(&mut self, given: &file::Breaker) -> sync::BreakerSettings {
        let settings = sync::BreakerSettings {
            failures: self.count(&given.failures, 1..=i64::from(u32::MAX)),
            open: self.duration(&given.open, Bound::Positive),
            open_cap: self.duration(&given.open_cap, Bound::Positive),
        };
        if settings.open_cap < settings.open {
            self.report.fault(&given.open_cap.span, "is shorter than open", "make it at least as long");
        }
        settings
    }

    /// The routes that name a destination.
    fn routes_to(&self, name: &str) -> Vec<String> {
        let names_it = |sync: &file::RouteSync| sync.destinations.iter().any(|it| it.as_str() == name);
        let routes =
            self.file.route.iter().filter(|route| route.sync.as_ref().is_some_and(|it| names_it(it)));
        routes.map(|route| route.name.to_string()).collect()
    }

    fn format(given: &Given<file::Format>) -> sync::Format {
        match **given {
            file::Format::Replay => sync::Format::Replay,
            file::Format::CloudEvents => sync::Format::CloudEvents,
            file::Format::State => sync::Format::State,
        }
    }

    fn rate(&mut self, given: &file::Rate) -> sync::RateSettings {
        let requests: u32 = self.count(&given.requests, 1..=i64::from(u32::MAX));
        sync::RateSettings {
            requests: NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN),
            per: self.duration(&given.per, Bound::Positive),
        }
    }

    /// An empty secret counts as left out.
    fn signing_keys(&mut self, given: &[Given<Hidden>]) -> Vec<sync::SigningKey> {
        let mut keys = Vec::new();
        for secret in given.iter().filter(|secret| secret.secret().is_some()) {
            match sync::SigningKey::parse(secret.expose()) {
                Ok(key) => keys.push(key),
                Err(cause) => {
                    let remedy = "write whsec_ and 24 to 64 random bytes in base64";
                    self.report.refuse(&secret.span, cause.to_string(), remedy);
                }
            }
            if keys.len() > SECRETS_MAX {
                let message = "is one too many: the new one and the old one sign";
                self.report.fault(&secret.span, message, "leave the oldest out");
            }
        }
        keys
    }

    fn allow(&mut self, given: &Given<file::Allow>) -> sync::Allow {
        let networks = match &**given {
            file::Allow::Known(AllowKnown::Any) => return sync::Allow::Any,
            file::Allow::Known(AllowKnown::Public) => return sync::Allow::Public,
            file::Allow::Networks(networks) => networks,
        };
        if networks.is_empty() {
            let remedy = "write \"any\", \"public\" or a list such as [\"10.0.0.0/8\"]";
            self.report.fault(&given.span, "lets no address through", remedy);
        }
        let parsed = networks.iter().filter_map(|text| {
            let network = self.network(&given.span, text)?;
            if !sync::Allow::can_match(&network) {
                let message = "has a network that stands for IPv4 addresses, which are judged as such";
                self.report.fault(&given.span, message, "write the network of IPv4");
            }
            Some(network)
        });
        sync::Allow::Networks(parsed.collect())
    }

    fn outcome(&mut self, given: &BTreeMap<String, Given<file::Class>>) -> BTreeMap<u16, sync::Class> {
        let mut classes = BTreeMap::new();
        for (text, class) in given {
            let status = text.parse::<u16>().ok().filter(|status| (200..=599).contains(status));
            match status {
                // Nothing but three digits: a second spelling could say something else.
                Some(status) if text.len() == 3 => {
                    classes.insert(status, class_of(**class));
                }
                Some(_) | None => {
                    let message = "its key is no status that an answer ends with";
                    self.report.refuse(&class.span, message, "write one from 200 to 599, such as \"409\"");
                }
            }
        }
        classes
    }
}

const fn class_of(given: file::Class) -> sync::Class {
    match given {
        file::Class::Delivered => sync::Class::Delivered,
        file::Class::Absent => sync::Class::Absent,
        file::Class::Retry => sync::Class::Retry,
        file::Class::Hold => sync::Class::Hold,
        file::Class::Superseded => sync::Class::Superseded,
        file::Class::Permanent => sync::Class::Permanent,
    }
}
