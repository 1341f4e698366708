//! A real redis-server on a free port, without persistence.

use super::gateway::signal;
use super::wait::eventually;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// A server of this test's own; killed when dropped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::with_prefix("tidegate-redis-").expect("a temporary folder can be made");
        let port = free_port().await;
        let server = Self { child: spawn(port, &folder), folder, port };
        server.answering().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `[cache.shared]` for this server.
    pub(crate) fn table(&self) -> String {
        format!("[cache.shared]\nredis = \"{}\"\n", self.url())
    }

    /// Ends it; everything in it is lost.
    pub(crate) async fn stop(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// Starts it again, empty, on the same port.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.port, &self.folder);
        self.answering().await;
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
        let reply = self.ask("DBSIZE").await.unwrap_or_default();
        reply.trim().trim_start_matches(':').parse().unwrap_or(0)
    }

    /// Every key with its value.
    pub(crate) async fn everything(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let client = ::redis::Client::open(self.url()).expect("its URL is one");
        let mut connection = client.get_multiplexed_async_connection().await.expect("it answers");
        let keys: Vec<Vec<u8>> =
            ::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("keys");
        let mut all = Vec::new();
        for key in keys {
            let value: Option<Vec<u8>> =
                ::redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.expect("a dump");
            // One that has expired meanwhile has none.
            all.extend(value.map(|value| (key, value)));
        }
        all
    }

    async fn answering(&self) {
        eventually("redis-server answers", async || {
            self.ask("PING").await.is_ok_and(|reply| reply.starts_with("+PONG"))
        })
        .await;
    }

    async fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut reply = [0; 64];
        let count = stream.read(&mut reply).await?;
        Ok(String::from_utf8_lossy(&reply[..count]).into_owned())
    }
}

/// A port that nobody listens on now.
pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
    listener.local_addr().expect("a bound listener has an address").port()
}

fn spawn(port: u16, folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is not installed; run make test")
}
