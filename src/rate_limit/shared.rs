//! Quotas that the gateways of a namespace have together (`scope = "shared"`), in Redis and by its clock.
//!
//! ```text
//! quotas of this gateway alone deny    429, Redis is not asked
//! Redis answers                        all are charged, or none; what it said is kept in the buckets here
//! it does not, or is away              each gateway admits its share: the limit, divided by the gateways known
//! ```
//! The buckets here count time until they are full, and that is the same for a bucket of all gateways and for the
//! share of one; so the share goes on where Redis left off. After a silence of Redis what is used is told with each
//! charge, as the least that it may take for used: what was admitted meanwhile, or before it lost everything, counts.
//!
//! The quotas of a route lie in one slot of a cluster, so that one call charges all of them.

mod replicas;
mod script;

use super::local::Bucket;
use super::partition::{self, Partition};
use super::quota::{FullAt, Test};
use super::{Caller, Counting, Denied, Mode, Quota, Quotas, Scope, Stage, Verdict};
use crate::clock::Timestamp;
use crate::redis::{Patience, Redis, Unavailable};
use crate::secret::KeyedHash;
use replicas::Replicas;
use script::Script;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What one charge may take of what a request may wait for Redis.
const CHARGE_BUDGET: Duration = Duration::from_millis(20);
/// Bytes of a hash that stand in a key.
const NAME_BYTES: usize = 16;

/// The connection to the quotas of a namespace.
#[derive(Debug)]
pub struct SharedQuotas {
    redis: Arc<Redis>,
    namespace: String,
    hash: KeyedHash,
    replicas: Replicas,
    charge: Script,
    refund: Script,
    look: Script,
}

impl SharedQuotas {
    /// Begins to count the gateways of the namespace; needs a running Tokio, but no running Redis.
    #[must_use]
    pub fn start(redis: Arc<Redis>, namespace: &str, hash: KeyedHash) -> Arc<Self> {
        let replicas = Replicas::start(&redis, namespace);
        let (charge, refund) = (include_str!("shared/charge.lua"), include_str!("shared/refund.lua"));
        let (charge, refund) = (Script::new(charge), Script::new(refund));
        let look = Script::new(include_str!("shared/look.lua"));
        Arc::new(Self { redis, namespace: namespace.to_owned(), hash, replicas, charge, refund, look })
    }

    /// How many gateways a limit is divided by while Redis is away.
    pub(super) fn replicas(&self) -> u32 {
        self.replicas.known()
    }

    /// The key of a bucket in Redis: nothing of the client can be read from it.
    fn key(&self, route: &str, quota: &Quota, partition: Option<Partition>) -> String {
        let slot = self.hash.digest("quotas of a route", [route.as_bytes()]);
        let who = partition.map(bytes).unwrap_or_default();
        let bucket = self.hash.digest("quota", [route.as_bytes(), quota.name.as_bytes(), &who]);
        let mut key = format!("{}:q:{{", self.namespace);
        for (hash, after) in [(slot, "}:"), (bucket, "")] {
            for byte in hash.iter().take(NAME_BYTES) {
                write!(key, "{byte:02x}").unwrap_or_default();
            }
            key.push_str(after);
        }
        key
    }
}

/// A partition, each kind apart.
fn bytes(partition: Partition) -> Vec<u8> {
    match partition {
        Partition::Client(IpAddr::V4(address)) => [&b"4"[..], &address.octets()].concat(),
        Partition::Client(IpAddr::V6(address)) => [&b"6"[..], &address.octets()].concat(),
        Partition::Field(digest) => [&b"f"[..], &digest].concat(),
        Partition::Certificate(digest) => [&b"c"[..], &digest].concat(),
        Partition::Identity(digest) => [&b"i"[..], &digest].concat(),
        Partition::Absent => b"-".to_vec(),
    }
}

/// What Redis says of a request's quotas.
struct Answered {
    admitted: bool,
    /// For each, whether one more fits, and what is used in millionths of a request.
    quotas: Vec<(bool, u64)>,
}

impl Answered {
    fn of(numbers: &[i64]) -> Option<Self> {
        let (admitted, quotas) = numbers.split_first()?;
        let (pairs, []) = quotas.as_chunks::<2>() else { return None };
        let quotas = pairs.iter().map(|[fits, used]| Some((*fits == 1, u64::try_from(*used).ok()?)));
        Some(Self { admitted: *admitted == 1, quotas: quotas.collect::<Option<_>>()? })
    }
}

impl Quotas {
    /// With the quotas of the namespace.
    #[must_use]
    pub fn with_shared(mut self, shared: Option<Arc<SharedQuotas>>) -> Self {
        self.shared = shared;
        self
    }

    /// Whether a stage has quotas that Redis is asked about.
    #[must_use]
    pub fn asks_redis(&self, stage: Stage) -> bool {
        self.shared.is_some() && self.shared_of(stage).next().is_some()
    }

    fn shared_of(&self, stage: Stage) -> impl Iterator<Item = &Quota> {
        self.quotas.iter().filter(move |quota| quota.stage == stage && quota.scope == Scope::Shared)
    }

