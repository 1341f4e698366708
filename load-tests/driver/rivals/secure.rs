//! Hits over HTTP/2, and over TLS by HTTP/2 and by HTTP/1.1; h2load asks.

use super::Run;
use super::contest::{CLIENTS, Cell, Measured, Row, Watch};
use super::handshakes;
use super::report::Findings;
use super::server::{Rival, Server};
use super::verdict::Bound;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Whom h2load asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    /// HTTP/2 by prior knowledge.
    H2,
    H2Tls,
    H1Tls,
}

impl Spoken {
    const fn name(self) -> &'static str {
        match self {
            Self::H2 => "hit over HTTP/2 without TLS",
            Self::H2Tls => "hit over HTTP/2 and TLS",
            Self::H1Tls => "hit over HTTP/1.1 and TLS",
        }
    }

    fn url(self, server: &Server) -> String {
        match self {
            Self::H2 => format!("http://{}/hit/0", server.h2c),
            Self::H2Tls | Self::H1Tls => format!("https://{}/hit/0", server.tls),
        }
    }

    fn servers(self, run: &Run) -> Vec<(&'static str, &Server)> {
        match self {
            Self::H2 => {
                let named = |rival: Rival| Some((rival.name(), run.server(rival)?));
                CLEAR.into_iter().filter_map(named).collect()
            }
            Self::H2Tls | Self::H1Tls => speaking(run),
        }
    }
}

/// Who speaks HTTP/2 without TLS here.
const CLEAR: [Rival; 3] = [Rival::Tidegate, Rival::Nginx, Rival::Bare];
/// Who speaks TLS here.
const SPEAKING: [Rival; 3] = [Rival::TidegateTls, Rival::Nginx, Rival::Bare];

/// Writes a certificate for the loopback, and its key.
pub(crate) fn certificate(folder: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((cert, key))
}

/// Those that speak TLS, as their cells are called.
pub(crate) fn speaking(run: &Run) -> Vec<(&'static str, &Server)> {
    let servers = SPEAKING.into_iter().filter_map(|rival| run.server(rival));
    let label = |server: &Server| match server.rival {
        Rival::TidegateTls => Rival::Tidegate.name(),
        other => other.name(),
    };
    servers.map(|server| (label(server), server)).collect()
}

/// Each protocol.
pub(crate) async fn measure(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    for spoken in [Spoken::H2, Spoken::H2Tls, Spoken::H1Tls] {
        let row = row(run, spoken).await?;
        let own = Rival::Tidegate.name();
        let bounds = [row.over(own, "bare", Bound::AtMost(1.35)), row.over(own, "nginx", Bound::Stated)];
        let rates: Vec<_> = handshakes::rates(&row, "hits a second").into_iter().map(Some).collect();
        found.add(row, bounds.into_iter().chain(rates));
    }
    Ok(())
}

async fn row(run: &Run, spoken: Spoken) -> anyhow::Result<Row> {
    let mut row = Row { name: spoken.name().to_owned(), ..Row::default() };
    let servers = spoken.servers(run);
    for (label, server) in &servers {
        row.cells.push(Cell::new(label));
        // Stored before it is measured.
        ask(server, spoken, run.plan.secure / 4).await.with_context(|| *label)?;
    }
    for _ in 0..run.plan.rounds.count {
        for ((_, server), cell) in servers.iter().zip(&mut row.cells) {
            let asked = run.origin.asked();
            cell.add(ask(server, spoken, run.plan.secure).await.with_context(|| cell.label)?);
            ensure!(run.origin.asked() == asked, "{}: not all were hits", cell.label);
        }
    }
    Ok(row)
}

async fn ask(server: &Server, spoken: Spoken, requests: u64) -> anyhow::Result<Measured> {
    let watch = Watch::begin(server)?;
    let mut command = tokio::process::Command::new("h2load");
    command.args(["-n", &requests.to_string(), "-c", &CLIENTS.to_string(), "-t", "1", "-m", "1"]);
    if spoken == Spoken::H1Tls {
        command.arg("--h1");
    }
    command.arg(spoken.url(server)).kill_on_drop(true);
    let output = command.output().await.context("h2load (of nghttp2-client) cannot be started")?;
    let measured = watch.end(requests)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let good = answered_well(&said).with_context(|| format!("h2load said {said:?}"))?;
    ensure!(good == requests, "{good} of {requests} requests were answered 2xx:\n{said}");
    Ok(measured)
}

/// The count of 2xx in what h2load prints.
fn answered_well(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.strip_prefix("status codes:"))?;
    line.trim().split_once(" 2xx")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_answers_are_counted() {
        let said = "requests: 9 total\nstatus codes: 8 2xx, 0 3xx, 1 4xx, 0 5xx\ntraffic: 1KB";
        assert_eq!(answered_well(said), Some(8));
        assert_eq!(answered_well("status codes:"), None);
    }
}
