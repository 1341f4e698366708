//! The connection to Redis: one breaker for all uses, and a budget for each (I9).
//!
//! [`Redis`] never connects on a caller's time: a keeper task connects and probes in the
//! background. While there is no connection, or the breaker is open, a command is refused at once.
//! Small reads, large reads and writes have a connection each, so that none waits behind another.
//! `server` reads the URL, `connect` has what the crate gives for each topology. No command names
//! two keys, so that none touches two slots of a cluster.

mod connect;
mod examine;
mod keeper;
mod lease;
mod log;
mod patience;
mod roster;
mod server;

pub use log::{LogEntry, LogExtent, LogPosition, LogReader, ReadWait};
pub use patience::Patience;
pub use server::{Server, UrlFault};

use crate::breaker::State;
use crate::clock::Clock;
use bytes::Bytes;
use keeper::Links;
use redis::{Cmd, FromRedisValue, RedisResult};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio_util::task::AbortOnDropHandle;

/// A value's expiry in Redis is at most this.
const EXPIRY_MAX: Duration = Duration::from_hours(365 * 24);
/// What judges values outlives them: under `volatile-ttl` it is evicted last, and the log after the
/// name of its epoch, without which nothing is believed.
const EPOCH_EXPIRY: Duration = Duration::from_hours(400 * 24);
const LOG_EXPIRY: Duration = Duration::from_hours(500 * 24);

/// Why Redis cannot even be tried. No part of its URL is repeated: it may carry a password (I12).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cache.shared cannot be used: {0}")]
pub struct OpenError(String);

/// Why a command has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no connection, or the breaker is open; nothing was waited for.
    #[error("Redis is not connected")]
    NotConnected,
    /// Its budget is over; it may or may not have been carried out.
    #[error("Redis did not answer in time")]
    TimedOut,
    /// The connection was lost; it may or may not have been carried out.
    #[error("the connection to Redis was lost")]
    Lost,
    /// Redis answered, but with an error or with something else than was asked for.
    #[error("Redis refused the command")]
    Refused,
    /// Redis answered that it cannot serve: it is loading, a replica, or a cluster without all slots.
    #[error("Redis is not ready")]
    Unready,
}

impl Unavailable {
    /// The word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotConnected => "not-connected",
            Self::TimedOut => "timed-out",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Unready => "unready",
        }
    }
}

/// Which connection a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small commands that somebody waits for.
    Quick,
    /// Reads of large values. That they are late tells of their size, not of Redis: the breaker
    /// does not count it.
    Large,
    /// Writes, which nobody waits for.
    Bulk,
}

/// A handle to Redis. Dropping the last one closes the connections.
#[derive(Debug)]
pub struct Redis {
    links: Arc<Links>,
    _keeper: AbortOnDropHandle<()>,
}

