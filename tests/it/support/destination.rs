//! A destination that records deliveries in order, fails as told, and keeps the state that follows.

use super::server::{Received, Reply, Server};
use super::wait::{Record, lock};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// One attempt, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// `Tidegate-Change`.
    pub(crate) id: String,
    /// `Tidegate-Key`.
    pub(crate) key: String,
    /// `Tidegate-Sequence`.
    pub(crate) sequence: u64,
    /// `Tidegate-Attempt`.
    pub(crate) attempt: u32,
    pub(crate) request: Received,
    /// The status that it is answered with.
    pub(crate) answered: u16,
    pub(crate) at: Instant,
}

type Script = Arc<dyn Fn(&Delivery) -> Reply + Send + Sync>;

/// Answers 200 unless told otherwise.
pub(crate) struct RecordingDestination {
    server: Server,
    script: Arc<Mutex<Script>>,
    state: Arc<Mutex<BTreeMap<String, String>>>,
    pub(crate) deliveries: Arc<Record<Delivery>>,
}

impl RecordingDestination {
    pub(crate) async fn start() -> Self {
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(|_: &Delivery| Reply::ok(""))));
        let state = Arc::new(Mutex::new(BTreeMap::new()));
        let deliveries = Arc::new(Record::new());
        let parts = (Arc::clone(&script), Arc::clone(&state), Arc::clone(&deliveries));
        let server = Server::start(Arc::new(move |request: Received| {
            let mut delivery = Delivery::of(request);
            let script = Arc::clone(&lock(&parts.0));
            let reply = script(&delivery);
            delivery.answered = reply.status;
            if (200..300).contains(&reply.status) {
                apply(&mut lock(&parts.1), &delivery);
            }
            parts.2.push(delivery);
            Box::pin(std::future::ready(reply))
        }))
        .await;
        Self { server, script, state, deliveries }
    }

    /// Decides for each attempt how it is answered.
    pub(crate) fn answer(&self, script: impl Fn(&Delivery) -> Reply + Send + Sync + 'static) {
        *lock(&self.script) = Arc::new(script);
    }

    /// Path -> value, as the deliveries have made it.
    pub(crate) fn state(&self) -> BTreeMap<String, String> {
        lock(&self.state).clone()
    }

    /// Waits until `count` attempts have arrived, and returns all.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Delivery> {
        self.deliveries.until(&format!("{count} deliveries"), |all| all.len() >= count).await
    }

    /// Waits until the attempts that were answered with 2xx have these bodies among them.
    pub(crate) async fn wait_for_body(&self, body: &str) -> Vec<Delivery> {
        let arrived = |delivery: &Delivery| delivery.request.text() == body && delivery.answered / 100 == 2;
        self.deliveries.until(&format!("the delivery of {body:?}"), |all| all.iter().any(arrived)).await
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// How many connections have been accepted.
    pub(crate) fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Its `[[destination]]` table with quick retries; further keys may be appended.
    pub(crate) fn table(&self, name: &str) -> String {
        format!(
            "[[destination]]\nname = \"{name}\"\nurl = \"{}\"\n\
             retry = {{ base = \"100ms\", cap = \"200ms\" }}\n",
            self.server.url()
        )
    }
}

impl Delivery {
    fn of(request: Received) -> Self {
        let text = |name: &str| request.fields.get(name).unwrap_or_default().to_owned();
        Self {
            id: text("Tidegate-Change"),
            key: text("Tidegate-Key"),
            sequence: text("Tidegate-Sequence").parse().unwrap_or(0),
            attempt: text("Tidegate-Attempt").parse().unwrap_or(0),
            answered: 0,
            at: Instant::now(),
            request,
        }
    }
}

/// PUT sets, DELETE removes, POST creates what the key names. A PUT of a collection (the state read
/// after a POST whose answer was lost) adds the members that are not there yet.
fn apply(state: &mut BTreeMap<String, String>, delivery: &Delivery) {
    let path = delivery.request.path().to_owned();
    match delivery.request.method.as_str() {
        "PUT" => match serde_json::from_slice::<BTreeMap<String, String>>(&delivery.request.body) {
            Ok(members) => {
                for (member, value) in members {
                    state.entry(member).or_insert(value);
                }
            }
            Err(_) => drop(state.insert(path, delivery.request.text())),
        },
        "DELETE" => drop(state.remove(&path)),
        "POST" => drop(state.insert(delivery.key.clone(), delivery.request.text())),
        _ => {}
    }
}
