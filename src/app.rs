//! Builds every part from [`Settings`], starts listeners and workers, and stops them in order.

use crate::admin::{self, Readiness};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::config::Settings;
use crate::gateway::{self, Gateway, RouteSettings, SourceWriter};
use crate::in_flight::InFlight;
use crate::rate_limit::{Scope, SharedQuotas};
use crate::redis::Redis;
use crate::secret::KeyedHash;
use crate::source::Source;
use crate::sync::{self, Engine, Ports, ReadSource, SourceState};
use crate::telemetry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; free the address or set another")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] sync::OpenError),
    /// Redis cannot even be tried.
    #[error(transparent)]
    Redis(#[from] crate::redis::OpenError),
}

/// A running gateway.
#[derive(Debug)]
pub struct Running {
    /// Where clients are listened to; real ports where 0 was asked for.
    pub public: Vec<SocketAddr>,
    /// Where operators are listened to.
    pub admin: SocketAddr,
    grace: Duration,
    readiness: Arc<Readiness>,
    cache: Arc<Cache>,
    engine: Option<Arc<Engine>>,
    stop_public: CancellationToken,
    stop_admin: CancellationToken,
    serving_public: JoinHandle<()>,
    serving_admin: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    checks: JoinSet<()>,
}

impl Running {
    /// Says "not ready", stops accepting, lets requests finish within `server.shutdown_grace`, stops
    /// deliveries, checkpoints the journal, and last of all closes the operators' listener.
    pub async fn stop(mut self) {
        let deadline = Instant::now() + self.grace;
        self.readiness.draining();
        tracing::info!("stopping");
        self.stop_public.cancel();
        finished(self.serving_public).await;
        if let Some(engine) = self.engine {
            engine.stop(deadline.saturating_duration_since(Instant::now())).await;
        }
        self.checks.shutdown().await;
        self.cache.leave().await;
        self.stop_admin.cancel();
        finished(self.serving_admin).await;
        self.upkeep.abort();
        tracing::info!("stopped");
    }
}

async fn finished(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a listener's task died");
    }
}

/// Starts a gateway on the current runtime.
///
/// # Errors
/// [`StartError`]: nothing is left running.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    name_unused_journal(&settings);
    let metrics = telemetry::metrics::install();
    let clock = Clock::system();
    let (listeners, public) = listen_to_clients(&settings.gateway.listen).await?;
    let (admin_listener, admin_address) = listen(settings.admin.listen).await?;
    let open = |shared: &crate::cache::SharedSettings| Redis::open(&shared.redis, clock.clone());
    let redis = settings.cache.shared.as_ref().map(open).transpose()?;
    let keyed_hash = settings.cache.keyed_hash();
    let shared_quotas = shared_quotas(&settings, redis.as_ref(), &keyed_hash);
    let in_flight = InFlight::new(settings.gateway.limits.in_flight_bytes);
    let cache = Cache::new(&settings.cache, clock.clone(), redis.clone(), &in_flight);
    let sources: Vec<Arc<Source>> =
        settings.sources.into_iter().map(|source| Source::new(source, clock.clone())).collect();
    let fenced_by = settings.gateway.routes.as_slice().into();
    let engine = match settings.sync {
        Some(settings) => Some(
            Engine::start(settings, clock.clone(), ports(&sources, &cache, &in_flight, fenced_by)).await?,
        ),
        None => None,
    };
    let mut checks: JoinSet<()> = sources.iter().flat_map(Source::checks).collect();
    let grace = settings.gateway.shutdown_grace;
    let parts = gateway::Parts {
        cache: Arc::clone(&cache),
        engine: engine.clone(),
        sources,
        in_flight,
        shared_quotas,
        keyed_hash,
        clock: clock.clone(),
    };
    let gateway = Gateway::new(settings.gateway, parts);
    let readiness = Arc::new(Readiness::default());
    let (router, looks) = admin::router(
        &settings.admin,
        admin_address,
        admin::Parts {
            shared_tier: redis.map(|redis| Box::new(move || redis.state()) as Box<_>),
            cache: Arc::clone(&cache),
            engine: engine.clone(),
            metrics: metrics.clone(),
            readiness: Arc::clone(&readiness),
            clock: clock.clone(),
            explain: explain(&gateway),
            config: settings.redacted,
        },
    );
    checks.spawn(looks);
    let (stop_public, stop_admin) = (CancellationToken::new(), CancellationToken::new());
    let serving_public = tokio::spawn(gateway.serve(listeners, stop_public.clone()));
    let serving_admin = tokio::spawn(admin::serve(admin_listener, router, stop_admin.clone()));
    cache.warm().await;
    readiness.ready();
    announce(&public, admin_address);
    Ok(Running {
        public,
        admin: admin_address,
        grace,
        readiness,
        cache,
        engine,
        stop_public,
        stop_admin,
        serving_public,
        serving_admin,
        upkeep: tokio::spawn(metrics.upkeep()),
        checks,
    })
}

