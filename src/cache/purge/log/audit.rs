//! Holds the log against what a replica at work has read of it. Who may write to Redis but has no secret can take
//! entries out, put them elsewhere, or bring an earlier log back: who was not there to see it would believe that.

use super::roster::Peer;
use super::{Following, Seal};
use crate::redis::{LogEntry, LogPosition, LogReader, ReadWait, Unavailable};
use crate::telemetry::metrics;
use std::cmp::Reverse;

/// What there is to hold it against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nobody is at work, or there is no secret: the log is believed as it stands.
    Nobody,
    /// It is what a replica has read of it, behind this position.
    Sound(LogPosition),
    /// It is not, or those at work follow another epoch; they have seen positions up to this one.
    Unsound(LogPosition),
}

impl Finding {
    /// As unsound, with positions seen up to this one at least.
    pub(super) fn and_unsound(self, seen: LogPosition) -> Self {
        match self {
            Self::Unsound(farthest) => Self::Unsound(farthest.max(seen)),
            Self::Nobody | Self::Sound(_) => Self::Unsound(seen),
        }
    }
}

/// Reads the stretch that the replica which is farthest vouches for, once more.
pub(super) async fn audit(
    log: &Following,
    reader: &mut LogReader,
    epoch: u64,
) -> Result<Finding, Unavailable> {
    if !log.seal.vouches() {
        return Ok(Finding::Nobody);
    }
    let peers = log.at_work(reader.lines(&log.roster_key).await?);
    let farthest = peers.iter().map(|peer| peer.position).max();
    let of_epoch = peers.iter().filter(|peer| peer.epoch == epoch);
    let Some(peer) = of_epoch.max_by_key(|peer| (peer.position, Reverse(peer.after))) else {
        return Ok(farthest.map_or(Finding::Nobody, Finding::Unsound));
    };
    let (mut after, mut sum) = (peer.after, 0_u128);
    while after < peer.position {
        let entries = reader.read(&log.log_key, after, ReadWait::None).await?;
        let Some(last) = entries.last() else { break };
        after = last.position;
        let read = entries.iter().take_while(|entry| entry.position <= peer.position);
        sum = read.fold(sum, |sum, entry| sum.wrapping_add(number(&log.seal, entry).unwrap_or_default()));
    }
    if has_read(&log.seal, peer, sum) {
        return Ok(Finding::Sound(peer.after));
    }
    tracing::warn!("the log of purges is not what another replica has read: all that is older is validated");
    ::metrics::counter!(metrics::TIER_UNREADABLE, "reason" => "purge-log").increment(1);
    Ok(Finding::Unsound(farthest.unwrap_or_default()))
}

/// What an entry and its place add to a trail; `None`: it is not believed.
pub(super) fn number(seal: &Seal, entry: &LogEntry) -> Option<u128> {
    let message = seal.opened(&entry.bytes)?;
    let LogPosition { millis, sequence } = entry.position;
    Some(seal.number([&millis.to_be_bytes()[..], &sequence.to_be_bytes(), message]))
}

fn has_read(seal: &Seal, peer: &Peer, sum: u128) -> bool {
    seal.vouches_for(&peer.trail, [peer.said.as_bytes(), &sum.to_be_bytes()])
}
