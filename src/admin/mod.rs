//! The operators' listener.

use crate::secret::Secret;
use std::net::SocketAddr;

/// What the admin listener is built from (`[admin]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What `/v1` asks for; `None` on loopback only.
    pub token: Option<Secret>,
    /// Further Host values that are answered.
    pub hosts: Vec<String>,
}
