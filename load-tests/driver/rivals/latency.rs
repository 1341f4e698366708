//! How long answers take while a server has half of what it can do: a staggered open loop.
//!
//! Each connection has due times of its own, evenly between those of the others, and latency runs from the
//! due time. Timers of a runtime are a millisecond coarse, and bursts that they make would be what is
//! measured; so one thread looks at its sockets without ever sleeping, on a processor of its own. The server
//! has another one to itself. What an answer costs then is measured as well: a server that is not busy sleeps
//! and is woken for almost every request, and one under a closed loop finds many at once.

use super::Run;
use super::client::{Ask, WARM};
use super::contest::{CLIENTS, Cell, Row, Watch};
use super::head;
use super::report::{Finding, Findings};
use super::server::{Rival, Server};
use super::verdict::{Bound, Spread};
use anyhow::{Context, bail, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

/// The row's name.
const NAME: &str = "latency at half of the peak";
/// Whose latency is said.
const ANSWERING: [Rival; 7] = [
    Rival::Tidegate,
    Rival::Nginx,
    Rival::Haproxy,
    Rival::Varnish,
    Rival::TrafficServer,
    Rival::Bare,
    Rival::Constant,
];
/// The processors of server and driver.
const SERVER_CPU: &str = "0";
const DRIVER_CPU: &str = "1";
/// How long the peak is looked for.
const PEAK_LENGTH: Duration = Duration::from_millis(500);
/// The longest wait for what is under way at the end.
const LAST_WAIT_MAX: Duration = Duration::from_secs(10);
/// An answer with its head must fit.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// What is said of each: its name, and how many of a thousand answers took no longer.
const QUANTILES: [(&str, usize); 3] = [("p50", 500), ("p99", 990), ("p99.9", 999)];
/// The one by which it is told whether a run can be repeated.
const REPEATED: usize = 1;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// The next one when the last was answered: this finds the peak.
    Closed,
    /// So many a second over all connections, whatever becomes of them.
    Due(u64),
}

impl Pace {
    /// When request `number` of connection `line` is due, from the start.
    fn due(self, line: u64, number: u64) -> Duration {
        match self {
            Self::Closed => Duration::ZERO,
            Self::Due(rate) => {
                let before = number * u64::try_from(CLIENTS).unwrap_or(1) + line;
                Duration::from_nanos(before.saturating_mul(1_000_000_000) / rate.max(1))
            }
        }
    }
}

/// A connection with one request at a time.
struct Line {
    stream: TcpStream,
    /// Requests that were sent.
    sent: u64,
    /// When the one that waits for its answer was due.
    waiting: Option<Duration>,
    received: [u8; ANSWER_BYTES_MAX],
    filled: usize,
}

/// What a run came to, each sorted.
#[derive(Debug, Default)]
struct Taken {
    /// From when a request was due to the last byte of its answer.
    latencies: Vec<Duration>,
    /// From when a request was due until it was sent: what the driver or a busy connection takes of it.
    late: Vec<Duration>,
}

/// One server and what its rounds came to.
struct Entry {
    rival: Rival,
    server: Server,
    /// Requests a second, half of the peak.
    rate: u64,
    /// By round, for each of the quantiles, in microseconds.
    micros: [Vec<f64>; QUANTILES.len()],
    late: Vec<f64>,
    cell: Cell,
}

