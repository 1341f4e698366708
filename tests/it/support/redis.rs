//! Real redis-servers on free ports, without persistence unless a test asks for it.

use super::gateway::signal;
use super::wait::{DEADLINE, eventually};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisResult, cmd,
};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// A server of this test's own; killed when dropped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    folder: TempDir,
    port: u16,
    /// What it is started with besides.
    arguments: Vec<String>,
    child: Child,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts one with further arguments; `FOLDER` in them stands for its folder.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        for _ in 0..10 {
            let folder = TempDir::with_prefix("tidegate-redis-").expect("a folder");
            let mut server = Self::run(folder, arguments).await;
            if server.comes_up().await {
                return server;
            }
        }
        panic!("no port stays free for redis-server")
    }

    /// As [`RedisServer::with`], with files that lie in its folder already, and without waiting for it.
    pub(crate) async fn run(folder: TempDir, arguments: &[&str]) -> Self {
        let port = free_port().await;
        let path = folder.path().to_str().expect("a path in UTF-8");
        let arguments: Vec<String> = arguments.iter().map(|one| one.replace("FOLDER", path)).collect();
        Self { child: spawn(port, &folder, &arguments), folder, port, arguments }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// `host:port`
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `[cache.shared]` for this server.
    pub(crate) fn table(&self) -> String {
        table(&self.url())
    }

    /// Ends it; everything in it is lost.
    pub(crate) async fn stop(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// Starts it again, empty, on the same port.
    pub(crate) async fn start_again(&mut self) {
        self.run_again(&[]);
        self.answering().await;
    }

    /// Starts it again with further arguments, and does not wait for it.
    pub(crate) fn run_again(&mut self, more: &[&str]) {
        self.arguments.extend(more.iter().map(ToString::to_string));
        self.child = spawn(self.port, &self.folder, &self.arguments);
    }

    /// Stops it from answering while its sockets stay open.
    pub(crate) fn freeze(&self) {
        signal(self.child.id().expect("the server runs"), "STOP");
    }

    /// The end of a [`RedisServer::freeze`].
    pub(crate) fn thaw(&self) {
        signal(self.child.id().expect("the server runs"), "CONT");
    }

    /// How many keys it has.
    pub(crate) async fn keys(&self) -> u64 {
        self.try_command(&cmd("DBSIZE")).await.unwrap_or(0)
    }

    /// The names of its keys that begin so.
    pub(crate) async fn names(&self, beginning: &str) -> Vec<String> {
        self.command(cmd("KEYS").arg(format!("{beginning}*"))).await
    }

    /// Every key with its value.
    pub(crate) async fn everything(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let keys: Vec<Vec<u8>> = self.command(cmd("KEYS").arg("*")).await;
        let mut all = Vec::new();
        for key in keys {
            let value: Option<Vec<u8>> = self.command(cmd("DUMP").arg(&key)).await;
            // One that has expired meanwhile has none.
            all.extend(value.map(|value| (key, value)));
        }
        all
    }

    /// Sends a command as an operator would.
    pub(crate) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.try_command(command).await.expect("redis-server carries it out")
    }

    pub(crate) async fn try_command<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        ask(self.url().into_connection_info()?, command).await
    }

    /// Waits until it answers; `false` where it has ended instead, as when somebody else has taken its port meanwhile.
    async fn comes_up(&mut self) -> bool {
        let mut is_over = false;
        eventually("redis-server answers or ends", async || {
            let answer: RedisResult<String> = self.try_command(&cmd("PING")).await;
            is_over = self.child.try_wait().is_ok_and(|ended| ended.is_some());
            is_over || answer.is_ok_and(|answer| answer == "PONG")
        })
        .await;
        !is_over
    }

    /// Waits until it gives any answer to a PING but that it is loading.
    pub(crate) async fn answering(&self) {
        eventually("redis-server answers", async || {
            let answer: RedisResult<String> = self.try_command(&cmd("PING")).await;
            answer.is_ok_and(|answer| answer == "PONG")
        })
        .await;
    }
}

/// `[cache.shared]` for a URL.
pub(crate) fn table(url: &str) -> String {
    format!("[cache.shared]\nredis = \"{url}\"\n")
}

/// Sends one command.
pub(crate) async fn ask<T: FromRedisValue>(to: ConnectionInfo, command: &Cmd) -> RedisResult<T> {
    let patient = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(DEADLINE))
        .set_response_timeout(Some(DEADLINE));
    let mut connection = Client::open(to)?.get_multiplexed_async_connection_with_config(&patient).await?;
    command.query_async(&mut connection).await
}

/// A port that nobody listens on now.
pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
    listener.local_addr().expect("a bound listener has an address").port()
}

fn spawn(port: u16, folder: &TempDir, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    // A file of settings comes before what overrides it.
    let (file, rest) = match arguments.split_first() {
        Some((file, rest)) if !file.starts_with('-') => (Some(file), rest),
        _ => (None, arguments),
    };
    command
        .args(file)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .arg("--dir")
        .arg(folder.path())
        .args(if file.is_some() { &[][..] } else { &["--save", "", "--appendonly", "no"][..] })
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is not installed; run make test")
}
