//! Builds every part from [`Settings`], starts listeners and workers, and stops them in order.

use crate::config::Settings;
use std::net::SocketAddr;

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] crate::sync::OpenError),
}

/// A running gateway.
#[derive(Debug)]
pub struct Running {
    /// Where clients are listened to; real ports where 0 was asked for.
    pub public: Vec<SocketAddr>,
    /// Where operators are listened to.
    pub admin: SocketAddr,
}

impl Running {
    /// Stops accepting, lets requests finish within `server.shutdown_grace`, stops deliveries,
    /// checkpoints the journal.
    pub async fn stop(self) {
        unimplemented!()
    }
}

/// Starts a gateway on the current runtime.
///
/// # Errors
/// [`StartError`]: nothing is left running.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let _ = settings;
    unimplemented!()
}
