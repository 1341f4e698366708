//! Two gateways that are restarted one after the other under load, as a rolling update does: clients that know
//! both see nothing of it. `TIDEGATE_TORTURE=1` makes it twenty restarts.

use crate::support::wire::{Body, Framing, Wire};
use crate::support::{EVERYTHING, RecordingDestination, Reply, SYNC, ScriptedSource, Setup, eventually};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const RESTARTS: usize = 4;
const RESTARTS_OF_TORTURE: usize = 20;
const CLIENTS: usize = 4;

/// One of so many requests is a write.
const WRITES: u64 = 10;

/// A life of one of the two gateways, counted from 1, and where it listens.
type Life = (usize, SocketAddr);

/// What clients know of the two gateways.
struct Fleet {
    lives: [Mutex<Life>; 2],
    /// The last life that has answered each client.
    answered: [[AtomicUsize; 2]; CLIENTS],
    over: AtomicBool,
}

/// A client with a connection to each; whoever says that it closes, or is not there, is left until its next life.
struct Client {
    number: usize,
    fleet: Arc<Fleet>,
    wires: [Option<Wire>; 2],
    left: [usize; 2],
    sent: u64,
    acknowledged: Vec<String>,
}

impl Client {
    async fn asks_until_it_is_over(mut self) -> Result<(u64, Vec<String>), String> {
        while !self.fleet.over.load(Ordering::Relaxed) {
            self.sent += 1;
            let first = usize::try_from(self.sent % 2).unwrap_or_default();
            let is_taken = self.asks(first).await? || self.asks(1 - first).await?;
            if !is_taken {
                return Err(format!("request {} of {}: nobody takes it", self.sent, self.number));
            }
        }
        Ok((self.sent, self.acknowledged))
    }

    /// Sends the next request to one of them; false where it is on its way out and has not taken it.
    async fn asks(&mut self, to: usize) -> Result<bool, String> {
        let (life, address) = *self.fleet.lives[to].lock().unwrap();
        if self.left[to] == life {
            return Ok(false);
        }
        let (mut wire, is_new) = match self.wires[to].take() {
            Some(wire) => (wire, false),
            None => match TcpStream::connect(address).await {
                Ok(stream) => (Wire::new(stream), true),
                Err(error) => return Err(format!("{to} was ready and takes no connection: {error}")),
            },
        };
        let (number, client) = (self.sent, self.number);
        let bytes = if number % WRITES < 2 {
            let path = format!("/items/{client}-{to}");
            let body = format!("{number:09}");
            format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        } else {
            format!("GET /items/{} HTTP/1.1\r\nHost: a\r\n\r\n", number % 7)
        };
        let written = wire.write(bytes.as_bytes()).await;
        let (start, fields) = match wire.head().await {
            Ok(Some(head)) if written.is_ok() => head,
            // It was idle for too long and closed meanwhile: both methods may be sent again (RFC 9110 9.2.2).
            _ if !is_new => {
                self.left[to] = life;
                return Ok(false);
            }
            other => return Err(format!("{to}, {written:?}: no answer but {other:?}")),
        };
        let body = Body::new(Framing::of(&fields, Framing::UntilClose)).all(&mut wire).await;
        if !start.contains(" 200 ") || body.is_err() {
            return Err(format!("{to}: {start} {body:?}"));
        }
        self.acknowledged.extend(fields.get("Tidegate-Change").map(str::to_owned));
        self.fleet.answered[client][to].store(life, Ordering::Relaxed);
        if fields.list("Connection") == "close" {
            self.left[to] = life;
        } else {
            self.wires[to] = Some(wire);
        }
        Ok(true)
    }
}

/// Waits until every client has had an answer from both lives.
async fn all_use(
    lives: [usize; 2],
    fleet: &Fleet,
    clients: &mut JoinSet<Result<(u64, Vec<String>), String>>,
) {
    eventually("all clients use both", async || {
        if let Some(ended) = clients.try_join_next() {
            panic!("a client has ended: {ended:?}");
        }
        let use_one =
            |to: usize, life| fleet.answered.iter().all(|by| by[to].load(Ordering::Relaxed) == life);
        use_one(0, lives[0]) && use_one(1, lives[1])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_fail_no_request_and_lose_no_change() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.always("*", Reply::ok("x").cache_control("max-age=1"));
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let setups = [Setup::new(text.as_str()), Setup::new(text.as_str())];
    let mut gateways = [Some(setups[0].start().await), Some(setups[1].start().await)];
    let life = |number, gateway: &Option<crate::support::Gateway>| (number, gateway.as_ref().unwrap().public);
    let fleet = Arc::new(Fleet {
        lives: [Mutex::new(life(1, &gateways[0])), Mutex::new(life(1, &gateways[1]))],
        answered: Default::default(),
        over: AtomicBool::new(false),
    });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client {
            number,
            fleet: Arc::clone(&fleet),
            wires: [None, None],
            left: [0, 0],
            sent: 0,
            acknowledged: Vec::new(),
        };
        clients.spawn(client.asks_until_it_is_over());
    }
    let is_torture = std::env::var_os("TIDEGATE_TORTURE").is_some();
    let mut lives = [1, 1];
    for restart in 0..if is_torture { RESTARTS_OF_TORTURE } else { RESTARTS } {
        all_use(lives, &fleet, &mut clients).await;
        let one = restart % 2;
        let exit = gateways[one].take().unwrap().terminate().await;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
        let started = Some(setups[one].start().await);
        lives[one] += 1;
        *fleet.lives[one].lock().unwrap() = life(lives[one], &started);
        gateways[one] = started;
    }
    all_use(lives, &fleet, &mut clients).await;
    fleet.over.store(true, Ordering::Relaxed);
    let (mut sent, mut acknowledged) = (0, Vec::new());
    while let Some(client) = clients.join_next().await {
        let (own, changes) = client.expect("a client does not panic").expect("no request failed");
        sent += own;
        acknowledged.extend(changes);
    }
    assert!(acknowledged.len() as u64 >= sent / WRITES, "{} of {sent}", acknowledged.len());
    eventually("every change has arrived", async || {
        let all = destination.deliveries.all();
        let arrived: std::collections::HashSet<&str> =
            all.iter().filter(|one| one.answered == 200).map(|one| one.id.as_str()).collect();
        acknowledged.iter().all(|change| arrived.contains(change.as_str()))
    })
    .await;
}
