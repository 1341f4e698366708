//! Quotas: who may ask how often.
//!
//! All quotas of a stage are tested, then all are charged, or none: the buckets of a request stay
//! locked from the first test to the last charge. The `governor` crate charges whatever it tests,
//! so the arithmetic is here (`quota.rs`); it is the same one, GCRA.
//!
//! Requests are told what is left by [`Fields`]; what only counts (shadow) is not told. Quotas that several gateways
//! have together are in `shared.rs`.

mod fields;
mod local;
mod look;
mod partition;
mod quota;
mod shared;
#[cfg(test)]
mod tests;

pub use fields::{Fields, RATELIMIT, RATELIMIT_POLICY};
pub use shared::SharedQuotas;

use crate::clock::Timestamp;
use crate::telemetry::metrics::{QUOTA_DENIED, QUOTA_SHARES};
use http::{HeaderMap, HeaderName, HeaderValue};
use local::{Bucket, Buckets, KEYS_MAX};
use metrics::Counter;
use quota::{FullAt, Rate, Test};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A quota (`[[route.limit]]`).
#[derive(Clone, Debug)]
pub struct QuotaSettings {
    /// The policy's name in `RateLimit-Policy`.
    pub name: String,
    /// Requests per `per`.
    pub requests: NonZeroU32,
    /// The window.
    pub per: Duration,
    /// Requests at once.
    pub burst: NonZeroU32,
    /// What is counted apart.
    pub key: QuotaKey,
    /// Whether it stops requests.
    pub mode: Mode,
    /// Which requests it counts.
    pub stage: Stage,
    /// Who counts together.
    pub scope: Scope,
}

/// The partition key of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaKey {
    /// The client's address; IPv6 by /64.
    Client,
    /// The value of a request field; those without it share one.
    Header(HeaderName),
    /// The name in the client's certificate; those without one share one.
    Certificate,
    /// Who was let in by name (`route.access`); those without one by address.
    Identity,
    /// All requests of the route together.
    Route,
}

/// Whether a quota stops requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It denies.
    Enforce,
    /// It only counts what it would deny.
    Shadow,
}

impl Mode {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}

/// Which requests a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Every request.
    Edge,
    /// Only what is forwarded.
    Source,
}

impl Stage {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Source => "source",
        }
    }
}

/// Who counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each gateway for itself.
    Local,
    /// All gateways of the namespace.
    Shared,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The client's address: the peer's, or what a trusted proxy says.
    pub address: IpAddr,
    /// The request's fields.
    pub fields: &'a HeaderMap,
    /// The name in the client's certificate, where it was asked for one.
    pub certificate: Option<&'a str>,
    /// What tells who was let in from others, where anybody was by name.
    pub identity: Option<&'a [u8]>,
}

/// What the quotas say to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on; for the answer.
    Admit(Fields),
    /// Answer 429.
    Deny(Denied),
}

/// A denied request: what the 429 says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// When the same request would be admitted, if nobody else asks.
    pub retry_after: Duration,
    /// The quotas that denied it, for `violated-policies`.
    pub violated: Vec<Arc<str>>,
    /// For the answer.
    pub fields: Fields,
}

impl Denied {
    /// One more quota that does not admit the request for so long; counted.
    fn add(&mut self, quota: &Quota, wait: Duration) {
        quota.denied.increment(1);
        if quota.mode == Mode::Enforce {
            self.violated.push(Arc::clone(&quota.name));
            self.retry_after = self.retry_after.max(wait);
        }
    }

    /// The value of `Retry-After`: whole seconds, at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u64 {
        quota::whole_seconds(self.retry_after).max(1)
    }
}

/// The quotas of one route. One owner of what was consumed; the requests share it.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "they are what it is")]
pub struct Quotas {
    route: Arc<str>,
    quotas: Vec<Quota>,
    policy: Option<HeaderValue>,
    /// Where quotas of several gateways are; `None`: they are counted here.
    shared: Option<Arc<SharedQuotas>>,
    /// Requests that were judged by this gateway's share.
    shares: Counter,
}

/// How a quota of several gateways is counted now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counting {
    /// By Redis.
    Together,
    /// Each gateway its share.
    Apart,
}

