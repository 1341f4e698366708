//! A source that keeps state: PUT, DELETE, GET of items, POST that creates, entity tags, and
//! faults before or after a write was applied.

use super::server::{Received, Reply, Server, Step};
use super::wait::{Gate, Record, lock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong with one write.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Applied, but the connection closes before the answer.
    CutAfterApplying,
    /// Applied, but answered only when the gate opens.
    SlowAfterApplying(Gate),
    /// Applied, but answered with this status.
    StatusAfterApplying(u16),
    /// The connection is reset and nothing was applied.
    ResetBeforeApplying,
}

#[derive(Debug, Default)]
struct Store {
    /// Path -> value and version.
    items: BTreeMap<String, (String, u64)>,
    version: u64,
}

type Faults = Arc<dyn Fn(&Received) -> Fault + Send + Sync>;

/// A key-value source; a POST to a path creates one below it.
pub(crate) struct InventorySource {
    server: Server,
    store: Arc<Mutex<Store>>,
    faults: Arc<Mutex<Faults>>,
    /// How many reads will be answered with 503.
    unreadable: Arc<AtomicUsize>,
    /// Writes in the order in which they were applied.
    pub(crate) applied: Arc<Record<Received>>,
}

impl InventorySource {
    pub(crate) async fn start() -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let faults: Arc<Mutex<Faults>> = Arc::new(Mutex::new(Arc::new(|_: &Received| Fault::None)));
        let applied = Arc::new(Record::new());
        let unreadable = Arc::<AtomicUsize>::default();
        let parts = (Arc::clone(&store), Arc::clone(&faults), Arc::clone(&applied), Arc::clone(&unreadable));
        let server = Server::start(Arc::new(move |request: Received| {
            let faults = Arc::clone(&lock(&parts.1));
            let reply = match request.method.as_str() {
                "GET" | "HEAD" if is_unreadable(&parts.3) => Reply::new(503, ""),
                "GET" | "HEAD" => read(&lock(&parts.0), request.path()),
                _ => write(&parts.0, &parts.2, request.clone(), faults(&request)),
            };
            Box::pin(std::future::ready(reply))
        }))
        .await;
        Self { server, store, faults, unreadable, applied }
    }

    /// Decides for each write what goes wrong with it.
    pub(crate) fn fail(&self, faults: impl Fn(&Received) -> Fault + Send + Sync + 'static) {
        *lock(&self.faults) = Arc::new(faults);
    }

    /// Answers the next reads with 503.
    pub(crate) fn fail_reads(&self, count: usize) {
        self.unreadable.store(count, Ordering::Relaxed);
    }

    /// Path -> value, as it is now.
    pub(crate) fn state(&self) -> BTreeMap<String, String> {
        let store = lock(&self.store);
        store.items.iter().map(|(path, (value, _))| (path.clone(), value.clone())).collect()
    }

    pub(crate) fn table(&self) -> String {
        super::source::table(&self.server.url())
    }
}

fn is_unreadable(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// One item, or as JSON all that lie below the path.
fn read(store: &Store, path: &str) -> Reply {
    if let Some((value, version)) = store.items.get(path) {
        return Reply::ok(value.as_str())
            .field("ETag", &format!("\"v{version}\""))
            .field("Content-Type", "text/plain")
            .cache_control("max-age=60");
    }
    let below = format!("{path}/");
    let members: BTreeMap<&String, &String> = store
        .items
        .iter()
        .filter(|(member, _)| member.starts_with(&below))
        .map(|(member, (value, _))| (member, value))
        .collect();
    if members.is_empty() {
        return Reply::new(404, "");
    }
    let body = serde_json::to_vec(&members).expect("a map of strings is JSON");
    Reply::ok(body)
        .field("ETag", &format!("\"c{}\"", members.len()))
        .field("Content-Type", "application/json")
}

fn write(store: &Mutex<Store>, applied: &Record<Received>, request: Received, fault: Fault) -> Reply {
    if matches!(fault, Fault::ResetBeforeApplying) {
        return Reply::none(Step::Reset);
    }
    let reply = {
        let mut store = lock(store);
        let reply = apply(&mut store, &request);
        applied.push(request);
        reply
    };
    match fault {
        Fault::None | Fault::ResetBeforeApplying => reply,
        Fault::CutAfterApplying => Reply::none(Step::Cut),
        Fault::SlowAfterApplying(gate) => reply.after(Step::Wait(gate)),
        Fault::StatusAfterApplying(status) => Reply::new(status, "it was applied all the same"),
    }
}

fn apply(store: &mut Store, request: &Received) -> Reply {
    store.version += 1;
    let version = store.version;
    let path = request.path().to_owned();
    match request.method.as_str() {
        "PUT" => {
            store.items.insert(path, (request.text(), version));
            Reply::ok("").field("ETag", &format!("\"v{version}\""))
        }
        "POST" => {
            let created = format!("{path}/{version}");
            store.items.insert(created.clone(), (request.text(), version));
            Reply::new(201, "").field("Location", &created)
        }
        "DELETE" => match store.items.remove(&path) {
            Some(_) => Reply::new(204, ""),
            None => Reply::new(404, ""),
        },
        _ => Reply::new(405, ""),
    }
}
