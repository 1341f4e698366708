//! The head of an answer, read with as little work as tells its status and its end.

use anyhow::{Context, ensure};

/// What ends a head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Status, and where the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Of the head, its empty line included.
    pub(crate) bytes: usize,
    pub(crate) body_bytes: usize,
}

/// The head at the start of `received`, none where more of it is to come; an error where it is none, or
/// does not say how long the body is.
pub(crate) fn read(received: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(ends_at) = received.windows(HEAD_END.len()).position(|at| at == HEAD_END) else {
        return Ok(None);
    };
    let head = received.get(..ends_at).unwrap_or_default();
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    ensure!(line.starts_with(b"HTTP/1."), "no answer of HTTP/1: {:?}", String::from_utf8_lossy(line));
    let status = line.get(9..12).and_then(number).context("no status")?;
    let status = u16::try_from(status)?;
    let length = if status == 304 { Some(0) } else { content_length(head)? };
    let body_bytes = length.context("an answer without Content-Length")?;
    Ok(Some(Head { status, bytes: ends_at + HEAD_END.len(), body_bytes }))
}

/// What the head of a message says of its body's length.
pub(crate) fn content_length(head: &[u8]) -> anyhow::Result<Option<usize>> {
    for field in head.split(|byte| *byte == b'\n') {
        let Some(colon) = field.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = field.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            return value.get(1..).and_then(number).context("an odd Content-Length").map(Some);
        }
    }
    Ok(None)
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_status_and_length() {
        let good = "HTTP/1.1 200 OK\r\nX: y\r\ncontent-LENGTH:  12 \r\n\r\nabc";
        let head = read(good.as_bytes()).unwrap().unwrap();
        assert_eq!(head, Head { status: 200, bytes: good.len() - 3, body_bytes: 12 });
        for cut in 0..good.len() - 3 {
            assert_eq!(read(&good.as_bytes()[..cut]).unwrap(), None, "{cut}");
        }
        let unchanged = "HTTP/1.1 304 Not Modified\r\nContent-Length: 1024\r\n\r\n";
        assert_eq!(read(unchanged.as_bytes()).unwrap().unwrap().body_bytes, 0);
    }

    #[test]
    fn what_does_not_say_its_end_is_refused() {
        for text in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 x\r\nContent-Length: 1\r\n\r\n",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
