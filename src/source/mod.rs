//! A source: its addresses and connections, how many requests it gets at once, how long it may take,
//! what is sent again, and when it is left alone.
//!
//! ```text
//! admit -> breaker open?      Open, at once
//!       -> places             Busy, when none is free before the deadline; Yielded, when none is free now
//! send  -> addresses          one of those that are in; a probe where one is due
//!       -> exchange           a head: the answer, its place held until its body has ended
//!           failed -> retry   another address or connection, within rule, budget and deadline
//! ```

mod address;
mod addresses;
mod body;
mod connector;
mod draft;
mod ejection;
mod error;
mod exchange;
mod framing;
mod health;
mod limit;
mod link;
mod pass;
mod places;
mod pool;
mod retry;
mod settings;
mod strictness;
mod switch;
mod usual;

pub use addresses::Visited;
pub use body::{BodyError, RequestBody, SourceBody, Upload, empty, full};
pub use draft::Besides;
pub use ejection::{ADDRESSES_MAX, Outage};
pub use error::SourceError;
pub use exchange::OnInterim;
pub use pass::Pass;
pub use places::Urgency;
pub use settings::{ConcurrencyMode, HealthSettings, HostSent, Settings};
pub use switch::{Asks, Protocol, ProtocolError, Tunnel};

use crate::clock::Clock;
use crate::explanation::SourceHealth;
use crate::target::{Scheme, Target};
use crate::telemetry::metrics as names;
use addresses::Addresses;
use connector::Connector;
use exchange::Patience;
use health::Check;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use metrics::{Counter, counter};
use places::Places;
use pool::Client;
use retry::Budget;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use usual::Usual;

/// A source that can be asked. One owner of its addresses, its pool and its places.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    addresses: Arc<Addresses>,
    client: Client,
    places: Arc<Places>,
    budget: Arc<Budget>,
    counted: Arc<Counted>,
    usual: Arc<Usual>,
    clock: Clock,
}

/// Metric handles, made once.
#[derive(Debug)]
struct Counted {
    head_seconds: metrics::Histogram,
    busy: Counter,
    open: Counter,
    again: Counter,
    over_budget: Counter,
    early_ends: Arc<body::Broken>,
}

impl Counted {
    fn new(source: &str) -> Self {
        let source = source.to_owned();
        let refused = |reason: &'static str| counter!(names::SOURCE_REFUSED, "source" => source.clone(), "reason" => reason);
        let retries = |result: &'static str| counter!(names::SOURCE_RETRIES, "source" => source.clone(), "result" => result);
        Self {
            busy: refused("busy"),
            open: refused("breaker"),
            again: retries("sent"),
            over_budget: retries("over-budget"),
            early_ends: body::Broken::new(&source),
            head_seconds: metrics::histogram!(names::SOURCE_SECONDS, "source" => source.clone()),
        }
    }
}

