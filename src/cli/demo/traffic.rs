//! Mixed traffic through the gateway: skewed reads, bursts on one item, writes, and one client
//! that asks for more than its quota. What is counted is what a client can see.

use super::client::{Answer, Http};
use super::destination::RESERVED;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Requests a second that one client may send; the greedy client sends more.
pub(super) const QUOTA_REQUESTS: u32 = 150;
/// Requests of the greedy client at once.
const GREEDY_REQUESTS: usize = 220;
/// Requests of a burst on one item.
const BURST_REQUESTS: usize = 40;
/// Clients that read without hurry.
const READERS: usize = 8;
/// Clients that write.
const WRITERS: usize = 2;
/// Latencies kept of each kind; beyond that a random one is replaced.
const SAMPLES_MAX: usize = 50_000;
/// Times that the last write is tried.
const LAST_WRITE_TRIES: usize = 5;

/// How an answer came about, as its `Cache-Status` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Out of memory.
    Hit,
    /// Somebody else's forward answered this request too.
    Collapsed,
    /// One forward to the source for this request.
    Forwarded,
    /// It says none of these.
    Unknown,
}

impl Origin {
    /// Reads one `Cache-Status` member (RFC 9211 2).
    pub(super) fn of(cache_status: &str) -> Self {
        let mut parameters = cache_status.split(';').skip(1).map(str::trim);
        let mut origin = Self::Unknown;
        parameters.find(|parameter| {
            origin = match *parameter {
                "hit" => Self::Hit,
                "collapsed" | "collapsed=?1" => Self::Collapsed,
                forward if forward.starts_with("fwd=") => Self::Forwarded,
                _ => origin,
            };
            matches!(origin, Self::Hit | Self::Collapsed)
        });
        origin
    }
}

/// Latencies of one kind of answer, in microseconds.
#[derive(Default)]
pub(super) struct Latencies(Mutex<(usize, Vec<u64>)>);

impl Latencies {
    fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        let seen = kept.0;
        if kept.1.len() < SAMPLES_MAX {
            kept.1.push(micros);
        } else if let Some(replaced) = kept.1.get_mut(fastrand::usize(0..seen)) {
            *replaced = micros;
        }
    }

    /// The latency that `per_mille` of a thousand answers did not exceed; zero where there was none.
    pub(super) fn quantile_micros(&self, per_mille: usize) -> u64 {
        let mut sorted = self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * per_mille).div_ceil(1000).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }
}

/// What clients saw.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) reads: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) collapsed: AtomicU64,
    pub(super) forwards: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) hit_latencies: Latencies,
    pub(super) forward_latencies: Latencies,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    /// Counts the answer to a read.
    fn read(&self, answer: &Answer) -> Origin {
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS => {
                count(&self.denied);
                return Origin::Unknown;
            }
            StatusCode::OK => count(&self.reads),
            _ => {
                count(&self.failures);
                return Origin::Unknown;
            }
        }
        let field = answer.headers.get("cache-status").and_then(|value| value.to_str().ok());
        let origin = Origin::of(field.unwrap_or_default());
        match origin {
            Origin::Hit => count(&self.hits),
            Origin::Collapsed => count(&self.collapsed),
            Origin::Forwarded => count(&self.forwards),
            Origin::Unknown => {}
        }
        origin
    }

    /// Keeps how long an answer took.
    fn time(&self, origin: Origin, took: Duration) {
        match origin {
            Origin::Hit => self.hit_latencies.add(took),
            Origin::Forwarded => self.forward_latencies.add(took),
            Origin::Collapsed | Origin::Unknown => {}
        }
    }
}

/// Who sends: the pool, the gateway, and where answers are counted.
#[derive(Clone)]
pub(super) struct Clients {
    http: Http,
    gateway: SocketAddr,
    tally: Arc<Tally>,
    /// Ends all of them, each after the request that it has under way.
    stop: CancellationToken,
}

impl Clients {
    pub(super) fn new(http: Http, gateway: SocketAddr) -> Self {
        Self { http, gateway, tally: Arc::default(), stop: CancellationToken::new() }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Starts all of them.
    pub(super) fn start(&self) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for reader in 0..READERS {
            running.spawn(self.clone().read_calmly(reader));
        }
        for writer in 0..WRITERS {
            running.spawn(self.clone().write_now_and_then(writer));
        }
        running.spawn(self.clone().burst_after_writes());
        running.spawn(self.clone().be_greedy());
        running
    }

