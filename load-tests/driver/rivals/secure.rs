//! Hits over TLS, by HTTP/2 and by HTTP/1.1; h2load asks.

use super::Run;
use super::contest::{CLIENTS, Cell, Measured, Row};
use super::report::Findings;
use super::server::{Rival, Server};
use super::verdict::Bound;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use tokio::time::Instant;

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

/// Both protocols.
pub(crate) async fn measure(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    for (name, flags) in [("hit over HTTP/2 and TLS", &[][..]), ("hit over HTTP/1.1 and TLS", &["--h1"][..])]
    {
        let row = row(run, name, flags).await?;
        let own = Rival::Tidegate.name();
        let bounds = [row.over(own, "bare", Bound::AtMost(1.35)), row.over(own, "nginx", Bound::Stated)];
        found.add(row, bounds);
    }
    Ok(())
}

async fn row(run: &Run, name: &str, flags: &[&str]) -> anyhow::Result<Row> {
    let mut row = Row { name: name.to_owned(), ..Row::default() };
    let servers: Vec<_> = SPEAKING.iter().filter_map(|rival| run.server(*rival)).collect();
    for server in &servers {
        let label = match server.rival {
            Rival::TidegateTls => Rival::Tidegate.name(),
            other => other.name(),
        };
        row.cells.push(Cell { label, micros: Vec::new(), rates: Vec::new() });
        // Stored before it is measured.
        ask(server, flags, run.plan.secure / 4).await.with_context(|| label)?;
    }
    for _ in 0..run.plan.rounds.count {
        for (server, cell) in servers.iter().zip(&mut row.cells) {
            let asked = run.origin.asked();
            cell.add(ask(server, flags, run.plan.secure).await.with_context(|| cell.label)?);
            ensure!(run.origin.asked() == asked, "{}: not all were hits", cell.label);
        }
    }
    Ok(row)
}

async fn ask(server: &Server, flags: &[&str], requests: u64) -> anyhow::Result<Measured> {
    let (cpu, begun_at) = (server.cpu_time()?, Instant::now());
    let mut command = tokio::process::Command::new("h2load");
    command.args(["-n", &requests.to_string(), "-c", &CLIENTS.to_string(), "-t", "1", "-m", "1"]).args(flags);
    command.arg(format!("https://{}/hit/0", server.tls)).kill_on_drop(true);
    let output = command.output().await.context("h2load (of nghttp2-client) cannot be started")?;
    let took = begun_at.elapsed();
    let cpu = server.cpu_time()?.saturating_sub(cpu);
    let said = String::from_utf8_lossy(&output.stdout);
    let good = answered_well(&said).with_context(|| format!("h2load said {said:?}"))?;
    ensure!(good == requests, "{good} of {requests} requests were answered 2xx:\n{said}");
    Ok(Measured { answered: requests, cpu, took })
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
