use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A source that works on `capacity` requests at once and lets the others wait in line, and clients that
/// want more than it can do.
struct Simulated {
    limit: Limit,
    capacity: usize,
    service: Duration,
    base: Instant,
    now: Duration,
    /// When each that is worked on is done.
    working: BinaryHeap<Reverse<Duration>>,
    /// When an answer comes, and when its request was sent, with how many others.
    answers: BinaryHeap<Reverse<(Duration, Duration, usize)>>,
    chance: fastrand::Rng,
}

impl Simulated {
    fn new(ceiling: usize, capacity: usize, service_ms: u64) -> Self {
        let base = Instant::now();
        Self {
            limit: Limit::new(ceiling, base),
            capacity,
            service: Duration::from_millis(service_ms),
            base,
            now: Duration::ZERO,
            working: BinaryHeap::new(),
            answers: BinaryHeap::new(),
            chance: fastrand::Rng::with_seed(7),
        }
    }

    fn send(&mut self) {
        // Who came first is worked on first.
        while self.working.len() > self.capacity {
            self.working.pop();
        }
        let starts = if self.working.len() < self.capacity {
            self.now
        } else {
            self.working.pop().map_or(self.now, |Reverse(free)| free.max(self.now))
        };
        let done = starts + self.service.mul_f64(0.8 + 0.4 * self.chance.f64());
        self.working.push(Reverse(done));
        self.answers.push(Reverse((done, self.now, self.answers.len() + 1)));
    }

    /// Goes on for so many seconds with at most `wanted` at once; the mean limit of the last half.
    fn run(&mut self, seconds: u64, wanted: usize, heard: impl Fn(Duration) -> Heard) -> usize {
        let (from, until) = (self.now, self.now + Duration::from_secs(seconds));
        let (mut sum, mut count) = (0, 0);
        while self.now < until {
            while self.answers.len() < self.limit.in_force().min(wanted) {
                self.send();
            }
            let Reverse((at, sent_at, in_flight)) = self.answers.pop().unwrap();
            self.now = at;
            let sample =
                Sample { sent_at: self.base + sent_at, in_flight, heard: heard(at.saturating_sub(sent_at)) };
            self.limit.take(sample, self.base + at);
            assert!((LIMIT_MIN..=self.limit.ceiling).contains(&self.limit.in_force()));
            if at * 2 > from + until {
                sum += self.limit.in_force();
                count += 1;
            }
        }
        sum / count.max(1)
    }
}

const ALL: usize = usize::MAX;

/// The band that the module promises.
#[track_caller]
fn assert_near(limit: usize, capacity: usize, what: &str) {
    let band = (capacity * 9 / 10).max(1)..=(capacity * 3 / 2 + 1);
    assert!(band.contains(&limit), "{what}: {limit} is not in {band:?}");
}

#[test]
fn i10_the_limit_ends_near_the_capacity_and_follows_it() {
    for (capacity, service_ms) in [(1, 20), (3, 50), (10, 20), (40, 100), (200, 50)] {
        let row = format!("{capacity} at once, {service_ms} ms");
        let mut source = Simulated::new(1000, capacity, service_ms);
        assert_near(source.run(60, ALL, Heard::Head), capacity, &row);
        for (factor, what) in [((1, 4), "a quarter"), ((4, 1), "four times as much"), ((1, 1), "the same")] {
            source.capacity = (source.capacity * factor.0 / factor.1).max(1);
            assert_near(source.run(180, ALL, Heard::Head), source.capacity, &format!("{row}, then {what}"));
        }
    }
}

#[test]
fn a_source_that_becomes_slower_for_another_reason_keeps_its_places() {
    let mut source = Simulated::new(1000, 40, 20);
    assert_near(source.run(60, ALL, Heard::Head), 40, "at first");
    for service_ms in [100, 20, 300] {
        source.service = Duration::from_millis(service_ms);
        assert_near(source.run(180, ALL, Heard::Head), 40, &format!("then {service_ms} ms"));
    }
}

#[test]
fn a_gateway_that_starts_under_load_finds_the_best_all_the_same() {
    let mut source = Simulated::new(1000, 40, 20);
    source.limit.in_force = 400;
    source.limit.phase = Phase::Steady;
    assert_near(source.run(240, ALL, Heard::Head), 40, "from 400");
}

#[test]
fn what_is_not_used_does_not_grow_and_the_ceiling_holds() {
    let mut source = Simulated::new(1000, 40, 20);
    let limit = source.run(60, 6, Heard::Head);
    assert!((6..=8).contains(&limit), "six at once show nothing of more: {limit}");
    assert_eq!(Simulated::new(16, 40, 20).run(20, ALL, Heard::Head), 16);
    assert_eq!(Simulated::new(2, 40, 20).run(20, ALL, Heard::Head), 2);
}

#[test]
fn failures_shrink_it_to_one_and_it_comes_back() {
    let mut source = Simulated::new(1000, 40, 20);
    assert_near(source.run(60, ALL, Heard::Head), 40, "at first");
    let limit = source.run(20, ALL, |_| Heard::Failure);
    assert_eq!(limit, 1);
    assert_near(source.run(60, ALL, Heard::Head), 40, "afterwards");
}

#[test]
fn one_change_is_one_step_however_many_failures_tell_of_it() {
    let now = Instant::now();
    let mut limit = Limit::new(1000, now);
    limit.in_force = 100;
    let failure = Sample { sent_at: now, in_flight: 100, heard: Heard::Failure };
    let later = now + Duration::from_millis(10);
    assert_eq!(limit.take(failure, later), Some(90));
    for _ in 0..99 {
        assert_eq!(limit.take(failure, later), None, "it was sent before");
    }
    assert_eq!(limit.take(Sample { sent_at: later, ..failure }, later), Some(81));
}

#[test]
fn a_few_slow_answers_change_nothing() {
    let mut source = Simulated::new(1000, 40, 20);
    source.run(60, ALL, Heard::Head);
    let chance = std::cell::RefCell::new(fastrand::Rng::with_seed(3));
    let sometimes = |took: Duration| {
        let slow = chance.borrow_mut().u8(..100) < 20;
        Heard::Head(if slow { took + Duration::from_secs(2) } else { took })
    };
    assert_near(source.run(60, ALL, sometimes), 40, "one in five takes long");
}
