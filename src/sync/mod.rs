//! Changes and their deliveries.
//!
//! ```text
//! INTENT --2xx from the source--> COMMITTED --> one delivery per destination: ready -> in flight -> delivered
//!    |                                                          |  waiting until T (backoff, Retry-After)
//!    |--refused by the source, never sent--> ABORTED            |  held (breaker open, paused, 401/403)
//!    |--5xx, timeout, reset, crash--> IN DOUBT                  |  parked (an earlier change of the key is dead)
//!         the source is read again -> ABORTED or RECONCILED     |  dead letter -> redriven, discarded
//! ```
//!
//! [`Engine::begin`] makes the intent durable (I1) and holds the key's turn; the [`Intent`] tells
//! what became of it. `journal` is where everything is durable (I2, I11), `turns` and
//! `delivery/lanes` keep the order (I3), `delivery/worker` is one task a destination (I4), `resolve`
//! ends doubts. What if the process dies right here? An intent without an outcome is in doubt, a
//! delivery without a settlement is sent again with the same id; nothing else is kept in memory only.

mod backlog;
pub mod change;
mod delivery;
mod destinations;
mod engine;
mod error;
pub mod failpoint;
mod intent;
mod journal;
mod key;
mod operate;
mod ports;
mod resolve;
mod settings;
pub mod status;
#[cfg(test)]
mod tests;
mod turns;

pub use change::{ChangeId, Draft, DraftKey, KeySource, KeyTemplate, Version};
pub use engine::Engine;
pub use error::{CommandError, OpenError, RecordError};
pub use intent::Intent;
pub use operate::{Resolution, Run};
pub use ports::{Fenced, Ports, ReadSource, SourceState};
pub use settings::{
    BreakerSettings, DestinationSettings, OnFailure, Removed, RetrySettings, RouteSync, Settings, Start,
};
pub use status::{ChangeFilter, ChangeView, DeadLetterFilter, DeadLetterView, DestinationStatus};
