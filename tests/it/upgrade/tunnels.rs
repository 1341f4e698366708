//! What passes through a tunnel, when, and what it holds meanwhile.

use super::{ASKS, RawSource, SWITCHES, Side, becomes, open, status};
use crate::support::{Ask, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_in_both_directions_and_so_does_each_end() {
    let raw = RawSource::start().await;
    let gateway = raw.gateway().await;
    let (client, source) = raw.tunnel(&gateway).await;
    open(&gateway, 1.0).await;
    let large: Vec<u8> = (0..4 * 1024 * 1024_u32).map(|number| number.to_le_bytes()[1]).collect();
    let (mut echo_reader, mut echo_writer) = tokio::io::split(source.0);
    let echo = tokio::spawn(async move {
        let copied = tokio::io::copy(&mut echo_reader, &mut echo_writer).await;
        // The client has ended; the source ends only now.
        echo_writer.write_all(b"last").await.expect("the client listens on");
        echo_writer.shutdown().await.expect("an open connection");
        copied.expect("all of it")
    });
    let (mut reader, mut writer) = tokio::io::split(client.0);
    let sent = large.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(&sent).await.expect("it is taken");
        writer.shutdown().await.expect("an open connection");
    });
    let mut heard = Vec::new();
    within("all of it comes back", reader.read_to_end(&mut heard)).await.expect("a proper end");
    assert!(heard.strip_suffix(b"last") == Some(&large), "{} bytes", heard.len());
    assert_eq!(within("the echo", echo).await.expect("done"), large.len() as u64);
    within("the sending", sending).await.expect("done");
    becomes(&gateway, "tidegate_tunnels_ended_total", "closed", 1.0).await;
    open(&gateway, 0.0).await;
}

/// Nothing behind the head is the other protocol's before the source has said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_8_what_is_sent_before_the_101_waits_for_it() {
    let raw = RawSource::start().await;
    let gateway = raw.gateway().await;
    let mut client = Side::to(&gateway).await;
    // As a request it would be refused: nobody may read it as one.
    let early = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\0\u{1}early";
    client.says(format!("GET /socket HTTP/1.1\r\nHost: a\r\n{ASKS}\r\n{early}")).await;
    let mut source = raw.connection().await;
    source.head().await;
    source.says("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(status(&client.head().await), "103");
    assert!(source.has_nothing(), "there is no tunnel yet");
    // What the source sends at once behind its 101 is the tunnel's as well.
    source.says(format!("{SWITCHES}at once")).await;
    assert_eq!(status(&client.head().await), "101");
    assert_eq!(client.hears(7).await, b"at once");
    assert_eq!(source.hears(early.len()).await, early.as_bytes());
    client.says("later").await;
    assert_eq!(source.hears(5).await, b"later");
    drop((client, source));
    open(&gateway, 0.0).await;
}

/// More than is held for anybody: nothing is lost, and all of it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_slow_reader_holds_up_its_sender() {
    let raw = RawSource::start().await;
    let gateway = raw.gateway().await;
    let (mut client, mut source) = raw.tunnel(&gateway).await;
    let all = 64 * 1024 * 1024;
    let sending = tokio::spawn(async move {
        let part = vec![b'x'; 64 * 1024];
        for _ in 0..all / part.len() {
            source.says(&part).await;
        }
        source
    });
    // It answers others meanwhile.
    assert_eq!(Ask::get("/readyz").send(gateway.admin).await.expect("an answer").status, 200);
    assert!(!sending.is_finished(), "systems hold less than that");
    let mut heard = 0;
    while heard < all {
        heard += client.hears(64 * 1024).await.len();
    }
    let source = within("all is taken", sending).await.expect("done");
    drop((client, source));
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_tunnel_holds_its_place_toward_the_source_until_it_ends() {
    let raw = RawSource::start().await;
    let gateway = raw.setup("concurrency = 1\ntimeout = \"1s\"", "").start().await;
    let (mut client, mut source) = raw.tunnel(&gateway).await;
    gateway.get("/other").await.assert_problem(503);
    assert!(raw.has_nobody());
    // It is older than the source's timeout by now.
    client.says("still there").await;
    assert_eq!(source.hears(11).await, b"still there");
    drop(client);
    assert_eq!(source.rest().await.expect("a proper end"), b"");
    drop(source);
    open(&gateway, 0.0).await;
    drop(raw.tunnel(&gateway).await);
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_tunnel_counts_as_a_connection() {
    let raw = RawSource::start().await;
    let gateway = raw.setup("", "[server.limits]\nconnections = 1\n").start().await;
    let tunnel = raw.tunnel(&gateway).await;
    let mut other = Side::to(&gateway).await;
    assert_eq!(status(&other.head().await), "503");
    drop((tunnel, other));
    open(&gateway, 0.0).await;
    drop(raw.tunnel(&gateway).await);
}
