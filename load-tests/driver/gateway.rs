//! The gateway under load: the real binary as a child process, or one that runs already.

use crate::process;
use crate::schedule::{self, Request};
use crate::stage::Stage;
use anyhow::{Context, bail, ensure};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// The longest wait for a gateway to be ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(15);

/// What an operator does with a destination.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Pause,
    Resume,
}

/// A gateway and where it answers.
pub(crate) struct Gateway {
    /// `http://host:port`, without a slash at the end.
    pub(crate) base: String,
    /// The same of its admin listener; none where it is not ours.
    pub(crate) admin: Option<String>,
    child: Option<(Child, TempDir)>,
}

impl Gateway {
    /// One that somebody else runs.
    pub(crate) fn running_at(url: &url::Url) -> Self {
        Self { base: url.as_str().trim_end_matches('/').to_owned(), admin: None, child: None }
    }

    /// Starts `binary` with a configuration and a journal of its own, in a folder that goes with it.
    pub(crate) async fn start(binary: Option<&Path>, stage: &Stage) -> anyhow::Result<Self> {
        Self::start_with(binary, stage, "memory = \"64MiB\"\n").await
    }

    /// The same with a shared tier.
    pub(crate) async fn sharing(binary: Option<&Path>, stage: &Stage, redis: &str) -> anyhow::Result<Self> {
        let cache = format!("memory = \"512MiB\"\n[cache.shared]\nredis = \"{redis}\"\n");
        Self::start_with(binary, stage, &cache).await
    }

    async fn start_with(binary: Option<&Path>, stage: &Stage, cache: &str) -> anyhow::Result<Self> {
        let binary = binary.map_or_else(same_build, |binary| Ok(binary.to_path_buf()))?;
        let folder = tempfile::Builder::new().prefix("tidegate-load-").tempdir()?;
        let (public, admin) = free_ports()?;
        let path = folder.path().join("tidegate.toml");
        fs::write(&path, configuration(public, admin, stage, cache))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let child = Command::new(&binary)
            .args(["serve", "--config"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {} (cargo build --release makes it)", binary.display()))?;
        let admin = format!("http://127.0.0.1:{admin}");
        let base = format!("http://127.0.0.1:{public}");
        let mut gateway = Self { base, admin: Some(admin.clone()), child: Some((child, folder)) };
        gateway.until_ready(&admin).await?;
        Ok(gateway)
    }

    async fn until_ready(&mut self, admin: &str) -> anyhow::Result<()> {
        let begun_at = Instant::now();
        while begun_at.elapsed() < READY_WAIT_MAX {
            let probe = Request::get(format!("{admin}/readyz"));
            if matches!(schedule::send_once(probe).await, Ok(schedule::Answer::Made)) {
                return Ok(());
            }
            if let Some((child, folder)) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                bail!("the gateway ended with {status}:\n{log}");
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("the gateway is not ready after {READY_WAIT_MAX:?}")
    }

    /// Holds what goes to a destination, or lets it go.
    pub(crate) async fn destination(&self, name: &str, act: Act) -> anyhow::Result<()> {
        let admin = self.admin.as_deref().context("this gateway is not ours")?;
        let act = match act {
            Act::Pause => "pause",
            Act::Resume => "resume",
        };
        let call = Request::post(format!("{admin}/v1/destinations/{name}/{act}"));
        let answer = schedule::send_once(call).await?;
        ensure!(answer == schedule::Answer::Made, "{act} of {name} was answered {answer:?}");
        Ok(())
    }

    /// The folder in which its journal lies: the disk of what is measured.
    pub(crate) fn folder(&self) -> anyhow::Result<&Path> {
        Ok(self.child.as_ref().context("this gateway is not ours")?.1.path())
    }

    /// What it calls itself among replicas, as it has logged.
    pub(crate) fn replica(&self) -> anyhow::Result<Option<String>> {
        let log = fs::read_to_string(self.folder()?.join("log"))?;
        let (_, behind) = log.split_once("replica=").unwrap_or_default();
        let name = behind.trim_start_matches('"').split(|c: char| !c.is_ascii_hexdigit()).next();
        Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
    }

    /// Processor time that the gateway has spent; none where it is not ours.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Option<Duration>> {
        self.pid().map(|pid| process::cpu_time(&pid.to_string())).transpose()
    }

    /// A line of `/proc/PID/status` that is in KiB, as `VmHWM`; none where the gateway is not ours.
    pub(crate) fn memory_kib(&self, name: &str) -> anyhow::Result<Option<u64>> {
        self.pid().map(|pid| process::memory_kib(pid, name)).transpose()
    }

    fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(|(child, _)| child.id())
    }

    /// Ends a gateway of the driver's own and removes its folder.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        if let Some((mut child, folder)) = self.child {
            child.kill().await?;
            folder.close()?;
        }
        Ok(())
    }
}

/// The binary beside this example: `target/release/tidegate` for `target/release/examples/load`.
pub(crate) fn same_build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("this program lies in no folder")?;
    Ok(folder.join("tidegate"))
}

/// Two ports that were free a moment ago.
fn free_ports() -> std::io::Result<(u16, u16)> {
    let (public, admin) = (TcpListener::bind(("127.0.0.1", 0))?, TcpListener::bind(("127.0.0.1", 0))?);
    Ok((public.local_addr()?.port(), admin.local_addr()?.port()))
}

fn configuration(public: u16, admin: u16, stage: &Stage, cache: &str) -> String {
    let (source, [destination, second, third]) = (stage.source, stage.destinations);
    format!(
        r#"
[server]
listen = ["127.0.0.1:{public}"]
[admin]
listen = "127.0.0.1:{admin}"
[cache]
{cache}[sync]
data = "data"
[[source]]
name = "source"
urls = ["http://{source}"]
[[destination]]
name = "destination"
url = "http://{destination}"
[[destination]]
name = "second"
url = "http://{second}"
[[destination]]
name = "third"
url = "http://{third}"
[[route]]
name = "slow"
path = "/slow/{{id}}"
source = "source"
[[route]]
name = "stream"
path = "/stream/{{id}}"
source = "source"
[[route]]
name = "tagged"
path = "/tagged/{{tag}}/{{id}}"
source = "source"
[[route]]
name = "items"
path = "/items/{{id}}"
source = "source"
[route.sync]
destinations = ["destination"]
[[route]]
name = "accepted"
path = "/accepted/{{id}}"
source = "source"
[route.sync]
mode = "accept"
destinations = ["destination"]
[[route]]
name = "plain"
path = "/plain/{{id}}"
source = "source"
[[route]]
name = "followed"
path = "/followed/{{id}}"
source = "source"
[route.sync]
destinations = ["destination", "second", "third"]
"#
    )
}
