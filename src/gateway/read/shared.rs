//! What a request gets of an answer that several share while its body grows: the whole, the part that its
//! Range names, or nothing.

use super::Wanted;
use super::collapsed::{Outcome, Part};
use crate::cache::collapse::{Follower, Joined};
use crate::cache::growing::{Extent, Reader};
use crate::cache::rules::preconditions::Answer as Precondition;
use crate::cache::rules::range::{self, RangeAnswer};
use crate::cache::rules::reuse::{Failure, Verdict, assess};
use crate::cache::rules::vary;
use crate::gateway::body::Body;
use crate::gateway::cache_status::Trouble;
use crate::gateway::landing::{Landing, Shared};
use crate::gateway::reply;
use http::header::RANGE;
use http::{Method, StatusCode};
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// How long a Range waits for the bytes that it names, or for the end, of a body whose length is not known;
/// then it is forwarded.
const UNKNOWN_LENGTH_WAIT_MAX: Duration = Duration::from_secs(10);

/// What a Range selects of a growing body.
enum Selected {
    Whole,
    /// These bytes, of so many where that is known.
    Bytes(Range<u64>, Option<u64>),
    /// Nothing of so many bytes.
    Nothing(u64),
    /// What cannot be cut from it while it grows.
    Elsewhere,
}

impl Wanted<'_> {
    /// Answers from what a fill shares.
    pub(super) async fn shared(
        &self,
        shared: &Shared,
        mut interest: Follower<Landing>,
        part: &Part,
    ) -> Outcome {
        if !vary::matches(&shared.head.selecting_fields, &self.request.fields) {
            return self.own_lane(&shared.head);
        }
        let now = self.gateway.clock.now();
        if interest.joined() == Joined::AfterLanding && assess(&shared.head, now) != Verdict::Fresh {
            // Whoever comes now leads another, for all who come then.
            self.gateway.flights.close(&interest);
            return Outcome::TooLate;
        }
        // What answers a Range answers nobody who sent another; of the whole everybody gets their own part.
        let is_of_another =
            |range| shared.head.status != StatusCode::OK && self.request.fields.get(RANGE) != Some(range);
        if shared.range.as_ref().is_some_and(is_of_another) {
            return Outcome::Alone;
        }
        if let Some(failure) = Failure::of_status(shared.head.status)
            && let Some(answer) = self.stale_answer(failure, Trouble::Answered(shared.head.status))
        {
            return Outcome::Answered(Box::new(answer));
        }
        let status = self.forwarded_status(shared.head.status, shared.stored, part);
        // Who waited for it is told that it broke off; who came late, or too late for the beginning, finds
        // another flight.
        if interest.joined() == Joined::AfterLanding && shared.body.is_aborted() {
            return Outcome::TooLate;
        }
        if self.request.method == Method::HEAD {
            let answer = reply::growing(shared, self.request, Body::Empty, now, status);
            return Outcome::Answered(Box::new(part.told(answer)));
        }
        let Some(reader) = shared.body.reader() else { return Outcome::TooLate };
        // The beginning is kept for the reader itself from here on.
        interest.decide();
        let answer = match self.selected(shared, &reader, part).await {
            Selected::Whole => {
                let body = Body::growing(reader, shared.length, interest);
                reply::growing(shared, self.request, body, now, status)
            }
            Selected::Bytes(range, length) => {
                let body = Body::growing(reader.only(&range), Some(range.end - range.start), interest);
                reply::growing_part(shared, self.request, body, (&range, length), now, status)
            }
            Selected::Nothing(length) => reply::unsatisfied(shared, length, now, status),
            Selected::Elsewhere => return Outcome::Alone,
        };
        Outcome::Answered(Box::new(part.told(answer)))
    }

    async fn selected(&self, shared: &Shared, reader: &Reader, part: &Part) -> Selected {
        let (method, fields) = (&self.request.method, &self.request.fields);
        let is_whole = shared.head.status != StatusCode::OK
            || !fields.contains_key(RANGE)
            || reply::evaluated(&shared.head, self.request) == Precondition::NotModified;
        if is_whole {
            return Selected::Whole;
        }
        let length = match (shared.length, part) {
            (Some(length), _) => length,
            // The source answered this very request with the whole.
            (None, Part::Leader(_)) => return Selected::Whole,
            (None, Part::Follower) => {
                let wanted = match range::asked_of_unknown(method, fields, &shared.head) {
                    Some(RangeAnswer::Whole) => return Selected::Whole,
                    Some(RangeAnswer::Single(range)) => Some(range),
                    _ => None,
                };
                let bytes = wanted.as_ref().map_or(u64::MAX, |range| range.end);
                let until = self.request.deadline.min(Instant::now() + UNKNOWN_LENGTH_WAIT_MAX);
                match (tokio::time::timeout_at(until, reader.extent(bytes)).await, wanted) {
                    (Ok(Extent::Complete(length)), _) => length,
                    (Ok(Extent::Reached), Some(range)) => return Selected::Bytes(range, None),
                    _ => return Selected::Elsewhere,
                }
            }
        };
        match (range::asked(method, fields, &shared.head, length), part) {
            (RangeAnswer::Single(range), _) => Selected::Bytes(range, Some(length)),
            (RangeAnswer::Unsatisfiable, _) => Selected::Nothing(length),
            (RangeAnswer::Several(_), Part::Follower) => Selected::Elsewhere,
            (RangeAnswer::Several(_), Part::Leader(_)) | (RangeAnswer::Whole, _) => Selected::Whole,
        }
    }
}