    /// As [`Quotas::admit`], with Redis, for as long as the request may wait for it.
    pub async fn admit_shared(
        &self,
        stage: Stage,
        caller: &Caller<'_>,
        now: Timestamp,
        patience: &Patience,
    ) -> Verdict {
        let Some(shared) = &self.shared else { return self.admit(stage, caller, now) };
        if let Some(denied) = self.denied_here(stage, caller, now) {
            return Verdict::Deny(denied);
        }
        let (keys, arguments) = self.charges(shared, stage, caller, now);
        let budget = patience.left(CHARGE_BUDGET);
        let outcome = if budget.is_zero() {
            Err(Unavailable::TimedOut)
        } else {
            patience.spent_on(shared.charge.run(&shared.redis, &keys, &arguments, budget)).await
        };
        let answered = outcome.ok().and_then(|numbers| Answered::of(&numbers));
        let Some(answered) = answered.filter(|answered| answered.quotas.len() == keys.len()) else {
            shared.replicas.heard_nothing();
            self.shares.increment(1);
            return self.admit(stage, caller, now);
        };
        let violated = self.learned(stage, caller, now, &answered);
        if !answered.admitted {
            return Verdict::Deny(Denied {
                fields: self.fields(Counting::Together, caller, now),
                ..violated
            });
        }
        match self.admit_local(stage, caller, now) {
            Ok(()) => Verdict::Admit(self.fields(Counting::Together, caller, now)),
            // Another request was faster here; what Redis has charged, it gets back.
            Err(denied) => {
                self.returned(stage, caller, now);
                let refund = tokio::spawn({
                    let shared = Arc::clone(shared);
                    // Also where the request has no patience left for it.
                    async move { shared.refund.run(&shared.redis, &keys, &[], CHARGE_BUDGET).await }
                });
                let refunded = async { refund.await.unwrap_or(Err(Unavailable::TimedOut)) };
                let waited = tokio::time::timeout(patience.left(CHARGE_BUDGET), refunded);
                drop(patience.spent_on(async { waited.await.unwrap_or(Err(Unavailable::TimedOut)) }).await);
                Verdict::Deny(denied)
            }
        }
    }

    /// Learns from Redis what all gateways have used, so that a look tells it; charges nothing, and nobody is
    /// noted who has used nothing.
    pub async fn hear(&self, caller: &Caller<'_>, now: Timestamp, patience: &Patience) {
        let Some(shared) = &self.shared else { return };
        let quotas = || self.quotas.iter().filter(|quota| quota.scope == Scope::Shared);
        let key = |quota: &Quota| shared.key(&self.route, quota, partition::partition(&quota.key, caller));
        let (keys, arguments): (Vec<String>, Vec<[String; 2]>) = quotas()
            .map(|quota| {
                let per = quota.per.as_micros().max(1);
                (key(quota), [quota.requests.get().to_string(), per.to_string()])
            })
            .unzip();
        let budget = patience.left(CHARGE_BUDGET);
        if keys.is_empty() || budget.is_zero() {
            return;
        }
        let asked = shared.look.run(&shared.redis, &keys, arguments.as_flattened(), budget);
        let told = patience.spent_on(asked).await.unwrap_or_default();
        for (quota, used) in quotas().zip(told) {
            if let Some(used) = u64::try_from(used).ok().filter(|used| *used > 0) {
                let mut bucket = quota.bucket(caller, now);
                let full_at = quota.rate.full_at(used, now).max(bucket.full_at());
                bucket.charge(full_at);
            }
        }
    }

    fn charges(
        &self,
        shared: &SharedQuotas,
        stage: Stage,
        caller: &Caller<'_>,
        now: Timestamp,
    ) -> (Vec<String>, Vec<String>) {
        let (mut keys, mut arguments) = (Vec::new(), Vec::new());
        for quota in self.shared_of(stage) {
            let bucket = quota.bucket(caller, now);
            keys.push(shared.key(&self.route, quota, bucket.partition()));
            // While Redis answers it knows better, to the microsecond.
            let knows = shared.replicas.heard_all_of(quota.rate.fill_time());
            let used = if knows { 0 } else { quota.rate.used(bucket.full_at(), now) };
            let denies = u8::from(quota.mode == Mode::Enforce);
            let settings = [quota.requests.get().to_string(), quota.per.as_micros().max(1).to_string()];
            arguments.extend(settings);
            arguments.extend([quota.burst.get().to_string(), denies.to_string(), used.to_string()]);
        }
        (keys, arguments)
    }

    /// Keeps what Redis said, and counts what it denied.
    fn learned(&self, stage: Stage, caller: &Caller<'_>, now: Timestamp, answered: &Answered) -> Denied {
        let mut denied = Denied::default();
        for (quota, (fits, used)) in self.shared_of(stage).zip(&answered.quotas) {
            let full_at = quota.rate.full_at(*used, now);
            let mut bucket = quota.bucket(caller, now);
            // Answers may come in another order than they were given.
            let full_at = full_at.max(bucket.full_at());
            bucket.charge(full_at);
            drop(bucket);
            if !fits {
                let wait = match quota.rate.test(full_at, now) {
                    Test::TooEarly(wait) => wait,
                    Test::Fits(_) => Duration::ZERO,
                };
                denied.add(quota, wait);
            }
        }
        denied
    }

    /// Takes back what was learned of a charge.
    fn returned(&self, stage: Stage, caller: &Caller<'_>, now: Timestamp) {
        for quota in self.shared_of(stage) {
            let mut bucket: Bucket<'_> = quota.bucket(caller, now);
            let before: FullAt = quota.rate.before(bucket.full_at());
            bucket.charge(before);
        }
    }
}

#[cfg(test)]
mod tests;
