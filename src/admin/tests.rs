//! The admin API as a caller meets it.

use super::*;
use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const ADDRESS: &str = "127.0.0.1:9090";
const TOKEN: &str = "canary-token";

fn settings(token: Option<&str>) -> Settings {
    Settings {
        listen: Listen::Address(ADDRESS.parse().unwrap()),
        operators: vec![],
        token: token.map(|token| Secret::new(token.to_owned())),
        hosts: vec!["gate.example".to_owned(), "other.example:8443".to_owned()],
    }
}

fn cache_settings() -> crate::cache::Settings {
    crate::cache::Settings { memory_bytes: 1 << 20, memory_object_bytes: 1 << 16, shared: None }
}

fn guarded(token: Option<&str>, readiness: Arc<Readiness>) -> Parts {
    bound_to(ADDRESS.parse().unwrap(), token, readiness)
}

fn bound_to(address: SocketAddr, token: Option<&str>, readiness: Arc<Readiness>) -> Parts {
    let configuration = Configuration {
        config: json!({ "admin": { "token": "redacted" } }),
        digest: "abc".to_owned(),
        loaded_at: crate::clock::Timestamp::from_millis(7),
    };
    let told = Told::new(&settings(token), &Listen::Address(address), None, Journal::Needed, configuration);
    let metrics = crate::telemetry::metrics::install();
    Parts {
        cache: Cache::new(
            &cache_settings(),
            crate::clock::Clock::system(),
            None,
            &crate::in_flight::InFlight::new(u64::MAX),
        ),
        in_force: Arc::new(InForce::new(told, metrics.clone())),
        reload: Box::new(|| Box::pin(async { Err(Refused::NoFile) })),
        metrics,
        observe: Box::new(|| ()),
        readiness,
        shared_tier: None,
        clock: crate::clock::Clock::system(),
        explain: Box::new(|question| Box::pin(std::future::ready(explanation(&question)))),
    }
}

/// What a gateway without routes would tell.
fn explanation(question: &crate::explanation::Question) -> crate::explanation::Explanation {
    let target = format!("{} http://{}{}", question.method, question.authority, question.origin_form);
    serde_json::from_value(json!({
        "target": target, "decision": "own", "rule": { "section": "routes", "says": "no route" },
        "answer": { "status": 404, "detail": "no route" }, "passed_over": [], "variants": [],
        "fence": question.fields.len(), "quotas": []
    }))
    .unwrap()
}

fn admin(token: Option<&str>) -> Router {
    router(guarded(token, Arc::default())).0
}

