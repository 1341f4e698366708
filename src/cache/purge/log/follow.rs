//! Follows the log on a connection of its own and applies what others have purged.

use super::audit::{Finding, audit, number};
use super::checkpoint::{Checkpoint, local};
use super::compact;
use super::losses::{floor, goes_on, is_whole};
use super::own::Place;
use super::trail::Trail;
use super::{Following, Message, PAUSE, PURGE_BUDGET, Positions, Reading};
use crate::cache::purge::{Fence, Purge, PurgeMode};
use crate::redis::{LogEntry, LogExtent, LogPosition, LogReader, ReadWait, Unavailable};
use crate::telemetry::metrics;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it is looked whether the log is still there, where nothing comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub(super) async fn follow(log: Arc<Following>) {
    loop {
        let Err(cause) = follow_once(&log).await;
        log.state().reading = Reading::Behind;
        log.is_lost.store(true, Ordering::Relaxed);
        tracing::debug!(%cause, "cut off from the log of purges");
        log.redis.look(PURGE_BUDGET).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(log: &Following) -> Result<std::convert::Infallible, Unavailable> {
    let mut reader = log.redis.log_reader().await?;
    match set_clock(log, &mut reader).await {
        // Who may not ask for it goes by the own clock.
        Ok(()) | Err(Unavailable::Refused) => {}
        Err(cause) => return Err(cause),
    }
    check_continuity(log, &mut reader).await?;
    let mut looked_at = log.clock.now();
    loop {
        let asked_at = log.clock.now();
        let drawn = fastrand::u64(1..).to_string();
        // Asked for each time, because Redis may be flushed without the connection being lost.
        let epoch = reader.get_or_set(&log.epoch_key, &drawn).await?;
        let Some(epoch) = epoch.parse().ok().filter(|epoch| !log.state().left.contains(epoch)) else {
            tracing::warn!("Redis has come back as it was before: a new epoch begins");
            reader.set(&log.epoch_key, &drawn).await?;
            continue;
        };
        let known = log.state().epoch;
        if known != Some(epoch) {
            match believed_from(log, &mut reader, epoch).await? {
                Believed::Log { extent, from, checkpoint } => {
                    begin_with(log, epoch, (extent, from), checkpoint);
                }
                Believed::NothingBefore(floor) => {
                    begin(log, epoch, floor);
                    move_on(log);
                }
            }
        }
        let (after, appended, reading) = {
            let state = log.state();
            (state.last, state.appended, state.reading)
        };
        let wait = match reading {
            Reading::Behind => ReadWait::None,
            Reading::Following => ReadWait::Moment,
        };
        let entries = reader.read(&log.log_key, after, wait).await?;
        // What does not fill a batch was all there was.
        let at_end = entries.len() < LogReader::BATCH;
        for entry in &entries {
            take(log, entry);
            if reading == Reading::Following {
                observe_lag(log, entry);
            }
        }
        if !entries.is_empty() || asked_at.since(looked_at) >= LOOK_EVERY {
            looked_at = asked_at;
            let extent = reader.extent(&log.log_key).await?;
            if is_lost(log, extent) {
                leave_epoch(log, &mut reader, epoch).await?;
                continue;
            }
            if has_gap(log, extent, epoch, (after, appended)).await {
                continue;
            }
        }
        if at_end {
            log.state().reading = Reading::Following;
            log.verified_at.fetch_max(asked_at.as_millis(), Ordering::Relaxed);
            log.is_lost.store(false, Ordering::Relaxed);
        }
    }
}

/// Positions are given out, and replicas' lines age, by the clock of Redis.
async fn set_clock(log: &Following, reader: &mut LogReader) -> Result<(), Unavailable> {
    let before = log.clock.now();
    let there = reader.clock().await?;
    let way = log.clock.now().since(before) / 2;
    let here = before.plus(way).as_millis();
    log.ahead_millis.store(there.cast_signed().saturating_sub(here.cast_signed()), Ordering::Relaxed);
    Ok(())
}

/// How long another gateway's purge took from Redis to here.
fn observe_lag(log: &Following, entry: &LogEntry) {
    let millis = log.redis_millis().saturating_sub(entry.position.millis);
    let lag = Duration::from_millis(millis);
    ::metrics::histogram!(metrics::PURGE_LAG).record(lag.as_secs_f64());
}

/// Whether the log is another than it was, though no connection was lost: it was evicted or removed.
fn is_lost(log: &Following, extent: LogExtent) -> bool {
    let mut state = log.state();
    let is_another = state.extent.replace(extent).is_some_and(|known| {
        // A log that has lost nothing keeps its first entry.
        let began_anew = is_whole(extent) && known.first.is_some_and(|first| extent.first != Some(first));
        began_anew || extent.appended < known.appended
    });
    is_another || extent.newest < state.last
}

/// Has everybody begin a new epoch, unless somebody has already.
async fn leave_epoch(log: &Following, reader: &mut LogReader, epoch: u64) -> Result<(), Unavailable> {
    if reader.get::<u64>(&log.epoch_key).await? == Some(epoch) {
        tracing::warn!("Redis has lost the log of purges: a new epoch begins");
        reader.set(&log.epoch_key, &fastrand::u64(1..).to_string()).await?;
    }
    Ok(())
}

/// Whether the log was trimmed past `after` before what came next was read, as it may be while this
/// process sleeps and its connection does not: then it is begun anew.
async fn has_gap(
    log: &Following,
    extent: LogExtent,
    epoch: u64,
    (after, appended): (LogPosition, Option<u64>),
) -> bool {
    let known = {
        let mut state = log.state();
        state.kept = (!is_whole(extent)).then_some(extent.length);
        if extent.newest <= state.last {
            state.appended = extent.appended;
        }
        after.max(state.floor)
    };
    if goes_on(extent, known, appended) {
        return false;
    }
    tracing::warn!("the log of purges was trimmed past what is known here");
    begin_with(log, epoch, (extent, LogPosition::default()), compact::read(log, epoch).await);
    true
}

/// After a gap: the log must still have what was applied last, else it is not the same log.
async fn check_continuity(log: &Following, reader: &mut LogReader) -> Result<(), Unavailable> {
    let (known, before) = {
        let state = log.state();
        (state.epoch.map(|epoch| Place { epoch, position: state.last }), state.seen_before)
    };
    let Some(Place { epoch, position: last }) = known.or(before) else { return Ok(()) };
    if reader.get::<u64>(&log.epoch_key).await? != Some(epoch) {
        // Others have begun a new one already, or it was flushed.
        if known.is_none() {
            log.state().leave(epoch);
        }
        return Ok(());
    }
    if last == LogPosition::default() || reader.first_from(&log.log_key, last).await? == Some(last) {
        if known.is_some()
            && let Finding::Unsound(seen) = audit(log, reader, epoch).await?
        {
            let newest = reader.extent(&log.log_key).await?.newest;
            begin(log, epoch, beyond(log, reader, newest.max(seen)).await?);
            move_on(log);
        }
        return Ok(());
    }
    let extent = reader.extent(&log.log_key).await?;
    if extent.first.map_or(extent.newest >= last, |first| first > last) {
        tracing::warn!("the log of purges was trimmed past what is known here");
        if known.is_some() {
            begin_with(log, epoch, (extent, LogPosition::default()), compact::read(log, epoch).await);
        }
        return Ok(());
    }
    tracing::warn!("Redis has come back without purges that are known here: a new epoch begins");
    reader.set(&log.epoch_key, &fastrand::u64(1..).to_string()).await
}

/// What is believed of a log that was not followed yet.
enum Believed {
    /// What it has behind a position, and the checkpoint if it goes on from that.
    Log { extent: LogExtent, from: LogPosition, checkpoint: Option<Checkpoint> },
    /// Nothing before this: what is stored from now on has to stand behind an entry that is made now.
    NothingBefore(LogPosition),
}

async fn believed_from(log: &Following, reader: &mut LogReader, epoch: u64) -> Result<Believed, Unavailable> {
    // Before the log, which must have what it tells of.
    let checkpoint = compact::read(log, epoch).await;
    let extent = reader.extent(&log.log_key).await?;
    let finding = match audit(log, reader, epoch).await? {
        found if checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.position <= extent.newest) => found,
        found => {
            tracing::warn!("the log of purges has lost its end: all that is older is validated");
            compact::count("ahead");
            found.and_unsound(checkpoint.as_ref().map_or(extent.newest, |checkpoint| checkpoint.position))
        }
    };
    let from = match finding {
        Finding::Nobody => LogPosition::default(),
        Finding::Sound(after) => after,
        Finding::Unsound(seen) => {
            if checkpoint.is_some_and(|checkpoint| checkpoint.position <= extent.newest) {
                compact::count("unsound");
            }
            return Ok(Believed::NothingBefore(beyond(log, reader, extent.newest.max(seen)).await?));
        }
    };
    Ok(Believed::Log { extent, from, checkpoint })
}

/// Begins a log that is believed behind `from`, behind the checkpoint if that knows no less.
pub(super) fn begin_with(
    log: &Following,
    epoch: u64,
    (extent, from): (LogExtent, LogPosition),
    checkpoint: Option<Checkpoint>,
) {
    let floor = floor(extent).max(from);
    match checkpoint.filter(|checkpoint| compact::fits(checkpoint, extent, from)) {
        None => begin(log, epoch, floor),
        Some(checkpoint) => {
            begin(log, epoch, checkpoint.floor);
            compact::resume(log, &checkpoint);
        }
    }
    log.state().kept = (floor != LogPosition::default()).then_some(0);
}

/// The first position that was not given out yet, as far as is known: what lies before it is not believed.
async fn beyond(
    log: &Following,
    reader: &mut LogReader,
    newest: LogPosition,
) -> Result<LogPosition, Unavailable> {
    // Asked for: what is stored from now on must not stand before it.
    let millis = match reader.clock().await {
        Err(Unavailable::Refused) => log.redis_millis(),
        asked => asked?,
    };
    let next = LogPosition { millis: newest.millis, sequence: newest.sequence.saturating_add(1) };
    Ok(next.max(LogPosition { millis, sequence: 0 }))
}

/// Adds an entry that purges nothing, so that what is stored from now on stands behind it.
fn move_on(log: &Following) {
    // Nobody waits for it.
    drop(log.apply(Vec::new(), PurgeMode::Hard, log.clock.now()));
}

/// Reads the log from its beginning. What is in memory may have missed purges, unless this is the
/// first log that this gateway sees, and it is whole.
pub(super) fn begin(log: &Following, epoch: u64, floor: LogPosition) {
    let mut state = log.state();
    let whole = state.epoch.is_none() && floor == LogPosition::default();
    let number = if whole { log.tables.fence() } else { log.tables.distrust_all() };
    state.outbox.send_again();
    if let Some(before) = state.epoch.filter(|before| *before != epoch) {
        state.leave(before);
    }
    (state.seen_before, state.extent, state.trail) = (None, None, Trail::begin(floor));
    state.kept = (floor != LogPosition::default()).then_some(0);
    (state.epoch, state.last, state.floor) = (Some(epoch), LogPosition::default(), floor);
    state.appended = (floor == LogPosition::default()).then_some(0);
    state.positions = Positions::begin(number);
    state.reading = Reading::Behind;
    drop(state);
    log.outgoing.notify_one();
    log.to_keep.notify_one();
}

pub(super) fn take(log: &Following, entry: &LogEntry) {
    let Some(message) = log.seal.opened(&entry.bytes) else {
        tracing::warn!("an entry of the log of purges was not written by a gateway that has the secret");
        ::metrics::counter!(metrics::TIER_UNREADABLE, "reason" => "purge-entry").increment(1);
        log.state().read_to(entry.position);
        return;
    };
    // What cannot be read was written by another version: it may have purged anything.
    let message = postcard::from_bytes(message).unwrap_or(Message {
        gateway: 0,
        number: 0,
        mode: PurgeMode::Hard,
        purges: vec![Purge::All],
    });
    let mut state = log.state();
    let own = (message.gateway == log.gateway).then(|| state.outbox.read_back(message.number)).flatten();
    if let Some(lowest) = own {
        state.positions.own(entry.position, Fence(lowest), log.tables.fence());
        if let Some(epoch) = state.epoch {
            let place = Place { epoch, position: entry.position };
            state.own.read_back(lowest, message.number, place);
        }
    } else {
        // A soft one counts from when it was made, also for who hears of it late.
        let ahead = log.ahead_millis.load(Ordering::Relaxed);
        let at = local(entry.position.millis, ahead, log.clock.now());
        let number = log.tables.apply(&message.purges, message.mode, at);
        state.positions.applied(entry.position, number);
        state.heard.applied(message.gateway, message.number, number);
        for purge in &message.purges {
            let labels = [("kind", purge.kind()), ("mode", message.mode.as_str())];
            ::metrics::counter!(metrics::PURGES, &labels).increment(1);
        }
    }
    state.read_to(entry.position);
    if log.seal.vouches() {
        state.trail.read(entry.position, number(&log.seal, entry).unwrap_or_default());
    }
    drop(state);
    log.moved.send_replace(());
}