impl Source {
    /// Prepares a source; connects to nothing yet.
    #[must_use]
    pub fn new(settings: Settings, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            addresses: Arc::new(Addresses::new(&settings.name, &settings.urls, clock.clone())),
            client: client(&settings),
            places: Arc::new(Places::new(&settings.name, settings.concurrency, settings.concurrency_mode)),
            budget: Arc::default(),
            counted: Arc::new(Counted::new(&settings.name)),
            usual: Arc::default(),
            settings,
            clock,
        })
    }

    /// The same source with other settings. Breaker, ejections, places, what was learned of it and, where it
    /// is reached as before, its connections go on. Places are of one number for both: the new one, at once.
    #[must_use]
    pub fn succeed(&self, settings: Settings) -> Arc<Self> {
        let old = &self.settings;
        let is_reached_alike = (old.connect_timeout, old.idle_timeout, old.concurrency)
            == (settings.connect_timeout, settings.idle_timeout, settings.concurrency)
            && old.tls == settings.tls;
        let client = if is_reached_alike { self.client.clone() } else { client(&settings) };
        self.places.resize(settings.concurrency, settings.concurrency_mode);
        let addresses = self.addresses.succeed(&settings.urls);
        if settings.health.is_none() {
            addresses.forget_checks();
        }
        Arc::new(Self {
            addresses,
            client,
            places: Arc::clone(&self.places),
            budget: Arc::clone(&self.budget),
            counted: Arc::clone(&self.counted),
            usual: Arc::clone(&self.usual),
            settings,
            clock: self.clock.clone(),
        })
    }

    /// It is not configured any more: its gauges tell nothing of it from now on.
    pub fn retire(&self) {
        self.addresses.retire();
        self.places.retire();
    }

    /// Brings the gauges that time alone moves up to now.
    pub fn observe(&self) {
        self.addresses.observe();
    }

    /// How it is configured.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// After how long a head is overdue: the larger of 1 s and 3 times what is usual.
    #[must_use]
    pub fn overdue_after(&self) -> Duration {
        self.usual.overdue_after()
    }

    /// How it is now, for operators; decides nothing.
    #[must_use]
    pub fn health(&self) -> SourceHealth {
        let (breaker, addresses) = self.addresses.look();
        SourceHealth {
            name: self.settings.name.clone(),
            breaker: breaker.as_str().to_owned(),
            addresses,
            active: self.places.active(),
            waiting: self.places.waiting(),
            concurrency: self.places.in_force(),
        }
    }

    /// How it failed, where its breaker keeps requests away from it now; decides nothing.
    #[must_use]
    pub fn outage(&self) -> Option<Outage> {
        self.addresses.refusal()
    }

    /// Whether a request would find a place at once.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.places.has_spare()
    }

    /// The active checks that are configured, one for each address: each runs until it is dropped.
    pub fn checks(self: &Arc<Self>) -> impl Iterator<Item = impl Future<Output = ()> + Send + 'static> {
        Check::of(self).into_iter().map(Check::run)
    }

    /// How many per cent of the places are in use.
    #[must_use]
    pub fn load_percent(&self) -> usize {
        self.places.load_percent()
    }

    /// A canonical path and query as the URI of a request; `None` where no URI can say it.
    #[must_use]
    pub fn uri(&self, path_and_query: &str) -> Option<Uri> {
        path_and_query.parse::<PathAndQuery>().ok().map(Uri::from)
    }

    /// The base paths that are put in front, each once, without a slash at the end.
    pub fn base_paths(&self) -> Vec<&str> {
        let mut bases: Vec<&str> = self.addresses.list().iter().map(|address| address.base()).collect();
        bases.sort_unstable();
        bases.dedup();
        bases
    }

    /// What a target that the source names is without the base path that is put in front.
    #[must_use]
    pub fn without_base(&self, target: Target) -> Target {
        let path = target.path().to_owned();
        let is_below = |base: &&str| {
            let rest = path.strip_prefix(*base);
            !base.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // Of two that fit the longer says more.
        match self.base_paths().into_iter().filter(is_below).max_by_key(|base| base.len()) {
            Some(base) => target.strip(base),
            None => target,
        }
    }

    /// `host[:port]` of its first URL.
    #[must_use]
    pub fn authority(&self) -> String {
        self.authorities().next().map(|(_, authority)| authority).unwrap_or_default()
    }

    /// Scheme and `host[:port]` of each of its URLs.
    pub fn authorities(&self) -> impl Iterator<Item = (Scheme, String)> {
        let addresses = self.addresses.list().iter();
        addresses.map(|address| (address.scheme(), address.authority().to_owned()))
    }

    /// A place toward the source for a request that must have its head within `timeout`: waiting for the place,
    /// connecting and retries included.
    ///
    /// # Errors
    /// [`SourceError::Open`], [`SourceError::Busy`]; [`SourceError::Yielded`] where nobody waits for it.
    pub async fn admit(&self, timeout: Duration, urgency: Urgency) -> Result<Pass<'_>, SourceError> {
        let patience = Patience { deadline: Instant::now() + timeout, timeout };
        if let Some(outage) = self.addresses.refusal() {
            return Err(self.refused(outage));
        }
        let place = match urgency {
            Urgency::Spare => self.places.take_spare()?,
            Urgency::Awaited => {
                let place = self.places.take(patience.deadline).await;
                place.inspect_err(|_| self.counted.busy.increment(1))?
            }
        };
        Ok(Pass::new(self, place, patience))
    }

    /// Sends a request, nothing besides, that somebody waits for ([`Source::admit`], [`Pass::send`]).
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        upload: Option<&Upload>,
    ) -> Result<Response<SourceBody>, SourceError> {
        let pass = self.admit(self.settings.timeout, Urgency::Awaited).await?;
        pass.send(request, Besides::default(), upload).await
    }

    fn refused(&self, outage: Outage) -> SourceError {
        self.counted.open.increment(1);
        SourceError::Open(outage)
    }
}

/// A client that keeps as many idle connections of each address as there may be requests.
fn client(settings: &Settings) -> Client {
    let connector = Connector::new(settings.connect_timeout, &settings.tls);
    Client::new(connector, settings.concurrency, settings.idle_timeout)
}

/// Adds the fields of Tidegate's own requests.
pub fn own_fields(settings: &Settings, fields: &mut HeaderMap) {
    for (name, value) in &settings.headers {
        if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
            value.set_sensitive(true);
            fields.insert(name.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests;
