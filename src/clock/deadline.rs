//! When something is due, kept so that a request costs no timer: moving a deadline only writes down where
//! to, and the clock is asked and the timer set where something really waits.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A deadline that moves often and is rarely waited for.
#[derive(Debug)]
pub(crate) struct Deadline {
    due: Due,
    /// May go off early; late it never does, from the first wait on.
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    At(Instant),
    /// So long after it is next waited for.
    After(Duration),
}

impl Deadline {
    pub(crate) fn at(due: Instant) -> Self {
        Self { due: Due::At(due), timer: Box::pin(tokio::time::sleep_until(due)) }
    }

    pub(crate) const fn move_to(&mut self, due: Instant) {
        self.due = Due::At(due);
    }

    /// To so long after now: after the next look at it, before which nobody waits.
    pub(crate) const fn move_by(&mut self, time: Duration) {
        self.due = Due::After(time);
    }

    /// Resolves when it is due.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let due = match self.due {
            Due::At(due) => due,
            Due::After(time) => Instant::now() + time,
        };
        self.due = Due::At(due);
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            if self.timer.deadline() >= due {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_is_due_when_it_was_last_said_to_be_and_not_before() {
        let start = Instant::now();
        let mut deadline = Deadline::at(start + 10 * SECOND);
        let due_after = async |deadline: &mut Deadline, seconds: u32| {
            poll_fn(|context| deadline.poll(context)).await;
            assert_eq!(start.elapsed(), seconds * SECOND);
        };
        deadline.move_to(start + 3 * SECOND);
        due_after(&mut deadline, 3).await;
        // Later than what the timer was set to, then earlier.
        deadline.move_by(20 * SECOND);
        assert!(futures_util::poll!(poll_fn(|context| deadline.poll(context))).is_pending());
        deadline.move_to(start + 5 * SECOND);
        due_after(&mut deadline, 5).await;
        deadline.move_by(SECOND);
        tokio::time::advance(SECOND).await;
        due_after(&mut deadline, 7).await;
        deadline.move_to(start + 2 * SECOND);
        due_after(&mut deadline, 7).await;
    }
}
