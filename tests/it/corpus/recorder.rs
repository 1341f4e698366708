//! A source that reads as strictly as can be and records every request byte for byte.

use super::cases::shown;
use crate::support::source::table;
use crate::support::wait::lock;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What Tidegate says of a stranger on every request that has nothing of it already.
const OWN: [&str; 6] = [
    "via: 1.1 tidegate",
    "cdn-loop: tidegate",
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-proto: http",
    "x-forwarded-host: a",
    "forwarded: for=127.0.0.1;host=\"a\";proto=http",
];

/// And of every request that came by HTTP/2, whose clients all take trailers.
const OWN_OF_HTTP2: [&str; 3] = ["via: 2.0 tidegate", "te: trailers", "connection: te"];

/// What has come, oldest first: whole requests as the corpus would say them, and what was no whole request.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) whole: Vec<String>,
    /// Requests that ended before their end.
    pub(super) unfinished: Vec<String>,
    /// What cannot be read as a request at all.
    pub(super) garbage: Vec<String>,
}

pub(super) struct Recorder {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let own = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&own)));
            }
        });
        Self { address, seen }
    }

    pub(super) fn table(&self) -> String {
        table(&format!("http://{}", self.address))
    }

    /// What has come since the last look.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *lock(&self.seen))
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut buffer = Vec::new();
    loop {
        match request(&mut stream, &mut buffer).await {
            Ok(Some((start, text))) => {
                lock(&seen).whole.push(text);
                if stream.write_all(&answer(&start)).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            // A connection that ends between two requests, by a reset too, leaves none unfinished.
            Err(Fault::Cut) if buffer.is_empty() => return,
            Err(Fault::Cut) => return lock(&seen).unfinished.push(shown(&buffer)),
            Err(Fault::Garbage) => return lock(&seen).garbage.push(shown(&buffer)),
        }
    }
}

fn answer(start: &str) -> Vec<u8> {
    let control = if start.contains(" /hit ") { "max-age=3600" } else { "no-store" };
    let content = if start.starts_with("HEAD ") { "" } else { "ok" };
    format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: 2\r\n\r\n{content}").into_bytes()
}

enum Fault {
    Cut,
    Garbage,
}

/// The next request: its first line, and all of it with its content decoded.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<(String, String)>, Fault> {
    let Some(head) = line_group(stream, buffer).await? else { return Ok(None) };
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let lines: Vec<&str> = lines.collect();
    let values = |name: &str| {
        let named = lines.iter().filter_map(|line| line.split_once(": ")).filter(|(own, _)| *own == name);
        named.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    if start.split(' ').count() != 3
        || !start.ends_with(" HTTP/1.1")
        || head.replace("\r\n", "").contains(['\r', '\n', '\0'])
    {
        return Err(Fault::Garbage);
    }
    let content = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Vec::new(),
        ([length], []) => exactly(stream, buffer, length.parse().map_err(|_| Fault::Garbage)?).await?,
        ([], [coding]) if coding == "chunked" => chunks(stream, buffer).await?,
        _ => return Err(Fault::Garbage),
    };
    let is_http2 = lines.contains(&OWN_OF_HTTP2[0]);
    let is_own =
        |line: &&str| OWN.contains(line) || is_request_id(line) || (is_http2 && OWN_OF_HTTP2.contains(line));
    let kept: Vec<&str> = lines.into_iter().filter(|line| !is_own(line)).collect();
    let text = [start.as_str()].into_iter().chain(kept).collect::<Vec<_>>().join("\r\n");
    Ok(Some((start, normal(&[text.as_bytes(), b"\r\n\r\n", &content].concat()))))
}

/// The name of a request, by which its log lines are found.
fn is_request_id(line: &str) -> bool {
    let id = line.strip_prefix("x-request-id: ");
    id.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A message as the corpus would say it, with its field lines in the order of their names: which of two
/// different names is first means nothing (RFC 9110 5.3).
pub(super) fn normal(message: &[u8]) -> String {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(message.len());
    let (head, rest) = message.split_at(end);
    let head = String::from_utf8_lossy(head);
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    let start = lines.remove(0);
    lines.sort_by_key(|line| line.split(':').next());
    let head = [start].into_iter().chain(lines).collect::<Vec<_>>().join("\r\n");
    shown(&[head.as_bytes(), rest].concat())
}

/// All up to an empty line; `None` where the connection ended before it began.
async fn line_group(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Fault> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let mut group: Vec<u8> = buffer.drain(..end + 4).collect();
            group.truncate(end);
            return Ok(Some(group));
        }
        if buffer.is_empty() {
            if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
                return Ok(None);
            }
        } else {
            more(stream, buffer).await?;
        }
    }
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Fault> {
    match stream.read_buf(buffer).await {
        Ok(read) if read > 0 => Ok(()),
        _ => Err(Fault::Cut),
    }
}

async fn exactly(stream: &mut TcpStream, buffer: &mut Vec<u8>, count: usize) -> Result<Vec<u8>, Fault> {
    while buffer.len() < count {
        more(stream, buffer).await?;
    }
    Ok(buffer.drain(..count).collect())
}

/// The content, and behind it the trailers as lines of their own.
async fn chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Vec<u8>, Fault> {
    let mut content = Vec::new();
    loop {
        let line = line(stream, buffer).await?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| Fault::Garbage)?;
        if size == 0 {
            break;
        }
        content.extend(exactly(stream, buffer, size).await?);
        if exactly(stream, buffer, 2).await? != b"\r\n" {
            return Err(Fault::Garbage);
        }
    }
    loop {
        let line = line(stream, buffer).await?;
        if line.is_empty() {
            return Ok(content);
        }
        content.extend(b"\r\n");
        content.extend(line.as_bytes());
    }
}

async fn line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<String, Fault> {
    loop {
        if let Some(end) = buffer.windows(2).position(|window| window == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..end + 2).collect();
            return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        more(stream, buffer).await?;
    }
}
