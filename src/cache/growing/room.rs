//! Room for the next chunk of a body that is not kept whole.

use super::{Chunk, FORGIVEN_BYTES, Inner, Kept, WINDOW_BYTES};
use std::time::Duration;

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

impl Inner {
    /// Positions of those readers that are still in the window.
    fn positions(&self) -> impl Iterator<Item = u64> {
        self.readers.iter().flatten().map(|reader| reader.next).filter(|next| *next >= self.start)
    }

    /// Counts a wait; one during which the slowest came on is forgiven.
    pub(super) fn has_waited(&mut self, time: Duration) {
        self.waited += time;
        let slowest = self.positions().min().unwrap_or_default();
        if slowest >= self.waited_from + FORGIVEN_BYTES {
            (self.waited, self.waited_from) = (Duration::ZERO, slowest);
        }
    }

    /// Whether there is room; what everybody has read is dropped for it.
    pub(super) fn make_room(&mut self, window: Window) -> Room {
        if self.kept == Kept::Whole {
            return Room::Made;
        }
        while let Some(first_end) = self.chunks.front().map(Chunk::end) {
            let is_over = self.held_bytes() > window.bytes();
            if !is_over && window == Window::Open {
                break;
            }
            match (self.positions().min(), self.positions().max()) {
                (Some(slowest), _) if slowest >= first_end => self.drop_first(),
                _ if !is_over => break,
                (_, Some(fastest)) if fastest < first_end => return Room::Full,
                (Some(_), _) => return Room::Behind,
                (None, _) => return Room::Abandoned,
            }
        }
        Room::Made
    }

    /// Drops what the fastest has read, as far as room is wanted.
    pub(super) fn drop_read_by_the_fastest(&mut self, window: Window) {
        let fastest = self.positions().max().unwrap_or_default();
        while self.held_bytes() > window.bytes()
            && self.chunks.front().is_some_and(|first| first.end() <= fastest)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.chunks.pop_front() {
            self.start = first.end();
            self.share.give_back(first.bytes.len() as u64);
        }
    }
}
