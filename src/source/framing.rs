//! Where the bytes of answers are framed otherwise than they must be (RFC 9112 2.2, 7.1), or go on behind their
//! end. It only looks; the parser decides what an answer is, but takes some of this as well.
//!
//! ```text
//! over --a request--> before --> head --empty line--> content --its end--> over
//!                       ^ interim |                   not known where it ends: nothing to see, for good
//! ```

/// The most that is kept of a line: enough for those that matter here.
const LINE_BYTES_MAX: usize = 256;

/// The longest line of a chunk's size, with its extensions.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// The most hex digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 16;

/// What bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing is wrong with them, as far as they go.
    Sound,
    /// They are framed wrongly, or are more than the answer said that it has.
    Foul,
    /// They lie behind the end of an answer, which is known without them.
    Beyond,
}

/// Whether the answer to what was asked has content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Head,
    Other,
}

/// By what an answer's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Length,
    Otherwise,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Head(Head),
    /// So many bytes are left.
    Length(u64),
    Chunks(Part),
    Over(End),
    Unknown,
}

/// What a head has said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// `None`: the first line has not ended.
    status: Option<u64>,
    framed: Framed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framed {
    #[default]
    Nohow,
    ByLength(u64),
    InChunks,
    /// In a way that is refused, or that only the parser understands.
    Oddly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Size,
    Data(u64),
    /// The CRLF behind it, or what is left of it.
    DataEnd(&'static [u8]),
    Trailers,
}

/// The answers of one connection, as their bytes come.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    asked: Asked,
    line: Line,
}

impl Framing {
    pub(super) const fn new() -> Self {
        Self { state: State::Over(End::Otherwise), asked: Asked::Other, line: Line::new() }
    }

    /// Whether no answer is awaited, as far as is known.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// Whether nothing is seen any more: the connection has to carry nothing behind that.
    pub(super) const fn is_blind(&self) -> bool {
        matches!(self.state, State::Unknown)
    }

    /// These bytes are sent, and begin a request.
    pub(super) fn asks(&mut self, bytes: &[u8]) {
        self.state = match asked(bytes) {
            Some(asked) => {
                self.asked = asked;
                State::Before
            }
            None => State::Unknown,
        };
    }

    /// These bytes have come.
    pub(super) fn hears(&mut self, mut bytes: &[u8]) -> Finding {
        while !bytes.is_empty() && self.state != State::Unknown {
            match self.step(bytes) {
                Ok((state, rest)) => (self.state, bytes) = (state, rest),
                Err(finding) => {
                    self.state = State::Unknown;
                    return finding;
                }
            }
        }
        Finding::Sound
    }

    /// Takes some of the bytes: what comes next, and the rest of them.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<(State, &'a [u8]), Finding> {
        match self.state {
            State::Before => {
                self.line.clear();
                Ok((State::Head(Head::default()), bytes))
            }
            State::Head(head) => match self.line.take(bytes) {
                None => Ok((self.state, &[])),
                Some(ended) => Ok((self.head_line(head, &ended)?, ended.rest)),
            },
            State::Length(left) => Ok(match without(bytes, left) {
                (0, rest) => (State::Over(End::Length), rest),
                (left, rest) => (State::Length(left), rest),
            }),
            State::Chunks(part) => self.chunk(part, bytes),
            State::Over(End::Length) => Err(Finding::Foul),
            State::Over(End::Otherwise) => Err(Finding::Beyond),
            State::Unknown => Ok((State::Unknown, &[])),
        }
    }

    /// A line of a head has ended so.
    fn head_line(&mut self, mut head: Head, ended: &Ended<'_>) -> Result<State, Finding> {
        let text = ended.whole.unwrap_or_else(|| self.line.text());
        // The parser skips empty lines in front of it; whoever does not comes to another head.
        if head.status.is_none() && !text.starts_with(b"HTTP/1.") {
            return Err(Finding::Foul);
        }
        if ended.ending == Ending::Bare {
            return Err(Finding::Foul);
        }
        let next = match head.status {
            None => match text.get(9..12).and_then(number) {
                None => return Err(Finding::Foul),
                status => State::Head(Head { status, ..head }),
            },
            Some(status) if text.is_empty() => self.content(status, head.framed),
            Some(_) => {
                head.framed = head.framed.and(text);
                // A length or a coding with so much padding is not looked at any further.
                if self.line.is_cut() && head.framed == Framed::Oddly {
                    return Err(Finding::Foul);
                }
                State::Head(head)
            }
        };
        self.line.clear();
        Ok(next)
    }

    /// What follows a head.
    fn content(&self, status: u64, framed: Framed) -> State {
        match (status, self.asked, framed) {
            (101, _, _) => State::Unknown,
            (100..200, _, _) => State::Before,
            (204 | 304, _, _) | (_, Asked::Head, _) => State::Over(End::Otherwise),
            (_, _, Framed::ByLength(0)) => State::Over(End::Length),
            (_, _, Framed::ByLength(length)) => State::Length(length),
            (_, _, Framed::InChunks) => State::Chunks(Part::Size),
            (_, _, Framed::Nohow | Framed::Oddly) => State::Unknown,
        }
    }

    fn chunk<'a>(&mut self, part: Part, bytes: &'a [u8]) -> Result<(State, &'a [u8]), Finding> {
        let (next, rest) = match part {
            Part::Data(left) => match without(bytes, left) {
                (0, rest) => (Part::DataEnd(b"\r\n"), rest),
                (left, rest) => (Part::Data(left), rest),
            },
            Part::DataEnd(expected) => match (expected.split_first(), bytes.split_first()) {
                (Some((byte, [])), Some((came, rest))) if byte == came => (Part::Size, rest),
                (Some((byte, left)), Some((came, rest))) if byte == came => (Part::DataEnd(left), rest),
                _ => return Err(Finding::Foul),
            },
            Part::Size | Part::Trailers => {
                let Some(ended) = self.line.take(bytes) else {
                    return Ok((State::Chunks(part), &[]));
                };
                if ended.ending == Ending::Bare {
                    return Err(Finding::Foul);
                }
                let (rest, text) = (ended.rest, ended.whole.unwrap_or_else(|| self.line.text()));
                let next = match (part, text) {
                    (Part::Trailers, []) => None,
                    (Part::Trailers, _) => Some(Part::Trailers),
                    (Part::Size, _) if self.line.length > SIZE_LINE_BYTES_MAX => return Err(Finding::Foul),
                    (Part::Size | Part::Data(_) | Part::DataEnd(_), _) => {
                        match size(text).ok_or(Finding::Foul)? {
                            0 => Some(Part::Trailers),
                            bytes => Some(Part::Data(bytes)),
                        }
                    }
                };
                self.line.clear();
                let Some(next) = next else { return Ok((State::Over(End::Otherwise), rest)) };
                (next, rest)
            }
        };
        Ok((State::Chunks(next), rest))
    }
}