/// Starts each on one processor, finds its peak, and asks each at half of it, round by round.
pub(crate) async fn measure(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(cpus > 1, "needs a processor for the driver and one for the server");
    let mut entries = Vec::new();
    for rival in ANSWERING.into_iter().filter(|rival| run.server(*rival).is_some()) {
        match prepared(run, rival).await {
            Ok(entry) => entries.push(entry),
            Err(fault) if Rival::PEERS.contains(&rival) => {
                found.notes.push(format!("{NAME}: {} left out: {fault:#}", rival.name()));
            }
            Err(fault) => return Err(fault.context(rival.name())),
        }
    }
    for _ in 0..run.plan.rounds.count {
        for entry in &mut entries {
            let taken = entry.round(run.plan.latency).await.with_context(|| entry.rival.name())?;
            for (micros, (_, per_mille)) in entry.micros.iter_mut().zip(QUANTILES) {
                micros.push(quantile(&taken.latencies, per_mille));
            }
            entry.late.push(quantile(&taken.late, 990));
        }
    }
    let mut row = Row { name: "hit, 1 KiB, at half of the peak".to_owned(), ..Row::default() };
    let mut repeated = Vec::new();
    for entry in entries {
        let name = entry.rival.name();
        for ((quantile, _), micros) in QUANTILES.iter().zip(&entry.micros) {
            let compared = format!("{name} at {} a second, {quantile}, us", entry.rate);
            let add = |value| Finding::new(NAME, compared, value, Bound::Stated);
            found.figures.extend(Spread::of(micros).map(add));
        }
        let micros = entry.micros.get(REPEATED).map(Vec::as_slice).unwrap_or_default();
        let late = Spread::of(&entry.late).map_or(0.0, |late| late.median);
        repeated
            .extend(apart(micros).map(|apart| format!("{name} {apart:.2} (sent late, p99: {late:.0} us)")));
        row.cells.push(entry.cell);
        entry.server.stop().await?;
    }
    let beside = [row.over_best(Bound::Stated), row.over("Tidegate", "loop", Bound::Stated)];
    found.notes.push(row.regime());
    found.add(row, beside);
    let rounds = run.plan.rounds.count;
    found.notes.push(format!(
        "{NAME}: p99 of the highest of {rounds} rounds over that of the lowest: {}; smaller differences say nothing",
        repeated.join(", ")
    ));
    Ok(())
}

impl Entry {
    async fn round(&mut self, length: Duration) -> anyhow::Result<Taken> {
        let watch = Watch::begin(&self.server)?;
        let taken = asked(self.server.address, Pace::Due(self.rate), length).await?;
        self.cell.add(watch.end(u64::try_from(taken.latencies.len())?)?);
        Ok(taken)
    }
}

async fn prepared(run: &Run, rival: Rival) -> anyhow::Result<Entry> {
    let server = Server::start(rival, &run.setting).await?;
    for pid in server.pids()? {
        pin(&["-a", "-c", "-p", SERVER_CPU, &pid.to_string()])?;
    }
    let answered = asked(server.address, Pace::Closed, PEAK_LENGTH).await?.latencies.len();
    let peak = u64::try_from(answered)? * 1_000 / u64::try_from(PEAK_LENGTH.as_millis())?;
    let micros = std::array::from_fn(|_| Vec::new());
    let cell = Cell::new(rival.name());
    Ok(Entry { rival, server, rate: peak / 2, micros, late: Vec::new(), cell })
}

/// Runs on a thread of its own.
async fn asked(address: SocketAddr, pace: Pace, length: Duration) -> anyhow::Result<Taken> {
    tokio::task::spawn_blocking(move || {
        let own = std::fs::read_link("/proc/thread-self")?;
        let thread = own.file_name().and_then(|name| name.to_str()).context("an odd /proc/thread-self")?;
        pin(&["-c", "-p", DRIVER_CPU, thread])?;
        let taken = spin(address, pace, length, WARM);
        // The runtime uses its threads again.
        pin(&["-c", "-p", &format!("{SERVER_CPU},{DRIVER_CPU}"), thread])?;
        taken
    })
    .await?
}

