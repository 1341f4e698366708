//! What clients get over TLS.

use super::{TLS, certificates, secured, source};
use crate::support::tls::{Authority, connect, securing};
use crate::support::{Ask, Reply, eventually, within};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn request(url: &str) -> http::Request<Empty<Bytes>> {
    http::Request::get(url).body(Empty::new()).unwrap()
}

/// RFC 7301, RFC 9113 3.2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_and_2_are_spoken_by_alpn_and_the_source_is_told_https() {
    let (source, (authority, shown)) = (source().await, certificates());
    let gateway = secured(&source, &shown, TLS, "").start().await;
    let config = authority.trusting(None, &["h2", "http/1.1"]);
    let stream = connect(&config, "a.example", gateway.public).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut send, connection) = Box::pin(within("HTTP/2", handshake)).await.unwrap();
    tokio::spawn(connection);
    let url = format!("https://a.example:{}/two", gateway.public.port());
    for hit in [false, true] {
        let answer = within("an answer", send.send_request(request(&url))).await.unwrap();
        assert_eq!(answer.headers()["cache-status"].to_str().unwrap().contains("; hit"), hit);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "/two");
    }
    for protocols in [&["http/1.1"][..], &[]] {
        let way = securing(authority.trusting(None, protocols), "a.example", gateway.public).await;
        let answer = Ask::get("/one").field("Host", "a.example").send(way.address).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "/one"));
    }
    for path in ["/one", "/two"] {
        let received = source.received(path).remove(0);
        assert_eq!(received.fields.get("x-forwarded-proto"), Some("https"), "{path}");
        assert!(received.fields.get("forwarded").unwrap().ends_with("proto=https"), "{received:?}");
    }
    eventually("they are counted", async || {
        gateway.metric("tidegate_tls_handshakes_total{result=\"done\"}").await == 3
    })
    .await;
    // Only what is offered is spoken.
    let other = authority.trusting(None, &["acme-tls/1"]);
    assert!(connect(&other, "a.example", gateway.public).await.is_err());
    eventually("it is counted", async || {
        gateway.metric("tidegate_tls_handshakes_total{result=\"incompatible\"}").await == 1
    })
    .await;
}

/// A purge by URL finds what was stored over https, with and without its port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_port_of_https_is_none() {
    let (source, (authority, shown)) = (source().await, certificates());
    let setup = secured(&source, &shown, TLS, "");
    let gateway = setup.start().await;
    let way = securing(authority.trusting(None, &[]), "a.example", gateway.public).await;
    let get = |host: &'static str| Ask::get("/x").field("Host", host).send(way.address);
    assert!(!get("a.example").await.unwrap().says("hit"));
    assert!(get("a.example:443").await.unwrap().says("hit"));
    let purge = serde_json::json!({ "urls": ["https://a.example:443/x"] });
    assert_eq!(gateway.admin_post("/v1/purge", &purge).await.status, 202);
    assert!(!get("a.example").await.unwrap().says("hit"));
}

/// RFC 9110 7.4, 15.5.20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_host_than_the_connection_is_for_is_421() {
    let (source, (authority, shown)) = (source().await, certificates());
    let gateway = secured(&source, &shown, TLS, "").start().await;
    let way = securing(authority.trusting(None, &[]), "a.example", gateway.public).await;
    for (host, status) in [("a.example", 200), ("A.Example:8443", 200), ("b.example", 421)] {
        let answer = Ask::get("/x").field("Host", host).send(way.address).await.unwrap();
        assert_eq!(answer.status, status, "{host}");
    }
    let config = authority.trusting(None, &["h2"]);
    let stream = connect(&config, "a.example", gateway.public).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut send, connection) = Box::pin(within("HTTP/2", handshake)).await.unwrap();
    tokio::spawn(connection);
    for (url, status) in [("https://b.example/x", 421), ("https://a.example/x", 200)] {
        let answer = within("an answer", send.send_request(request(url))).await.unwrap();
        assert_eq!(answer.status(), status, "{url}: the connection goes on");
    }
    // Who names an address names nobody (RFC 6066 3).
    let way = securing(authority.trusting(None, &[]), "127.0.0.1", gateway.public).await;
    let answer = Ask::get("/x").field("Host", "b.example").send(way.address).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.metric("tidegate_refused_total{reason=\"misdirected\"}").await, 2);
}

