//! Room for the next chunk of a body that is not kept whole, and how long slow readers are waited for.
//!
//! The fastest sets the pace. One that is a window behind is waited for while it comes on by
//! [`ENOUGH_BYTES`], or by a quarter of what readers take on average, in the time in which they take a
//! window, from [`HOLD_MIN`] to [`HOLD_MAX`]: many equal readers on one full line take turns, and a socket
//! swallows much before it shows that anything is read. All that stand still are found in one such time, and
//! nobody waits for them again.

use super::{Chunk, Inner, Kept, ReaderState, WINDOW_BYTES};
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

/// The end of the chunk that has to go before the next comes, and how many have not read so far: only the
/// first and the last of those who do wake the writer.
#[derive(Debug)]
pub(super) struct Awaited {
    first_end: u64,
    pub(super) all: usize,
    unread: usize,
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
    /// Those readers that are still in the window.
    fn reading(&self) -> impl Iterator<Item = &ReaderState> {
        self.readers.iter().flatten().filter(|reader| reader.next >= self.start)
    }

    fn positions(&self) -> impl Iterator<Item = u64> {
        self.reading().map(|reader| reader.next)
    }

    /// Where the slowest of those is who come on.
    fn slowest(&self) -> Option<u64> {
        self.reading().filter(|reader| reader.gait == Gait::ComesOn).map(|reader| reader.next).min()
    }

    /// Where the fastest is. Who waits for a part that has not come yet reads nothing and is not fast; where
    /// there are only such, nobody misses what is there.
    fn fastest(&self) -> Option<u64> {
        let reading = self.positions().filter(|next| *next <= self.received).max();
        reading.or_else(|| self.positions().next().map(|_| self.received))
    }

    fn patience(&self, now: Instant) -> Patience {
        let reading = self.positions().filter(|next| *next <= self.received);
        let (readers, bytes) = reading.fold((0, 0_u64), |(n, sum), next| (n + 1, sum.saturating_add(next)));
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
            let has_come_on = |from: u64| reader.next >= from.saturating_add(enough);
            if reader.next < received && reader.mark.is_some_and(|from| !has_come_on(from)) {
                reader.gait = Gait::StandsStill;
            }
            reader.mark = Some(reader.next);
        }
        self.hold.now = Duration::ZERO;
    }

    /// Notes whom the writer waits for, and from where.
    pub(super) fn await_readers(&mut self, now: Instant) {
        if self.hold.now.is_zero() {
            self.hold.patience = self.patience(now);
            self.readers.iter_mut().flatten().for_each(|reader| reader.mark = Some(reader.next));
        }
        let first_end = self.chunks.front().map_or(0, Chunk::end);
        let all = self.positions().count();
        let unread = self.positions().filter(|next| *next < first_end).count();
        self.awaited = Some(Awaited { first_end, all, unread });
    }

    /// A reader has moved; whether the writer has to look again.
    pub(super) fn has_moved(&mut self, from: u64, to: u64) -> bool {
        let Some(awaited) = &mut self.awaited else { return false };
        if from >= awaited.first_end || to < awaited.first_end {
            return false;
        }
        let is_first = awaited.unread == awaited.all;
        awaited.unread = awaited.unread.saturating_sub(1);
        is_first || awaited.unread == 0
    }

    /// Whether there is room; what everybody has read is dropped for it.
    pub(super) fn make_room(&mut self, window: Window) -> Room {
        if self.kept == Kept::Whole {
            return Room::Made;
        }
        let (slowest, fastest) = (self.slowest(), self.fastest());
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
