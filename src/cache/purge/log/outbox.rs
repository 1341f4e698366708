//! Own purges on their way into the log, in order, kept until they are read back from it.

use super::{Following, LOG_LENGTH, Message, PAUSE, PURGE_BUDGET};
use crate::cache::purge::{Purge, PurgeMode};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Purges kept while Redis does not have them; beyond, they become one purge of everything.
const OUTBOX_MAX: usize = 10_000;

#[derive(Debug)]
struct Outgoing {
    lowest: u64,
    number: u64,
    bytes: Bytes,
    sent: Sent,
    waiter: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    No,
    /// Redis has acknowledged it.
    Yes,
}

/// The queue; its owner is the log's state.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Outgoing>,
    unsent: usize,
}

impl Outbox {
    /// The receiver is told when Redis has it.
    pub(super) fn push(&mut self, mut message: Message) -> oneshot::Receiver<()> {
        let mut lowest = message.number;
        if self.queue.len() >= OUTBOX_MAX {
            tracing::warn!("too many purges wait for Redis: the others will forget everything");
            lowest = self.lowest().unwrap_or(lowest);
            self.queue.clear();
            self.unsent = 0;
            message.purges = vec![Purge::All];
            message.mode = PurgeMode::Hard;
        }
        let (waiter, sent) = oneshot::channel();
        self.queue.push_back(Outgoing {
            lowest,
            number: message.number,
            bytes: encode(&message),
            sent: Sent::No,
            waiter: Some(waiter),
        });
        self.unsent += 1;
        sent
    }

    pub(super) const fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// The lowest number whose position in the log is not known yet.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.queue.front().map(|outgoing| outgoing.lowest)
    }

    fn next_unsent(&self) -> Option<(u64, Bytes)> {
        let unsent = self.queue.iter().find(|outgoing| outgoing.sent == Sent::No)?;
        Some((unsent.number, unsent.bytes.clone()))
    }

    pub(super) fn sent(&mut self, number: u64) {
        let outgoing = self.queue.iter_mut().find(|outgoing| outgoing.number == number);
        if let Some(outgoing) = outgoing.filter(|outgoing| outgoing.sent == Sent::No) {
            outgoing.sent = Sent::Yes;
            self.unsent -= 1;
            outgoing.tell();
        }
    }

    /// The entry of that number was read back. Its lowest number, where it was awaited.
    pub(super) fn read_back(&mut self, number: u64) -> Option<u64> {
        if self.queue.front()?.number != number {
            return None;
        }
        self.sent(number);
        self.queue.pop_front().map(|outgoing| outgoing.lowest)
    }

    /// The log has lost what it had.
    pub(super) fn send_again(&mut self) {
        for outgoing in &mut self.queue {
            outgoing.sent = Sent::No;
        }
        self.unsent = self.queue.len();
    }
}

impl Outgoing {
    fn tell(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            // Nobody may be waiting any more.
            waiter.send(()).unwrap_or_default();
        }
    }
}

fn encode(message: &Message) -> Bytes {
    // Serialising plain data into a Vec has no way to fail; an empty entry is read as a purge of everything.
    postcard::to_stdvec(message).unwrap_or_default().into()
}

/// Sends what is queued, in order, until it is dropped.
pub(super) async fn send(log: Arc<Following>) {
    loop {
        let next = log.state().outbox.next_unsent();
        let Some((number, bytes)) = next else {
            log.outgoing.notified().await;
            continue;
        };
        match log.redis.append(&log.log_key, &bytes, LOG_LENGTH, PURGE_BUDGET).await {
            Ok(()) => log.state().outbox.sent(number),
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

    fn message(number: u64) -> Message {
        Message { gateway: 1, number, mode: PurgeMode::Soft, purges: vec![Purge::Tag("t".into())] }
    }

    #[test]
    fn i5_kept_until_read_back_and_sent_again_when_lost() {
        let mut outbox = Outbox::default();
        let mut waiting = outbox.push(message(1));
        outbox.push(message(2));
        assert_eq!(outbox.next_unsent().unwrap().0, 1);
        outbox.sent(1);
        assert_eq!(waiting.try_recv(), Ok(()));
        assert_eq!((outbox.next_unsent().unwrap().0, outbox.lowest()), (2, Some(1)));
        outbox.send_again();
        assert_eq!(outbox.next_unsent().unwrap().0, 1);
        assert_eq!(outbox.read_back(7), None, "somebody else's, or one from before");
        assert_eq!(outbox.read_back(1), Some(1));
        assert_eq!(outbox.read_back(1), None, "a second copy of it");
        assert!(outbox.has_unsent());
        assert_eq!(outbox.read_back(2), Some(2), "read back before it was acknowledged");
        assert!(!outbox.has_unsent());
    }

    #[test]
    fn i10_too_many_become_one_purge_of_everything() {
        let mut outbox = Outbox::default();
        for number in 1..=10_001 {
            outbox.push(message(number));
        }
        let (number, bytes) = outbox.next_unsent().unwrap();
        let sent: Message = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((number, outbox.lowest(), outbox.queue.len()), (10_001, Some(1), 1));
        assert_eq!((sent.purges, sent.mode), (vec![Purge::All], PurgeMode::Hard));
    }
}
