//! Writes the checkpoint of the log now and then, and begins with it where a replica has not read the log.
//!
//! The replica of the lowest name writes it, off every request's path. It is read in one command. Whatever is
//! wrong with it is counted, and the log is read from its beginning instead.

use super::checkpoint::{BYTES_MAX, Checkpoint, Newest, Read};
use super::losses::{floor, goes_on};
use super::own::Place;
use super::trail::Trail;
use super::{Following, Reading, State};
use crate::redis::{LogExtent, LogPosition, Unavailable};
use crate::telemetry::metrics;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// At least so long between two.
const WRITE_PAUSE: Duration = Duration::from_secs(2);
/// After a checkpoint of `n` bytes the next one waits for `n` divided by this in seconds, besides.
const BYTES_PER_SECOND: u64 = 128 << 10;
/// What writing one may take; nobody waits for it.
const WRITE_BUDGET: Duration = Duration::from_millis(500);
/// Nothing in Redis outlives it, so what was purged earlier is forgotten.
const PURGES_KEPT: Duration = Duration::from_hours(366 * 24);

/// Writes one whenever there is something new to tell, until it is dropped.
pub(super) async fn write(log: Arc<Following>) {
    let (mut written, mut pause) = (None, WRITE_PAUSE);
    loop {
        tokio::time::sleep(pause).await;
        pause = WRITE_PAUSE;
        let Some(read) = read_behind(&log, written) else { continue };
        let place = Place { epoch: read.epoch, position: read.position };
        let folding = Arc::clone(&log);
        let folded = tokio::task::spawn_blocking(move || {
            let checkpoint = Checkpoint::fold(&folding.tables, read);
            folding.seal.sealed_checkpoint(checkpoint.encode())
        });
        let Ok(bytes) = folded.await else { continue };
        let is_written = log.redis.write_checkpoint(&log.checkpoint_key, &bytes, WRITE_BUDGET).await;
        let result = is_written.map_or_else(Unavailable::as_str, |()| "written");
        ::metrics::counter!(metrics::CHECKPOINTS_WRITTEN, "result" => result).increment(1);
        written = is_written.map_or(written, |()| Some(place));
        pause += Duration::from_millis(bytes.len() as u64 * 1000 / BYTES_PER_SECOND);
    }
}

/// What was read of the log, where it is this replica's to tell and goes beyond what it has written.
fn read_behind(log: &Following, written: Option<Place>) -> Option<Read> {
    if !log.is_first() {
        return None;
    }
    let (epoch, position) = {
        let state = log.state();
        (state.epoch.filter(|_| state.reading == Reading::Following)?, state.last)
    };
    if position == LogPosition::default() || written == Some(Place { epoch, position }) {
        return None;
    }
    Some(read_so_far(log, epoch))
}

pub(super) fn read_so_far(log: &Following, epoch: u64) -> Read {
    let state = log.state();
    Read {
        epoch,
        floor: state.floor,
        position: state.last,
        appended: state.appended,
        positions: state.positions.clone(),
        newest: newest(&state, epoch, log.gateway),
        ahead_millis: log.ahead_millis.load(Ordering::Relaxed),
        oldest_millis: log.redis_millis().saturating_sub(kept_millis()),
    }
}

/// The newest purge of each gateway, this one included.
fn newest(state: &State, epoch: u64, own: u64) -> Vec<Newest> {
    let others = state.heard.newest().filter_map(|(gateway, number, here)| {
        let position = state.positions.place_of(here.0)?;
        (position > LogPosition::default()).then_some(Newest { gateway, number, position })
    });
    let read_back = state.own.newest_read_back().filter(|(_, place)| place.epoch == epoch);
    let own = read_back.map(|(number, place)| Newest { gateway: own, number, position: place.position });
    others.chain(own).collect()
}

fn kept_millis() -> u64 {
    u64::try_from(PURGES_KEPT.as_millis()).unwrap_or(u64::MAX)
}

/// The checkpoint that is in Redis, if it can be read and is of this epoch.
pub(super) async fn read(log: &Following, epoch: u64) -> Option<Checkpoint> {
    // On a connection of its own: what is wrong with it costs no more than itself.
    let bytes = match log.redis.log_reader().await {
        Ok(mut reader) => reader.checkpoint(&log.checkpoint_key, BYTES_MAX + 1).await,
        Err(cause) => Err(cause),
    };
    let found = match bytes {
        Err(_) => Err("unavailable"),
        Ok(bytes) if bytes.is_empty() => Err("missing"),
        Ok(bytes) if bytes.len() > BYTES_MAX => Err("unreadable"),
        Ok(bytes) => {
            let opened = log.seal.opened_checkpoint(&bytes);
            opened.and_then(|bytes| Checkpoint::decode(bytes, &log.tables)).ok_or("unreadable")
        }
    };
    let found = found.and_then(|found| if found.epoch == epoch { Ok(found) } else { Err("other-epoch") });
    if found == Err("unreadable") {
        tracing::warn!("the checkpoint of the log of purges was not written by a gateway of this namespace");
        ::metrics::counter!(metrics::TIER_UNREADABLE, "reason" => "purge-checkpoint").increment(1);
    }
    found.inspect_err(|result| count(result)).ok()
}

/// Whether a log that is believed behind `from` goes on where the checkpoint ends, and does not reach back further
/// itself.
pub(super) fn fits(checkpoint: &Checkpoint, extent: LogExtent, from: LogPosition) -> bool {
    let result = if checkpoint.position < from || !goes_on(extent, checkpoint.position, checkpoint.appended) {
        "behind"
    } else if checkpoint.floor > floor(extent).max(from) {
        "coarser"
    } else {
        "used"
    };
    count(result);
    result == "used"
}

/// Goes on behind a checkpoint in a log that was just begun.
pub(super) fn resume(log: &Following, checkpoint: &Checkpoint) {
    let places = checkpoint.apply(&log.tables, log.ahead_millis.load(Ordering::Relaxed), log.clock.now());
    let mut state = log.state();
    for (position, number) in places {
        state.positions.applied(position, number);
    }
    for newest in checkpoint.newest() {
        let here = state.positions.fence_of(newest.position);
        state.heard.applied(newest.gateway, newest.number, here);
    }
    (state.last, state.appended) = (checkpoint.position, checkpoint.appended);
    state.trail = Trail::begin_behind(checkpoint.position);
    drop(state);
    log.moved.send_replace(());
}

pub(super) fn count(result: &'static str) {
    ::metrics::counter!(metrics::CHECKPOINTS_READ, "result" => result).increment(1);
}
