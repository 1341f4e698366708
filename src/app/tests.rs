//! A gateway in this process, with a fault that no message can cause.

use super::*;
use crate::config;
use crate::telemetry::metrics as names;
use ::metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Records, but for one counter: whoever counts a request to the source `faulty` panics.
struct Faulty(PrometheusRecorder);

struct Fault;

impl CounterFn for Fault {
    fn increment(&self, _: u64) {
        panic!("a fault of its own");
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Faulty {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_counter(key, unit, text);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_gauge(key, unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_histogram(key, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let is_faulty = key.labels().any(|label| label.value() == "faulty");
        if key.name() == names::SOURCE_REQUESTS && is_faulty {
            return Counter::from_arc(Arc::new(Fault));
        }
        self.0.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(key, metadata)
    }
}

impl Faulty {
    fn panics(&self) -> u64 {
        let text = self.0.handle().render();
        let line = text.lines().find_map(|line| line.strip_prefix("tidegate_panics_total "));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

/// Answers every request; those for `/slow` when `go_on` is told, which begins with telling `asked`.
async fn source(listener: TcpListener, asked: Arc<Notify>, go_on: Arc<Notify>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
        tokio::spawn(async move {
            loop {
                let head = head(&mut stream).await;
                if head.contains(" /slow ") {
                    asked.notify_one();
                    go_on.notified().await;
                }
                if head.is_empty() || stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                    return;
                }
            }
        });
    }
}

/// A head; nothing at the end of a connection.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// The status of an answer, whose content is read.
async fn status(stream: &mut TcpStream) -> u16 {
    let head = head(stream).await.to_ascii_lowercase();
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split_once('\r'));
    let length = length.map_or(0, |(length, _)| length.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head.split(' ').nth(1).unwrap_or_default().parse().unwrap()
}

async fn ask(stream: &mut TcpStream, method: &str, path: &str) -> u16 {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    status(stream).await
}

/// In whichever task of a request it happens. What another connection waits for comes, and so do the next answers
/// on the same one.
#[tokio::test]
async fn a_panic_is_that_requests_500_and_counted_and_all_others_are_served() {
    let recorder = Faulty(PrometheusBuilder::new().build_recorder());
    let _here = ::metrics::set_default_local_recorder(&recorder);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, go_on) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    tokio::spawn(source(listener, Arc::clone(&asked), Arc::clone(&go_on)));
    let listens = "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let tables = [("faulty", "/faulty"), ("good", "/{*rest}")].map(|(name, path)| {
        let source = format!("[[source]]\nname = \"{name}\"\nurls = [\"{url}\"]\n");
        format!("{source}[[route]]\nname = \"{name}\"\npath = \"{path}\"\nsource = \"{name}\"\n")
    });
    let text = format!("{listens}{}", tables.concat());
    let settings = config::parse(&text, "test", Path::new(""), &|_| None).unwrap();
    let running = start(settings, Origin::Fixed).await.unwrap();

    let mut slow = TcpStream::connect(running.public[0]).await.unwrap();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    asked.notified().await;
    let mut stream = TcpStream::connect(running.public[0]).await.unwrap();
    assert_eq!(recorder.panics(), 0);
    // A relay is the request's own task, a write has another one.
    for (count, method) in [(1, "OPTIONS"), (2, "DELETE"), (3, "PUT")] {
        assert_eq!(ask(&mut stream, method, "/faulty").await, 500, "{method}");
        assert_eq!(recorder.panics(), count, "{method}");
        assert_eq!(ask(&mut stream, "GET", "/good").await, 204, "the connection goes on");
    }
    // A fill is everybody's who waits for it: each gets an answer, and the last of those who tried a 500.
    assert_eq!(ask(&mut stream, "GET", "/faulty").await, 500);
    assert!(recorder.panics() >= 5, "the fill and what was tried in its place: {}", recorder.panics());
    let mut other = TcpStream::connect(running.public[0]).await.unwrap();
    assert_eq!(ask(&mut other, "GET", "/good").await, 204);
    go_on.notify_one();
    assert_eq!(status(&mut slow).await, 204, "what was under way is answered");
    drop((stream, slow, other));
    running.stop().await;
}
