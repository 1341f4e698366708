//! What goes wrong at a destination while the gateway lives and dies.

use crate::support::{Delivery, Gate, RecordingDestination, Reply, Step};
use std::sync::Mutex;

/// How a destination behaves during one life of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It fails now and then, in every way.
    Moody,
    /// It never answers.
    BlackHole,
    /// It has no faults.
    Good,
    /// It refuses everything for now.
    Down,
}

/// Sets the mood; what fails is decided by the seed.
pub(super) fn set(destination: &RecordingDestination, mood: Mood, seed: u64) {
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    let never = Gate::closed();
    destination.answer(move |_: &Delivery| {
        let chance = random.lock().expect("no script panics").u32(0..1000);
        match (mood, chance) {
            (Mood::Down, _) | (Mood::Moody, 0..10) => Reply::new(503, "later"),
            (Mood::Moody, 10..15) => Reply::new(429, "").field("Retry-After", "1"),
            (Mood::Moody, 15..25) => Reply::none(Step::Reset),
            (Mood::Moody, 25..28) | (Mood::BlackHole, _) => Reply::none(Step::Wait(never.clone())),
            (Mood::Moody | Mood::Good, _) => Reply::ok(""),
        }
    });
}
