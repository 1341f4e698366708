//! A server under load: a child process on loopback ports, with a folder in memory that goes with it.

use super::client::Clients;
use super::{haproxy, nginx, stand_in, tidegate, traffic_server, tree, varnish};
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

/// The longest wait for a server to answer.
const READY_WAIT_MAX: Duration = Duration::from_secs(20);
/// Between two looks whether it does.
const READY_LOOK: Duration = Duration::from_millis(20);
/// The longest wait for a server to end.
const END_WAIT_MAX: Duration = Duration::from_secs(5);
/// A folder whose files lie in memory, on Linux.
const MEMORY_FOLDER: &str = "/dev/shm";
/// What a server says, in its folder.
const LOG: &str = "log.txt";
/// The unit in which Linux counts what a file takes.
const BLOCK_BYTES: u64 = 512;

/// Who runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rival {
    Tidegate,
    /// With TLS on its listener.
    TidegateTls,
    Nginx,
    Haproxy,
    Varnish,
    TrafficServer,
    /// hyper and moka with nothing around them.
    Bare,
    /// hyper, and hyper-util's client toward the source.
    BareForward,
    /// A loop that writes a constant answer.
    Constant,
}

impl Rival {
    /// Those that come from Debian.
    pub(crate) const PEERS: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Varnish, Self::TrafficServer];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::TidegateTls => "Tidegate with TLS",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Varnish => "Varnish",
            Self::TrafficServer => "Traffic Server",
            Self::Bare => "bare",
            Self::BareForward => "bare forward",
            Self::Constant => "loop",
        }
    }

    /// What says its version.
    pub(crate) fn version(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nginx => Some(("nginx", "-v")),
            Self::Haproxy => Some(("haproxy", "-v")),
            Self::Varnish => Some(("varnishd", "-V")),
            Self::TrafficServer => Some(("traffic_server", "--version")),
            _ => None,
        }
    }

    /// Writes its configuration into the place; what runs it in the foreground.
    fn command(self, place: &Place) -> anyhow::Result<Command> {
        match self {
            Self::Tidegate => tidegate::command(place, tidegate::Spoken::Plain),
            Self::TidegateTls => tidegate::command(place, tidegate::Spoken::Tls),
            Self::Nginx => nginx::command(place),
            Self::Haproxy => haproxy::command(place),
            Self::Varnish => varnish::command(place),
            Self::TrafficServer => traffic_server::command(place),
            Self::Bare => stand_in::command(stand_in::Part::Bare, place),
            Self::BareForward => stand_in::command(stand_in::Part::Forward, place),
            Self::Constant => stand_in::command(stand_in::Part::Constant, place),
        }
    }
}

/// What all servers of a run share.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Of Tidegate.
    pub(crate) binary: PathBuf,
    pub(crate) source: SocketAddr,
    /// The certificate and its key, PEM.
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Where one server lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) setting: Setting,
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    /// For TLS, or for whatever else a server must listen on.
    pub(crate) second_port: u16,
    /// For HTTP/2 without TLS, where that cannot be told from HTTP/1.1.
    pub(crate) third_port: u16,
}

/// A server that answers, until dropped.
pub(crate) struct Server {
    pub(crate) rival: Rival,
    pub(crate) address: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) tls: SocketAddr,
    /// Where it speaks HTTP/2 without TLS, if it does.
    pub(crate) h2c: SocketAddr,
    pub(crate) launched_at: Instant,
    /// None once it is given away.
    folder: Option<TempDir>,
    child: Child,
}

impl Server {
    /// Starts it in a new folder and waits until it answers.
    pub(crate) async fn start(rival: Rival, setting: &Setting) -> anyhow::Result<Self> {
        let mut server = Self::launch(rival, setting, new_folder()?)?;
        server.until_ready().await.with_context(|| rival.name())?;
        Ok(server)
    }

