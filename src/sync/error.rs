//! What can go wrong, as decisions for the caller.

use super::turns::Busy;
use std::path::PathBuf;

/// Why a change is not recorded; but for [`RecordError::Undecided`] nothing was sent to the source.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The journal is full: 507.
    #[error("the journal is full")]
    Full,
    /// The journal cannot write: 503.
    #[error("the journal cannot be written")]
    Unavailable,
    /// Too many writes of this key wait already: 503.
    #[error("too many writes of this key are waiting")]
    KeyBusy,
    /// A change of this key is in doubt, and nobody may write it before it is known what it has: 503.
    #[error(
        "an earlier change of this key is in doubt; writes of it go on once the source has told what it has"
    )]
    KeyInDoubt,
    /// The source has answered, and its outcome is not durable: 500. Not to be sent again blindly.
    #[error("the source has answered; whether that is recorded is not known")]
    Undecided,
}

impl From<Busy> for RecordError {
    fn from(busy: Busy) -> Self {
        match busy {
            Busy::Writes => Self::KeyBusy,
            Busy::Doubt => Self::KeyInDoubt,
        }
    }
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the journal.
    #[error("the journal folder {folder} is in use by another process; stop it or set another sync.data")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The file contradicts itself, and what is not settled cannot be told.
    #[error(
        "the journal in {folder} is damaged: {found}. See what `tidegate journal check --data {folder}` finds; \
         restore a backup, or move the folder away, start with an empty one and compare source and destinations"
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What was found first.
        found: String,
    },
    /// The folder or the file cannot be used.
    #[error("the journal in {folder} cannot be opened: {cause}")]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What the system or `SQLite` said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a journal at rest could not be examined.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// A process has it open.
    #[error("the journal folder {folder} is in use by a process; stop that first")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// It is not there, or cannot be read.
    #[error("the journal in {folder} cannot be read: {cause}")]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// What the system or `SQLite` said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why an operator's call was refused.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such destination.
    #[error("there is no destination of that name")]
    UnknownDestination,
    /// No such source.
    #[error("there is no source of that name")]
    UnknownSource,
    /// It was configured once, and something is left of it.
    #[error(
        "it is not configured any more, and what is left of it is kept: configure it again and reload; of a \
         destination, sync.removed = \"drop\" gives that up"
    )]
    NotConfigured,
    /// No such change.
    #[error("there is no change of that id; delivered ones are kept for sync.retention")]
    UnknownChange,
    /// No dead letter of that change.
    #[error("there is no dead letter of that change")]
    UnknownDeadLetter,
    /// No such operation.
    #[error("there is no operation of that number; the last ones are kept until a restart")]
    UnknownOperation,
    /// A replay to the destination has not ended.
    #[error("a replay to this destination is under way; wait for its end, or stop it: see /v1/operations")]
    ReplayUnderWay,
    /// As many operations are under way as may be.
    #[error("too many operations are under way; wait for their end, or stop some: see /v1/operations")]
    TooManyOperations,
    /// The journal is too full for more deliveries.
    #[error("the journal is too full to have more deliveries wait")]
    Full,
    /// A change that is not in doubt.
    #[error("the change is not in doubt; there is nothing to resolve")]
    NotInDoubt,
    /// The journal cannot be read or written.
    #[error("the journal cannot be used at the moment")]
    Unavailable,
}
