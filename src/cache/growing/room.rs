//! Room for the next chunk of a body that is not kept whole, and how long slow readers are waited for.
//!
//! The fastest sets the pace. One that is a window behind is waited for while it comes on by
//! [`ENOUGH_BYTES`], or by a quarter of what readers take on average, in the time in which they take a
//! window, from [`HOLD_MIN`] to [`HOLD_MAX`]: many equal readers on one full line take turns, and a socket
//! swallows much before it shows that anything is read. All that stand still are found in one such time, and
//! nobody waits for them again.
//!
//! Who wakes the writer (I10): where nobody has read what has to go, the first who does; where some have, the
//! last of those that come on; where nobody reads, who comes. Counted are those only who read what is there:
//! not who waits for a part that is still to come, nor who has all that it wants, nor who stands still.

use super::{Chunk, Inner, Kept, WINDOW_BYTES};
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;

/// How long slow readers are waited for at least.
pub(super) const HOLD_MIN: Duration = Duration::from_secs(1);

/// How long one that stands still is waited for at most.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(10);

/// How far a reader must come on in that time to be waited for anew, at most.
const ENOUGH_BYTES: u64 = 1024 * 1024;

/// Whether the next chunk may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Made,
    /// Nobody has read what would have to go.
    Full,
    /// The fastest has, others have not.
    Behind,
    /// Nobody reads.
    Abandoned,
}

/// How much is held of a body that is not kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// As far as readers may be apart.
    Open,
    /// There is no room for more than so many bytes, and none for what everybody has read.
    Shut(u64),
}

impl Window {
    fn bytes(self) -> u64 {
        match self {
            Self::Open => WINDOW_BYTES,
            Self::Shut(bytes) => bytes.min(WINDOW_BYTES),
        }
    }
}

/// How a reader behaves while others wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gait {
    ComesOn,
    /// Nobody waits for it, unless it catches up.
    StandsStill,
}

/// Where a reader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    At(u64),
    /// It has all that it wants. Its place stays its own.
    Over,
}

/// A reader, as the body knows it.
#[derive(Debug)]
pub(super) struct ReaderState {
    pub(super) position: Position,
    /// Where it ends, if not with the body.
    pub(super) end: u64,
    /// Where it was when others began to wait.
    mark: Option<u64>,
    pub(super) gait: Gait,
    pub(super) waker: Option<Waker>,
}

impl ReaderState {
    pub(super) const fn new() -> Self {
        Self { position: Position::At(0), end: u64::MAX, mark: None, gait: Gait::ComesOn, waker: None }
    }

    pub(super) const fn go_on_from(&mut self, next: u64) {
        self.position = if next < self.end { Position::At(next) } else { Position::Over };
    }
}

/// Whom the writer waits for; `first_end` is the end of the chunk that has to go before the next comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    Nobody,
    /// Whoever reads.
    Newcomer,
    /// The first to have read so far.
    First {
        first_end: u64,
    },
    /// The last of so many that come on and have not read so far.
    Last {
        first_end: u64,
        unread: usize,
    },
}

/// The wait for slow readers.
#[derive(Debug)]
pub(super) struct Hold {
    /// When the body began.
    began: Instant,
    /// How long since it was last judged who comes on.
    now: Duration,
    /// What is expected until it is judged again.
    patience: Patience,
}

/// How long one is waited for, and how far it must come on in that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Patience {
    time: Duration,
    bytes: u64,
}

impl Hold {
    pub(super) const fn new(began: Instant) -> Self {
        Self { began, now: Duration::ZERO, patience: Patience { time: HOLD_MIN, bytes: 1 } }
    }
}

/// The patience with the slow where readers have read `bytes` on average in so much time.
fn patience(bytes: u64, time: Duration) -> Patience {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let a_window = Duration::from_millis(WINDOW_BYTES.saturating_mul(millis) / bytes.max(1));
    let time = a_window.clamp(HOLD_MIN, HOLD_MAX);
    let meanwhile = bytes.saturating_mul(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)) / millis;
    Patience { time, bytes: (meanwhile / 4).clamp(1, ENOUGH_BYTES) }
}

impl Inner {
    /// Where those are who want more of it, and are not cut yet.
    fn positions(&self) -> impl Iterator<Item = (u64, Gait)> {
        let wanting = self.readers.iter().flatten().filter_map(|reader| match reader.position {
            Position::At(next) => Some((next, reader.gait)),
            Position::Over => None,
        });
        wanting.filter(|(next, _)| *next >= self.start)
    }

    /// Where those are of them who read what is there.
    fn reading(&self) -> impl Iterator<Item = (u64, Gait)> {
        self.positions().filter(|(next, _)| *next <= self.received)
    }

    /// Where those are of them who come on.
    fn coming_on(&self) -> impl Iterator<Item = u64> {
        self.reading().filter(|(_, gait)| *gait == Gait::ComesOn).map(|(next, _)| next)
    }

