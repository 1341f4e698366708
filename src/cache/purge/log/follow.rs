//! Follows the log on a connection of its own and applies what others have purged.

use super::{Following, LOG_LENGTH, Message, PAUSE, Positions, Reading, State};
use crate::cache::purge::{Fence, Purge, PurgeMode};
use crate::redis::{LogEntry, LogPosition, LogReader, ReadWait, Unavailable};
use crate::telemetry::metrics;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Runs until it is dropped.
pub(super) async fn follow(log: Arc<Following>) {
    loop {
        let Err(cause) = follow_once(&log).await;
        log.state().reading = Reading::Behind;
        tracing::debug!(%cause, "cut off from the log of purges");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(log: &Following) -> Result<std::convert::Infallible, Unavailable> {
    let mut reader = log.redis.log_reader().await?;
    check_continuity(log, &mut reader).await?;
    loop {
        let asked_at = log.clock.now();
        let drawn = fastrand::u64(1..).to_string();
        // Asked for each time, because Redis may be flushed without the connection being lost.
        let epoch = reader.get_or_set(&log.epoch_key, &drawn).await?;
        let epoch = epoch.parse().map_err(|_| Unavailable::Refused)?;
        let known = log.state().epoch;
        if known != Some(epoch) {
            let floor = floor(log, &mut reader).await?;
            begin(log, epoch, floor);
        }
        let (after, reading) = {
            let state = log.state();
            (state.last, state.reading)
        };
        let wait = match reading {
            Reading::Behind => ReadWait::None,
            Reading::Following => ReadWait::Moment,
        };
        let entries = reader.read(&log.log_key, after, wait).await?;
        // What does not fill a batch was all there was.
        let at_end = entries.len() < LogReader::BATCH;
        for entry in entries {
            take(log, &entry);
        }
        if at_end {
            log.state().reading = Reading::Following;
            log.verified_at.fetch_max(asked_at.as_millis(), Ordering::Relaxed);
        }
    }
}

/// After a gap: the log must still have what was applied last, else it is not the same log.
async fn check_continuity(log: &Following, reader: &mut LogReader) -> Result<(), Unavailable> {
    let (epoch, last) = {
        let state = log.state();
        (state.epoch, state.last)
    };
    let start = LogPosition::default();
    let Some(epoch) = epoch else { return Ok(()) };
    if last == start || reader.first_from(&log.log_key, last).await? == Some(last) {
        return Ok(());
    }
    if reader.first_from(&log.log_key, start).await?.is_some_and(|first| first > last) {
        tracing::warn!("the log of purges was trimmed past what is known here");
        let floor = floor(log, reader).await?;
        begin(log, epoch, floor);
        return Ok(());
    }
    tracing::warn!("Redis has come back without purges that are known here: a new epoch begins");
    reader.set(&log.epoch_key, &fastrand::u64(1..).to_string()).await
}

/// What is before the log's first entry cannot be known where the log is so long that it is trimmed.
async fn floor(log: &Following, reader: &mut LogReader) -> Result<LogPosition, Unavailable> {
    if reader.length(&log.log_key).await? < LOG_LENGTH {
        return Ok(LogPosition::default());
    }
    let first = reader.first_from(&log.log_key, LogPosition::default()).await?;
    Ok(first.unwrap_or_default())
}

/// Reads the log from its beginning. What is in memory may have missed purges, unless this is the
/// first log that this gateway sees, and it is whole.
pub(super) fn begin(log: &Following, epoch: u64, floor: LogPosition) {
    let mut state = log.state();
    let whole = state.epoch.is_none() && floor == LogPosition::default();
    let number = if whole { log.tables.fence() } else { log.tables.distrust_all() };
    let (mut outbox, heard) = (std::mem::take(&mut state.outbox), std::mem::take(&mut state.heard));
    outbox.send_again();
    *state = State {
        epoch: Some(epoch),
        last: LogPosition::default(),
        floor,
        positions: Positions::begin(number),
        outbox,
        // What was applied here was applied, whatever has become of the log.
        heard,
        reading: Reading::Behind,
    };
    drop(state);
    log.outgoing.notify_one();
}

pub(super) fn take(log: &Following, entry: &LogEntry) {
    // What cannot be read was written by another version: it may have purged anything.
    let message = postcard::from_bytes(&entry.bytes).unwrap_or(Message {
        gateway: 0,
        number: 0,
        mode: PurgeMode::Hard,
        purges: vec![Purge::All],
    });
    let mut state = log.state();
    let own = (message.gateway == log.gateway).then(|| state.outbox.read_back(message.number)).flatten();
    if let Some(lowest) = own {
        state.positions.own(entry.position, Fence(lowest), log.tables.fence());
    } else {
        let number = log.tables.apply(&message.purges, message.mode, log.clock.now());
        state.positions.applied(entry.position, number);
        state.heard.applied(message.gateway, message.number, number);
        for purge in &message.purges {
            let labels = [("kind", purge.kind()), ("mode", message.mode.as_str())];
            ::metrics::counter!(metrics::PURGES, &labels).increment(1);
        }
    }
    state.last = entry.position;
    drop(state);
    log.moved.send_replace(());
}
