//! Full TLS handshakes, each on a connection of its own that asks for one hit.

use super::Run;
use super::contest::{CLIENTS, Cell, Measured, Row, Watch};
use super::head;
use super::report::{Finding, Findings};
use super::secure;
use super::server::Server;
use super::verdict::{Bound, Spread};
use anyhow::{Context, ensure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The row's name.
const NAME: &str = "TLS handshake and one hit";
/// The longest wait for one connection's answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// An answer with its head must fit.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// For whom the certificate is, and who is asked for: another host is misdirected (421).
const SERVER_NAME: &str = "localhost";

/// Every server that speaks TLS, in turn.
pub(crate) async fn measure(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let connector = connector(&run.setting.cert)?;
    let mut row = Row { name: NAME.to_owned(), ..Row::default() };
    let servers = secure::speaking(run);
    for (label, server) in &servers {
        row.cells.push(Cell::new(label));
        ask(server, &connector, run.plan.handshakes / 10).await.with_context(|| *label)?;
    }
    for _ in 0..run.plan.rounds.count {
        for ((label, server), cell) in servers.iter().zip(&mut row.cells) {
            cell.add(ask(server, &connector, run.plan.handshakes).await.with_context(|| *label)?);
        }
    }
    let bounds = [row.over("Tidegate", "nginx", Bound::Stated), row.over("Tidegate", "bare", Bound::Stated)];
    let rates: Vec<_> = rates(&row, "handshakes a second").into_iter().map(Some).collect();
    found.add(row, bounds.into_iter().chain(rates));
    Ok(())
}

/// What each did in a second, while the driver had its share of the machine.
pub(crate) fn rates(row: &Row, what: &str) -> Vec<Finding> {
    let rate = |cell: &Cell| {
        let compared = format!("{}, {what}", cell.label);
        Some(Finding::new(&row.name, compared, Spread::of(&cell.rates)?, Bound::Stated))
    };
    row.cells.iter().filter_map(rate).collect()
}

/// Every handshake is a full one, as of a client that was never here.
fn connector(cert: &Path) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn ask(server: &Server, connector: &TlsConnector, count: u64) -> anyhow::Result<Measured> {
    let watch = Watch::begin(server)?;
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (next, connector, address) = (next.clone(), connector.clone(), server.tls);
        clients.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < count {
                timeout(ANSWER_WAIT_MAX, one(address, &connector)).await.context("no answer")??;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    watch.end(count)
}

async fn one(address: SocketAddr, connector: &TlsConnector) -> anyhow::Result<()> {
    ensure!(address.ip().is_loopback(), "{address} is not on the loopback");
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = connector.connect(ServerName::try_from(SERVER_NAME)?, stream).await?;
    // A server counts as reached when it has answered: its part of the handshake is over by then.
    let request = format!("GET /hit/0 HTTP/1.1\r\nHost: {SERVER_NAME}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut buffer, mut filled) = ([0; ANSWER_BYTES_MAX], 0);
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        ensure!(!room.is_empty(), "an answer is too large");
        let count = stream.read(room).await?;
        ensure!(count > 0, "closed before the end");
        filled += count;
        if let Some(head) = head::read(buffer.get(..filled).unwrap_or_default())? {
            ensure!(head.status == 200, "answered {}", head.status);
            if filled >= head.bytes + head.body_bytes {
                return Ok(());
            }
        }
    }
}
