//! Writers that go on until the gateway dies, and a ledger of what was acknowledged to them.

use crate::support::wait::lock;
use crate::support::{Answer, Ask, within};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Writers at once; each has keys of its own, so that a key's values grow in the order of writing.
const WRITERS: usize = 32;
/// Keys that are set and removed.
const KEYS: usize = 200;
/// Where POSTs go; also the key of one whose answer was lost.
pub(super) const COLLECTION: &str = "/orders";

/// A write that the gateway has acknowledged with 2xx.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    /// `Tidegate-Change`.
    pub(super) change: String,
    /// What was asked, e.g. `PUT /items/7`.
    pub(super) what: String,
    /// The body that was sent.
    pub(super) body: String,
}

/// What is known of the traffic so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Writes whose outcome the client does not know: no answer, or an error.
    pub(super) unknown: usize,
}

/// The traffic of a whole run; it outlives every gateway.
#[derive(Debug)]
pub(super) struct Traffic {
    ledger: Mutex<Ledger>,
    count: watch::Sender<usize>,
    /// The next value of each writer; values of a writer only grow.
    next: Vec<Mutex<u64>>,
}

/// The writers of one gateway's life.
#[derive(Debug)]
pub(super) struct Writers(JoinSet<()>);

impl Writers {
    /// Waits until each has met the end of its gateway.
    pub(super) async fn done(mut self) {
        while let Some(writer) = self.0.join_next().await {
            writer.expect("a writer does not panic");
        }
    }
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            ledger: Mutex::new(Ledger::default()),
            count: watch::Sender::new(0),
            next: (0..WRITERS).map(|_| Mutex::new(1)).collect(),
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    pub(super) fn acknowledged(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until so many writes have been acknowledged in all.
    pub(super) async fn wait_for(&self, count: usize) {
        let mut seen = self.count.subscribe();
        let enough = seen.wait_for(|own| *own >= count);
        within(&format!("{count} acknowledged writes"), enough).await.expect("the traffic holds the sender");
    }

    /// Starts writers toward a gateway; they end when it does.
    pub(super) fn start(self: &Arc<Self>, to: SocketAddr) -> Writers {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let traffic = Arc::clone(self);
            writers.spawn(async move { while traffic.write(writer, to).await {} });
        }
        Writers(writers)
    }

    /// One write; whether the gateway still lives.
    async fn write(&self, writer: usize, to: SocketAddr) -> bool {
        let value = {
            let mut next = lock(&self.next[writer]);
            *next += 1;
            *next
        };
        let (ask, what, body) = request(writer, value);
        match ask.send(to).await {
            Ok(answer) if (200..300).contains(&answer.status) => self.acknowledge(&answer, what, body),
            // A DELETE of what is not there is refused by the source.
            Ok(answer) if answer.status == 404 => {}
            Ok(_) => lock(&self.ledger).unknown += 1,
            Err(_) => {
                lock(&self.ledger).unknown += 1;
                return false;
            }
        }
        true
    }

    fn acknowledge(&self, answer: &Answer, what: String, body: String) {
        let change = answer.field("Tidegate-Change").to_owned();
        assert!(!change.is_empty(), "an acknowledged write without its change: {answer:?}");
        let mut ledger = lock(&self.ledger);
        ledger.acknowledged.push(Acknowledged { change, what, body });
        self.count.send_replace(ledger.acknowledged.len());
    }
}

/// Of ten writes eight are PUT, one POST, one DELETE. Values are unique, and grow within a key.
fn request(writer: usize, value: u64) -> (Ask, String, String) {
    let keys_of_writer = (KEYS - writer).div_ceil(WRITERS);
    let turn = usize::try_from(value).unwrap_or(usize::MAX);
    let path = format!("/items/{}", writer + WRITERS * (turn % keys_of_writer));
    let body = format!("{value:08}-of-{writer}");
    let (method, path, body) = match value % 10 {
        3 => ("DELETE", path, String::new()),
        7 => ("POST", COLLECTION.to_owned(), body),
        _ => ("PUT", path, body),
    };
    let ask = Ask::new(method, &path).body(body.clone()).field("Content-Type", "text/plain");
    (ask, format!("{method} {path}"), body)
}

#[test]
fn writers_share_no_key_and_every_kind_of_write_occurs() {
    let mut owners = std::collections::HashMap::new();
    let mut kinds = std::collections::HashSet::new();
    for writer in 0..WRITERS {
        for value in 0..1000 {
            let (_, what, _) = request(writer, value);
            let (method, path) = what.split_once(' ').expect("method and path");
            kinds.insert(method.to_owned());
            if method != "POST" {
                assert_eq!(*owners.entry(path.to_owned()).or_insert(writer), writer, "{path}");
            }
        }
    }
    assert_eq!((owners.len(), kinds.len()), (KEYS, 3));
}
