//! 64 users at once, random requests over real sockets, a source that answers each with a canary: nobody ever
//! gets another's. `TIDEGATE_TORTURE=1` makes it 100,000 requests for each.

use crate::support::wire::{Body, Framing, Wire};
use crate::support::{Reply, ScriptedSource, Setup};
use std::net::SocketAddr;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

const USERS: u64 = 64;
const REQUESTS: u32 = 150;
const REQUESTS_OF_TORTURE: u32 = 100_000;

/// A canary is padded to this, so that every part that is asked for names its owner.
const CANARY_BYTES: usize = 32;

/// Rows: a route's path and its identity.
const ROUTES: [(&str, &str); 4] = [
    ("/user", "header:X-User"),
    ("/token", "header:Authorization"),
    ("/cookie", "cookie:session"),
    ("/all", "shared"),
];

/// Whom a request is for, as its source sees it on a route.
fn owner(path: &str, user: &str, token: &str, cookies: &str) -> String {
    let session = cookies.split("; ").find_map(|pair| pair.strip_prefix("session=")).unwrap_or_default();
    match path.split('/').nth(1) {
        Some("user") => format!("<{user}+{token}>"),
        Some("token") => format!("<{token}>"),
        Some("cookie") => format!("<{session}+{token}>"),
        _ => "<all>".to_owned(),
    }
}

fn source_reply(request: &crate::support::Received, draw: u32) -> Reply {
    let field = |name| request.fields.get(name).unwrap_or_default();
    let owner = owner(request.path(), field("X-User"), field("Authorization"), field("Cookie"));
    // Where nothing splits, what is one user's own is kept by the rules alone (RFC 9111 3.5).
    let is_own = request.path().starts_with("/all/own");
    let owner = if is_own { format!("<{}>", field("Authorization")) } else { owner };
    let body = format!("{owner:.<CANARY_BYTES$}");
    if draw.is_multiple_of(23) {
        return Reply::new(503, body);
    }
    let cache_control = match draw % 7 {
        0 => "private, max-age=60",
        1 => "no-store",
        2 => "max-age=0",
        3 => "max-age=1, stale-while-revalidate=60",
        4 => "no-cache",
        _ => "max-age=60, stale-if-error=60",
    };
    let etag = format!("\"{}\"", draw % 3);
    if request.method == "GET" && field("If-None-Match").contains(&etag) && draw.is_multiple_of(2) {
        return Reply::new(304, "").field("ETag", &etag).cache_control(cache_control);
    }
    let reply = Reply::ok(body).cache_control(cache_control).field("ETag", &etag);
    match draw % 5 {
        0 => reply.field("Vary", "X-Variant"),
        1 if !is_own => reply.field("Set-Cookie", "seen=1"),
        _ => reply,
    }
}

/// One user's way through the gateway, on connections of its own.
struct User {
    name: String,
    from: SocketAddr,
    to: SocketAddr,
    wire: Option<Wire>,
    random: fastrand::Rng,
}

