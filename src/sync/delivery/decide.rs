//! What a worker makes of an answer: the decision, its record, and what the key does afterwards.

use super::command;
use super::course::{After, Course};
use super::covered::Target;
use super::key_state::Entry;
use super::outcome::{Blame, Code, Failure, Outcome};
use super::pace::News;
use super::retry::{self, Next, Standing, Whole};
use super::worker::{Event, READ_AGAIN_AFTER, Worker};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::{Burial, Past, Record, Step, Unwritten};
use crate::sync::settings::OnFailure;
use crate::telemetry::metrics as names;
use metrics::counter;
use std::sync::Arc;
use std::time::Duration;

/// Changes remembered as refused while the destination was held.
const REFUSED_MAX: usize = 1024;

/// A delivery whose attempt has ended.
struct Ended {
    key: Arc<str>,
    sequence: u64,
    past: Past,
    change: ChangeId,
    counts: Counts,
}

/// Whether an attempt counts toward giving its delivery up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    Yes,
    /// It was made for the destination's sake, or the destination refused Tidegate as such.
    No,
}

impl Counts {
    const fn of(outcome: &Outcome, standing: Standing) -> Self {
        match (outcome, standing) {
            (Outcome::Hold(_), _) | (_, Standing::Probe) => Self::No,
            (_, Standing::Open | Standing::Aside) => Self::Yes,
        }
    }
}

/// An attempt as it was made: as what, and when it began and ended.
#[derive(Clone, Copy)]
struct Made {
    standing: Standing,
    began_at: Timestamp,
    now: Timestamp,
}

/// What an attempt met.
pub(super) struct Answered {
    pub(super) key: Arc<str>,
    pub(super) entry: Entry,
    pub(super) standing: Standing,
    pub(super) began_at: Timestamp,
    pub(super) change: ChangeId,
    pub(super) outcome: Outcome,
    /// From the request to the end of the answer.
    pub(super) round_trip: Duration,
    /// What the destination has where it took what was sent: a target, and as of when.
    pub(super) state: Option<(Target, u64)>,
}

/// What follows.
pub(super) struct Decided {
    pub(super) next: Next,
    pub(super) step: Step,
    pub(super) after: After,
}

impl Course {
    /// An attempt could not be made; its key waits, and the journal hears nothing.
    pub(super) fn unattempted(&mut self, key: &Arc<str>, standing: Standing, now: Timestamp) {
        self.pace.learn(News::Nothing, standing, now, Duration::ZERO, 0.0);
        self.free(key);
        self.lanes.wait(key, now.plus(READ_AGAIN_AFTER));
    }

    /// What follows an attempt; [`Course::durable`] is called once the step is. `random` gives numbers in
    /// 0..=1.
    pub(super) fn answered(
        &mut self,
        answered: Answered,
        now: Timestamp,
        mut random: impl FnMut() -> f64,
    ) -> Decided {
        let Answered { key, entry, standing, began_at, change, outcome, round_trip, state } = answered;
        if let (Some((target, as_of)), Outcome::Delivered | Outcome::Absent(_)) = (state, &outcome) {
            self.covered.delivered(&key, entry.sequence, target, as_of);
        }
        let counts = Counts::of(&outcome, standing);
        let past = past_with(&entry.past, &outcome, counts, now.since(began_at), began_at);
        let made = Made { standing, began_at, now };
        let next = self.decide(entry.sequence, &outcome, &past, made, random());
        self.pace.learn(news(&outcome, &next), standing, now, round_trip, random());
        let ended = Ended { key, sequence: entry.sequence, past, change, counts };
        let (step, after) = self.step(ended, &outcome, &next, now);
        Decided { next, step, after }
    }

    fn decide(
        &mut self,
        sequence: u64,
        outcome: &Outcome,
        past: &Past,
        Made { standing, began_at, now }: Made,
        random: f64,
    ) -> Next {
        let next =
            retry::next(outcome, past, &self.settings.retry, self.settings.on_failure, standing, random);
        match outcome {
            Outcome::Delivered | Outcome::Absent(_) | Outcome::Superseded => {
                self.taken_at = self.taken_at.max(began_at);
                self.budget.success();
                self.refused.remove(&sequence);
                next
            }
            // Another change got through since this one was refused: the fault is its own.
            Outcome::Hold(failure) => {
                let first_refused = self.refused.get(&sequence).copied();
                let own_fault = is_own_fault(failure, first_refused, self.taken_at);
                match (own_fault, self.settings.on_failure) {
                    // It alone waits; it stays known as the one at fault until it gets through.
                    (true, OnFailure::Block) => {
                        return Next::Wait { delay: self.settings.retry.cap, whole: Whole::Delivery };
                    }
                    (true, OnFailure::ParkKey | OnFailure::Skip) => {
                        self.refused.remove(&sequence);
                        return Next::Bury { class: "permanent", code: failure.code };
                    }
                    (false, _) => {}
                }
                if self.refused.len() < REFUSED_MAX {
                    self.refused.entry(sequence).or_insert(now);
                }
                next
            }
            Outcome::Retry(..) | Outcome::Permanent(_) => next,
        }
    }