    /// Where the fastest is. Who waits for a part that has not come yet reads nothing and is not fast; where
    /// there are only such, nobody misses what is there.
    fn fastest(&self) -> Option<u64> {
        let reading = self.reading().map(|(next, _)| next).max();
        reading.or_else(|| self.positions().next().map(|_| self.received))
    }

    fn patience(&self, now: Instant) -> Patience {
        let sum = |(n, sum): (u64, u64), (next, _)| (n + 1, sum.saturating_add(next));
        let (readers, bytes) = self.reading().fold((0, 0), sum);
        patience(bytes / readers.max(1), now.saturating_duration_since(self.hold.began))
    }

    /// How long the slow are still waited for; or that somebody comes, where nobody reads.
    pub(super) fn patience_left(&self) -> Duration {
        let time = if self.positions().next().is_some() { self.hold.patience.time } else { HOLD_MIN };
        time.saturating_sub(self.hold.now)
    }

    /// Counts a wait.
    pub(super) fn has_waited(&mut self, time: Duration) {
        self.hold.now += time;
    }

    /// Finds who has not come on while others waited, though there was something to read: for them nobody
    /// waits any more.
    pub(super) fn judge(&mut self) {
        let enough = self.hold.patience.bytes;
        let received = self.received;
        for reader in self.readers.iter_mut().flatten() {
            let Position::At(next) = reader.position else { continue };
            let has_come_on = |from: u64| next >= from.saturating_add(enough);
            if next < received && reader.mark.is_some_and(|from| !has_come_on(from)) {
                reader.gait = Gait::StandsStill;
            }
        }
        self.mark();
        self.hold.now = Duration::ZERO;
    }

    /// Notes where everybody is.
    fn mark(&mut self) {
        for reader in self.readers.iter_mut().flatten() {
            reader.mark = match reader.position {
                Position::At(next) => Some(next),
                Position::Over => None,
            };
        }
    }

    /// Notes whom the writer waits for, and from where.
    pub(super) fn await_readers(&mut self, room: Room, now: Instant) {
        let first_end = self.chunks.front().map_or(0, Chunk::end);
        self.awaited = match room {
            Room::Made => return self.awaited = Awaited::Nobody,
            Room::Full => Awaited::First { first_end },
            Room::Behind => {
                Awaited::Last { first_end, unread: self.coming_on().filter(|next| *next < first_end).count() }
            }
            Room::Abandoned => Awaited::Newcomer,
        };
        if self.hold.now.is_zero() {
            self.hold.patience = self.patience(now);
            self.mark();
        }
    }

    /// A reader that behaved so has moved; whether the writer has to look again.
    pub(super) fn has_moved(&mut self, from: u64, to: u64, gait: Gait) -> bool {
        match &mut self.awaited {
            Awaited::First { first_end } => to >= *first_end,
            Awaited::Last { first_end, unread } if from < *first_end && to >= *first_end => {
                *unread = unread.saturating_sub(usize::from(gait == Gait::ComesOn));
                *unread == 0
            }
            Awaited::Nobody | Awaited::Newcomer | Awaited::Last { .. } => false,
        }
    }

    /// Whether there is room; what everybody has read is dropped for it.
    pub(super) fn make_room(&mut self, window: Window) -> Room {
        if self.kept == Kept::Whole {
            return Room::Made;
        }
        let (slowest, fastest) = (self.coming_on().min(), self.fastest());
        while let Some(first_end) = self.chunks.front().map(Chunk::end) {
            let is_over = self.held_bytes() > window.bytes();
            if !is_over && window == Window::Open {
                break;
            }
            match (slowest, fastest) {
                (Some(slowest), _) if slowest >= first_end => self.drop_first(),
                _ if !is_over => break,
                (_, None) => return Room::Abandoned,
                (_, Some(fastest)) if fastest < first_end => return Room::Full,
                (Some(_), _) => return Room::Behind,
                (None, _) => self.drop_first(),
            }
        }
        Room::Made
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.chunks.pop_front() {
            self.start = first.end();
            self.share.give_back(first.bytes.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    #[test]
    fn i10_one_that_stands_still_is_waited_for_as_long_as_others_take_for_a_window() {
        for (bytes, time, waited, enough) in [
            (100 * MIB, Duration::from_secs(1), HOLD_MIN, MIB),
            (16 * MIB, Duration::from_secs(2), HOLD_MIN, MIB),
            (16 * MIB, Duration::from_secs(4), Duration::from_secs(2), MIB),
            (16 * MIB, Duration::from_secs(16), Duration::from_secs(8), MIB),
            (10 * MIB, Duration::from_secs(100), HOLD_MAX, 256 * KIB),
            (0, Duration::ZERO, HOLD_MAX, 1),
            (u64::MAX, Duration::MAX, HOLD_MIN, 1),
        ] {
            assert_eq!(
                patience(bytes, time),
                Patience { time: waited, bytes: enough },
                "{bytes} in {time:?}"
            );
        }
    }
}
