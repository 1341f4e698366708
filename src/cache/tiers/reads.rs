//! One read of a key at a time: who asks for the same meanwhile gets what it brings.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The reads under way, by the name of their key. There are as many as requests that read.
#[derive(Debug)]
pub(super) struct Reads<T> {
    under_way: Mutex<HashMap<String, watch::Receiver<Option<T>>>>,
}

impl<T: Clone> Reads<T> {
    pub(super) fn new() -> Self {
        Self { under_way: Mutex::default() }
    }

    /// What `read` brings, or a read of the same name that is under way; `None` where that was dropped.
    pub(super) async fn once(&self, name: &str, read: impl Future<Output = T>) -> Option<T> {
        match self.begin(name) {
            Turn::Wait(mut other) => {
                other.wait_for(Option::is_some).await.ok().and_then(|brought| brought.clone())
            }
            Turn::Read(sender, _end) => {
                let brought = read.await;
                sender.send_replace(Some(brought.clone()));
                Some(brought)
            }
        }
    }

    fn begin<'r>(&'r self, name: &'r str) -> Turn<'r, T> {
        let mut under_way = self.under_way();
        if let Some(other) = under_way.get(name) {
            return Turn::Wait(other.clone());
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(name.to_owned(), receiver);
        Turn::Read(sender, End { reads: self, name })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<T>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Turn<'r, T: Clone> {
    Wait(watch::Receiver<Option<T>>),
    Read(watch::Sender<Option<T>>, End<'r, T>),
}

/// Ends a read, also where the caller is dropped while it reads.
struct End<'r, T: Clone> {
    reads: &'r Reads<T>,
    name: &'r str,
}

impl<T: Clone> Drop for End<'_, T> {
    fn drop(&mut self) {
        self.reads.under_way().remove(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn who_comes_meanwhile_gets_what_is_brought_and_who_comes_later_reads_again() {
        let (reads, go) = (Reads::new(), Notify::new());
        let first = reads.once("a", async {
            go.notified().await;
            1
        });
        let second = reads.once("a", async { unreachable!("it is read already") });
        let other = reads.once("b", ready(2));
        let release = async { go.notify_one() };
        let (first, second, other, ()) = tokio::join!(first, second, other, release);
        assert_eq!((first, second, other), (Some(1), Some(1), Some(2)));
        assert_eq!(reads.once("a", ready(3)).await, Some(3));
        assert!(reads.under_way().is_empty());
    }

    #[tokio::test]
    async fn a_reader_that_leaves_takes_nobody_with_it() {
        let reads = Reads::new();
        {
            let mut leaving = Box::pin(reads.once("a", pending::<i32>()));
            assert!(futures_util::poll!(&mut leaving).is_pending());
            let mut waiting = Box::pin(reads.once("a", ready(1)));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            drop(leaving);
            assert_eq!(waiting.await, None);
        }
        assert_eq!(reads.once("a", ready(2)).await, Some(2));
    }
}
