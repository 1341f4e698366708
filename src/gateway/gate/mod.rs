//! The gate on the bytes of HTTP/1: it frames one message at a time, and hyper sees only what passed,
//! so that two parsers cannot come to different ends of one message (RFC 9112 11.2). Pure.
//!
//! ```text
//! HEAD --whole and well-formed--> BODY(length | chunked) --its end--> DONE --answered--> HEAD
//! ```

mod chunked;
mod head;
mod plain;

pub(super) use plain::PlainLine;

use super::Limits;
use super::strict::Refusal;
use chunked::Chunked;
use head::Framing;
use http::{HeaderMap, HeaderName, HeaderValue};

/// What HTTP/2 begins with where it was not agreed on before (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What may be handed on of the bytes that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// So many bytes from the front.
    Bytes(usize),
    /// More have to arrive first.
    More,
    /// The message is whole; the next one waits until this one is answered.
    Done,
}

/// The field lines of a message, with the empty line behind them, where its head is whole and well-formed and
/// has no content; else `None`, and no judgement was made.
pub(super) fn lines<'a>(arrived: &'a [u8], line: &PlainLine<'_>, limits: &Limits) -> Option<&'a [u8]> {
    match head::whole(arrived, 0, limits) {
        Ok(Some((length, Framing::None))) => arrived.get(line.bytes..length),
        _ => None,
    }
}

/// The fields of such lines as a map.
pub(super) fn fields(lines: &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\r").filter(|line| !line.is_empty()) else { continue };
        let (name, value) = head::field(line).ok()?;
        fields.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(fields)
}

/// Where in a message the gate stands.
#[derive(Debug)]
enum Stage {
    /// So many bytes of the head have been looked at already.
    Head(usize),
    Length(u64),
    Chunked(Chunked),
    Done,
}

/// Whether the message that is under way has its answer: content may still come behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Awaited,
    Given,
}

/// The gate of one connection.
#[derive(Debug)]
pub(super) struct Gate {
    stage: Stage,
    answer: Answer,
    limits: Limits,
}

impl Gate {
    pub(super) const fn new(limits: Limits) -> Self {
        Self { stage: Stage::Head(0), answer: Answer::Awaited, limits }
    }

    /// The message was answered: the next may pass, once this one is whole.
    pub(super) fn answered(&mut self) {
        self.answer = match self.stage {
            Stage::Head(_) => Answer::Awaited,
            Stage::Length(_) | Stage::Chunked(_) | Stage::Done => Answer::Given,
        };
    }

    /// Whether the next message has not begun: nothing of what has arrived was looked at, and the one before is whole
    /// and answered.
    pub(super) const fn is_between(&self) -> bool {
        matches!((&self.stage, self.answer), (Stage::Head(0), _) | (Stage::Done, Answer::Given))
    }

    /// Whether content is still to come.
    pub(super) const fn is_in_content(&self) -> bool {
        matches!(self.stage, Stage::Length(_) | Stage::Chunked(_))
    }

