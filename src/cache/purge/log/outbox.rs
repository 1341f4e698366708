//! Own purges on their way into the log, in order, kept until they are read back from it.

use super::kept::Record;
use super::{Following, LOG_LENGTH, Message, PAUSE, PURGE_BUDGET};
use crate::cache::purge::{Purge, PurgeMode};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Purges kept while Redis does not have them; beyond, they become one purge of everything.
const PURGES_MAX: usize = 20_000;
/// Purges that wait are sent together, so many to an entry.
const ENTRY_PURGES: usize = 64;

#[derive(Debug)]
struct Outgoing {
    lowest: u64,
    number: u64,
    mode: PurgeMode,
    purges: Vec<Purge>,
    sent: Sent,
    waiters: Vec<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Others may still be added to it.
    No,
    /// It is being sent, or was without an answer: Redis may have it as it is.
    Tried,
    /// Redis has acknowledged it.
    Yes,
}

/// The queue; its owner is the log's state.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Outgoing>,
    unsent: usize,
    purges: usize,
}

impl Outbox {
    /// The receiver is told when Redis has it. Numbers must come in order.
    pub(super) fn push(&mut self, number: u64, mode: PurgeMode, purges: Vec<Purge>) -> oneshot::Receiver<()> {
        let (waiter, sent) = oneshot::channel();
        let all = self.purges + purges.len();
        match self.queue.back_mut() {
            _ if all > PURGES_MAX => {
                tracing::warn!("too many purges wait for Redis: the others will forget everything");
                let lowest = self.lowest().unwrap_or(number);
                *self = Self::default();
                self.add(lowest, number, PurgeMode::Hard, vec![Purge::All], waiter);
            }
            Some(last)
                if last.sent == Sent::No
                    && last.mode == mode
                    && last.purges.len() + purges.len() <= ENTRY_PURGES =>
            {
                last.number = number;
                last.purges.extend(purges);
                last.waiters.push(waiter);
                self.purges = all;
            }
            _ => self.add(number, number, mode, purges, waiter),
        }
        sent
    }

    fn add(
        &mut self,
        lowest: u64,
        number: u64,
        mode: PurgeMode,
        purges: Vec<Purge>,
        waiter: oneshot::Sender<()>,
    ) {
        self.unsent += 1;
        self.purges += purges.len();
        let waiters = vec![waiter];
        self.queue.push_back(Outgoing { lowest, number, mode, purges, sent: Sent::No, waiters });
    }

    pub(super) const fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// Whether Redis has acknowledged a number of this queue, or it has left the queue.
    pub(super) fn is_sent(&self, number: u64) -> bool {
        let outgoing = self.queue.iter().find(|outgoing| outgoing.number >= number);
        outgoing.is_none_or(|outgoing| outgoing.lowest > number || outgoing.sent == Sent::Yes)
    }

    /// What Redis does not have, of higher numbers than `number`, and the highest of those.
    pub(super) fn unsent_behind(&self, number: u64) -> (Vec<Record>, u64) {
        let unsent = || {
            let unsent = self.queue.iter().filter(|outgoing| outgoing.sent != Sent::Yes);
            unsent.filter(move |outgoing| outgoing.number > number)
        };
        let record = |outgoing: &Outgoing| Record { mode: outgoing.mode, purges: outgoing.purges.clone() };
        let highest = unsent().map(|outgoing| outgoing.number).next_back();
        (unsent().map(record).collect(), highest.unwrap_or(number))
    }

