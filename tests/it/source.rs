//! A source that is protected, and one that lies: several addresses, retries, the breaker, active checks,
//! and answers that are broken in every way. After each test nothing is under way or waiting.

mod addresses;
mod breaker;
mod health;
mod lies;
mod timeouts;

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

/// Waits until no permit, queue place or body of the source is held any more.
async fn nothing_is_left(gateway: &Gateway) {
    becomes(gateway, "tidegate_source_in_flight", &[], 0.0).await;
    becomes(gateway, "tidegate_source_waiting", &[], 0.0).await;
}

/// How many requests came in all.
fn asked(sources: &[&ScriptedSource]) -> Vec<usize> {
    sources.iter().map(|source| source.requests.all().len()).collect()
}
