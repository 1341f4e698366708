//! The source of all rivals, and the loop that writes constant answers: as little work as an answer can be.

use super::head;
use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What most answers hold.
pub(crate) const SMALL_BYTES: usize = 1024;
/// What `/big/` answers hold.
pub(crate) const BIG_BYTES: usize = 100 << 10;
/// The validator of all answers.
pub(crate) const ETAG: &str = "\"v1\"";
/// The largest request, and what is read at once.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// What ends a head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The answers, whole.
struct Answers {
    small: Vec<u8>,
    big: Vec<u8>,
    /// Not to be stored.
    pass: Vec<u8>,
}

impl Answers {
    fn made_at(now: SystemTime) -> Self {
        let date = httpdate::fmt_http_date(now);
        let answer = |cache_control: &str, body_bytes: usize| {
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: text/plain\r\nCache-Control: {cache_control}\r\n\
                 ETag: {ETAG}\r\nContent-Length: {body_bytes}\r\n\r\n"
            )
            .into_bytes();
            answer.resize(answer.len() + body_bytes, b'x');
            answer
        };
        Self {
            small: answer("max-age=86400", SMALL_BYTES),
            big: answer("max-age=86400", BIG_BYTES),
            pass: answer("no-store", SMALL_BYTES),
        }
    }

    fn to(&self, request: &[u8]) -> &[u8] {
        if request.starts_with(b"GET /big/") {
            &self.big
        } else if request.starts_with(b"GET /pass/") {
            &self.pass
        } else {
            &self.small
        }
    }
}

/// A source on a free port until dropped, which counts what it is asked.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicU64>,
    _serving: AbortOnDropHandle<anyhow::Result<()>>,
}

impl Origin {
    pub(crate) async fn start(now: SystemTime) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, asked) = (listener.local_addr()?, Arc::<AtomicU64>::default());
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, now, asked.clone())));
        Ok(Self { address, asked, _serving: serving })
    }

    /// Requests that came so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Answers whoever connects, until an error; counts in `asked`.
pub(crate) async fn serve(
    listener: TcpListener,
    now: SystemTime,
    asked: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let answers = Arc::new(Answers::made_at(now));
    loop {
        let (stream, _) = listener.accept().await?;
        let (answers, asked) = (answers.clone(), asked.clone());
        // A client that goes, or talks nonsense, ends its own connection only.
        tokio::spawn(async move { connection(stream, &answers, &asked).await.unwrap_or_default() });
    }
}

async fn connection(mut stream: TcpStream, answers: &Answers, asked: &AtomicU64) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut filled) = ([0; REQUEST_BYTES_MAX], 0);
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        ensure!(!room.is_empty(), "a request without an end");
        let count = stream.read(room).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        while let Some(ends_at) = end(buffer.get(..filled).unwrap_or_default())? {
            let request = buffer.get(..ends_at).context("beyond the buffer")?;
            asked.fetch_add(1, Ordering::Relaxed);
            stream.write_all(answers.to(request)).await?;
            buffer.copy_within(ends_at..filled, 0);
            filled -= ends_at;
        }
    }
}

/// Where the first request ends; none where more of it is to come.
fn end(received: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head_ends_at) = received.windows(HEAD_END.len()).position(|at| at == HEAD_END) else {
        return Ok(None);
    };
    let mut ends_at = head_ends_at + HEAD_END.len();
    if received.starts_with(b"PUT ") {
        let head = received.get(..head_ends_at).unwrap_or_default();
        ends_at += head::content_length(head)?.context("a body without Content-Length")?;
    }
    Ok((ends_at <= received.len()).then_some(ends_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_has_its_answer() {
        let answers = Answers::made_at(SystemTime::UNIX_EPOCH);
        for (request, body_bytes, stored) in [
            ("GET /hit/1 HTTP/1.1\r\n\r\n", SMALL_BYTES, true),
            ("GET /big/1 HTTP/1.1\r\n\r\n", BIG_BYTES, true),
            ("GET /pass/1 HTTP/1.1\r\n\r\n", SMALL_BYTES, false),
        ] {
            assert_eq!(end(request.as_bytes()).unwrap(), Some(request.len()));
            let answer = answers.to(request.as_bytes());
            let head = head::read(answer).unwrap().unwrap();
            assert_eq!((head.status, head.body_bytes), (200, body_bytes), "{request}");
            assert_eq!(answer.len(), head.bytes + body_bytes, "{request}");
            assert_eq!(!String::from_utf8_lossy(answer).contains("no-store"), stored, "{request}");
        }
    }

    #[test]
    fn a_request_ends_with_its_body() {
        let put = "PUT /items/1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(end(put.as_bytes()).unwrap(), Some(put.len()));
        assert_eq!(end(&put.as_bytes()[..put.len() - 1]).unwrap(), None);
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r").unwrap(), None);
        assert!(end(b"PUT / HTTP/1.1\r\n\r\n").is_err());
    }
}
