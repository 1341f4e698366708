//! Reading an answer off a raw connection, no more than is needed to know its end: the driver must cost
//! less than what it measures. HTTP/1.1 with a length or in chunks.

use anyhow::{Context, bail, ensure};

/// The largest answer that is read, head included.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// What ends a head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// How an answer came about, by its Cache-Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was forwarded for this client, or says nothing.
    Forwarded,
    /// It shares another client's forward.
    Collapsed,
    /// It was stored already.
    Stored,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No byte of its content yet.
    Head,
    /// Some of its content.
    Content,
    /// All of it.
    Complete,
}

/// Where the content ends.
#[derive(Clone, Copy, Debug)]
enum End {
    At(usize),
    /// Where the next chunk's length stands.
    AfterChunks(usize),
}

/// An answer as it arrives.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    received: Vec<u8>,
    head: Option<Head>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    origin: Origin,
    content_at: usize,
    end: End,
}

impl Answer {
    /// Takes what was read; an error where it is no answer, or too large.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> anyhow::Result<Progress> {
        ensure!(self.received.len() + bytes.len() <= ANSWER_BYTES_MAX, "an answer is too large");
        self.received.extend_from_slice(bytes);
        if self.head.is_none() {
            self.head = head(&self.received)?;
        }
        let Some(head) = &mut self.head else { return Ok(Progress::Head) };
        let received = self.received.len();
        let complete = match &mut head.end {
            End::At(end) => received >= *end,
            End::AfterChunks(next) => pass_chunks(&self.received, next)?,
        };
        Ok(match complete {
            true => Progress::Complete,
            false if received > head.content_at => Progress::Content,
            false => Progress::Head,
        })
    }

    /// How a good answer came about; an error for any other status.
    pub(crate) fn origin(&self) -> anyhow::Result<Origin> {
        let head = self.head.context("no head")?;
        ensure!((200..300).contains(&head.status), "answered {}", head.status);
        Ok(head.origin)
    }
}

fn head(received: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(ends_at) = received.windows(HEAD_END.len()).position(|at| at == HEAD_END) else {
        return Ok(None);
    };
    let content_at = ends_at + HEAD_END.len();
    let text = String::from_utf8_lossy(received.get(..ends_at).unwrap_or_default()).to_ascii_lowercase();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?.parse()?;
    let (mut origin, mut end) = (Origin::Forwarded, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name {
            "content-length" => end = Some(End::At(content_at + value.trim().parse::<usize>()?)),
            "transfer-encoding" => end = Some(End::AfterChunks(content_at)),
            "cache-status" if value.contains("; collapsed") => origin = Origin::Collapsed,
            "cache-status" if value.contains("; hit") => origin = Origin::Stored,
            _ => {}
        }
    }
    let end = end.context("an answer that only its connection ends")?;
    Ok(Some(Head { status, origin, content_at, end }))
}

/// Moves `next` past the chunks that are there; whether the last one is.
fn pass_chunks(received: &[u8], next: &mut usize) -> anyhow::Result<bool> {
    loop {
        let rest = received.get(*next..).unwrap_or_default();
        let Some(line_bytes) = rest.windows(2).position(|at| at == b"\r\n") else { return Ok(false) };
        let line = std::str::from_utf8(rest.get(..line_bytes).unwrap_or_default())?;
        let Ok(chunk_bytes) = usize::from_str_radix(line, 16) else { bail!("an odd chunk length {line:?}") };
        ensure!(chunk_bytes <= ANSWER_BYTES_MAX, "a chunk is too large");
        let whole = line_bytes + 2 + chunk_bytes + 2;
        if rest.len() < whole {
            return Ok(false);
        }
        if chunk_bytes == 0 {
            return Ok(true);
        }
        *next += whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(bytes: &str) -> (Vec<Progress>, Answer) {
        let mut answer = Answer::default();
        let steps = bytes.as_bytes().iter().map(|byte| answer.take(&[*byte]).unwrap()).collect();
        (steps, answer)
    }

    #[test]
    fn an_answer_is_complete_at_its_last_byte_and_not_before() {
        let length = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        let chunks =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nA\r\n0123456789\r\n0\r\n\r\n";
        for text in [length, chunks] {
            let (steps, _) = played(text);
            let (last, before) = steps.split_last().unwrap();
            assert_eq!(*last, Progress::Complete, "{text}");
            assert!(before.iter().all(|step| *step != Progress::Complete), "{text}");
            let content_at = text.find("\r\n\r\n").unwrap() + 4;
            assert_eq!(steps[content_at - 1], Progress::Head, "{text}");
            assert_eq!(steps[content_at], Progress::Content, "{text}");
        }
        assert_eq!(played("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").0.pop(), Some(Progress::Complete));
    }

    #[test]
    fn cache_status_tells_leader_from_follower_and_stored() {
        for (field, origin) in [
            ("tidegate; fwd=uri-miss; fwd-status=200; stored", Origin::Forwarded),
            ("tidegate; fwd=uri-miss; detail=hit-for-miss", Origin::Forwarded),
            ("tidegate; fwd=uri-miss; collapsed", Origin::Collapsed),
            ("tidegate; hit; ttl=42; detail=memory", Origin::Stored),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\nCache-Status: {field}\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(played(&text).1.origin().unwrap(), origin, "{field}");
        }
    }

    #[test]
    fn what_is_no_good_answer_is_an_error() {
        assert!(played("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").1.origin().is_err());
        for text in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"]
        {
            assert!(Answer::default().take(text.as_bytes()).is_err(), "{text}");
        }
    }
}
