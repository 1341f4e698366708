//! What comes instead of a handshake, or never ends.

use super::{TLS, certificates, secured, source};
use crate::support::tls::{connect, connect_over, securing};
use crate::support::{Ask, Reply, answers_within, eventually, within};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The first bytes of a `ClientHello` that promises more.
const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];

/// Plain HTTP, garbage and silence are cut, each counted by its cause, and nobody else is harmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_handshake_is_cut_and_counted() {
    let (source, (authority, shown)) = (source().await, certificates());
    let limits = "[server.limits]\nheader_timeout = \"2s\"\n";
    let gateway = secured(&source, &shown, TLS, limits).start().await;
    for (sent, result) in [
        (&b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..], "not-tls"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not-tls"),
        (&[0xFF; 4096], "not-tls"),
        (HALF_A_HELLO, "timeout"),
        (b"", "timeout"),
    ] {
        let counted = format!("tidegate_tls_handshakes_total{{result=\"{result}\"}}");
        let before = gateway.metric(&counted).await;
        let mut stream = TcpStream::connect(gateway.public).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut told = Vec::new();
        // An alert or nothing, and a close or a reset: never HTTP.
        drop(within("the cut", stream.read_to_end(&mut told)).await);
        assert!(!told.starts_with(b"HTTP"), "{sent:?}");
        eventually(result, async || gateway.metric(&counted).await == before + 1).await;
    }
    // A client that leaves, and one that does not trust the certificate.
    drop(TcpStream::connect(gateway.public).await.unwrap());
    let stranger = crate::support::tls::Authority::new("stranger").trusting(None, &[]);
    assert!(connect(&stranger, "a.example", gateway.public).await.is_err());
    for result in ["closed", "alert"] {
        let counted = format!("tidegate_tls_handshakes_total{{result=\"{result}\"}}");
        eventually(result, async || gateway.metric(&counted).await == 1).await;
    }
    assert_eq!(source.requests.all().len(), 0);
    let way = securing(authority.trusting(None, &[]), "a.example", gateway.public).await;
    assert_eq!(Ask::get("/x").field("Host", "a.example").send(way.address).await.unwrap().status, 200);
}

/// `header_timeout` runs from acceptance, over the handshake and what has to follow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_after_the_handshake_is_cut_too() {
    let (source, (authority, shown)) = (source().await, certificates());
    let limits = "[server.limits]\nheader_timeout = \"2s\"\n";
    let gateway = secured(&source, &shown, TLS, limits).start().await;
    for (protocol, sent, answered) in [
        ("http/1.1", "", ""),
        ("h2", "", ""),
        ("h2", "PRI * HTTP", ""),
        ("http/1.1", "GET / HTTP/1.1\r\nHost: a.example\r\n", "HTTP/1.1 408 "),
    ] {
        let config = authority.trusting(None, &[protocol]);
        let mut stream = connect(&config, "a.example", gateway.public).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut told = Vec::new();
        drop(within("the cut", stream.read_to_end(&mut told)).await);
        if protocol == "http/1.1" {
            let told = String::from_utf8_lossy(&told);
            assert!(told.starts_with(answered) && told.is_empty() == answered.is_empty(), "{told}");
        }
    }
    eventually("all are gone", async || gateway.metric("tidegate_connections").await == 0).await;
}

/// What TLS has taken and the client does not read is a slow reader's all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_within_tls_is_cut() {
    let (source, (authority, shown)) = (source().await, certificates());
    source.on("*", |request| {
        let length = request.path().trim_start_matches('/').parse::<usize>().unwrap();
        Reply::ok(vec![b'x'; length]).cache_control("no-store")
    });
    let gateway = secured(&source, &shown, TLS, "").start().await;
    let config = authority.trusting(None, &[]);
    let mut readers = Vec::new();
    // Of some the last bytes are with TLS and nowhere else: how much the system takes nobody knows.
    for length in (1..=40).map(|number| number * 100_000) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(gateway.public).await.unwrap();
        let mut stream = connect_over(&config, "a.example", stream).await.unwrap();
        let ask = format!("GET /{length} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        readers.push(stream);
    }
    source.requests.until("all are asked", |all| all.len() == 40).await;
    let gone = async || gateway.metric("tidegate_connections").await == 0;
    assert!(answers_within(Duration::from_mins(2), gone).await, "the readers are cut");
    drop(readers);
}
