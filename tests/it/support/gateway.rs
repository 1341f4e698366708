//! The real binary as a child process, with a configuration and a folder of its own.

use super::client::{Answer, Ask};
use super::wait::{eventually, lock, within, within_time};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

/// A configuration in a folder; it can be started again and again, with the same journal.
#[derive(Debug)]
pub(crate) struct Setup {
    folder: Arc<TempDir>,
    server: String,
    admin: String,
    sync: String,
    rest: String,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// `rest` holds every table but `[server]`, `[admin]` and `[sync]`, whose ports and folder are given.
    pub(crate) fn new(rest: impl Into<String>) -> Self {
        Self {
            folder: Arc::new(TempDir::with_prefix("tidegate-it-").expect("a temporary folder can be made")),
            server: String::new(),
            admin: String::new(),
            sync: String::new(),
            rest: rest.into(),
            environment: Vec::new(),
        }
    }

    /// Adds a line to `[server]`.
    pub(crate) fn server(mut self, line: &str) -> Self {
        line.clone_into(&mut self.server);
        self
    }

    /// Adds a line to `[admin]`.
    pub(crate) fn admin(mut self, line: &str) -> Self {
        line.clone_into(&mut self.admin);
        self
    }

    /// Adds a line to `[sync]`.
    pub(crate) fn sync(mut self, line: &str) -> Self {
        line.clone_into(&mut self.sync);
        self
    }

    /// Other tables than before, for the next starts.
    pub(crate) fn rest(mut self, rest: impl Into<String>) -> Self {
        self.rest = rest.into();
        self
    }

    /// The folder of the journal.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Sets a variable of the next starts; an empty value takes it away again.
    pub(crate) fn environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(own, _)| own != name);
        if !value.is_empty() {
            self.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The folder of the configuration, where its relative paths start.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    /// Its text, as it stands with the other tables.
    pub(crate) fn text(&self) -> String {
        let listen = if self.admin.contains("listen =") { "" } else { "listen = \"127.0.0.1:0\"" };
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 2\n{}\n[admin]\n{listen}\n{}\n\
             [sync]\ndata = \"data\"\n{}\n{}",
            self.server, self.admin, self.sync, self.rest
        )
    }

    /// Writes it, for the next start or reload.
    pub(crate) fn write(&self) -> PathBuf {
        std::fs::write(self.file(), self.text()).expect("the temporary folder can be written");
        self.file()
    }

    /// Starts, and waits until both listeners are there.
    pub(crate) async fn start(&self) -> Gateway {
        match self.try_start().await {
            Ok(gateway) => gateway,
            Err(exit) => panic!("the gateway did not start: {:?}\n{}", exit.status, exit.stderr),
        }
    }

    /// Starts; where the process ends before it listens, what it said.
    pub(crate) async fn try_start(&self) -> Result<Gateway, Exit> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["serve", "--log-format", "json", "--config"])
            .arg(self.write())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary that cargo built can be run");
        let pipe = child.stderr.take().expect("standard error was piped");
        let log = Log::follow(pipe);
        if let Some((public, admin)) = within("the gateway listens or ends", log.listening()).await {
            return Ok(Gateway { child, public, admin, log, _folder: Arc::clone(&self.folder) });
        }
        let status = within("the gateway ends", child.wait()).await.expect("a child can be waited for");
        Err(Exit { status, stderr: log.text() })
    }
}

/// A process that ended.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Log,
    /// It stays as long as the process that uses it.
    _folder: Arc<TempDir>,
}

impl Gateway {
    /// Sends to the public listener; no answer fails the test.
    pub(crate) async fn send(&self, ask: Ask) -> Answer {
        let shown = format!("{ask:?}");
        match ask.send(self.public).await {
            Ok(answer) => answer,
            Err(fault) => panic!("{fault} for {shown}\n{}", self.log.text()),
        }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(Ask::get(target)).await
    }

    pub(crate) async fn put(&self, target: &str, body: &str) -> Answer {
        self.send(Ask::put(target, body)).await
    }

    /// Sends to the admin listener; no answer fails the test.
    pub(crate) async fn operate(&self, ask: Ask) -> Answer {
        let shown = format!("{ask:?}");
        match ask.send(self.admin).await {
            Ok(answer) => answer,
            Err(fault) => panic!("{fault} for {shown}\n{}", self.log.text()),
        }
    }

    pub(crate) async fn admin_get(&self, target: &str) -> Answer {
        self.operate(Ask::get(target)).await
    }

    pub(crate) async fn admin_post(&self, target: &str, body: &Value) -> Answer {
        let ask = Ask::post(target, body.to_string()).field("Content-Type", "application/json");
        self.operate(ask).await
    }

