//! Connects, probes and reconnects in the background, so that no request ever does.

use super::{Lane, OpenError, Unavailable};
use crate::breaker::{self, Admission, Breaker, State};
use crate::clock::Clock;
use crate::secret::Endpoint;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How long one attempt to connect may take, name resolution and handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
/// Between two attempts to connect while the breaker is closed.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// No command waits longer, whatever its budget.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Commands under way on one connection; more wait within their budgets.
const CONCURRENCY: usize = 1024;
/// At most two seconds open at a time, so that Redis is used again within five of its answering.
const BREAKER: breaker::Settings = breaker::Settings {
    failures: 5,
    outcomes_min: 20,
    window: Duration::from_secs(10),
    open: Duration::from_secs(1),
    open_cap: Duration::from_secs(2),
};

/// A connection as it is lent to a command.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    /// Tells the outcome of a lost connection from that of the one that followed it.
    pub(super) generation: u64,
}

#[derive(Debug)]
struct Connected {
    quick: MultiplexedConnection,
    bulk: MultiplexedConnection,
    generation: u64,
}

/// The connections there are, and the breaker that decides whether there may be any.
#[derive(Debug)]
pub(super) struct Links {
    client: Client,
    clock: Clock,
    breaker: Mutex<Breaker>,
    /// `None`: refused without waiting. The breaker is closed whenever there is one.
    connected: RwLock<Option<Connected>>,
    lost: Notify,
}

impl Links {
    pub(super) fn new(endpoint: &Endpoint, clock: Clock) -> Result<Self, OpenError> {
        let refused = |error: RedisError| OpenError(error.category().to_owned());
        let info = endpoint.expose().as_str().into_connection_info().map_err(refused)?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(refused)?;
        Ok(Self {
            client,
            clock,
            breaker: Mutex::new(Breaker::new(BREAKER)),
            connected: RwLock::new(None),
            lost: Notify::new(),
        })
    }

    /// Where the breaker stands; open, too, while there is no connection: nothing passes then either.
    pub(super) fn state(&self) -> State {
        if self.is_connected() { self.breaker().state(self.clock.now()) } else { State::Open }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn get(&self, lane: Lane) -> Option<Link> {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        let connected = connected.as_ref()?;
        let connection = match lane {
            Lane::Quick => &connected.quick,
            Lane::Bulk => &connected.bulk,
        };
        Some(Link { connection: connection.clone(), generation: connected.generation })
    }

    pub(super) fn succeeded(&self) {
        self.breaker().success(self.clock.now());
    }

    pub(super) fn failed(&self, generation: u64, cause: Unavailable) {
        let open = {
            let mut breaker = self.breaker();
            let now = self.clock.now();
            breaker.failure(now, fastrand::f64());
            breaker.state(now) != State::Closed
        };
        // What waits on an unanswering connection would be answered late and for nobody: a new one
        // is the probe.
        if open || cause == Unavailable::Lost {
            self.disconnect(generation);
        }
    }

    pub(super) async fn connect(
        &self,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(response_timeout))
            .set_concurrency_limit(CONCURRENCY);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    fn disconnect(&self, generation: u64) {
        let mut connected = self.connected.write().unwrap_or_else(PoisonError::into_inner);
        if connected.as_ref().is_some_and(|connected| connected.generation == generation) {
            *connected = None;
            drop(connected);
            tracing::warn!("Redis is lost; until it is back, memory and the source answer");
            self.lost.notify_one();
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn probe(&self) -> Result<(MultiplexedConnection, MultiplexedConnection), RedisError> {
        let mut quick = self.connect(RESPONSE_TIMEOUT).await?;
        let ping = redis::cmd("PING");
        match tokio::time::timeout(CONNECT_TIMEOUT, ping.query_async::<String>(&mut quick)).await {
            Ok(answer) => answer.map(|_| ())?,
            Err(_) => return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
        Ok((quick, self.connect(RESPONSE_TIMEOUT).await?))
    }
}

/// Runs until it is dropped.
pub(super) async fn keep(links: Arc<Links>) {
    let mut generation = 0;
    loop {
        while links.is_connected() {
            links.lost.notified().await;
        }
        let now = links.clock.now();
        let admission = links.breaker().admit(now);
        if let Admission::Refused { until } = admission {
            tokio::time::sleep(until.since(now).max(RECONNECT_PAUSE)).await;
            continue;
        }
        match links.probe().await {
            Ok((quick, bulk)) => {
                links.succeeded();
                generation += 1;
                tracing::info!("connected to Redis");
                *links.connected.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Connected { quick, bulk, generation });
            }
            Err(error) => {
                tracing::debug!(cause = error.category(), "cannot connect to Redis");
                links.breaker().failure(links.clock.now(), fastrand::f64());
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
}
