//! What is in force: the one place from which every request takes the gateway that answers it, once.

use super::{Gateway, background, listener};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// The gateway in force. It is replaced as a whole; whoever took the one before ends with it.
#[derive(Debug)]
pub struct InForce {
    gateway: ArcSwap<Gateway>,
    /// Another one has taken its place.
    replaced: Notify,
}

impl InForce {
    /// The first one.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> Arc<Self> {
        Arc::new(Self { gateway: ArcSwap::new(gateway), replaced: Notify::new() })
    }

    /// The one in force now.
    #[must_use]
    pub fn gateway(&self) -> Arc<Gateway> {
        self.gateway.load_full()
    }

    /// From now on it is this one.
    pub fn replace(&self, gateway: Arc<Gateway>) {
        self.gateway.store(gateway);
        self.replaced.notify_one();
    }

    /// Serves clients on `listeners` until told to stop, then lets requests finish within
    /// `shutdown_grace`.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, stop: CancellationToken) {
        let _refilling = AbortOnDropHandle::new(tokio::spawn(background::refill(Arc::clone(&self))));
        let connections = TaskTracker::new();
        let accepting = TaskTracker::new();
        let stops = listener::Stops { stop, cut: CancellationToken::new() };
        for listener in listeners {
            let (connections, stops) = (connections.clone(), stops.clone());
            accepting.spawn(listener::serve(Arc::clone(&self), listener, connections, stops));
        }
        let (follows, stop) = (Arc::clone(&self), stops.stop.clone());
        accepting.spawn(async move {
            stop.run_until_cancelled(follows.follow_certificates()).await;
        });
        accepting.close();
        accepting.wait().await;
        connections.close();
        let gateway = self.gateway();
        gateway.tasks.close();
        let finished = async {
            connections.wait().await;
            gateway.tasks.wait().await;
        };
        if tokio::time::timeout(gateway.settings.shutdown_grace, finished).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                exchanges = gateway.tasks.len(),
                "cut at the end of server.shutdown_grace"
            );
            stops.cut.cancel();
            connections.wait().await;
        }
        if let Some(log) = &gateway.access_log {
            log.finish().await;
        }
    }

    /// Follows the files of the certificates that are shown now, whichever those are.
    async fn follow_certificates(&self) {
        loop {
            let tls = self.gateway().tls.clone();
            let follow = async {
                match &tls {
                    Some(tls) => tls.follow().await,
                    None => std::future::pending().await,
                }
            };
            let other = async {
                loop {
                    self.replaced.notified().await;
                    let is_other = match (&tls, &self.gateway().tls) {
                        (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
                        (old, new) => old.is_some() != new.is_some(),
                    };
                    if is_other {
                        return;
                    }
                }
            };
            tokio::select! {
                () = follow => {}
                () = other => {}
            }
        }
    }
}