    /// Ends them; every request under way gets its answer first.
    pub(super) async fn stop(&self, running: JoinSet<()>) {
        self.stop.cancel();
        running.join_all().await;
    }

    /// The last write of all, to the item that nobody else writes.
    pub(super) async fn write_reserved(&self) -> anyhow::Result<()> {
        for _ in 0..LAST_WRITE_TRIES {
            if self.write(RESERVED, "last").await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::bail!("the gateway did not accept the last write")
    }

    async fn read_calmly(self, reader: usize) {
        let client = format!("reader-{reader}");
        while !self.stop.is_cancelled() {
            // Only these are timed: requests of a burst wait for one another in this very process.
            if let Some((origin, took)) = self.read(popular_item(), &client).await {
                self.tally.time(origin, took);
            }
            self.pause(5..20).await;
        }
    }

    async fn write_now_and_then(self, writer: usize) {
        let client = format!("writer-{writer}");
        while !self.stop.is_cancelled() {
            self.write(fastrand::u32(1..RESERVED), &client).await;
            self.pause(60..160).await;
        }
    }

    /// A write makes the stored response old; everybody asks at once.
    async fn burst_after_writes(self) {
        while !self.stop.is_cancelled() {
            let id = popular_item();
            self.write(id, "burst").await;
            join_all((0..BURST_REQUESTS).map(|_| self.read(id, "burst"))).await;
            self.pause(500..900).await;
        }
    }

    async fn be_greedy(self) {
        while !self.stop.is_cancelled() {
            self.pause(1500..2500).await;
            join_all((0..GREEDY_REQUESTS).map(|_| self.read(popular_item(), "greedy"))).await;
        }
    }

    async fn pause(&self, millis: std::ops::Range<u64>) {
        let over = tokio::time::sleep(Duration::from_millis(fastrand::u64(millis)));
        self.stop.run_until_cancelled(over).await.unwrap_or_default();
    }

    fn url(&self, id: u32) -> String {
        format!("http://{}/items/{id}", self.gateway)
    }

    /// How the answer came about and how long it took; none where there was no answer.
    async fn read(&self, id: u32, client: &str) -> Option<(Origin, Duration)> {
        let Ok(answer) = self.http.call(Method::GET, &self.url(id), client, None).await else {
            count(&self.tally.failures);
            return None;
        };
        Some((self.tally.read(&answer), answer.took))
    }

    /// Whether the write was acknowledged.
    async fn write(&self, id: u32, client: &str) -> bool {
        let body = json!({ "name": format!("Item {id}"), "stock": fastrand::u64(0..100_000) });
        match self.http.call(Method::PUT, &self.url(id), client, Some(&body)).await {
            Ok(answer) if answer.status.is_success() => {
                count(&self.tally.writes);
                return true;
            }
            Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => count(&self.tally.denied),
            Ok(_) | Err(_) => count(&self.tally.failures),
        }
        false
    }
}

/// A few items are asked for most of the time.
fn popular_item() -> u32 {
    let skewed = fastrand::f64().powi(3) * f64::from(RESERVED - 1);
    // In 0.0..199.0, so that the cast is exact enough.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the line above")]
    let index = skewed as u32;
    1 + index.min(RESERVED - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_tells_the_origin_rfc_9211_2() {
        for (field, origin) in [
            ("tidegate; hit", Origin::Hit),
            ("tidegate; hit; ttl=3; detail=memory", Origin::Hit),
            ("tidegate; fwd=miss; stored", Origin::Forwarded),
            ("tidegate; fwd=uri-miss; collapsed", Origin::Collapsed),
            ("tidegate; fwd=stale; fwd-status=304", Origin::Forwarded),
            ("tidegate", Origin::Unknown),
            ("", Origin::Unknown),
        ] {
            assert_eq!(Origin::of(field), origin, "{field}");
        }
    }

    #[test]
    fn quantiles_are_answers_that_were_seen() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantile_micros(500), 0);
        for micros in 1..=100 {
            latencies.add(Duration::from_micros(micros));
        }
        assert_eq!(latencies.quantile_micros(500), 50);
        assert_eq!(latencies.quantile_micros(990), 99);
    }

    #[test]
    fn ordinary_traffic_leaves_the_reserved_item_alone() {
        assert!((0..10_000).all(|_| (1..RESERVED).contains(&popular_item())));
    }
}
