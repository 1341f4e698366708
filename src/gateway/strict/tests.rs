//! The rules of the strict gate as tables.

use super::*;
use crate::gateway::Limits;
use crate::gateway::access_log::{AccessLogSettings, LogTarget, LoggedErrors};
use std::time::Duration;

/// Until the head of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings {
        listen: Vec::new(),
        tls: None,
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        request_timeout: TIMEOUT,
        shutdown_grace: TIMEOUT,
        limits: Limits {
            head_bytes: 100,
            fields: 3,
            target_bytes: 20,
            body_bytes: None,
            connections: 1,
            connections_per_address: None,
            in_flight_bytes: 1,
            header_timeout: TIMEOUT,
            idle_timeout: TIMEOUT,
            body_rate_bytes: 1,
        },
        access_log: AccessLogSettings { to: LogTarget::StandardError, one_in: 0, errors: LoggedErrors::None },
        client_name_field: None,
        access: Vec::new(),
        routes: Vec::new(),
    }
}

/// The model of a request from a stranger.
fn model(
    method: &str,
    origin_form: &str,
    lines: &[(&'static str, &'static str)],
    version: Version,
) -> Result<Box<Request>, Refusal> {
    let address = ([192, 0, 2, 1], 1).into();
    let peer = Peer { address, local: address, tls: None };
    let mut fields = many(lines);
    fields.insert(HOST, HeaderValue::from_static("h"));
    let uri = http::Uri::from_static("/");
    let head = Head { method: method.parse().unwrap(), uri: &uri, version, fields };
    modelled(head, origin_form, Content::None, &peer, &settings(), Instant::now())
}

fn parts(method: &str, target: &str, lines: &[(&'static str, &'static str)], version: Version) -> Parts {
    let request = http::Request::builder().method(method).uri(target).version(version);
    let mut parts = request.body(()).unwrap().into_parts().0;
    parts.headers = many(lines);
    parts
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let line = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    lines.iter().map(line).collect()
}

