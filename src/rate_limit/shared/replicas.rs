//! How many gateways share the quotas of a namespace: each says every second that it is there. And when Redis last
//! did not answer: what it has forgotten since must be told.

use super::script::Script;
use crate::redis::Redis;
use crate::telemetry::metrics::REPLICAS;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How often a gateway says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// One that has been silent for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// What a beat waits for Redis; nobody waits for the beat.
const BUDGET: Duration = Duration::from_millis(250);
/// The most of so many counts is what is known: a Redis that has just come back knows too few.
const COUNTS: usize = 5;

/// The number of gateways as last heard.
#[derive(Debug)]
pub(super) struct Replicas {
    heard: Arc<Heard>,
    _beat: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Heard {
    known: AtomicU32,
    began: Instant,
    /// When Redis last did not answer, in milliseconds after `began`; zero: it always has.
    silent_at: AtomicU64,
}

impl Heard {
    fn nothing(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.silent_at.store(millis.max(1), Ordering::Relaxed);
    }
}

impl Replicas {
    /// Begins to beat; needs a running Tokio.
    pub(super) fn start(redis: &Arc<Redis>, namespace: &str) -> Self {
        let (known, silent_at) = (AtomicU32::new(1), AtomicU64::new(0));
        let heard = Arc::new(Heard { known, began: Instant::now(), silent_at });
        let beat = beat(Arc::clone(redis), format!("{namespace}:q:replicas"), Arc::clone(&heard));
        Self { heard, _beat: AbortOnDropHandle::new(tokio::spawn(beat)) }
    }

    /// How many there are, this one included.
    pub(super) fn known(&self) -> u32 {
        self.heard.known.load(Ordering::Relaxed)
    }

    /// Redis did not answer.
    pub(super) fn heard_nothing(&self) {
        self.heard.nothing();
    }

    /// Whether Redis has always answered for so long.
    pub(super) fn heard_all_of(&self, time: Duration) -> bool {
        let silent_at = self.heard.silent_at.load(Ordering::Relaxed);
        silent_at == 0 || self.heard.began.elapsed().saturating_sub(Duration::from_millis(silent_at)) > time
    }
}

async fn beat(redis: Arc<Redis>, key: String, heard: Arc<Heard>) {
    let script = Script::new(include_str!("beat.lua"));
    let (keys, own) = ([key], format!("{:032x}", fastrand::u128(..)));
    let arguments = [own, GONE_AFTER.as_millis().to_string()];
    let gauge = metrics::gauge!(REPLICAS);
    gauge.set(1);
    let mut counts = [1_u32; COUNTS];
    let mut tick = tokio::time::interval(BEAT_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Ok(answer) = script.run(&redis, &keys, &arguments, BUDGET).await else {
            heard.nothing();
            continue;
        };
        let count = answer.first().and_then(|count| u32::try_from(*count).ok()).unwrap_or(1);
        counts.rotate_right(1);
        if let Some(latest) = counts.first_mut() {
            *latest = count.max(1);
        }
        let most = counts.iter().copied().max().unwrap_or(1);
        heard.known.store(most, Ordering::Relaxed);
        gauge.set(most);
    }
}
