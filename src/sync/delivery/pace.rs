//! How fast a destination is served: its pause, its hold, its breaker, its wait, its rate and its
//! concurrency in one place. Pure; `now` and randomness are passed in.

use super::concurrency::Concurrency;
use super::rate::Rate;
use super::retry::Standing;
use crate::breaker::{self, Admission, Breaker};
use crate::clock::Timestamp;
use crate::sync::journal::sqlite::KnownDestination;
use crate::sync::settings::DestinationSettings;
use crate::sync::status::DestinationState;
use std::time::Duration;

/// The first time between two probes of a destination that refuses Tidegate; doubles.
const HOLD_FIRST: Duration = Duration::from_secs(1);
/// The longest time between two probes.
const HOLD_MAX: Duration = Duration::from_mins(1);
/// Half of at least so many outcomes within [`BREAKER_WINDOW`] open the breaker.
const BREAKER_OUTCOMES_MIN: u32 = 10;
/// How far back the breaker looks.
const BREAKER_WINDOW: Duration = Duration::from_secs(30);

/// What an attempt says about the destination itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It took a change.
    Good,
    /// It answered, and refused this change.
    Answered,
    /// It is in trouble.
    Bad,
    /// It refuses Tidegate as such.
    Refused,
    /// Nothing.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    until: Timestamp,
    pause: Duration,
    probing: bool,
}

/// When attempts may begin.
#[derive(Debug)]
pub(in crate::sync) struct Pace {
    paused: bool,
    hold: Option<Hold>,
    breaker: Breaker,
    rate: Option<Rate>,
    waits_until: Timestamp,
    concurrency: Concurrency,
}

impl Pace {
    pub(super) fn new(settings: &DestinationSettings, known: &KnownDestination) -> Self {
        Self {
            paused: known.paused,
            hold: None,
            breaker: Breaker::new(of_breaker(settings)),
            rate: settings.rate.map(Rate::new),
            waits_until: known.waits_until,
            concurrency: Concurrency::new(settings.concurrency),
        }
    }

    /// Other settings, from the next attempt on: pause, breaker and waits stay. A hold is probed at once.
    pub(super) fn set(&mut self, settings: &DestinationSettings) {
        self.breaker.set(of_breaker(settings));
        self.rate = settings.rate.map(|new| match self.rate {
            Some(old) => old.succeed(new),
            None => Rate::new(new),
        });
        self.concurrency.set_most(settings.concurrency);
        if let Some(hold) = &mut self.hold {
            hold.until = Timestamp::default();
        }
    }

    /// Attempts allowed at once now.
    pub(super) fn concurrency(&self) -> usize {
        self.concurrency.allowed()
    }

    /// Whether attempts are probes now.
    pub(super) fn probes(&self, now: Timestamp) -> bool {
        self.hold.is_some() || self.breaker.state(now) != breaker::State::Closed
    }

