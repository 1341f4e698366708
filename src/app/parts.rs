//! The parts that are in force, and how other settings take their place.

use crate::admin;
use crate::cache::Cache;
use crate::clock::{Clock, Timestamp};
use crate::config::Settings;
use crate::gateway::{self, InForce};
use crate::source::{self, Source};
use crate::sync::{Altered, Engine, Ports, ReadSource, SourceState};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The parts.
pub(super) struct Parts {
    pub(super) gateway: Arc<InForce>,
    /// `None`: no route has recorded a change so far.
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Clock,
    pub(super) admin: SocketAddr,
    /// The active checks, by source.
    pub(super) checks: HashMap<String, JoinSet<()>>,
}

impl Parts {
    /// Puts other settings in force; nothing of it fails. A request has one or the other from its beginning to
    /// its end.
    pub(super) fn replace(&mut self, settings: &Settings, altered: &Altered) {
        let old = self.gateway.gateway();
        self.cache.reload(&settings.cache);
        let stays = |name: &str| settings.sources.iter().any(|source| source.name == name);
        for source in old.sources().iter().filter(|source| !stays(&source.settings().name)) {
            self.checks.remove(&source.settings().name);
            source.retire();
        }
        let mut sources = Vec::with_capacity(settings.sources.len());
        for settings in settings.sources.iter().cloned() {
            let source = match old.source(&settings.name) {
                Some(source) if !altered.sources.contains(&settings.name) => Arc::clone(source),
                Some(source) => self.checked(source.succeed(settings)),
                None => self.checked(Source::new(settings, self.clock.clone())),
            };
            sources.push(source);
        }
        self.gateway.replace(old.succeed(settings.gateway.clone(), sources, self.engine.clone()));
    }

    /// A source with its active checks, in the place of those of the one before.
    fn checked(&mut self, source: Arc<Source>) -> Arc<Source> {
        self.checks.insert(source.settings().name.clone(), checks(&source));
        source
    }

    /// What operators are told of `settings` once they are in force.
    pub(super) fn told(&self, settings: &Settings, now: Timestamp) -> admin::Told {
        let journal = if settings.syncs() { admin::Journal::Needed } else { admin::Journal::Spare };
        let in_force = admin::Configuration {
            config: settings.redacted.clone(),
            digest: settings.digest.clone(),
            loaded_at: now,
        };
        admin::Told::new(&settings.admin, self.admin, self.engine.clone(), journal, in_force)
    }

    /// How the sync engine reaches sources and stored responses, which lie on its own floor: those in force.
    pub(super) fn ports(&self) -> Ports {
        let (reads, writes, fences) =
            (Arc::clone(&self.gateway), Arc::clone(&self.gateway), Arc::clone(&self.gateway));
        Ports {
            read_source: Box::new(move |read: ReadSource| {
                let gateway = reads.gateway();
                Box::pin(async move {
                    match gateway.source(&read.source) {
                        Some(source) => gateway::read_state(source, gateway.in_flight(), read).await,
                        // A source that was taken out of the configuration cannot be read any more.
                        None => SourceState::Unreadable,
                    }
                })
            }),
            write_source: Box::new(move |write| {
                let gateway = writes.gateway();
                Box::pin(async move { gateway::write_source(&gateway, write).await })
            }),
            fence: Box::new(move |fenced| {
                let gateway = fences.gateway();
                Box::pin(async move { gateway::fence(&gateway, fenced).await })
            }),
        }
    }

    /// Stops the active checks.
    pub(super) async fn stop_checks(&mut self) {
        for checks in self.checks.values_mut() {
            checks.shutdown().await;
        }
    }
}

/// New sources, each with its active checks.
pub(super) fn sources(
    settings: Vec<source::Settings>,
    clock: &Clock,
) -> (Vec<Arc<Source>>, HashMap<String, JoinSet<()>>) {
    let sources: Vec<_> = settings.into_iter().map(|settings| Source::new(settings, clock.clone())).collect();
    let checks = sources.iter().map(|source| (source.settings().name.clone(), checks(source))).collect();
    (sources, checks)
}

fn checks(source: &Arc<Source>) -> JoinSet<()> {
    source.checks().collect()
}
