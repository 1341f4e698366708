//! What others acknowledge durably in the same run on the same disk: a bare program that appends and
//! syncs in groups, Redis, `PostgreSQL`. Each by the load program that comes with it.

use crate::gateway::Gateway;
use crate::report;
use anyhow::{Context, bail, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

/// What one record holds.
pub(crate) const RECORD_BYTES: usize = 1024;
/// The longest wait for a server to listen.
const LISTEN_WAIT_MAX: Duration = Duration::from_secs(15);
/// The longest wait for a gateway to follow Redis.
const FOLLOWED_WAIT_MAX: Duration = Duration::from_secs(30);
/// The longest wait for what was stored to be written: what was not by then was dropped.
const WRITTEN_WAIT_MAX: Duration = Duration::from_secs(10);
/// Keys of a gateway that are no responses: epoch and line; the log comes with the first purge.
const OTHER_KEYS: u64 = 2;
/// Requests that redis-benchmark is told to make; bounds the run where Redis is fast.
const REDIS_REQUESTS_A_SECOND: u64 = 30_000;

/// Appends groups of as many records as there are clients and syncs each group: records a second.
pub(crate) fn append_and_sync(folder: &Path, clients: u64, length: Duration) -> anyhow::Result<f64> {
    let path = folder.join("bare");
    let mut file = File::create(&path)?;
    let group = vec![b'x'; RECORD_BYTES * usize::try_from(clients)?];
    let (begun_at, mut records) = (Instant::now(), 0);
    while begun_at.elapsed() < length {
        file.write_all(&group)?;
        file.sync_data()?;
        records += clients;
    }
    let rate = report::per_second(records, begun_at.elapsed());
    fs::remove_file(path)?;
    Ok(rate)
}

/// `XADD` of one record by each client, with `appendfsync always`: answers a second.
pub(crate) async fn redis(folder: &Path, clients: u64, length: Duration) -> anyhow::Result<f64> {
    let folder = folder.join("redis");
    fs::create_dir_all(&folder)?;
    let port = free_port()?.to_string();
    let server = tokio::process::Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always"])
        .args(["--save", "", "--dir"])
        .arg(&folder)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("redis-server")?;
    let listening = until_listening(&port).await;
    let requests = (REDIS_REQUESTS_A_SECOND * length.as_secs()).to_string();
    let (port, clients) = (port.clone(), clients.to_string());
    let told = match listening {
        Ok(()) => {
            ran("redis-benchmark", move |command| {
                command.args(["-h", "127.0.0.1", "-p", &port, "-c", &clients, "-n", &requests, "-q"]);
                command.args(["-d", "3", "XADD", "s", "*", "f", &"x".repeat(RECORD_BYTES)])
            })
            .await
        }
        Err(error) => Err(error),
    };
    end(server).await?;
    let told = told?;
    let rate = told.rsplit(':').next().and_then(|rest| rest.split_whitespace().next());
    fs::remove_dir_all(folder)?;
    number(rate).with_context(|| format!("redis-benchmark said {told:?}"))
}

/// A redis-server without persistence: the shared tier of what is measured.
pub(crate) struct Redis {
    server: Child,
    port: String,
}

impl Redis {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let port = free_port()?.to_string();
        let server = tokio::process::Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("redis-server")?;
        until_listening(&port).await?;
        Ok(Self { server, port })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Waits until it has so many responses; whether it had in time.
    pub(crate) async fn gets_keys(&self, keys: u64) -> anyhow::Result<bool> {
        let begun_at = Instant::now();
        // The log of purges and what belongs to it are keys too.
        while self.asked("DBSIZE").await?.trim_start_matches(':').parse::<u64>()? < keys + OTHER_KEYS {
            if begun_at.elapsed() > WRITTEN_WAIT_MAX {
                return Ok(false);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(true)
    }

    /// Waits until a gateway has told that it follows the log of purges.
    pub(crate) async fn until_followed(&self, gateway: &Gateway) -> anyhow::Result<()> {
        let name = gateway.replica()?.context("the gateway has no name among replicas")?;
        let begun_at = Instant::now();
        while self.asked(&format!("HEXISTS tidegate:replicas {name}")).await? != ":1" {
            ensure!(begun_at.elapsed() < FOLLOWED_WAIT_MAX, "the gateway does not follow Redis");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Bytes of one of the responses.
    pub(crate) async fn value_bytes(&self) -> anyhow::Result<usize> {
        for _ in 0..100 {
            let key = self.asked("RANDOMKEY").await?;
            if key.starts_with("tidegate:c:") {
                return Ok(self.asked(&format!("STRLEN {key}")).await?.trim_start_matches(':').parse()?);
            }
        }
        bail!("Redis has no responses")
    }

    /// What redis-benchmark gets: answers to `GET` a second.
    pub(crate) async fn gets(&self, clients: u64, requests: u64, bytes: usize) -> anyhow::Result<f64> {
        let (port, clients, requests) = (self.port.clone(), clients.to_string(), requests.to_string());
        let told = ran("redis-benchmark", move |command| {
            command.args(["-h", "127.0.0.1", "-p", &port, "-c", &clients, "-n", &requests, "-q"]);
            command.args(["-r", &requests, "-t", "set,get", "-d", &bytes.to_string()])
        })
        .await?;
        let line =
            told.lines().rfind(|line| line.starts_with("GET:") && line.contains("requests per second"));
        number(line.and_then(|line| line.split_whitespace().nth(1)))
            .with_context(|| format!("redis-benchmark said {told:?}"))
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        end(self.server).await
    }

    /// A command whose answer is one line, or one text.
    async fn asked(&self, command: &str) -> anyhow::Result<String> {
        let mut connection = tokio::net::TcpStream::connect(format!("127.0.0.1:{}", self.port)).await?;
        connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        let mut lines = answer.lines();
        let first = lines.next().context("Redis says nothing")?;
        Ok(if first.starts_with('$') { lines.next().unwrap_or_default() } else { first }.to_owned())
    }
}

/// Inserts of one row each by 64 clients, each its own transaction: transactions a second.
pub(crate) async fn postgres(folder: &Path, clients: u64, length: Duration) -> anyhow::Result<f64> {
    let folder = folder.join("postgres");
    fs::create_dir_all(&folder)?;
    let user = User::of_this_machine(&folder)?;
    let data = folder.join("data");
    let data_text = data.to_string_lossy().into_owned();
    ran("initdb", |command| user.takes(command).args(["-D", &data_text, "-A", "trust", "-U", "load"]))
        .await?;
    let port = free_port()?.to_string();
    let mut command = Command::new(found("postgres"));
    let sockets = format!("unix_socket_directories={}", folder.display());
    user.takes(&mut command).args(["-D", &data_text, "-p", &port, "-c", "listen_addresses=127.0.0.1"]);
    command.args(["-c", "max_connections=300", "-c", &sockets]).stderr(Stdio::null()).stdout(Stdio::null());
    let server = tokio::process::Command::from(command).kill_on_drop(true).spawn().context("postgres")?;
    let measured = async {
        until_ready(&port).await?;
        let script = folder.join("insert.sql");
        fs::write(&script, format!("INSERT INTO changes(body) VALUES ('{}');\n", "x".repeat(RECORD_BYTES)))?;
        let at = ["-h", "127.0.0.1", "-p", &port, "-U", "load"];
        let table = "CREATE TABLE changes(number bigserial PRIMARY KEY, body text NOT NULL)";
        ran("psql", |command| command.args(at).args(["-d", "postgres", "-q", "-c", table])).await?;
        let (clients, seconds) = (clients.to_string(), length.as_secs().to_string());
        ran("pgbench", |command| {
            command.args(at).args(["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &seconds, "-f"]);
            command.arg(&script).arg("postgres")
        })
        .await
    };
    let told = measured.await;
    end(server).await?;
    let told = told?;
    let line = told.lines().find_map(|line| line.strip_prefix("tps = "));
    fs::remove_dir_all(folder)?;
    number(line.and_then(|line| line.split_whitespace().next()))
        .with_context(|| format!("pgbench said {told:?}"))
}

/// `PostgreSQL` refuses to run as root: there another user of the machine runs it.
enum User {
    Own,
    Other,
}

impl User {
    fn of_this_machine(folder: &Path) -> anyhow::Result<Self> {
        let id = Command::new("id").arg("-u").output()?;
        if id.stdout.trim_ascii() != b"0" {
            return Ok(Self::Own);
        }
        // The folders above are this run's own.
        for parent in folder.ancestors().take(2) {
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
        }
        let owned = Command::new("chown").arg("postgres").arg(folder).status()?;
        ensure!(owned.success(), "chown postgres failed");
        Ok(Self::Other)
    }

    fn takes<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if matches!(self, Self::Other) {
            let program = command.get_program().to_owned();
            *command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        }
        command
    }
}

/// A program on the path, or where Debian keeps those of `PostgreSQL`.
fn found(program: &str) -> std::path::PathBuf {
    let beside = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut known = beside.map(|version| version.path().join("bin").join(program));
    known.find(|path| path.exists()).unwrap_or_else(|| program.into())
}

async fn ran(program: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> anyhow::Result<String> {
    let mut command = Command::new(found(program));
    arguments(&mut command);
    let mut command = tokio::process::Command::from(command);
    let Output { status, stdout, stderr } =
        command.kill_on_drop(true).output().await.with_context(|| program.to_owned())?;
    ensure!(status.success(), "{program} ended with {status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8_lossy(&stdout).replace('\r', "\n"))
}

fn number(text: Option<&str>) -> anyhow::Result<f64> {
    Ok(text.context("no figure")?.parse()?)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

async fn until_listening(port: &str) -> anyhow::Result<()> {
    let begun_at = Instant::now();
    while tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.is_err() {
        ensure!(begun_at.elapsed() < LISTEN_WAIT_MAX, "nothing listens after {LISTEN_WAIT_MAX:?}");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// It listens before it takes queries.
async fn until_ready(port: &str) -> anyhow::Result<()> {
    let begun_at = Instant::now();
    let at = ["-h", "127.0.0.1", "-p", port, "-U", "load", "-d", "postgres", "-q", "-c", "SELECT 1"];
    while let Err(error) = ran("psql", |command| command.args(at)).await {
        ensure!(begun_at.elapsed() < LISTEN_WAIT_MAX, "{error:#}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn end(mut server: Child) -> anyhow::Result<()> {
    Ok(server.kill().await?)
}
