//! A circuit breaker as a pure state machine: Redis and each destination have one.
//!
//! ```text
//!            enough failures                    the open time is over
//! CLOSED ----------------------> OPEN(until) ----------------------------> HALF-OPEN
//!    ^                             ^                                        |    |
//!    |                             +--------- the probe fails: twice as ----+    |
//!    +------------------------------------------ long; it succeeds --------------+
//! ```

use crate::clock::Timestamp;
use std::time::Duration;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Half of at least so many outcomes within `window` open it too.
    pub outcomes_min: u32,
    /// How far back outcomes count.
    pub window: Duration,
    /// How long it is open the first time; doubles with every failed probe.
    pub open: Duration,
    /// The longest it is open.
    pub open_cap: Duration,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// One probe at a time passes.
    HalfOpen,
}

impl State {
    /// The word for the admin API and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }

    /// The value of a gauge.
    #[must_use]
    pub const fn as_gauge(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// What a breaker says to somebody who wants to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go on.
    Pass,
    /// Go on as the only one; the outcome decides for all.
    Probe,
    /// Not before then.
    Refused {
        /// When a probe may pass; while one is under way, the present.
        until: Timestamp,
    },
}

/// The state machine. One owner; `now` is passed in.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: Settings,
    phase: Phase,
    failures_in_row: u32,
    window_start: Timestamp,
    window_outcomes: u32,
    window_failures: u32,
    open_for: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { until: Timestamp },
    Probing,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Closed,
            failures_in_row: 0,
            window_start: Timestamp::default(),
            window_outcomes: 0,
            window_failures: 0,
            open_for: settings.open,
        }
    }

    /// Other settings, from now on; where it stands it stays.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
        self.open_for = match self.phase {
            Phase::Closed => settings.open,
            Phase::Open { .. } | Phase::Probing => self.open_for.min(settings.open_cap),
        };
    }

    /// Where it stands at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::Probing => State::HalfOpen,
        }
    }

    /// When a probe may pass; `None` unless it is open.
    #[must_use]
    pub fn open_until(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed | Phase::Probing => None,
        }
    }

    /// Whether [`Breaker::admit`] would let something pass.
    #[must_use]
    pub fn would_admit(&self, now: Timestamp) -> bool {
        match self.phase {
            Phase::Closed => true,
            Phase::Open { until } => now >= until,
            Phase::Probing => false,
        }
    }

    /// Asks to pass. After [`Admission::Probe`] an outcome must follow.
    pub fn admit(&mut self, now: Timestamp) -> Admission {
        match self.phase {
            Phase::Closed => Admission::Pass,
            Phase::Open { until } if now < until => Admission::Refused { until },
            Phase::Open { .. } => {
                self.phase = Phase::Probing;
                Admission::Probe
            }
            Phase::Probing => Admission::Refused { until: now },
        }
    }

    /// Something that passed went well.
    pub fn success(&mut self, now: Timestamp) {
        self.failures_in_row = 0;
        match self.phase {
            // Late news of something that passed before it opened decides nothing.
            Phase::Open { .. } => {}
            Phase::Probing => *self = Self::new(self.settings),
            Phase::Closed => self.count(now, 0),
        }
    }

    /// Something that passed failed. `jitter`, in 0..=1, shortens the open time by up to a fifth.
    pub fn failure(&mut self, now: Timestamp, jitter: f64) {
        match self.phase {
            Phase::Open { .. } => {}
            Phase::Probing => {
                self.open_for = (self.open_for * 2).min(self.settings.open_cap);
                self.open(now, jitter);
            }
            Phase::Closed => {
                self.failures_in_row = self.failures_in_row.saturating_add(1);
                self.count(now, 1);
                let half = self.window_outcomes >= self.settings.outcomes_min
                    && self.window_failures.saturating_mul(2) >= self.window_outcomes;
                if self.failures_in_row >= self.settings.failures || half {
                    self.open(now, jitter);
                }
            }
        }
    }

    /// What passed ended without telling anything; a probe may pass again at once.
    pub fn undecided(&mut self, now: Timestamp) {
        if let Phase::Probing = self.phase {
            self.phase = Phase::Open { until: now };
        }
    }

    /// Somebody knows better: a probe may pass at once.
    pub fn end_wait(&mut self) {
        if let Phase::Open { until } = &mut self.phase {
            *until = Timestamp::default();
        }
    }

    fn open(&mut self, now: Timestamp, jitter: f64) {
        let open_for = self.open_for.mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0));
        self.phase = Phase::Open { until: now.plus(open_for) };
    }

    fn count(&mut self, now: Timestamp, failures: u32) {
        if now.since(self.window_start) > self.settings.window {
            self.window_start = now;
            self.window_outcomes = 0;
            self.window_failures = 0;
        }
        self.window_outcomes = self.window_outcomes.saturating_add(1);
        self.window_failures = self.window_failures.saturating_add(failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        failures: 3,
        outcomes_min: 10,
        window: Duration::from_secs(10),
        open: Duration::from_secs(1),
        open_cap: Duration::from_secs(3),
    };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_probe_closes_it() {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..2 {
            breaker.failure(at(0), 0.0);
        }
        breaker.success(at(0));
        for _ in 0..3 {
            assert_eq!(breaker.admit(at(0)), Admission::Pass);
            breaker.failure(at(0), 0.0);
        }
        assert_eq!(breaker.admit(at(999)), Admission::Refused { until: at(1000) });
        assert_eq!(breaker.admit(at(1000)), Admission::Probe);
        assert_eq!(breaker.admit(at(1000)), Admission::Refused { until: at(1000) });
        breaker.success(at(1100));
        assert_eq!(breaker.state(at(1100)), State::Closed);
    }

    #[test]
    fn failed_probes_double_the_open_time_up_to_its_cap() {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            breaker.failure(at(0), 0.0);
        }
        for (probe_at, until) in [(1000, 3000), (3000, 6000), (6000, 9000)] {
            assert_eq!(breaker.admit(at(probe_at)), Admission::Probe);
            breaker.failure(at(probe_at), 0.0);
            assert_eq!(breaker.open_until(), Some(at(until)));
        }
    }

    #[test]
    fn half_of_enough_outcomes_open_it() {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..5 {
            breaker.success(at(0));
            assert_eq!(breaker.state(at(0)), State::Closed);
            breaker.failure(at(0), 0.0);
        }
        assert_eq!(breaker.state(at(0)), State::Open);
    }

    #[test]
    fn late_news_and_undecided_probes() {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            breaker.failure(at(0), 1.0);
        }
        assert_eq!(breaker.open_until(), Some(at(800)), "jitter only shortens");
        breaker.success(at(1));
        assert_eq!(breaker.state(at(1)), State::Open);
        assert_eq!(breaker.admit(at(800)), Admission::Probe);
        breaker.undecided(at(900));
        assert_eq!(breaker.admit(at(900)), Admission::Probe);
    }

    #[test]
    fn outcomes_count_for_the_window_and_no_longer() {
        for (later, state) in [(0, State::Open), (10_000, State::Open), (10_001, State::Closed)] {
            let mut breaker = Breaker::new(Settings { failures: 100, ..SETTINGS });
            for _ in 0..5 {
                breaker.success(at(0));
            }
            for _ in 0..4 {
                breaker.failure(at(0), 0.0);
            }
            assert_eq!(breaker.state(at(0)), State::Closed, "nine are too few");
            breaker.failure(at(later), 0.0);
            assert_eq!(breaker.state(at(later)), state, "{later} ms later");
        }
    }

    #[test]
    fn asking_changes_nothing_and_says_what_would_be() {
        let mut breaker = Breaker::new(SETTINGS);
        assert!(breaker.would_admit(at(0)));
        for _ in 0..3 {
            breaker.failure(at(0), 0.0);
        }
        for (millis, would, state) in
            [(999, false, State::Open), (1000, true, State::HalfOpen), (1001, true, State::HalfOpen)]
        {
            assert_eq!(breaker.would_admit(at(millis)), would, "{millis} ms");
            assert_eq!(breaker.state(at(millis)), state, "{millis} ms");
        }
        assert_eq!(breaker.admit(at(1000)), Admission::Probe);
        assert!(!breaker.would_admit(at(9000)), "while a probe is under way");
    }

    #[test]
    fn who_knows_better_ends_the_wait() {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            breaker.failure(at(0), 0.0);
        }
        breaker.end_wait();
        assert_eq!(breaker.admit(at(1)), Admission::Probe);
        breaker.end_wait();
        assert_eq!(breaker.admit(at(1)), Admission::Refused { until: at(1) }, "one probe at a time");
    }

    /// Rows: settings that come while it is closed, or open for three seconds; how long it is open next.
    #[test]
    fn new_settings_hold_from_the_next_failure_on() {
        let longer = Settings { open: Duration::from_secs(2), failures: 1, ..SETTINGS };
        let mut closed = Breaker::new(SETTINGS);
        closed.set(longer);
        closed.failure(at(0), 0.0);
        assert_eq!(closed.open_until(), Some(at(2000)));
        for (open_cap, next) in [(3, 3000), (2, 2000), (9, 6000)] {
            let mut open = Breaker::new(Settings { open: Duration::from_secs(3), ..SETTINGS });
            for _ in 0..3 {
                open.failure(at(0), 0.0);
            }
            open.set(Settings { open_cap: Duration::from_secs(open_cap), ..longer });
            assert_eq!(open.open_until(), Some(at(3000)), "where it stands it stays");
            assert_eq!(open.admit(at(3000)), Admission::Probe);
            open.failure(at(3000), 0.0);
            assert_eq!(open.open_until(), Some(at(3000 + next)), "{open_cap} s at most");
        }
    }

    #[test]
    fn states_have_a_word_and_a_gauge() {
        for (state, word, gauge) in [
            (State::Closed, "closed", 0.0_f64),
            (State::HalfOpen, "half-open", 1.0),
            (State::Open, "open", 2.0),
        ] {
            assert_eq!((state.as_str(), state.as_gauge().to_bits()), (word, gauge.to_bits()));
        }
    }
}
