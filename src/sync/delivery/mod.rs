//! Deliveries: one worker a destination, so that one's trouble is nobody else's (I4).
//!
//! `lanes` says which delivery is next, `pace` and `budget` when, `attempt` asks the destination, `outcome`
//! types the answer, `retry` says what follows, `decide` writes it down. `course` holds what of this is
//! pure, and `worker` plays it for one destination.

mod attempt;
mod budget;
mod command;
mod concurrency;
mod course;
mod decide;
mod fair;
mod frontier;
mod key_state;
mod lanes;
mod outcome;
mod pace;
mod retry;
mod search;
#[cfg(test)]
mod tests;
mod worker;

pub(super) use command::{Act, Command, WorkerStatus};
pub(super) use worker::{Parts, Worker};
