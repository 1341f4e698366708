//! The connection to Redis: one breaker for all uses, and a budget for each (I9).
//!
//! [`Redis`] never connects on a caller's time: a keeper task connects and probes in the
//! background. While there is no connection, or the breaker is open, a command is refused at once.
//! Small reads and large writes have a connection each, so that neither waits behind the other.

mod keeper;
mod log;

pub use log::{LogEntry, LogPosition, LogReader, ReadWait};

use crate::breaker::State;
use crate::clock::Clock;
use crate::secret::Endpoint;
use bytes::Bytes;
use keeper::Links;
use redis::{Cmd, FromRedisValue};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// A key's expiry in Redis is at most this, so that it fits what `PX` takes.
const EXPIRY_MAX: Duration = Duration::from_hours(365 * 24);

/// Why a URL cannot be used for Redis. The URL is not repeated: it may carry a password (I12).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a usable Redis URL: {0}")]
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
        }
    }
}

/// Which of the two connections a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small commands that somebody waits for.
    Quick,
    /// Large values, which nobody waits for.
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
    /// [`OpenError`] where the URL itself cannot be used.
    pub fn open(endpoint: &Endpoint, clock: Clock) -> Result<Arc<Self>, OpenError> {
        let links = Arc::new(Links::new(endpoint, clock)?);
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
        let outcome = match tokio::time::timeout(budget, command.query_async(&mut link.connection)).await {
            Err(_) => Err(Unavailable::TimedOut),
            Ok(Err(error)) if error.is_timeout() => Err(Unavailable::TimedOut),
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => Err(Unavailable::Lost),
            Ok(Err(_)) => Err(Unavailable::Refused),
            Ok(Ok(value)) => Ok(value),
        };
        match outcome {
            // An error that Redis itself gives tells that it lives.
            Ok(_) | Err(Unavailable::Refused) => self.links.succeeded(),
            Err(cause) => self.links.failed(link.generation, cause),
        }
        outcome
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn get(&self, key: &str, budget: Duration) -> Result<Option<Bytes>, Unavailable> {
        self.query(Lane::Quick, redis::cmd("GET").arg(key), budget).await
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
        let expiry = u64::try_from(expiry.min(EXPIRY_MAX).as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(expiry);
        self.query(Lane::Bulk, &command, budget).await
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn remove(&self, key: &str, budget: Duration) -> Result<(), Unavailable> {
        self.query(Lane::Bulk, redis::cmd("DEL").arg(key), budget).await
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
        let mut command = redis::cmd("XADD");
        command.arg(log).arg("MAXLEN").arg("~").arg(length).arg("*").arg(log::FIELD).arg(entry);
        self.query::<String>(Lane::Quick, &command, budget).await.map(|_| ())
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

#[cfg(test)]
pub(crate) mod testing;
