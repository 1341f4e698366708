//! Why a source gave no answer.

use super::ejection::Outage;

/// Why a source gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No place toward it became free in time: nothing was sent.
    #[error("too many requests toward the source are under way")]
    Busy,
    /// No place was free at once, and nobody waits for the answer: nothing was sent.
    #[error("the places toward the source are for those who wait")]
    Yielded,
    /// Tidegate holds as many bytes for others as it may: nothing was sent.
    #[error("as many bytes are in flight as may be")]
    Full,
    /// Its breaker is open: nothing was sent.
    #[error("the source has given no answer several times in a row and is left alone for a moment")]
    Open(Outage),
    /// No URI can say the target at this source: nothing was sent.
    #[error("the target is too long for the source")]
    Unsayable,
    /// No connection: nothing was sent.
    #[error("the source cannot be reached")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No head within the source's `timeout`; it may still act on the request.
    #[error("the source did not answer in time")]
    Timeout,
    /// It closed or reset the connection, or what it sent is no HTTP; it may have acted.
    #[error("the source closed without a proper answer")]
    Closed(#[source] hyper::Error),
    /// The request's own content broke off: the source could not answer it. It may have acted.
    #[error("the request's content broke off")]
    Unfinished,
    /// It changed the protocol, which nobody asked for (RFC 9110 7.8); it may have acted.
    #[error("the source switched protocols unasked")]
    Switched,
    /// The head of its answer is larger than anybody should send; it may have acted.
    #[error("the head of the source's answer is too large")]
    HeadTooLarge,
    /// The framing of its answer can be read in two ways (RFC 9112 6.3); it may have acted.
    #[error("the framing of the source's answer is ambiguous")]
    Framing,
    /// It sends interim responses without end; it may have acted.
    #[error("the source sends interim responses without end")]
    Flood,
}

impl SourceError {
    /// Whether it is certain that the source has seen nothing of the request.
    #[must_use]
    pub const fn never_sent(&self) -> bool {
        match self {
            Self::Busy | Self::Yielded | Self::Full | Self::Open(_) | Self::Unsayable | Self::Connect(_) => {
                true
            }
            Self::Timeout
            | Self::Closed(_)
            | Self::Unfinished
            | Self::Switched
            | Self::HeadTooLarge
            | Self::Framing
            | Self::Flood => false,
        }
    }
}
