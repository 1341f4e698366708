//! Who gets an upgrade, and who gets HTTP as ever.

use super::{ALLOWED, ASKS, RawSource, SWITCHES, Side, field, metric, open, status};
use crate::support::{Ask, EVERYTHING, Gate, Reply, ScriptedSource, Setup, Step, gateway_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_8_what_is_forwarded_and_what_comes_back() {
    let raw = RawSource::start().await;
    let gateway = raw.gateway().await;
    let mut client = Side::to(&gateway).await;
    let hop = "Connection: X-Hop, Upgrade\r\nX-Hop: 1\r\nUpgrade: h2c\r\nUpgrade: WebSocket, other\r\n\
               Keep-Alive: timeout=5\r\nSec-WebSocket-Key: k\r\nTE: trailers\r\nConnection: TE\r\n";
    client.says(format!("GET /socket?a=b HTTP/1.1\r\nHost: a\r\n{hop}\r\n")).await;
    let mut source = raw.connection().await;
    let asked = source.head().await;
    assert!(asked.starts_with("GET /socket?a=b HTTP/1.1\r\n"), "{asked}");
    assert_eq!(
        (field(&asked, "connection"), field(&asked, "upgrade")),
        ("te, upgrade".into(), "websocket".into())
    );
    assert_eq!(
        (field(&asked, "sec-websocket-key"), field(&asked, "via")),
        ("k".into(), "1.1 tidegate".into())
    );
    for gone in ["x-hop", "keep-alive", "content-length", "transfer-encoding"] {
        assert_eq!(field(&asked, gone), "", "{gone} in {asked}");
    }
    // Interim responses still come before.
    source.says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
    let early = client.head().await;
    assert_eq!((status(&early), field(&early, "link")), ("103", "</a>".into()));
    source.says(SWITCHES).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!((field(&head, "connection"), field(&head, "upgrade")), ("upgrade".into(), "websocket".into()));
    assert_eq!(field(&head, "sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(field(&head, "cache-status"), "tidegate; fwd=bypass; fwd-status=101");
    assert_eq!(field(&head, "via"), "1.1 tidegate");
    for absent in ["content-length", "transfer-encoding"] {
        assert_eq!(field(&head, absent), "", "{absent} in {head}");
    }
    drop((client, source));
    open(&gateway, 0.0).await;
}

/// Rows: what is said, and what the source must not hear of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_8_others_are_forwarded_without_the_upgrade() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("ordinary"));
    let routes = format!(
        "{}[[route]]\nname = \"open\"\npath = \"/open\"\nsource = \"inventory\"\n{ALLOWED}{EVERYTHING}",
        source.table()
    );
    let gateway = Setup::new(routes).start().await;
    let asks = |line: &str, more: &str| format!("{line}\r\nHost: a\r\n{ASKS}{more}\r\n");
    let other = |fields: &str| format!("GET /open HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let rows = [
        ("a route that allows none", asks("GET /closed HTTP/1.1", "")),
        ("HTTP/1.0", asks("GET /open HTTP/1.0", "")),
        ("POST", asks("POST /open HTTP/1.1", "")),
        ("POST with content", asks("POST /open HTTP/1.1", "Content-Length: 4\r\n") + "abcd"),
        ("HEAD", asks("HEAD /open HTTP/1.1", "")),
        ("content of a length", asks("GET /open HTTP/1.1", "Content-Length: 4\r\n") + "abcd"),
        (
            "content in chunks",
            asks("GET /open HTTP/1.1", "Transfer-Encoding: chunked\r\n") + "4\r\nabcd\r\n0\r\n\r\n",
        ),
        ("no content in chunks", asks("GET /open HTTP/1.1", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n"),
        ("h2c", other("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")),
        ("another protocol", other("Connection: Upgrade\r\nUpgrade: websocket/13\r\n")),
        ("Connection does not name it", other("Connection: keep-alive\r\nUpgrade: websocket\r\n")),
        ("no Connection", other("Upgrade: websocket\r\n")),
        ("no Upgrade", other("Connection: Upgrade\r\n")),
    ];
    for (number, (what, request)) in rows.iter().enumerate() {
        let mut client = Side::to(&gateway).await;
        client.says(request).await;
        let head = client.head().await;
        assert_eq!(status(&head), "200", "{what}: {head}");
        if *what != "HEAD" {
            assert_eq!(client.hears(8).await, b"ordinary", "{what}");
        }
        let received = source.requests.all();
        assert_eq!(received.len(), number + 1, "{what}");
        let fields = &received[number].fields;
        for gone in ["Upgrade", "HTTP2-Settings"] {
            assert!(!fields.has(gone), "{what}: {received:?}");
        }
        assert!(!fields.list("Connection").to_ascii_lowercase().contains("upgrade"), "{what}: {received:?}");
        let content = if what.starts_with("content") || what.ends_with("with content") { "abcd" } else { "" };
        assert_eq!(received[number].text(), content, "{what}");
    }
    assert!(metric(&gateway, "tidegate_tunnels_ended_total", "").await < 0.5);
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_8_a_refusal_is_an_ordinary_answer_and_what_follows_an_ordinary_request() {
    let raw = RawSource::start().await;
    let gateway = raw.gateway().await;
    for refusal in ["200 OK", "403 Forbidden", "426 Upgrade Required", "503 Service Unavailable"] {
        let mut client = Side::to(&gateway).await;
        // Sent at once: whether it is a request or another protocol's bytes, the answer decides.
        let behind = "GET /behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.says(format!("GET /socket HTTP/1.1\r\nHost: a\r\n{ASKS}\r\n{behind}")).await;
        let mut source = raw.connection().await;
        source.head().await;
        let fields =
            "Connection: Upgrade\r\nUpgrade: websocket\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n";
        source.says(format!("HTTP/1.1 {refusal}\r\n{fields}\r\nno")).await;
        let (head, content) = client.message().await;
        assert_eq!((status(&head), content.as_str()), (&refusal[..3], "no"), "{head}");
        assert_eq!(field(&head, "upgrade"), "", "{head}");
        // Its connection was its own: the next request comes on another.
        drop(source);
        let mut source = raw.connection().await;
        let behind = source.head().await;
        assert!(behind.starts_with("GET /behind HTTP/1.1\r\n"), "{behind}");
        assert_eq!(field(&behind, "via"), "1.1 tidegate");
        source.says("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes").await;
        let (head, content) = client.message().await;
        assert_eq!((status(&head), content.as_str()), ("200", "yes"), "{head}");
    }
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_2_2_another_101_than_was_asked_for_is_a_502() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, ALLOWED).await;
    let asking = Ask::get("/a").field("Connection", "Upgrade").field("Upgrade", "websocket");
    for (fields, ask) in [
        ("Connection: upgrade\r\nUpgrade: other\r\n", asking.clone()),
        ("Connection: upgrade\r\nUpgrade: websocket, other\r\n", asking.clone()),
        ("Connection: upgrade\r\n", asking.clone()),
        ("Upgrade: websocket\r\n", asking.clone()),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n", asking.clone()),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n", asking),
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", Ask::get("/a")),
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", Ask::get("/a").field("Upgrade", "websocket")),
    ] {
        let bytes = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nbytes");
        source.always("/a", Reply::none(Step::Bytes(bytes.into())).after(Step::Wait(Gate::closed())));
        let answer = gateway.send(ask).await;
        answer.assert_problem(502);
        assert!(answer.field("Proxy-Status").contains("http_protocol_error"), "{fields}: {answer:?}");
    }
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_never_stored_answered_from_the_store_collapsed_or_repeated() {
    let raw = RawSource::start().await;
    let gateway = raw.gateway().await;
    let stored = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 6\r\n\r\nstored";
    let mut client = Side::to(&gateway).await;
    client.says("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut pooled = raw.connection().await;
    pooled.head().await;
    pooled.says(stored).await;
    assert_eq!(client.message().await.1, "stored");
    // Two at once ask for what is stored: each is forwarded, on a connection of its own.
    let mut clients = [Side::to(&gateway).await, Side::to(&gateway).await];
    for client in &mut clients {
        client.asks("/a").await;
    }
    let mut sources = [raw.connection().await, raw.connection().await];
    for source in &mut sources {
        assert_eq!(field(&source.head().await, "upgrade"), "websocket");
        source.says(SWITCHES).await;
    }
    for client in &mut clients {
        assert_eq!(status(&client.head().await), "101");
    }
    // What answers an upgrade is not stored either.
    for _ in 0..2 {
        client.asks("/b").await;
        let mut source = raw.connection().await;
        source.head().await;
        source.says(stored).await;
        let (head, content) = client.message().await;
        assert_eq!(content, "stored");
        assert_eq!(field(&head, "cache-status"), "tidegate; fwd=bypass; fwd-status=200");
    }
    // Nothing is sent again, though GET is safe and the source has said nothing.
    client.asks("/c").await;
    let mut source = raw.connection().await;
    source.head().await;
    drop(source);
    assert_eq!(status(&client.message().await.0), "502");
    assert!(raw.has_nobody(), "it was sent once");
    assert!(pooled.has_nothing());
    drop((client, clients, sources));
    open(&gateway, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_count_upgrades() {
    let raw = RawSource::start().await;
    let limit = "[[route.limit]]\nname = \"few\"\nrequests = 1\nper = \"1h\"\n";
    let gateway = raw.setup("", limit).start().await;
    let tunnel = raw.tunnel(&gateway).await;
    let mut client = Side::to(&gateway).await;
    client.asks("/socket").await;
    let (denied, _) = client.message().await;
    assert_eq!(status(&denied), "429", "{denied}");
    assert!(raw.has_nobody());
    drop((client, tunnel));
    open(&gateway, 0.0).await;
}
