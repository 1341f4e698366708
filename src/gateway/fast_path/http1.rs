//! The fast path of HTTP/1.1: from the bytes of a head to those of its answer.

use super::lines::{self, Shape};
use super::{FastPath, plain, take};
use crate::gateway::Limits;
use crate::gateway::gate::{self, PlainLine};
use bytes::Bytes;
use std::fmt;
use tokio::time::Instant;

/// Field lines that are kept for the next request; longer ones go the long way.
const LINES_BYTES_MAX: usize = 4 * 1024;

/// Field lines as they came, with the empty line behind them.
pub(in crate::gateway) struct Lines(Box<[u8]>);

/// Without what may be a secret (I12).
impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({} bytes)", self.0.len())
    }
}

/// An answer whose head is written.
#[derive(Debug)]
pub(in crate::gateway) struct Answered {
    /// When its request was looked at.
    pub since: Instant,
    /// Bytes of the request's head.
    pub request_bytes: usize,
    /// Goes behind the head.
    pub content: Bytes,
}

impl FastPath<Lines> {
    /// Answers what is at the front of what has arrived, and writes the head of the answer behind `out`; `None`: it
    /// goes the long way, and `out` is as it was.
    pub(in crate::gateway) fn answer(
        &mut self,
        arrived: &[u8],
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Option<Answered> {
        let written = out.len();
        let answered = self.contained(|path| path.written(arrived, limits, out));
        if answered.is_none() {
            out.truncate(written);
        }
        answered
    }

    fn written(&mut self, arrived: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Option<Answered> {
        let since = Instant::now();
        let line = PlainLine::of(arrived).filter(|_| self.is_worth_a_look())?;
        let gateway = self.in_force.gateway();
        if gateway.tells_of_hits() {
            return None;
        }
        let behind = arrived.get(line.bytes..)?;
        let known = self.known(
            &gateway,
            |Lines(lines)| behind.starts_with(lines),
            |peer| {
                let lines =
                    gate::lines(arrived, &line, limits).filter(|lines| lines.len() <= LINES_BYTES_MAX)?;
                Some((Lines(lines.into()), plain::of_lines(lines, peer, &gateway.settings)))
            },
        )?;
        let request_bytes = line.bytes + known.fields.0.len();
        if line.target.len() as u64 > limits.target_bytes || request_bytes as u64 > limits.head_bytes {
            return None;
        }
        let request = known.request.as_deref_mut()?;
        let now = gateway.clock.now();
        request.becomes(line.method, line.target, since + gateway.settings.request_timeout)?;
        let hit = take(&gateway, request, Shape::of, now)?;
        let content = lines::write(&hit, request, now, out);
        hit.answered(since);
        Some(Answered { since, request_bytes, content })
    }
}
