//! Quotas: who may ask how often.
//!
//! All quotas of a stage are tested, then all are charged, or none: the buckets of a request stay
//! locked from the first test to the last charge. The `governor` crate charges whatever it tests,
//! so the arithmetic is here (`quota.rs`); it is the same one, GCRA.
//!
//! Requests are told what is left by [`Fields`]; what only counts (shadow) is not told.

mod fields;
mod local;
mod look;
mod partition;
mod quota;
#[cfg(test)]
mod tests;

pub use fields::{Fields, RATELIMIT, RATELIMIT_POLICY};

use crate::clock::Timestamp;
use crate::telemetry::metrics::QUOTA_DENIED;
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

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The client's address: the peer's, or what a trusted proxy says.
    pub address: IpAddr,
    /// The request's fields.
    pub fields: &'a HeaderMap,
    /// The name in the client's certificate, where it was asked for one.
    pub certificate: Option<&'a str>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// When the same request would be admitted, if nobody else asks.
    pub retry_after: Duration,
    /// The quotas that denied it, for `violated-policies`.
    pub violated: Vec<Arc<str>>,
    /// For the answer.
    pub fields: Fields,
}

impl Denied {
    /// The value of `Retry-After`: whole seconds, at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u64 {
        quota::whole_seconds(self.retry_after).max(1)
    }
}

/// The quotas of one route. One owner of what was consumed; the requests share it.
#[derive(Debug)]
pub struct Quotas {
    quotas: Vec<Quota>,
    policy: Option<HeaderValue>,
}

#[derive(Debug)]
struct Quota {
    name: Arc<str>,
    quoted: String,
    rate: Rate,
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
        Self::of(settings, |settings| Quota::new(route, settings, KEYS_MAX))
    }

    /// The quotas of `route` by other settings. One of the same name that counts the same things apart goes on
    /// with what was consumed, by its new figures.
    #[must_use]
    pub fn succeed(&self, route: &str, settings: &[QuotaSettings], now: Timestamp) -> Self {
        Self::of(settings, |settings| {
            let new = Quota::new(route, settings, KEYS_MAX);
            let old = self.quotas.iter().find(|old| *old.name == settings.name && old.key == settings.key);
            match old {
                Some(old) => Quota { buckets: old.counted_by(&new.rate, now), ..new },
                None => new,
            }
        })
    }

    fn of(settings: &[QuotaSettings], quota: impl FnMut(&QuotaSettings) -> Quota) -> Self {
        let mut policy = String::new();
        let quotas: Vec<Quota> = settings.iter().map(quota).collect();
        for (quota, settings) in quotas.iter().zip(settings) {
            if quota.mode == Mode::Enforce {
                fields::push_policy(&mut policy, &quota.quoted, settings.requests.get(), settings.per);
            }
        }
        Self { quotas, policy: fields::value(policy) }
    }

    /// Tests all quotas of a stage, then charges all of them, or none. The verdict's fields tell of
    /// the quotas of both stages, so that the last verdict is the one to answer with.
    #[must_use]
    pub fn admit(&self, stage: Stage, caller: &Caller<'_>, now: Timestamp) -> Verdict {
        let mut tested: Vec<Tested<'_>> = Vec::with_capacity(self.quotas.len());
        for quota in self.quotas.iter().filter(|quota| quota.stage == stage) {
            let bucket = quota.buckets.lock(partition::partition(&quota.key, caller), &quota.rate, now);
            let test = quota.rate.test(bucket.full_at(), now);
            tested.push(Tested { quota, bucket, test });
        }
        let mut retry_after = Duration::ZERO;
        let mut violated = Vec::new();
        for Tested { quota, test, .. } in &tested {
            if let Test::TooEarly(wait) = *test {
                quota.denied.increment(1);
                if quota.mode == Mode::Enforce {
                    violated.push(Arc::clone(&quota.name));
                    retry_after = retry_after.max(wait);
                }
            }
        }
        if violated.is_empty() {
            for Tested { bucket, test, .. } in &mut tested {
                if let Test::Fits(after) = *test {
                    bucket.charge(after);
                }
            }
        }
        // The locks of this stage must be free before the buckets are looked at.
        drop(tested);
        let fields = self.fields(caller, now);
        if violated.is_empty() {
            Verdict::Admit(fields)
        } else {
            Verdict::Deny(Denied { retry_after, violated, fields })
        }
    }

    fn fields(&self, caller: &Caller<'_>, now: Timestamp) -> Fields {
        let mut limit = String::new();
        for quota in self.quotas.iter().filter(|quota| quota.mode == Mode::Enforce) {
            let bucket: FullAt = quota.buckets.look(partition::partition(&quota.key, caller));
            let (remaining, until_more) = quota.rate.remaining(bucket, now);
            fields::push_limit(&mut limit, &quota.quoted, remaining, until_more);
        }
        Fields { policy: self.policy.clone(), limit: fields::value(limit) }
    }
}

impl Quota {
    fn new(route: &str, settings: &QuotaSettings, keys_max: usize) -> Self {
        let labels = [("route", route.to_owned()), ("limit", settings.name.clone())];
        Self {
            name: settings.name.as_str().into(),
            quoted: fields::quoted(&settings.name),
            rate: Rate::new(settings.requests, settings.per, settings.burst),
            key: settings.key.clone(),
            mode: settings.mode,
            stage: settings.stage,
            buckets: Arc::new(Buckets::new(keys_max)),
            denied: metrics::counter!(QUOTA_DENIED, &labels),
        }
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
