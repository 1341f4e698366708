//! A source whose answers a test scripts, path by path.

use super::server::{Received, Reply, Server};
use super::wait::{Record, lock};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

type Script = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// Answers by script and records every request; a path without a script is 404.
pub(crate) struct ScriptedSource {
    server: Server,
    scripts: Arc<Mutex<HashMap<String, Script>>>,
    pub(crate) requests: Arc<Record<Received>>,
}

impl ScriptedSource {
    pub(crate) async fn start() -> Self {
        let scripts = Arc::new(Mutex::new(HashMap::<String, Script>::new()));
        let requests = Arc::new(Record::new());
        let (own_scripts, own_requests) = (Arc::clone(&scripts), Arc::clone(&requests));
        let server = Server::start(Arc::new(move |request: Received| {
            own_requests.push(request.clone());
            let script = {
                let scripts = lock(&own_scripts);
                scripts.get(request.path()).or_else(|| scripts.get("*")).cloned()
            };
            let reply = script.map_or_else(|| Reply::new(404, "no script"), |script| script(&request));
            Box::pin(std::future::ready(reply))
        }))
        .await;
        Self { server, scripts, requests }
    }

    /// Answers a path (without query; `*` is every other) by a function of the request.
    pub(crate) fn on(&self, path: &str, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        lock(&self.scripts).insert(path.to_owned(), Arc::new(script));
    }

    /// Answers a path with these, one after the other; the last one stays.
    pub(crate) fn sequence(&self, path: &str, replies: impl Into<VecDeque<Reply>>) {
        let replies = Mutex::new(replies.into());
        self.on(path, move |_| {
            let mut replies = lock(&replies);
            let next = replies.front().cloned().expect("a sequence has a reply");
            if replies.len() > 1 {
                replies.pop_front();
            }
            next
        });
    }

    /// Answers a path with this, always.
    pub(crate) fn always(&self, path: &str, reply: Reply) {
        self.on(path, move |_| reply.clone());
    }

    /// How many requests came for a path.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.requests.all().iter().filter(|request| request.path() == path).count()
    }

    /// The requests for a path.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        self.requests.all().into_iter().filter(|request| request.path() == path).collect()
    }

    /// Waits until `count` requests came for a path.
    pub(crate) async fn wait_for(&self, path: &str, count: usize) {
        let enough = |all: &[Received]| all.iter().filter(|request| request.path() == path).count() >= count;
        self.requests.until(&format!("{count} requests for {path} at the source"), enough).await;
    }

    pub(crate) fn connections(&self) -> usize {
        self.server.connections()
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Its `[[source]]` table, named `inventory`; further keys may be appended.
    pub(crate) fn table(&self) -> String {
        table(&self.server.url())
    }
}

/// A `[[source]]` table named `inventory`.
pub(crate) fn table(url: &str) -> String {
    format!("[[source]]\nname = \"inventory\"\nurls = [\"{url}\"]\n")
}
