//! How many requests a source can take at once: a pure state machine over the times to the heads of its
//! answers, `now` passed in.
//!
//! ```text
//! STARTING --twice as many in each window--> a rise or a failure --> STEADY
//! STEADY   no rise, and the places were used   an eighth more
//!          a rise, or a failure                a tenth fewer
//!          now and then, or halved by that     --> PROBING
//! PROBING  half as many, for as long as the times go on falling: that is the best --> STEADY, as before
//! ```
//!
//! A window is as many answers as there are places, all of requests that were sent after the last change;
//! its median counts, so a few slow paths change nothing. A source whose times are flat up to a capacity and
//! grow in proportion beyond it ends between that capacity and one and a half times as much.

use std::time::Duration;
use tokio::time::Instant;

/// What a source begins with.
const START: usize = 4;

/// The fewest.
const LIMIT_MIN: usize = 1;

/// The fewest and the most answers of a window.
const WINDOW_MIN: usize = 16;
const WINDOW_MAX: usize = 128;

/// Up to this much over the best there is no rise, in percent; beyond the other it is marked. Between them
/// nothing changes.
const CALM_PERCENT: u32 = 120;
const RISE_PERCENT: u32 = 140;

/// What a machine's own noise makes of short times.
const NOISE: Duration = Duration::from_millis(1);

/// How long the best is believed without having been probed.
const PROBE_EVERY: Duration = Duration::from_mins(1);

/// While probing, what counts as falling: below so many percent of the best so far.
const FALLING_PERCENT: u32 = 85;

/// What a request told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) sent_at: Instant,
    /// How many were under way when it was sent, itself included.
    pub(super) in_flight: usize,
    pub(super) heard: Heard,
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A head, after so long.
    Head(Duration),
    /// None, or that the source cannot: 502, 503, 504.
    Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Steady,
    /// Goes back to so many.
    Probing(usize),
}

/// How many requests there may be at once, from [`LIMIT_MIN`] to the ceiling.
#[derive(Debug)]
pub(super) struct Limit {
    ceiling: usize,
    in_force: usize,
    phase: Phase,
    /// The median time while the source is not held up by what it does beside; `None`: nothing is known.
    best: Option<Duration>,
    /// What was in force when the times began to rise.
    highest: usize,
    probed_at: Instant,
    window: Window,
}

/// Answers since the last change.
#[derive(Debug)]
struct Window {
    began: Instant,
    times: Vec<Duration>,
    most_in_flight: usize,
}

impl Window {
    fn begin(now: Instant) -> Self {
        Self { began: now, times: Vec::new(), most_in_flight: 0 }
    }

    fn median(&mut self) -> Option<Duration> {
        let middle = self.times.len() / 2;
        self.times.sort_unstable();
        self.times.get(middle).copied()
    }
}

impl Limit {
    pub(super) fn new(ceiling: usize, now: Instant) -> Self {
        let in_force = START.min(ceiling);
        Self {
            ceiling,
            in_force,
            phase: Phase::Starting,
            best: None,
            highest: in_force,
            probed_at: now,
            window: Window::begin(now),
        }
    }

    /// The same below another ceiling.
    pub(super) fn below(mut self, ceiling: usize) -> Self {
        self.ceiling = ceiling;
        self.in_force = self.in_force.min(ceiling);
        self.highest = self.highest.min(ceiling);
        if let Phase::Probing(back_to) = &mut self.phase {
            *back_to = (*back_to).min(ceiling);
        }
        self
    }

    pub(super) const fn in_force(&self) -> usize {
        self.in_force
    }

    /// Takes in a sample; what is in force from now on, where that changes.
    pub(super) fn take(&mut self, sample: Sample, now: Instant) -> Option<usize> {
        // What was sent before the last change tells of what was before it.
        if sample.sent_at < self.window.began {
            return None;
        }
        let before = self.in_force;
        match sample.heard {
            Heard::Failure => self.shrink(),
            Heard::Head(took) => {
                self.window.times.push(took);
                self.window.most_in_flight = self.window.most_in_flight.max(sample.in_flight);
                if self.window.times.len() < self.in_force.clamp(WINDOW_MIN, WINDOW_MAX) {
                    return None;
                }
                let time = self.window.median()?;
                self.judge(time, now);
            }
        }
        self.window = Window::begin(now);
        (self.in_force != before).then_some(self.in_force)
    }

    /// A window is full.
    fn judge(&mut self, time: Duration, now: Instant) {
        let best = *self.best.get_or_insert(time);
        if let Phase::Probing(back_to) = self.phase {
            self.best = Some(time);
            if time < best * FALLING_PERCENT / 100 && self.in_force > LIMIT_MIN {
                self.in_force = half(self.in_force);
            } else {
                self.in_force = back_to;
                self.highest = back_to;
                self.phase = Phase::Steady;
                self.probed_at = now;
            }
            return;
        }
        let used = self.window.most_in_flight;
        if used * 2 <= self.in_force {
            // As good as a probe, for nothing.
            self.best = Some((best * 3 + time) / 4);
            self.probed_at = now;
        } else if time < best {
            self.best = Some((best + time) / 2);
        }
        if time > over(best, RISE_PERCENT) {
            self.shrink();
        } else if time <= over(best, CALM_PERCENT) && used * 5 >= self.in_force * 4 {
            self.grow();
        }
        let is_halved = self.in_force * 2 <= self.highest;
        if is_halved || now.saturating_duration_since(self.probed_at) >= PROBE_EVERY {
            self.phase = Phase::Probing(self.in_force);
            self.in_force = half(self.in_force);
        }
    }

    fn grow(&mut self) {
        let more = if self.phase == Phase::Starting { self.in_force } else { (self.in_force / 8).max(1) };
        self.in_force = self.in_force.saturating_add(more).min(self.ceiling);
        self.highest = self.in_force;
    }

    fn shrink(&mut self) {
        if let Phase::Probing(back_to) = self.phase {
            self.in_force = back_to;
        }
        self.phase = Phase::Steady;
        self.in_force = (self.in_force - (self.in_force / 10).max(1).min(self.in_force)).max(LIMIT_MIN);
    }
}

const fn half(limit: usize) -> usize {
    if limit / 2 < LIMIT_MIN { LIMIT_MIN } else { limit / 2 }
}

/// So many percent of the best, and at least the noise above it.
fn over(best: Duration, percent: u32) -> Duration {
    (best * percent / 100).max(best + NOISE)
}

#[cfg(test)]
mod tests;
