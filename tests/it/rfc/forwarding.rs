//! What a gateway owes to messages that pass: trailers (RFC 9110 6.5, RFC 9112 7.1.2), Max-Forwards
//! (RFC 9110 7.6.2), expectations (10.1.1).

use super::{ask, play, row};
use crate::support::wire::Wire;
use crate::support::{Ask, Reply, ScriptedSource, Step, gateway_for, within};
use http_body_util::BodyExt;
use tokio::net::TcpStream;

fn with_trailers() -> Reply {
    Reply::chunks([Step::Bytes(b"content".to_vec())])
        .field("Trailer", "X-Sum, Content-Length, X-More")
        .trailer("X-Sum", "7")
        .trailer("X-More", "1")
        .trailer("X-More", "2")
        .trailer("Content-Length", "3")
        .trailer("Unannounced", "1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_6_5_trailers_of_an_answer_reach_who_takes_them() {
    let source = ScriptedSource::start().await;
    source.always("/a", with_trailers().cache_control("no-store"));
    let gateway = gateway_for(&source, "[route.cache]\nenabled = false\n").await;
    let taken = gateway.send(Ask::get("/a").field("TE", "trailers").field("Connection", "TE")).await;
    assert_eq!(taken.text(), "content");
    assert_eq!(taken.field("trailer"), "x-sum, x-more");
    let mut lines: Vec<String> =
        taken.trailers.0.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["x-more: 1", "x-more: 2", "x-sum: 7"]);
    let not_taken = gateway.get("/a").await;
    assert_eq!(not_taken.text(), "content");
    assert!(not_taken.trailers.0.is_empty() && !not_taken.fields.has("trailer"), "{not_taken:?}");
    let received = source.received("/a");
    assert_eq!(
        (received[0].fields.get("te"), received[0].fields.get("connection")),
        (Some("trailers"), Some("te"))
    );
    assert!(!received[1].fields.has("te"), "{:?}", received[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9113_8_1_over_http2_trailers_are_always_taken() {
    let source = ScriptedSource::start().await;
    source.always("/a", with_trailers().cache_control("no-store"));
    let gateway = gateway_for(&source, "").await;
    let stream = TcpStream::connect(gateway.public).await.expect("a connection");
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let handshake = hyper::client::conn::http2::handshake(executor, io);
    let (mut sender, connection) = within("the preface", handshake).await.expect("HTTP/2");
    tokio::spawn(connection);
    let frames = [
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from_static(b"abc"))),
        Ok(http_body::Frame::trailers(
            [(http::HeaderName::from_static("x-sum"), 3.into())].into_iter().collect(),
        )),
    ];
    let content = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let request = http::Request::post(format!("http://{}/a", gateway.public))
        .header("trailer", "x-sum")
        .body(content)
        .expect("a request");
    let answer = within("an answer", sender.send_request(request)).await.expect("an answer");
    let whole = within("content", answer.into_body().collect()).await.expect("whole content");
    let trailers = whole.trailers().expect("trailers").clone();
    assert_eq!(whole.to_bytes(), "content");
    assert_eq!(trailers.get("x-sum").expect("a trailer"), "7");
    // Nothing has to be announced over HTTP/2, but framing never stands there.
    assert_eq!(trailers.get("unannounced").expect("a trailer"), "1");
    assert!(!trailers.contains_key("content-length"), "{trailers:?}");
    let received = source.received("/a");
    assert_eq!((received[0].text().as_str(), received[0].trailers.get("x-sum")), ("abc", Some("3")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_6_5_trailers_of_a_request_reach_the_source() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok(""));
    let gateway = gateway_for(&source, "").await;
    for method in ["PUT", "POST", "GET"] {
        let ask = Ask::new(method, "/a").body("abc").field("Trailer", "X-Sum, Host").trailer("X-Sum", "3");
        let ask = ask.trailer("X-Forwarded-For", "6.6.6.6").trailer("Tidegate-Key", "a");
        assert_eq!(gateway.send(ask.trailer("Host", "other.example")).await.status, 200, "{method}");
        let received = source.received("/a").pop().expect("a request");
        assert_eq!(received.text(), "abc", "{method}");
        assert_eq!(received.fields.get("trailer"), Some("x-sum"), "{method}");
        assert_eq!(received.trailers.0, [("x-sum".to_owned(), "3".to_owned())], "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_6_5_trailers_reach_who_reads_while_it_is_filled_and_are_not_stored() {
    let source = ScriptedSource::start().await;
    source.always("/a", with_trailers().cache_control("max-age=60"));
    let gateway = gateway_for(&source, "").await;
    for hit in [false, true] {
        let answer = gateway.send(Ask::get("/a").field("TE", "trailers")).await;
        assert_eq!((answer.text().as_str(), answer.is_hit()), ("content", hit), "{answer:?}");
        assert_eq!(answer.field("trailer"), if hit { "" } else { "x-sum, x-more" }, "{answer:?}");
        assert_eq!(answer.trailers.get("x-sum"), if hit { None } else { Some("7") }, "{answer:?}");
        assert!(!answer.fields.has("x-sum"), "RFC 9110 6.5.2: never merged: {answer:?}");
    }
    assert_eq!(source.count("/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_6_2_max_forwards() {
    let options = || ask("OPTIONS");
    play(
        "",
        [
            row("7.6.2 at 0 it goes no further")
                .source(Reply::new(204, ""))
                .then(options().field("Max-Forwards", "0").reused().status(200).has("Content-Length", "0")),
            row("7.6.2 it is decremented")
                .source(Reply::new(204, ""))
                .then(options().field("Max-Forwards", "5").forwarded().status(204).sends("Max-Forwards", "4"))
                .then(options().field("Max-Forwards", "1").forwarded().sends("Max-Forwards", "0"))
                .then(options().forwarded().withholds("Max-Forwards")),
            row("7.6.2 what is no number says nothing")
                .source(Reply::new(204, ""))
                .then(options().field("Max-Forwards", "x").forwarded().sends("Max-Forwards", "x"))
                .then(options().field("Max-Forwards", "-1").forwarded().sends("Max-Forwards", "-1")),
            row("7.6.2 other methods leave it alone")
                .source(Reply::ok(""))
                .then(ask("GET").field("Max-Forwards", "0").forwarded().sends("Max-Forwards", "0"))
                .then(ask("DELETE").field("Max-Forwards", "0").forwarded().sends("Max-Forwards", "0")),
        ],
    )
    .await;
}

/// RFC 9110 9.3.7: it asks about the server, not about a resource.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_9_3_7_options_of_the_server_are_this_servers() {
    let source = ScriptedSource::start().await;
    source.always("/", Reply::ok("a resource"));
    let gateway = gateway_for(&source, "").await;
    let answer = gateway.send(Ask::new("OPTIONS", "*")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{answer:?}");
    assert_eq!(answer.field("Proxy-Status"), "tidegate; error=proxy_internal_response");
    assert_eq!(source.requests.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_6_2_the_last_recipient_says_what_its_route_takes() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "methods = [\"GET\", \"OPTIONS\"]\n").await;
    let answer = gateway.send(Ask::new("OPTIONS", "/a").field("Max-Forwards", "0")).await;
    assert_eq!((answer.status, answer.field("allow")), (200, "GET, OPTIONS"), "{answer:?}");
    let trace = gateway.send(Ask::new("TRACE", "/a").field("Max-Forwards", "0")).await;
    assert_eq!(trace.status, 405, "{trace:?}");
    assert_eq!(source.requests.all().len(), 0);
}

/// Sends a head that expects to be told to go on; what comes first.
async fn expecting(gateway: std::net::SocketAddr, head: &str) -> (String, Wire) {
    let mut wire = Wire::new(TcpStream::connect(gateway).await.expect("a connection"));
    wire.write(head.as_bytes()).await.expect("the gateway reads");
    let head = within("a head", wire.head()).await.expect("a well-formed head");
    (head.expect("a head before the end").0, wire)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_10_1_1_expectations() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.body.clone()));
    let gateway = gateway_for(&source, "body = \"1KiB\"\n").await;
    let head = |version: &str, more: &str| format!("PUT /a HTTP/{version}\r\nHost: a\r\n{more}\r\n");
    let (start, mut wire) =
        expecting(gateway.public, &head("1.1", "Expect: 100-Continue\r\nContent-Length: 3\r\n")).await;
    assert_eq!(start, "HTTP/1.1 100 Continue");
    wire.write(b"abc").await.expect("the gateway reads");
    let (start, _) = within("a head", wire.head()).await.expect("a head").expect("a head");
    assert_eq!(&start[9..12], "200");
    let received = source.received("/a").pop().expect("a request");
    assert!(received.text() == "abc" && !received.fields.has("expect"), "{received:?}");
    for (what, head, status) in [
        ("too large to begin with", head("1.1", "Expect: 100-continue\r\nContent-Length: 5000\r\n"), "413"),
        ("no content follows", head("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n"), "200"),
        ("HTTP/1.0", head("1.0", "Expect: 100-continue\r\nContent-Length: 3\r\n") + "abc", "200"),
        ("another expectation", head("1.1", "Expect: tea\r\nContent-Length: 0\r\n"), "417"),
    ] {
        let (start, _) = expecting(gateway.public, &head).await;
        assert_eq!(&start[9..12], status, "{what}: {start}");
    }
}
