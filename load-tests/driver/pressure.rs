//! The closed loop: each client sends its next write when it has the answer to its last, on a raw
//! connection that stands. It finds what the gateway can do, not what its clients feel.

use crate::answer::{Answer, Origin, Progress};
use crate::report;
use anyhow::{Context, bail, ensure};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The longest wait for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// What a client reads at once.
const READ_BYTES: usize = 4 << 10;
/// Keys that a client writes in turn; no other client writes them.
const KEYS_PER_CLIENT: u64 = 256;

/// Who writes what, for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writers {
    pub(crate) address: SocketAddr,
    pub(crate) clients: u64,
    pub(crate) length: Duration,
    /// The first segment of the path.
    pub(crate) folder: &'static str,
    pub(crate) body_bytes: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pressed {
    pub(crate) acknowledged: u64,
    pub(crate) took: Duration,
    /// From sending to answer, sorted.
    latencies: Vec<Duration>,
}

impl Pressed {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        report::per_second(self.acknowledged, self.took)
    }

    /// The latency that `per_mille` of a thousand did not exceed.
    pub(crate) fn quantile(&self, per_mille: usize) -> report::Latency {
        report::quantile(&self.latencies, per_mille)
    }
}

impl Writers {
    /// Writes until the time is over; an answer that is not 2xx ends the run.
    pub(crate) async fn run(self) -> anyhow::Result<Pressed> {
        let mut connections = Vec::new();
        for _ in 0..self.clients {
            let connection = TcpStream::connect(self.address).await?;
            connection.set_nodelay(true)?;
            connections.push(connection);
        }
        let begun_at = Instant::now();
        let mut clients = JoinSet::new();
        for (number, connection) in (0..).zip(connections) {
            clients.spawn(self.one_client(number, connection, begun_at));
        }
        let mut pressed = Pressed::default();
        while let Some(latencies) = clients.join_next().await {
            pressed.latencies.extend(latencies??);
        }
        pressed.took = begun_at.elapsed();
        pressed.acknowledged = u64::try_from(pressed.latencies.len())?;
        pressed.latencies.sort_unstable();
        Ok(pressed)
    }

    async fn one_client(
        self,
        number: u64,
        mut connection: TcpStream,
        begun_at: Instant,
    ) -> anyhow::Result<Vec<Duration>> {
        let requests: Vec<_> =
            (0..KEYS_PER_CLIENT).map(|key| self.request(number * KEYS_PER_CLIENT + key)).collect();
        let mut latencies = Vec::new();
        for request in requests.iter().cycle() {
            let sent_at = Instant::now();
            if sent_at.duration_since(begun_at) >= self.length {
                break;
            }
            timeout(ANSWER_WAIT_MAX, exchange(&mut connection, request)).await.context("no answer")??;
            latencies.push(sent_at.elapsed());
        }
        Ok(latencies)
    }

    fn request(&self, key: u64) -> Vec<u8> {
        let Self { address, folder, body_bytes, .. } = self;
        let mut request = format!(
            "PUT /{folder}/{key} HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\n\
             Content-Length: {body_bytes}\r\n\r\n"
        )
        .into_bytes();
        request.resize(request.len() + body_bytes, b'x');
        request
    }
}

/// Sends one request and reads its answer; an answer that is not 2xx is an error.
pub(crate) async fn exchange(connection: &mut TcpStream, request: &[u8]) -> anyhow::Result<Origin> {
    connection.write_all(request).await?;
    let (mut answer, mut buffer) = (Answer::default(), [0; READ_BYTES]);
    loop {
        let count = connection.read(&mut buffer).await?;
        ensure!(count > 0, "closed before the end");
        let Some(bytes) = buffer.get(..count) else { bail!("read more than there is room for") };
        if answer.take(bytes)? == Progress::Complete {
            return answer.origin();
        }
    }
}
