//! A way to Redis that can be cut and mended, and be slow.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Parts of answers that are on their way at once.
const PARTS_MAX: usize = 1024;

/// Passes connections on, unless it is cut.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    there: watch::Sender<SocketAddr>,
    is_cut: watch::Sender<bool>,
    /// How late each answer comes.
    late: watch::Sender<Duration>,
    /// What is said in the place of what, as long as it.
    lie: watch::Sender<Option<(Vec<u8>, Vec<u8>)>>,
}

impl Relay {
    pub(crate) async fn to(there: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (is_cut, late) = (watch::Sender::new(false), watch::Sender::new(Duration::ZERO));
        let there = watch::Sender::new(there.parse().expect("an address"));
        let lie = watch::Sender::new(None);
        let (state, lateness, leading, lying) = (is_cut.clone(), late.clone(), there.clone(), lie.clone());
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let (mut cut, late) = (state.subscribe(), lateness.subscribe());
                let (there, lie) = (*leading.borrow(), lying.subscribe());
                tokio::spawn(async move {
                    let passing = pass(here, there, late, lie);
                    // Cut, both sides are closed; so is what comes while it is cut.
                    tokio::select! { () = passing => {}, _ = cut.wait_for(|is_cut| *is_cut) => {} }
                });
            }
        });
        Self { address, there, is_cut, late, lie }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `[cache.shared]` for what is behind it.
    pub(crate) fn table(&self) -> String {
        format!("[cache.shared]\nredis = \"redis://{}\"\n", self.address)
    }

    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Connections that are made from now on lead to another server.
    pub(crate) fn lead_to(&self, there: &str) {
        self.there.send_replace(there.parse().expect("an address"));
    }

    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }

    /// From now on this is said in the place of that, which is as long.
    pub(crate) fn say(&self, lie: &str, truth: &str) {
        assert_eq!(lie.len(), truth.len());
        self.lie.send_replace(Some((truth.into(), lie.into())));
    }

    /// From now on every answer comes so much later.
    pub(crate) fn slow(&self, late: Duration) {
        self.late.send_replace(late);
    }
}

async fn pass(
    here: TcpStream,
    there: SocketAddr,
    late: watch::Receiver<Duration>,
    lie: watch::Receiver<Option<(Vec<u8>, Vec<u8>)>>,
) {
    let Ok(there) = TcpStream::connect(there).await else { return };
    let ((mut asking, mut asker), (mut server, mut requests)) = (here.into_split(), there.into_split());
    let (answers, mut coming) = mpsc::channel(PARTS_MAX);
    let answered = async move {
        let mut part = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = server.read(&mut part).await {
            let at = Instant::now() + *late.borrow();
            if let Some((truth, lie)) = &*lie.borrow()
                && let Some(told) = part.windows(truth.len()).position(|told| told == truth)
            {
                part[told..told + lie.len()].copy_from_slice(lie);
            }
            if answers.send((at, part[..length].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let told = async move {
        while let Some((at, part)) = coming.recv().await {
            sleep_until(at).await;
            if asker.write_all(&part).await.is_err() {
                break;
            }
        }
    };
    // However it ends, both sides see it.
    tokio::select! {
        ((), ()) = async { tokio::join!(answered, told) } => {}
        _ = tokio::io::copy(&mut asking, &mut requests) => {}
    }
}
