//! Whether requests can be served.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where the process stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not everything is there yet.
    Starting,
    /// Requests are served.
    Ready,
    /// The last requests are being finished.
    Draining,
}

impl Phase {
    /// The word for the probe.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The process's phase: set by `app`, read by the probe. It begins as [`Phase::Starting`] and only
/// moves on.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Readiness {
    /// Requests can be served; too late once it drains.
    pub fn ready(&self) {
        self.0.fetch_max(READY, Ordering::AcqRel);
    }

    /// The process is stopping.
    pub fn draining(&self) {
        self.0.fetch_max(DRAINING, Ordering::AcqRel);
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            READY => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_move_on() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.ready();
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.draining();
        readiness.ready();
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
