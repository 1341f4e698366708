//! What is seen while the demo runs: a live picture on a terminal, plain lines where there is none.

use super::client::Http;
use super::destination::Reach;
use super::summary::percent;
use super::traffic::Tally;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::io::{IsTerminal, Write, stderr};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What `GET /v1/destinations` tells, as far as the demo looks at it.
#[derive(Deserialize)]
struct Destinations {
    destinations: Vec<Destination>,
}

#[derive(Deserialize)]
struct Destination {
    pending: u64,
    in_flight: u64,
    lag_seconds: f64,
    dead_letters: u64,
    breaker: String,
}

/// The destination as the gateway's admin API showed it last, and the worst it showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// Deliveries not settled.
    pub(super) unsettled: u64,
    pub(super) dead_letters: u64,
    pub(super) lag_seconds: f64,
    pub(super) lag_seconds_max: f64,
    pub(super) breaker: String,
}

impl Watched {
    /// Asks the admin API once.
    pub(super) async fn look(&mut self, http: &Http, admin: SocketAddr) -> anyhow::Result<()> {
        let seen: Destinations = http.json(&format!("http://{admin}/v1/destinations")).await?;
        let Some(seen) = seen.destinations.into_iter().next() else {
            anyhow::bail!("the gateway lists no destination")
        };
        self.unsettled = seen.pending.saturating_add(seen.in_flight);
        self.dead_letters = seen.dead_letters;
        self.lag_seconds = seen.lag_seconds;
        self.lag_seconds_max = self.lag_seconds_max.max(seen.lag_seconds);
        self.breaker = seen.breaker;
        Ok(())
    }
}

/// Where the picture is drawn: always standard error, standard output is for the summary.
pub(super) enum View {
    Live(ProgressBar),
    Lines { last_at: Option<Duration> },
}

impl View {
    pub(super) fn new(length: Duration) -> Self {
        if !stderr().is_terminal() {
            return Self::Lines { last_at: None };
        }
        let bar = ProgressBar::new(length.as_secs());
        if let Ok(style) = ProgressStyle::with_template("{bar:48} {pos:>3} of {len} s\n{msg}") {
            bar.set_style(style);
        }
        Self::Live(bar)
    }

    /// Shows where things stand `elapsed` after the start.
    pub(super) fn show(&mut self, elapsed: Duration, tally: &Tally, watched: &Watched, reach: Reach) {
        let lines = picture(tally, watched, reach);
        match self {
            Self::Live(bar) => {
                bar.set_position(elapsed.as_secs());
                bar.set_message(lines.join("\n"));
            }
            Self::Lines { last_at } => {
                if last_at.is_none_or(|last| elapsed.saturating_sub(last) >= LINE_EVERY) {
                    *last_at = Some(elapsed);
                    say(&format!("{:>3} s  {}", elapsed.as_secs(), lines.join("  |  ")));
                }
            }
        }
    }

    /// A step of the story that stays to be read.
    pub(super) fn tell(&self, step: &str) {
        match self {
            Self::Live(bar) => bar.println(step),
            Self::Lines { .. } => say(step),
        }
    }

    /// Takes the picture away.
    pub(super) fn end(self) {
        if let Self::Live(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// One line on standard error; a closed one changes nothing.
fn say(line: &str) {
    writeln!(stderr().lock(), "{line}").unwrap_or_default();
}

fn picture(tally: &Tally, watched: &Watched, reach: Reach) -> [String; 2] {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let reads = read(&tally.reads);
    let from_memory = percent(read(&tally.hits), reads);
    let reach = match reach {
        Reach::Up => "up",
        Reach::Down => "DOWN",
    };
    [
        format!("reads {reads}, {from_memory:.0}% from memory, {} collapsed", read(&tally.collapsed)),
        format!(
            "writes {}, destination {reach}, breaker {}, {} waiting, lag {:.1} s",
            read(&tally.writes),
            watched.breaker,
            watched.unsettled,
            watched.lag_seconds
        ),
    ]
}