    fn step(&mut self, ended: Ended, outcome: &Outcome, next: &Next, now: Timestamp) -> (Step, After) {
        match *next {
            Next::Settle(settled) => {
                self.lanes.settle_head(&ended.key);
                let Ended { key, sequence, past, .. } = ended;
                (Step::Settle { key, sequence, settled, attempts: past.attempts }, After::GoOn)
            }
            Next::Hold => (self.defer(ended, now, outcome, None), After::WaitUntil(now)),
            Next::Wait { delay, whole } => {
                let mut ended = ended;
                if ended.counts == Counts::Yes {
                    ended.past.waited_millis = ended.past.waited_millis.saturating_add(millis(delay));
                }
                let next_at = now.plus(delay);
                let whole = (whole == Whole::Destination).then_some(next_at);
                if let Some(until) = whole {
                    self.pace.wait_until(until);
                }
                (self.defer(ended, next_at, outcome, whole), After::WaitUntil(next_at))
            }
            Next::Bury { class, code } => {
                let Ended { key, sequence, past, change, .. } = ended;
                let on_failure = self.settings.on_failure;
                let (followers, after) = if on_failure == OnFailure::ParkKey {
                    (self.lanes.park(&key), After::StayParked)
                } else {
                    self.lanes.settle_head(&key);
                    (Vec::new(), After::GoOn)
                };
                let (status, answer) =
                    outcome.failure().map(|f| (f.status, f.answer.clone())).unwrap_or_default();
                let code = code.as_str();
                let burial = Box::new(Burial { change, class, code, status, last_at: now, answer });
                (Step::Bury { key, sequence, past, burial, followers, on_failure }, after)
            }
        }
    }

    fn defer(
        &mut self,
        ended: Ended,
        next_at: Timestamp,
        outcome: &Outcome,
        destination_waits_until: Option<Timestamp>,
    ) -> Step {
        let Ended { key, sequence, past, .. } = ended;
        let behind = self.lanes.defer(&key, &past);
        let last_error = outcome.failure().map(Failure::summary).unwrap_or_default();
        Step::Defer { key, sequence, past, next_at, last_error, behind, destination_waits_until }
    }
}

impl Worker {
    /// Decides what follows an answer and records it.
    pub(super) async fn take_answer(&mut self, answered: Answered) {
        let (key, change, outcome) = (Arc::clone(&answered.key), answered.change, answered.outcome.clone());
        counter!(names::ATTEMPTS, "destination" => self.known.name.clone(), "outcome" => outcome.as_str())
            .increment(1);
        let Decided { next, step, after } = self.course.answered(answered, self.clock.now(), fastrand::f64);
        self.note(&key, change, &outcome, &next);
        self.prove(&outcome).await;
        self.record(key, step, after).await;
        self.spill_laggards().await;
    }

    /// Records a step; its key goes on once that is durable.
    pub(super) async fn record(&mut self, key: Arc<str>, step: Step, after: After) {
        let (journal, destination) = (Arc::clone(&self.journal), self.known.id);
        let on_failure = self.course.settings.on_failure;
        match self.submit(step).await {
            Ok(durable) => self.spawn(Event::Durable(Arc::clone(&key), After::StayParked), async move {
                match durable.await {
                    Ok(Ok(0)) => Event::Durable(key, after),
                    Ok(Ok(marked_to)) => {
                        // Unless the journal is closed, and the process stops.
                        drop(command::arrange(&journal, destination, &key, on_failure, marked_to).await);
                        Event::Durable(key, after)
                    }
                    // The journal is closed: nothing of the key goes on, the process stops.
                    _ => Event::Durable(key, After::StayParked),
                }
            }),
            Err(Unwritten) => self.course.free(&key),
        }
    }

    /// Keeps that the destination has taken a delivery: from now on what it does not have to delete is
    /// no sign of a wrong URL.
    async fn prove(&mut self, outcome: &Outcome) {
        if *outcome == Outcome::Delivered && !self.known.proven {
            self.known.proven = true;
            let record = Record::Proven { destination: self.known.id };
            // Lost with the journal, it is told again by the next delivery after a start.
            drop(self.journal.submit(record).await);
        }
    }

