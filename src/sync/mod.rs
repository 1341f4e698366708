//! Changes and their deliveries.
//!
//! ```text
//! INTENT --2xx from the source--> COMMITTED --> one delivery per destination: ready -> in flight -> delivered
//!    |                                                          |  waiting until T (backoff, Retry-After)
//!    |--refused by the source, never sent--> ABORTED            |  held (breaker open, paused, 401/403)
//!    |--5xx, timeout, reset, crash--> IN DOUBT                  |  parked (an earlier change of the key is dead)
//!         the source is read again -> ABORTED or RECONCILED     |  dead letter -> redriven, discarded
//!
//! ACCEPTED (the client has its 202) --2xx from the source, asked later--> COMMITTED
//!    |--answer of a POST or PATCH lost--> IN DOUBT    |--4xx, given up--> DEAD LETTER of the source
//! ```
//!
//! [`Engine::begin`] makes the intent durable (I1) and holds the key's turn; the [`Intent`] tells
//! what became of it. `journal` is where everything is durable (I2, I11), `turns` and
//! `delivery/lanes` keep the order (I3), `delivery/worker` is one task a destination (I4), `accept/worker`
//! one a source, `resolve` ends doubts. What if the process dies right here? An intent without an outcome is in doubt, a
//! delivery without a settlement is sent again with the same id; nothing else is kept in memory only.

mod accept;
mod again;
mod answers;
mod backlog;
pub mod change;
mod dead_letters;
mod delivery;
mod destinations;
mod engine;
mod error;
pub mod failpoint;
mod in_force;
mod intent;
mod journal;
mod key;
mod operate;
pub mod operations;
mod ports;
mod repeat;
mod resolve;
mod settings;
mod signature;
pub mod status;
#[cfg(test)]
mod tests;
mod turns;

pub use again::{Answer, Pacing, ReplayOrder, Told};
pub use answers::{ANSWER_BYTES_MAX, Claim, ClaimError, Claimed, ClientKey, Hash, KeptAnswer, KeptHead};
pub use change::{ChangeId, Draft, DraftKey, KeySource, KeyTemplate};
pub use dead_letters::{LetterPage, LetterPlace};
pub(crate) use delivery::Keeper;
pub use engine::Engine;
pub use error::{CommandError, ExamineError, OpenError, RecordError};
pub use in_force::{Altered, NotPrepared, Prepared};
pub use intent::Intent;
pub use journal::{examine, has_journal};
pub use operate::{Resolution, Run};
pub use operations::OperationView;
pub use ports::{
    Fenced, Hold, Lost, Ports, ReadSource, SourceState, SourceWritten, Unreached, Unreadable, WriteSource,
};
pub use settings::{
    Addresses, Allow, BreakerSettings, Class, DestinationSettings, Format, OnFailure, OnRefusal,
    RateSettings, Removed, Repeats, RetrySettings, RouteSync, Settings, SourceSettings, Start, SyncMode,
};
pub use signature::{BadKey, SigningKey};
pub use status::{
    AcceptedStatus, AtRestReport, ChangeFilter, ChangeState, ChangeView, DeadLetterFilter, DeadLetterView,
    DeadLetters, DestinationStatus, JournalState,
};
