//! What happens to one request: `pipeline.rs` is its way.

mod accept;
mod accepted;
mod access_log;
mod activity;
mod background;
mod begun;
mod body;
mod cache_status;
mod connection;
mod content;
mod door;
mod entrance;
mod explain;
mod fast_path;
mod field_changes;
mod fill;
mod forward;
mod forwarded;
mod freshening;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gate;
mod idempotency;
mod in_force;
mod interim;
mod kept;
mod landing;
mod listener;
mod max_forwards;
mod metrics;
mod pace;
mod part;
mod pipeline;
mod problem;
mod proxy_status;
mod query;
mod ranged;
mod raw_answer;
mod read;
mod relay;
mod reply;
mod request;
pub mod route;
mod settings;
mod state;
mod strict;
mod told;
mod trailers;
mod tunnel;
mod upgrade;
mod wire;
mod write;
mod written;

pub use accepted::write_source;
pub use access_log::{AccessLogSettings, LogTarget, LoggedErrors};
pub use field_changes::FieldChanges;
pub use forwarded::is_unkeyed;
pub use in_force::InForce;
pub use settings::{Invalidates, Limits, RouteSettings, Settings};
pub use state::read_state;

use crate::access::{self, Access};
use crate::cache::collapse::Flights;
use crate::cache::{Cache, Purge, PurgeMode};
use crate::clock::{Clock, Timestamp};
use crate::in_flight::InFlight;
use crate::rate_limit::{Quotas, SharedQuotas};
use crate::secret::KeyedHash;
use crate::source::Source;
use crate::sync::{Engine, Fenced, Hold};
use crate::tls::Acceptor;
use access_log::AccessLog;
use background::Background;
use entrance::{Entrance, Place};
use landing::Landing;
use metrics::RouteMetrics;
use route::{Route, Routes};
use std::net::IpAddr;
use std::sync::Arc;
use strict::Refusal;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

/// The public side as one configuration says: what a request is answered by from its beginning to its end.
/// What is stored, counted and under way is shared with the one before and the next ([`InForce`]).
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    routes: Routes,
    access: Vec<Arc<Access>>,
    sources: Vec<Arc<Source>>,
    shared_quotas: Option<Arc<SharedQuotas>>,
    keyed_hash: KeyedHash,
    cache: Arc<Cache>,
    engine: Option<Arc<Engine>>,
    clock: Clock,
    flights: Arc<Flights<Landing>>,
    background: Background,
    in_flight: Arc<InFlight>,
    /// Fills and writes: work that no client owns.
    tasks: TaskTracker,
    entrance: Arc<Entrance>,
    tls: Option<Arc<Acceptor>>,
    /// `None`: nothing is logged.
    access_log: Option<Arc<AccessLog>>,
}

/// The other parts that a gateway uses.
#[derive(Debug)]
pub struct Parts {
    /// Stored responses.
    pub cache: Arc<Cache>,
    /// Changes; `None` where no route records any.
    pub engine: Option<Arc<Engine>>,
    /// Who has the data.
    pub sources: Vec<Arc<Source>>,
    /// What bodies may hold.
    pub in_flight: Arc<InFlight>,
    /// Quotas of several gateways; `None`: there is no Redis.
    pub shared_quotas: Option<Arc<SharedQuotas>>,
    /// What stands for clients in keys.
    pub keyed_hash: KeyedHash,
    /// Where "now" comes from.
    pub clock: Clock,
}

/// What a gateway does not share with the one before it.
#[derive(Debug)]
pub struct Others {
    /// Who has the data.
    pub sources: Vec<Arc<Source>>,
    /// Changes; `None` where no route has recorded any.
    pub engine: Option<Arc<Engine>>,
    /// Quotas of several gateways; `None`: no route has any.
    pub shared_quotas: Option<Arc<SharedQuotas>>,
}

impl Gateway {
    /// Builds the public side; listens to nobody yet. Routes whose source is missing are left out:
    /// the configuration's check has refused them.
    #[must_use]
    pub fn new(settings: Settings, parts: Parts) -> Arc<Self> {
        let quotas = |route: &RouteSettings| {
            Quotas::new(&route.name, &route.limits).with_shared(parts.shared_quotas.clone())
        };
        let now = parts.clock.now();
        let mut gateway = Self {
            routes: Routes(Vec::new()),
            access: settings.access.iter().map(|own| Access::new(own.clone(), None, now)).collect(),
            sources: parts.sources,
            shared_quotas: parts.shared_quotas.clone(),
            keyed_hash: parts.keyed_hash,
            cache: parts.cache,
            engine: parts.engine,
            clock: parts.clock,
            flights: Flights::new(),
            background: Background::new(),
            in_flight: parts.in_flight,
            tasks: TaskTracker::new(),
            entrance: Arc::new(Entrance::new()),
            tls: settings.tls.clone().map(|tls| Arc::new(Acceptor::new(tls))),
            access_log: AccessLog::new(&settings.access_log),
            settings,
        };
        gateway.routes = gateway.at_work(quotas);
        Arc::new(gateway)
    }

