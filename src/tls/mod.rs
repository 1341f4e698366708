//! TLS: what the public listeners show, what is asked of sources and destinations, and what became of a
//! handshake. rustls with ring, TLS 1.2 and 1.3.
//!
//! Files are read here and nowhere else; who has a [`ClientTls`] or an [`Acceptor`] has read and fitting ones.

mod acceptor;
mod client;
mod fault;
mod files;
mod name;
mod server;
#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, Handshake, Protocol, Refused, Session};
pub use client::{ClientFiles, ClientTls, SystemRoots};
pub use fault::TlsFault;
pub use files::{FileError, Pair};
pub use server::{Place, ServerFiles, ServerTls};

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