    /// Memory that the process has now.
    pub(crate) fn resident_bytes(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process())).expect("a process");
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
        pages.expect("a count") * 4096
    }

    /// The sum of all that a metric counts whose name and labels begin so.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.admin_get("/metrics").await.text();
        let values =
            text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<u64>().expect("a count")).sum()
    }

    /// Asks for what its source lets it store, `/warm/..`, until it uses the shared tier.
    pub(crate) async fn uses_redis(&self) {
        let mut asked = 0_u32;
        eventually("the gateway uses Redis", async || {
            asked += 1;
            self.get(&format!("/warm/{asked}")).await;
            self.metric("tidegate_stored_total{tier=\"shared\"}").await > 0
        })
        .await;
    }

    /// Waits until everything that it has stored has been written to the shared tier, or dropped.
    pub(crate) async fn has_written(&self) {
        eventually("all is written to Redis", async || {
            let stored = self.metric("tidegate_stored_total{tier=\"memory\"}").await;
            let shared = self.metric("tidegate_stored_total{tier=\"shared\"}").await;
            stored == shared + self.metric("tidegate_tier_dropped_total").await
        })
        .await;
    }

    /// How many looks into Redis brought nothing because it was not there, or late: whatever lies there, such a one
    /// is a miss. On a machine with other work Redis may overrun its milliseconds now and then.
    pub(crate) async fn late_looks(&self) -> u64 {
        self.metric("tidegate_tier_lookups_total{tier=\"shared\",result=\"unavailable\"}").await
    }

    /// Sends; `None` where the look into Redis was late, so that the answer tells nothing of what lies there.
    pub(crate) async fn send_in_time(&self, ask: Ask) -> Option<Answer> {
        let before = self.late_looks().await;
        let answer = self.send(ask).await;
        (self.late_looks().await == before).then_some(answer)
    }

    /// One destination as `GET /v1/destinations` shows it.
    pub(crate) async fn destination(&self, name: &str) -> Value {
        let all = self.admin_get("/v1/destinations").await.json();
        let list = all["destinations"].as_array().cloned().unwrap_or_default();
        let found = list.into_iter().find(|destination| destination["name"] == name);
        found.unwrap_or_else(|| panic!("no destination {name} in {all}\n{}", self.log.text()))
    }

    /// The state of a change as `GET /v1/changes/{id}` shows it; empty where there is none.
    pub(crate) async fn change_state(&self, id: &str) -> String {
        let answer = self.admin_get(&format!("/v1/changes/{id}")).await;
        let state = if answer.status == 200 { answer.json()["state"].clone() } else { Value::Null };
        state.as_str().unwrap_or_default().to_owned()
    }

    /// The id of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id().expect("a child that was not waited for has an id")
    }

    /// SIGKILL, as a power cut for this process.
    pub(crate) async fn kill(mut self) -> Exit {
        // It may have ended by itself a moment ago.
        drop(self.child.start_kill());
        self.ended().await
    }

    /// Sends it a signal by name, e.g. `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process(), name);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(self) -> Exit {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Exit {
        let status = within("the gateway ends", self.child.wait()).await.expect("a child can be waited for");
        within("standard error ends", self.log.closed()).await;
        Exit { status, stderr: self.log.text() }
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    /// Everything that it has logged.
    pub(crate) fn log_text(&self) -> String {
        self.log.text()
    }
}

/// Sends a signal to one process that a test has started.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {process} failed");
}

/// Standard error of a gateway, read as it comes.
#[derive(Debug)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    seen: watch::Receiver<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    public: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    over: bool,
}

impl Log {
    fn follow(pipe: ChildStderr) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, seen) = watch::channel(Seen::default());
        let kept = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut reader = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                sender.send_if_modified(|seen| seen.notice(&line));
                lock(&kept).push(line);
            }
            sender.send_modify(|seen| seen.over = true);
        });
        Self { lines, seen }
    }

    /// The public and the admin address; `None` where the process ended first.
    async fn listening(&self) -> Option<(SocketAddr, SocketAddr)> {
        let mut seen = self.seen.clone();
        let ready = |seen: &Seen| seen.over || (seen.public.is_some() && seen.admin.is_some());
        let seen = *seen.wait_for(ready).await.expect("the reader says when it is over");
        seen.public.zip(seen.admin)
    }

    async fn closed(&self) {
        let mut seen = self.seen.clone();
        // Where the reader is gone, it is over as well.
        drop(seen.wait_for(|seen| seen.over).await);
    }

    fn text(&self) -> String {
        lock(&self.lines).join("\n")
    }
}

impl Seen {
    /// Takes the address from a `listening` line; whether it was one.
    fn notice(&mut self, line: &str) -> bool {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return false };
        // Flat, or with the fields of the event below a key of their own.
        let fields = event.get("fields").unwrap_or(&event);
        if fields["message"] != "listening" {
            return false;
        }
        // A Unix socket has no address: what asks there goes its own way.
        let parsed = |text: &str| text.strip_prefix("unix:").map_or(text, |_| "0.0.0.0:0").parse().ok();
        let address = fields["address"].as_str().and_then(parsed);
        match fields["listener"].as_str() {
            Some("public") => self.public = address,
            Some("admin") => self.admin = address,
            _ => return false,
        }
        true
    }
}

/// The longest that a command of the binary may take.
const COMMAND_DEADLINE: Duration = Duration::from_mins(3);

/// Runs a command of the binary to its end in a folder of its own.
pub(crate) async fn run(arguments: &[&str], temporary: &Path) -> std::process::Output {
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    within_time(COMMAND_DEADLINE, &format!("tidegate {arguments:?} ends"), child)
        .await
        .expect("the binary that cargo built can be run")
}

#[test]
fn a_listening_line_names_the_listener_and_the_address() {
    let mut seen = Seen::default();
    let line = |message: &str| {
        format!(r#"{{"fields":{{"message":"{message}","listener":"admin","address":"127.0.0.1:77"}}}}"#)
    };
    assert!(!seen.notice(&line("draining")) && !seen.notice("plain text"));
    assert!(seen.notice(&line("listening")));
    assert_eq!((seen.public, seen.admin), (None, "127.0.0.1:77".parse().ok()));
}