impl Framed {
    /// With a further field line.
    fn and(self, line: &[u8]) -> Self {
        // Most lines are of other fields.
        let (Some(b'c' | b'C' | b't' | b'T'), Some(colon)) = (line.first(), memchr::memchr(b':', line))
        else {
            return self;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let further = if name.eq_ignore_ascii_case(b"content-length") {
            number(value).map_or(Self::Oddly, Self::ByLength)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if value.eq_ignore_ascii_case(b"chunked") { Self::InChunks } else { Self::Oddly }
        } else {
            return self;
        };
        if self == Self::Nohow { further } else { Self::Oddly }
    }
}

/// What a request that begins in these bytes asks for.
fn asked(bytes: &[u8]) -> Option<Asked> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let is_request = bytes.get(..end)?.ends_with(b" HTTP/1.1");
    is_request.then(|| if bytes.starts_with(b"HEAD ") { Asked::Head } else { Asked::Other })
}

/// The bytes behind the next `left`, and how many of those have not come.
fn without(bytes: &[u8], left: u64) -> (u64, &[u8]) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (left - taken as u64, bytes.get(taken..).unwrap_or_default())
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// The size of a chunk: digits, and extensions where there are some (RFC 9112 7.1.1).
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, behind) = line.split_at_checked(digits)?;
    let is_extended = behind.trim_ascii_start().starts_with(b";");
    if digits == 0 || digits > SIZE_DIGITS_MAX || !(behind.is_empty() || is_extended) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    CrLf,
    /// By LF alone.
    Bare,
}

/// The end of a line.
#[derive(Debug)]
struct Ended<'a> {
    ending: Ending,
    /// Its beginning, as [`Line::text`] says it; `None`: it came in parts.
    whole: Option<&'a [u8]>,
    /// What is behind it.
    rest: &'a [u8],
}

/// A line, as it comes: its beginning, and its last byte. Nothing is copied of one that comes at once.
#[derive(Debug)]
struct Line {
    kept: Vec<u8>,
    last: u8,
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { kept: Vec::new(), last: 0, length: 0 }
    }

    fn clear(&mut self) {
        self.kept.clear();
        (self.last, self.length) = (0, 0);
    }

    /// Takes the bytes up to its end; `None`: it has not come.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> Option<Ended<'a>> {
        let end = memchr::memchr(b'\n', bytes);
        let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let begins = self.length == 0;
        let kept =
            text.get(..text.len().min(LINE_BYTES_MAX.saturating_sub(self.kept.len()))).unwrap_or_default();
        self.last = text.last().copied().unwrap_or(self.last);
        self.length += text.len();
        let Some(rest) = rest.get(1..) else {
            self.kept.extend_from_slice(kept);
            return None;
        };
        let whole = if begins {
            Some(kept.strip_suffix(b"\r").unwrap_or(kept))
        } else {
            self.kept.extend_from_slice(kept);
            None
        };
        let ending = if self.last == b'\r' { Ending::CrLf } else { Ending::Bare };
        Some(Ended { ending, whole, rest })
    }

    /// Whether more of it came than is kept.
    fn is_cut(&self) -> bool {
        self.length > LINE_BYTES_MAX
    }

    /// Its beginning, without its end.
    fn text(&self) -> &[u8] {
        self.kept.strip_suffix(b"\r").unwrap_or(&self.kept)
    }
}

#[cfg(test)]
mod tests;
