//! A source that is protected, and one that lies: several addresses, retries, the breaker, active checks,
//! and connections that wear out, a limit that adapts, answers that are broken in every way, and clients that
//! break off what they send. After each test nothing is under way or waiting.

mod addresses;
mod breaker;
mod health;
mod lies;
mod limit;
mod timeouts;
mod uploads;
mod worn;

use crate::support::{EVERYTHING, Gateway, ScriptedSource, Setup, eventually};

/// A port that nobody listens on.
const NOBODY: &str = "http://127.0.0.1:1";

/// A gateway for a source of several addresses with further keys.
async fn gateway_of(urls: &[&str], keys: &str, route: &str) -> Gateway {
    let urls: Vec<String> = urls.iter().map(|url| format!("{url:?}")).collect();
    let source = format!("[[source]]\nname = \"inventory\"\nurls = [{}]\n{keys}\n", urls.join(", "));
    Setup::new(format!("{source}{EVERYTHING}{route}")).start().await
}

/// The sum of a metric's series whose labels have all of `labels`.
async fn metric(gateway: &Gateway, name: &str, labels: &[&str]) -> f64 {
    let text = gateway.admin_get("/metrics").await.text();
    let series = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
        let (own, rest) = series.split_once('{').unwrap_or((series, ""));
        own == name && labels.iter().all(|label| rest.contains(label))
    });
    series.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
}

/// Waits until a metric has this value.
async fn becomes(gateway: &Gateway, name: &str, labels: &[&str], value: f64) {
    let what = format!("{name} {labels:?} becomes {value}");
    eventually(&what, async || (metric(gateway, name, labels).await - value).abs() < 0.5).await;
}

/// What counts something that is held by somebody.
const HELD: [&str; 8] = [
    "tidegate_source_in_flight",
    "tidegate_source_waiting",
    "tidegate_in_flight_bytes",
    "tidegate_fills",
    "tidegate_followers",
    "tidegate_tunnels",
    "tidegate_connections",
    "tidegate_panics_total",
];

/// Waits until nothing is held any more: no place, no turn in a queue, no byte of a body, no flight, no
/// client's connection; and nothing panicked.
async fn nothing_is_left(gateway: &Gateway) {
    for name in HELD {
        becomes(gateway, name, &[], 0.0).await;
    }
}

/// How many requests came in all.
fn asked(sources: &[&ScriptedSource]) -> Vec<usize> {
    sources.iter().map(|source| source.requests.all().len()).collect()
}
