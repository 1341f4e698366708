//! How tunnels end: by either side, by a break, by a stop. Everything is counted back.

use super::{RawSource, SWITCHES, Side, becomes, field, open, status};
use crate::support::{Ask, eventually, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_side_that_dies_takes_the_tunnel_with_it() {
    let raw = RawSource::start().await;
    let gateway = raw.gateway().await;

    // The source is gone: what it said comes, then the end; what is said to it breaks.
    let (mut client, mut source) = raw.tunnel(&gateway).await;
    source.says("last words").await;
    drop(source);
    assert_eq!(client.rest().await.expect("a proper end"), b"last words");
    client.says("anybody there?").await;
    drop(client);
    open(&gateway, 0.0).await;

    let (mut client, source) = raw.tunnel(&gateway).await;
    source.resets();
    assert_eq!(client.rest().await.unwrap_or_default(), b"");
    becomes(&gateway, "tidegate_tunnels_ended_total", "broken", 1.0).await;
    open(&gateway, 0.0).await;

    let (client, mut source) = raw.tunnel(&gateway).await;
    client.resets();
    assert_eq!(source.rest().await.unwrap_or_default(), b"");
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_half_a_tunnel_may_stand_still_for_body_idle() {
    let raw = RawSource::start().await;
    let gateway = raw.setup("body_idle = \"200ms\"", "").start().await;
    let (mut client, mut source) = raw.tunnel(&gateway).await;
    source.ends().await;
    assert_eq!(client.rest().await.expect("a proper end"), b"");
    assert_eq!(source.rest().await.expect("cut by the gateway"), b"");
    becomes(&gateway, "tidegate_tunnels_ended_total", "idle", 1.0).await;
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_the_101_leaves_nothing() {
    let raw = RawSource::start().await;
    let gateway = raw.gateway().await;
    let mut client = Side::to(&gateway).await;
    client.asks("/socket").await;
    let mut source = raw.connection().await;
    source.head().await;
    drop(client);
    assert_eq!(source.rest().await.expect("a proper end"), b"");
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_takes_its_route_away_leaves_a_tunnel_open() {
    let raw = RawSource::start().await;
    let setup = raw.setup("", "");
    let gateway = setup.start().await;
    let (mut client, mut source) = raw.tunnel(&gateway).await;
    let other =
        format!("{}[[route]]\nname = \"other\"\npath = \"/other\"\nsource = \"inventory\"\n", raw.table(""));
    setup.rest(other).write();
    gateway.signal("HUP");
    eventually("it is in force", async || gateway.get("/socket").await.status == 404).await;
    client.says("to the source").await;
    assert_eq!(source.hears(13).await, b"to the source");
    source.says("to the client").await;
    assert_eq!(client.hears(13).await, b"to the client");
    open(&gateway, 1.0).await;
    drop((client, source));
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_tunnels_live_for_the_grace_and_closes_them() {
    let raw = RawSource::start().await;
    let gateway = raw.setup("", "").server("shutdown_grace = \"8s\"").start().await;
    let (mut client, mut source) = raw.tunnel(&gateway).await;
    let mut late = Side::to(&gateway).await;
    late.asks("/late").await;
    let mut late_source = raw.connection().await;
    late_source.head().await;
    gateway.signal("TERM");
    eventually("it is draining", async || {
        Ask::get("/readyz").send(gateway.admin).await.is_ok_and(|answer| answer.status == 503)
    })
    .await;
    eventually("no new connection is served", async || Ask::get("/new").send(gateway.public).await.is_err())
        .await;
    client.says("ping").await;
    assert_eq!(source.hears(4).await, b"ping");
    // No tunnel begins any more.
    late_source.says(SWITCHES).await;
    let (answer, _) = late.message().await;
    assert_eq!((status(&answer), field(&answer, "connection")), ("503", "close".into()), "{answer}");
    assert_eq!(late_source.rest().await.expect("a proper end"), b"");
    let exit = within("the end of the grace", gateway.ended()).await;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    assert_eq!(client.rest().await.expect("a proper end"), b"");
    assert_eq!(source.rest().await.expect("a proper end"), b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_tells_of_a_tunnel_at_its_end() {
    let raw = RawSource::start().await;
    let mut setup = raw.setup("", "");
    setup.environment("TIDEGATE_LOG", "info,tidegate::access=debug");
    let gateway = setup.start().await;
    let (mut client, mut source) = raw.tunnel(&gateway).await;
    client.says("12345").await;
    assert_eq!(source.hears(5).await, b"12345");
    client.ends().await;
    source.says("123").await;
    drop(source);
    assert_eq!(client.rest().await.expect("a proper end"), b"123");
    let line = || gateway.log_text().lines().find(|line| line.contains("\"tunnel\"")).map(str::to_owned);
    eventually("the line is written", async || line().is_some()).await;
    let line = line().expect("it was waited for");
    for part in ["\"ended\":\"closed\"", "\"bytes_received\":5", "\"bytes_sent\":3", "request_id"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    open(&gateway, 0.0).await;
}
