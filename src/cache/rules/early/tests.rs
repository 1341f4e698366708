use super::*;
use crate::cache::tiers::testing::response;
use proptest::prelude::*;

const RECEIVED: Timestamp = Timestamp::from_millis(1_000_000);

fn stored(forward: Duration, lifetime: Duration) -> StoredResponse {
    let reuse = Reuse::WhileFresh;
    let early = Early::decide(forward, lifetime, reuse);
    StoredResponse { freshness_lifetime: lifetime.into(), reuse, early, ..response("body", RECEIVED) }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The share of draws, evenly spread over (0, 1], that make a hit the one.
fn chance(stored: &StoredResponse, now: Timestamp) -> f64 {
    let draws = (1..=10_000).map(|number| f64::from(number) / 10_000.0);
    f64::from(u32::try_from(draws.filter(|draw| is_due(stored, now, *draw)).count()).unwrap()) / 10_000.0
}

#[test]
fn the_chance_grows_towards_the_end_as_the_formula_says() {
    // 60 s of freshness, 1 s for a forward: e to the power of minus what is left.
    let stored = stored(millis(1_000), millis(60_000));
    for (left, expected) in [(30_000, 0.0), (13_900, 0.0), (5_000, 0.0067), (1_000, 0.3679), (500, 0.6065)] {
        let now = RECEIVED.plus(millis(60_000 - left));
        assert!((chance(&stored, now) - expected).abs() < 0.0005, "{left} ms before the end");
    }
    assert!(chance(&stored, RECEIVED.plus(millis(60_000))) > 0.999, "at the end it is everyone");
}

#[test]
fn who_draws_and_who_does_not() {
    let minute = millis(60_000);
    let stale = Duration::from_secs(5).into();
    let windows = Reuse::WithStale {
        while_revalidate: stale,
        if_error: stale,
        on_disconnect: stale,
        on_request: stale,
    };
    for (what, forward, lifetime, reuse, from) in [
        ("13.8 forward times before the end", 1_000, minute, Reuse::WhileFresh, Some(46_185)),
        ("windows change nothing", 1_000, minute, windows, Some(46_185)),
        ("asked about before each use", 1_000, minute, Reuse::ValidateAlways, None),
        ("too short a lifetime", 1_000, millis(9_999), Reuse::WhileFresh, None),
        ("just long enough", 100, millis(10_000), Reuse::WhileFresh, Some(8_619)),
        ("a forward that takes no time", 0, minute, Reuse::WhileFresh, None),
        ("a forward that takes longer than the lifetime", 90_000, minute, Reuse::WhileFresh, Some(0)),
    ] {
        let early = Early::decide(millis(forward), lifetime, reuse);
        let got = (early.from < Span::MAX).then(|| u64::try_from(early.from.duration().as_millis()).unwrap());
        assert_eq!(got, from, "{what}");
        let stored = StoredResponse {
            freshness_lifetime: lifetime.into(),
            reuse,
            early,
            ..response("body", RECEIVED)
        };
        for age in [0, 8_617, 8_619, 46_183, 46_185, 59_999] {
            let drawn = from.is_some_and(|from| from <= age);
            assert_eq!(draws(&stored, RECEIVED.plus(millis(age))), drawn, "{what}: {age}");
        }
    }
}

#[test]
fn forward_times_are_smoothed() {
    let (before, new) = (stored(millis(400), millis(60_000)), stored(millis(100), millis(20_000)));
    let both = smoothed(new, &before);
    assert_eq!(both.early, Early::decide(millis(250), millis(20_000), Reuse::WhileFresh));
    let unknown = StoredResponse { early: Early::NEVER, ..before };
    assert_eq!(smoothed(both, &unknown).early.forward_time(), millis(250));
}

proptest! {
    /// The age from which hits draw leaves out nothing that has a chance worth the name.
    #[test]
    fn what_is_not_drawn_would_not_have_been_due(
        forward in 0..100_000_u64,
        lifetime in 10_000..10_000_000_u64,
        age in 0..10_000_000_u64,
        draw in 1e-6..=1.0_f64,
    ) {
        prop_assume!(age < lifetime);
        let stored = stored(millis(forward), millis(lifetime));
        let left = millis(lifetime - age).as_secs_f64();
        let due = millis(forward).as_secs_f64() * -draw.ln() >= left;
        prop_assert_eq!(is_due(&stored, RECEIVED.plus(millis(age)), draw), due);
    }

    /// Who draws less is due no later.
    #[test]
    fn smaller_draws_and_later_hits_are_due_if_greater_and_earlier_ones_are(
        age in 0..59_000_u64,
        later in 0..1_000_u64,
        draw in 1e-9..=1.0_f64,
        less in 0.01..=1.0_f64,
    ) {
        let stored = stored(millis(700), millis(60_000));
        let now = RECEIVED.plus(millis(age));
        if is_due(&stored, now, draw) {
            prop_assert!(is_due(&stored, now.plus(millis(later)), draw * less));
        }
    }
}
