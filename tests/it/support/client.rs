//! A client that sends exactly the bytes it is told to and shows what came back, when it came.

use super::wait::DEADLINE;
use super::wire::{Body, Fields, Framing, Wire};
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    framing: Framing,
    trailers: String,
}

impl Ask {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Vec::new(),
            body: None,
            framing: Framing::Length(0),
            trailers: String::new(),
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn put(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("PUT", target).body(body)
    }

    pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).body(body)
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends the body as one chunk.
    pub(crate) fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Sends a trailer after the one chunk.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers += &format!("{name}: {value}\r\n");
        self.chunked()
    }

    fn bytes(&self, to: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {to}\r\n");
        }
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        let Some(body) = &self.body else { return format!("{head}\r\n").into_bytes() };
        let mut bytes;
        if self.framing == Framing::Chunked {
            bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).into_bytes();
            bytes.extend_from_slice(body);
            bytes.extend_from_slice(format!("\r\n0\r\n{}\r\n", self.trailers).as_bytes());
        } else {
            bytes = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
            bytes.extend_from_slice(body);
        }
        bytes
    }

    /// Sends and reads the whole answer. An answer that is cut is an error.
    pub(crate) async fn send(self, to: SocketAddr) -> io::Result<Answer> {
        self.send_from(SocketAddr::from(([0, 0, 0, 0], 0)), to).await
    }

    /// The same from an address of this machine, such as 127.0.0.2, with port 0.
    pub(crate) async fn send_from(self, from: SocketAddr, to: SocketAddr) -> io::Result<Answer> {
        let exchange = async {
            let mut opened = self.open_from(from, to).await?;
            let body = opened.rest().await?;
            Ok(Answer { body, trailers: opened.body.trailers, ..opened.head })
        };
        tokio::time::timeout(DEADLINE, exchange)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
    }

    /// Sends and reads the head only.
    pub(crate) async fn open(self, to: SocketAddr) -> io::Result<Opened> {
        self.open_from(SocketAddr::from(([0, 0, 0, 0], 0)), to).await
    }

    async fn open_from(self, from: SocketAddr, to: SocketAddr) -> io::Result<Opened> {
        let stream = if from.ip().is_unspecified() {
            TcpStream::connect(to).await?
        } else {
            let socket = TcpSocket::new_v4()?;
            socket.bind(from)?;
            socket.connect(to).await?
        };
        let mut wire = Wire::new(stream);
        // A gateway that answers early may close before it has read all: the answer still counts.
        let sent = wire.write(&self.bytes(to)).await;
        loop {
            let Some((start, fields)) = wire.head().await? else {
                sent?;
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
            };
            let status = start.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
            let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, start))?;
            if (100..200).contains(&status) {
                continue;
            }
            let none = self.method == "HEAD" || matches!(status, 204 | 304);
            let framing = if none { Framing::Length(0) } else { Framing::of(&fields, Framing::UntilClose) };
            let head = Answer { status, fields, body: Vec::new(), trailers: Fields::default() };
            return Ok(Opened { head, wire, body: Body::new(framing) });
        }
    }
}

/// An answer whose body is still on its way.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Status and fields.
    pub(crate) head: Answer,
    wire: Wire,
    body: Body,
}

impl Opened {
    /// The next bytes of the body; `None` at its proper end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.body.next(&mut self.wire).await
    }

    /// The body until its proper end.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.body.all(&mut self.wire).await
    }
}

/// Whether a client sees that a source's answer broke off: the transfer is cut, or a problem stands in its place
/// where that was known in time.
pub(crate) fn is_broken(outcome: &io::Result<Answer>) -> bool {
    let is_problem = |answer: &Answer| answer.field("Content-Type") == "application/problem+json";
    outcome.as_ref().map_or(true, |answer| answer.status == 502 && is_problem(answer))
}

/// A complete answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|fault| panic!("{fault} in {:?}", self.text()))
    }

    /// A field, or an empty text.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_default()
    }

    /// The parameters of the `tidegate` member of Cache-Status, e.g. `hit`, `ttl=42`.
    pub(crate) fn cache_status(&self) -> Vec<String> {
        let list = self.fields.list("Cache-Status");
        let own = list.split(',').map(str::trim).find(|member| member.starts_with("tidegate"));
        own.map(|member| member.split(';').skip(1).map(|part| part.trim().to_owned()).collect())
            .unwrap_or_default()
    }

    /// Whether Cache-Status has this parameter.
    pub(crate) fn says(&self, parameter: &str) -> bool {
        self.cache_status().iter().any(|own| own == parameter)
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.says("hit")
    }

    /// Asserts an RFC 9457 answer of this status.
    pub(crate) fn assert_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.field("Content-Type"), "application/problem+json", "{self:?}");
        assert_eq!(self.json()["status"], status, "{self:?}");
    }
}
