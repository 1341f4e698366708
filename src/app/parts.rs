//! The parts that are in force, and how other settings take their place.

use crate::admin;
use crate::cache::Cache;
use crate::clock::{Clock, Timestamp};
use crate::config::Settings;
use crate::gateway::{self, Gateway, InForce, Others};
use crate::in_flight::InFlight;
use crate::rate_limit::{Scope, SharedQuotas};
use crate::redis::Redis;
use crate::secret::KeyedHash;
use crate::source::{self, Source};
use crate::sync::{Altered, Engine, OpenError, Ports, ReadSource, SourceState};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The parts.
pub(super) struct Parts {
    pub(super) gateway: Arc<InForce>,
    /// `None`: no route has recorded a change so far.
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) cache: Arc<Cache>,
    pub(super) redis: Option<Arc<Redis>>,
    pub(super) clock: Clock,
    pub(super) admin: admin::Listen,
    /// The active checks, by source.
    pub(super) checks: HashMap<String, JoinSet<()>>,
}

impl Parts {
    /// The first of a process.
    ///
    /// # Errors
    /// [`OpenError`]: the journal cannot be used.
    pub(super) async fn start(
        settings: &Settings,
        redis: Option<Arc<Redis>>,
        clock: Clock,
        admin: admin::Listen,
    ) -> Result<Self, OpenError> {
        let in_flight = InFlight::new(settings.gateway.limits.in_flight_bytes);
        let cache = Cache::new(&settings.cache, clock.clone(), redis.clone(), &in_flight);
        let (sources, checks) = sources(settings.sources.clone(), &clock);
        let keyed_hash = settings.cache.keyed_hash();
        let first = Gateway::new(
            settings.gateway.clone(),
            gateway::Parts {
                cache: Arc::clone(&cache),
                engine: None,
                sources,
                in_flight,
                shared_quotas: shared_quotas(settings, redis.as_ref(), &keyed_hash),
                keyed_hash,
                clock: clock.clone(),
            },
        );
        let gateway = InForce::new(Arc::clone(&first));
        let mut parts = Self { gateway, engine: None, cache, redis, clock, admin, checks };
        if settings.syncs() {
            let engine = Engine::start(settings.sync.clone(), parts.clock.clone(), parts.ports()).await?;
            parts.engine = Some(engine);
            let sources = first.sources().to_vec();
            parts.gateway.replace(first.succeed(settings.gateway.clone(), parts.others(sources, settings)));
        }
        Ok(parts)
    }

    /// What a next gateway does not share with the one before.
    fn others(&self, sources: Vec<Arc<Source>>, settings: &Settings) -> Others {
        let old = self.gateway.gateway();
        let start = || shared_quotas(settings, self.redis.as_ref(), old.keyed_hash());
        Others {
            sources,
            engine: self.engine.clone(),
            shared_quotas: old.shared_quotas().cloned().or_else(start),
        }
    }

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
        self.gateway.replace(old.succeed(settings.gateway.clone(), self.others(sources, settings)));
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
        admin::Told::new(&settings.admin, &self.admin, self.engine.clone(), journal, in_force)
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
                        None => SourceState::UNANSWERED,
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

/// The quotas of the namespace, where a route has any.
fn shared_quotas(
    settings: &Settings,
    redis: Option<&Arc<Redis>>,
    keyed_hash: &KeyedHash,
) -> Option<Arc<SharedQuotas>> {
    let mut limits = settings.gateway.routes.iter().flat_map(|route| &route.limits);
    let (redis, tier) = redis.zip(settings.cache.shared.as_ref())?;
    let is_any = limits.any(|limit| limit.scope == Scope::Shared);
    is_any.then(|| SharedQuotas::start(Arc::clone(redis), &tier.namespace, keyed_hash.clone()))
}

/// New sources, each with its active checks.
fn sources(
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
