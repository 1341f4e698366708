//! An HTTP/1.1 server on port 0 that answers as it is told: with gates, cuts and resets anywhere.

use super::wait::Gate;
use super::wire::{Body, Fields, Framing, Wire};
use futures_util::future::BoxFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// The request target, byte for byte.
    pub(crate) target: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

impl Received {
    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A part of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Bytes(Vec<u8>),
    /// Goes on when the gate is open.
    Wait(Gate),
    /// Closes properly, though the message may not be complete.
    Cut,
    /// Closes with a reset.
    Reset,
    /// Says that nothing more will be said, and goes on listening.
    HalfClose,
}

/// An answer: steps before its head, the head, steps of its body.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    before: Vec<Step>,
    body: Vec<Step>,
    framing: Framing,
    trailers: String,
}

impl Reply {
    /// An answer with this body, framed by its length.
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let bytes = body.into();
        let framing = Framing::Length(bytes.len() as u64);
        Self {
            status,
            fields: Vec::new(),
            before: Vec::new(),
            body: vec![Step::Bytes(bytes)],
            framing,
            trailers: String::new(),
        }
    }

    /// 200 with this body.
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    /// 200 in chunks, with whatever stands between them.
    pub(crate) fn chunks(steps: impl Into<Vec<Step>>) -> Self {
        Self { framing: Framing::Chunked, body: steps.into(), ..Self::ok("") }
    }

    /// 200 that promises `length` bytes and then takes these steps.
    pub(crate) fn promising(length: u64, steps: impl Into<Vec<Step>>) -> Self {
        Self { framing: Framing::Length(length), body: steps.into(), ..Self::ok("") }
    }

    /// No answer at all.
    pub(crate) fn none(step: Step) -> Self {
        Self::ok("").after(step)
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A trailer, after the last chunk.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers += &format!("{name}: {value}\r\n");
        self
    }

    /// `Cache-Control: value`.
    pub(crate) fn cache_control(self, value: &str) -> Self {
        self.field("Cache-Control", value)
    }

    /// The same for one of many paths: `{path}` in its fields is that path.
    pub(crate) fn in_place(mut self, path: &str) -> Self {
        for (_, value) in &mut self.fields {
            *value = value.replace("{path}", path);
        }
        self
    }

    /// Sends an interim response before, with these field lines.
    pub(crate) fn interim(self, status: u16, lines: &str) -> Self {
        self.after(Step::Bytes(format!("HTTP/1.1 {status} Scripted\r\n{lines}\r\n").into_bytes()))
    }

    /// Takes a step before the head is sent.
    pub(crate) fn after(mut self, step: Step) -> Self {
        self.before.push(step);
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        match self.framing {
            Framing::Length(_) if matches!(self.status, 100..200 | 204 | 304) => {}
            Framing::Length(length) => head += &format!("Content-Length: {length}\r\n"),
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => head.push_str("Connection: close\r\n"),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Answers requests; each is asked for in a task of its connection.
pub(crate) type Handler = Arc<dyn Fn(Received) -> BoxFuture<'static, Reply> + Send + Sync>;

/// A listening server; it stops with all its connections when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                open.spawn(serve(stream, Arc::clone(&handler)));
                while open.try_join_next().is_some() {}
            }
        });
        Self { address, connections, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections have been accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An end of a connection is an end, whatever the reason: the tests look at what was received.
async fn serve(stream: TcpStream, handler: Handler) {
    let mut wire = Wire::new(stream);
    while let Ok(Some(request)) = receive(&mut wire).await {
        let content = if request.method == "HEAD" { Content::Left } else { Content::Sent };
        let reply = handler(request).await;
        match answer(&mut wire, &reply, content).await {
            Ok(After::KeepAlive) => {}
            Ok(After::Reset) => return wire.reset(),
            Ok(After::Close) | Err(_) => return,
        }
    }
}

async fn receive(wire: &mut Wire) -> io::Result<Option<Received>> {
    let Some((start, fields)) = wire.head().await? else { return Ok(None) };
    let mut words = start.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let mut content = Body::new(Framing::of(&fields, Framing::Length(0)));
    let body = content.all(wire).await?;
    Ok(Some(Received { method, target, fields, body, trailers: content.trailers }))
}

/// Whether the answer to a method has content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Sent,
    Left,
}

enum After {
    KeepAlive,
    Close,
    Reset,
}

async fn answer(wire: &mut Wire, reply: &Reply, content: Content) -> io::Result<After> {
    for step in &reply.before {
        match step {
            Step::Bytes(bytes) => wire.write(bytes).await?,
            Step::Wait(gate) => gate.passed().await,
            Step::Cut => return Ok(After::Close),
            Step::Reset => return Ok(After::Reset),
            Step::HalfClose => wire.half_close().await?,
        }
    }
    wire.write(&reply.head()).await?;
    if content == Content::Left || matches!(reply.status, 204 | 304) {
        return Ok(After::KeepAlive);
    }
    for step in &reply.body {
        match step {
            Step::Bytes(bytes) if bytes.is_empty() => {}
            Step::Bytes(bytes) => write_part(wire, reply.framing, bytes).await?,
            Step::Wait(gate) => gate.passed().await,
            Step::Cut => return Ok(After::Close),
            Step::Reset => return Ok(After::Reset),
            Step::HalfClose => wire.half_close().await?,
        }
    }
    match reply.framing {
        Framing::Chunked => wire.write(format!("0\r\n{}\r\n", reply.trailers).as_bytes()).await?,
        Framing::UntilClose => return Ok(After::Close),
        Framing::Length(_) => {}
    }
    Ok(After::KeepAlive)
}

async fn write_part(wire: &mut Wire, framing: Framing, bytes: &[u8]) -> io::Result<()> {
    if framing != Framing::Chunked {
        return wire.write(bytes).await;
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    wire.write(&chunk).await
}