    fn note(&mut self, key: &Arc<str>, change: ChangeId, outcome: &Outcome, next: &Next) {
        let name = &self.known.name;
        if let Outcome::Absent(status) = outcome
            && !self.known.proven
        {
            tracing::warn!(
                destination = %name, %key, %change, status,
                "a DELETE found nothing, and this destination has never taken a delivery: is its url right?"
            );
            let status = status.unwrap_or_default();
            let doubt =
                format!("a DELETE was answered {status}, and no delivery was ever taken: is its url right?");
            self.last_error = Some(doubt);
        }
        let Some(failure) = outcome.failure() else { return };
        let summary = failure.summary();
        match next {
            Next::Bury { code: Code::Damaged, .. } => {
                tracing::error!(destination = %name, %key, %change, "a change is damaged and is not delivered");
            }
            Next::Bury { code, .. } => {
                let code = code.as_str();
                tracing::warn!(destination = %name, %key, %change, code, %summary, "a delivery is a dead letter");
            }
            Next::Hold => {
                tracing::error!(destination = %name, %summary, "a destination is held: it refuses deliveries as such");
            }
            Next::Settle(_) | Next::Wait { .. } => {
                tracing::debug!(destination = %name, %key, %change, %summary, "a delivery waits");
            }
        }
        self.last_error = Some(summary);
    }
}

/// Whether a refused change is at fault itself: it has been refused before, and the destination has taken
/// one since that was sent after that. What was sent before tells what the destination was like before. One
/// without an answer was not even looked at.
fn is_own_fault(failure: &Failure, first_refused: Option<Timestamp>, taken_at: Timestamp) -> bool {
    failure.status.is_some() && first_refused.is_some_and(|refused_at| taken_at > refused_at)
}

fn news(outcome: &Outcome, next: &Next) -> News {
    match outcome {
        // Refused for its own fault: the destination is as it should be.
        Outcome::Hold(_) if matches!(next, Next::Bury { .. }) => News::Answered,
        // It is refused again and again, and says no more about the destination.
        Outcome::Hold(_) if matches!(next, Next::Wait { .. }) => News::Nothing,
        Outcome::Delivered | Outcome::Absent(_) | Outcome::Superseded => News::Good,
        Outcome::Retry(_, Blame::Destination) => News::Bad,
        Outcome::Hold(_) => News::Refused,
        Outcome::Permanent(failure) if failure.status.is_some() => News::Answered,
        Outcome::Retry(_, Blame::Change) | Outcome::Permanent(_) => News::Nothing,
    }
}

fn past_with(past: &Past, outcome: &Outcome, counts: Counts, took: Duration, began_at: Timestamp) -> Past {
    let (excused, waited) = match counts {
        Counts::Yes => (0, millis(took)),
        Counts::No => (1, 0),
    };
    Past {
        attempts: past.attempts.saturating_add(1),
        excused: past.excused.saturating_add(excused),
        waited_millis: past.waited_millis.saturating_add(waited),
        first_at: past.first_at.or(Some(began_at)),
        answer_lost: past.answer_lost || outcome.failure().is_some_and(|failure| failure.answer_lost),
        ..*past
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_what_is_at_fault_in_a_hold() {
        let answered = Failure::answered(http::StatusCode::FORBIDDEN, None, String::new());
        for (failure, first_refused, taken_at, own_fault) in [
            (&answered, None, 9, false),
            (&answered, Some(9), 9, false),
            (&answered, Some(9), 8, false),
            (&answered, Some(8), 9, true),
            (&Failure::of(Code::Tls(crate::tls::TlsFault::Protocol)), Some(8), 9, false),
            (&Failure::of(Code::AddressDenied), Some(8), 9, false),
        ] {
            let (refused_at, taken_at) =
                (first_refused.map(Timestamp::from_millis), Timestamp::from_millis(taken_at));
            assert_eq!(is_own_fault(failure, refused_at, taken_at), own_fault, "{failure:?}");
        }
    }

    #[test]
    fn i4_probes_and_holds_do_not_count_toward_giving_up() {
        let failure = || Failure::of(Code::HttpStatus);
        let retry = || Outcome::Retry(failure(), Blame::Destination);
        let (took, began_at) = (Duration::from_secs(1), Timestamp::from_millis(5));
        let mut past = Past::default();
        for (outcome, standing, counted, waited) in [
            (retry(), Standing::Open, 1, 1000),
            (retry(), Standing::Probe, 1, 1000),
            (Outcome::Hold(failure()), Standing::Open, 1, 1000),
            (Outcome::Hold(failure()), Standing::Probe, 1, 1000),
            (retry(), Standing::Open, 2, 2000),
        ] {
            let attempts = past.attempts;
            past = past_with(&past, &outcome, Counts::of(&outcome, standing), took, began_at);
            assert_eq!((past.counted(), past.waited_millis), (counted, waited), "{outcome:?} {standing:?}");
            assert_eq!(past.attempts, attempts + 1, "Tidegate-Attempt rises all the same");
        }
    }
}
