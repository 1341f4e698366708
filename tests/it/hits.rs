//! Hits on one connection after another: whatever a client sends beside, however the bytes come, and however slowly it
//! reads, each request gets its answer, whole and in its turn.

use crate::support::wire::{Body, Fields, Framing, Wire};
use crate::support::{
    EVERYTHING, Gateway, Reply, ScriptedSource, Setup, Step, eventually, gateway_for, http_date, within,
};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// What makes a request go the way that all requests can go, and means nothing on a read (RFC 9110 7.6.2).
const LONG_WAY: &str = "Max-Forwards: 5\r\n";

async fn connected(gateway: &Gateway) -> Wire {
    Wire::new(TcpStream::connect(gateway.public).await.unwrap())
}

/// The next answer on a connection.
async fn answer(wire: &mut Wire, method: &str) -> (String, Fields, Vec<u8>) {
    let read = async {
        let (start, fields) = wire.head().await.unwrap().expect("an answer");
        let is_empty = method == "HEAD" || start.contains(" 304 ") || start.contains(" 204 ");
        let framing = if is_empty { Framing::Length(0) } else { Framing::of(&fields, Framing::UntilClose) };
        let content = Body::new(framing).all(wire).await.unwrap();
        (start, fields, content)
    };
    within("an answer", read).await
}

