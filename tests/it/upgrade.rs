//! Upgrades (RFC 9110 7.8): a tunnel only after the 101 that was asked for, on routes that allow it; until
//! then, and otherwise, HTTP as ever. After each test nothing is open or counted any more.

mod asking;
mod ending;
mod tunnels;

use crate::support::{EVERYTHING, Gateway, Setup, eventually, within};
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The fields that ask for a WebSocket.
const ASKS: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The 101 that answers it.
const SWITCHES: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What allows it on a route.
const ALLOWED: &str = "upgrade = [\"websocket\"]\n";

/// One end of a connection, byte for byte.
struct Side(BufReader<TcpStream>);

impl Side {
    async fn to(gateway: &Gateway) -> Self {
        Self(BufReader::new(TcpStream::connect(gateway.public).await.expect("a connection")))
    }

    async fn says(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).await.expect("it is taken");
    }

    /// Asks for a WebSocket.
    async fn asks(&mut self, path: &str) {
        self.says(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{ASKS}\r\n")).await;
    }

    /// The next head; empty where the connection has ended.
    async fn head(&mut self) -> String {
        let mut head = String::new();
        let reading = async {
            while !head.ends_with("\r\n\r\n") {
                if self.0.read_line(&mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        };
        within("a head", reading).await;
        head
    }

    /// The next bytes.
    async fn hears(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within("bytes", self.0.read_exact(&mut bytes)).await.expect("as many bytes");
        bytes
    }

    /// The next head and its content, framed by a length.
    async fn message(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = field(&head, "content-length").parse().unwrap_or(0);
        let content = self.hears(length).await;
        (head, String::from_utf8(content).expect("text"))
    }

    /// What comes until the other side has ended.
    async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        within("the end", self.0.read_to_end(&mut bytes)).await?;
        Ok(bytes)
    }

    /// Whether nothing has come.
    fn has_nothing(&self) -> bool {
        let waiting = self.0.get_ref().try_read(&mut [0; 1]);
        self.0.buffer().is_empty() && waiting.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn ends(&mut self) {
        self.0.get_mut().shutdown().await.expect("an open connection");
    }

    fn resets(self) {
        self.0.get_ref().set_zero_linger().expect("an open connection");
    }
}

/// The value of a field in a head, the lines of a name joined.
fn field(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let values = lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    values.collect::<Vec<_>>().join(", ")
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// A source whose every connection is played by the test.
struct RawSource(TcpListener);

impl RawSource {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound"))
    }

    /// Its table, with further keys.
    fn table(&self, keys: &str) -> String {
        let address = self.0.local_addr().expect("a bound listener has an address");
        format!("{}{keys}\n", crate::support::source::table(&format!("http://{address}")))
    }

    /// A gateway in front of it, whose route allows the upgrade.
    async fn gateway(&self) -> Gateway {
        self.setup("", "").start().await
    }

    fn setup(&self, keys: &str, route: &str) -> Setup {
        Setup::new(format!("{}{EVERYTHING}{ALLOWED}{route}", self.table(keys)))
    }

    /// The next connection.
    async fn connection(&self) -> Side {
        let (stream, _) = within("a connection", self.0.accept()).await.expect("a connection");
        Side(BufReader::new(stream))
    }

    /// Whether nobody has connected.
    fn has_nobody(&self) -> bool {
        use futures_util::FutureExt;
        self.0.accept().now_or_never().is_none()
    }

    /// The two ends of a tunnel.
    async fn tunnel(&self, gateway: &Gateway) -> (Side, Side) {
        let mut client = Side::to(gateway).await;
        client.asks("/socket").await;
        let mut source = self.connection().await;
        source.head().await;
        source.says(SWITCHES).await;
        assert_eq!(status(&client.head().await), "101");
        (client, source)
    }
}

/// The sum of a metric's series whose labels have `label`.
async fn metric(gateway: &Gateway, name: &str, label: &str) -> f64 {
    let text = gateway.admin_get("/metrics").await.text();
    let series = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
        let (own, labels) = series.split_once('{').unwrap_or((series, ""));
        own == name && labels.contains(label)
    });
    series.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
}

async fn becomes(gateway: &Gateway, name: &str, label: &str, value: f64) {
    let what = format!("{name} {label} becomes {value}");
    eventually(&what, async || (metric(gateway, name, label).await - value).abs() < 0.5).await;
}

/// Waits until so many tunnels are counted, each with its place toward the source and its connection.
async fn open(gateway: &Gateway, tunnels: f64) {
    for name in ["tidegate_tunnels", "tidegate_source_in_flight", "tidegate_connections"] {
        becomes(gateway, name, "", tunnels).await;
    }
}
