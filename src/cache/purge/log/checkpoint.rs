//! Pure: what the log of purges says, folded up to a position, for replicas that have just started.
//!
//! It has the newest purges of each name, in the order of the log, as their places in it; a replica that
//! applies them and reads on behind the position knows what one knows that has read the whole log, also of
//! what the log has lost since.

use crate::cache::purge::positions::Positions;
use crate::cache::purge::tables::{Folded, Named, Tables};
use crate::cache::purge::{Fence, PurgeMode};
use crate::clock::Timestamp;
use crate::redis::LogPosition;
use postcard::ser_flavors::Size;
use serde::{Deserialize, Serialize};

/// In front of its bytes.
const FORMAT: u8 = 1;
/// Bytes of one in Redis, its tag included; older purges than fit count as forgotten.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// What is kept for everything but the purges: the head, gateways, and the tag.
const HEAD_BYTES: usize = 16 << 10;

/// A purge that still counts, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Placed {
    position: LogPosition,
    /// When it became stale, in milliseconds of the clock of Redis; `None`: a hard one.
    soft_millis: Option<u64>,
    named: Named,
}

/// The newest purge of a gateway that the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Newest {
    pub(super) gateway: u64,
    pub(super) number: u64,
    pub(super) position: LogPosition,
}

/// The log, folded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// How its names are kept.
    probe: u64,
    pub(super) epoch: u64,
    /// What was purged before it is not known.
    pub(super) floor: LogPosition,
    /// Everything up to it is in here.
    pub(super) position: LogPosition,
    /// At least so many entries: how many the log may have lost without losing others. `None`: not known.
    pub(super) appended: Option<u64>,
    /// In the order of the log.
    purges: Vec<Placed>,
    newest: Vec<Newest>,
}

/// What of the log a replica has read that folds it.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) epoch: u64,
    pub(super) floor: LogPosition,
    pub(super) position: LogPosition,
    pub(super) appended: Option<u64>,
    pub(super) positions: Positions,
    pub(super) newest: Vec<Newest>,
    /// What the clock of Redis is ahead of this process's, in milliseconds.
    pub(super) ahead_millis: i64,
    /// What was purged before it, by the clock of Redis, is too old for anything that is stored.
    pub(super) oldest_millis: u64,
}

impl Checkpoint {
    /// Folds what was read. Whatever is not known exactly counts as purged later than it was, never earlier.
    pub(super) fn fold(tables: &Tables, read: Read) -> Self {
        let place = |number| read.positions.place_of(number).unwrap_or(read.position).min(read.position);
        let (folded, forgotten) = tables.folded();
        let mut purges: Vec<_> = folded
            .into_iter()
            .map(|(number, Folded { named, mode, at })| {
                let at = at.as_millis().saturating_add_signed(read.ahead_millis);
                let soft_millis = (mode == PurgeMode::Soft).then_some(at);
                Placed { position: place(number), soft_millis, named }
            })
            // Others are not of this log.
            .filter(|purge| purge.position > LogPosition::default())
            .collect();
        // Stable: of one name the hard purge stays in front of the soft ones that came with it.
        purges.sort_by_key(|purge| purge.position);
        let lost = Self::cut(&mut purges, read.oldest_millis);
        let floor = [read.floor, place(forgotten.0), lost].into_iter().max().unwrap_or_default();
        Self {
            probe: tables.probe(),
            epoch: read.epoch,
            floor,
            position: read.position,
            appended: read.appended,
            purges,
            newest: read.newest,
        }
    }

    /// Takes out what is too old or too much; where the newest of that stands.
    fn cut(purges: &mut Vec<Placed>, oldest_millis: u64) -> LogPosition {
        let mut bytes = HEAD_BYTES;
        let fits = |purge: &&Placed| {
            // What cannot be measured does not fit.
            bytes += postcard::serialize_with_flavor(purge, Size::default()).unwrap_or(BYTES_MAX);
            bytes <= BYTES_MAX && purge.position.millis >= oldest_millis
        };
        let kept = purges.iter().rev().take_while(fits).count();
        let mut cut = purges.drain(..purges.len() - kept);
        cut.next_back().map_or(LogPosition::default(), |last| last.position)
    }

    /// As it is sealed.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Plain data into a Vec does not fail; nothing is no checkpoint.
        postcard::to_extend(self, vec![FORMAT]).unwrap_or_default()
    }

    /// Reads one of this format, whose names are kept as these tables keep theirs.
    pub(super) fn decode(bytes: &[u8], tables: &Tables) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        let own = (*format == FORMAT).then(|| postcard::from_bytes::<Self>(rest).ok())??;
        (own.probe == tables.probe()).then_some(own)
    }

    /// Applies it; the places that its purges have, and the fence of what has seen all of it.
    pub(super) fn apply(
        &self,
        tables: &Tables,
        ahead_millis: i64,
        now: Timestamp,
    ) -> Vec<(LogPosition, Fence)> {
        let purges = self.purges.iter().map(|purge| {
            let mode = if purge.soft_millis.is_some() { PurgeMode::Soft } else { PurgeMode::Hard };
            let at = local(purge.soft_millis.unwrap_or_default(), ahead_millis, now);
            (purge.position, Some(Folded { named: purge.named.clone(), mode, at }))
        });
        // Each has a number of its own for everybody: whoever waits for one of them must not be taken for earlier.
        let places = self.newest.iter().map(|newest| newest.position).chain([self.position]);
        let mut all: Vec<_> = purges.chain(places.map(|position| (position, None))).collect();
        all.sort_by_key(|(position, _)| *position);
        tables.unfold(all)
    }

    /// The newest purges of the gateways.
    pub(super) fn newest(&self) -> &[Newest] {
        &self.newest
    }
}

/// A time by the clock of Redis as one here, and not later than now.
pub(super) fn local(millis: u64, ahead_millis: i64, now: Timestamp) -> Timestamp {
    Timestamp::from_millis(millis.saturating_add_signed(ahead_millis.saturating_neg())).min(now)
}

#[cfg(test)]
mod tests;