    /// Starts it in a folder that may hold what an earlier one left, and does not wait.
    pub(crate) fn launch(rival: Rival, setting: &Setting, folder: TempDir) -> anyhow::Result<Self> {
        let [port, second_port, third_port] = free_ports()?;
        let (setting, path) = (setting.clone(), folder.path().to_path_buf());
        let place = Place { setting, folder: path, port, second_port, third_port };
        let mut command = rival.command(&place)?;
        let log = File::create(folder.path().join(LOG))?;
        // A group of its own, so that its children end with it.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let launched_at = Instant::now();
        let child = tokio::process::Command::from(command)
            .spawn()
            .with_context(|| format!("{} cannot be started: is it installed?", rival.name()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let tls = match rival {
            Rival::TidegateTls => address,
            _ => SocketAddr::from(([127, 0, 0, 1], second_port)),
        };
        let h2c = match rival {
            Rival::Nginx => SocketAddr::from(([127, 0, 0, 1], third_port)),
            _ => address,
        };
        Ok(Self { rival, address, tls, h2c, launched_at, folder: Some(folder), child })
    }

    /// Processor time of all its processes so far.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        tree::cpu_time(self.pid()?)
    }

    /// Its processes.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        tree::pids(self.pid()?)
    }

    /// How often any of its threads fell asleep so far.
    pub(crate) fn sleeps(&self) -> anyhow::Result<u64> {
        tree::sleeps(self.pid()?)
    }

    /// What all its processes and its folder hold: the folder lies in memory.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<u64> {
        let folder = self.folder.as_ref().map(|folder| blocks(folder.path())).transpose()?;
        Ok(tree::memory_bytes(self.pid()?)? + folder.unwrap_or_default())
    }

    /// Kills it, whatever it is doing; its folder with all that it left.
    pub(crate) async fn kill(mut self) -> anyhow::Result<TempDir> {
        self.signal(Signal::KILL);
        self.child.wait().await?;
        self.folder.take().context("no folder")
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM);
        // Dropped, it is killed.
        drop(timeout(END_WAIT_MAX, self.child.wait()).await);
        Ok(())
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.rival.name()))
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // One that has ended already gets none.
            kill_process_group(pid, signal).unwrap_or_default();
        }
    }

    fn log(&self) -> String {
        let folder = self.folder.as_ref().map(|folder| folder.path().join(LOG));
        folder.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        loop {
            let answered = match self.rival {
                // It is asked over TLS only; that it listens is enough here.
                Rival::TidegateTls => TcpStream::connect(self.tls).await.map(drop).map_err(Into::into),
                _ => Clients::connect(self.address, 1).await.map(drop),
            };
            let Err(fault) = answered else { return Ok(()) };
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}:\n{}", self.log());
            }
            if self.launched_at.elapsed() > READY_WAIT_MAX {
                return Err(fault.context(format!("not ready after {READY_WAIT_MAX:?}:\n{}", self.log())));
            }
            sleep(READY_LOOK).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A folder in memory, where this machine has one.
pub(crate) fn new_folder() -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("tidegate-peers-");
    let in_memory = Path::new(MEMORY_FOLDER).is_dir();
    Ok(if in_memory { builder.tempdir_in(MEMORY_FOLDER)? } else { builder.tempdir()? })
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports() -> std::io::Result<[u16; 3]> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    // All at once, so that they differ.
    let held = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Bytes that the files of a folder take, holes left out.
fn blocks(folder: &Path) -> anyhow::Result<u64> {
    let (mut bytes, mut waiting) = (0, vec![folder.to_path_buf()]);
    while let Some(path) = waiting.pop() {
        // A file may go while it is looked at.
        let Ok(known) = fs::symlink_metadata(&path) else { continue };
        if known.is_dir() {
            waiting.extend(fs::read_dir(&path)?.flatten().map(|child| child.path()));
        } else {
            bytes += known.blocks() * BLOCK_BYTES;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_as_large_as_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), vec![1; 10_000]).unwrap();
        File::create(folder.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        let bytes = blocks(folder.path()).unwrap();
        assert!((10_000..100_000).contains(&bytes), "{bytes}");
    }
}
