//! A log that several gateways append to and read: a Redis Stream of one field.

use super::connect::Connection;
use super::{EPOCH_EXPIRY, Unavailable, millis};
use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Value};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The one field of an entry.
pub(super) const FIELD: &str = "e";
/// How long a read waits for an entry; also how often a reader learns that Redis lives.
const BLOCK: Duration = Duration::from_millis(250);
/// A reader's answer that takes longer than this is a lost connection.
pub(super) const READ_TIMEOUT: Duration = Duration::from_millis(750);
/// Entries read at once.
const BATCH: usize = 1000;

/// Where an entry stands in a log; Redis gives them out in order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct LogPosition {
    /// Milliseconds of the clock of Redis.
    pub millis: u64,
    /// Within the millisecond.
    pub sequence: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl FromStr for LogPosition {
    type Err = Unavailable;

    fn from_str(text: &str) -> Result<Self, Unavailable> {
        let number = |digits: &str| digits.parse().map_err(|_| Unavailable::Refused);
        let (millis, sequence) = text.split_once('-').ok_or(Unavailable::Refused)?;
        Ok(Self { millis: number(millis)?, sequence: number(sequence)? })
    }
}

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub position: LogPosition,
    /// What was appended.
    pub bytes: Bytes,
}

/// What a log still has of what was ever appended to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogExtent {
    /// Its first entry.
    pub first: Option<LogPosition>,
    /// The last that was ever appended, whether it is still there or not.
    pub newest: LogPosition,
    /// How many it has.
    pub length: u64,
    /// How many were ever appended; older servers than 7.0 do not know.
    pub appended: Option<u64>,
    /// The farthest that was deleted by itself, not trimmed; older servers than 7.0 do not know.
    pub deleted: LogPosition,
}

/// Whether a read that finds nothing waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadWait {
    /// It does not.
    None,
    /// A quarter of a second, for the first entry to come.
    Moment,
}

/// Reads logs on a connection of its own. After an error it is thrown away.
#[derive(Debug)]
pub struct LogReader {
    connection: Connection,
}

impl LogReader {
    /// The most entries that one read gives: fewer were all there are.
    pub const BATCH: usize = BATCH;