    /// Whether an attempt would be admitted.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        let trusted = match &self.hold {
            Some(hold) => !hold.probing && now >= hold.until,
            None => self.breaker.would_admit(now),
        };
        !self.paused && now >= self.waits_until && now >= self.rate_due() && trusted
    }

    /// Asks to begin one attempt.
    pub(super) fn admit(&mut self, now: Timestamp) -> Option<Standing> {
        if !self.is_open(now) {
            return None;
        }
        let standing = self.trusted(now)?;
        if let Some(rate) = &mut self.rate {
            rate.take(now);
        }
        Some(standing)
    }

    /// From when on its rate lets an attempt begin.
    fn rate_due(&self) -> Timestamp {
        self.rate.as_ref().map(Rate::due).unwrap_or_default()
    }

    fn trusted(&mut self, now: Timestamp) -> Option<Standing> {
        if let Some(hold) = &mut self.hold {
            hold.probing = true;
            return Some(Standing::Probe);
        }
        match self.breaker.admit(now) {
            Admission::Pass => Some(Standing::Open),
            Admission::Probe => Some(Standing::Probe),
            Admission::Refused { .. } => None,
        }
    }

    /// When it is worth asking again; `None`: not before something happens.
    pub(super) fn next_admission(&self, now: Timestamp) -> Option<Timestamp> {
        if self.paused {
            return None;
        }
        let gate = match self.hold {
            Some(Hold { probing: true, .. }) => return None,
            Some(Hold { until, .. }) => until,
            None => self.breaker.open_until().unwrap_or_default(),
        };
        Some(gate.max(self.waits_until).max(self.rate_due())).filter(|at| *at > now)
    }

    /// What an attempt told, and how long it took. `jitter` is in 0..=1.
    pub(super) fn learn(
        &mut self,
        news: News,
        standing: Standing,
        now: Timestamp,
        round_trip: Duration,
        jitter: f64,
    ) {
        let was_closed = self.breaker.state(now) == breaker::State::Closed;
        // What began before the breaker opened must not pass for its probe.
        let decides = match standing {
            Standing::Probe => true,
            Standing::Open => was_closed,
            Standing::Aside => false,
        };
        match news {
            News::Good | News::Answered => {
                // What began before it was refused tells nothing of what it does now.
                if standing == Standing::Probe {
                    self.hold = self.hold.filter(|hold| !hold.probing);
                }
                if decides {
                    self.breaker.success(now);
                }
                // Closing starts again at one; late news of what went before raises nothing.
                if was_closed {
                    self.concurrency.answered(round_trip, now);
                }
            }
            News::Bad => {
                if decides {
                    self.breaker.failure(now, jitter);
                }
                self.concurrency.shrink();
                if self.breaker.state(now) != breaker::State::Closed {
                    self.concurrency.start_again();
                }
                self.probe_failed(standing, now);
            }
            News::Refused => {
                if decides {
                    self.breaker.undecided(now);
                }
                match self.hold {
                    None => {
                        self.hold =
                            Some(Hold { until: now.plus(HOLD_FIRST), pause: HOLD_FIRST, probing: false });
                        self.concurrency.start_again();
                    }
                    Some(_) => self.probe_failed(standing, now),
                }
            }
            News::Nothing => {
                if decides {
                    self.breaker.undecided(now);
                }
                if let Some(hold) = self.hold.as_mut().filter(|_| standing == Standing::Probe) {
                    hold.probing = false;
                }
            }
        }
    }

    fn probe_failed(&mut self, standing: Standing, now: Timestamp) {
        if let Some(hold) = self.hold.as_mut().filter(|hold| hold.probing && standing == Standing::Probe) {
            hold.pause = (hold.pause * 2).min(HOLD_MAX);
            hold.until = now.plus(hold.pause);
            hold.probing = false;
        }
    }

    /// The destination asked to be left alone.
    pub(super) fn wait_until(&mut self, at: Timestamp) {
        self.waits_until = self.waits_until.max(at);
    }

    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Ends a pause and every wait: what the destination asked for, and the time to the next probe.
    pub(super) fn resume(&mut self) {
        self.paused = false;
        self.waits_until = Timestamp::default();
        self.breaker.end_wait();
        if let Some(hold) = &mut self.hold {
            hold.until = Timestamp::default();
        }
    }

    pub(super) fn breaker(&self, now: Timestamp) -> breaker::State {
        self.breaker.state(now)
    }

    pub(super) fn state(&self, now: Timestamp) -> DestinationState {
        if self.paused {
            DestinationState::Paused
        } else if self.probes(now) {
            DestinationState::Held
        } else {
            DestinationState::Running
        }
    }
}

