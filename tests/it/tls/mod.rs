//! TLS on the public listeners, toward sources and toward destinations. Every certificate is made here.

mod clients;
mod files;
mod handshakes;
mod hostile;
mod outward;

use crate::support::tls::{Authority, Issued};
use crate::support::{EVERYTHING, Reply, ScriptedSource, Setup};

/// Keys of `[server]` that switch TLS on, by `server.pem` and `server.key`.
const TLS: &str = "tls = { cert = \"server.pem\", key = \"server.key\" }";

async fn source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.path().to_owned()).cache_control("max-age=60"));
    source
}

/// A configuration whose listeners show this, with further tables.
fn secured(source: &ScriptedSource, shown: &Issued, tls: &str, more: &str) -> Setup {
    let setup = Setup::new(format!("{}{EVERYTHING}{more}", source.table())).server(tls);
    shown.write(setup.folder(), "server");
    setup
}

/// An authority, and a certificate of it for the address that tests listen on and for two names.
fn certificates() -> (Authority, Issued) {
    let authority = Authority::new("test authority");
    let shown = authority.issue(&["127.0.0.1", "a.example", "b.example"]);
    (authority, shown)
}
