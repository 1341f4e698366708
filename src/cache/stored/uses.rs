//! When a stored response was used.

use crate::clock::Timestamp;
use std::sync::atomic::{AtomicU32, Ordering};

/// Seconds after which the shared tier is looked at again for what is in use.
const LOOK_AGAIN_SECONDS: u32 = 60;

/// When memory has given a response to somebody. It lies in the response, where a hit is already, but is no part of
/// what it is: any two are equal, and a copy has never been used.
#[derive(Debug, Default)]
pub struct Uses {
    /// The second of its last use: written at most once a second, so that hits share the line.
    used: AtomicU32,
    /// The second in which the shared tier was looked at for it last.
    looked: AtomicU32,
}

/// What follows from a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    Only,
    /// The shared tier may have a newer one by now.
    LookAgain,
}

impl Uses {
    /// It is kept from now on.
    pub(crate) fn begin(&self, now: Timestamp) {
        self.used.store(second(now), Ordering::Relaxed);
        self.looked.store(second(now), Ordering::Relaxed);
    }

    /// Notes a use.
    pub(crate) fn note(&self, now: Timestamp) -> Touched {
        let second = second(now);
        if self.used.load(Ordering::Relaxed) == second {
            return Touched::Only;
        }
        self.used.store(second, Ordering::Relaxed);
        if second.saturating_sub(self.looked.load(Ordering::Relaxed)) < LOOK_AGAIN_SECONDS {
            return Touched::Only;
        }
        self.looked.store(second, Ordering::Relaxed);
        Touched::LookAgain
    }

    /// The second of the last use.
    pub(crate) fn last(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }
}

fn second(now: Timestamp) -> u32 {
    u32::try_from(now.as_millis() / 1000).unwrap_or(u32::MAX)
}

impl Clone for Uses {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Uses {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Uses {}
