//! A real redis-server for tests: a free port, nothing kept on disk, ended with its handle.

use super::Server;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long anything in a test is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// A running redis-server.
#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Option<Child>,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl RedisServer {
    /// A port for a server that does not run yet.
    pub(crate) fn reserved() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self { child: None, address, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn start() -> Self {
        let mut server = Self::reserved();
        server.run().await;
        server
    }

    /// Starts the server and waits until it answers.
    pub(crate) async fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.address.port().to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        eventually("redis-server answers", async || {
            let Ok(client) = redis::Client::open(self.url()) else { return false };
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
            redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
        })
        .await;
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// `-STOP` freezes it, `-CONT` lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn endpoint(&self) -> Server {
        Server::parse(&self.url()).unwrap()
    }

    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Sends a command as somebody else would.
    pub(crate) async fn command<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query_async(&mut self.connection().await).await.unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something holds; panics with its name at the deadline.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
    start.elapsed()
}
