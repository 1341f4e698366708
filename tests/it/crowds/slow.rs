//! Slow clients beside good traffic: 240, or with `TIDEGATE_TORTURE=1` 2,000 for a minute.

use super::source;
use crate::support::{Ask, EVERYTHING, Gateway, Setup, eventually, within};
use futures_util::future::join_all;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

/// What slow ones may cost each: a fourth of what an active connection may (`docs/HARDENING.md`).
const BYTES_EACH: usize = 256 << 10;

/// What the test itself and a machine with other work may add to the time of a round.
const SLACK: Duration = Duration::from_secs(2);

/// What a client is slow with.
#[derive(Clone, Copy)]
enum Slow {
    Head,
    Content,
    Reading,
}

impl Slow {
    const ALL: [Self; 3] = [Self::Head, Self::Content, Self::Reading];

    const fn begin(self) -> &'static str {
        match self {
            Self::Head => "GET /x HTTP/1.1\r\nHost: a\r\n",
            Self::Content => "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
            Self::Reading => "GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
        }
    }

    /// The metric of those that were cut for it.
    const fn cut(self) -> &'static str {
        match self {
            Self::Head => "tidegate_refused_total{reason=\"head-too-slow\"}",
            Self::Content => "tidegate_content_refused_total{reason=\"too-slow\"}",
            Self::Reading => "tidegate_readers_cut_total{reason=\"body-rate\"}",
        }
    }

    /// Goes on as slowly as it can until it is cut.
    async fn drags(self, to: SocketAddr) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(self.begin().as_bytes()).await?;
        let mut seconds = interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            let mut read = [0; 64];
            match (self, stream.try_read(&mut read)) {
                (Self::Head, Err(none)) if none.kind() == io::ErrorKind::WouldBlock => {
                    stream.write_all(b"X: 1\r\n").await?;
                }
                (Self::Content, Err(none)) if none.kind() == io::ErrorKind::WouldBlock => {
                    stream.write_all(b"x").await?;
                }
                (Self::Reading, Ok(1..)) => {}
                (Self::Reading, Err(none)) if none.kind() == io::ErrorKind::WouldBlock => {}
                // Its end, or an answer before its request is whole.
                (_, ended) => return ended.map(drop),
            }
        }
    }
}

/// Slow ones, each of which comes again as soon as it is cut.
fn crowd(to: SocketAddr, each: usize) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for slow in Slow::ALL.into_iter().cycle().take(each * Slow::ALL.len()) {
        crowd.spawn(async move {
            loop {
                drop(slow.drags(to).await);
            }
        });
    }
    crowd
}

/// Good traffic, hits and forwards, all of which is served: how long 99 of 100 rounds took at most.
async fn good_traffic(gateway: &Gateway, lasts: Duration) -> Duration {
    let (end, mut times) = (Instant::now() + lasts, Vec::new());
    while times.len() < 50 || Instant::now() < end {
        let (round, began) = (times.len(), Instant::now());
        let paths = (0..8).map(|number| format!("/good/{}", if number == 0 { round } else { 0 }));
        let answers = join_all(paths.map(|path| async move { Ask::get(&path).send(gateway.public).await }));
        for answer in within("good traffic", answers).await {
            assert_eq!(answer.unwrap().status, 200, "{round}");
        }
        times.push(began.elapsed());
    }
    times.sort();
    let slowest = times[times.len() * 99 / 100 - 1];
    eprintln!("{} rounds of 8, p99 {slowest:?}", times.len());
    slowest
}

/// Slow heads, slow contents and slow readers hold connections, and nothing that others need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_harm_nobody() {
    let (each, lasts) = match std::env::var_os("TIDEGATE_TORTURE") {
        None => (80, Duration::from_secs(5)),
        Some(_) => (667, Duration::from_mins(1)),
    };
    let source = source().await;
    let limits = "[server.limits]\nheader_timeout = \"5s\"\n";
    let gateway = Setup::new(format!("{}{EVERYTHING}{limits}", source.table())).start().await;
    gateway.get("/large").await;
    let before = good_traffic(&gateway, lasts / 6).await;
    let memory = gateway.resident_bytes();
    let all = u64::try_from(each * Slow::ALL.len()).unwrap();
    let crowd = crowd(gateway.public, each);
    // Some are always between being cut and coming again.
    let there = async || gateway.metric("tidegate_connections").await >= all * 3 / 4;
    eventually("they are there", there).await;
    let among = good_traffic(&gateway, lasts).await;
    assert!(among <= before * 2 + SLACK, "{among:?} instead of {before:?}");
    let taken = gateway.resident_bytes().saturating_sub(memory);
    eprintln!("{all} slow clients took {} KiB each", taken / 1024 / each / Slow::ALL.len());
    assert!(taken <= each * Slow::ALL.len() * BYTES_EACH, "{taken} bytes");
    for slow in Slow::ALL {
        let cut = u64::try_from(each).unwrap();
        eventually(slow.cut(), async || gateway.metric(slow.cut()).await >= cut).await;
    }
    eventually("who is cut comes again", async || gateway.metric("tidegate_connections").await >= all / 2)
        .await;
    drop(crowd);
}
