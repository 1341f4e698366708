//! Deliveries: one worker a destination, so that one's trouble is nobody else's (I4).
//!
//! `lanes` says which delivery is next, `pace` and `budget` when, `request` makes what is sent, `attempt`
//! asks the destination, `outcome` types the answer, `retry` says what follows, `decide` writes it down.
//! `course` holds what of this is pure, and `worker` plays it for one destination; `replay` puts what it
//! has had before in front of what it gets next. In `format = "state"` the source of a change is read before
//! its attempt (`state`): `reads` says when, `covered` for which changes that is not needed any more.

mod allow;
mod answer;
mod attempt;
mod budget;
mod carrier;
mod cloudevents;
mod command;
mod concurrency;
mod connector;
mod course;
mod covered;
mod decide;
mod fair;
mod frontier;
mod key_state;
mod lanes;
pub(super) mod outcome;
mod pace;
mod percent;
mod rate;
mod reads;
mod renew;
mod replay;
mod request;
pub(super) mod retry;
mod search;
mod seen;
mod state;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use answer::Keeper;
pub(super) use command::{Act, Acted, Command, WorkerStatus};
pub(super) use replay::{Begun, Ordered};
pub(super) use worker::{Parts, Worker};