#[derive(Debug)]
struct Quota {
    name: Arc<str>,
    quoted: String,
    requests: NonZeroU32,
    per: Duration,
    burst: NonZeroU32,
    rate: Rate,
    scope: Scope,
    key: QuotaKey,
    mode: Mode,
    stage: Stage,
    buckets: Arc<Buckets>,
    denied: Counter,
}

/// A quota of the stage, its locked bucket, and what that said.
struct Tested<'a> {
    quota: &'a Quota,
    bucket: Bucket<'a>,
    test: Test,
}

impl Quotas {
    /// The quotas of `route`, all full. The metrics recorder must be installed before.
    #[must_use]
    pub fn new(route: &str, settings: &[QuotaSettings]) -> Self {
        Self::of(route, settings, |settings| Quota::new(route, settings, KEYS_MAX))
    }

    /// The quotas of `route` by other settings. One of the same name that counts the same things apart goes on
    /// with what was consumed, by its new figures.
    #[must_use]
    pub fn succeed(&self, route: &str, settings: &[QuotaSettings], now: Timestamp) -> Self {
        Self::of(route, settings, |settings| {
            let new = Quota::new(route, settings, KEYS_MAX);
            let old = self.quotas.iter().find(|old| *old.name == settings.name && old.key == settings.key);
            match old {
                Some(old) => Quota { buckets: old.counted_by(&new.rate, now), ..new },
                None => new,
            }
        })
    }

    fn of(route: &str, settings: &[QuotaSettings], quota: impl FnMut(&QuotaSettings) -> Quota) -> Self {
        let mut policy = String::new();
        let quotas: Vec<Quota> = settings.iter().map(quota).collect();
        for (quota, settings) in quotas.iter().zip(settings) {
            if quota.mode == Mode::Enforce {
                fields::push_policy(&mut policy, &quota.quoted, settings.requests.get(), settings.per);
            }
        }
        let shares = metrics::counter!(QUOTA_SHARES, "route" => route.to_owned());
        Self { route: route.into(), quotas, policy: fields::value(policy), shared: None, shares }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.quotas.is_empty()
    }

    /// Tests all quotas of a stage, then charges all of them, or none. The verdict's fields tell of
    /// the quotas of both stages, so that the last verdict is the one to answer with. Of a quota of
    /// several gateways this one's share counts.
    #[must_use]
    pub fn admit(&self, stage: Stage, caller: &Caller<'_>, now: Timestamp) -> Verdict {
        let among = |quota: &Quota| quota.stage == stage;
        let outcome = charged(self.tested(among, caller, now));
        // The locks of this stage are free again: now the buckets can be looked at.
        let counting = if self.asks_redis(stage) { Counting::Apart } else { Counting::Together };
        let fields = self.fields(counting, caller, now);
        match outcome {
            Ok(()) => Verdict::Admit(fields),
            Err(denied) => Verdict::Deny(Denied { fields, ..denied }),
        }
    }

    /// As [`Quotas::admit`] where no quota has a word against it and none asks Redis; else `None`, and nothing was
    /// charged or counted.
    #[must_use]
    pub fn admit_at_once(&self, stage: Stage, caller: &Caller<'_>, now: Timestamp) -> Option<Fields> {
        if self.is_empty() {
            return Some(Fields::default());
        }
        if self.asks_redis(stage) {
            return None;
        }
        let mut tested = self.tested(|quota| quota.stage == stage, caller, now);
        if tested.iter().any(|tested| matches!(tested.test, Test::TooEarly(_))) {
            return None;
        }
        charge(&mut tested);
        drop(tested);
        Some(self.fields(Counting::Together, caller, now))
    }

    /// What those quotas of a stage say that no other gateway has a part in; charges nothing.
    fn denied_here(&self, stage: Stage, caller: &Caller<'_>, now: Timestamp) -> Option<Denied> {
        let among = |quota: &Quota| quota.stage == stage && quota.scope == Scope::Local;
        let tested = self.tested(among, caller, now);
        let is_too_early = |tested: &Tested<'_>| matches!(tested.test, Test::TooEarly(_));
        let enforced = |tested: &&Tested<'_>| tested.quota.mode == Mode::Enforce;
        let denied = tested.iter().filter(enforced).any(is_too_early).then(|| denied(&tested));
        drop(tested);
        Some(Denied { fields: self.fields(Counting::Together, caller, now), ..denied? })
    }

