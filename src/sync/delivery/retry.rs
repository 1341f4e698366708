//! What follows an outcome. Pure: the past, the settings and a random number come in, a step goes out.

use super::outcome::{Blame, Code, Failure, Outcome};
use crate::sync::journal::record::{Past, Settled};
use crate::sync::settings::{OnFailure, RetrySettings};
use std::time::Duration;

/// No wait between two attempts is shorter.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// Doublings of `base` that are computed; `cap` is reached before.
const DOUBLINGS_MAX: u32 = 31;

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is done.
    Settle(Settled),
    /// The delivery waits so long, and with it perhaps the whole destination.
    Wait { delay: Duration, whole: Whole },
    /// The destination is held; the delivery goes to the end.
    Hold,
    /// A dead letter.
    Bury { class: &'static str, code: Code },
}

/// Whether the destination asked to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Only this delivery waits.
    Delivery,
    /// Everything waits.
    Destination,
}

/// Whether the destination was trusted when the attempt began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was: bounds on attempts and waiting count.
    Open,
    /// It was, and the delivery is a redriven one: nothing of it is counted by the breaker.
    Aside,
    /// The attempt was a probe of a destination in trouble: nothing dies for that.
    Probe,
}

/// Full jitter: at random up to `min(cap, base * 2^n)`, and never under [`DELAY_MIN`].
/// `random` is in 0..=1, `attempts` counts the one that just failed.
pub(crate) fn backoff(settings: &RetrySettings, attempts: u32, random: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(DOUBLINGS_MAX);
    let most = settings.base.saturating_mul(2_u32.saturating_pow(doublings)).min(settings.cap);
    most.mul_f64(random.clamp(0.0, 1.0)).max(DELAY_MIN)
}

/// The step after an outcome. `past` includes the attempt that just ended.
pub(crate) fn next(
    outcome: &Outcome,
    past: &Past,
    settings: &RetrySettings,
    on_failure: OnFailure,
    standing: Standing,
    random: f64,
) -> Next {
    match outcome {
        Outcome::Delivered => Next::Settle(Settled::Delivered),
        Outcome::Absent(_) => Next::Settle(Settled::Absent),
        Outcome::Superseded => Next::Settle(Settled::Superseded),
        Outcome::Hold(_) => Next::Hold,
        Outcome::Permanent(failure) => match on_failure {
            OnFailure::Block => Next::Wait { delay: settings.cap, whole: Whole::Delivery },
            OnFailure::ParkKey | OnFailure::Skip => Next::Bury { class: "permanent", code: failure.code },
        },
        Outcome::Retry(failure, blame) => {
            let (delay, whole) = delay(failure, *blame, past.counted(), settings, random);
            let spent = Duration::from_millis(past.waited_millis).saturating_add(delay);
            let exhausted =
                settings.attempts.is_some_and(|most| past.counted() >= most) || spent > settings.give_up;
            let mortal = on_failure != OnFailure::Block && standing != Standing::Probe;
            if exhausted && mortal {
                Next::Bury { class: "retry", code: Code::GivenUp }
            } else {
                Next::Wait { delay, whole }
            }
        }
    }
}

fn delay(
    failure: &Failure,
    blame: Blame,
    attempts: u32,
    settings: &RetrySettings,
    random: f64,
) -> (Duration, Whole) {
    let own = backoff(settings, attempts, random);
    match (failure.retry_after, failure.status, blame) {
        (Some(asked), Some(429 | 503), _) => (asked.min(settings.after_cap).max(own), Whole::Destination),
        (Some(asked), _, Blame::Change) => (asked.min(settings.after_cap).max(own), Whole::Delivery),
        _ => (own, Whole::Delivery),
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::{Before, Meanings};
    use super::*;
    use crate::sync::settings::Format;
    use http::{Method, StatusCode};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SETTINGS: RetrySettings = RetrySettings {
        base: Duration::from_secs(1),
        cap: Duration::from_mins(5),
        give_up: Duration::from_hours(1),
        after_cap: Duration::from_mins(1),
        attempts: Some(5),
    };

    fn answered(status: u16, retry_after: Option<u64>) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        let meanings = Meanings { format: Format::Replay, given: BTreeMap::new() };
        let after = retry_after.map(Duration::from_secs);
        meanings.of(&Method::PUT, Before::Nothing, Failure::answered(status, after, String::new()))
    }

    fn after(attempts: u32, waited_secs: u64) -> Past {
        Past { attempts, waited_millis: waited_secs * 1000, ..Past::default() }
    }

    #[test]
    fn steps() {
        use {OnFailure::*, Standing::*};
        let wait = |secs, whole| Next::Wait { delay: Duration::from_secs(secs), whole };
        let given_up = Next::Bury { class: "retry", code: Code::GivenUp };
        let permanent = Next::Bury { class: "permanent", code: Code::HttpStatus };
        for (outcome, past, on_failure, standing, next_step) in [
            (answered(200, None), after(1, 0), ParkKey, Open, Next::Settle(Settled::Delivered)),
            (answered(500, None), after(1, 0), ParkKey, Open, wait(1, Whole::Delivery)),
            (answered(500, None), after(3, 0), ParkKey, Open, wait(4, Whole::Delivery)),
            (answered(500, None), after(5, 0), ParkKey, Open, given_up.clone()),
            (answered(500, None), after(5, 0), ParkKey, Probe, wait(16, Whole::Delivery)),
            (answered(500, None), after(5, 0), ParkKey, Aside, given_up.clone()),
            (answered(500, None), after(5, 0), Block, Open, wait(16, Whole::Delivery)),
            (answered(500, None), after(2, 3598), Skip, Open, wait(2, Whole::Delivery)),
            (answered(500, None), after(2, 3599), Skip, Open, given_up.clone()),
            (answered(503, Some(30)), after(1, 3590), ParkKey, Open, given_up),
            (answered(503, Some(30)), after(1, 3590), ParkKey, Probe, wait(30, Whole::Destination)),
            (answered(503, Some(30)), after(1, 0), ParkKey, Open, wait(30, Whole::Destination)),
            (answered(429, Some(600)), after(1, 0), ParkKey, Open, wait(60, Whole::Destination)),
            (answered(503, Some(0)), after(3, 0), ParkKey, Open, wait(4, Whole::Destination)),
            (answered(500, Some(30)), after(1, 0), ParkKey, Open, wait(1, Whole::Delivery)),
            (answered(413, Some(30)), after(1, 0), ParkKey, Open, wait(30, Whole::Delivery)),
            (answered(401, None), after(9, 9999), ParkKey, Open, Next::Hold),
            (answered(400, None), after(1, 0), ParkKey, Probe, permanent.clone()),
            (answered(400, None), after(1, 0), Skip, Open, permanent),
            (answered(400, None), after(1, 0), Block, Open, wait(300, Whole::Delivery)),
        ] {
            assert_eq!(next(&outcome, &past, &SETTINGS, on_failure, standing, 1.0), next_step, "{outcome:?}");
        }
    }

    proptest! {
        #[test]
        fn backoff_stays_within_its_bounds(attempts in 0_u32.., random in 0.0_f64..=1.0) {
            let delay = backoff(&SETTINGS, attempts, random);
            prop_assert!(delay >= DELAY_MIN && delay <= SETTINGS.cap);
            if attempts <= 1 {
                prop_assert!(delay <= SETTINGS.base);
            }
        }
    }
}
