//! Many clients at once: from one address, slow ones, and more than there are descriptors.

mod cost;
mod slow;

use crate::support::{Ask, EVERYTHING, Gateway, Reply, ScriptedSource, Setup, eventually, within};
use futures_util::future::join_all;
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.path().to_owned()).cache_control("max-age=60"));
    source.always("/large", Reply::ok(vec![b'x'; 4 << 20]).cache_control("max-age=60"));
    source
}

async fn connect(gateway: &Gateway, count: usize) -> Vec<TcpStream> {
    join_all((0..count).map(|_| TcpStream::connect(gateway.public)))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

/// Whether a request on this connection is answered with 200.
async fn is_served(stream: &mut TcpStream) -> bool {
    if stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let whole = async {
        while !answer.ends_with(b"\r\n\r\n/x")
            && stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0)
        {}
    };
    within("an answer or the end", whole).await;
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_so_many_connections_and_a_trusted_proxy_any() {
    let source = source().await;
    let text = format!("{}{EVERYTHING}[server.limits]\nconnections_per_address = 2\n", source.table());
    let gateway = Setup::new(text.clone()).start().await;
    let mut held = connect(&gateway, 2).await;
    for stream in &mut held {
        assert!(is_served(stream).await);
    }
    let refused = Ask::get("/x").send(gateway.public).await;
    assert!(refused.map_or(true, |answer| answer.status == 503));
    assert_eq!(gateway.metric("tidegate_refused_total{reason=\"connections-per-address\"}").await, 1);
    held.pop();
    eventually("there is room again", async || {
        Ask::get("/x").send(gateway.public).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let behind = Setup::new(text).server("trusted_proxies = [\"127.0.0.0/8\"]").start().await;
    for stream in &mut connect(&behind, 10).await {
        assert!(is_served(stream).await);
    }
}

fn open_descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.process())).unwrap().count()
}

/// Bounds the descriptors of a running gateway.
fn bound_descriptors(gateway: &Gateway, most: usize) {
    // The hard bound stays.
    let bound = format!("--nofile={most}:");
    let process = gateway.process().to_string();
    let set = Command::new("prlimit").args(["--pid", &process, &bound]).status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit {bound}");
}

/// Clients leave a quarter of the descriptors to the rest, and are served again once there are fewer of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_clients_do_not_take_the_last_descriptors() {
    let source = source().await;
    let gateway = Setup::new(format!("{}{EVERYTHING}", source.table())).start().await;
    let most = 2 * open_descriptors(&gateway);
    bound_descriptors(&gateway, most);
    let mut crowd = connect(&gateway, most).await;
    let mut served = 0;
    for stream in &mut crowd {
        served += usize::from(is_served(stream).await);
    }
    assert!((1..most / 2).contains(&served), "{served} of {most}");
    assert!(gateway.metric("tidegate_refused_total{reason=\"descriptors\"}").await >= 1);
    assert_eq!(gateway.admin_get("/livez").await.status, 200);
    let mut first = crowd.swap_remove(0);
    assert!(is_served(&mut first).await, "who is in stays in");
    drop(crowd);
    eventually("others are let in", async || {
        Ask::get("/new").send(gateway.public).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

/// Where there is none left at all: no spinning, one line in the log, and back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_without_any_descriptor_the_listeners_rest() {
    let source = source().await;
    let gateway = Setup::new(format!("{}{EVERYTHING}", source.table())).start().await;
    let mut inside = connect(&gateway, 1).await.remove(0);
    assert!(is_served(&mut inside).await);
    let before = processor_ticks(&gateway);
    bound_descriptors(&gateway, 1);
    let mut outside = connect(&gateway, 5).await;
    eventually("it is told", async || gateway.log_text().contains("cannot accept connections")).await;
    for _ in 0..20 {
        assert!(is_served(&mut inside).await, "who is in stays in");
    }
    // A second of the rests: so long the source of nothing at all takes.
    let waiting = is_served(&mut outside[0]);
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), waiting).await.is_err());
    let spent = processor_ticks(&gateway) - before;
    assert!(spent < 50, "{spent} hundredths of a second");
    assert_eq!(gateway.log_text().matches("cannot accept connections").count(), 1);
    bound_descriptors(&gateway, 1 << 10);
    for stream in &mut outside[1..] {
        assert!(is_served(stream).await);
    }
}

/// Hundredths of a second that the process has used.
fn processor_ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.process())).unwrap();
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
