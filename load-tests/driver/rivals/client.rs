//! The closed loop: each connection sends its next request when it has the answer to its last.
//!
//! Raw connections that stand and have had an answer before the clock starts; status and length of every
//! answer are checked.

use super::head;
use anyhow::{Context, bail, ensure};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The longest wait for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// What is read at once, at most; a head must fit.
const READ_BYTES_MAX: usize = 64 << 10;
/// Room for a head.
const HEAD_BYTES_MAX: usize = 4 << 10;
/// What every connection has asked for before it is measured.
pub(crate) const WARM: Ask = Ask { folder: "hit", fields: "", status: 200, body_bytes: 1024 };

/// What is asked, and what must be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// The first segment of the path; the key is the second.
    pub(crate) folder: &'static str,
    /// Further field lines, each with its end.
    pub(crate) fields: &'static str,
    pub(crate) status: u16,
    pub(crate) body_bytes: usize,
}

/// Which keys, and until when.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// Any of so many, at random, for so long.
    Any { of: u64, during: Duration },
    /// Each once: the next one, and the first that is not asked any more.
    Once { next: Arc<AtomicU64>, end: u64 },
    /// The first one, so many times.
    Again { left: Arc<AtomicU64> },
}

impl Keys {
    /// Each of `first..end` once.
    pub(crate) fn once(first: u64, end: u64) -> Self {
        Self::Once { next: Arc::new(AtomicU64::new(first)), end }
    }

    /// The first one, so many times.
    pub(crate) fn again(times: u64) -> Self {
        Self::Again { left: Arc::new(AtomicU64::new(times)) }
    }

    fn next(&self, random: &mut fastrand::Rng, since: Instant) -> Option<u64> {
        match self {
            Self::Any { of, during } => (since.elapsed() < *during).then(|| random.u64(0..*of)),
            Self::Once { next, end } => Some(next.fetch_add(1, Ordering::Relaxed)).filter(|key| key < end),
            Self::Again { left } => {
                let one_less = |left: u64| left.checked_sub(1);
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok().map(|_| 0)
            }
        }
    }
}

/// Connections to one server.
pub(crate) struct Clients {
    address: SocketAddr,
    clients: Vec<Client>,
}

struct Client {
    stream: TcpStream,
    request: String,
    buffer: Vec<u8>,
}

impl Clients {
    /// Connects `count` times and has each be answered once.
    pub(crate) async fn connect(address: SocketAddr, count: usize) -> anyhow::Result<Self> {
        ensure!(address.ip().is_loopback(), "{address} is not on the loopback");
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = TcpStream::connect(address).await.context("too few descriptors? see ulimit -n")?;
            stream.set_nodelay(true)?;
            let mut client = Client { stream, request: String::new(), buffer: Vec::new() };
            client.ask(address, WARM, 0).await?;
            clients.push(client);
        }
        Ok(Self { address, clients })
    }

    /// Asks until the keys are at their end; the number of answers.
    pub(crate) async fn run(&mut self, ask: Ask, keys: &Keys) -> anyhow::Result<u64> {
        let begun_at = Instant::now();
        let mut running = JoinSet::new();
        for (seed, mut client) in (0..).zip(std::mem::take(&mut self.clients)) {
            let (keys, address) = (keys.clone(), self.address);
            running.spawn(async move {
                let (mut random, mut answered) = (fastrand::Rng::with_seed(seed), 0);
                while let Some(key) = keys.next(&mut random, begun_at) {
                    client.ask(address, ask, key).await?;
                    answered += 1;
                }
                anyhow::Ok((client, answered))
            });
        }
        let mut answered = 0;
        while let Some(ended) = running.join_next().await {
            let (client, count) = ended??;
            self.clients.push(client);
            answered += count;
        }
        Ok(answered)
    }
}

impl Client {
    async fn ask(&mut self, address: SocketAddr, ask: Ask, key: u64) -> anyhow::Result<()> {
        let Ask { folder, fields, .. } = ask;
        self.request.clear();
        write!(self.request, "GET /{folder}/{key} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n")?;
        self.stream.write_all(self.request.as_bytes()).await?;
        timeout(ANSWER_WAIT_MAX, self.read(ask))
            .await
            .with_context(|| format!("no answer for {ANSWER_WAIT_MAX:?}"))?
            .with_context(|| format!("the answer to /{folder}/{key}"))
    }

    async fn read(&mut self, ask: Ask) -> anyhow::Result<()> {
        self.buffer.resize(READ_BYTES_MAX.min(ask.body_bytes + HEAD_BYTES_MAX), 0);
        let mut filled = 0;
        let head = loop {
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            ensure!(!room.is_empty(), "a head without an end");
            let count = self.stream.read(room).await?;
            ensure!(count > 0, "closed before the end");
            filled += count;
            if let Some(head) = head::read(self.buffer.get(..filled).unwrap_or_default())? {
                break head;
            }
        };
        if (head.status, head.body_bytes) != (ask.status, ask.body_bytes) {
            bail!(
                "{} with {} bytes instead of {} with {}",
                head.status,
                head.body_bytes,
                ask.status,
                ask.body_bytes
            );
        }
        let mut left = (head.bytes + head.body_bytes).checked_sub(filled).context("more than one answer")?;
        while left > 0 {
            let count = self.stream.read(&mut self.buffer).await?;
            ensure!(count > 0, "closed before the end");
            left = left.checked_sub(count).context("more than one answer")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_comes_once_and_any_key_comes_until_the_time_is_over() {
        let mut random = fastrand::Rng::with_seed(1);
        let since = Instant::now();
        let once = Keys::once(3, 6);
        let keys: Vec<_> = std::iter::from_fn(|| once.next(&mut random, since)).collect();
        assert_eq!(keys, [3, 4, 5]);
        let again = Keys::again(3);
        let keys: Vec<_> = std::iter::from_fn(|| again.next(&mut random, since)).collect();
        assert_eq!(keys, [0, 0, 0]);
        let any = Keys::Any { of: 2, during: Duration::from_mins(1) };
        let keys: Vec<_> = (0..50).filter_map(|_| any.next(&mut random, since)).collect();
        assert!(keys.len() == 50 && keys.contains(&0) && keys.contains(&1) && !keys.contains(&2));
        assert_eq!(Keys::Any { of: 2, during: Duration::ZERO }.next(&mut random, since), None);
    }
}
