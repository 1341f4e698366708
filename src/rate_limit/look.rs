//! What is left of quotas, told without charging anybody.

use super::quota::Test;
use super::{Caller, Counting, Denied, Mode, Quotas, Stage, partition};
use crate::clock::Timestamp;
use crate::explanation::QuotaState;
use std::time::Duration;

impl Quotas {
    /// The quotas of both stages as the caller finds them.
    #[must_use]
    pub fn look(&self, caller: &Caller<'_>, now: Timestamp) -> Vec<QuotaState> {
        let state = |quota: &super::Quota| {
            let bucket = quota.buckets.look(partition::partition(&quota.key, caller));
            let (remaining, until_more) = quota.rate.remaining(bucket, now);
            QuotaState {
                name: quota.name.to_string(),
                stage: quota.stage.as_str().to_owned(),
                mode: quota.mode.as_str().to_owned(),
                remaining,
                until_more: until_more.as_secs_f64(),
            }
        };
        self.quotas.iter().map(state).collect()
    }

    /// What [`Quotas::admit`] would deny the caller with.
    #[must_use]
    pub fn would_deny(&self, stage: Stage, caller: &Caller<'_>, now: Timestamp) -> Option<Denied> {
        let (mut retry_after, mut violated) = (Duration::ZERO, Vec::new());
        let enforced = self.quotas.iter().filter(|quota| quota.stage == stage && quota.mode == Mode::Enforce);
        for quota in enforced {
            let bucket = quota.buckets.look(partition::partition(&quota.key, caller));
            if let Test::TooEarly(wait) = quota.rate.test(bucket, now) {
                violated.push(quota.name.clone());
                retry_after = retry_after.max(wait);
            }
        }
        let fields = self.fields(Counting::Together, caller, now);
        (!violated.is_empty()).then_some(Denied { retry_after, violated, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::{QuotaKey, QuotaSettings, Scope, Verdict};
    use http::HeaderMap;
    use std::num::NonZeroU32;

    #[test]
    fn a_look_says_what_admission_says_and_takes_nothing() {
        let one = NonZeroU32::MIN;
        let quota = |name: &str, mode, stage, requests| QuotaSettings {
            name: name.to_owned(),
            requests,
            per: Duration::from_hours(1),
            burst: requests,
            key: QuotaKey::Client,
            scope: Scope::Local,
            mode,
            stage,
        };
        let quotas = Quotas::new(
            "r",
            &[
                quota("edge", Mode::Enforce, Stage::Edge, one.saturating_add(2)),
                quota("shadow", Mode::Shadow, Stage::Edge, one),
                quota("source", Mode::Enforce, Stage::Source, one),
            ],
        );
        let fields = HeaderMap::new();
        let (caller, now) = (
            Caller { address: [127, 0, 0, 1].into(), fields: &fields, certificate: None, identity: None },
            Timestamp::from_millis(1 << 40),
        );
        for left in [3, 2, 1, 0] {
            for _ in 0..5 {
                let seen = quotas.look(&caller, now);
                let remaining: Vec<u64> = seen.iter().map(|quota| quota.remaining).collect();
                assert_eq!(remaining, [left, u64::from(left == 3), 1]);
                assert_eq!(quotas.would_deny(Stage::Source, &caller, now), None);
            }
            let foreseen = quotas.would_deny(Stage::Edge, &caller, now);
            let denied = match quotas.admit(Stage::Edge, &caller, now) {
                Verdict::Admit(_) => None,
                Verdict::Deny(denied) => Some(denied),
            };
            assert_eq!((&foreseen, denied.is_some()), (&denied, left == 0));
        }
    }
}