/// When the breaker of a destination opens, and for how long.
fn of_breaker(settings: &DestinationSettings) -> breaker::Settings {
    breaker::Settings {
        failures: settings.breaker.failures,
        outcomes_min: BREAKER_OUTCOMES_MIN,
        window: BREAKER_WINDOW,
        open: settings.breaker.open,
        open_cap: settings.breaker.open_cap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Endpoint;
    use crate::sync::settings::{
        Allow, BreakerSettings, Format, OnFailure, RateSettings, RetrySettings, Start,
    };
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    const TRIP: Duration = Duration::from_millis(5);

    fn pace() -> Pace {
        paced(None)
    }

    fn paced(rate: Option<RateSettings>) -> Pace {
        let known = KnownDestination {
            id: 1,
            name: "d".into(),
            frontier: 0,
            paused: false,
            waits_until: at(0),
            is_detached: false,
            proven: false,
        };
        Pace::new(&settings(rate), &known)
    }

    fn settings(rate: Option<RateSettings>) -> DestinationSettings {
        let second = Duration::from_secs(1);
        DestinationSettings {
            name: "d".into(),
            url: Endpoint::new(url::Url::parse("http://h").unwrap()),
            concurrency: 3,
            timeout: second,
            on_failure: OnFailure::ParkKey,
            retry: RetrySettings {
                base: second,
                cap: second,
                give_up: second,
                after_cap: second,
                attempts: None,
            },
            breaker: BreakerSettings { failures: 2, open: second, open_cap: second * 4 },
            backlog_bytes: None,
            start: Start::Now,
            format: Format::Replay,
            rate,
            secrets: Vec::new(),
            allow: Allow::Any,
            tls: crate::tls::ClientTls::default(),
            outcome: BTreeMap::new(),
            headers: Vec::new(),
        }
    }

    #[test]
    fn other_settings_end_no_pause_no_wait_and_open_no_breaker() {
        let second = Duration::from_secs(1);
        let mut pace = pace();
        for _ in 0..2 {
            pace.learn(News::Bad, Standing::Open, at(100), TRIP, 0.0);
        }
        pace.set(&settings(None));
        assert_eq!(pace.breaker(at(100)), breaker::State::Open);
        assert_eq!(pace.admit(at(101)), Some(Standing::Probe));
        pace.learn(News::Good, Standing::Probe, at(101), TRIP, 0.0);
        pace.pause();
        pace.wait_until(at(200));
        pace.set(&settings(None));
        assert_eq!(pace.state(at(101)), DestinationState::Paused);
        pace.paused = false;
        assert_eq!(pace.next_admission(at(101)), Some(at(200)));
        // A hold may be over with them: it is probed at once.
        pace.learn(News::Refused, Standing::Open, at(200), TRIP, 0.0);
        assert_eq!(pace.admit(at(200)), None);
        pace.set(&settings(None));
        assert_eq!(pace.admit(at(200)), Some(Standing::Probe));
        pace.learn(News::Good, Standing::Probe, at(200), TRIP, 0.0);
        // The next attempt is spaced by the new rate, from the last one on.
        let rate = |secs: u32| Some(RateSettings { requests: NonZeroU32::MIN, per: second * secs });
        pace.set(&settings(rate(20)));
        assert_eq!(pace.admit(at(300)), Some(Standing::Open));
        pace.set(&settings(rate(5)));
        assert_eq!((pace.admit(at(304)), pace.admit(at(305))), (None, Some(Standing::Open)));
        for _ in 0..9 {
            pace.learn(News::Good, Standing::Open, at(310), TRIP, 0.0);
        }
        assert_eq!(pace.concurrency(), 3);
        pace.set(&DestinationSettings { concurrency: 2, ..settings(None) });
        assert_eq!(pace.concurrency(), 2);
    }

    #[test]
    fn a_hold_is_probed_after_1_s_doubling_to_60_s() {
        let mut pace = pace();
        assert_eq!(pace.admit(at(100)), Some(Standing::Open));
        pace.learn(News::Refused, Standing::Open, at(100), TRIP, 0.0);
        let mut now = 100;
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(pace.admit(at(now + wait - 1)), None, "{wait}");
            now += wait;
            assert_eq!(pace.next_admission(at(now - 1)), Some(at(now)));
            assert_eq!(pace.admit(at(now)), Some(Standing::Probe));
            assert_eq!(pace.admit(at(now)), None, "one probe at a time");
            pace.learn(News::Refused, Standing::Probe, at(now), TRIP, 0.0);
        }
        assert_eq!(pace.state(at(now)), DestinationState::Held);
        now += 60;
        assert_eq!(pace.admit(at(now)), Some(Standing::Probe));
        pace.learn(News::Good, Standing::Probe, at(now), TRIP, 0.0);
        assert_eq!(
            (pace.state(at(now)), pace.admit(at(now))),
            (DestinationState::Running, Some(Standing::Open))
        );
    }

    #[test]
    fn an_open_breaker_lets_one_probe_through_and_starts_again_at_one() {
        let mut pace = pace();
        for _ in 0..5 {
            pace.learn(News::Good, Standing::Open, at(100), TRIP, 0.0);
        }
        assert_eq!(pace.concurrency(), 3, "never above the bound");
        for _ in 0..2 {
            pace.learn(News::Bad, Standing::Open, at(100), TRIP, 0.0);
        }
        assert_eq!((pace.admit(at(100)), pace.concurrency()), (None, 1));
        assert_eq!(pace.next_admission(at(100)), Some(at(101)));
        assert_eq!(pace.admit(at(101)), Some(Standing::Probe));
        assert_eq!(pace.admit(at(101)), None);
    }

    #[test]
    fn what_is_redriven_does_not_count() {
        let mut pace = pace();
        for _ in 0..100 {
            pace.learn(News::Bad, Standing::Aside, at(100), TRIP, 0.0);
        }
        assert_eq!(pace.breaker(at(100)), breaker::State::Closed, "failures do not open it");
        pace.learn(News::Bad, Standing::Open, at(100), TRIP, 0.0);
        pace.learn(News::Good, Standing::Aside, at(100), TRIP, 0.0);
        pace.learn(News::Bad, Standing::Open, at(100), TRIP, 0.0);
        assert_eq!(pace.breaker(at(100)), breaker::State::Open, "nor does a success end a row of failures");
    }

    #[test]
    fn late_news_is_no_probe() {
        for late in [News::Good, News::Bad, News::Refused, News::Nothing] {
            let mut pace = pace();
            for _ in 0..2 {
                pace.learn(News::Bad, Standing::Open, at(100), TRIP, 0.0);
            }
            assert_eq!(pace.admit(at(101)), Some(Standing::Probe));
            pace.learn(late, Standing::Open, at(101), TRIP, 0.0);
            assert_eq!(pace.breaker(at(101)), breaker::State::HalfOpen, "{late:?}");
            pace.learn(News::Good, Standing::Probe, at(101), TRIP, 0.0);
            assert_eq!(pace.breaker(at(101)), breaker::State::Closed, "{late:?}");
        }
    }

    #[test]
    fn i4_late_news_ends_no_hold() {
        for late in [News::Good, News::Answered] {
            let mut pace = pace();
            pace.learn(News::Refused, Standing::Open, at(100), TRIP, 0.0);
            pace.learn(late, Standing::Open, at(100), TRIP, 0.0);
            assert_eq!(
                (pace.state(at(100)), pace.admit(at(100))),
                (DestinationState::Held, None),
                "{late:?}"
            );
            assert_eq!(pace.admit(at(101)), Some(Standing::Probe));
            pace.learn(late, Standing::Open, at(101), TRIP, 0.0);
            assert_eq!(pace.admit(at(101)), None, "{late:?}: the probe is still under way");
            pace.learn(late, Standing::Probe, at(101), TRIP, 0.0);
            assert_eq!(pace.state(at(101)), DestinationState::Running, "{late:?}");
        }
    }

    #[test]
    fn a_rate_spaces_what_is_admitted_and_nothing_else() {
        let second = Duration::from_secs(1);
        let mut pace = paced(Some(RateSettings { requests: NonZeroU32::MIN, per: second * 20 }));
        pace.pause();
        assert_eq!(pace.admit(at(100)), None);
        pace.resume();
        assert_eq!(pace.admit(at(100)), Some(Standing::Open), "what was refused took nothing");
        assert_eq!(pace.admit(at(119)), None);
        let due = pace.next_admission(at(101)).unwrap();
        assert_eq!(due, at(120), "20 s and what may be made up for, less that");
        assert_eq!(pace.admit(due), Some(Standing::Open));
    }

    #[test]
    fn resume_ends_a_pause_and_a_wait() {
        let mut pace = pace();
        pace.pause();
        pace.wait_until(at(500));
        assert_eq!((pace.admit(at(100)), pace.next_admission(at(100))), (None, None));
        pace.resume();
        assert_eq!(pace.admit(at(100)), Some(Standing::Open));
    }

    #[test]
    fn resume_ends_the_time_to_the_next_probe() {
        for (news, count) in [(News::Bad, 2), (News::Refused, 1)] {
            let mut pace = pace();
            for _ in 0..count {
                pace.learn(news, Standing::Open, at(100), TRIP, 0.0);
            }
            assert_eq!(pace.admit(at(100)), None, "{news:?}");
            pace.resume();
            assert_eq!(pace.admit(at(100)), Some(Standing::Probe), "{news:?}");
            pace.resume();
            assert_eq!(pace.admit(at(100)), None, "{news:?}: one at a time all the same");
        }
    }
}
