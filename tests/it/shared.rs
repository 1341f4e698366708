//! The shared tier: what lies in Redis is not trusted, may lie anywhere, and may go at any time.

mod budget;
mod checkpoint;
mod forged;
mod large;
mod outages;
mod returns;
mod topologies;
mod trust;
mod upgrade;

use crate::support::{Ask, EVERYTHING, Gateway, Reply, ScriptedSource, Setup, eventually};

/// What all replicas are called by their clients.
const HOST: &str = "api.example.com";

/// A GET as every replica would be asked.
fn asking(target: &str) -> Ask {
    Ask::get(target).field("Host", HOST)
}

/// A source that lets everything be stored for long.
async fn storable() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.target.as_str()).cache_control("max-age=600"));
    source
}

/// Such a source, whose first answer at `/a` is "old", and "new" ever after.
async fn changing() -> ScriptedSource {
    let source = storable().await;
    let fresh = |body: &str| Reply::ok(body).cache_control("max-age=600");
    source.sequence("/a", vec![fresh("old"), fresh("new")]);
    source
}

/// A gateway in front of a source with everything routed, and with this `[cache.shared]`.
fn setup(source: &ScriptedSource, shared: &str) -> Setup {
    Setup::new(format!("{}{EVERYTHING}{shared}", source.table()))
}

/// Purges, and once more where Redis was late for it: until the purge is everybody's. Its number.
async fn purged(gateway: &Gateway, order: &serde_json::Value) -> u64 {
    let mut seq = 0;
    eventually("a purge reaches Redis", async || {
        let told = gateway.admin_post("/v1/purge", order).await.json();
        seq = told["seq"].as_u64().unwrap_or_default();
        told["scope"] == "shared"
    })
    .await;
    seq
}

/// Two gateways share what one has stored, and purges.
async fn assert_shares(source: &ScriptedSource, shared: &str) -> (Gateway, Gateway) {
    let (one, other) = (setup(source, shared).start().await, setup(source, shared).start().await);
    one.uses_redis().await;
    other.uses_redis().await;
    let (mut number, mut path) = (0, String::new());
    eventually("a look into Redis is in time", async || {
        number += 1;
        path = format!("/shared/{number}");
        assert_eq!(one.send(asking(&path)).await.text(), path);
        one.has_written().await;
        let Some(hit) = other.send_in_time(asking(&path)).await else { return false };
        assert!(hit.is_hit() && hit.says("detail=shared"), "{hit:?}\n{}", other.log_text());
        true
    })
    .await;
    let order = serde_json::json!({ "urls": [format!("http://{HOST}{path}")] });
    purged(&one, &order).await;
    eventually("the other has forgotten", async || !other.send(asking(&path)).await.is_hit()).await;
    (one, other)
}