/// The lines of a head in an order of their own, without what differs from answer to answer.
fn lines(fields: &Fields) -> Vec<(String, String)> {
    let mut lines: Vec<_> = fields
        .0
        .iter()
        .filter(|(name, _)| !["age", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| {
            // How many are left is another number each time.
            let value = if name == "ratelimit" { &value[..value.find(";r=").unwrap()] } else { value };
            let value = value.split("; ").filter(|part| !part.starts_with("ttl=")).collect::<Vec<_>>();
            (name.clone(), value.join("; "))
        })
        .collect();
    lines.sort();
    lines
}

/// What is stored.
fn replies() -> [(&'static str, Reply); 14] {
    let base = |status, content: &str| Reply::new(status, content).cache_control("max-age=600");
    [
        ("/plain", base(200, "content").field("Date", &http_date(0)).field("ETag", "\"a\"")),
        ("/undated", base(200, "content").field("Last-Modified", "Mon, 02 Mar 2020 10:00:00 GMT")),
        ("/empty", base(200, "")),
        ("/chunked", Reply::chunks(vec![Step::Bytes(b"content".to_vec())]).cache_control("max-age=600")),
        ("/4096", base(200, &"x".repeat(4096)).field("ETag", "W/\"b\"")),
        ("/4097", base(200, &"y".repeat(4097)).field("Last-Modified", "Mon, 02 Mar 2020 10:00:00 GMT")),
        ("/large", base(200, &"z".repeat(1 << 20)).field("ETag", "\"c\"").field("Vary", "Accept-Encoding")),
        ("/missing", base(404, "nothing")),
        ("/moved", base(301, "").field("Location", "/plain")),
        ("/none", base(204, "")),
        ("/again", base(200, "a").field("X-Two", "1").field("X-Two", "2")),
        ("/cached", base(200, "a").field("Cache-Status", "origin; hit").field("Age", "7")),
        ("/own", base(200, "a").field("X-Request-Id", "theirs").field("RateLimit", "\"x\";r=1;t=1")),
        ("/strange", base(299, "a").field("X-Latin", "\u{fc}")),
    ]
}

/// What it is asked with.
const ASKED: [&str; 11] = [
    "",
    "If-None-Match: \"a\"\r\n",
    "If-None-Match: \"b\", \"c\"\r\n",
    "If-None-Match: *\r\n",
    "If-Modified-Since: Mon, 02 Mar 2020 10:00:00 GMT\r\n",
    "If-Modified-Since: Mon, 02 Mar 2009 10:00:00 GMT\r\n",
    "Cache-Control: max-age=3600\r\n",
    "Cache-Control: no-cache, only-if-cached\r\n",
    "Cookie: a=b\r\nCookie: c=d\r\nX-Forwarded-For: 1.2.3.4\r\n",
    "Authorization: Bearer a\r\n",
    "Accept-Encoding: identity\r\n",
];

/// The second of two equal requests is where what was made of the first is used.
const BESIDE: [&str; 6] = ["", "", "", LONG_WAY, LONG_WAY, ""];

/// A quota that nobody uses up.
const QUOTA: &str =
    "[[route.limit]]\nname = \"all\"\nrequests = 1000000\nper = \"1s\"\nburst = 1000000\nkey = \"client\"\n";

type Told = (String, Vec<(String, String)>, Vec<u8>);

/// All but the first, which may have brought what is stored, are the same.
#[track_caller]
fn assert_same(answers: &[Told], asked: &str) {
    let (first, rest) = answers[1..].split_first().unwrap();
    for other in rest {
        assert_eq!((&other.0, &other.1), (&first.0, &first.1), "{asked}");
        assert!(other.2 == first.2, "{asked}: {} and {} bytes", other.2.len(), first.2.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_is_the_same_whichever_way_its_request_goes() {
    let source = ScriptedSource::start().await;
    for (path, reply) in replies() {
        source.always(path, reply);
    }
    for more in ["", QUOTA] {
        let gateway = gateway_for(&source, more).await;
        for (path, _) in replies() {
            let before = source.count(path);
            for method in ["GET", "HEAD"] {
                for asked in ASKED {
                    let mut wire = connected(&gateway).await;
                    let mut answers = Vec::new();
                    for beside in BESIDE {
                        let head = format!(
                            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n{asked}{beside}\r\n"
                        );
                        wire.write(head.as_bytes()).await.unwrap();
                        let (start, fields, content) = answer(&mut wire, method).await;
                        answers.push((start, lines(&fields), content));
                    }
                    assert_same(&answers, &format!("{method} {path} {asked:?} {more:?}"));
                }
            }
            // Of what varies, two are stored: nothing else of these was a miss.
            assert!(source.count(path) <= before + 2, "{path}: {} after {before}", source.count(path));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_over_http2_is_the_same_whichever_way_its_request_goes() {
    let source = ScriptedSource::start().await;
    for (path, reply) in replies() {
        source.always(path, reply);
    }
    for more in ["", QUOTA] {
        let gateway = gateway_for(&source, more).await;
        let io = TokioIo::new(TcpStream::connect(gateway.public).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = within("the preface", handshake).await.unwrap();
        tokio::spawn(connection);
        for (path, _) in replies() {
            let before = source.count(path);
            for method in ["GET", "HEAD"] {
                for asked in ASKED {
                    let mut answers = Vec::new();
                    for beside in BESIDE {
                        let mut request =
                            http::Request::builder().method(method).uri(format!("http://a{path}"));
                        for line in format!("{asked}{beside}").split_terminator("\r\n") {
                            let (name, value) = line.split_once(": ").unwrap();
                            request = request.header(name, value);
                        }
                        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
                        let answer = within("an answer", sender.send_request(request)).await.unwrap();
                        let (head, content) = answer.into_parts();
                        let content = content.collect().await.unwrap().to_bytes().to_vec();
                        let text = |value: &http::HeaderValue| {
                            String::from_utf8_lossy(value.as_bytes()).into_owned()
                        };
                        let fields = head.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
                        answers.push((head.status.to_string(), lines(&Fields(fields.collect())), content));
                    }
                    assert_same(&answers, &format!("{method} {path} {asked:?} {more:?}"));
                }
            }
            assert!(source.count(path) <= before + 2, "{path}: {} after {before}", source.count(path));
        }
    }
}

/// Hits, forwards and writes, and what each is answered with.
fn mixed(host: SocketAddr) -> (String, Vec<String>) {
    let mut stream = String::new();
    let mut expected = Vec::new();
    for turn in 0..200_usize {
        let number = turn * 7 % 10;
        match turn % 5 {
            0 | 1 | 3 => {
                let agent = turn % 3;
                stream +=
                    &format!("GET /stored/{number} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\r\n");
                expected.push(format!("stored {number} {}", "x".repeat(number * 1500)));
            }
            2 => {
                stream += &format!("GET /never/{number} HTTP/1.1\r\nHost: {host}\r\n\r\n");
                expected.push(format!("never {number}"));
            }
            _ => {
                let content = format!("GET /stored/{number} HTTP/1.1\r\nHost: {host}\r\n\r\n");
                let length = content.len();
                stream += &format!(
                    "POST /written HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{content}"
                );
                expected.push(content);
            }
        }
    }
    (stream, expected)
}

/// Reads these contents, each behind its head, and nothing else.
async fn all_of(read: &mut OwnedReadHalf, expected: &[String], piece: usize) {
    let (mut all, mut at) = (Vec::new(), 0);
    for content in expected {
        let end = loop {
            if let Some(end) = all[at..].windows(4).position(|four| four == b"\r\n\r\n") {
                break at + end + 4;
            }
            assert_ne!(read.read_buf(&mut all).await.unwrap(), 0, "closed within a head");
        };
        let head = String::from_utf8_lossy(&all[at..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.expect("a length").parse().unwrap();
        while all.len() < end + length {
            assert_ne!(read.read_buf(&mut all).await.unwrap(), 0, "closed within content");
        }
        assert!(all[end..end + length] == *content.as_bytes(), "in pieces of {piece}");
        at = end + length;
    }
    assert_eq!(all.len(), at, "nothing behind the last answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_the_order_of_their_requests_however_the_bytes_come() {
    let source = ScriptedSource::start().await;
    for number in 0..10 {
        let reply =
            Reply::ok(format!("stored {number} {}", "x".repeat(number * 1500))).cache_control("max-age=600");
        source.always(&format!("/stored/{number}"), reply);
        source.always(
            &format!("/never/{number}"),
            Reply::ok(format!("never {number}")).cache_control("no-store"),
        );
    }
    source.on("/written", |request| Reply::ok(request.body.clone()));
    let gateway = gateway_for(&source, "").await;
    for number in 0..10 {
        gateway.get(&format!("/stored/{number}")).await;
    }
    let host = gateway.public;
    let (stream, expected) = mixed(host);
    for piece in [1, 3, 17, 150, 1460, usize::MAX] {
        let (mut read, mut write) = TcpStream::connect(host).await.unwrap().into_split();
        let bytes = stream.clone().into_bytes();
        let writing = tokio::spawn(async move {
            for part in bytes.chunks(piece.min(bytes.len())) {
                write.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            write
        });
        within("all answers", all_of(&mut read, &expected, piece)).await;
        drop(writing.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_late_gets_all_of_every_hit() {
    const TURNS: usize = 12;
    let source = ScriptedSource::start().await;
    let content = (0..(3 << 20)).map(|at: u32| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>();
    source.always("/large", Reply::ok(content.clone()).cache_control("max-age=600"));
    source.always("/small", Reply::ok("small").cache_control("max-age=600"));
    source.always("/never", Reply::ok("never").cache_control("no-store"));
    let gateway = gateway_for(&source, "").await;
    for path in ["/large", "/small"] {
        gateway.get(path).await;
    }
    let mut wire = connected(&gateway).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.public);
    let all: String = ["/large", "/small", "/never"].map(get).concat().repeat(TURNS);
    wire.write(all.as_bytes()).await.unwrap();
    // By now the system's buffers are full: others are served, and this one is not forgotten.
    for _ in 0..20 {
        assert!(gateway.get("/small").await.is_hit());
    }
    for turn in 0..TURNS {
        for expected in [&content[..], b"small", b"never"] {
            let (start, _, read) = answer(&mut wire, "GET").await;
            assert!(start.starts_with("HTTP/1.1 200 "), "{start}");
            assert!(read == expected, "turn {turn}: {} bytes of {}", read.len(), expected.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_that_is_being_read_ends_before_the_process_does() {
    let source = ScriptedSource::start().await;
    let content = vec![b'x'; 12 << 20];
    source.always("/large", Reply::ok(content.clone()).cache_control("max-age=600"));
    let cache = "[cache]\nmemory_object = \"16MiB\"\n";
    let gateway = Setup::new(format!("{}{EVERYTHING}{cache}", source.table())).start().await;
    gateway.get("/large").await;
    let mut wire = connected(&gateway).await;
    let get = format!("GET /large HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.public);
    // Twice, so that the second is in no buffer of the system's yet.
    wire.write(get.repeat(2).as_bytes()).await.unwrap();
    let (_, fields) = within("a head", wire.head()).await.unwrap().unwrap();
    gateway.signal("TERM");
    let first = Body::new(Framing::of(&fields, Framing::UntilClose)).all(&mut wire).await.unwrap();
    assert!(first == content);
    // The second is answered whole or not at all.
    if let Ok(Some((start, fields))) = wire.head().await {
        assert_eq!(start, "HTTP/1.1 200 OK");
        assert!(
            Body::new(Framing::of(&fields, Framing::UntilClose)).all(&mut wire).await.unwrap() == content
        );
    }
    assert_eq!(gateway.ended().await.status.code(), Some(0));
}

/// What a client sends while it still reads a hit is read as well: unread, it would have the system take back what
/// is on its way when the connection ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cuts_no_hit_behind_which_another_request_has_come() {
    let (_source, gateway, content) = with_a_large_one("").await;
    let mut wire = slow(&gateway).await;
    let get = format!("GET /large HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.public);
    wire.write(get.as_bytes()).await.unwrap();
    let (_, fields) = within("a head", wire.head()).await.unwrap().unwrap();
    wire.write(get.as_bytes()).await.unwrap();
    let mut body = Body::new(Framing::of(&fields, Framing::UntilClose));
    let mut read = body.next(&mut wire).await.unwrap().unwrap();
    gateway.signal("TERM");
    while let Some(part) = within("more", body.next(&mut wire)).await.unwrap() {
        read.extend(part);
    }
    assert!(read == content, "{} bytes of {}", read.len(), content.len());
    drop(wire);
    assert_eq!(gateway.ended().await.status.code(), Some(0));
}

/// A connection is idle from the end of its answer on, not from the beginning of its request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_not_idle_while_a_hit_is_read() {
    let (_source, gateway, content) = with_a_large_one("[server.limits]\nidle_timeout = \"2s\"\n").await;
    let mut wire = slow(&gateway).await;
    let get = format!("GET /large HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.public);
    wire.write(get.as_bytes()).await.unwrap();
    let (_, fields) = within("a head", wire.head()).await.unwrap().unwrap();
    let mut body = Body::new(Framing::of(&fields, Framing::UntilClose));
    let begun = Instant::now();
    let mut read = Vec::new();
    while let Some(part) = within("more", body.next(&mut wire)).await.unwrap() {
        read.extend(part);
        // The end is not read before the connection would have been idle for too long.
        if read.len() > content.len() / 2 {
            tokio::time::sleep_until(begun + Duration::from_secs(3)).await;
        }
    }
    assert!(read == content);
    wire.write(get.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut wire, "GET").await.2.len(), content.len());
}

/// A reader that stands still is cut once, and its connection ends with that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_who_stands_still_in_a_hit_is_cut_once() {
    let (_source, gateway, _content) = with_a_large_one("[server.limits]\nbody_rate = \"1MiB\"\n").await;
    let mut wire = slow(&gateway).await;
    let get = format!("GET /large HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.public);
    wire.write(get.as_bytes()).await.unwrap();
    within("a head", wire.head()).await.unwrap().unwrap();
    let cut = async || gateway.metric("tidegate_readers_cut_total").await;
    eventually("it is cut", async || cut().await > 0).await;
    let at = Instant::now();
    eventually("its connection is gone", async || gateway.metric("tidegate_connections").await == 0).await;
    assert!(at.elapsed() < Duration::from_secs(5), "gone {:?} after the cut", at.elapsed());
    assert_eq!(cut().await, 1);
}

/// A gateway that has 12 MiB in memory, for `/large`.
async fn with_a_large_one(more: &str) -> (ScriptedSource, Gateway, Vec<u8>) {
    let source = ScriptedSource::start().await;
    let content = vec![b'x'; 12 << 20];
    source.always("/large", Reply::ok(content.clone()).cache_control("max-age=600"));
    let cache = "[cache]\nmemory_object = \"16MiB\"\n";
    let gateway = Setup::new(format!("{}{EVERYTHING}{more}{cache}", source.table())).start().await;
    gateway.get("/large").await;
    assert!(gateway.get("/large").await.is_hit());
    (source, gateway, content)
}

/// A connection of a client that takes little at once.
async fn slow(gateway: &Gateway) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Wire::new(socket.connect(gateway.public).await.unwrap())
}

/// What was understood of a connection's field lines is forgotten when another configuration comes into force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_stands_follows_a_reload() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok("content").cache_control("max-age=600"));
    let setup = Setup::new(format!("{}{EVERYTHING}", source.table()));
    let gateway = setup.start().await;
    let mut wire = connected(&gateway).await;
    let get = format!("GET /a HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.public);
    for _ in 0..3 {
        wire.write(get.as_bytes()).await.unwrap();
        let (_, fields, _) = answer(&mut wire, "GET").await;
        assert_eq!(fields.get("x-added"), None);
    }
    let changed = "response_headers = { set = { X-Added = \"1\" } }\n";
    setup.rest(format!("{}{EVERYTHING}{changed}", source.table())).write();
    let reloaded = gateway.admin_post("/v1/reload", &json!({})).await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    for _ in 0..3 {
        wire.write(get.as_bytes()).await.unwrap();
        let (_, fields, content) = answer(&mut wire, "GET").await;
        assert_eq!((fields.get("x-added"), &content[..]), (Some("1"), &b"content"[..]));
    }
}
