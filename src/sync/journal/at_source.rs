//! What is written of accepted changes on their way to their source, as values.

use super::record::{Burial, Past};
use crate::clock::Timestamp;
use crate::sync::settings::OnRefusal;

/// What an intent carries whose client is answered before its source has been asked.
#[derive(Clone, Debug)]
pub(crate) struct Acceptance {
    /// The key whose order it keeps; `None`: it waits for no other.
    pub(crate) turn: Option<String>,
    /// What a refusal of the source does to the later ones of the key.
    pub(crate) on_refusal: OnRefusal,
    /// The request's preconditions (RFC 9110 13.1): the source's alone, no destination gets them.
    pub(crate) conditions: Vec<(String, Vec<u8>)>,
}

/// What happened to accepted changes of a source, each by its number. The outcome of one that the
/// source did is an outcome like any other.
#[derive(Clone, Debug)]
pub(crate) enum AtSource {
    /// One leaves now and must not leave twice: what is found with this mark is in doubt.
    Sending { number: i64 },
    /// One is tried again later, and perhaps nothing else is sent to its source until then.
    Defer { number: i64, past: Past, next_at: Timestamp, last_error: String, rest_until: Option<Timestamp> },
    /// One is a dead letter of its source; those of its key go on or are parked.
    Bury { number: i64, past: Past, burial: Box<Burial> },
    /// Dead letters are due again at these times, with what is parked behind them.
    Redrive { due: Vec<(i64, Timestamp)> },
    /// Dead letters are given up; what is parked behind them goes on.
    Discard { numbers: Vec<i64> },
}
