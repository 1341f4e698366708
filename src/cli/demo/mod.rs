//! `tidegate demo`: the main job on embedded defaults.
//!
//! A sample source, a sample destination and a gateway between them in one process, mixed traffic,
//! and at the end a comparison of source and destination. It needs no file, no Redis and no known
//! port, and leaves nothing behind: everything listens on free ports of the loopback, and the
//! journal lies in a temporary folder that goes with the demo.

mod client;
mod compare;
mod destination;
mod source;
mod summary;
mod traffic;
mod view;

use crate::app::{self, Running};
use crate::config::{self, Settings};
use client::Http;
use destination::{Honesty, Reach, SampleDestination};
use source::SampleSource;
use std::fmt::Write as _;
use std::io::{Write as _, stderr, stdout};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use summary::{Counts, Summary};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout};
use traffic::{Clients, QUOTA_REQUESTS, Tally};
use view::{View, Watched};

/// Between two looks at the admin API.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The longest wait, after traffic has ended, for the destination to have everything.
const CONVERGE_WAIT_MAX: Duration = Duration::from_secs(30);
/// The longest that the destination is down.
const DOWN_MAX: Duration = Duration::from_secs(4);

/// The arguments of `tidegate demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate demo --seconds 5")]
pub struct Arguments {
    /// How long traffic runs.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Go on running after the summary, until Ctrl-C, and print what is worth trying.
    #[arg(long)]
    keep: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Let the sample destination drop one delivery, to see that the comparison can fail.
    #[arg(long, hide = true)]
    drop_one_delivery: bool,
}

/// Runs the demo: success only if source and destination have the same items at the end.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(demo(arguments)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            writeln!(stderr().lock(), "demo: {fault:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

/// Whether source and destination converged. Whatever happens, the gateway is stopped and its
/// folder removed.
async fn demo(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut interrupts = Interrupts::listen()?;
    let honesty = if arguments.drop_one_delivery { Honesty::DropsReserved } else { Honesty::Applies };
    let folder = tempfile::Builder::new().prefix("tidegate-demo-").tempdir()?;
    let source = SampleSource::start().await?;
    let destination = SampleDestination::start(honesty).await?;
    let text = configuration(source.address, destination.address, folder.path());
    let running = app::start(settings_from(&text)?, app::Origin::Fixed).await?;
    let admin = running.admin.address().ok_or_else(|| anyhow::anyhow!("the demo listens on an address"))?;
    let stage = Stage { http: Http::new(), source, destination, admin };
    let result = stage.play(arguments, &running, &mut interrupts).await;
    running.stop().await;
    folder.close()?;
    result
}

/// The parts around the gateway.
struct Stage {
    http: Http,
    source: SampleSource,
    destination: SampleDestination,
    admin: SocketAddr,
}

