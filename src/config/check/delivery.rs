//! `[[destination]]`.

use super::Check;
use super::scalar::{Bound, HeaderSide};
use crate::config::file::{self, Allow, AllowKnown, Class, Destination, Format};
use crate::sync;

/// The most deliveries at once to one destination.
const CONCURRENCY_MAX: i64 = 10_000;

impl Check<'_, '_> {
    pub(super) fn destination(&mut self, given: &Destination) -> Option<sync::DestinationSettings> {
        self.refuse_unsupported(given);
        let url = self.endpoint(&given.url);
        let settings = sync::DestinationSettings {
            name: given.name.to_string(),
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
            headers: self.headers(&given.headers, HeaderSide::Destination),
            url: url?,
        };
        Some(settings)
    }

    fn retry(&mut self, given: &file::Retry) -> sync::RetrySettings {
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

    /// Checks what has no effect yet as if it had, then refuses it.
    fn refuse_unsupported(&mut self, given: &Destination) {
        match *given.format {
            Format::Replay => {}
            Format::State | Format::CloudEvents => {
                self.unsupported(&given.format.span, "formats other than replay", "write \"replay\"");
            }
        }
        if let Some(rate) = &given.rate {
            self.count::<u32>(&rate.requests, 1..=i64::from(u32::MAX));
            self.duration(&rate.per, Bound::Positive);
            self.unsupported(&rate.span, "a rate of attempts", "leave it out");
        }
        for secret in given.secrets.iter().filter(|secret| secret.secret().is_some()) {
            if secret.expose().strip_prefix("whsec_").is_none_or(str::is_empty) {
                let remedy = "write whsec_ and the key in base64";
                self.report.refuse(&secret.span, "does not begin with whsec_", remedy);
            }
            self.unsupported(&secret.span, "signatures of deliveries", "leave secrets out");
        }
        self.allow(given);
        for (status, class) in &given.outcome {
            if !status.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status)) {
                self.report.refuse(&class.span, "its key is no status", "write one such as \"409\"");
            }
            match **class {
                Class::Delivered
                | Class::Absent
                | Class::Retry
                | Class::Hold
                | Class::Superseded
                | Class::Permanent => {
                    self.unsupported(&class.span, "other classes for statuses", "leave outcome out");
                }
            }
        }
    }

    /// The routes that name a destination.
    fn routes_to(&self, name: &str) -> Vec<String> {
        let names_it = |sync: &file::RouteSync| sync.destinations.iter().any(|it| it.as_str() == name);
        let routes =
            self.file.route.iter().filter(|route| route.sync.as_ref().is_some_and(|it| names_it(it)));
        routes.map(|route| route.name.to_string()).collect()
    }

    fn allow(&mut self, given: &Destination) {
        match &*given.allow {
            Allow::Known(AllowKnown::Any) => return,
            Allow::Known(AllowKnown::Public) => {}
            Allow::Networks(networks) => {
                for network in networks {
                    self.network(&given.allow.span, network);
                }
            }
        }
        self.unsupported(&given.allow.span, "bounds of the addresses connected to", "write \"any\"");
    }
}
