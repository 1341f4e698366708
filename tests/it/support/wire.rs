//! HTTP/1.1 as bytes on a socket: the tests read and write messages themselves, so that nothing
//! between them and the gateway repairs, hides or adds anything.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest head that the tests accept.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Bytes asked of a socket at once.
const READ_BYTES: usize = 16 * 1024;

/// The field lines of a message, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// The first line of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All lines of that name, joined as a list.
    pub(crate) fn list(&self, name: &str) -> String {
        let lines = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether there is a line of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn parse(lines: std::str::Split<'_, &str>) -> io::Result<Self> {
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| broken("a field line without a colon"))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self(fields))
    }
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes.
    UntilClose,
}

impl Framing {
    /// As the fields say; `otherwise` where they say nothing.
    pub(crate) fn of(fields: &Fields, otherwise: Self) -> Self {
        if fields.list("transfer-encoding").eq_ignore_ascii_case("chunked") {
            return Self::Chunked;
        }
        fields.get("content-length").and_then(|text| text.parse().ok()).map_or(otherwise, Self::Length)
    }
}

/// A connection with what was read from it but not used yet.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a connected socket takes TCP_NODELAY");
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Closes so that the other side sees a reset.
    pub(crate) fn reset(self) {
        // A socket that the other side has closed already cannot be told to linger: as good as reset.
        drop(self.stream.set_zero_linger());
    }

    /// Says that nothing more will be written.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let mut part = vec![0; READ_BYTES];
        let read = self.stream.read(&mut part).await?;
        self.buffer.extend_from_slice(&part[..read]);
        Ok(read)
    }

    async fn fill_or_cut(&mut self) -> io::Result<()> {
        match self.fill().await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within a message")),
            _ => Ok(()),
        }
    }

    /// The next message's start line and fields; `None` where the connection ended before it.
    pub(crate) async fn head(&mut self) -> io::Result<Option<(String, Fields)>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect::<Vec<_>>();
                let text = String::from_utf8_lossy(&head[..end]).into_owned();
                let mut lines = text.split("\r\n");
                let start = lines.next().unwrap_or_default().to_owned();
                return Ok(Some((start, Fields::parse(lines)?)));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(broken("a head without end"));
            }
            if self.buffer.is_empty() {
                if self.fill().await? == 0 {
                    return Ok(None);
                }
            } else {
                self.fill_or_cut().await?;
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.buffer.drain(..end + 2).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill_or_cut().await?;
        }
    }

    async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill_or_cut().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Body {
    framing: Framing,
    ended: bool,
    /// The trailers of a body in chunks that has ended.
    pub(crate) trailers: Fields,
}

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, ended: false, trailers: Fields::default() }
    }

    /// The next bytes; `None` at a proper end, an error where the message was cut.
    pub(crate) async fn next(&mut self, wire: &mut Wire) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let part = match self.framing {
            Framing::Length(0) => None,
            Framing::Length(left) => {
                if wire.buffer.is_empty() {
                    wire.fill_or_cut().await?;
                }
                let count = wire.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.framing = Framing::Length(left - count as u64);
                Some(wire.buffer.drain(..count).collect())
            }
            Framing::Chunked => chunk(wire, &mut self.trailers).await?,
            Framing::UntilClose => {
                let read = if wire.buffer.is_empty() { wire.fill().await? } else { 1 };
                (read > 0).then(|| std::mem::take(&mut wire.buffer))
            }
        };
        self.ended = part.is_none();
        Ok(part)
    }

    /// All of it.
    pub(crate) async fn all(&mut self, wire: &mut Wire) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(part) = self.next(wire).await? {
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }
}

async fn chunk(wire: &mut Wire, trailers: &mut Fields) -> io::Result<Option<Vec<u8>>> {
    let line = wire.line().await?;
    let digits = line.split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(digits, 16).map_err(|_| broken("a chunk size that is none"))?;
    if size == 0 {
        loop {
            let line = wire.line().await?;
            if line.is_empty() {
                return Ok(None);
            }
            trailers.0.extend(Fields::parse(line.split("\r\n"))?.0);
        }
    }
    let bytes = wire.exactly(size).await?;
    match wire.exactly(2).await?.as_slice() {
        b"\r\n" => Ok(Some(bytes)),
        _ => Err(broken("a chunk without its end")),
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
