//! Fields on their way: what a route changes, what belongs to a connection, what proxies say of a client, and
//! what clients could say in their stead.

use crate::support::{
    Answer, Ask, EVERYTHING, Gateway, RecordingDestination, Reply, ScriptedSource, Setup, Step, eventually,
    gateway_for,
};

/// A gateway for which every client of this machine is a trusted proxy.
async fn behind_proxies(source: &ScriptedSource, more: &str) -> Gateway {
    let rest = format!("{}{EVERYTHING}{more}", source.table());
    Setup::new(rest).server("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").start().await
}

async fn echoing_source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| {
        Reply::ok(request.target.as_str())
            .cache_control("max-age=600")
            .field("Server", "own")
            .field("ETag", "\"a\"")
    });
    source
}

/// Both directions, on a miss, a hit, a 304 and a HEAD; not on what Tidegate says itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_sets_and_removes_fields() {
    let source = echoing_source().await;
    let more = "request_headers = { set = { X-Tenant = \"a\", Authorization = \"Bearer ${TOKEN}\" }, \
                remove = [\"X-Debug\", \"Cookie\"] }\n\
                response_headers = { set = { X-Frame-Options = \"DENY\" }, remove = [\"Server\"] }\n\
                [[route.limit]]\nname = \"few\"\nrequests = 5\nper = \"1h\"\n";
    let mut setup = Setup::new(format!("{}{EVERYTHING}{more}", source.table()));
    setup.environment("TOKEN", "canary");
    let gateway = setup.start().await;
    let ask = |method| {
        let ask = Ask::new(method, "/a").field("X-Tenant", "b").field("X-Tenant", "c").field("X-Debug", "1");
        ask.field("Cookie", "a=b").field("X-Kept", "1").field("X_Tenant", "d").field("X_Debug", "1")
    };
    let changed = |answer: &Answer| (answer.field("X-Frame-Options").to_owned(), answer.fields.has("Server"));
    let miss = gateway.send(ask("GET")).await;
    let hit = gateway.send(ask("GET")).await;
    let head = gateway.send(ask("HEAD")).await;
    assert_eq!((miss.is_hit(), hit.is_hit(), head.is_hit()), (false, true, true));
    for answer in [&miss, &hit, &head] {
        assert_eq!(changed(answer), ("DENY".into(), false), "{answer:?}");
    }
    let not_modified = gateway.send(ask("GET").field("If-None-Match", "\"a\"")).await;
    assert_eq!(
        (not_modified.status, changed(&not_modified)),
        (304, (String::new(), false)),
        "RFC 9110 15.4.5"
    );
    let put = ask("PUT").body("x").chunked().trailer("X-Tenant", "e").field("Trailer", "X-Tenant");
    let put = gateway.send(put).await;
    assert_eq!(changed(&put), ("DENY".into(), false));
    let denied = gateway.send(ask("GET")).await;
    assert_eq!((denied.status, changed(&denied)), (429, (String::new(), false)));

    let received = source.received("/a");
    assert_eq!(received.len(), 2);
    for request in received {
        let fields = &request.fields;
        assert_eq!(fields.list("X-Tenant"), "a", "{request:?}");
        assert_eq!(fields.list("Authorization"), "Bearer canary");
        assert_eq!(fields.get("X-Kept"), Some("1"));
        assert!(!fields.has("X-Debug") && !fields.has("Cookie"), "{request:?}");
        assert!(!fields.has("X_Debug") && !fields.has("X_Tenant"), "{request:?}");
        assert_eq!(request.trailers.get("X-Tenant"), None);
    }
    let shown = gateway.admin_get("/v1/config").await.text();
    assert!(!shown.contains("canary") && !gateway.log_text().contains("canary"), "{shown}");
}

/// What is set for the source is not sent to destinations, and accepted writes have it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_route_sets_is_for_its_source_alone() {
    for mode in ["through", "accept"] {
        let (source, destination) = (echoing_source().await, RecordingDestination::start().await);
        let rest = format!(
            "{}{}{EVERYTHING}request_headers = {{ set = {{ X-Key = \"canary\" }}, remove = [\"X-Debug\"] }}\n\
             [route.sync]\nmode = \"{mode}\"\ndestinations = [\"search\"]\n",
            source.table(),
            destination.table("search")
        );
        let gateway = Setup::new(rest).start().await;
        let answer = gateway.send(Ask::put("/a", "x").field("X-Debug", "1")).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        destination.wait_for(1).await;
        let sent = &source.received("/a")[0].fields;
        assert_eq!((sent.get("X-Key"), sent.get("X-Debug")), (Some("canary"), None));
        let delivered = destination.deliveries.all();
        assert!(
            delivered.iter().all(|delivery| !format!("{delivery:?}").contains("canary")),
            "{delivered:?}"
        );
    }
}

