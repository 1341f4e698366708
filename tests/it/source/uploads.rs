//! What clients do to the content of their own requests tells nothing of the source.

use super::{becomes, gateway_of, metric, nothing_is_left};
use crate::support::wait::Record;
use crate::support::wire::{Body, Framing, Wire};
use crate::support::{Gateway, Reply, ScriptedSource, within};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// More than enough to open a breaker.
const MANY: usize = 8;

/// How a request's content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its client leaves, once the source is being sent it.
    Left,
    /// It is refused with this status.
    Refused(u16),
}

async fn begun(gateway: &Gateway, head: &str, content: &str) -> Wire {
    let mut wire = Wire::new(TcpStream::connect(gateway.public).await.expect("a connection"));
    let text = format!("{head}\r\nHost: a\r\n{content}");
    wire.write(text.as_bytes()).await.expect("it is taken");
    wire
}

async fn status(wire: &mut Wire) -> u16 {
    let head = within("an answer", wire.head()).await.expect("a connection");
    let (start, _) = head.expect("a head");
    start.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

/// The source is not blamed, and still asked.
async fn is_well(gateway: &Gateway, what: &str) {
    for name in ["tidegate_source_failures_total", "tidegate_source_breaker_state"] {
        assert!(metric(gateway, name, &[]).await < 0.5, "{what}: {name}");
    }
    assert_eq!(gateway.get("/well").await.status, 200, "{what}");
    nothing_is_left(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_breaks_off_opens_no_breaker() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("good"));
    let half = format!("Content-Length: 1000\r\n\r\n{}", "x".repeat(500));
    let chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let foul = format!("{chunks}zz\r\n");
    let large = format!("Transfer-Encoding: chunked\r\n\r\n800\r\n{}\r\n", "x".repeat(2048));
    for (what, head, content, end, reason) in [
        ("half a POST", "POST /a HTTP/1.1", half.as_str(), End::Left, ""),
        ("half a GET", "GET /a HTTP/1.1", &half, End::Left, ""),
        ("some chunks", "PUT /a HTTP/1.1", chunks, End::Left, ""),
        ("no chunk", "PUT /a HTTP/1.1", &foul, End::Refused(400), "broken"),
        ("too much", "PUT /a HTTP/1.1", &large, End::Refused(413), "too-large"),
    ] {
        let gateway = gateway_of(&[&source.url()], "", "body = \"1KiB\"\n").await;
        for _ in 0..MANY {
            let mut wire = begun(&gateway, head, content).await;
            match end {
                End::Left => {
                    becomes(&gateway, "tidegate_source_in_flight", &[], 1.0).await;
                    wire.reset();
                }
                End::Refused(expected) => assert_eq!(status(&mut wire).await, expected, "{what}"),
            }
            becomes(&gateway, "tidegate_source_in_flight", &[], 0.0).await;
        }
        is_well(&gateway, what).await;
        if let End::Refused(_) = end {
            let refused = metric(&gateway, "tidegate_content_refused_total", &[reason]).await;
            assert!((refused - 8.0).abs() < 0.5, "{what}: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stands_still_makes_no_source_silent() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("good"));
    let gateway = gateway_of(&[&source.url()], "timeout = \"1s\"", "").await;
    for head in ["POST /a HTTP/1.1", "GET /a HTTP/1.1"] {
        let mut standing = Vec::new();
        for _ in 0..MANY {
            standing.push(begun(&gateway, head, "Content-Length: 10\r\n\r\nhello").await);
        }
        for wire in &mut standing {
            assert_eq!(status(wire).await, 504, "{head}");
        }
        drop(standing);
        is_well(&gateway, head).await;
    }
}

/// Answers each request when its head is there, and reads its content afterwards; the lines that began one, with the
/// number of their connection.
async fn hasty_source() -> (String, Arc<Record<(usize, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let lines = Arc::new(Record::new());
    let record = Arc::clone(&lines);
    tokio::spawn(async move {
        for number in 0.. {
            let (mut wire, record) = (Wire::new(listener.accept().await.unwrap().0), Arc::clone(&record));
            tokio::spawn(async move {
                while let Ok(Some((line, fields))) = wire.head().await {
                    record.push((number, line));
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\nok";
                    if wire.write(answer).await.is_err() {
                        return;
                    }
                    let mut content = Body::new(Framing::of(&fields, Framing::Length(0)));
                    if content.all(&mut wire).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, lines)
}

/// RFC 9112 9.3: the next request passes once the content has ended; and where content has gone to the source behind
/// its answer, it is on another connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_goes_on_behind_its_answer_stops_nobody_and_is_nobodys_request() {
    let (url, lines) = hasty_source().await;
    let gateway = gateway_of(&[&url], "", "").await;
    let smuggled = "HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = format!("Content-Length: {}\r\n\r\nfirst", 5 + smuggled.len());
    let chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let last_chunk = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for (framed, rest) in [(length.as_str(), smuggled), (chunks, &last_chunk)] {
        let mut wire = begun(&gateway, "POST /early HTTP/1.1", framed).await;
        let read = async |wire: &mut Wire| {
            let (_, fields) = within("an answer", wire.head()).await.unwrap().expect("a head");
            let mut body = Body::new(Framing::of(&fields, Framing::Length(0)));
            assert_eq!(within("its body", body.all(wire)).await.unwrap(), b"ok");
        };
        read(&mut wire).await;
        let both = format!("{rest}GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.write(both.as_bytes()).await.unwrap();
        read(&mut wire).await;
    }
    let seen = lines.all();
    let asked: Vec<&str> = seen.iter().map(|(_, line)| line.as_str()).collect();
    let expected = ["POST /early HTTP/1.1", "GET /next HTTP/1.1"].repeat(2);
    assert_eq!(asked, expected);
    assert!(seen.chunks(2).all(|pair| pair[0].0 != pair[1].0), "{seen:?}");
}

/// A gateway that waits for heads so long, and for what is idle.
async fn of_little_patience(url: &str, idle: &str) -> Gateway {
    let limits = format!("[server.limits]\nheader_timeout = \"500ms\"\nidle_timeout = {idle:?}\n");
    gateway_of(&[url], "", &limits).await
}

/// Whoever sends content behind its answer is within no head: it has the time of content, the next head its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_behind_its_answer_may_take_longer_than_a_head() {
    let (url, lines) = hasty_source().await;
    let gateway = of_little_patience(&url, "20s").await;
    let chunk = "5\r\nfirst\r\n";
    for (framed, part, end) in [
        ("Content-Length: 30\r\n\r\nfirst".to_owned(), "first", ""),
        (format!("Transfer-Encoding: chunked\r\n\r\n{chunk}"), chunk, "0\r\n\r\n"),
        // A part ends within the line of the next chunk's size.
        (format!("Transfer-Encoding: chunked\r\n\r\n{chunk}5"), "\r\nfirst\r\n5", "\r\nfirst\r\n0\r\n\r\n"),
    ] {
        let mut wire = begun(&gateway, "POST /early HTTP/1.1", &framed).await;
        assert_eq!(status(&mut wire).await, 200);
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        for _ in 0..5 {
            tick.tick().await;
            wire.write(part.as_bytes()).await.unwrap();
        }
        wire.write(format!("{end}GET /next HTTP/1.1\r\nHost: a\r\n\r\nGET /half").as_bytes()).await.unwrap();
        let mut body = Body::new(Framing::Length(2));
        assert_eq!(within("its body", body.all(&mut wire)).await.unwrap(), b"ok");
        assert_eq!(status(&mut wire).await, 200, "{framed:?}");
        let mut body = Body::new(Framing::Length(2));
        assert_eq!(within("its body", body.all(&mut wire)).await.unwrap(), b"ok");
        assert_eq!(status(&mut wire).await, 408, "{framed:?}: a head that stands still is told so");
    }
    let asked = lines.all().into_iter().filter(|(_, line)| line.starts_with("GET")).count();
    assert_eq!(asked, 3);
}

/// A request has one answer: what it sends behind that may end its connection, and is answered no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_stands_still_or_is_foul_behind_its_answer_is_not_answered_again() {
    let (url, _) = hasty_source().await;
    let gateway = of_little_patience(&url, "700ms").await;
    for (framed, rest) in [
        ("Content-Length: 30\r\n\r\nfirst", "first"),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", "5\r\nfir"),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", "zz\r\n"),
    ] {
        let mut wire = begun(&gateway, "POST /early HTTP/1.1", framed).await;
        assert_eq!(status(&mut wire).await, 200);
        let mut body = Body::new(Framing::Length(2));
        assert_eq!(within("its body", body.all(&mut wire)).await.unwrap(), b"ok");
        wire.write(rest.as_bytes()).await.unwrap();
        let next = within("an end", wire.head()).await;
        assert!(matches!(next, Ok(None) | Err(_)), "{rest:?}: {next:?}");
    }
    nothing_is_left(&gateway).await;
}

/// RFC 9110 2.5: a source's version is between it and the gateway; what breaks off is seen to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_of_a_source_is_not_told_and_what_breaks_off_is_visibly_broken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (go_on, told) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut wire = Wire::new(listener.accept().await.unwrap().0);
        drop(wire.head().await);
        wire.write(b"HTTP/1.0 200 OK\r\n\r\nhel").await.unwrap();
        told.await.unwrap();
        wire.reset();
    });
    let gateway = gateway_of(&[&url], "", "").await;
    let mut wire = begun(&gateway, "POST /a HTTP/1.1", "Content-Length: 0\r\n\r\n").await;
    let (line, fields) = within("an answer", wire.head()).await.unwrap().expect("a head");
    assert_eq!(line, "HTTP/1.1 200 OK");
    let mut body = Body::new(Framing::of(&fields, Framing::Length(0)));
    assert_eq!(within("a part", body.next(&mut wire)).await.unwrap().unwrap(), b"hel");
    go_on.send(()).unwrap();
    assert!(within("an end", body.next(&mut wire)).await.is_err(), "it is no whole");
}
