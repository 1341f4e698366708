//! Bytes of bodies in flight: one count, one bound, and what is given up first near it (I10).
//!
//! ```text
//! below 80 %   everything is done
//! from 80 %    no background work is begun
//! from 90 %    no copy of a large body is kept for others: it streams through
//! at 100 %     nothing is forwarded (503)
//! ```
//! Hits hold bytes of the store and ask nobody here; what the store lets go while they are read is counted here
//! from then on (`cache/tiers/large.rs`). Nobody waits for bytes: who gets none does without,
//! so that nothing can wait for what it holds itself.

use crate::telemetry::metrics as names;
use metrics::{Counter, Gauge, counter, gauge};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a forward is counted for, from its beginning to the end of its answer: the parts of both bodies
/// that are on their way between two sockets.
pub const FORWARD_BYTES: u64 = 64 * 1024;

/// The part of the bound, in percent, up to which background work is begun.
const BACKGROUND_PERCENT: u64 = 80;

/// The part of the bound, in percent, up to which copies are kept.
const COPY_PERCENT: u64 = 90;

/// What bytes are held for; the first is given up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// What no client waits for.
    Background,
    /// What is kept beside that which streams: to be stored, or for slower readers.
    Copy,
    /// What somebody waits for and only the source can answer.
    Forward,
}

impl Work {
    /// The label of the metric.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Copy => "copy",
            Self::Forward => "forward",
        }
    }

    const fn percent(self) -> u64 {
        match self {
            Self::Background => BACKGROUND_PERCENT,
            Self::Copy => COPY_PERCENT,
            Self::Forward => 100,
        }
    }

    /// The most bytes that may be held at all where this one still gets some.
    const fn bytes_max(self, bound: u64) -> u64 {
        // Parts of 100 first: a bound near the largest number does not overflow.
        bound / 100 * self.percent() + bound % 100 * self.percent() / 100
    }
}

/// There is no room for so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many bytes are in flight as may be")]
pub struct Full;

/// The count and its bound. One owner: whatever holds bytes of bodies has a [`Share`] of it.
pub struct InFlight {
    bytes_max: AtomicU64,
    bytes: AtomicU64,
    gauge: Gauge,
    shed: [Counter; 3],
}

impl InFlight {
    /// Nothing is in flight, and at most `bytes_max` may be.
    #[must_use]
    pub fn new(bytes_max: u64) -> Arc<Self> {
        let shed = [Work::Background, Work::Copy, Work::Forward]
            .map(|work| counter!(names::SHED, "work" => work.as_str()));
        let gauge = gauge!(names::IN_FLIGHT_BYTES);
        gauge.set(0.0);
        Arc::new(Self { bytes_max: AtomicU64::new(bytes_max), bytes: AtomicU64::new(0), gauge, shed })
    }

    /// How many bytes are held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Another bound, from now on: what is held stays.
    pub fn resize(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// A share without bytes.
    #[must_use]
    pub fn share(self: &Arc<Self>, work: Work) -> Share {
        Share { in_flight: Arc::clone(self), work, bytes: 0 }
    }

    /// Whether background work may begin now; that it may not is counted.
    #[must_use]
    pub fn admits_background(&self) -> bool {
        let admits = self.has_room(Work::Background, 0);
        if !admits {
            self.count_shed(Work::Background);
        }
        admits
    }

    /// Whether there is room now for a copy of so many bytes; that there is not is counted.
    #[must_use]
    pub fn admits_copy(&self, bytes: u64) -> bool {
        let admits = bytes <= FORWARD_BYTES || self.has_room(Work::Copy, bytes);
        if !admits {
            self.count_shed(Work::Copy);
        }
        admits
    }

    /// The share of a forward.
    ///
    /// # Errors
    /// [`Full`], counted.
    pub fn forward(self: &Arc<Self>) -> Result<Share, Full> {
        let mut share = self.share(Work::Forward);
        share.grow(FORWARD_BYTES).inspect_err(|_| self.count_shed(Work::Forward))?;
        Ok(share)
    }

    /// Counts that something was given up.
    pub fn count_shed(&self, work: Work) {
        if let Some(counter) = self.shed.get(work as usize) {
            counter.increment(1);
        }
    }

    /// Whether there is room for so many bytes, and below the bound at all.
    #[must_use]
    pub fn has_room(&self, work: Work, bytes: u64) -> bool {
        self.bytes().saturating_add(bytes.max(1)) <= work.bytes_max(self.bytes_max())
    }

    fn try_add(&self, work: Work, bytes: u64) -> Result<(), Full> {
        let bytes_max = work.bytes_max(self.bytes_max());
        let added = |held: u64| held.checked_add(bytes).filter(|held| *held <= bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added).map_err(|_| Full)?;
        self.gauge.increment(bytes_of(bytes));
        Ok(())
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.gauge.increment(bytes_of(bytes));
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.decrement(bytes_of(bytes));
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlight")
            .field("bytes", &self.bytes())
            .field("bytes_max", &self.bytes_max())
            .finish_non_exhaustive()
    }
}

/// A gauge counts in floating point; bodies in flight are far below where that is inexact.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
const fn bytes_of(bytes: u64) -> f64 {
    bytes as f64
}

/// What one body holds. Dropped, it gives everything back.
#[derive(Debug)]
pub struct Share {
    in_flight: Arc<InFlight>,
    work: Work,
    bytes: u64,
}

impl Share {
    /// Holds so many bytes more. A copy may be as large as [`FORWARD_BYTES`] whatever else is held: at
    /// the bound small answers are stored all the same, else each of them would be asked for anew.
    ///
    /// # Errors
    /// [`Full`]: nothing more is held than before.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        if self.work == Work::Copy && self.bytes.saturating_add(bytes) <= FORWARD_BYTES {
            self.add(bytes);
            return Ok(());
        }
        self.in_flight.try_add(self.work, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Counts what is in memory already, room or not: one part of a body, which is given back before the
    /// next is asked for.
    pub fn add(&mut self, bytes: u64) {
        self.in_flight.add(bytes);
        self.bytes += bytes;
    }

    /// Gives so many bytes back, at most those that it holds.
    pub fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.in_flight.give_back(bytes);
    }