/// RFC 9110 7.6.1: whatever a Connection names, what decides on routing, access and storing stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_takes_no_field_away_that_others_decide_by() {
    let source = echoing_source().await;
    let gateway = behind_proxies(&source, "").await;
    let kept = [
        ("Authorization", "x 1"),
        ("Cookie", "a=b"),
        ("Cache-Control", "no-transform"),
        ("Via", "1.1 other"),
        ("CDN-Loop", "other"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("Forwarded", "for=192.0.2.7"),
    ];
    let names = kept.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let list = format!("{names}, Host, Content-Length, X-Request-Id, X-Hop, Content-Encoding");
    let ask =
        Ask::put("/a", "abc").field("Connection", &list).field("X-Hop", "1").field("Host", "shop.example");
    let ask = kept.iter().fold(ask, |ask, (name, value)| ask.field(name, value));
    assert_eq!(gateway.send(ask).await.status, 200);
    let received = source.received("/a").remove(0);
    for (name, value) in kept {
        assert!(received.fields.list(name).starts_with(value), "{name}: {received:?}");
    }
    assert_eq!((received.fields.get("Host"), received.text()), (Some("shop.example"), "abc".into()));
    assert!(!received.fields.has("X-Hop") && received.fields.has("X-Request-Id"), "{received:?}");

    source.on("/named", |_| {
        let reply = Reply::ok("x").cache_control("private, max-age=60").field("Set-Cookie", "a=b");
        reply.field("Connection", "Cache-Control, X-Hop").field("X-Hop", "1")
    });
    for _ in 0..2 {
        let answer = gateway.get("/named").await;
        assert!(!answer.is_hit() && answer.field("Cache-Control").contains("private"), "{answer:?}");
        assert!(!answer.fields.has("X-Hop") && answer.fields.has("Set-Cookie"));
    }
}

/// Rows: fields of a request that a trusted proxy sends, and which client's quota it is charged to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_is_the_rightmost_address_that_is_no_trusted_proxys() {
    let source = echoing_source().await;
    for (other, same) in [
        (&[("X-Forwarded-For", "192.0.2.7")][..], true),
        (&[("X-Forwarded-For", "203.0.113.1, 192.0.2.7")], true),
        (&[("X-Forwarded-For", "203.0.113.1, 192.0.2.7, 10.1.2.3")], true),
        (&[("X-Forwarded-For", "192.0.2.7:4711")], true),
        (&[("X-Forwarded-For", "203.0.113.1"), ("X-Forwarded-For", "192.0.2.7")], true),
        (&[("Forwarded", "for=203.0.113.1, for=192.0.2.7;proto=http, for=10.1.2.3")], true),
        (&[("Forwarded", "for=\"192.0.2.7:4711\"")], true),
        (&[("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.7")], true),
        (&[("X-Forwarded-For", "192.0.2.7, 203.0.113.1")], false),
        (&[("Forwarded", "for=192.0.2.7, for=203.0.113.1")], false),
        (&[("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=203.0.113.1")], false),
        (&[("X-Real-IP", "192.0.2.7")], false),
    ] {
        let limit = "[[route.limit]]\nname = \"one\"\nrequests = 1\nper = \"1h\"\nkey = \"client\"\n";
        let gateway = behind_proxies(&source, limit).await;
        let first = gateway.send(Ask::get("/a").field("X-Forwarded-For", "192.0.2.7")).await;
        let ask = other.iter().fold(Ask::get("/a"), |ask, (name, value)| ask.field(name, value));
        let second = gateway.send(ask).await;
        assert_eq!((first.status, second.status), (200, if same { 429 } else { 200 }), "{other:?}");
    }
}

