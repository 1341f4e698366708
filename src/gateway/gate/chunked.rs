//! Chunked content, byte for byte (RFC 9112 7.1). Pure.

use super::head;
use crate::gateway::strict::Refusal;

/// Hex digits of a chunk's size: fewer than overflow a 64-bit number.
const SIZE_DIGITS_MAX: usize = 15;

/// The longest line of a chunk's size with its extensions.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// The largest trailer section.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Where in a chunked content the gate stands.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    stage: Stage,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Whole,
}

impl Chunked {
    /// Whether the content has ended.
    pub(super) fn is_whole(&self) -> bool {
        self.stage == Stage::Whole
    }

    /// How many of the bytes that have arrived may pass; the rest waits for more.
    ///
    /// # Errors
    /// A [`Refusal`] where the grammar is broken or a bound is passed.
    pub(super) fn look(&mut self, arrived: &[u8]) -> Result<usize, Refusal> {
        let mut passed = 0;
        loop {
            let rest = arrived.get(passed..).unwrap_or_default();
            let bytes = match self.stage {
                Stage::Size => self.size(rest)?,
                Stage::Data(left) => self.data(rest, left),
                Stage::DataEnd => self.data_end(rest)?,
                Stage::Trailer => self.trailer(rest)?,
                Stage::Whole => 0,
            };
            if bytes == 0 {
                return Ok(passed);
            }
            passed += bytes;
        }
    }

    fn size(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        let Some(line) = line(rest, SIZE_LINE_BYTES_MAX)? else { return Ok(0) };
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let hex = std::str::from_utf8(digits).ok().filter(|digits| {
            (1..=SIZE_DIGITS_MAX).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let size = hex.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or(Refusal::Framing)?;
        if line.iter().any(u8::is_ascii_control) {
            return Err(Refusal::Framing);
        }
        self.stage = if size == 0 { Stage::Trailer } else { Stage::Data(size) };
        Ok(line.len() + 2)
    }

    fn data(&mut self, rest: &[u8], left: u64) -> usize {
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let left = left - bytes as u64;
        self.stage = if left == 0 { Stage::DataEnd } else { Stage::Data(left) };
        bytes
    }

    fn data_end(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.stage = Stage::Size;
                Ok(2)
            }
            [] | [b'\r'] => Ok(0),
            _ => Err(Refusal::Framing),
        }
    }

    fn trailer(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        let Some(line) = line(rest, TRAILER_BYTES_MAX - self.trailer_bytes)? else { return Ok(0) };
        if line.is_empty() {
            self.stage = Stage::Whole;
        } else {
            head::field(line)?;
        }
        self.trailer_bytes += line.len() + 2;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(line.len() + 2)
    }
}

/// The line at the front, without its end; `None` while it is not whole.
fn line(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Refusal> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) if end <= bytes_max => {
            let line = bytes.get(..end).unwrap_or_default();
            match line.strip_suffix(b"\r") {
                Some(line) if !line.contains(&b'\r') => Ok(Some(line)),
                _ => Err(Refusal::Framing),
            }
        }
        None if bytes.len() <= bytes_max => Ok(None),
        _ => Err(Refusal::Framing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds byte for byte; whether it ended well, and how much passed.
    fn fed(content: &[u8]) -> Result<(bool, usize), Refusal> {
        let (mut chunked, mut arrived, mut passed) = (Chunked::default(), Vec::new(), 0);
        for byte in content {
            arrived.push(*byte);
            let bytes = chunked.look(&arrived)?;
            arrived.drain(..bytes);
            passed += bytes;
        }
        Ok((chunked.is_whole(), passed))
    }

    #[test]
    fn rfc9112_7_1_well_formed_content_passes_whole() {
        for content in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "A;name=value\r\n0123456789\r\n00\r\nX: 1\r\nY: 2\r\n\r\n",
            "1\r\n\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(fed(content.as_bytes()), Ok((true, content.len())), "{content:?}");
        }
        assert_eq!(fed(b"3\r\nab"), Ok((false, 5)));
    }

    #[test]
    fn rfc9112_7_1_broken_content_is_refused() {
        for (content, refusal) in [
            ("3\nabc\r\n0\r\n\r\n", Refusal::Framing),
            ("3 \r\nabc\r\n0\r\n\r\n", Refusal::Framing),
            ("0x3\r\nabc\r\n0\r\n\r\n", Refusal::Framing),
            ("+3\r\nabc\r\n0\r\n\r\n", Refusal::Framing),
            (";x\r\nabc\r\n0\r\n\r\n", Refusal::Framing),
            ("\r\n", Refusal::Framing),
            ("ffffffffffffffff\r\n", Refusal::Framing),
            ("0000000000000001\r\na\r\n0\r\n\r\n", Refusal::Framing),
            ("1;\u{1}\r\na\r\n0\r\n\r\n", Refusal::Framing),
            ("1;a\rb\r\na\r\n0\r\n\r\n", Refusal::Framing),
            ("3\r\nabcd\r\n0\r\n\r\n", Refusal::Framing),
            ("3\r\nabc\n0\r\n\r\n", Refusal::Framing),
            ("3\r\nabc\r0\r\n\r\n", Refusal::Framing),
            ("0\r\nX : 1\r\n\r\n", Refusal::Field),
            ("0\r\nX: 1\n\r\n", Refusal::Framing),
            ("0\r\nX: 1\rY: 2\r\n\r\n", Refusal::Framing),
        ] {
            assert_eq!(fed(content.as_bytes()), Err(refusal), "{content:?}");
        }
    }

    #[test]
    fn i10_lines_and_trailers_are_bounded_to_the_byte() {
        // The line's end counts by its first octet.
        let size = |bytes: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(bytes - 3));
        // What 0 and the empty line take is none of it but the latter's end.
        let trailers = |bytes: usize| {
            format!("0\r\n{}X: {}\r\n\r\n", "Y: 3456\r\n".repeat(1000), "z".repeat(bytes - 9007))
        };
        for (content, is_taken) in [
            (size(SIZE_LINE_BYTES_MAX), true),
            (size(SIZE_LINE_BYTES_MAX + 1), false),
            ("000000000000001\r\na\r\n0\r\n\r\n".to_owned(), true),
            (trailers(TRAILER_BYTES_MAX), true),
            (trailers(TRAILER_BYTES_MAX + 1), false),
        ] {
            let whole = Chunked::default().look(content.as_bytes());
            assert_eq!(whole.is_ok(), is_taken, "{} bytes at once", content.len());
            assert_eq!(fed(content.as_bytes()).is_ok(), is_taken, "{} bytes, each alone", content.len());
        }
        let first = format!("0\r\nX: {}\r\n", "x".repeat(8000));
        let room = TRAILER_BYTES_MAX + 3 - first.len();
        for (unended, is_waited_for) in [(room, true), (room + 1, false)] {
            let more = Chunked::default().look(format!("{first}{}", "y".repeat(unended)).as_bytes());
            assert_eq!(more.is_ok(), is_waited_for, "{unended} bytes of a line behind others");
        }
        for (arrived, is_waited_for) in [(SIZE_LINE_BYTES_MAX, true), (SIZE_LINE_BYTES_MAX + 1, false)] {
            let more = Chunked::default().look("1".repeat(arrived).as_bytes());
            assert_eq!(more.is_ok(), is_waited_for, "{arrived} bytes without an end");
        }
    }
}