    /// Tests and charges them.
    ///
    /// # Errors
    /// What denies.
    fn admit_local(&self, stage: Stage, caller: &Caller<'_>, now: Timestamp) -> Result<(), Denied> {
        let among = |quota: &Quota| quota.stage == stage && quota.scope == Scope::Local;
        let outcome = charged(self.tested(among, caller, now));
        outcome.map_err(|denied| Denied { fields: self.fields(Counting::Together, caller, now), ..denied })
    }

    fn tested(&self, among: impl Fn(&Quota) -> bool, caller: &Caller<'_>, now: Timestamp) -> Vec<Tested<'_>> {
        let mut tested: Vec<Tested<'_>> = Vec::with_capacity(self.quotas.len());
        for quota in self.quotas.iter().filter(|quota| among(quota)) {
            let bucket = quota.bucket(caller, now);
            let test = self.rate(quota, Counting::Apart).test(bucket.full_at(), now);
            tested.push(Tested { quota, bucket, test });
        }
        tested
    }

    fn rate(&self, quota: &Quota, counting: Counting) -> Rate {
        match (&self.shared, quota.scope, counting) {
            (Some(shared), Scope::Shared, Counting::Apart) => quota.rate.share(shared.replicas()),
            _ => quota.rate,
        }
    }

    fn fields(&self, counting: Counting, caller: &Caller<'_>, now: Timestamp) -> Fields {
        let mut limit = String::new();
        for quota in self.quotas.iter().filter(|quota| quota.mode == Mode::Enforce) {
            let bucket: FullAt = quota.buckets.look(partition::partition(&quota.key, caller));
            let (remaining, until_more) = self.rate(quota, counting).remaining(bucket, now);
            fields::push_limit(&mut limit, &quota.quoted, remaining, until_more);
        }
        Fields { policy: self.policy.clone(), limit: fields::value(limit) }
    }
}

/// Charges all, or none where one denies.
///
/// # Errors
/// What denies; its fields are still to be told.
fn charged(mut tested: Vec<Tested<'_>>) -> Result<(), Denied> {
    let denied = denied(&tested);
    if !denied.violated.is_empty() {
        return Err(denied);
    }
    charge(&mut tested);
    Ok(())
}

fn charge(tested: &mut [Tested<'_>]) {
    for Tested { bucket, test, .. } in tested {
        if let Test::Fits(after) = *test {
            bucket.charge(after);
        }
    }
}

/// What does not admit a request; counted.
fn denied(tested: &[Tested<'_>]) -> Denied {
    let mut denied = Denied::default();
    for Tested { quota, test, .. } in tested {
        if let Test::TooEarly(wait) = *test {
            denied.add(quota, wait);
        }
    }
    denied
}

impl Quota {
    fn new(route: &str, settings: &QuotaSettings, keys_max: usize) -> Self {
        let labels = [("route", route.to_owned()), ("limit", settings.name.clone())];
        Self {
            name: settings.name.as_str().into(),
            quoted: fields::quoted(&settings.name),
            requests: settings.requests,
            per: settings.per,
            burst: settings.burst,
            rate: Rate::new(settings.requests, settings.per, settings.burst),
            scope: settings.scope,
            key: settings.key.clone(),
            mode: settings.mode,
            stage: settings.stage,
            buckets: Arc::new(Buckets::new(keys_max)),
            denied: metrics::counter!(QUOTA_DENIED, &labels),
        }
    }

    /// The caller's bucket, locked.
    fn bucket(&self, caller: &Caller<'_>, now: Timestamp) -> Bucket<'_> {
        self.buckets.lock(partition::partition(&self.key, caller), &self.rate, now)
    }

    /// What was consumed, as another rate counts it. By the same one it is the same: what is charged here by
    /// requests that are under way counts there.
    fn counted_by(&self, rate: &Rate, now: Timestamp) -> Arc<Buckets> {
        if self.rate == *rate {
            return Arc::clone(&self.buckets);
        }
        Arc::new(self.buckets.converted(&self.rate, rate, now))
    }
}