/// From strangers all of it goes; a trusted proxy's word is passed on and extended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_poison_a_stored_response_is_a_trusted_proxys_word_or_none() {
    const UNKEYED: [&str; 40] = [
        "Proxy",
        "X-Forwarded",
        "Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Scheme",
        "X-Original-URL",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-Override-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Host",
        "X-Real-IP",
        "True-Client-IP",
        "X-Azure-ClientIP",
        "X-Azure-SocketIP",
        "CF-Connecting-IP",
        "X-Appengine-User-IP",
        "X-Envoy-External-Address",
        "X-Nf-Client-Connection-IP",
        "X-Vercel-Forwarded-For",
        "X-Originating-IP",
        "X-Remote-Addr",
        "CloudFront-Viewer-Address",
        "Client-Cert",
        "Forwarded-Proto",
        "Front-End-Https",
        "WL-Proxy-SSL",
        "X-ARR-SSL",
        "X-Backend-Host",
        "X-Envoy-Original-Path",
        "X-Forward-Proto",
        "X-HTTP-DestinationURL",
        "X-HTTP-Path-Override",
        "X-Scheme",
        "X-Url-Scheme",
        "Tidegate_Identity",
    ];
    let source = echoing_source().await;
    let ask = || {
        let ask = Ask::get("/a").field("Host", "shop.example").field("X_Forwarded_Host", "canary");
        UNKEYED.iter().fold(ask, |ask, name| ask.field(name, "canary"))
    };
    let stranger = gateway_for(&source, "").await;
    stranger
        .send(ask().field("Forwarded", "for=canary;host=canary").field("X-Forwarded-For", "canary"))
        .await;
    let received = source.received("/a").remove(0);
    assert!(!format!("{received:?}").contains("canary"), "{received:?}");
    let fields = &received.fields;
    assert_eq!(fields.list("X-Forwarded-For"), "127.0.0.1");
    assert_eq!(
        (fields.list("X-Forwarded-Host"), fields.list("X-Forwarded-Proto")),
        ("shop.example".into(), "http".into())
    );
    assert_eq!(fields.list("Forwarded"), "for=127.0.0.1;host=\"shop.example\";proto=http");

    let gateway = behind_proxies(&source, "").await;
    let said =
        Ask::get("/b").field("X-Forwarded-Host", "public.example").field("X-Forwarded-For", "192.0.2.7");
    gateway.send(said.field("Forwarded", "for=192.0.2.7").field("Proxy", "canary")).await;
    let fields = &source.received("/b")[0].fields;
    assert_eq!(fields.list("X-Forwarded-Host"), "public.example");
    assert_eq!(fields.list("X-Forwarded-For"), "192.0.2.7, 127.0.0.1");
    assert!(fields.list("Forwarded").starts_with("for=192.0.2.7, for=127.0.0.1;"), "{fields:?}");
    assert!(!fields.has("Proxy"), "{fields:?}");
}

/// A redirection to https is for those who asked by http.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_the_scheme_that_a_trusted_proxy_was_asked_by_is_part_of_the_key() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| {
        let is_https = request.fields.get("X-Forwarded-Proto") == Some("https");
        let reply =
            if is_https { Reply::ok("x") } else { Reply::new(301, "").field("Location", "https://a/") };
        reply.cache_control("max-age=600")
    });
    let ask = |scheme: &str| Ask::get("/a").field("Host", "a").field("X-Forwarded-Proto", scheme);
    let gateway = behind_proxies(&source, "").await;
    for hit in [false, true] {
        for (scheme, status) in [("http", 301), ("https", 200)] {
            let answer = gateway.send(ask(scheme)).await;
            assert_eq!((answer.status, answer.is_hit()), (status, hit), "{scheme}");
        }
    }
    let purged = serde_json::json!({"urls": ["http://a/a"]});
    assert_eq!(gateway.admin_post("/v1/purge", &purged).await.status, 202);
    for scheme in ["http", "https"] {
        assert!(!gateway.send(ask(scheme)).await.is_hit(), "{scheme}: the scheme of a purge does not count");
    }
    let stranger = gateway_for(&source, "").await;
    assert_eq!(stranger.send(ask("https")).await.status, 301, "whoever says so must be trusted");
}

/// RFC 8586: in whichever line and form this gateway is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_is_508_and_via_names_every_gateway_once() {
    let source = echoing_source().await;
    let gateway = gateway_for(&source, "").await;
    for lines in
        [&["tidegate"][..], &["other, TIDEGATE;v=1"], &["other", "tidegate ; x"], &["\u{e9}, tidegate"]]
    {
        let ask = lines.iter().fold(Ask::get("/a"), |ask, line| ask.field("CDN-Loop", line));
        gateway.send(ask).await.assert_problem(508);
    }
    assert_eq!(source.count("/a"), 0);
    let passed =
        gateway.send(Ask::get("/a").field("CDN-Loop", "other, nottidegate").field("Via", "1.0 first")).await;
    assert_eq!((passed.status, passed.field("Via")), (200, "1.1 tidegate"));
    let fields = &source.received("/a")[0].fields;
    assert_eq!(fields.list("CDN-Loop"), "other, nottidegate, tidegate");
    assert_eq!(fields.list("Via"), "1.0 first, 1.1 tidegate");
    eventually("the hit has it too", async || gateway.get("/a").await.field("Via") == "1.1 tidegate").await;
}

