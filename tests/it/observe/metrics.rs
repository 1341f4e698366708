//! A scrape of a gateway that has seen traffic, writes, a dead letter and the loss of Redis.

use crate::support::{
    Ask, EVERYTHING, Gateway, RecordingDestination, RedisServer, Reply, SYNC, ScriptedSource, Setup,
    eventually,
};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const LIMIT: &str = "[[route.limit]]\nname = \"all\"\nrequests = 1000\nper = \"1s\"\n";

/// What has to be there from the first scrape on, whatever has happened.
const NAMED_IN_THE_CONTRACT: [&str; 7] = [
    "tidegate_requests_total{route=\"items\",cache_status=\"hit\"}",
    "tidegate_destination_lag_seconds{destination=\"search\"}",
    "tidegate_destination_pending{destination=\"search\"}",
    "tidegate_dead_letters{destination=\"search\"}",
    "tidegate_source_requests_total{source=\"inventory\",reason=\"uri-miss\"}",
    "tidegate_collapsed_total{route=\"items\"}",
    "tidegate_quota_denied_total{route=\"items\",limit=\"all\"}",
];

struct Eventful {
    gateway: Gateway,
    _source: ScriptedSource,
    _destination: RecordingDestination,
    _redis: RedisServer,
}

async fn eventful() -> Eventful {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.on("*", |_| Reply::ok("stored").field("Cache-Control", "max-age=60"));
    destination.answer(|delivery| {
        if delivery.request.body.starts_with(b"bad") { Reply::new(400, "no") } else { Reply::ok("") }
    });
    let mut redis = RedisServer::start().await;
    let text = format!(
        "{}{}{}{EVERYTHING}{LIMIT}{SYNC}",
        redis.table(),
        source.table(),
        destination.table("search")
    );
    let gateway = Setup::new(text).start().await;
    gateway.uses_redis().await;
    for _ in 0..3 {
        gateway.get("/items/1").await;
    }
    gateway.put("/items/1", "good").await;
    gateway.put("/items/2", "bad").await;
    eventually("a dead letter", async || gateway.metric("tidegate_dead_letters").await == 1).await;
    gateway.admin_post("/v1/purge", &serde_json::json!({ "all": true })).await;
    redis.stop().await;
    let mut asked = 0;
    eventually("Redis is given up", async || {
        asked += 1;
        gateway.get(&format!("/lost/{asked}")).await;
        gateway.metric("tidegate_redis_breaker_state").await > 0
    })
    .await;
    Eventful { gateway, _source: source, _destination: destination, _redis: redis }
}

/// The metrics that a file names, those of histograms without the suffix of their series.
fn named(path: &str, present: &BTreeSet<String>) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(file).expect(path);
    let words =
        text.split(|own: char| !(own.is_ascii_alphanumeric() || own == '_' || own == ':' || own == '-'));
    let metrics = words.filter(|word| word.starts_with("tidegate_") || word.starts_with("process_"));
    let family = |word: &str| {
        let of = |suffix| word.strip_suffix(suffix).filter(|family| present.contains(*family));
        ["_bucket", "_sum", "_count"].into_iter().find_map(of).unwrap_or(word).to_owned()
    };
    metrics.map(family).collect()
}

/// The families of a scrape that have a series.
fn families(scrape: &str) -> BTreeSet<String> {
    let typed: BTreeSet<&str> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ').map(|(name, _)| name))
        .collect();
    let series = scrape.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let found = series.map(|line| {
        let name = line.split(['{', ' ']).next().expect("a name");
        let of = |suffix| name.strip_suffix(suffix).filter(|family| typed.contains(*family));
        let family = ["_bucket", "_sum", "_count"].into_iter().find_map(of).unwrap_or(name);
        assert!(typed.contains(family) && scrape.contains(&format!("# HELP {family} ")), "{line}");
        family.to_owned()
    });
    found.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_of_the_rules_and_the_dashboard_is_in_a_scrape() {
    let eventful = eventful().await;
    let scrape = eventful.gateway.admin_get("/metrics").await.text();
    let present = families(&scrape);
    for series in NAMED_IN_THE_CONTRACT {
        assert!(scrape.contains(series), "{series}\n{scrape}");
    }
    for path in ["deploy/prometheus/tidegate.rules.yaml", "deploy/grafana/tidegate.json"] {
        let named = named(path, &present);
        assert!(named.len() > 10, "{path}: {named:?}");
        let missing: Vec<_> = named.difference(&present).collect();
        assert!(missing.is_empty(), "{path} names what no scrape has: {missing:?}\n{scrape}");
    }
    let value = |series: &str| -> f64 {
        let line = scrape.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series}"));
        line.rsplit(' ').next().expect("a value").parse().expect("a number")
    };
    for series in [
        "tidegate_request_head_seconds_count{route=\"items\",served=\"hit\"}",
        "tidegate_request_head_seconds_count{route=\"items\",served=\"forward\"}",
        "tidegate_journal_used_bytes ",
        "tidegate_journal_max_bytes ",
        "tidegate_journal_state{state=\"accepts\"}",
        "tidegate_memory_bytes ",
        "process_max_fds ",
    ] {
        assert!(value(series) > 0.0, "{series}\n{scrape}");
    }
    assert!(value("tidegate_journal_state{state=\"full\"}").abs() < f64::EPSILON);
    linted(&scrape);
    let series = scrape.lines().filter(|line| !line.starts_with('#')).count();
    for number in 0..200 {
        eventful.gateway.send(Ask::new(&format!("M{number}"), &format!("/other/{number}"))).await;
    }
    let after = eventful.gateway.admin_get("/metrics").await.text();
    let more = after.lines().filter(|line| !line.starts_with('#')).count() - series;
    assert!(more < 20, "methods and paths of clients make no series: {more} more\n{after}");
}

/// What Prometheus itself says of names, units and types.
fn linted(scrape: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(cause) => {
            assert!(std::env::var_os("CI").is_none(), "promtool cannot be run: {cause}");
            eprintln!("NOT TESTED: promtool is missing (Debian: apt-get install prometheus)");
            return;
        }
    };
    child.stdin.take().expect("piped").write_all(scrape.as_bytes()).expect("promtool reads it");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}{}", String::from_utf8_lossy(&output.stdout));
}
