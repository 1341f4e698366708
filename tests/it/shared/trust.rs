//! With a secret nothing in Redis is believed that no gateway of the namespace has put there.

use super::{HOST, asking, purged, setup, storable};
use crate::support::{Answer, Gateway, RedisServer, Reply, ScriptedSource, eventually};
use redis::cmd;
use serde_json::json;

const SECRET: &str = "secret = \"a secret of the replicas\"\n";

/// The name of the value that has this body.
pub(super) async fn name_of(redis: &RedisServer, namespace: &str, body: &str) -> String {
    for name in redis.names(&format!("{namespace}:c:")).await {
        if value(redis, &name).await.windows(body.len()).any(|part| part == body.as_bytes()) {
            return name;
        }
    }
    panic!("no value with {body:?}");
}

pub(super) async fn value(redis: &RedisServer, name: &str) -> Vec<u8> {
    redis.command(cmd("GET").arg(name)).await
}

pub(super) async fn put(redis: &RedisServer, name: &str, value: &[u8]) {
    redis.command::<()>(cmd("SET").arg(name).arg(value).arg("EX").arg(600)).await;
}

/// A gateway that has read nothing yet.
async fn newcomer(source: &ScriptedSource, shared: &str) -> Gateway {
    let gateway = setup(source, shared).start().await;
    gateway.uses_redis().await;
    gateway
}

/// What one who starts reads, with what is put into Redis before; another starts where the look of the one is late.
pub(super) async fn read_by_a_newcomer(
    source: &ScriptedSource,
    shared: &str,
    path: &str,
    put: impl AsyncFn(),
) -> (Gateway, Answer) {
    for _ in 0..10 {
        let reader = newcomer(source, shared).await;
        put().await;
        let asked = source.count(path);
        if let Some(answer) = reader.send_in_time(asking(path)).await {
            assert_eq!(source.count(path), asked + usize::from(!answer.is_hit()), "{answer:?}");
            return (reader, answer);
        }
        reader.has_written().await;
    }
    panic!("no look into Redis was in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_swapped_and_foreign_bytes_are_misses_and_counted() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    for (path, body) in [("/a", "body of a"), ("/b", "body of b")] {
        source.always(path, Reply::ok(body).cache_control("max-age=600"));
    }
    let ours = redis.table() + SECRET;
    let writer = newcomer(&source, &ours).await;
    writer.send(asking("/a")).await;
    writer.send(asking("/b")).await;
    writer.has_written().await;
    let (a, b) =
        (name_of(&redis, "tidegate", "body of a").await, name_of(&redis, "tidegate", "body of b").await);
    let (good, other) = (value(&redis, &a).await, value(&redis, &b).await);
    let mut altered = good.clone();
    let at = altered.len() - 36;
    altered[at] ^= 1;
    // The same answer of gateways that have another namespace, another secret, or none.
    let strangers = [
        ("elsewhere", ours.clone() + "namespace = \"elsewhere\"\n"),
        ("othersecret", redis.table() + "secret = \"another\"\nnamespace = \"othersecret\"\n"),
        ("nosecret", redis.table() + "namespace = \"nosecret\"\n"),
    ];
    let mut foreign = Vec::new();
    for (namespace, table) in &strangers {
        let stranger = newcomer(&source, table).await;
        stranger.send(asking("/a")).await;
        stranger.has_written().await;
        foreign.push(value(&redis, &name_of(&redis, namespace, "body of a").await).await);
    }
    let rows = [
        ("altered", altered),
        ("foreign", other),
        ("foreign", foreign[0].clone()),
        ("altered", foreign[1].clone()),
        ("unauthenticated", foreign[2].clone()),
        ("envelope", b"something else".to_vec()),
    ];
    for (reason, bytes) in rows {
        let (_, hit) = read_by_a_newcomer(&source, &ours, "/a", async || put(&redis, &a, &good).await).await;
        assert!(hit.is_hit() && hit.says("detail=shared"), "the good one: {hit:?}");
        let (reader, answer) =
            read_by_a_newcomer(&source, &ours, "/a", async || put(&redis, &a, &bytes).await).await;
        assert_eq!((answer.text().as_str(), answer.is_hit()), ("body of a", false), "{reason}");
        let counted = format!("tidegate_tier_unreadable_total{{reason=\"{reason}\"}}");
        assert_eq!(reader.metric(&counted).await, 1, "{reason}");
        reader.has_written().await;
    }
    let shown = writer.admin_get("/v1/config").await.text();
    assert!(!shown.contains("of the replicas") && shown.contains("redacted"), "{shown}");
    assert!(!writer.log_text().contains("of the replicas"));
}

/// I5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_was_purged_stays_away_also_when_somebody_puts_it_back() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let fresh = |body: &str| Reply::ok(body).cache_control("max-age=600");
    source.sequence("/a", vec![fresh("old"), fresh("new")]);
    let ours = redis.table() + SECRET;
    let writer = newcomer(&source, &ours).await;
    writer.send(asking("/a")).await;
    writer.has_written().await;
    let name = name_of(&redis, "tidegate", "old").await;
    let old = value(&redis, &name).await;
    let order = json!({ "urls": [format!("http://{HOST}/a")] });
    purged(&writer, &order).await;
    let (reader, answer) =
        read_by_a_newcomer(&source, &ours, "/a", async || put(&redis, &name, &old).await).await;
    assert_eq!((answer.text().as_str(), answer.is_hit()), ("new", false));
    assert_eq!(reader.metric("tidegate_tier_unreadable_total{reason=\"purged\"}").await, 1);
    put(&redis, &name, &old).await;
    eventually("the writer reads what is there", async || writer.send(asking("/a")).await.text() == "new")
        .await;
}