fn pin(arguments: &[&str]) -> anyhow::Result<()> {
    let said = Command::new("taskset").args(arguments).output().context("taskset (of util-linux)")?;
    ensure!(said.status.success(), "taskset {arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

/// Sends what is due and reads what has come, in turns, until all of `length` is answered.
fn spin(address: SocketAddr, pace: Pace, length: Duration, ask: Ask) -> anyhow::Result<Taken> {
    ensure!(address.ip().is_loopback(), "{address} is not on the loopback");
    let request = format!("GET /{}/0 HTTP/1.1\r\nHost: {address}\r\n{}\r\n", ask.folder, ask.fields);
    let mut lines = (0..CLIENTS).map(|_| Line::connect(address)).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut taken, begun_at) = (Taken::default(), Instant::now());
    loop {
        let mut is_busy = false;
        for (line, number) in lines.iter_mut().zip(0..) {
            if let Some(due) = line.waiting {
                is_busy = true;
                if line.read(ask)? {
                    line.waiting = None;
                    let from = if matches!(pace, Pace::Closed) { Duration::ZERO } else { due };
                    taken.latencies.push(begun_at.elapsed().saturating_sub(from));
                }
            }
            if line.waiting.is_none() {
                let (due, now) = (pace.due(number, line.sent), begun_at.elapsed());
                // In a closed loop everything is due, until the end.
                let ends = if matches!(pace, Pace::Closed) { now } else { due };
                is_busy |= ends < length;
                if ends < length && due <= now {
                    line.stream.write_all(request.as_bytes())?;
                    taken.late.push(now.saturating_sub(due));
                    line.sent += 1;
                    line.waiting = Some(due);
                }
            }
        }
        if !is_busy {
            taken.latencies.sort_unstable();
            taken.late.sort_unstable();
            return Ok(taken);
        }
        ensure!(begun_at.elapsed() < length + LAST_WAIT_MAX, "no answer for {LAST_WAIT_MAX:?}");
    }
}

impl Line {
    fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, sent: 0, waiting: None, received: [0; ANSWER_BYTES_MAX], filled: 0 })
    }

    /// Takes what has come; whether the answer is whole, and the one that was asked for.
    fn read(&mut self, ask: Ask) -> anyhow::Result<bool> {
        let room = self.received.get_mut(self.filled..).unwrap_or_default();
        ensure!(!room.is_empty(), "an answer is too large");
        match self.stream.read(room) {
            Ok(0) => bail!("closed before the end"),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let Some(head) = head::read(self.received.get(..self.filled).unwrap_or_default())? else {
            return Ok(false);
        };
        let (status, bytes) = (head.status, head.body_bytes);
        ensure!((status, bytes) == (ask.status, ask.body_bytes), "answered {status} with {bytes} bytes");
        let is_whole = self.filled >= head.bytes + bytes;
        if is_whole {
            self.filled = 0;
        }
        Ok(is_whole)
    }
}

/// In microseconds.
fn quantile(sorted: &[Duration], per_mille: usize) -> f64 {
    crate::report::quantile(sorted, per_mille).0.as_secs_f64() * 1e6
}

/// How far rounds are apart: the highest over the lowest.
fn apart(values: &[f64]) -> Option<f64> {
    let spread = Spread::of(values)?;
    (spread.lowest > 0.0).then(|| spread.highest / spread.lowest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    #[test]
    fn due_times_are_evenly_spread_over_all_connections() {
        let pace = Pace::Due(64_000);
        let lines = u64::try_from(CLIENTS).unwrap();
        let all: BTreeSet<_> =
            (0..3).flat_map(|number| (0..lines).map(move |line| pace.due(line, number))).collect();
        let all: Vec<_> = all.into_iter().collect();
        assert_eq!(all.len(), CLIENTS * 3, "no two at once");
        assert!(all.windows(2).all(|pair| pair[0] + Duration::from_nanos(15_625) == pair[1]));
        assert_eq!(pace.due(0, 1), Duration::from_millis(1), "a connection's own turn");
        assert_eq!(Pace::Closed.due(7, 9), Duration::ZERO);
    }

    /// A server that stands still for a while.
    fn stalling(stall: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let accepted: Vec<_> = (0..CLIENTS).map(|_| listener.accept().unwrap().0).collect();
            let begun_at = Instant::now();
            while begun_at.elapsed() < stall {
                std::thread::yield_now();
            }
            for mut stream in accepted {
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024));
                    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        address
    }

    #[test]
    fn a_stall_is_in_the_latency_of_all_that_were_due_meanwhile() {
        let (stall, length) = (Duration::from_millis(300), Duration::from_millis(400));
        let taken = spin(stalling(stall), Pace::Due(640), length, WARM).unwrap();
        assert_eq!(taken.latencies.len(), 256, "every request that was due was sent");
        let slow = taken.latencies.iter().filter(|taken| **taken > Duration::from_millis(90)).count();
        // One each would be 64: more than that were due, and count from then.
        assert!(slow > 80, "{slow}");
    }

    #[test]
    fn rounds_are_apart_by_highest_over_lowest() {
        assert_eq!(apart(&[2.0, 3.0, 4.0]), Some(2.0));
        assert_eq!(apart(&[]), None);
    }
}