/// How the admin listener asks the gateway, which lies on its own floor.
fn explain(gateway: &Arc<Gateway>) -> admin::Explain {
    let gateway = Arc::clone(gateway);
    Box::new(move |question| {
        let gateway = Arc::clone(&gateway);
        Box::pin(async move { gateway.explain(question).await })
    })
}

/// The quotas of the namespace, where a route has any.
fn shared_quotas(
    settings: &Settings,
    redis: Option<&Arc<Redis>>,
    keyed_hash: &KeyedHash,
) -> Option<Arc<SharedQuotas>> {
    let mut limits = settings.gateway.routes.iter().flat_map(|route| &route.limits);
    let (redis, tier) = redis.zip(settings.cache.shared.as_ref())?;
    let is_any = limits.any(|limit| limit.scope == Scope::Shared);
    is_any.then(|| SharedQuotas::start(Arc::clone(redis), &tier.namespace, keyed_hash.clone()))
}

/// The log lines that others wait for.
fn announce(public: &[SocketAddr], admin: SocketAddr) {
    for address in public {
        tracing::info!(listener = "public", %address, "listening");
    }
    tracing::info!(listener = "admin", address = %admin, "listening");
}

async fn listen_to_clients(
    addresses: &[SocketAddr],
) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let (mut listeners, mut bound) = (Vec::new(), Vec::new());
    for address in addresses {
        let (listener, address) = listen(*address).await?;
        listeners.push(listener);
        bound.push(address);
    }
    Ok((listeners, bound))
}

/// What is left of synced routes is not lost sight of.
fn name_unused_journal(settings: &Settings) {
    if settings.sync.is_none() && sync::has_journal(&settings.data) {
        tracing::warn!(
            folder = ?settings.data,
            "no route is synced, and sync.data holds a journal: what waits in it is kept and not delivered; \
             see `tidegate journal check`, and configure its routes or move it away"
        );
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |cause| StartError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// How the sync engine reaches sources and stored responses, which lie on its own floor.
fn ports(
    sources: &[Arc<Source>],
    cache: &Arc<Cache>,
    in_flight: &Arc<InFlight>,
    routes: Arc<[RouteSettings]>,
) -> Ports {
    let (sources, in_flight) = (sources.to_vec(), Arc::clone(in_flight));
    let cache = Arc::clone(cache);
    let writer = Arc::new(SourceWriter {
        sources: sources.clone(),
        cache: Arc::clone(&cache),
        routes: Arc::clone(&routes),
        in_flight: Arc::clone(&in_flight),
    });
    Ports {
        read_source: Box::new(move |read: ReadSource| {
            let source = sources.iter().find(|source| source.settings().name == read.source).cloned();
            let in_flight = Arc::clone(&in_flight);
            Box::pin(async move {
                match source {
                    Some(source) => gateway::read_state(&source, &in_flight, read).await,
                    // A source that was taken out of the configuration cannot be read any more.
                    None => SourceState::UNANSWERED,
                }
            })
        }),
        write_source: Box::new(move |write| {
            let writer = Arc::clone(&writer);
            Box::pin(async move { gateway::write_source(&writer, write).await })
        }),
        fence: Box::new(move |fenced| {
            let (cache, routes) = (Arc::clone(&cache), Arc::clone(&routes));
            Box::pin(async move { gateway::fence(&cache, &routes, fenced).await })
        }),
    }
}
