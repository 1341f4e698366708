//! A way to another process that a test can cut and mend.

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on, unless it is cut.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Relay {
    pub(crate) async fn to(there: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let is_cut = watch::Sender::new(false);
        let there: SocketAddr = there.parse().expect("an address");
        let state = is_cut.clone();
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let mut cut = state.subscribe();
                tokio::spawn(async move {
                    let passing = pass(here, there);
                    // Cut, both sides are closed; so is what comes while it is cut.
                    tokio::select! { () = passing => {}, _ = cut.wait_for(|is_cut| *is_cut) => {} }
                });
            }
        });
        Self { address, is_cut }
    }

    /// `[cache.shared]` for what is behind it.
    pub(crate) fn table(&self) -> String {
        format!("[cache.shared]\nredis = \"redis://{}\"\n", self.address)
    }

    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn pass(mut here: TcpStream, there: SocketAddr) {
    if let Ok(mut there) = TcpStream::connect(there).await {
        // However it ends, both sides see it.
        drop(tokio::io::copy_bidirectional(&mut here, &mut there).await);
    }
}
