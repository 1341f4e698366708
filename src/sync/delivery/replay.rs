//! Replay: what a destination has had is put in front of what it gets next, key by key.
//!
//! The worker does it between two decisions: of a key nothing is in flight, what it has in memory gets
//! rows, and then everything from the first change on gets a row again, up to the newest that the
//! destination has had. The rows are sent in order and what is newer waits behind them (I3); a restart
//! finds them in the journal like every other delivery that waits.

use super::retry::Standing;
use super::worker::{Attachment, Worker};
use crate::clock::Timestamp;
use crate::sync::journal::record::{Followers, Past, Record, Step, Unwritten};
use crate::sync::journal::sqlite::{REPLAY_STEP, Touched};
use std::num::NonZeroU32;
use tokio::sync::oneshot;

/// One key to be replayed.
#[derive(Debug)]
pub(in crate::sync) struct Ordered {
    pub(in crate::sync) touched: Touched,
    /// Changes a second that are sent again, those of all keys together.
    pub(in crate::sync) rate: Option<NonZeroU32>,
    pub(in crate::sync) done: oneshot::Sender<Result<Begun, Unwritten>>,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) enum Begun {
    /// So many of its changes wait to be sent again.
    Changes(u64),
    /// The key waits behind a dead letter.
    Parked,
}

/// A worker's replays.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// It waits until nothing of its key is in flight. There is one at most: the engine orders the next key
    /// when it has been told of this one.
    ordered: Option<Ordered>,
    rate: Option<NonZeroU32>,
    /// Microseconds since the Unix epoch, from which the next may be sent.
    next_micros: u64,
}

impl Replays {
    pub(super) fn order(&mut self, ordered: Ordered) {
        self.rate = ordered.rate;
        self.ordered = Some(ordered);
    }

    /// Until when a delivery has to wait for the replay's rate.
    pub(super) fn must_wait(&self, past: &Past, now: Timestamp) -> Option<Timestamp> {
        let free_at = Timestamp::from_millis(self.next_micros.div_ceil(1000));
        (past.replay && self.rate.is_some() && now < free_at).then_some(free_at)
    }

    /// One of a replay takes its place in the rate.
    pub(super) fn begin(&mut self, past: &Past, now: Timestamp) {
        if let Some(rate) = self.rate.filter(|_| past.replay) {
            let now_micros = now.as_millis().saturating_mul(1000);
            self.next_micros =
                self.next_micros.max(now_micros).saturating_add(1_000_000 / u64::from(rate.get()));
        }
    }

    /// What an attempt that begins counts for.
    pub(super) fn standing(past: &Past, admitted: Standing) -> Standing {
        if past.redriven && admitted == Standing::Open { Standing::Aside } else { admitted }
    }
}

impl Worker {
    /// Begins the replay that was ordered, once nothing of its key is in flight or being read.
    pub(super) async fn begin_replay(&mut self) {
        let is_free = |ordered: &mut Ordered| !self.course.lanes.is_busy(&ordered.touched.key);
        let Some(Ordered { touched, done, .. }) = self.course.replays.ordered.take_if(is_free) else {
            return;
        };
        // Whoever ordered it has stopped.
        if done.is_closed() {
            return;
        }
        // What is not attached is sent nothing.
        let begun = match self.attachment {
            Attachment::Attached => self.replay(touched).await,
            Attachment::Detached | Attachment::Returning => Ok(Begun::Parked),
        };
        drop(done.send(begun));
    }

    async fn replay(&mut self, touched: Touched) -> Result<Begun, Unwritten> {
        let Touched { key, first } = touched;
        if self.course.lanes.is_parked(&key) {
            return Ok(Begun::Parked);
        }
        self.course.covered.forget(&key);
        let behind = self.course.lanes.make_way(&key).into_iter();
        let rows = behind.map(|sequence| (key.clone(), sequence, Followers::Behind)).collect();
        drop(self.submit(Step::Spill { rows }).await?);
        let mut count = 0;
        loop {
            let step = Record::Replay { destination: self.known.id, key: key.clone(), from: first };
            let rows = self.journal.write(step).await?;
            count += rows;
            if rows < u64::from(REPLAY_STEP) {
                break;
            }
        }
        self.course.lanes.revive(&key);
        Ok(Begun::Changes(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spaces_what_is_replayed_and_nothing_else() {
        let at = Timestamp::from_millis;
        let (replayed, live) = (Past { replay: true, ..Past::default() }, Past::default());
        for (rate, next) in
            [(None, None), (NonZeroU32::new(4), Some(1250)), (NonZeroU32::new(3000), Some(1001))]
        {
            let mut replays = Replays { rate, ..Replays::default() };
            assert_eq!(replays.must_wait(&replayed, at(1000)), None, "{rate:?}");
            replays.begin(&replayed, at(1000));
            assert_eq!(replays.must_wait(&replayed, at(1000)), next.map(at), "{rate:?}");
            assert_eq!(replays.must_wait(&live, at(1000)), None);
        }
    }

    #[test]
    fn only_what_is_redriven_stands_aside_and_never_as_a_probe() {
        let redriven = Past { redriven: true, ..Past::default() };
        for (past, admitted, standing) in [
            (&redriven, Standing::Open, Standing::Aside),
            (&redriven, Standing::Probe, Standing::Probe),
            (&Past { replay: true, ..Past::default() }, Standing::Open, Standing::Open),
        ] {
            assert_eq!(Replays::standing(past, admitted), standing);
        }
    }
}