/// RFC 9110 7.6.3: the version is that in which this gateway got the answer, whichever way it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_6_3_via_tells_the_version_of_the_sources_answer() {
    let source = ScriptedSource::start().await;
    let answer = |version: &str, rest: &str| {
        let head = format!("HTTP/{version} 200 OK\r\nVia: 1.1 inner\r\nETag: \"a\"\r\nContent-Length: 2\r\n");
        Reply::none(Step::Bytes(format!("{head}{rest}\r\n\r\nok").into())).after(Step::Cut)
    };
    for (version, via) in [("1.0", "1.1 inner, 1.0 tidegate"), ("1.1", "1.1 inner, 1.1 tidegate")] {
        let gateway = gateway_for(&source, "").await;
        source.always("/stored", answer(version, "Cache-Control: max-age=600"));
        source.always("/alone", answer(version, "Cache-Control: no-store"));
        for (method, path, hit) in [
            ("GET", "/stored", false),
            ("GET", "/stored", true),
            ("GET", "/alone", false),
            ("POST", "/alone", false),
        ] {
            let answer = gateway.send(Ask::new(method, path)).await;
            assert_eq!((answer.status, answer.is_hit()), (200, hit), "{version} {method} {path}");
            assert_eq!(answer.fields.list("Via"), via, "{version} {method} {path} {hit}");
        }
        let other = if version == "1.0" { "1.1" } else { "1.0" };
        let not_modified =
            format!("HTTP/{version} 304 Not Modified\r\nETag: \"a\"\r\nVia: 1.1 inner\r\n\r\n");
        let not_modified = Reply::none(Step::Bytes(not_modified.into())).after(Step::Cut);
        source.sequence("/validated", [answer(other, "Cache-Control: max-age=0"), not_modified]);
        gateway.get("/validated").await;
        let validated = gateway.get("/validated").await;
        assert_eq!((validated.status, validated.fields.list("Via").as_str()), (200, via), "{validated:?}");
    }
}

/// Who reads `_` as `-` would frame an answer by these: nobody gets them, and they are not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_source_says_and_could_be_read_as_framing_reaches_nobody() {
    const IMPOSTORS: [&str; 5] =
        ["Content_Length", "Transfer_Encoding", "transfer-Encoding_", "Proxy_Connection", "Keep_Alive"];
    let source = ScriptedSource::start().await;
    source.on("*", |request| {
        let control = if request.path() == "/stored" { "max-age=600" } else { "no-store" };
        let reply = Reply::ok("content").cache_control(control).field("X_Kept", "1").field("Set_Length", "1");
        IMPOSTORS.iter().fold(reply, |reply, name| reply.field(name, "0"))
    });
    let gateway = gateway_for(&source, "").await;
    for (method, path) in [("GET", "/stored"), ("GET", "/stored"), ("GET", "/alone"), ("PUT", "/alone")] {
        let answer = gateway.send(Ask::new(method, path)).await;
        assert_eq!(answer.text(), "content");
        // The last but the third name framing or the connection.
        let left: Vec<&str> = IMPOSTORS.into_iter().filter(|name| answer.fields.has(name)).collect();
        assert_eq!(left, ["transfer-Encoding_"], "{method} {path}: {answer:?}");
        assert!(answer.fields.has("X_Kept") && answer.fields.has("Set_Length"), "{answer:?}");
    }
}

/// RFC 9113 3.1: what a client offers to this connection is nobody else's, whether Connection names it or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9113_3_1_http2_settings_reach_no_source() {
    let source = echoing_source().await;
    let gateway = gateway_for(&source, "").await;
    for (number, connection) in ["", "Upgrade, HTTP2-Settings", "Upgrade"].into_iter().enumerate() {
        for method in ["GET", "PUT"] {
            let ask =
                Ask::new(method, &format!("/{number}")).field("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA");
            let ask = ask.field("HTTP2_Settings", "AAMAAABk").field("Upgrade", "h2c");
            let ask = if connection.is_empty() { ask } else { ask.field("Connection", connection) };
            assert_eq!(gateway.send(ask).await.status, 200, "{connection}");
        }
    }
    for request in source.requests.all() {
        let fields = &request.fields;
        let offered = ["HTTP2-Settings", "HTTP2_Settings", "Upgrade"].map(|name| fields.has(name));
        assert_eq!(offered, [false; 3], "{request:?}");
    }
}
