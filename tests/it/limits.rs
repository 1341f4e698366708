//! Bounds of what a client may send, and what stops a gateway from starting.

use crate::support::{Ask, EVERYTHING, Reply, ScriptedSource, Setup, gateway_for, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The type of the HTTP/2 frame by which a connection ends.
const GOAWAY: u8 = 7;

async fn source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.body.clone()));
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_by_name_and_not_forwarded() {
    let source = source().await;
    let limits = "[server.limits]\nhead = \"4KiB\"\nfields = 20\ntarget = \"1KiB\"\nbody = \"1KiB\"\n";
    let gateway = Setup::new(format!("{}{EVERYTHING}{limits}", source.table())).start().await;
    let many = (0..21).fold(Ask::get("/a"), |ask, number| ask.field(&format!("X-{number}"), "1"));
    let target = format!("/{}", "a".repeat(1024));
    let body = vec![b'x'; 1025];
    for (what, ask, status) in [
        ("head", Ask::get("/a").field("X-Large", &"x".repeat(4096)), 431),
        ("fields", many, 431),
        ("target", Ask::get(&target), 414),
        ("body by its length", Ask::put("/a", body.clone()), 413),
        ("body in chunks", Ask::put("/a", body.clone()).chunked(), 413),
    ] {
        let answer = gateway.send(ask).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    // A body in chunks is known to be too large only on its way; nothing of it is complete at the source.
    assert_eq!(source.requests.all().len(), 0);
    assert_eq!(gateway.get(&target[..1000]).await.status, 200);
    assert_eq!(gateway.send(Ask::put("/a", &body[..1024])).await.body.len(), 1024);
    assert_eq!(gateway.send(Ask::put("/a", &body[..1024]).chunked()).await.body.len(), 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_route_it_is_a_404_problem() {
    let source = source().await;
    let route = "[[route]]\nname = \"items\"\npath = \"/items/{*rest}\"\nmethods = [\"GET\"]\nsource = \"inventory\"\n";
    let gateway = Setup::new(format!("{}{route}", source.table())).start().await;
    gateway.get("/other").await.assert_problem(404);
    gateway.get("/items").await.assert_problem(404);
    gateway.put("/items/1", "x").await.assert_problem(404);
    assert_eq!(gateway.get("/items/").await.status, 200);
    assert_eq!(gateway.get("/items/1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_by_prior_knowledge_is_spoken() {
    let source = source().await;
    source.always("/a", Reply::ok("over h2").cache_control("max-age=60"));
    let gateway = gateway_for(&source, "").await;
    let stream = TcpStream::connect(gateway.public).await.expect("a connection");
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let handshake = hyper::client::conn::http2::handshake(executor, io);
    let (mut sender, connection) = within("the preface", handshake).await.expect("HTTP/2");
    tokio::spawn(connection);
    for hit in [false, true] {
        let request = http::Request::get(format!("http://{}/a", gateway.public))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request");
        let answer = within("an answer", sender.send_request(request)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let status = answer.headers()["cache-status"].to_str().expect("text").to_owned();
        assert_eq!(status.contains("; hit"), hit, "{status}");
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body");
        assert_eq!(body.to_bytes(), "over h2");
    }
}

/// RFC 9113 6.8, 9.1: a client learns which of its requests were seen, so that it can send the others anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9113_6_8_an_idle_http2_connection_ends_with_goaway() {
    let source = source().await;
    let limits = "[server.limits]\nheader_timeout = \"1s\"\n";
    let gateway = Setup::new(format!("{}{EVERYTHING}{limits}", source.table())).start().await;
    let mut stream = TcpStream::connect(gateway.public).await.expect("a connection");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("the preface goes out");
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("empty SETTINGS go out");
    let mut bytes = Vec::new();
    within("the connection ends", stream.read_to_end(&mut bytes)).await.expect("an orderly end");
    let (mut rest, mut kinds) = (bytes.as_slice(), Vec::new());
    while let [high, middle, low, kind, _, _, _, _, _, after @ ..] = rest {
        kinds.push(*kind);
        rest = &after[u32::from_be_bytes([0, *high, *middle, *low]) as usize..];
    }
    assert!(kinds.contains(&GOAWAY), "frames: {kinds:?}");
}

/// Nothing sent: cut without an answer. Something sent: 408.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_head_is_cut() {
    let source = source().await;
    let limits = "[server.limits]\nheader_timeout = \"1s\"\n";
    let gateway = Setup::new(format!("{}{EVERYTHING}{limits}", source.table())).start().await;
    let late = "HTTP/1.1 408";
    for (sent, answered) in [
        ("", ""),
        ("GET /a HTTP/1.1\r\nHost: a\r\n", late),
        ("PR", late),
        ("PRI * HTTP/2.0\r\n", late),
        ("PRI * HTTP/2.0\r\n\r\n", late),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n", late),
        ("PRI * HTTP/2.0\r\n\r\nX", "HTTP/1.1 505"),
    ] {
        let mut stream = TcpStream::connect(gateway.public).await.expect("a connection");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        within("the cut", stream.read_to_end(&mut answer)).await.expect("a close");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(answered) && answer.is_empty() == answered.is_empty(),
            "{sent:?}: {answer}"
        );
    }
}

/// Between two requests `idle_timeout` holds, and a second head that stands still is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed() {
    let source = source().await;
    let limits = "[server.limits]\nheader_timeout = \"1s\"\nidle_timeout = \"1500ms\"\n";
    let gateway = Setup::new(format!("{}{EVERYTHING}{limits}", source.table())).start().await;
    let request = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    for (sent, answers, last) in [
        (request.to_owned(), 1, "HTTP/1.1 200"),
        (format!("{request}{request}"), 2, "HTTP/1.1 200"),
        (format!("{request}GET /a HT"), 2, "HTTP/1.1 408"),
    ] {
        let mut stream = TcpStream::connect(gateway.public).await.expect("a connection");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        within("the close", stream.read_to_end(&mut answer)).await.expect("a close");
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), answers, "{answer}");
        assert!(answer.rfind(last) == answer.rfind("HTTP/1.1 "), "{answer}");
    }
}

