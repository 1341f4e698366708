//! A text becomes settings, or all of its faults: black box over `parse`, without the environment.

use super::*;
use crate::cache::policy::Storing;
use crate::sync::{Allow, Class, Format};
use std::time::Duration;

const MINIMAL: &str = r#"
[[source]]
name = "s"
urls = ["http://127.0.0.1:9001"]
[[route]]
name = "r"
path = "/{*rest}"
source = "s"
"#;

fn read(text: &str) -> Result<Settings, Faults> {
    parse(text, "f", Path::new("/base"), &|_| None)
}

/// `line:column: key: message; remedy` of each fault.
fn faults(text: &str) -> Vec<String> {
    let faults = read(text).expect_err("a fault");
    faults.as_slice().iter().map(|fault| fault.to_string().replacen("f:", "", 1)).collect()
}

#[test]
fn the_shortest_file_has_every_default() {
    let settings = read(MINIMAL).unwrap();
    assert_eq!(settings.gateway.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(settings.gateway.request_timeout, Duration::from_mins(1));
    assert_eq!(settings.gateway.limits.head_bytes, 32 << 10);
    assert_eq!(settings.gateway.limits.body_bytes, None);
    assert_eq!(settings.gateway.limits.in_flight_bytes, 256 << 20);
    assert_eq!(settings.admin.listen, admin::Listen::Address("127.0.0.1:9090".parse().unwrap()));
    assert!(settings.admin.token.is_none());
    assert_eq!(settings.cache.memory_bytes, 256 << 20);
    assert!(settings.cache.shared.is_none() && !settings.syncs());
    assert_eq!(settings.sources[0].timeout, Duration::from_secs(15));
    assert_eq!(settings.sources[0].host, source::HostSent::Client);
    assert_eq!(settings.sources[0].concurrency_mode, source::ConcurrencyMode::Fixed);
    let route = &settings.gateway.routes[0];
    assert_eq!(route.cache.storing, Storing::Enabled);
    assert_eq!(route.cache.ttl, None);
    assert_eq!(route.cache.stale_if_error, Duration::from_mins(5));
    assert!(route.limits.is_empty() && route.sync.is_none());
}

#[test]
fn the_reference_agrees_with_the_defaults_of_the_cache() {
    let policy = read(MINIMAL).unwrap().gateway.routes.remove(0).cache;
    assert_eq!(format!("{policy:?}"), format!("{:?}", cache::Policy::default()));
}

#[test]
fn what_is_written_lands_in_the_settings() {
    let text = MINIMAL.to_owned()
        + r#"
host = "API.example.com:80"
methods = ["GET", "POST"]
strip = "/%61pi"
body = "1GiB"
upgrade = ["WebSocket"]
timeout = "90s"
invalidates = ["/items", "/lists/*", "tag:items"]
[route.cache]
ttl = "60s"
negative = { "404" = "10s" }
ignore_query = ["utm_*"]
tags = ["a"]
enabled = false
[[route.limit]]
name = "l"
burst = 7
key = "header:X-Api-Key"
mode = "shadow"
stage = "source"
[cache.shared]
redis = "redis://127.0.0.1:6379/2"
hash_keys = false
max_unverified = "0s"
[server]
listen = ["127.0.0.1:0", "[::1]:0"]
trusted_proxies = ["10.0.0.0/8", "::1"]
threads = 3
[server.limits]
body = "2MiB"
[admin]
listen = "0.0.0.0:9091"
token = "t"
hosts = ["Gateway.example"]
"#;
    let settings = read(&text).unwrap();
    let route = &settings.gateway.routes[0];
    assert_eq!(route.host.as_deref(), Some("api.example.com"));
    assert_eq!(route.methods, Some(vec![http::Method::GET, http::Method::POST]));
    assert_eq!(route.strip.as_deref(), Some("/api"));
    assert_eq!(route.body_bytes, Some(1 << 30));
    assert_eq!(route.upgrade, [crate::source::Protocol::parse("websocket").unwrap()]);
    assert_eq!(
        (route.timeout, settings.sources[0].timeout),
        (Some(Duration::from_secs(90)), Duration::from_secs(15))
    );
    let [path, prefix, tag] = route.invalidates.as_slice() else { panic!("{:?}", route.invalidates) };
    assert_eq!(*path, gateway::Invalidates::Path("/items".into()));
    assert_eq!(*prefix, gateway::Invalidates::Prefix("/lists/".into()));
    assert_eq!(*tag, gateway::Invalidates::Tag("items".into()));
    assert_eq!(route.cache.negative, [(http::StatusCode::NOT_FOUND, Duration::from_secs(10))]);
    assert_eq!(route.cache.storing, Storing::Disabled);
    assert_eq!(route.cache.ttl, Some(Duration::from_mins(1)));
    let limit = &route.limits[0];
    assert_eq!((limit.requests.get(), limit.burst.get(), limit.per), (100, 7, Duration::from_secs(1)));
    let shared = settings.cache.shared.unwrap();
    assert_eq!((shared.namespace.as_str(), shared.hash_keys), ("tidegate", false));
    assert_eq!((shared.max_unverified, shared.object_bytes), (Duration::ZERO, 8 << 20));
    assert_eq!((settings.threads, settings.gateway.listen.len()), (3, 2));
    assert_eq!(settings.gateway.limits.body_bytes, Some(2 << 20));
    assert_eq!(settings.gateway.trusted_proxies.len(), 2);
    assert_eq!(settings.admin.hosts, ["gateway.example"]);
    assert_eq!(settings.admin.token.unwrap().expose(), "t");
}

#[test]
fn spans_go_where_the_file_says() {
    assert!(read(MINIMAL).unwrap().spans.is_none(), "off where nothing is said");
    let telemetry = |rest: &str| format!("{MINIMAL}[telemetry]\n{rest}");
    if !cfg!(feature = "otlp") {
        let told = faults(&telemetry("otlp = \"http://h:4318\""));
        assert!(told[0].ends_with("take a build with the feature \"otlp\", or leave it out"), "{told:?}");
        return;
    }
    for (otlp, endpoint) in [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("http://h/collect/v1/traces", "http://h/collect/v1/traces"),
    ] {
        let spans = read(&telemetry(&format!("otlp = \"{otlp}\""))).unwrap().spans.unwrap();
        assert_eq!((spans.endpoint.to_string().as_str(), spans.one_in), (endpoint, 100));
        assert_eq!(spans.service, "tidegate");
    }
    for (rest, told) in [
        ("otlp = \"grpc://h:4317\"", "telemetry.otlp: must begin with http:// or https://"),
        ("otlp = \"http://me:canary@h\"", "telemetry.otlp: has user info or a query"),
        ("otlp = \"http://h/?key=canary\"", "telemetry.otlp: has user info or a query"),
        ("otlp = \"http://h\"\nca = \"ca.pem\"", "telemetry.ca: has no effect: no URL begins with https://"),
        ("otlp = \"https://h\"\nca = \"none.pem\"", "telemetry.ca: cannot be read"),
        ("one_in = -1", "telemetry.one_in: must be from 0 to 1000000"),
        ("service = \"\"", "telemetry.service: must be 1 to 100"),
        ("headers = { host = \"x\" }", "telemetry.headers.host: is a field that Tidegate sets itself"),
    ] {
        let found = faults(&telemetry(rest));
        assert!(found.len() == 1 && found[0].contains(told) && !found[0].contains("canary"), "{found:?}");
    }
}

#[test]
fn a_sources_concurrency_may_adapt() {
    let text = MINIMAL.replace("[[route]]", "concurrency = 64\nconcurrency_mode = \"adaptive\"\n[[route]]");
    let settings = read(&text).unwrap();
    let source = &settings.sources[0];
    assert_eq!((source.concurrency, source.concurrency_mode), (64, source::ConcurrencyMode::Adaptive));
}

#[test]
fn a_destination_says_what_it_gets_and_how() {
    let text = MINIMAL.to_owned()
        + r#"
[route.sync]
destinations = ["d", "e"]
[[destination]]
name = "d"
url = "http://h/hook"
format = "cloudevents"
rate = { requests = 3, per = "2s" }
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", ""]
allow = ["10.0.0.0/8", "fd00::1"]
outcome = { "409" = "superseded", "404" = "absent", "202" = "retry" }
[[destination]]
name = "e"
url = "http://h"
allow = "public"
"#;
    let destinations = read(&text).unwrap().sync.destinations;
    let [d, e] = destinations.as_slice() else { panic!("{destinations:?}") };
    assert_eq!((d.format, e.format), (Format::CloudEvents, Format::Replay));
    assert_eq!((&d.allow, &e.allow), (&networks(&["10.0.0.0/8", "fd00::1/128"]), &Allow::Public));
    assert_eq!(d.rate.map(|rate| (rate.requests.get(), rate.per)), Some((3, Duration::from_secs(2))));
    assert_eq!((d.secrets.len(), e.secrets.len()), (1, 0), "an empty secret counts as left out");
    let classes = [(202, Class::Retry), (404, Class::Absent), (409, Class::Superseded)];
    assert_eq!(d.outcome, std::collections::BTreeMap::from(classes));
    assert!(e.rate.is_none() && e.outcome.is_empty());
}

fn networks(list: &[&str]) -> Allow {
    Allow::Networks(list.iter().map(|text| text.parse().unwrap()).collect())
}

#[test]
fn all_faults_of_a_file_are_told_at_once_and_in_order() {
    let text = r#"[server]
listn = ["127.0.0.1:8080"]
threads = 0
request_timeout = 5
[[source]]
name = "s"
[[route]]
name = "r"
path = "items"
source = "other"
[route.cache]
ttl = "soon"
identiti = "shared"
[[route.limit]]
name = "l"
mode = "enforced"
requests = "many"
[nowhere]
"#;
    assert_eq!(
        faults(text),
        [
            "2:1: server.listn: unknown key; did you mean listen?",
            "3:11: server.threads: must be from 1 to 1024; write a number within these bounds",
            "4:19: server.request_timeout: must be a text in quotes; write one such as \"60s\"",
            "5:1: source[0].urls: missing; add urls = [\"..\"]",
            "9:8: route[0].path: a path pattern begins with /; write one such as \"/items\", \
             \"/items/{id}\" or \"/items/{*rest}\"",
            "10:10: route[0].source: unknown source \"other\"; add a [[source]] of that name, or name one of: s",
            "12:7: route[0].cache.ttl: is no duration with a unit, up to ten years; write one such as \
             \"250ms\", \"30s\" or \"5m\"",
            "13:1: route[0].cache.identiti: unknown key; did you mean identity?",
            "16:8: route[0].limit[0].mode: must be one of enforce, shadow; did you mean \"enforce\"?",
            "17:12: route[0].limit[0].requests: must be a whole number; write one such as 100",
            "18:2: nowhere: unknown key; remove it; known here: access, admin, cache, destination, route, server, source, sync, telemetry",
        ]
    );
}

#[test]
fn tables_of_the_wrong_shape_hide_nothing_else() {
    let text = "server = 5\nsource = [1, {name = \"s\"}]\n[route]\nname = \"r\"\n";
    assert_eq!(
        faults(text),
        [
            "1:1: route: there is no route; add a [[route]]",
            "1:10: server: must be a table; write { key = value }, or a [table]",
            "2:11: source[0]: must be a table; write { key = value }, or a [table]",
            "2:14: source[1].urls: missing; add urls = [\"..\"]",
            "3:1: route: must be a list of tables; write [[route]]",
        ]
    );
}

#[test]
fn syntax_is_told_with_its_place() {
    let told = faults("[server]\nlisten = [\n\n[[source\n");
    assert!(told[0].contains("(file): not valid TOML: "), "{told:?}");
    assert_eq!(faults(""), ["1:1: (file): is empty; write at least one [[source]] and one [[route]]"]);
    assert_eq!(faults("# nothing\n\n").len(), 1);
    let large = format!("# {}", "x".repeat(1 << 20));
    assert!(faults(&large)[0].contains("is larger than 1 MiB"));
}

const SOUND: &str = r#"[server]
listen = ["127.0.0.1:1"]
[server.limits]
[admin]
[cache]
[sync]
[[source]]
name = "s"
urls = ["http://127.0.0.1:9001"]
[[destination]]
name = "d"
url = "http://127.0.0.1:9002"
[[route]]
name = "r"
path = "/{*rest}"
source = "s"
[route.cache]
[[route.limit]]
name = "l"
"#;

/// A header of [`SOUND`], a line that replaces the one of the same key below it or is added there,
/// and the key and a part of the message of a fault that follows.
#[rustfmt::skip]
const CLASSES: &[(&str, &str, &str, &str)] = &[
    ("[server]", "listen = []", "server.listen", "there is no listener"),
    ("[server]", "listen = [\"localhost:1\"]", "server.listen[0]", "no IP address"),
    ("[server]", "listen = [\"127.0.0.1:9090\"]", "admin.listen", "another listener has"),
    ("[server]", "listen = [\"0.0.0.0:9090\"]", "admin.listen", "another listener has"),
    ("[server]", "listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", "server.listen[1]", "another"),
    ("[server]", "threads = -1", "server.threads", "must be from 1"),
    ("[server]", "threads = 99999999999999999999", "server.threads", "too large"),
    ("[server]", "trusted_proxies = [\"10.0.0.0/99\"]", "server.trusted_proxies[0]", "CIDR"),
    ("[server]", "tls = { cert = \"no.pem\", key = \"no.pem\" }", "server.tls.cert", "cannot be read"),
    ("[server.limits]", "head = \"64\"", "server.limits.head", "no size with a unit"),
    ("[server.limits]", "head = \"2MiB\"", "server.limits.head", "at most"),
    ("[server.limits]", "fields = 0", "server.limits.fields", "must be from 1"),
    ("[server.limits]", "in_flight = \"64KiB\"", "server.limits.in_flight", "at least"),
    ("[server.limits]", "in_flight = \"0B\"", "server.limits.in_flight", "larger than zero"),
    ("[server.limits]", "body_rate = \"fast\"", "server.limits.body_rate", "no size with a unit"),
    ("[server.limits]", "connections_per_address = 0", "server.limits.connections_per_address", "must be from 1"),
    ("[admin]", "listen = \"0.0.0.0:9\"", "admin.token", "missing"),
    ("[admin]", "hosts = [\"a b\"]", "admin.hosts[0]", "host[:port]"),
    ("[cache]", "memory = \"much\"", "cache.memory", "no size"),
    ("[cache]", "shared = {}", "cache.shared.redis", "missing"),
    ("[cache]", "shared = { redis = \"http://h\" }", "cache.shared.redis", "redis://"),
    ("[cache]", "shared = { redis = \"redis://h/x\" }", "cache.shared.redis", "its database must be a number"),
    ("[cache]", "shared = { redis = \"redis-sentinel://a,b\" }", "cache.shared.redis", "/NAME"),
    ("[cache]", "shared = { redis = \"redis://a,b\" }", "cache.shared.redis", "redis-cluster://"),
    ("[cache]", "shared = { redis = \"rediss://h#insecure\" }", "cache.shared.redis", "fragment"),
    ("[cache]", "shared = { redis = \"rediss://h\", ca = \"no.pem\" }", "cache.shared.ca", "cannot be read"),
    ("[cache]", "shared = { redis = \"redis://h\", ca = \"no.pem\" }", "cache.shared.ca", "not encrypted"),
    (
        "[cache]",
        "shared = { redis = \"redis://h\", namespace = \"\" }",
        "cache.shared.namespace",
        "1 to 100",
    ),
    ("[sync]", "data = \"\"", "sync.data", "is empty"),
    ("[sync]", "retention = \"1\"", "sync.retention", "no duration"),
    ("[sync]", "removed = \"keep\"", "sync.removed", "must be one of"),
    ("[[source]]", "name = \"s\"\nurls = [\"http://h\"]\n[[source]]", "source[1].name", "there twice"),
    ("[[source]]", "urls = []", "source[0].urls", "needs a URL"),
    ("[[source]]", "urls = [\"ftp://h\"]", "source[0].urls[0]", "http:// or https://"),
    ("[[source]]", "urls = [\"h:1\"]", "source[0].urls[0]", "http:// or https://"),
    ("[[source]]", "urls = [\"http://h#f\"]", "source[0].urls[0]", "fragment"),
    ("[[source]]", "urls = [\"http://a\", \"http://b\", \"http://a\"]", "source[0].urls[2]", "there twice"),
    ("[[source]]", "timeout = \"0s\"", "source[0].timeout", "longer than zero"),
    ("[[source]]", "concurrency = 0", "source[0].concurrency", "from 1"),
    ("[[source]]", "concurrency_mode = \"vegas\"", "source[0].concurrency_mode", "fixed"),
    ("[[source]]", "host = \"a/b\"", "source[0].host", "host[:port]"),
    ("[[source]]", "headers = { \"a b\" = \"c\" }", "source[0].headers.a b", "no name of a field"),
    ("[[source]]", "headers = { host = \"c\" }", "source[0].headers.host", "sets itself"),
    ("[[source]]", "headers = { a = \"\\u0000\" }", "source[0].headers.a", "no field value"),
    ("[[source]]", "headers = { a = \"${NO}\" }", "source[0].headers.a", "variable NO is not set"),
    ("[[source]]", "headers = { a = \"${NO\" }", "source[0].headers.a", "not followed"),
    ("[[source]]", "retry = { base = \"9m\" }", "source[0].retry.cap", "shorter than base"),
    ("[[source]]", "health = { path = \"/a/../b\", every = \"1s\" }", "source[0].health.path", ""),
    ("[[source]]", "health = { path = \"/\", every = \"0s\" }", "source[0].health.every", "longer than zero"),
    ("[[source]]", "health = { path = \"/\", every = \"99ms\" }", "source[0].health.every", "at least 100ms"),
    ("[[source]]", "health = { path = \"/\" }", "source[0].health.every", "missing"),
    ("[[destination]]", "format = \"event\"", "destination[0].format", "must be one of"),
    ("[[destination]]", "on_failure = \"parkkey\"", "destination[0].on_failure", "must be one of"),
    ("[[destination]]", "retry = { base = \"9m\" }", "destination[0].retry.cap", "shorter than base"),
    ("[[destination]]", "retry = { attempts = 0 }", "destination[0].retry.attempts", "from 1"),
    ("[[destination]]", "breaker = { failures = 0 }", "destination[0].breaker.failures", "from 1"),
    ("[[destination]]", "backlog = \"0\"", "destination[0].backlog", "size"),
    (
        "[[destination]]",
        "rate = { requests = 0, per = \"1s\" }",
        "destination[0].rate.requests",
        "from 1",
    ),
    (
        "[[destination]]",
        "rate = { requests = 1, per = \"0s\" }",
        "destination[0].rate.per",
        "longer than zero",
    ),
    ("[[destination]]", "rate = { requests = 1 }", "destination[0].rate.per", "missing"),
    ("[[destination]]", "secrets = [\"x\"]", "destination[0].secrets[0]", "does not begin with whsec_"),
    ("[[destination]]", "secrets = [\"whsec_!\"]", "destination[0].secrets[0]", "no base64"),
    ("[[destination]]", "secrets = [\"whsec_\"]", "destination[0].secrets[0]", "1 to 64 bytes"),
    (
        "[[destination]]",
        "secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\", \"\", \"whsec_AfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\", \"whsec_BfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]",
        "destination[0].secrets[3]",
        "one too many",
    ),
    ("[[destination]]", "from = \"start\"", "destination[0].from", "must be one of"),
    ("[[destination]]", "allow = \"private\"", "destination[0].allow", "must be one of any, public"),
    ("[[destination]]", "allow = [\"x\"]", "destination[0].allow", "CIDR"),
    ("[[destination]]", "allow = []", "destination[0].allow", "no address"),
    ("[[destination]]", "allow = [\"::ffff:10.0.0.0/104\"]", "destination[0].allow", "stands for IPv4"),
    ("[[destination]]", "allow = 1", "destination[0].allow", "must be a text in quotes"),
    ("[[destination]]", "outcome = { \"x\" = \"retry\" }", "destination[0].outcome.x", "no status"),
    ("[[destination]]", "outcome = { \"99\" = \"retry\" }", "destination[0].outcome.99", "no status"),
    ("[[destination]]", "outcome = { \"103\" = \"retry\" }", "destination[0].outcome.103", "no status"),
    ("[[destination]]", "outcome = { \"600\" = \"retry\" }", "destination[0].outcome.600", "no status"),
    ("[[destination]]", "outcome = { \"0409\" = \"retry\" }", "destination[0].outcome.0409", "no status"),
    ("[[destination]]", "outcome = { \"409\" = \"gone\" }", "destination[0].outcome.409", "must be one of"),
    (
        "[[destination]]",
        "headers = { webhook-id = \"x\" }",
        "destination[0].headers.webhook-id",
        "sets itself",
    ),
    ("[[route]]", "path = \"/a?b\"", "route[0].path", "no query"),
    ("[[route]]", "path = \"/{*a}/b\"", "route[0].path", "at the end only"),
    ("[[route]]", "host = \"\"", "route[0].host", "host[:port]"),
    ("[[route]]", "methods = []", "route[0].methods", "no method"),
    ("[[route]]", "methods = [\"get\"]", "route[0].methods[0]", "capital"),
    ("[[route]]", "methods = [\"A B\"]", "route[0].methods[0]", "no method"),
    ("[[route]]", "methods = [\"TRACE\"]", "route[0].methods[0]", "never forwarded"),
    ("[[route]]", "upgrade = [\"web socket\"]", "route[0].upgrade[0]", "no name of a protocol"),
    ("[[route]]", "upgrade = [\"a\", \"h2c\"]", "route[0].upgrade[1]", "past the gateway"),
    ("[[route]]", "upgrade = [\"a\", \"A\"]", "route[0].upgrade[1]", "there twice"),
    ("[[route]]", "timeout = \"0s\"", "route[0].timeout", "longer than zero"),
    ("[[route]]", "timeout = 5", "route[0].timeout", "text in quotes"),
    ("[[route]]", "strip = \"api\"", "route[0].strip", "single /"),
    ("[[route]]", "body = \"x\"", "route[0].body", "no size"),
    ("[[route]]", "invalidates = [\"items\"]", "route[0].invalidates[0]", "single /"),
    ("[[route]]", "invalidates = [\"tag:\"]", "route[0].invalidates[0]", "tag"),
    ("[[route]]", "source = \"t\"", "route[0].source", "unknown source \"t\""),
    ("[route.cache]", "enabled = \"yes\"", "route[0].cache.enabled", "true or false"),
    ("[route.cache]", "identity = \"cookie:a b\"", "route[0].cache.identity", "must be"),
    ("[[route]]", "request_headers = { set = { Host = \"a\" } }", "route[0].request_headers.set.Host", "sets itself"),
    ("[[route]]", "request_headers = { remove = [\"TE\"] }", "route[0].request_headers.remove[0]", "sets itself"),
    ("[[route]]", "request_headers = { set = { x-forwarded-for = \"a\" } }", "route[0].request_headers.set.x-forwarded-for", "sets itself"),
    ("[[route]]", "request_headers = { set = { if-match = \"a\" } }", "route[0].request_headers.set.if-match", "sets itself"),
    ("[[route]]", "request_headers = { set = { \"a b\" = \"a\" } }", "route[0].request_headers.set.a b", "no name"),
    ("[[route]]", "request_headers = { set = { a = \"\\n\" } }", "route[0].request_headers.set.a", "no field value"),
    ("[[route]]", "response_headers = { remove = [\"Content-Length\"] }", "route[0].response_headers.remove[0]", "sets itself"),
    ("[[route]]", "response_headers = { set = { transfer-encoding = \"chunked\" } }", "route[0].response_headers.set.transfer-encoding", "sets itself"),
    ("[[route]]", "response_headers = { set = { Age = \"1\" } }", "route[0].response_headers.set.Age", "sets itself"),
    ("[[route]]", "response_headers = { add = {} }", "route[0].response_headers.add", "unknown key"),
    ("[[route]]", "target = \"raw\"", "route[0].target", "opaque"),
    ("[[route]]", "target = \"opaque\"\nstrip = \"/a\"", "route[0].target", "as they came"),
    ("[route.cache]", "identity = \"user\"", "route[0].cache.identity", "must be"),
    ("[route.cache]", "identity = \"header:A B\"", "route[0].cache.identity", "no name of a field"),
    ("[route.cache]", "identity = \"header:TE\"", "route[0].cache.identity", "tells nobody's clients apart"),
    ("[route.cache]", "request_directives = \"obey\"", "route[0].cache.request_directives", "honour"),
    ("[route.cache]", "negative = { \"500\" = \"1s\" }", "route[0].cache.negative.500", "200 to 499"),
    ("[route.cache]", "ignore_query = [\"a*b\"]", "route[0].cache.ignore_query[0]", "no name"),
    ("[route.cache]", "tags = [\"a b\"]", "route[0].cache.tags[0]", "a tag is"),
    ("[[route.limit]]", "per = \"0s\"", "route[0].limit[0].per", "longer than zero"),
    ("[[route.limit]]", "per = \"2d\"", "route[0].limit[0].per", "at most a day"),
    ("[[route.limit]]", "requests = 0", "route[0].limit[0].requests", "from 1"),
    ("[[route.limit]]", "burst = 0", "route[0].limit[0].burst", "from 1"),
    ("[[route.limit]]", "key = \"user\"", "route[0].limit[0].key", "must be client"),
    ("[[route.limit]]", "key = \"header:\"", "route[0].limit[0].key", "no name of a field"),
    ("[[route.limit]]", "scope = \"shared\"", "route[0].limit[0].scope", "[cache.shared]"),
    ("[[route.limit]]", "name = \"l\"\n[[route.limit]]", "route[0].limit[1].name", "there twice"),
    ("[[route.limit]]", "name = \"\"", "route[0].limit[0].name", "1 to 100"),
];

#[test]
fn every_class_of_fault_is_found() {
    assert!(read(SOUND).is_ok());
    for (after, line, key, message) in CLASSES {
        let name = line.split(" = ").next().unwrap_or_default();
        let mut text = String::new();
        let mut inside = false;
        for row in SOUND.lines() {
            inside = if row.starts_with('[') { row == *after } else { inside };
            // The new line replaces the one of the same key, unless it ends in a header of its own.
            if line.ends_with(']') && line.contains("\n[[")
                || !inside
                || !row.starts_with(&format!("{name} ="))
            {
                text = text + row + "\n";
            }
            if row == *after {
                text = text + *line + "\n";
            }
        }
        let told = read(&text).expect_err(line);
        let found = told.as_slice().iter().any(|fault| fault.key == *key && fault.message.contains(*message));
        assert!(found, "{after} {line}: {told}");
    }
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file_and_variables_are_read() {
    let environment = |name: &str| (name == "URL").then(|| "http://me:pw@h:1/base".to_owned());
    let text = MINIMAL.replace("http://127.0.0.1:9001", "${URL}");
    let settings = parse(&text, "f", Path::new("/base"), &environment).unwrap();
    assert_eq!(settings.sources[0].urls[0].expose().as_str(), "http://me:pw@h:1/base");
}

#[test]
fn i12_no_fault_and_no_shown_configuration_tells_a_secret() {
    let secrets = r#"
[admin]
token = "canary"
[telemetry]
otlp = "http://h"
headers = { authorization = "canary" }
[cache.shared]
redis = "redis-sentinel://canary:canary@h,i/m?sentinel_password=canary"
secret = "canary"
[[destination]]
name = "d"
url = "http://canary:canary@h/?canary=canary"
headers = { authorization = "canary" }
"#;
    let text = MINIMAL
        .replace("127.0.0.1:9001\"]", "canary:canary@h/?canary\"]\nheaders = { x = \"canary\" }")
        + secrets;
    let settings = read(&text).unwrap();
    assert!(!settings.redacted.to_string().contains("canary"), "{}", settings.redacted);
    assert!(!format!("{settings:?}").contains("canary"));
    assert_eq!(settings.redacted["admin"]["token"], "redacted");
    assert_eq!(settings.redacted["admin"]["listen"], "127.0.0.1:9090");

    let broken = text
        .replace("http://canary", "htp://canary")
        .replace("redis-sentinel://canary", "canary://canary")
        .replace("url =", "secrets = [\"canary\"]\nurl =")
        .replace("\"canary\" }", "\"canary\\u0001\" }")
        .replace("otlp = \"http://", "otlp = \"http://canary:canary@")
        .replace("token = \"canary\"", "token = \"canary \"");
    let told = read(&broken).expect_err("faults");
    assert!(told.as_slice().len() >= 6, "{told}");
    assert!(!told.to_string().contains("canary"), "{told}");
}

/// Each optional key of the reference, once it is there, is understood.
#[test]
fn the_optional_keys_of_the_reference_are_valid() {
    let lines: Vec<&str> = reference::TEXT.lines().collect();
    let optional = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let uncommented: Vec<&str> =
        lines.iter().map(|line| if optional(line) { &line[1..] } else { line }).collect();
    assert!(uncommented != lines);
    // A key of the server stands behind the header of an optional section.
    let text = uncommented.join("\n");
    let (tree, errors) = DeTable::parse_recoverable(&text);
    assert!(errors.is_empty(), "{errors:?}");
    let mut report = Report::new("f", &text);
    let defaults = DeValue::Table(reference::table().clone());
    let mut tree = tree;
    Walk { report: &mut report, environment: &|_| None }.table(
        &mut tree,
        "",
        schema::document(),
        Some(&defaults),
    );
    assert!(report.is_empty(), "{}", report.into_faults());
}

/// The reference up to `[route.sync]`, which stands at its end.
fn unsynced_reference() -> &'static str {
    let (text, _) = reference::TEXT.split_once("\n[route.sync]\n").unwrap();
    assert!(read(text).is_ok());
    text
}

proptest::proptest! {
    /// Whatever stands in a file, it is read or its faults are told.
    #[test]
    fn no_text_makes_it_panic(cuts in proptest::collection::vec((0usize..3000, 0usize..40, ".{0,12}"), 1..6)) {
        let mut text: Vec<char> = unsynced_reference().chars().collect();
        for (from, length, with) in cuts {
            let from = from.min(text.len());
            let to = (from + length).min(text.len());
            text.splice(from..to, with.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = read(&text) {
            proptest::prop_assert!(!faults.as_slice().is_empty());
        }
    }

    /// Values of any type in the place of any other are refused by the walk: nothing is left for
    /// serde to refuse, which would tell one fault and hide the others.
    #[test]
    fn the_walk_lets_only_pass_what_fits_the_shapes(
        edits in proptest::collection::vec((0usize..200, 0usize..9), 1..8),
    ) {
        let values = ["-1", "\"x\"", "true", "[]", "[1]", "[{}]", "{}", "{ \"404\" = 1 }", "1.5"];
        let mut lines: Vec<String> = unsynced_reference().lines().map(str::to_owned).collect();
        for (line, value) in edits {
            let Some(line) = lines.get_mut(line) else { continue };
            if let Some((key, _)) = line.trim_start_matches('#').split_once(" = ") && !key.contains(' ') {
                *line = format!("{key} = {}", values[value]);
            }
        }
        if let Err(faults) = read(&lines.join("\n")) {
            proptest::prop_assert!(!faults.to_string().contains("does not fit its key"), "{faults}");
        }
    }
}

#[test]
fn a_flood_of_faults_is_cut_and_says_so() {
    let lines: Vec<String> = (0..2000).map(|index| format!("key{index} = 1")).collect();
    let text = lines.join("\n");
    let told = faults(&text);
    assert_eq!(told.len(), 501);
    assert!(told[500].contains("has 1502 more faults"), "{}", told[500]);
}

#[test]
fn who_may_come_in_is_checked() {
    let access = |more: &str| format!("{MINIMAL}access = \"a\"\n[[access]]\nname = \"a\"\n{more}");
    let jwt = |more: &str| {
        access(&format!(
            "[access.jwt]\nissuer = \"i\"\naudience = [\"a\"]\njwks = \"http://[::1]:1/k\"\n{more}"
        ))
    };
    let key = |name: &str, digest: &str| format!("[[access.key]]\nname = \"{name}\"\nsha256 = [{digest}]\n");
    let digest = |digit: &str| format!("\"{}\"", digit.repeat(64));
    let sound = access(&format!("addresses = [\"10.0.0.0/8\"]\n{}", key("k", &digest("a"))));
    let settings = read(&sound).unwrap();
    assert_eq!(settings.gateway.access[0].key_field.as_str(), "x-api-key");
    assert_eq!(settings.gateway.routes[0].access.as_deref(), Some("a"));
    let shown = settings.redacted.to_string();
    assert!(!shown.contains("aaaa") && shown.contains("10.0.0.0/8"), "{shown}");
    assert!(settings.secret_files.is_empty(), "a digest is no secret");
    assert!(read(&jwt("")).is_ok());
    for (text, part) in [
        (format!("{MINIMAL}access = \"b\"\n"), "unknown access"),
        (access(""), "nobody could ever come in"),
        (access("certificates = [\"x\"]\n"), "server.tls.client_ca"),
        (access("addresses = [\"x\"]\n"), "is no CIDR"),
        (access(&key("k", "\"xyz\"")), "is no SHA-256"),
        (access(&key("k", "")), "must be one digest"),
        (access(&(key("k", &digest("a")) + &key("l", &digest("a")))), "is there twice"),
        (access(&(key("k", &digest("a")) + &key("k", &digest("b")))), "is there twice"),
        (
            access(&format!("key_field = \"Cookie\"\n{}", key("k", &digest("a")))),
            "no field that could hold a key",
        ),
        (
            access(&format!("identity_field = \"Host\"\n{}", key("k", &digest("a")))),
            "no field for a client's name",
        ),
        (
            access(&format!("identity_field = \"X-Real-IP\"\n{}", key("k", &digest("a")))),
            "no field for a client's name",
        ),
        (jwt("algorithms = [\"HS256\"]"), "who can verify it could also sign"),
        (jwt("algorithms = [\"none\"]"), "is no signature"),
        (jwt("algorithms = []"), "no token would be good"),
        (jwt("audience = []").replace("audience = [\"a\"]\n", ""), "tokens for anybody else"),
        (jwt("leeway = \"1h\""), "at most 10m"),
        (jwt("refresh = \"1s\""), "from 10s to 24h"),
        (jwt("").replace("[::1]", "id.example"), "keys of their own"),
        (jwt("").replace("[::1]", "u:p@[::1]"), "no user info"),
        (jwt("").replace("http://[::1]:1/k", "missing.json"), "cannot be read"),
        (format!("{MINIMAL}[route.cache]\nidentity = \"access\"\n"), "nobody is let in by name"),
        (
            format!(
                "{MINIMAL}[[route.limit]]\nname = \"l\"\nrequests = 1\nper = \"1s\"\nkey = \"identity\"\n"
            ),
            "nobody is let in by name",
        ),
        (
            format!("{MINIMAL}[[admin.operator]]\nname = \"none\"\ntoken = \"t\"\n"),
            "something else in the audit log",
        ),
        (
            format!("{MINIMAL}[admin]\ntoken = \"t\"\n[[admin.operator]]\nname = \"o\"\ntoken = \"t\"\n"),
            "another one's too",
        ),
        (format!("{MINIMAL}[[admin.operator]]\nname = \"o\"\ntoken = \"\"\n"), "is empty"),
        (format!("{MINIMAL}[admin]\nlisten = \"unix:\"\n"), "the path of a socket"),
    ] {
        let found = faults(&text);
        assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}\n{text}");
    }
}
