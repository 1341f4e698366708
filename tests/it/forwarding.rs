//! What reaches the source: one canonical target, a rebuilt head, and nothing that is ambiguous.

use crate::support::{Ask, Reply, ScriptedSource, gateway_for, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// I8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canonical_target_is_forwarded_byte_for_byte() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.target.as_str()).cache_control("max-age=60"));
    let gateway = gateway_for(&source, "").await;
    for (asked, forwarded) in [
        ("/plain", "/plain"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb", "/a%2Fb"),
        ("/%7Euser/%41", "/~user/A"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a;v=1+2", "/a;v=1+2"),
        ("/a?b=2&a=1&a=0", "/a?b=2&a=1&a=0"),
        ("/a?next=/x/../y", "/a?next=/x/../y"),
        ("/a?", "/a?"),
        ("/", "/"),
    ] {
        assert_eq!(gateway.get(asked).await.text(), forwarded, "{asked}");
    }
    assert!(gateway.get("/%61%2fb").await.is_hit(), "equal canonical targets share a stored response");
}

/// I8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ambiguous_target_is_refused_and_never_forwarded() {
    let source = ScriptedSource::start().await;
    source.on("*", |_| Reply::ok("reached"));
    let gateway = gateway_for(&source, "").await;
    for target in [
        "/a/../b",
        "/a/..",
        "/./a",
        "/a/%2e%2e/b",
        "/a/%2E./b",
        "/a%2F..%2Fb",
        "/a%5C..%5Cb",
        "/a/..;x/b",
        "/a\\b",
        "/a%5Cb",
        "/a%00b",
        "/a%0Ab",
        "/a%zzb",
        "/a%2",
        "//a",
        "/a#b",
        "/\u{e9}",
        "a",
    ] {
        let answer = gateway.get(target).await;
        assert_eq!(answer.status, 400, "{target}");
    }
    assert_eq!(source.requests.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_is_rebuilt_for_the_source() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok("a").field("Keep-Alive", "timeout=9").field("X-Source", "own"));
    let gateway = gateway_for(&source, "").await;
    let ask = Ask::get("/a")
        .field("Host", "Shop.Example:80")
        .field("X-End-To-End", "kept")
        .field("Connection", "X-Hop, keep-alive")
        .field("X-Hop", "1")
        .field("Keep-Alive", "timeout=5")
        .field("Proxy-Authorization", "Basic c2VjcmV0")
        .field("TE", "gzip")
        .field("Upgrade", "websocket")
        .field("X-Forwarded-For", "203.0.113.9")
        .field("X-Forwarded-Host", "evil.example")
        .field("Forwarded", "for=203.0.113.9")
        .field("X-Original-URL", "/admin")
        .field("X-HTTP-Method-Override", "DELETE")
        .field("X-Real-IP", "203.0.113.9");
    let answer = gateway.send(ask).await;
    assert_eq!(answer.status, 200);
    assert!(answer.field("Via").contains("tidegate"), "{answer:?}");
    assert_eq!((answer.field("X-Source"), answer.field("Keep-Alive")), ("own", ""));

    let request = source.received("/a").remove(0);
    let fields = &request.fields;
    assert_eq!(fields.get("Host"), Some("shop.example"));
    assert_eq!(fields.get("X-End-To-End"), Some("kept"));
    assert!(fields.list("Via").contains("tidegate"), "{request:?}");
    assert!(fields.list("CDN-Loop").contains("tidegate"), "{request:?}");
    assert_eq!(fields.list("X-Forwarded-For"), "127.0.0.1");
    assert_eq!(fields.list("X-Forwarded-Proto"), "http");
    assert!(!fields.list("X-Forwarded-Host").contains("evil"), "{request:?}");
    assert!(!fields.list("Forwarded").contains("203.0.113.9"), "{request:?}");
    for gone in [
        "X-Hop",
        "Keep-Alive",
        "Proxy-Authorization",
        "TE",
        "Upgrade",
        "X-Original-URL",
        "X-HTTP-Method-Override",
        "X-Real-IP",
    ] {
        assert!(!fields.has(gone), "{gone} in {request:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_loop_is_508() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok("a"));
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    let own = source.received("/a")[0].fields.list("CDN-Loop");
    let looped = gateway.send(Ask::get("/a").field("CDN-Loop", &own)).await;
    looped.assert_problem(508);
    assert_eq!(source.count("/a"), 1);
}

/// Rows: what is wrong, the bytes, the status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_framing_is_refused_closed_and_never_forwarded() {
    let source = ScriptedSource::start().await;
    source.on("*", |_| Reply::ok("reached"));
    let gateway = gateway_for(&source, "").await;
    for (what, bytes, statuses) in [
        (
            "both lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[400][..],
        ),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            &[400],
        ),
        ("a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", &[400]),
        ("a leading zero", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 03\r\n\r\nabc", &[400]),
        ("a sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", &[400]),
        (
            "another coding",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            &[400, 501],
        ),
        ("no Host", "GET / HTTP/1.1\r\n\r\n", &[400]),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
        ("a Host that is none", "GET / HTTP/1.1\r\nHost: a@b/../c\r\n\r\n", &[400]),
        ("a bare LF", "GET / HTTP/1.1\nHost: a\n\n", &[400]),
        ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", &[400]),
        ("a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", &[400]),
        ("CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", &[405]),
        ("TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", &[405]),
        ("an expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", &[417]),
    ] {
        let mut stream = tokio::net::TcpStream::connect(gateway.public).await.expect("a connection");
        stream.write_all(bytes.as_bytes()).await.expect("the request is sent");
        let mut answer = Vec::new();
        // A reset after the answer is a close too.
        drop(within(&format!("{what} is closed"), stream.read_to_end(&mut answer)).await);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let refused = statuses.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
        assert!(refused, "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: one answer only: {answer:?}");
    }
    assert_eq!(source.requests.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_with_content_is_forwarded_and_never_stored_or_answered_from_the_store() {
    let source = ScriptedSource::start().await;
    source.on("/a", |request| Reply::ok(format!("<{}>", request.text())).cache_control("max-age=60"));
    let gateway = gateway_for(&source, "").await;
    let with_content = || gateway.send(Ask::get("/a").body("content"));
    assert_eq!(with_content().await.text(), "<content>");
    assert_eq!(gateway.get("/a").await.text(), "<>");
    assert_eq!(with_content().await.text(), "<content>");
    assert!(gateway.get("/a").await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_synced_streams_both_ways() {
    let source = ScriptedSource::start().await;
    source.on("/echo", |request| Reply::ok(request.body.clone()));
    let gateway = gateway_for(&source, "").await;
    let body = (0..1_000_000_u32).map(|number| u8::try_from(number % 251).unwrap_or(0)).collect::<Vec<u8>>();
    let answer = gateway.send(Ask::post("/echo", body.clone()).chunked()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "the bytes differ");
}