/// A client that grants an answer no window holds what it holds for as long as a slow reader may, no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_answer_that_nobody_takes_is_cut() {
    let source = source().await;
    source.always("/large", crate::support::Reply::ok("x".repeat(1 << 20)).cache_control("max-age=60"));
    let gateway = Setup::new(format!("{}{EVERYTHING}", source.table())).start().await;
    let stream = TcpStream::connect(gateway.public).await.expect("a connection");
    let io = hyper_util::rt::TokioIo::new(stream);
    let mut client = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    client.initial_stream_window_size(1024);
    let (mut send, connection) = client.handshake(io).await.expect("HTTP/2");
    let ended = tokio::spawn(connection);
    let uri = format!("http://{}/large", gateway.public);
    let ask = hyper::Request::get(uri).body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
    let answer = within("the head", send.send_request(ask)).await.expect("a head");
    assert_eq!(answer.status(), 200);
    // Nobody reads the content.
    assert!(within("the cut", ended).await.is_ok());
    drop(answer);
}

/// RFC 9110 9.3.2, where HTTP/2 would send what HTTP/1 leaves out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_over_http2_has_no_content_even_when_it_is_an_error() {
    let source = source().await;
    let text = format!("{}[[route]]\nname = \"a\"\npath = \"/a\"\nsource = \"inventory\"\n", source.table());
    let gateway = Setup::new(text).start().await;
    let stream = TcpStream::connect(gateway.public).await.expect("a connection");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut send, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let uri = format!("http://{}/nowhere", gateway.public);
    let ask =
        hyper::Request::head(uri).body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
    let answer = within("the answer", send.send_request(ask)).await.expect("no protocol error");
    assert_eq!(answer.status(), 404);
    assert!(answer.headers().contains_key("content-length"));
    let content =
        http_body_util::BodyExt::collect(answer.into_body()).await.expect("a whole answer").to_bytes();
    assert!(content.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_bound_are_turned_away_and_served_again_later() {
    let source = source().await;
    let limits = "[server.limits]\nconnections = 2\n";
    let gateway = Setup::new(format!("{}{EVERYTHING}{limits}", source.table())).start().await;
    let held = [(); 2].map(|()| TcpStream::connect(gateway.public));
    let held = futures_util::future::join_all(held).await;
    assert!(held.iter().all(Result::is_ok));
    let refused = Ask::get("/a").send(gateway.public).await;
    assert!(refused.map_or(true, |answer| answer.status == 503));
    drop(held);
    crate::support::eventually("there is room again", async || {
        Ask::get("/a").send(gateway.public).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_folder_that_cannot_be_one_stops_the_start_and_is_named() {
    let (source, destination) = (source().await, crate::support::RecordingDestination::start().await);
    let text = format!(
        "{}{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    let setup = Setup::new(text);
    std::fs::write(setup.data(), "a file, not a folder").expect("the folder is ours");
    let exit = setup.try_start().await.expect_err("there is no journal");
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains(&setup.data().display().to_string()), "{}", exit.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_configuration_is_exit_2_with_every_fault() {
    let exit = Setup::new("[[route]]\nname = \"a\"\npath = \"/{*rest}\"\nsource = \"nobody\"\nwrong = 1\n")
        .try_start()
        .await
        .expect_err("the configuration is broken");
    assert_eq!(exit.status.code(), Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("tidegate.toml:") && exit.stderr.contains("wrong"), "{}", exit.stderr);
}
