//! Many clients that ask for the same at once, each on a connection that stands and was used before.
//!
//! One task writes all requests in a row; a reader for each connection waits already and takes the time
//! where bytes arrive. All times are of one clock, and they are put in relation afterwards.

use crate::answer::{Answer, Origin, Progress};
use anyhow::{Context, bail, ensure};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

/// The longest wait for all answers of one round.
const ROUND_WAIT_MAX: Duration = Duration::from_secs(30);
/// What a reader takes at once.
const READ_BYTES: usize = 16 << 10;

/// Connections to one address, each with one request at a time.
pub(crate) struct Crowd {
    address: SocketAddr,
    connections: Vec<Arc<TcpStream>>,
}

/// What one client saw; times from the moment before the first request of the round was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) sent: Duration,
    /// The first byte of content.
    pub(crate) first: Duration,
    pub(crate) last: Duration,
    pub(crate) origin: Origin,
}

/// One round.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) seen: Vec<Seen>,
    /// What went wrong, a line for each client that got no good answer.
    pub(crate) failures: Vec<String>,
}

/// When the bytes of an answer came.
struct Arrival {
    first_at: Instant,
    last_at: Instant,
    origin: Origin,
}

impl Crowd {
    /// Connects `clients` and has each read `warm_path` once, so that none is still to be accepted.
    pub(crate) async fn connect(address: SocketAddr, clients: u64, warm_path: &str) -> anyhow::Result<Self> {
        let mut crowd = Self { address, connections: Vec::new() };
        for _ in 0..clients {
            let connection =
                TcpStream::connect(address).await.context("too few descriptors? see ulimit -n")?;
            connection.set_nodelay(true)?;
            crowd.connections.push(Arc::new(connection));
        }
        let warmed = crowd.ask(warm_path).await?;
        ensure!(warmed.failures.is_empty(), "the first request failed: {:?}", warmed.failures.first());
        Ok(crowd)
    }

    /// Every client asks for `path`; returns when all have an answer or none comes any more.
    pub(crate) async fn ask(&self, path: &str) -> anyhow::Result<Round> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let reader =
            |connection: &Arc<TcpStream>| AbortOnDropHandle::new(tokio::spawn(read(connection.clone())));
        let readers: Vec<_> = self.connections.iter().map(reader).collect();
        tokio::task::yield_now().await;
        let begun_at = Instant::now();
        let mut sent = Vec::with_capacity(self.connections.len());
        for connection in &self.connections {
            sent.push(begun_at.elapsed());
            // So few bytes always fit.
            let written = connection.try_write(request.as_bytes())?;
            ensure!(written == request.len(), "a request was cut");
        }
        let mut round = Round::default();
        for (reader, sent) in readers.into_iter().zip(sent) {
            let left = ROUND_WAIT_MAX.saturating_sub(begun_at.elapsed());
            match timeout(left, reader).await {
                Ok(Ok(Ok(arrival))) => round.seen.push(Seen {
                    sent,
                    first: arrival.first_at - begun_at,
                    last: arrival.last_at - begun_at,
                    origin: arrival.origin,
                }),
                Ok(Ok(Err(error))) => round.failures.push(format!("{error:#}")),
                Ok(Err(error)) => round.failures.push(error.to_string()),
                Err(_) => round.failures.push("no answer in time".to_owned()),
            }
        }
        Ok(round)
    }
}

async fn read(connection: Arc<TcpStream>) -> anyhow::Result<Arrival> {
    let mut answer = Answer::default();
    let mut first_at = None;
    loop {
        connection.readable().await?;
        let mut buffer = [0; READ_BYTES];
        let bytes = match connection.try_read(&mut buffer) {
            Ok(0) => bail!("closed before the end"),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        match answer.take(bytes)? {
            Progress::Head => {}
            Progress::Content => {
                first_at.get_or_insert(now);
            }
            Progress::Complete => {
                let first_at = first_at.unwrap_or(now);
                return Ok(Arrival { first_at, last_at: now, origin: answer.origin()? });
            }
        }
    }
}
