//! What may be at the other end of a TLS connection that Tidegate makes instead of the one that it is for.

use super::source;
use crate::support::tls::{Authority, Issued, Validity, write};
use crate::support::{EVERYTHING, Gateway, RecordingDestination, SYNC, ScriptedSource, Setup, eventually};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// What no one may hear who was not verified.
const CANARY: &str = "canary-of-a-request";

/// What a busy machine adds to `connect_timeout`.
const SLACK: Duration = Duration::from_secs(10);

/// Connections that the destination and Redis are being tried with at any time.
const ATTEMPTS: usize = 2;

/// What the other end does with a connection.
#[derive(Clone)]
enum Way {
    /// A handshake with this, and what is behind it.
    Shows(Arc<ServerConfig>, SocketAddr),
    /// These bytes after the first that come, then nothing more, and no end.
    Stops(Vec<u8>),
    /// These bytes, and the end.
    Ends(Vec<u8>),
    /// The first bytes, and then the second again and again.
    Floods(Vec<u8>, Vec<u8>),
}

/// The other end; it stops when dropped.
struct Peer {
    address: SocketAddr,
    way: Arc<Mutex<Way>>,
    /// Connections that Tidegate has not closed.
    open: Arc<AtomicUsize>,
    /// All that came without being encrypted for anybody.
    heard: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    async fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (way, open, heard) = (Arc::new(Mutex::new(way)), Arc::default(), Arc::default());
        let shared = (Arc::clone(&way), Arc::clone(&open), Arc::clone(&heard));
        let task = tokio::spawn(async move {
            let (way, open, heard): (_, Arc<AtomicUsize>, _) = shared;
            while let Ok((stream, _)) = listener.accept().await {
                open.fetch_add(1, Ordering::Relaxed);
                let (way, open, heard) = (way.lock().unwrap().clone(), Arc::clone(&open), Arc::clone(&heard));
                tokio::spawn(async move {
                    // However it ends: the tests look at what Tidegate makes of it.
                    drop(goes(way, stream, &heard).await);
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, way, open, heard, task }
    }

    /// From the next connection on.
    fn goes(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }
}

async fn goes(way: Way, mut stream: TcpStream, heard: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    if let Way::Shows(config, to) = way {
        let mut secured = TlsAcceptor::from(config).accept(stream).await?;
        return copy_bidirectional(&mut secured, &mut TcpStream::connect(to).await?).await.map(drop);
    }
    let mut bytes = vec![0; 1024];
    let length = stream.read(&mut bytes).await?;
    bytes.truncate(length);
    heard.lock().unwrap().append(&mut bytes);
    match way {
        Way::Stops(said) => stream.write_all(&said).await?,
        Way::Ends(said) => {
            stream.write_all(&said).await?;
            stream.shutdown().await?;
        }
        Way::Floods(said, flood) => {
            stream.write_all(&said).await?;
            loop {
                stream.write_all(&flood).await?;
            }
        }
        Way::Shows(..) => {}
    }
    let ended = stream.read_to_end(&mut bytes).await;
    heard.lock().unwrap().append(&mut bytes);
    ended.map(drop)
}

/// The first message of a server that speaks this version and nothing newer.
fn hello_of(version: u8) -> Vec<u8> {
    // A record of a ServerHello: its random, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
    let mut record = vec![0x16, 3, version, 0, 42, 2, 0, 0, 38, 3, version];
    record.extend([7; 32]);
    record.extend([0, 0, 0x2F, 0]);
    record
}

/// Rows: what is at the other end; why a source's answer is 502; how a destination's state and last error begin.
fn rows(authority: &Authority, to: SocketAddr) -> Vec<(&'static str, Way, &'static str, &'static str)> {
    const CERTIFICATE: &str = "tls_certificate_error";
    const NO_TLS: &str = "tls_protocol_error";
    let shows = |issued: &Issued| Way::Shows(Arc::new(issued.server(None)), to);
    let names = &["localhost"][..];
    let right = authority.issue(names);
    let behind =
        |leaf: &Issued, chain: String| Issued { cert: leaf.cert.clone() + &chain, key: leaf.key.clone() };
    // More than a message of a handshake may have; and as many who could have signed, of whom none has.
    let large = behind(&right, authority.pem().repeat(300));
    let strangers: String = (0..8).map(|_| Authority::new("nobody").pem()).collect();
    let mazy = behind(&Authority::new("nobody").issue(names), strangers);
    let wants = right.server(Some(&Authority::new("clients")));
    let half_a_hello = hello_of(3)[..10].to_vec();
    vec![
        (
            "another name",
            shows(&authority.issue(&["other.example"])),
            CERTIFICATE,
            "held tls: its certificate is for",
        ),
        (
            "expired",
            shows(&authority.issue_as("", names, Validity::Expired)),
            CERTIFICATE,
            "held tls: its certificate has expired",
        ),
        (
            "unknown authority",
            shows(&Authority::new("others").issue(names)),
            CERTIFICATE,
            "held tls: its certificate is from an authority",
        ),
        (
            "authority of the same name",
            shows(&Authority::new("sources").issue(names)),
            CERTIFICATE,
            "held tls: its certificate cannot be verified",
        ),
        (
            "signed by itself",
            shows(&Issued::by_itself(names)),
            CERTIFICATE,
            "held tls: its certificate is from an",
        ),
        ("many signers", shows(&mazy), CERTIFICATE, "held tls: its certificate"),
        ("a chain too large", shows(&large), NO_TLS, "held tls"),
        ("TLS 1.0", Way::Stops(hello_of(1)), NO_TLS, "held tls"),
        ("TLS 1.1", Way::Stops(hello_of(2)), NO_TLS, "held tls"),
        // Alert: fatal, protocol_version.
        (
            "too new for it",
            Way::Ends(vec![0x15, 3, 1, 0, 2, 2, 70]),
            "tls_alert_received",
            "held tls: it refuses",
        ),
        (
            "wants a certificate",
            Way::Shows(Arc::new(wants), to),
            "tls_alert_received",
            "held tls: it refuses",
        ),
        (
            "plain HTTP",
            Way::Ends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".to_vec()),
            NO_TLS,
            "held tls",
        ),
        // A message of 16 MiB, sent for ever.
        ("no end", Way::Floods(vec![0x16, 3, 3, 64, 0, 2, 255, 255, 255], vec![7; 4096]), NO_TLS, "held tls"),
        ("silence", Way::Stops(Vec::new()), "connection_timeout", "running timeout"),
        ("half a hello", Way::Stops(half_a_hello.clone()), "connection_timeout", "running timeout"),
        ("an early end", Way::Ends(half_a_hello), "connection_terminated", "running connect"),
    ]
}

/// A gateway that is to speak TLS to it as its source `other`, as a destination and as Redis.
async fn toward(peer: &Peer, source: &ScriptedSource, authority: &Authority) -> Gateway {
    let (port, table) = (peer.address.port(), source.table());
    let setup = Setup::new(format!(
        "{table}[[source]]\nname = \"other\"\nurls = [\"https://localhost:{port}\"]\nca = \"ca.pem\"\n\
         connect_timeout = \"500ms\"\n\
         [[route]]\nname = \"other\"\npath = \"/other/{{*rest}}\"\nsource = \"other\"\n{EVERYTHING}{SYNC}\
         [[destination]]\nname = \"search\"\nurl = \"https://localhost:{port}\"\nca = \"ca.pem\"\ntimeout = \"1s\"\n\
         [cache.shared]\nredis = \"rediss://localhost:{port}\"\nca = \"ca.pem\"\n"
    ));
    write(setup.folder(), "ca.pem", &authority.pem());
    setup.start().await
}

/// A source is a 502 with its reason, a destination waits, Redis is done without; nobody is told a request who
/// was not verified, nothing stays open, and what is good goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_at_the_other_end_gets_nothing_and_holds_nobody_up() {
    let (source, destination) = (source().await, RecordingDestination::start().await);
    let authority = Authority::new("sources");
    let to = destination.url().trim_start_matches("http://").parse().unwrap();
    for (what, way, reason, waits) in rows(&authority, to) {
        let peer = Peer::start(way).await;
        let gateway = toward(&peer, &source, &authority).await;
        let start = Instant::now();
        let answer = gateway.get(&format!("/other/{CANARY}")).await;
        answer.assert_problem(502);
        assert!(answer.field("Proxy-Status").contains(&format!("error={reason}")), "{what}: {answer:?}");
        assert!(start.elapsed() < SLACK, "{what}: {:?}", start.elapsed());
        for expected in [false, true] {
            assert_eq!(gateway.get("/kept").await.is_hit(), expected, "{what}: from memory alone");
        }
        assert_eq!(gateway.put("/items/1", CANARY).await.status, 200, "{what}");
        let waiting = async || {
            let status = gateway.destination("search").await;
            assert_eq!(status["dead_letters"], 0, "{what}: {status}");
            let said = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", said("state"), said("last_error"))
        };
        eventually(&format!("{what}: {waits}"), async || waiting().await.starts_with(waits)).await;
        eventually("it is told of Redis", async || gateway.log_text().contains("cannot connect to Redis"))
            .await;
        assert_eq!(gateway.metric("tidegate_stored_total{tier=\"shared\"}").await, 0, "{what}");
        let is_bounded = async || peer.open.load(Ordering::Relaxed) <= ATTEMPTS;
        eventually(&format!("{what}: what was tried is closed"), is_bounded).await;
        let heard = String::from_utf8_lossy(&peer.heard.lock().unwrap()).into_owned();
        assert!(!heard.contains(CANARY) && !heard.contains("HTTP/1.1\r\n"), "{what}: {heard}");
        assert_eq!(gateway.terminate().await.status.code(), Some(0), "{what}");
    }
    assert_eq!(destination.deliveries.all().len(), 0);
    assert!(!format!("{:?}", source.requests.all()).contains("/other"));
}

/// Who is not trusted any more gets no connection: by what it shows as by what the file of authorities holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_that_is_withdrawn_while_it_runs_is_withdrawn() {
    let (source, authority) = (source().await, Authority::new("sources"));
    let to = source.url().trim_start_matches("http://").parse().unwrap();
    let shows =
        |authority: &Authority| Way::Shows(Arc::new(authority.issue(&["localhost"]).server(None)), to);
    let other = Authority::new("sources");
    let peer = Peer::start(shows(&authority)).await;
    let port = peer.address.port();
    let table =
        format!("[[source]]\nname = \"inventory\"\nurls = [\"https://localhost:{port}\"]\nca = \"ca.pem\"\n");
    let setup = Setup::new(format!("{table}{EVERYTHING}"));
    write(setup.folder(), "ca.pem", &authority.pem());
    let gateway = setup.start().await;
    let mut asked = 0;
    let mut ask = async || {
        asked += 1;
        let answer = gateway.get(&format!("/{asked}")).await;
        (answer.status, answer.field("Proxy-Status").contains("tls_certificate_error"))
    };
    assert_eq!(ask().await, (200, false));
    // The connections that were verified stay; new ones are not made to whom the file does not name.
    for (trusted, expected) in [(&other, (502, true)), (&authority, (200, false))] {
        write(setup.folder(), "ca.pem", &trusted.pem());
        assert_eq!(gateway.admin_post("/v1/reload", &serde_json::json!({})).await.status, 200);
        assert_eq!(ask().await, expected);
    }
    peer.goes(shows(&other));
    source.on("*", |_| crate::support::Reply::ok("x").field("Connection", "close"));
    assert_eq!(ask().await, (200, false), "by the connection that stands");
    assert_eq!(ask().await, (502, true));
    peer.goes(shows(&authority));
    assert_eq!(ask().await, (200, false));
}
