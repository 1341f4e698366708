//! The closed loop of reads: each client sends its next GET when it has the answer to its last, on a raw
//! connection that stands.

use crate::answer::Origin;
use crate::pressure::exchange;
use crate::report;
use anyhow::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The longest wait for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// What every gateway is called: the name is part of what is stored.
const HOST: &str = "load.example";

/// Who reads what.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    pub(crate) address: SocketAddr,
    pub(crate) clients: u64,
    /// What stands before the number in the path.
    pub(crate) folder: String,
    /// The first number, and how many there are.
    pub(crate) keys: (u64, u64),
    /// In all; each number in turn.
    pub(crate) requests: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Read {
    pub(crate) answered: u64,
    /// Of these, what was stored already.
    pub(crate) stored: u64,
    pub(crate) took: Duration,
}

impl Read {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        report::per_second(self.answered, self.took)
    }
}

impl Readers {
    /// Reads everything; an answer that is not 2xx ends the run.
    pub(crate) async fn run(self) -> anyhow::Result<Read> {
        let mut connections = Vec::new();
        for _ in 0..self.clients {
            let connection = TcpStream::connect(self.address).await?;
            connection.set_nodelay(true)?;
            connections.push(connection);
        }
        let (next, readers) = (Arc::new(AtomicU64::new(0)), Arc::new(self));
        let begun_at = Instant::now();
        let mut clients = JoinSet::new();
        for connection in connections {
            clients.spawn(Arc::clone(&readers).one_client(connection, Arc::clone(&next)));
        }
        let mut read = Read::default();
        while let Some(one) = clients.join_next().await {
            let (answered, stored) = one??;
            read.answered += answered;
            read.stored += stored;
        }
        read.took = begun_at.elapsed();
        Ok(read)
    }

    async fn one_client(
        self: Arc<Self>,
        mut connection: TcpStream,
        next: Arc<AtomicU64>,
    ) -> anyhow::Result<(u64, u64)> {
        let (mut answered, mut stored) = (0, 0);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests {
                return Ok((answered, stored));
            }
            let request = self.request(number);
            let origin = timeout(ANSWER_WAIT_MAX, exchange(&mut connection, &request));
            answered += 1;
            stored += u64::from(origin.await.context("no answer")?? == Origin::Stored);
        }
    }

    fn request(&self, number: u64) -> Vec<u8> {
        let (first, count) = self.keys;
        let key = first + number % count.max(1);
        format!("GET /{}/{key} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", self.folder).into_bytes()
    }
}