    /// The public side by other settings. Requests that are under way end with the one that they began with;
    /// both share what is stored, what is collapsed and what quotas have counted.
    #[must_use]
    pub fn succeed(&self, settings: Settings, others: Others) -> Arc<Self> {
        let Others { sources, engine, shared_quotas } = others;
        self.in_flight.resize(settings.limits.in_flight_bytes);
        let now = self.clock.now();
        let quotas = |route: &RouteSettings| match self.routes.named(&route.name) {
            Some(old) => {
                old.quotas.succeed(&route.name, &route.limits, now).with_shared(shared_quotas.clone())
            }
            None => Quotas::new(&route.name, &route.limits).with_shared(shared_quotas.clone()),
        };
        let mut gateway = Self {
            routes: Routes(Vec::new()),
            access: self.successors(&settings.access, now),
            sources,
            shared_quotas: shared_quotas.clone(),
            keyed_hash: self.keyed_hash.clone(),
            cache: Arc::clone(&self.cache),
            engine,
            clock: self.clock.clone(),
            flights: Arc::clone(&self.flights),
            background: self.background.clone(),
            in_flight: Arc::clone(&self.in_flight),
            tasks: self.tasks.clone(),
            entrance: Arc::clone(&self.entrance),
            tls: self.acceptor(&settings),
            access_log: match &self.access_log {
                Some(log) if self.settings.access_log == settings.access_log => Some(Arc::clone(log)),
                _ => AccessLog::new(&settings.access_log),
            },
            settings,
        };
        gateway.routes = gateway.at_work(quotas);
        Arc::new(gateway)
    }

    /// What makes handshakes by other settings: the same one where they name the same files, which it follows.
    fn acceptor(&self, settings: &Settings) -> Option<Arc<Acceptor>> {
        let new = settings.tls.as_ref()?;
        match (&self.tls, &self.settings.tls) {
            (Some(acceptor), Some(old)) if old.has_files_of(new) => Some(Arc::clone(acceptor)),
            _ => Some(Arc::new(Acceptor::new(new.clone()))),
        }
    }

    /// Who may come in by other settings; each goes on with what the one of its name has fetched.
    fn successors(&self, settings: &[access::Settings], now: Timestamp) -> Vec<Arc<Access>> {
        let before = |name: &str| self.access.iter().find(|old| old.settings().name == name);
        settings
            .iter()
            .map(|new| Access::new(new.clone(), before(&new.name).map(AsRef::as_ref), now))
            .collect()
    }

    /// A place for a connection that was just accepted.
    fn enter(&self, stream: &TcpStream, peer: IpAddr) -> Result<Place, Refusal> {
        self.entrance.enter(&self.settings, stream, peer)
    }

    fn at_work(&self, quotas: impl Fn(&RouteSettings) -> Quotas) -> Routes {
        let routes = self.settings.routes.iter().filter_map(|route| {
            // A name that is not there lets nobody in by mistake: the route is left out.
            let access = match &route.access {
                None => None,
                Some(name) => Some(self.access.iter().find(|own| own.settings().name == *name)?),
            };
            Some(Arc::new(Route {
                access: access.cloned(),
                name: route.name.as_str().into(),
                source: Arc::clone(self.source(&route.source)?),
                quotas: quotas(route),
                metrics: RouteMetrics::new(&route.name, &route.source),
                in_flight: Arc::clone(&self.in_flight),
                keyed_hash: self.keyed_hash.clone(),
                request_timeout: self.settings.request_timeout,
                content_bounds: content::Bounds {
                    bytes_max: route.body_bytes.or(self.settings.limits.body_bytes),
                    rate_bytes: self.settings.limits.body_rate_bytes,
                },
                settings: route.clone(),
            }))
        });
        Routes(routes.collect())
    }

    /// The source of a name; `None` where it is not configured any more.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&Arc<Source>> {
        self.sources.iter().find(|source| source.settings().name == name)
    }

    /// All sources.
    #[must_use]
    pub fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// The quotas of several gateways, where a route has any.
    #[must_use]
    pub const fn shared_quotas(&self) -> Option<&Arc<SharedQuotas>> {
        self.shared_quotas.as_ref()
    }

    /// What stands for clients in keys.
    #[must_use]
    pub const fn keyed_hash(&self) -> &KeyedHash {
        &self.keyed_hash
    }

    /// How it is configured.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What bodies may hold.
    #[must_use]
    pub const fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }
}

/// Marks stale what a change in doubt may have made old; nothing of it is stored until what is returned is
/// dropped.
pub async fn fence(gateway: &Gateway, fenced: Fenced) -> Hold {
    let (cache, path) = (&gateway.cache, fenced.path_and_query.split('?').next().unwrap_or_default());
    // A route that was taken out of the configuration has no further word on it.
    let route = gateway.settings.routes.iter().find(|route| route.name == fenced.route);
    let invalidates = route.map(|route| route.invalidates.as_slice()).unwrap_or_default();
    let made_old = made_old(invalidates, &fenced.authority, path);
    // Held first: what is stored between is behind neither.
    let hold = Hold::new(cache.hold(made_old.clone()));
    cache.purge(made_old, PurgeMode::Soft).await;
    hold
}

/// What a write of a path makes old whatever the source says of it: the path with every query, and what
/// its route names.
fn made_old(invalidates: &[Invalidates], authority: &str, path: &str) -> Vec<Purge> {
    let own = Purge::Path { authority: authority.to_owned(), path: path.to_owned() };
    let named = invalidates.iter().map(|what| match what {
        Invalidates::Path(path) => Purge::Path { authority: authority.to_owned(), path: path.clone() },
        Invalidates::Prefix(path) => {
            Purge::Prefix { authority: Some(authority.to_owned()), path: path.clone() }
        }
        Invalidates::Tag(tag) => Purge::Tag(tag.clone()),
    });
    std::iter::once(own).chain(named).collect()
}
