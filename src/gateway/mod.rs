//! What happens to one request: `pipeline.rs` is its way.

mod accept;
mod accepted;
mod activity;
mod background;
mod begun;
mod body;
mod cache_status;
mod connection;
mod content;
mod entrance;
mod explain;
mod field_changes;
mod fill;
mod forward;
mod forwarded;
mod freshening;
mod gate;
mod idempotency;
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

pub use accepted::{SourceWriter, write_source};
pub use field_changes::FieldChanges;
pub use settings::{Invalidates, Limits, RouteSettings, Settings};
pub use state::read_state;

use crate::cache::collapse::Flights;
use crate::cache::{Cache, Purge, PurgeMode};
use crate::clock::Clock;
use crate::in_flight::InFlight;
use crate::rate_limit::{Quotas, SharedQuotas};
use crate::secret::KeyedHash;
use crate::source::Source;
use crate::sync::{Engine, Fenced, Hold};
use crate::tls::Acceptor;
use background::Background;
use entrance::Entrance;
use landing::Landing;
use metrics::RouteMetrics;
use route::{Route, Routes};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// The public side: the parts that every request shares.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    routes: Routes,
    cache: Arc<Cache>,
    engine: Option<Arc<Engine>>,
    clock: Clock,
    flights: Arc<Flights<Landing>>,
    background: Background,
    in_flight: Arc<InFlight>,
    /// Fills and writes: work that no client owns.
    tasks: TaskTracker,
    entrance: Entrance,
    tls: Option<Arc<Acceptor>>,
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

impl Gateway {
    /// Builds the public side; listens to nobody yet. Routes whose source is missing are left out:
    /// the configuration's check has refused them.
    #[must_use]
    pub fn new(settings: Settings, parts: Parts) -> Arc<Self> {
        let routes = settings.routes.iter().filter_map(|route| {
            let source = parts.sources.iter().find(|source| source.settings().name == route.source)?;
            Some(Arc::new(Route {
                name: route.name.as_str().into(),
                source: Arc::clone(source),
                quotas: Quotas::new(&route.name, &route.limits).with_shared(parts.shared_quotas.clone()),
                metrics: RouteMetrics::new(&route.name, &route.source),
                in_flight: Arc::clone(&parts.in_flight),
                keyed_hash: parts.keyed_hash.clone(),
                content_bounds: content::Bounds {
                    bytes_max: route.body_bytes.or(settings.limits.body_bytes),
                    rate_bytes: settings.limits.body_rate_bytes,
                },
                settings: route.clone(),
            }))
        });
        Arc::new(Self {
            routes: Routes(routes.collect()),
            cache: parts.cache,
            engine: parts.engine,
            clock: parts.clock,
            flights: Flights::new(),
            background: Background::new(),
            in_flight: parts.in_flight,
            tasks: TaskTracker::new(),
            entrance: Entrance::new(&settings),
            tls: settings.tls.clone().map(|tls| Arc::new(Acceptor::new(tls))),
            settings,
        })
    }

    /// Serves clients on `listeners` until told to stop, then lets requests finish within
    /// `shutdown_grace`.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, stop: CancellationToken) {
        let _refilling = AbortOnDropHandle::new(tokio::spawn(background::refill(Arc::clone(&self))));
        let connections = TaskTracker::new();
        let accepting = TaskTracker::new();
        let stops = listener::Stops { stop, cut: CancellationToken::new() };
        for listener in listeners {
            accepting.spawn(listener::serve(Arc::clone(&self), listener, connections.clone(), stops.clone()));
        }
        if let Some(tls) = &self.tls {
            let (tls, stop) = (Arc::clone(tls), stops.stop.clone());
            accepting.spawn(async move { stop.run_until_cancelled(tls.follow()).await });
        }
        accepting.close();
        accepting.wait().await;
        connections.close();
        self.tasks.close();
        let finished = async {
            connections.wait().await;
            self.tasks.wait().await;
        };
        if tokio::time::timeout(self.settings.shutdown_grace, finished).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                exchanges = self.tasks.len(),
                "cut at the end of server.shutdown_grace"
            );
            stops.cut.cancel();
            connections.wait().await;
        }
    }
}

/// Marks stale what a change in doubt may have made old; nothing of it is stored until what is returned is
/// dropped.
pub async fn fence(cache: &Cache, routes: &[RouteSettings], fenced: Fenced) -> Hold {
    let path = fenced.path_and_query.split('?').next().unwrap_or_default();
    // A route that was taken out of the configuration has no further word on it.
    let route = routes.iter().find(|route| route.name == fenced.route);
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