/// A request with the listener's own Host and fields as given; a field given replaces it.
fn request(method: &str, path: &str, fields: &[(http::HeaderName, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    request.headers_mut().insert(HOST, ADDRESS.parse().unwrap());
    for (name, value) in fields {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

async fn answer(router: Router, request: Request<Body>) -> (StatusCode, Response<()>, Value) {
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (head.status, Response::from_parts(head, ()), json)
}

/// Asserts a problem of that status (RFC 9457 3.1).
async fn refused(router: Router, request: Request<Body>, status: u16) -> Response<()> {
    let shown = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
    let (code, head, body) = answer(router, request).await;
    assert_eq!(code.as_u16(), status, "{shown}: {body}");
    assert_eq!(head.headers()[CONTENT_TYPE], "application/problem+json", "{shown}");
    assert_eq!(body["status"], status);
    assert!(["type", "title", "detail"].iter().all(|member| body[*member].is_string()), "{body}");
    head
}

#[tokio::test]
async fn the_token_covers_v1_and_nothing_else() {
    let gate = admin(Some(TOKEN));
    for given in
        [None, Some("Bearer wrong"), Some("Basic canary-token"), Some("canary-token"), Some("Bearer ")]
    {
        let fields: Vec<_> = given.map(|value| (AUTHORIZATION, value)).into_iter().collect();
        for (method, path) in
            [("GET", "/v1/config"), ("POST", "/v1/purge"), ("GET", "/v1"), ("GET", "/v1/none")]
        {
            let head = refused(gate.clone(), request(method, path, &fields, ""), 401).await;
            assert_eq!(head.headers()[WWW_AUTHENTICATE], "Bearer");
        }
    }
    for scheme in ["Bearer", "bearer"] {
        let value = format!("{scheme} {TOKEN}");
        let with_token = request("GET", "/v1/config", &[(AUTHORIZATION, &value)], "");
        let (status, head, body) = answer(gate.clone(), with_token).await;
        assert_eq!((status, &body["admin"]["token"]), (StatusCode::OK, &json!("redacted")));
        assert_eq!(head.headers()["cache-control"], "no-store");
    }
    let (status, ..) = answer(gate.clone(), request("GET", "/livez", &[(HOST, "anything")], "")).await;
    assert_eq!(status, StatusCode::OK);
    let mut doubled = request("GET", "/v1/config", &[], "");
    for value in ["Bearer wrong", "Bearer canary-token"] {
        doubled.headers_mut().append(AUTHORIZATION, value.parse().unwrap());
    }
    refused(gate, doubled, 401).await;
}

#[tokio::test]
async fn only_own_names_are_answered() {
    for host in
        ["127.0.0.1:9090", "127.0.0.1", "localhost", "LOCALHOST:9090", "gate.example:1", "other.example:8443"]
    {
        let (status, ..) = answer(admin(None), request("GET", "/v1/config", &[(HOST, host)], "")).await;
        assert_eq!(status, StatusCode::OK, "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.2:9090",
        "localhost:80801",
        "localhost:9091",
        "other.example",
        "a@localhost",
        "",
    ] {
        refused(admin(None), request("GET", "/v1/config", &[(HOST, host)], ""), 403).await;
    }
    let mut without = request("GET", "/v1/config", &[], "");
    without.headers_mut().remove(HOST);
    refused(admin(None), without, 403).await;
    refused(admin(None), request("GET", "http://evil.example/v1/config", &[], ""), 403).await;

    let everywhere = router(bound_to("0.0.0.0:9090".parse().unwrap(), None, Arc::default())).0;
    for (host, status) in [("10.1.2.3:9090", 200), ("[2001:db8::1]:9090", 200), ("evil.example:9090", 403)] {
        let (code, ..) = answer(everywhere.clone(), request("GET", "/v1/config", &[(HOST, host)], "")).await;
        assert_eq!(code.as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn foreign_pages_and_forms_change_nothing() {
    let json = (CONTENT_TYPE, "application/json; charset=utf-8");
    for origin in ["http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1:9090", "null", ""] {
        let fields = [json.clone(), (ORIGIN, origin)];
        refused(admin(None), request("POST", "/v1/dead-letters/redrive", &fields, "{}"), 403).await;
    }
    let own = [json, (ORIGIN, "http://127.0.0.1:9090")];
    let (status, _, body) =
        answer(admin(None), request("POST", "/v1/dead-letters/redrive", &own, "{}")).await;
    assert_eq!((status, body), (StatusCode::ACCEPTED, json!({ "count": 0 })));
    for fields in [vec![], vec![(CONTENT_TYPE, "text/plain")], vec![(CONTENT_TYPE, "application/jsonx")]] {
        refused(admin(None), request("POST", "/v1/dead-letters/redrive", &fields, "{}"), 415).await;
    }
    let form = [(CONTENT_TYPE, "application/x-www-form-urlencoded")];
    refused(admin(None), request("POST", "/v1/destinations/search/pause", &form, ""), 415).await;
}

#[tokio::test]
async fn paths_methods_and_contents_that_do_not_exist() {
    let json = [(CONTENT_TYPE, "application/json")];
    for path in [
        "/v1",
        "/page",
        "/page/",
        "/page/none",
        "/page/mod.rs",
        "/v1/purge/",
        "/v1/changes/x/y",
        "/v1/changes/7",
        "/v2/config",
        "//v1/config",
    ] {
        refused(admin(None), request("GET", path, &[], ""), 404).await;
    }
    refused(admin(None), request("POST", "/v1/destinations/none/pause", &[], ""), 404).await;
    for (method, path, allow) in [
        ("GET", "/v1/purge", "POST"),
        ("DELETE", "/v1/changes", "GET,HEAD"),
        ("POST", "/metrics", "GET,HEAD"),
        ("OPTIONS", "/v1/config", "GET,HEAD"),
    ] {
        let head = refused(admin(None), request(method, path, &[], ""), 405).await;
        assert_eq!(head.headers()[ALLOW], allow, "{method} {path}");
    }
    for body in [
        "",
        "{",
        "[]",
        "{\"urlz\":[]}",
        "{\"urls\":\"x\"}",
        "{\"mode\":\"firm\"}",
        "{\"all\":true,\"all\":true}",
    ] {
        refused(admin(None), request("POST", "/v1/purge", &json, body), 400).await;
    }
    for (body, status) in [("{}", 422), ("{\"urls\":[\"/a\"]}", 422)] {
        refused(admin(None), request("POST", "/v1/purge", &json, body), status).await;
    }
    for path in [
        "/v1/config?x=1",
        "/v1/changes?limit=many",
        "/v1/changes?after=x",
        "/v1/changes?states=committed",
        "/v1/dead-letters?dry_run=true",
        "/livez?x",
    ] {
        refused(admin(None), request("GET", path, &[], ""), 400).await;
    }
    let large = format!("{{\"tags\":[\"{}\"]}}", "x".repeat(1 << 20));
    refused(admin(None), request("POST", "/v1/purge", &json, &large), 413).await;
}

#[tokio::test]
async fn questions_that_cannot_be_read_name_the_parameter() {
    let url = "url=http://h/a";
    for (query, status, named) in [
        (String::new(), 400, "url"),
        ("url=/items/7".into(), 422, "url"),
        ("url=ftp://h/".into(), 422, "url"),
        ("url=http://user@h/".into(), 422, "url"),
        (format!("{url}&{url}"), 400, "url"),
        (format!("{url}&method=G%20T"), 422, "method"),
        (format!("{url}&method="), 422, "method"),
        (format!("{url}&method=GET&method=GET"), 400, "method"),
        (format!("{url}&header=Accept"), 422, "header"),
        (format!("{url}&header=A%20b:%20c"), 422, "header"),
        (format!("{url}&header=a:%20b%0Ac"), 422, "header"),
        (format!("{url}&header=Content-Length:%205"), 422, "header"),
        (format!("{url}&headers=a:b"), 400, "headers"),
    ] {
        let path = format!("/v1/explain?{query}");
        let (code, _, body) = answer(admin(None), request("GET", &path, &[], "")).await;
        assert_eq!(code.as_u16(), status, "{path}: {body}");
        assert!(body["detail"].as_str().is_some_and(|detail| detail.contains(named)), "{path}: {body}");
        refused(admin(None), request("GET", &path, &[], ""), status).await;
    }
    let path = "/v1/explain?url=HTTPS://H:443/a/../b%3Fc&method=HEAD&header=A:%20b&header=a:c";
    let (code, _, body) = answer(admin(None), request("GET", path, &[], "")).await;
    assert_eq!((code, &body["target"]), (StatusCode::OK, &json!("HEAD http://h/a/../b?c")), "{body}");
    assert_eq!(body["fence"], 2, "both lines");
}

#[tokio::test]
async fn every_route_is_described_and_what_is_described_is_a_route() {
    // The router does not tell its routes, so its own text is read.
    let text = include_str!("mod.rs");
    let routes: std::collections::BTreeSet<(String, String)> = text
        .split(".route(\"")
        .skip(1)
        .map(|rest| {
            let (path, rest) = rest.split_once("\", ").unwrap();
            (path.to_owned(), rest.split('(').next().unwrap().to_owned())
        })
        .collect();
    let (status, _, document) = answer(admin(Some(TOKEN)), request("GET", "/openapi.json", &[], "")).await;
    assert_eq!(status, StatusCode::OK, "no token is needed");
    let paths = document["paths"].as_object().unwrap().iter();
    let described = paths.flat_map(|(path, item)| {
        item.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone()))
    });
    assert_eq!(described.collect::<std::collections::BTreeSet<_>>(), routes);
    for (path, method) in routes {
        let path = path.replace("{id}", "1").replace("{name}", "search").replace("{file}", "page.js");
        let (allow, others) = match method.as_str() {
            "get" => ("GET,HEAD", ["POST", "PUT", "DELETE"]),
            _ => ("POST", ["GET", "PUT", "DELETE"]),
        };
        for other in others {
            let head = refused(admin(None), request(other, &path, &[], ""), 405).await;
            assert_eq!(head.headers()[ALLOW], allow, "{other} {path}");
        }
    }
}

#[tokio::test]
async fn orders_and_filters_that_cannot_be_meant() {
    let json = [(CONTENT_TYPE, "application/json")];
    for (body, status) in [
        ("{\"rate\":0}", 400),
        ("{\"rate\":-1}", 400),
        ("{\"since\":\"soon\"}", 400),
        ("{\"code\":\"odd\"}", 422),
        ("{\"since\":6,\"until\":5}", 422),
        ("{\"destination\":\"nobody\"}", 404),
        ("{\"change\":\"7\"}", 404),
        ("{\"id\":\"01900000-0000-7000-8000-000000000000\"}", 404),
    ] {
        for path in ["/v1/dead-letters/redrive", "/v1/dead-letters/discard"] {
            refused(admin(None), request("POST", path, &json, body), status).await;
        }
    }
    for (body, status) in [
        ("{}", 400),
        ("{\"destination\":\"a\",\"since\":\"soon\"}", 422),
        ("{\"destination\":\"a\",\"until\":-5}", 422),
        ("{\"destination\":\"a\",\"since\":6,\"until\":5}", 422),
        ("{\"destination\":\"a\"}", 404),
    ] {
        refused(admin(None), request("POST", "/v1/replay", &json, body), status).await;
    }
    for path in ["/v1/operations/1/stop", "/v1/operations/x/stop"] {
        refused(admin(None), request("POST", path, &[], ""), 404).await;
    }
    for (path, status) in [
        ("/v1/changes?state=odd", 422),
        ("/v1/changes?limit=0", 422),
        ("/v1/changes?destination=nobody", 404),
        ("/v1/dead-letters?code=odd", 422),
        ("/v1/dead-letters?since=6&until=5", 422),
        ("/v1/dead-letters?destination=nobody", 404),
    ] {
        refused(admin(None), request("GET", path, &[], ""), status).await;
    }
}

#[tokio::test]
async fn without_synced_routes_the_lists_are_empty() {
    for (path, body) in [
        ("/v1/destinations", json!({ "destinations": [] })),
        ("/v1/changes?state=committed&limit=5", json!({ "changes": [] })),
        ("/v1/operations", json!({ "operations": [] })),
        ("/v1/dead-letters?until=2026-01-01T00:00:00Z&since=5", json!({ "dead_letters": [] })),
    ] {
        let (status, _, given) = answer(admin(None), request("GET", path, &[], "")).await;
        assert_eq!((status, given), (StatusCode::OK, body), "{path}");
    }
}

#[tokio::test]
async fn readiness_names_its_parts_and_redis_never_counts() {
    let readiness = Arc::new(Readiness::default());
    let mut all = guarded(Some(TOKEN), Arc::clone(&readiness));
    all.shared_tier = Some(Box::new(|| breaker::State::Open));
    let gate = router(all).0;
    let probe = async || answer(gate.clone(), request("GET", "/readyz", &[(HOST, "10.0.0.1")], "")).await;
    let (status, _, body) = probe().await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("starting")));
    readiness.ready();
    let (status, _, body) = probe().await;
    let parts = json!({ "gateway": "ready", "journal": "not-configured", "shared_tier": "unavailable" });
    let config = json!({ "digest": "abc", "loaded_at": 7, "last_reload": null });
    let expected = json!({ "status": "ready", "parts": parts, "config": config });
    assert_eq!((status, body), (StatusCode::OK, expected), "I9");
    readiness.draining();
    let (status, _, body) = probe().await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("draining")));
}

#[tokio::test]
async fn requests_under_way_finish_and_idle_connections_close_when_it_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let gate = router(bound_to(address, None, Arc::default())).0;
    let served = tokio::spawn(serve(Listener::Tcp(listener), gate, stop.clone()));
    let mut busy = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/dead-letters/redrive HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    busy.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100", "the request is under way");
    let mut idle = TcpStream::connect(address).await.unwrap();
    stop.cancel();
    busy.write_all(b"{}").await.unwrap();
    let mut rest = String::new();
    busy.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 202") && rest.ends_with("{\"count\":0}"), "{rest}");
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0, "an idle connection is closed");
    tokio::time::timeout(std::time::Duration::from_mins(1), served).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn a_half_head_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(serve(Listener::Tcp(listener), admin(None), CancellationToken::new()));
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut rest = Vec::new();
    // Paused time moves on by itself to the next deadline.
    slow.read_to_end(&mut rest).await.unwrap_or_default();
    assert!(!rest.starts_with(b"HTTP/1.1 2"));
    let waited = begun.elapsed().as_secs();
    assert!((9..=11).contains(&waited), "cut by the head's timer, not by a later one: {waited} s");
    served.abort();
}