/// The gate frames what was decrypted: what is ambiguous is refused, and nothing behind it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_strict_gate_stands_within_tls() {
    let (source, (authority, shown)) = (source().await, certificates());
    let gateway = secured(&source, &shown, TLS, "").start().await;
    let config = authority.trusting(None, &["http/1.1"]);
    let good = "GET /good HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for bad in [
        "POST /bad HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /bad HTTP/1.1\nHost: a.example\n\n",
        "GET /bad HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = connect(&config, "a.example", gateway.public).await.unwrap();
        stream.write_all(format!("{good}{bad}{good}").as_bytes()).await.unwrap();
        let mut answers = String::new();
        within("the close", stream.read_to_string(&mut answers)).await.unwrap();
        let heads = answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]);
        let statuses: Vec<&str> = heads.filter(|code| code.parse::<u16>().is_ok()).collect();
        assert!(matches!(statuses[..], ["200", "400" | "505"]), "{bad:?}: {answers}");
        assert!(answers.contains("application/problem+json"), "{answers}");
    }
    assert_eq!(source.count("/bad"), 0);
}

/// RFC 9110 7.8 over TLS: the tunnel takes the decrypted bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_passes() {
    let (source, (authority, shown)) = (source().await, certificates());
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    source.always(
        "/ws",
        Reply::ok("").interim(101, upgrade).after(crate::support::Step::Bytes(b"hello".to_vec())),
    );
    let gateway = secured(&source, &shown, TLS, "upgrade = [\"websocket\"]\n").start().await;
    let mut stream = connect(&authority.trusting(None, &[]), "a.example", gateway.public).await.unwrap();
    let ask = format!("GET /ws HTTP/1.1\r\nHost: a.example\r\n{upgrade}\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    within("the other protocol", async {
        while !heard.windows(5).any(|window| window == b"hello") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
        }
    })
    .await;
    assert!(heard.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&heard));
}

const MUTUAL: &str = "tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"clients.pem\" }";

/// Mutual TLS: only clients of the authority get in, and each has a quota of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_certificate_of_the_authority_stay_out_and_the_others_have_a_name() {
    let (source, (authority, shown)) = (source().await, certificates());
    let limit = "[[route.limit]]\nname = \"own\"\nkey = \"certificate\"\nrequests = 2\nper = \"1h\"\n";
    let setup = secured(&source, &shown, MUTUAL, limit);
    let clients = Authority::new("clients");
    crate::support::tls::write(setup.folder(), "clients.pem", &clients.pem());
    let gateway = setup.start().await;
    for (own, what) in
        [(None, "none"), (Some(Authority::new("clients").client("one")), "another authority's")]
    {
        let way = securing(authority.trusting(own.as_ref(), &[]), "a.example", gateway.public).await;
        assert!(Ask::get("/x").field("Host", "a.example").send(way.address).await.is_err(), "{what}");
    }
    eventually("both are counted", async || {
        gateway.metric("tidegate_tls_handshakes_total{result=\"certificate\"}").await == 2
    })
    .await;
    assert_eq!(source.requests.all().len(), 0);
    let [one, two] = ["one", "two"].map(|name| clients.client(name));
    for (own, statuses) in [(&one, [200, 200, 429]), (&two, [200, 200, 429])] {
        let way = securing(authority.trusting(Some(own), &[]), "a.example", gateway.public).await;
        for status in statuses {
            let answer = Ask::get("/x").field("Host", "a.example").send(way.address).await.unwrap();
            assert_eq!(answer.status, status);
        }
    }
}

/// A real client, where there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_served_over_http_1_and_2() {
    let (source, (authority, shown)) = (source().await, certificates());
    let setup = secured(&source, &shown, TLS, "");
    let ca = crate::support::tls::write(setup.folder(), "ca.pem", &authority.pem());
    let gateway = setup.start().await;
    let port = gateway.public.port();
    for (version, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let curl = tokio::process::Command::new("curl")
            .args(["-sS", version, "--noproxy", "*", "--cacert"])
            .arg(&ca)
            .args([
                "--resolve",
                &format!("a.example:{port}:127.0.0.1"),
                "-w",
                " %{http_code} %{http_version}",
            ])
            .arg(format!("https://a.example:{port}/curl"))
            .output();
        let Ok(output) = within("curl", curl).await else {
            eprintln!("curl is not installed: not tried");
            return;
        };
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(told, format!("/curl 200 {spoken}"), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