    pub(super) const fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// The entries behind `after`, in order and bounded in number.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn read(
        &mut self,
        log: &str,
        after: LogPosition,
        wait: ReadWait,
    ) -> Result<Vec<LogEntry>, Unavailable> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(BATCH);
        if wait == ReadWait::Moment {
            command.arg("BLOCK").arg(BLOCK.as_millis().to_string());
        }
        command.arg("STREAMS").arg(log).arg(after.to_string());
        match self.query::<Value>(&command).await? {
            Value::Nil => Ok(Vec::new()),
            // RESP3 gives a map of logs, RESP2 a list of pairs.
            Value::Map(mut logs) => logs.pop().map_or(Ok(Vec::new()), |(_, entries)| parse_entries(entries)),
            Value::Array(mut logs) => match logs.pop() {
                Some(Value::Array(mut pair)) => parse_entries(pair.pop().unwrap_or_default()),
                _ => Err(Unavailable::Refused),
            },
            _ => Err(Unavailable::Refused),
        }
    }

    /// The first entry at or behind a position.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn first_from(
        &mut self,
        log: &str,
        from: LogPosition,
    ) -> Result<Option<LogPosition>, Unavailable> {
        let mut command = redis::cmd("XRANGE");
        command.arg(log).arg(from.to_string()).arg("+").arg("COUNT").arg(1);
        let entries = parse_entries(self.query(&command).await?)?;
        Ok(entries.first().map(|entry| entry.position))
    }

    /// What a log still has; nothing where there is none.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn extent(&mut self, log: &str) -> Result<LogExtent, Unavailable> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(log);
        let answer = tokio::time::timeout(READ_TIMEOUT, command.query_async(&mut self.connection)).await;
        match answer.map_err(|_| Unavailable::TimedOut)? {
            Ok(facts) => parse_extent(facts),
            Err(error) if error.is_io_error() => Err(Unavailable::Lost),
            Err(error) if error.detail().is_some_and(|detail| detail.contains("no such key")) => {
                Ok(LogExtent::default())
            }
            Err(_) => Err(Unavailable::Refused),
        }
    }

    /// Everybody's lines of a roster.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn lines(&mut self, roster: &str) -> Result<Vec<(String, String)>, Unavailable> {
        self.query(redis::cmd("HGETALL").arg(roster)).await
    }

    /// The milliseconds of the clock of Redis, by which positions are given out.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn clock(&mut self) -> Result<u64, Unavailable> {
        let (seconds, micros): (u64, u64) = self.query(&redis::cmd("TIME")).await?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }

    /// The bytes of a key.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn get<T: FromRedisValue>(&mut self, key: &str) -> Result<Option<T>, Unavailable> {
        self.query(redis::cmd("GET").arg(key)).await
    }

    /// The first bytes of a log's checkpoint; none where there is none.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn checkpoint(&mut self, key: &str, bytes_max: usize) -> Result<Vec<u8>, Unavailable> {
        self.query(redis::cmd("GETRANGE").arg(key).arg(0).arg(bytes_max.saturating_sub(1))).await
    }

    /// The value of a key that is set to `value` where it is missing; it expires long after its last use.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn get_or_set(&mut self, key: &str, value: &str) -> Result<String, Unavailable> {
        let mut get = redis::cmd("GETEX");
        get.arg(key).arg("PX").arg(millis(EPOCH_EXPIRY));
        // Read first: a Redis that is full still answers that.
        if let Some(value) = self.query(&get).await? {
            return Ok(value);
        }
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value).arg("NX").arg("PX").arg(millis(EPOCH_EXPIRY));
        self.query::<Value>(&set).await?;
        self.query(&get).await
    }

    /// Sets a key that expires long after its last use.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn set(&mut self, key: &str, value: &str) -> Result<(), Unavailable> {
        self.query(redis::cmd("SET").arg(key).arg(value).arg("PX").arg(millis(EPOCH_EXPIRY))).await
    }

    async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Unavailable> {
        match tokio::time::timeout(READ_TIMEOUT, command.query_async(&mut self.connection)).await {
            Err(_) => Err(Unavailable::TimedOut),
            Ok(Err(error)) if error.is_io_error() => Err(Unavailable::Lost),
            Ok(Err(_)) => Err(Unavailable::Refused),
            Ok(Ok(value)) => Ok(value),
        }
    }
}

fn parse_entries(value: Value) -> Result<Vec<LogEntry>, Unavailable> {
    let Value::Array(entries) = value else { return Err(Unavailable::Refused) };
    entries.into_iter().map(parse_entry).collect()
}

fn parse_extent(facts: HashMap<String, Value>) -> Result<LogExtent, Unavailable> {
    let mut facts = facts;
    let mut fact = |name: &str| facts.remove(name).unwrap_or_default();
    let number = |value: Value| redis::from_redis_value::<Option<u64>>(value).unwrap_or_default();
    let newest: String =
        redis::from_redis_value(fact("last-generated-id")).map_err(|_| Unavailable::Refused)?;
    let first = match fact("first-entry") {
        Value::Nil => None,
        entry => Some(parse_entry(entry)?.position),
    };
    Ok(LogExtent {
        first,
        newest: newest.parse()?,
        length: number(fact("length")).unwrap_or_default(),
        appended: number(fact("entries-added")),
        deleted: match fact("max-deleted-entry-id") {
            Value::Nil => LogPosition::default(),
            id => redis::from_redis_value::<String>(id).map_err(|_| Unavailable::Refused)?.parse()?,
        },
    })
}

fn parse_entry(value: Value) -> Result<LogEntry, Unavailable> {
    let (id, fields): (String, Vec<Bytes>) =
        redis::from_redis_value(value).map_err(|_| Unavailable::Refused)?;
    // An entry of somebody else has other fields; it still has a position.
    let bytes = fields.into_iter().nth(1).unwrap_or_default();
    Ok(LogEntry { position: id.parse()?, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_and_order_as_redis_orders_them() {
        let position = |text: &str| text.parse::<LogPosition>();
        assert_eq!(position("12-3").unwrap().to_string(), "12-3");
        assert!(position("9-5").unwrap() < position("10-0").unwrap());
        assert!(position("9-5").unwrap() < position("9-10").unwrap());
        for wrong in ["", "12", "-", "1-x", "-1-2"] {
            assert_eq!(position(wrong), Err(Unavailable::Refused), "{wrong}");
        }
    }
}