impl User {
    /// The next request, and what its answer may say.
    fn next(&mut self) -> (String, String, bool) {
        let random = &mut self.random;
        let (root, _) = ROUTES[random.usize(..ROUTES.len())];
        let own = if root == "/all" && random.bool() { "/own" } else { "" };
        let path = format!("{root}{own}/{}", random.u32(..3));
        let method = ["GET", "GET", "GET", "GET", "GET", "HEAD", "QUERY", "PUT"][random.usize(..8)];
        let (mut lines, mut user, mut token, mut cookies) =
            (String::new(), String::new(), String::new(), String::new());
        if random.u32(..4) > 0 {
            // A name is believed from one of the addresses only.
            lines += &format!("X-User: {}\r\n", self.name);
            if self.from.ip().to_string() == "127.0.0.1" {
                user.clone_from(&self.name);
            }
        }
        if random.u32(..3) > 0 || !own.is_empty() {
            token = format!("Bearer {}", self.name);
            lines += &format!("Authorization: {token}\r\n");
        }
        if random.u32(..3) > 0 {
            cookies = format!("seen={}; session={}", random.u32(..9), self.name);
            lines += &format!("Cookie: {cookies}\r\n");
        }
        if random.u32(..6) == 0 && method == "GET" {
            lines += &format!("Range: bytes=0-{}\r\n", 15 + random.u32(..10));
        }
        if random.u32(..6) == 0 {
            lines += "If-None-Match: \"1\"\r\n";
        }
        if random.u32(..6) == 0 {
            lines += &format!("X-Variant: {}\r\n", random.u32(..2));
        }
        let content = match method {
            "QUERY" => format!("Content-Type: text/plain\r\nContent-Length: 1\r\n\r\n{}", random.u32(..3)),
            "PUT" => "Content-Length: 1\r\n\r\nx".to_owned(),
            _ => "\r\n".to_owned(),
        };
        let expected =
            if own.is_empty() { owner(&path, &user, &token, &cookies) } else { format!("<{token}>") };
        let bytes = format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n{lines}{content}");
        (bytes, expected, method == "HEAD")
    }

    async fn asks(&mut self) -> Result<(), String> {
        let (bytes, expected, is_head) = self.next();
        let mut wire = if let Some(wire) = self.wire.take() {
            wire
        } else {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(self.from).unwrap();
            Wire::new(socket.connect(self.to).await.unwrap())
        };
        wire.write(bytes.as_bytes()).await.unwrap();
        let (start, fields) = wire.head().await.unwrap().expect("an answer");
        let none = is_head || start.contains(" 304 ");
        let framing = if none { Framing::Length(0) } else { Framing::of(&fields, Framing::UntilClose) };
        let body = Body::new(framing).all(&mut wire).await.unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        if fields.list("Connection") != "close" {
            self.wire = Some(wire);
        }
        let is_problem = fields.get("Content-Type") == Some("application/problem+json");
        let is_own = text.is_empty() || is_problem || text.starts_with(&expected);
        let cut = text.len() < expected.len() && expected.starts_with(&text);
        if is_own || cut {
            Ok(())
        } else {
            Err(format!("{expected} got {text}\n{bytes}\n{start} {fields:?}"))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_nobody_ever_gets_what_was_for_another() {
    let source = ScriptedSource::start().await;
    let draws = std::sync::Mutex::new(fastrand::Rng::with_seed(7));
    source.on("*", move |request| source_reply(request, draws.lock().unwrap().u32(..)));
    let routes = ROUTES.map(|(path, identity)| {
        format!(
            "[[route]]\nname = \"{path}\"\npath = \"{path}/{{*rest}}\"\nsource = \"inventory\"\n\
             [route.cache]\nidentity = \"{identity}\"\nstale_while_revalidate = \"60s\"\n"
        )
    });
    let rest = format!("{}{}", source.table(), routes.concat());
    let gateway = Setup::new(rest).server("trusted_proxies = [\"127.0.0.1\"]").start().await;
    let is_torture = std::env::var_os("TIDEGATE_TORTURE").is_some();
    let requests = if is_torture { REQUESTS_OF_TORTURE } else { REQUESTS };
    let mut users = JoinSet::new();
    for number in 0..USERS {
        let from = if number % 2 == 0 { "127.0.0.1:0" } else { "127.0.0.2:0" };
        let mut user = User {
            name: format!("u{number}"),
            from: from.parse().unwrap(),
            to: gateway.public,
            wire: None,
            random: fastrand::Rng::with_seed(number),
        };
        users.spawn(async move {
            for _ in 0..requests {
                user.asks().await?;
            }
            Ok::<(), String>(())
        });
    }
    let leaks: Vec<String> = users.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(leaks.is_empty(), "{} leaks, the first:\n{}", leaks.len(), leaks[0]);
    let hits = gateway.metric("tidegate_requests_total{route=\"/token\",cache_status=\"hit").await;
    assert!(hits > 0, "something was shared at all");
}