impl Stage {
    /// Traffic, convergence, comparison, summary; then `--keep`.
    async fn play(
        &self,
        arguments: &Arguments,
        running: &Running,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<bool> {
        let Some(gateway) = running.public.first().copied() else {
            anyhow::bail!("the gateway does not listen")
        };
        let length = Duration::from_secs(arguments.seconds);
        let clients = Clients::new(self.http.clone(), gateway);
        let mut watched = Watched::default();
        let mut view = View::new(length);
        let begun_at = Instant::now();
        self.traffic(&clients, length, &mut watched, &mut view, interrupts).await?;
        let seconds = begun_at.elapsed().as_secs();
        clients.write_reserved().await?;
        view.tell("traffic has ended; waiting until the destination has every change");
        // A second Ctrl-C gives up waiting; the comparison then tells what is missing.
        tokio::select! {
            settled = self.settle(clients.tally(), &mut watched) => settled?,
            () = interrupts.next() => {}
        }
        view.end();
        let counts = Counts::take(&self.source, &self.destination);
        let comparison = compare::compare(&self.http, self.source.address, self.destination.address).await?;
        let summary = Summary::new(seconds, clients.tally(), &counts, &watched, comparison);
        print(arguments, &summary)?;
        if arguments.keep && interrupts.seen == 0 {
            writeln!(stderr().lock(), "{}", self.worth_trying(gateway)?)?;
            interrupts.next().await;
        }
        Ok(summary.converged())
    }

    /// Mixed traffic for `length` or until Ctrl-C; the destination goes down in the middle.
    async fn traffic(
        &self,
        clients: &Clients,
        length: Duration,
        watched: &mut Watched,
        view: &mut View,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<()> {
        let running = clients.start();
        let begun_at = Instant::now();
        let down_at = length.mul_f64(0.4);
        let down_until = down_at + (length / 4).min(DOWN_MAX);
        let mut reach = Reach::Up;
        let interrupted = interrupts.next();
        tokio::pin!(interrupted);
        while begun_at.elapsed() < length {
            let elapsed = begun_at.elapsed();
            let wanted = if (down_at..down_until).contains(&elapsed) { Reach::Down } else { Reach::Up };
            if wanted != reach {
                reach = wanted;
                self.destination.set(reach);
                view.tell(match reach {
                    Reach::Down => "the destination goes down; writes go on",
                    Reach::Up => "the destination is back",
                });
            }
            watched.look(&self.http, self.admin).await?;
            view.show(elapsed, clients.tally(), watched, reach);
            if timeout(LOOK_EVERY, &mut interrupted).await.is_ok() {
                break;
            }
        }
        self.destination.set(Reach::Up);
        clients.stop(running).await;
        Ok(())
    }

    /// Waits until nothing is on its way to the destination, at most [`CONVERGE_WAIT_MAX`]. A write is
    /// answered just before it is listed as pending, so what the destination has is counted as well.
    async fn settle(&self, tally: &Tally, watched: &mut Watched) -> anyhow::Result<()> {
        let begun_at = Instant::now();
        while begun_at.elapsed() < CONVERGE_WAIT_MAX {
            watched.look(&self.http, self.admin).await?;
            let arrived = self.destination.acknowledged().saturating_add(watched.dead_letters);
            if watched.unsettled == 0 && arrived >= tally.writes.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The addresses, and five lines to type.
    fn worth_trying(&self, gateway: SocketAddr) -> Result<String, std::fmt::Error> {
        let admin = self.admin;
        let mut text = String::new();
        writeln!(text, "gateway      http://{gateway}")?;
        writeln!(text, "admin        http://{admin}")?;
        writeln!(text, "source       http://{}", self.source.address)?;
        writeln!(text, "destination  http://{}", self.destination.address)?;
        writeln!(text, "\nWorth trying:")?;
        writeln!(
            text,
            "  curl -si http://{gateway}/items/7 | grep -i cache-status      # twice: forwarded, then a hit"
        )?;
        let json = r#"-H 'content-type: application/json' -d '{"name":"Item 7","stock":1}'"#;
        writeln!(text, "  curl -si -X PUT {json} http://{gateway}/items/7")?;
        writeln!(
            text,
            "  curl -s http://{}/items/7                     # the destination has it",
            self.destination.address
        )?;
        writeln!(text, "  curl -s http://{admin}/v1/destinations                  # how far behind it is")?;
        let purge = r#"-X POST -H 'content-type: application/json' -d '{"prefix":"/items/"}'"#;
        writeln!(text, "  curl -s {purge} http://{admin}/v1/purge")?;
        write!(text, "\nCtrl-C ends it.")?;
        Ok(text)
    }
}

fn print(arguments: &Arguments, summary: &Summary) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(summary)?)?;
    } else {
        write!(out, "\n{summary}")?;
    }
    Ok(out.flush()?)
}

/// Ctrl-C and SIGTERM: the first ends traffic, the next ends the wait for convergence.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    seen: usize,
}

impl Interrupts {
    fn listen() -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())?, seen: 0 })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.seen += 1;
    }
}

/// The gateway's configuration: a file like any other, with the ports that were free.
fn configuration(source: SocketAddr, destination: SocketAddr, data: &Path) -> String {
    let data = toml::Value::from(data.to_string_lossy().as_ref());
    format!(
        r#"
[server]
listen = ["127.0.0.1:0"]
shutdown_grace = "2s"
[admin]
listen = "127.0.0.1:0"
[cache]
memory = "32MiB"
[sync]
data = {data}
[[source]]
name = "inventory"
urls = ["http://{source}"]
[[destination]]
name = "search"
url = "http://{destination}"
retry = {{ base = "100ms", cap = "1s" }}
breaker = {{ failures = 10, open = "500ms", open_cap = "1s" }}
[[route]]
name = "items"
path = "/items/{{id}}"
source = "inventory"
[[route.limit]]
name = "per-client"
requests = {QUOTA_REQUESTS}
per = "1s"
key = "header:X-Api-Key"
[route.sync]
destinations = ["search"]
"#
    )
}

/// The settings that a configuration's text stands for.
fn settings_from(text: &str) -> anyhow::Result<Settings> {
    Ok(config::parse(text, "demo", Path::new(""), &|_| None)?)
}