impl Redis {
    /// Begins to connect in the background; needs a running Tokio, but no running Redis.
    ///
    /// # Errors
    /// [`OpenError`] where what the server is reached by cannot be used.
    pub fn open(server: &Server, clock: Clock) -> Result<Arc<Self>, OpenError> {
        let links = Arc::new(Links::new(server, clock)?);
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&links)));
        Ok(Arc::new(Self { links, _keeper: AbortOnDropHandle::new(keeper) }))
    }

    /// Where the breaker stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.links.state()
    }

    /// Whether a command would be sent now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.links.is_connected()
    }

    /// Whether there is no connection, though one was tried for.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.links.is_away()
    }

    /// Sends one command and waits for its answer for at most `budget`.
    ///
    /// # Errors
    /// [`Unavailable`]; at once where there is no connection.
    pub async fn query<T: FromRedisValue>(
        &self,
        lane: Lane,
        command: &Cmd,
        budget: Duration,
    ) -> Result<T, Unavailable> {
        let mut link = self.links.get(lane).ok_or(Unavailable::NotConnected)?;
        let answer = tokio::time::timeout(budget, command.query_async(&mut link.connection)).await;
        self.outcome(lane, link.generation, answer)
    }

    /// What came of a command; the breaker hears of it.
    fn outcome<T>(
        &self,
        lane: Lane,
        generation: u64,
        answer: Result<RedisResult<T>, Elapsed>,
    ) -> Result<T, Unavailable> {
        let outcome = match answer {
            Err(_) => Err(Unavailable::TimedOut),
            Ok(answer) => answer.map_err(|error| self.links.classify(&error)),
        };
        match outcome {
            // An error that Redis itself gives tells that it lives.
            Ok(_) | Err(Unavailable::Refused) => self.links.succeeded(),
            Err(Unavailable::TimedOut) if lane == Lane::Large => {}
            Err(cause) => self.links.failed(generation, cause),
        }
        outcome
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn get(&self, lane: Lane, key: &str, budget: Duration) -> Result<Option<Bytes>, Unavailable> {
        self.query(lane, redis::cmd("GET").arg(key), budget).await
    }

    /// Sets a key that expires.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn set(
        &self,
        key: &str,
        value: &[u8],
        expiry: Duration,
        budget: Duration,
    ) -> Result<(), Unavailable> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(millis(expiry.min(EXPIRY_MAX)));
        self.query(Lane::Bulk, &command, budget).await
    }

    /// As [`Redis::set`]; what stood there before.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn replace(
        &self,
        key: &str,
        value: &[u8],
        expiry: Duration,
        budget: Duration,
    ) -> Result<Option<Bytes>, Unavailable> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(millis(expiry.min(EXPIRY_MAX))).arg("GET");
        self.query(Lane::Bulk, &command, budget).await
    }

    /// Has a key expire at another time than was said before.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn expire(&self, key: &str, expiry: Duration, budget: Duration) -> Result<(), Unavailable> {
        self.query(Lane::Bulk, redis::cmd("PEXPIRE").arg(key).arg(millis(expiry)), budget).await
    }

    /// Removes a key; what stood there.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn remove(&self, key: &str, budget: Duration) -> Result<Option<Bytes>, Unavailable> {
        self.query(Lane::Bulk, redis::cmd("GETDEL").arg(key), budget).await
    }

    /// Appends to a log that keeps about `length` entries.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn append(
        &self,
        log: &str,
        entry: &[u8],
        length: usize,
        budget: Duration,
    ) -> Result<(), Unavailable> {
        let mut link = self.links.get(Lane::Quick).ok_or(Unavailable::NotConnected)?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("XADD").arg(log).arg("MAXLEN").arg("~").arg(length).arg("*").arg(log::FIELD).arg(entry);
        pipeline.ignore().cmd("PEXPIRE").arg(log).arg(millis(LOG_EXPIRY)).ignore();
        let answer = tokio::time::timeout(budget, pipeline.query_async(&mut link.connection)).await;
        self.outcome(Lane::Quick, link.generation, answer)
    }

    /// Writes the checkpoint of a log. Under `volatile-ttl` it is evicted before the log, which can do without.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn write_checkpoint(
        &self,
        key: &str,
        bytes: &[u8],
        budget: Duration,
    ) -> Result<(), Unavailable> {
        let mut command = redis::cmd("PSETEX");
        command.arg(key).arg(millis(EXPIRY_MAX)).arg(bytes);
        self.query(Lane::Bulk, &command, budget).await
    }

    /// A connection of its own for reading logs, because a blocking read holds up all behind it.
    ///
    /// # Errors
    /// [`Unavailable`]. Its outcome does not move the breaker.
    pub async fn log_reader(&self) -> Result<LogReader, Unavailable> {
        let connection = self.links.connect(log::READ_TIMEOUT).await.map_err(|_| Unavailable::Lost)?;
        Ok(LogReader::new(connection))
    }
}

/// As `PX` and `PEXPIRE` take it: at least one.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
pub(crate) mod testing;
