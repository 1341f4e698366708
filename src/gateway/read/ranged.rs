//! The way of a GET for a part where no whole is stored: a stored part has it, or somebody's fill of the
//! whole brings it, or one forward answers all who send the same Range. Else it goes alone (`part.rs`).

use super::Wanted;
use super::collapsed::{Outcome, Part};
use crate::cache::collapse::Lane;
use crate::cache::rules::ForwardReason;
use crate::cache::rules::partial;
use crate::gateway::part;
use crate::gateway::problem::GatewayError;
use crate::gateway::reply::Answer;

/// What became of a read of a part.
pub(super) enum Parted {
    Answered(Box<Answer>),
    /// Another's forward brought nothing to it: the next one is looked for.
    Again,
    /// It is forwarded for itself.
    Alone(ForwardReason),
}

impl Wanted<'_> {
    /// Answers from a stored part.
    ///
    /// # Errors
    /// Why it is forwarded.
    pub(super) fn stored_part(&self) -> Result<Answer, ForwardReason> {
        let Self { gateway, route, key, request, reason, floor, now, .. } = *self;
        let found = gateway.cache.lookup_part(key, &request.fields, now);
        part::stored(found, route, request, (reason, floor), now)
    }

    /// Answers with a part that is stored or that others wait for too.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn part(mut self) -> Result<Parted, GatewayError> {
        let (gateway, key) = (self.gateway, self.key);
        let (cache, flights) = (&gateway.cache, &gateway.flights);
        if !part::is_plain(self.request) {
            return Ok(Parted::Alone(self.reason));
        }
        match self.stored_part() {
            Ok(answer) => return Ok(Parted::Answered(Box::new(answer))),
            Err(reason) => self.reason = reason,
        }
        if let Some(follower) = flights.join_running(key, Lane::Any, |fence| self.joins(fence)) {
            match self.awaited(follower, Part::Follower, Lane::Any).await? {
                Outcome::Answered(answer) => return Ok(Parted::Answered(answer)),
                Outcome::Alone => return Ok(Parted::Alone(self.reason)),
                Outcome::OtherVariant(_) | Outcome::TooLate | Outcome::Released => {}
            }
        }
        let is_marked = cache.is_marked(key, self.now) || cache.is_marked(&key.of_parts(), self.now);
        let Some(range) = partial::sole_range(&self.request.fields).filter(|_| !is_marked) else {
            return Ok(Parted::Alone(self.reason));
        };
        Ok(match self.collapsed(flights.part(range)).await? {
            Outcome::Answered(answer) => Parted::Answered(answer),
            Outcome::TooLate | Outcome::Released => Parted::Again,
            Outcome::OtherVariant(_) | Outcome::Alone => Parted::Alone(self.reason),
        })
    }
}