fn many(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for &(name, value) in lines {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

#[test]
fn rfc9112_3_2_one_host() {
    let address = ([127, 0, 0, 1], 1).into();
    let peer = Peer { address, local: ([127, 0, 0, 1], 8080).into(), tls: None };
    let ask = |uri: &str, lines: &[(&'static str, &'static str)], version| {
        authority(&uri.parse().unwrap(), &many(lines), version, &peer, Scheme::Http)
            .map(|authority| authority.to_string())
    };
    assert_eq!(ask("/", &[("host", "A.example:80")], Version::HTTP_11).as_deref(), Ok("a.example"));
    assert_eq!(ask("/", &[], Version::HTTP_11), Err(Refusal::Host));
    assert_eq!(ask("/", &[], Version::HTTP_10).as_deref(), Ok("127.0.0.1:8080"));
    assert_eq!(ask("/", &[("host", "a"), ("host", "a")], Version::HTTP_11), Err(Refusal::Host));
    assert_eq!(ask("/", &[("host", "a, b")], Version::HTTP_11), Err(Refusal::Host));
    assert_eq!(ask("/", &[("host", "u@a")], Version::HTTP_11), Err(Refusal::Host));
    assert_eq!(ask("http://b/", &[("host", "a")], Version::HTTP_11).as_deref(), Ok("b"));
    assert_eq!(ask("http://b/", &[], Version::HTTP_11), Err(Refusal::Host));
    assert_eq!(ask("http://b/", &[], Version::HTTP_10).as_deref(), Ok("b"));
    assert_eq!(ask("http://b/", &[("host", "a")], Version::HTTP_2), Err(Refusal::Host));
    assert_eq!(ask("http://b/", &[("host", "B:80")], Version::HTTP_2).as_deref(), Ok("b"));
    assert_eq!(ask("https://b/", &[], Version::HTTP_2).as_deref(), Ok("b"));
    assert_eq!(ask("/", &[], Version::HTTP_2), Err(Refusal::Host));
    assert_eq!(
        ask("ftp://b/", &[("host", "a")], Version::HTTP_11),
        Err(Refusal::Target(TargetError::Scheme))
    );
}

#[test]
fn rfc9110_7_4_a_connection_is_for_the_host_that_its_client_named() {
    let address = ([127, 0, 0, 1], 1).into();
    for (named, host, is) in [
        (Some("a.example"), "a.example", true),
        (Some("A.example"), "a.example.:8443", true),
        (Some("a.example"), "b.example", false),
        (Some("a.example"), "127.0.0.1", false),
        (None, "b.example", true),
    ] {
        let session = Session { server_name: named.map(str::to_owned), client_name: None };
        let peer = Peer { address, local: address, tls: Some(Arc::new(session)) };
        let authority = Authority::parse(host, Scheme::Https).unwrap();
        assert_eq!(is_for(&authority, &peer), is, "{named:?} {host}");
    }
}

#[test]
fn impostors_are_dropped() {
    let mut given = fields(&[
        ("content_length", "1"),
        ("transfer_encoding", "chunked"),
        ("x_forwarded_for", "1"),
        ("x-forwarded_host", "a"),
        ("cdn_loop", "a"),
        ("my_field", "1"),
        ("content-length", "2"),
    ]);
    drop_impostors(&mut given);
    assert_eq!(given, fields(&[("my_field", "1"), ("content-length", "2")]));
}

/// Rows: the version, the method, what is wrong with its head as HTTP/2 has it.
#[test]
fn rfc9113_8_what_the_gate_does_not_see_is_looked_at_here() {
    const TWICE: [(&str, &str); 2] = [("content-length", "1"), ("content-length", "1")];
    for (version, method, lines, expected) in [
        (Version::HTTP_11, "POST", &TWICE[..], Ok(())),
        (Version::HTTP_10, "POST", &TWICE, Ok(())),
        (Version::HTTP_2, "POST", &TWICE, Err(Refusal::Framing)),
        (Version::HTTP_2, "POST", &TWICE[..1], Ok(())),
        (Version::HTTP_2, "CONNECT", &TWICE, Err(Refusal::Method)),
        (Version::HTTP_2, "TRACE", &[], Err(Refusal::Method)),
        (
            Version::HTTP_2,
            "GET",
            &[("a", "1"), ("a", "1"), ("a", "1"), ("a", "1")],
            Err(Refusal::TooManyFields),
        ),
        (Version::HTTP_09, "GET", &[], Err(Refusal::Version)),
        (Version::HTTP_3, "GET", &[], Err(Refusal::Version)),
    ] {
        let mut head = parts(method, "/", lines, version);
        assert_eq!(sound(&mut head, &settings()), expected, "{version:?} {method} {lines:?}");
    }
    let mut crumbs = parts("GET", "/", &[("cookie", "a=1"), ("cookie", "b=2")], Version::HTTP_2);
    assert_eq!(sound(&mut crumbs, &settings()), Ok(()));
    assert_eq!(crumbs.headers, fields(&[("cookie", "a=1; b=2")]));
}

/// As they would count in HTTP/1: `GET / HTTP/1.1`, `x: `, and their ends take 23 bytes.
#[test]
fn sizes_count_to_the_byte_in_http_2_too() {
    let of = |method: &str, target: String, lines: usize, value: usize| {
        let uri = target.parse().unwrap();
        let mut fields = HeaderMap::new();
        for _ in 0..lines {
            fields.append("x", HeaderValue::from_str(&"v".repeat(value)).unwrap());
        }
        sizes(&method.parse().unwrap(), &uri, &fields, &settings())
    };
    for (method, target, lines, value, expected) in [
        ("GET", "/".to_owned(), 1, 77, Ok(())),
        ("GET", "/".to_owned(), 1, 78, Err(Refusal::HeadTooLarge)),
        ("POST", "/".to_owned(), 1, 77, Err(Refusal::HeadTooLarge)),
        ("GET", "/a".to_owned(), 1, 77, Err(Refusal::HeadTooLarge)),
        ("GET", "/".to_owned(), 2, 36, Ok(())),
        ("GET", "/".to_owned(), 2, 37, Err(Refusal::HeadTooLarge)),
        ("GET", "/".to_owned(), 3, 1, Ok(())),
        ("GET", "/".to_owned(), 4, 1, Err(Refusal::TooManyFields)),
        ("GET", format!("/{}", "t".repeat(19)), 1, 1, Ok(())),
        ("GET", format!("/{}", "t".repeat(20)), 1, 1, Err(Refusal::TargetTooLong)),
        ("GET", "http://a".to_owned(), 1, 77, Ok(())),
    ] {
        assert_eq!(of(method, target.clone(), lines, value), expected, "{method} {target} {lines} {value}");
    }
}

#[test]
fn methods_expectations_and_targets_that_are_served() {
    let expect = |value| model("PUT", "/a", &[("expect", value)], Version::HTTP_11).map(drop);
    assert_eq!(expect("100-continue"), Ok(()));
    assert_eq!(expect("100-Continue"), Ok(()));
    assert_eq!(expect("100-continues"), Err(Refusal::Expect));
    let twice = [("expect", "100-continue"), ("expect", "x")];
    assert_eq!(model("PUT", "/a", &twice, Version::HTTP_11).map(drop), Err(Refusal::Expect));
    for (method, origin_form, version, expected) in [
        ("CONNECT", "/a", Version::HTTP_11, Err(Refusal::Method)),
        ("TRACE", "/a", Version::HTTP_11, Err(Refusal::Method)),
        ("ODD", "/a?b", Version::HTTP_11, Ok(("/a?b", None))),
        ("OPTIONS", "*", Version::HTTP_11, Ok(("/", Some("0")))),
        ("OPTIONS", "/", Version::HTTP_11, Ok(("/", None))),
        ("GET", "*", Version::HTTP_11, Err(Refusal::Target(TargetError::Path))),
        ("GET", "?q", Version::HTTP_11, Ok(("/?q", None))),
        ("GET", "?q", Version::HTTP_2, Err(Refusal::Target(TargetError::Path))),
        ("GET", "a", Version::HTTP_11, Err(Refusal::Target(TargetError::Path))),
    ] {
        let model = model(method, origin_form, &[], version);
        let seen = model.as_ref().map(|request| {
            let forwards = request.fields.get(MAX_FORWARDS).and_then(|value| value.to_str().ok());
            (request.target.path_and_query(), forwards)
        });
        assert_eq!(seen.map_err(|refusal| *refusal), expected, "{method} {origin_form} {version:?}");
    }
}

#[test]
fn i6_one_token_of_a_write_that_was_seen() {
    const TOKEN: (&str, &str) = ("tidegate-min-version", "000000000000001f-ab");
    let read = |lines: &[_]| model("GET", "/", lines, Version::HTTP_11).map(|request| request.min_version);
    let token = Token::parse(TOKEN.1.as_bytes()).unwrap();
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[TOKEN]), Ok(Some(Box::new(token))));
    assert_eq!(read(&[TOKEN, TOKEN]), Err(Refusal::MinVersion));
    assert_eq!(read(&[("tidegate-min-version", "1")]), Err(Refusal::MinVersion));
}

