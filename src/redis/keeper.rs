//! Connects, probes and reconnects in the background, so that no request ever does.

use super::connect::{CONNECT_TIMEOUT, Connection, Connector, within};
use super::examine::{Usable, Warning, examine};
use super::server::{Keys, Server};
use super::{Lane, OpenError, Unavailable};
use crate::breaker::{self, Admission, Breaker, State};
use crate::clock::Clock;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// Between two attempts to connect while the breaker is closed.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// No command waits longer, whatever its budget.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Different warnings that are told; a Redis that changes for ever fills no log.
const WARNINGS_MAX: usize = 16;
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
    pub(super) connection: Connection,
    /// Tells the outcome of a lost connection from that of the one that followed it.
    pub(super) generation: u64,
}

#[derive(Debug)]
struct Connected {
    quick: Connection,
    large: Connection,
    bulk: Connection,
    generation: u64,
}

/// The connections there are, and the breaker that decides whether there may be any.
#[derive(Debug)]
pub(super) struct Links {
    connector: Connector,
    keys: Keys,
    clock: Clock,
    breaker: Mutex<Breaker>,
    /// `None`: refused without waiting. The breaker is closed whenever there is one.
    connected: RwLock<Option<Connected>>,
    lost: Notify,
    /// The last attempt to connect failed.
    has_failed: AtomicBool,
    told: Mutex<HashSet<Warning>>,
}

impl Links {
    pub(super) fn new(server: &Server, clock: Clock) -> Result<Self, OpenError> {
        Ok(Self {
            connector: Connector::new(server)?,
            keys: server.keys(),
            clock,
            breaker: Mutex::new(Breaker::new(BREAKER)),
            connected: RwLock::new(None),
            lost: Notify::new(),
            has_failed: AtomicBool::new(false),
            told: Mutex::default(),
        })
    }

    /// Where the breaker stands; open, too, while there is no connection: nothing passes then either.
    pub(super) fn state(&self) -> State {
        if self.is_connected() { self.breaker().state(self.clock.now()) } else { State::Open }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn is_away(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) && !self.is_connected()
    }

    pub(super) fn get(&self, lane: Lane) -> Option<Link> {
        let connected = self.connected.read().unwrap_or_else(PoisonError::into_inner);
        let connected = connected.as_ref()?;
        let connection = match lane {
            Lane::Quick => &connected.quick,
            Lane::Large => &connected.large,
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
        // is the probe. One that became a replica may have a successor elsewhere. A cluster finds
        // its way by itself, and most of its nodes may be well.
        let is_gone =
            matches!(cause, Unavailable::Lost | Unavailable::Unready) && self.keys == Keys::InOnePlace;
        if open || is_gone {
            self.disconnect(generation);
        }
    }

    /// A connection of its own.
    pub(super) async fn connect(&self, response_timeout: Duration) -> RedisResult<Connection> {
        let [connection] = self.connector.connect(response_timeout).await?;
        Ok(connection)
    }

    /// What a command's error means.
    pub(super) fn classify(&self, error: &RedisError) -> Unavailable {
        let cause = classify(error);
        if cause == Unavailable::Refused {
            match error.code() {
                Some("OOM") => self.tell(Warning::Full),
                Some("NOPERM") => self.tell(Warning::Denied),
                Some(_) | None => {}
            }
        }
        cause
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

    /// Each warning once.
    fn tell(&self, warning: Warning) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < WARNINGS_MAX && !told.contains(&warning) {
            tracing::warn!("{warning}");
            told.insert(warning);
        }
    }

    async fn probe(&self) -> RedisResult<[Connection; 3]> {
        let [mut quick, large, bulk] = self.connector.connect(RESPONSE_TIMEOUT).await?;
        match within(CONNECT_TIMEOUT, quick.about(&redis::cmd("INFO"))).await {
            Ok(info) => {
                let info: String = redis::from_redis_value(info)?;
                let (warnings, usable) = examine(&info, self.keys);
                for warning in warnings {
                    self.tell(warning);
                }
                if usable == Usable::No {
                    return Err(std::io::Error::other("what answers cannot be used").into());
                }
            }
            Err(error) if is_denied(&error) => {
                within(CONNECT_TIMEOUT, quick.about(&redis::cmd("PING"))).await?;
            }
            Err(error) => return Err(error),
        }
        Ok([quick, large, bulk])
    }
}

fn classify(error: &RedisError) -> Unavailable {
    match error.kind() {
        _ if error.is_timeout() => Unavailable::TimedOut,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::TryAgain,
        ) => Unavailable::Unready,
        _ if error.is_io_error() || error.is_unrecoverable_error() => Unavailable::Lost,
        _ => Unavailable::Refused,
    }
}

fn is_denied(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// Runs until it is dropped.
pub(super) async fn keep(links: Arc<Links>) {
    let mut generation = 0;
    let mut attempts = 0_u64;
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
            Ok([quick, large, bulk]) => {
                links.succeeded();
                generation += 1;
                attempts = 0;
                tracing::info!("connected to Redis");
                *links.connected.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Connected { quick, large, bulk, generation });
            }
            Err(error) => {
                attempts += 1;
                links.has_failed.store(true, Ordering::Relaxed);
                // What Redis and the system say holds neither user nor password.
                if attempts == 1 {
                    tracing::warn!(cause = %error, "cannot connect to Redis; memory and the source answer");
                } else {
                    tracing::debug!(cause = %error, attempts, "cannot connect to Redis");
                }
                links.breaker().failure(links.clock.now(), fastrand::f64());
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
}