    /// The lowest number whose position in the log is not known yet.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.queue.front().map(|outgoing| outgoing.lowest)
    }

    /// What is to be sent next, as an entry of the log; nothing is added to it any more.
    fn next_unsent(&mut self, gateway: u64) -> Option<Message> {
        let next = self.queue.iter_mut().find(|outgoing| outgoing.sent != Sent::Yes)?;
        next.sent = Sent::Tried;
        Some(Message { gateway, number: next.number, mode: next.mode, purges: next.purges.clone() })
    }

    pub(super) fn sent(&mut self, number: u64) {
        let outgoing = self.queue.iter_mut().find(|outgoing| outgoing.number == number);
        if let Some(outgoing) = outgoing.filter(|outgoing| outgoing.sent != Sent::Yes) {
            outgoing.sent = Sent::Yes;
            self.unsent -= 1;
            for waiter in outgoing.waiters.drain(..) {
                // Nobody may be waiting any more.
                waiter.send(()).unwrap_or_default();
            }
        }
    }

    /// The entry of that number was read back. Its lowest number, where it was awaited.
    pub(super) fn read_back(&mut self, number: u64) -> Option<u64> {
        if self.queue.front()?.number != number {
            return None;
        }
        self.sent(number);
        let outgoing = self.queue.pop_front()?;
        self.purges -= outgoing.purges.len();
        Some(outgoing.lowest)
    }

    /// The log has lost what it had.
    pub(super) fn send_again(&mut self) {
        for outgoing in &mut self.queue {
            outgoing.sent = Sent::Tried;
        }
        self.unsent = self.queue.len();
    }
}

/// Sends what is queued, in order, until it is dropped.
pub(super) async fn send(log: Arc<Following>) {
    loop {
        let next = log.state().outbox.next_unsent(log.gateway);
        let Some(message) = next else {
            log.outgoing.notified().await;
            continue;
        };
        // Plain data into a Vec does not fail; an empty entry would be read as a purge of everything.
        let bytes = log.seal.sealed(postcard::to_stdvec(&message).unwrap_or_default());
        match log.redis.append(&log.log_key, &bytes, LOG_LENGTH, PURGE_BUDGET).await {
            Ok(()) => {
                log.state().outbox.sent(message.number);
                log.to_keep.notify_one();
            }
            Err(cause) => {
                tracing::debug!(%cause, "a purge waits for Redis");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &mut Outbox, number: u64) -> oneshot::Receiver<()> {
        outbox.push(number, PurgeMode::Soft, vec![Purge::Tag("t".into())])
    }

    #[test]
    fn i5_kept_until_read_back_and_sent_again_when_lost() {
        let mut outbox = Outbox::default();
        let mut waiting = push(&mut outbox, 1);
        assert_eq!(outbox.next_unsent(7).unwrap().number, 1);
        push(&mut outbox, 2);
        assert_eq!(outbox.next_unsent(7).unwrap().number, 1, "nothing is added to what may be sent");
        outbox.sent(1);
        assert_eq!(waiting.try_recv(), Ok(()));
        assert_eq!((outbox.next_unsent(7).unwrap().number, outbox.lowest()), (2, Some(1)));
        outbox.send_again();
        assert_eq!(outbox.next_unsent(7).unwrap().number, 1);
        assert_eq!(outbox.read_back(9), None, "one from before");
        assert_eq!(outbox.read_back(1), Some(1));
        assert_eq!(outbox.read_back(1), None, "a second copy of it");
        assert!(outbox.has_unsent());
        assert_eq!(outbox.read_back(2), Some(2), "read back before it was acknowledged");
        assert!(!outbox.has_unsent() && outbox.purges == 0);
    }

    #[test]
    fn what_waits_is_sent_together() {
        let mut outbox = Outbox::default();
        let mut waiting: Vec<_> = (1..=3).map(|number| push(&mut outbox, number)).collect();
        let message = outbox.next_unsent(7).unwrap();
        assert_eq!((message.number, message.purges.len(), outbox.lowest()), (3, 3, Some(1)));
        outbox.sent(3);
        assert!(waiting.iter_mut().all(|waiting| waiting.try_recv() == Ok(())));
        outbox.push(4, PurgeMode::Hard, vec![Purge::All]);
        push(&mut outbox, 5);
        assert_eq!(outbox.queue.len(), 3, "modes are kept apart");
        assert_eq!(outbox.read_back(3), Some(1));
    }

    #[test]
    fn i10_too_many_become_one_purge_of_everything() {
        let mut outbox = Outbox::default();
        let purges = u64::try_from(PURGES_MAX).unwrap();
        for number in 1..=purges + 1 {
            push(&mut outbox, number);
        }
        let sent = outbox.next_unsent(7).unwrap();
        assert_eq!((sent.number, outbox.lowest(), outbox.queue.len()), (purges + 1, Some(1), 1));
        assert_eq!((sent.purges, sent.mode), (vec![Purge::All], PurgeMode::Hard));
    }
}