    /// How much of what has arrived may pass; what passes must be taken away before the next call.
    ///
    /// # Errors
    /// The [`Refusal`] of a message that is not well-formed. Nothing of its head has passed.
    pub(super) fn look(&mut self, arrived: &[u8]) -> Result<Passage, Refusal> {
        if let (Stage::Done, Answer::Given) = (&self.stage, self.answer) {
            (self.stage, self.answer) = (Stage::Head(0), Answer::Awaited);
        }
        match &mut self.stage {
            Stage::Head(seen) => {
                // It may be the preface of HTTP/2 as long as it has not differed: no head of HTTP/1 yet, and where it
                // stays half too long it is 408 as any other beginning, also behind a request.
                if PREFACE.starts_with(arrived) {
                    return Ok(Passage::More);
                }
                let Some((length, framing)) = head::whole(arrived, *seen, &self.limits)? else {
                    *seen = arrived.len();
                    return Ok(Passage::More);
                };
                self.stage = match framing {
                    Framing::None | Framing::Length(0) => Stage::Done,
                    Framing::Length(length) => Stage::Length(length),
                    Framing::Chunked => Stage::Chunked(Chunked::default()),
                };
                Ok(Passage::Bytes(length))
            }
            Stage::Length(left) => {
                let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
                *left -= bytes as u64;
                if *left == 0 {
                    self.stage = Stage::Done;
                }
                Ok(if bytes == 0 { Passage::More } else { Passage::Bytes(bytes) })
            }
            Stage::Chunked(chunked) => {
                let bytes = chunked.look(arrived)?;
                if chunked.is_whole() {
                    self.stage = Stage::Done;
                }
                Ok(if bytes == 0 { Passage::More } else { Passage::Bytes(bytes) })
            }
            Stage::Done => Ok(Passage::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMITS: Limits = Limits {
        head_bytes: 200,
        fields: 5,
        target_bytes: 50,
        body_bytes: None,
        connections: 1,
        connections_per_address: None,
        in_flight_bytes: 1 << 20,
        header_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        body_rate_bytes: 1,
    };

    /// Feeds a stream in pieces of `size`; the messages that passed, each as soon as it was answered.
    fn messages(stream: &[u8], size: usize) -> Result<Vec<String>, Refusal> {
        let mut gate = Gate::new(LIMITS);
        let (mut arrived, mut messages, mut message) = (Vec::new(), Vec::new(), Vec::new());
        for piece in stream.chunks(size) {
            arrived.extend_from_slice(piece);
            loop {
                match gate.look(&arrived)? {
                    Passage::More => break,
                    Passage::Bytes(bytes) => message.extend(arrived.drain(..bytes)),
                    Passage::Done => {
                        messages.push(String::from_utf8(std::mem::take(&mut message)).unwrap());
                        gate.answered();
                        if arrived.is_empty() {
                            break;
                        }
                    }
                }
            }
        }
        assert!(message.is_empty() && arrived.is_empty(), "left: {message:?} {arrived:?}");
        Ok(messages)
    }

    #[test]
    fn messages_are_framed_one_at_a_time_however_they_arrive() {
        let given = [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
            "GET /last HTTP/1.0\r\n\r\n",
        ];
        let stream = given.concat();
        for size in 1..stream.len() {
            assert_eq!(
                messages(stream.as_bytes(), size).as_deref(),
                Ok(&given.map(str::to_owned)[..]),
                "{size}"
            );
        }
    }

    #[test]
    fn rfc9112_9_3_content_may_end_behind_its_answer_and_the_next_passes() {
        let next = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for (framed, rest) in
            [("Content-Length: 3", "abc"), ("Transfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n")]
        {
            let head = format!("POST /a HTTP/1.1\r\nHost: a\r\n{framed}\r\n\r\n");
            let mut gate = Gate::new(LIMITS);
            assert_eq!(gate.look(head.as_bytes()), Ok(Passage::Bytes(head.len())));
            gate.answered();
            assert_eq!(gate.look(b""), Ok(Passage::More), "its content is awaited");
            assert!(gate.is_in_content());
            let both = [rest.as_bytes(), next].concat();
            assert_eq!(gate.look(&both), Ok(Passage::Bytes(rest.len())));
            assert!(!gate.is_in_content());
            assert_eq!(gate.look(next), Ok(Passage::Bytes(next.len())), "{framed}");
            assert_eq!(gate.look(next), Ok(Passage::Done), "the next one is not answered");
        }
    }

    #[test]
    fn rfc9113_3_4_a_preface_is_no_head_until_it_differs() {
        for beginning in (0..PREFACE.len()).filter_map(|length| PREFACE.get(..length)) {
            let mut gate = Gate::new(LIMITS);
            assert_eq!(gate.look(beginning), Ok(Passage::More), "{beginning:?}");
            if beginning.len() >= b"PRI * HTTP/2.0\r\n\r\n".len() {
                let other = [beginning, b"X"].concat();
                assert_eq!(gate.look(&other), Err(Refusal::Version), "{other:?}");
            }
        }
    }

    #[test]
    fn nothing_of_a_message_that_is_refused_passes() {
        let mut gate = Gate::new(LIMITS);
        let smuggled =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(gate.look(smuggled), Err(Refusal::Framing));
    }
}
