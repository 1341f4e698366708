//! Builds every part from [`Settings`], starts listeners and workers, replaces what is in force (`app/reload.rs`),
//! and stops everything in order.

mod parts;
mod reload;
mod watch;

use crate::admin::{self, Readiness};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::config::Settings;
use crate::gateway::InForce;
use crate::redis::Redis;
use crate::sync;
use crate::telemetry;
use parts::Parts;
use reload::Reloader;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
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
        /// The address, or the socket.
        address: String,
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

/// Where settings come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file, which is watched and read again.
    File(Arc<Path>),
    /// They stay as they are.
    Fixed,
}

/// A running gateway.
pub struct Running {
    /// Where clients are listened to; real ports where 0 was asked for.
    pub public: Vec<SocketAddr>,
    /// Where operators are listened to.
    pub admin: admin::Listen,
    readiness: Arc<Readiness>,
    cache: Arc<Cache>,
    gateway: Arc<InForce>,
    reloader: Arc<Reloader>,
    stop_public: CancellationToken,
    stop_admin: CancellationToken,
    serving_public: JoinHandle<()>,
    serving_admin: JoinHandle<()>,
    beside: JoinSet<()>,
}

impl Running {
    /// Reads the configuration's file again, soon. What comes of it is told by log, metrics and `/readyz`.
    pub fn reload(&self) {
        self.reloader.hangup.notify_one();
    }

    /// Says "not ready", stops accepting, lets requests finish within `server.shutdown_grace`, stops
    /// deliveries, checkpoints the journal, and last of all closes the operators' listener.
    pub async fn stop(mut self) {
        let deadline = Instant::now() + self.gateway.gateway().settings().shutdown_grace;
        self.readiness.draining();
        tracing::info!("stopping");
        self.stop_public.cancel();
        // A reload that is under way ends first.
        let parts = tokio::time::timeout_at(deadline, self.reloader.close()).await;
        finished(self.serving_public).await;
        if let Ok(Some(mut parts)) = parts {
            if let Some(engine) = &parts.engine {
                engine.stop(deadline.saturating_duration_since(Instant::now())).await;
            }
            parts.stop_checks().await;
        }
        self.cache.leave().await;
        telemetry::spans::finish().await;
        self.stop_admin.cancel();
        finished(self.serving_admin).await;
        self.beside.shutdown().await;
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
pub async fn start(settings: Settings, origin: Origin) -> Result<Running, StartError> {
    name_unused_journal(&settings);
    let metrics = telemetry::metrics::install();
    let clock = Clock::system();
    let (listeners, public) = listen_to_clients(&settings.gateway.listen).await?;
    let (admin_listener, admin) = listen_to_operators(&settings.admin.listen).await?;
    let open = |shared: &crate::cache::SharedSettings| Redis::open(&shared.redis, clock.clone());
    let redis = settings.cache.shared.as_ref().map(open).transpose()?;
    telemetry::spans::record_by(settings.spans.as_ref(), &clock);
    let parts = Parts::start(&settings, redis.clone(), clock.clone(), admin.clone()).await?;
    let gateway = Arc::clone(&parts.gateway);
    let told = Arc::new(admin::InForce::new(parts.told(&settings, clock.now()), metrics.clone()));
    let (cache, readiness) = (Arc::clone(&parts.cache), Arc::new(Readiness::default()));
    let reloader = Reloader::new(origin.clone(), parts, &settings, Arc::clone(&told), clock.clone());
    let (router, looks) = admin::router(admin::Parts {
        shared_tier: redis.map(|redis| Box::new(move || redis.state()) as Box<_>),
        cache: Arc::clone(&cache),
        in_force: told,
        reload: reloads(&reloader),
        explain: explain(&gateway),
        observe: observe(&gateway, &cache),
        metrics: metrics.clone(),
        readiness: Arc::clone(&readiness),
        clock,
    });
    let (stop_public, stop_admin) = (CancellationToken::new(), CancellationToken::new());
    let serving_public = tokio::spawn(Arc::clone(&gateway).serve(listeners, stop_public.clone()));
    let serving_admin = tokio::spawn(admin::serve(admin_listener, router, stop_admin.clone()));
    cache.warm().await;
    readiness.ready();
    announce(&public, &admin);
    let mut beside = beside(&origin, &reloader);
    beside.spawn(looks);
    Ok(Running {
        public,
        admin,
        readiness,
        cache,
        gateway,
        reloader,
        stop_public,
        stop_admin,
        serving_public,
        serving_admin,
        beside,
    })
}

/// How the admin listener asks the gateway in force, which lies on its own floor.
fn explain(gateway: &Arc<InForce>) -> admin::Explain {
    let in_force = Arc::clone(gateway);
    Box::new(move |question| {
        let gateway = in_force.gateway();
        Box::pin(async move { gateway.explain(question).await })
    })
}

/// What is done before gauges are read, so that none stands still while nobody asks.
fn observe(gateway: &Arc<InForce>, cache: &Arc<Cache>) -> Box<dyn Fn() + Send + Sync> {
    let (in_force, cache) = (Arc::clone(gateway), Arc::clone(cache));
    Box::new(move || {
        cache.observe();
        in_force.gateway().sources().iter().for_each(|source| source.observe());
    })
}

/// The log lines that others wait for.
fn announce(public: &[SocketAddr], admin: &admin::Listen) {
    for address in public {
        tracing::info!(listener = "public", %address, "listening");
    }
    tracing::info!(listener = "admin", address = %admin, "listening");
}

/// What `POST /v1/reload` does.
fn reloads(reloader: &Arc<Reloader>) -> admin::Reload {
    let reloader = Arc::clone(reloader);
    Box::new(move || Box::pin(Arc::clone(&reloader).reload_called()))
}

/// What runs beside the listeners: SIGHUPs, and the watch of a file that can be watched.
fn beside(origin: &Origin, reloader: &Arc<Reloader>) -> JoinSet<()> {
    let mut beside = JoinSet::new();
    let signalled = Arc::clone(reloader);
    beside.spawn(async move {
        loop {
            signalled.hangup.notified().await;
            signalled.reload_signalled().await;
        }
    });
    if let Origin::File(path) = origin
        && path.is_file()
    {
        beside.spawn(watch::watch(Arc::clone(path), Arc::clone(reloader)));
    }
    beside
}

async fn listen_to_operators(listen: &admin::Listen) -> Result<(admin::Listener, admin::Listen), StartError> {
    listen.bind().await.map_err(|cause| StartError::Listen { address: listen.to_string(), cause })
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
    if !settings.syncs() && sync::has_journal(&settings.sync.data) {
        tracing::warn!(
            folder = ?settings.sync.data,
            "no route is synced, and sync.data holds a journal: what waits in it is kept and not delivered; \
             see `tidegate journal check`, and configure its routes or move it away"
        );
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |cause| StartError::Listen { address: address.to_string(), cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests;