    /// Gives everything back.
    pub fn give_all_back(&mut self) {
        self.give_back(self.bytes);
    }

    /// Counts that what it was for was given up.
    pub fn count_shed(&self) {
        self.in_flight.count_shed(self.work);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_all_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// `bytes` held by a forward.
    fn held(in_flight: &Arc<InFlight>, bytes: u64) -> Share {
        let mut share = in_flight.share(Work::Forward);
        share.grow(bytes).unwrap();
        share
    }

    #[test]
    fn i10_near_the_bound_background_goes_first_then_copies_then_forwards() {
        for (held_bytes, background, copy, forward) in [
            (0, true, true, true),
            (80 * MIB - 1, true, true, true),
            (80 * MIB, false, true, true),
            (89 * MIB, false, true, true),
            (89 * MIB + 1, false, false, true),
            (100 * MIB - FORWARD_BYTES, false, false, true),
            (100 * MIB - FORWARD_BYTES + 1, false, false, false),
        ] {
            let in_flight = InFlight::new(100 * MIB);
            let _others = held(&in_flight, held_bytes);
            assert_eq!(in_flight.admits_background(), background, "background at {held_bytes}");
            assert_eq!(in_flight.admits_copy(MIB), copy, "copy at {held_bytes}");
            assert_eq!(in_flight.forward().is_ok(), forward, "forward at {held_bytes}");
            assert_eq!(in_flight.share(Work::Copy).grow(MIB).is_ok(), copy, "growing at {held_bytes}");
        }
    }

    #[test]
    fn everything_is_given_back() {
        let in_flight = InFlight::new(MIB);
        let mut share = held(&in_flight, 10);
        share.add(MIB);
        assert_eq!(in_flight.bytes(), MIB + 10, "what is there is counted, room or not");
        assert_eq!(share.grow(1), Err(Full));
        share.give_back(MIB);
        assert_eq!(in_flight.bytes(), 10);
        share.give_back(MIB);
        assert_eq!(in_flight.bytes(), 0, "never more than it holds");
        share.grow(5).unwrap();
        drop(share);
        drop(in_flight.forward().unwrap());
        assert_eq!(in_flight.bytes(), 0);
    }

    #[test]
    fn i10_a_small_copy_is_kept_at_the_bound_and_a_large_one_is_not() {
        let in_flight = InFlight::new(MIB);
        let _others = held(&in_flight, MIB);
        assert!(!in_flight.admits_copy(FORWARD_BYTES + 1));
        assert!(in_flight.admits_copy(FORWARD_BYTES));
        let mut copy = in_flight.share(Work::Copy);
        assert_eq!(copy.grow(FORWARD_BYTES), Ok(()));
        assert_eq!(copy.grow(1), Err(Full));
        assert_eq!(in_flight.bytes(), MIB + FORWARD_BYTES);
    }

    #[test]
    fn no_bound_and_no_length_overflows() {
        let in_flight = InFlight::new(u64::MAX);
        let mut share = held(&in_flight, u64::MAX - 1);
        assert_eq!(share.grow(u64::MAX), Err(Full));
        assert!(!InFlight::new(MIB).admits_copy(u64::MAX));
        assert_eq!(Work::Forward.bytes_max(u64::MAX), u64::MAX);
        assert_eq!(Work::Background.bytes_max(99), 79);
    }
}