#[test]
fn a_request_has_the_whole_time_and_a_question_none() {
    let before = Instant::now();
    let request = model("GET", "/", &[], Version::HTTP_11).unwrap();
    assert!((before + TIMEOUT..=Instant::now() + TIMEOUT).contains(&request.deadline));
    let asked = |lines: &[(&'static str, &'static str)], origin_form: &str| {
        let question = Question {
            authority: Authority::parse("a.example", Scheme::Http).unwrap(),
            origin_form: origin_form.to_owned(),
            method: Method::GET,
            fields: many(lines),
            peer: ([192, 0, 2, 1], 1).into(),
        };
        foresee(question, &settings())
    };
    let foreseen = asked(&[], "/a").unwrap();
    assert!(foreseen.deadline <= Instant::now());
    assert_eq!(foreseen.target.to_string(), "http://a.example/a");
    assert_eq!(asked(&[("host", "b.example")], "/a").unwrap().target.to_string(), "http://b.example/a");
    assert_eq!(asked(&[], &format!("/{}", "a".repeat(20))).map(drop), Err(Refusal::TargetTooLong));
}

/// The closed list of answer, log and metric.
#[test]
fn every_refusal_has_a_status_a_word_and_a_sentence() {
    let list = [
        (Refusal::Target(TargetError::Path), 400, "target"),
        (Refusal::TargetTooLong, 414, "target-too-long"),
        (Refusal::HeadTooLarge, 431, "head-too-large"),
        (Refusal::TooManyFields, 431, "too-many-fields"),
        (Refusal::Host, 400, "host"),
        (Refusal::Field, 400, "field"),
        (Refusal::Framing, 400, "framing"),
        (Refusal::Coding, 501, "transfer-coding"),
        (Refusal::HeadTooSlow, 408, "head-too-slow"),
        (Refusal::Method, 405, "method"),
        (Refusal::Expect, 417, "expect"),
        (Refusal::MinVersion, 400, "min-version"),
        (Refusal::Version, 505, "version"),
        (Refusal::Connections, 503, "connections"),
        (Refusal::ConnectionsOfAddress, 503, "connections-per-address"),
        (Refusal::Descriptors, 503, "descriptors"),
        (Refusal::Misdirected, 421, "misdirected"),
    ];
    let mut sentences = std::collections::HashSet::new();
    for (refusal, status, word) in list {
        assert_eq!((refusal.status().as_u16(), refusal.as_str()), (status, word));
        let sentence = refusal.detail();
        assert!(sentence.contains(' ') && sentences.insert(sentence), "{refusal:?}");
    }
}
