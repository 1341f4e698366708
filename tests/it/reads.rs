//! What a read gets: from memory, from Redis, from the source, and what RFC 9111 says of each.

use crate::support::{
    Ask, EVERYTHING, RedisServer, Reply, ScriptedSource, Setup, eventually, gateway_for, http_date,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miss_is_forwarded_once_and_then_answered_from_memory() {
    let source = ScriptedSource::start().await;
    source.always("/items/1", Reply::ok("one").cache_control("max-age=60").field("X-Own", "kept"));
    let gateway = gateway_for(&source, "").await;

    let miss = gateway.get("/items/1").await;
    assert_eq!((miss.status, miss.text().as_str()), (200, "one"));
    assert!(miss.says("fwd=uri-miss") && miss.says("fwd-status=200") && miss.says("stored"), "{miss:?}");

    let hit = gateway.get("/items/1").await;
    assert_eq!((hit.status, hit.text().as_str(), hit.field("X-Own")), (200, "one", "kept"));
    assert!(hit.is_hit() && hit.says("detail=memory"), "{hit:?}");
    assert!(hit.cache_status().iter().any(|part| part.starts_with("ttl=")), "{hit:?}");
    assert!(hit.field("Age").parse::<u64>().is_ok(), "{hit:?}");
    assert_eq!(source.count("/items/1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_query_is_part_of_the_key() {
    let source = ScriptedSource::start().await;
    source.on("/items", |request| Reply::ok(request.target.as_str()).cache_control("max-age=60"));
    let gateway = gateway_for(&source, "").await;
    for target in ["/items", "/items?", "/items?a=1&b=2", "/items?b=2&a=1", "/items?a=1&b=2"] {
        assert_eq!(gateway.get(target).await.text(), target);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_shared_tier_answers() {
    let (source, redis) = (ScriptedSource::start().await, RedisServer::start().await);
    source.on("*", |request| Reply::ok(request.target.as_str()).cache_control("max-age=600"));
    let setup = Setup::new(format!("{}{EVERYTHING}{}", source.table(), redis.table()));
    // The port is another one after the restart, and the authority is part of the key.
    let ask = |number: u32| Ask::get(&format!("/items/{number}")).field("Host", "shop.example");
    let gateway = setup.start().await;
    // A response gets there off the request's path, and only once Redis is connected: ask for new
    // ones until some have arrived.
    let (before, mut asked) = (redis.keys().await, 0_u32);
    eventually("a hundred responses are in Redis", async || {
        for _ in 0..10 {
            asked += 1;
            gateway.send(ask(asked)).await;
        }
        redis.keys().await >= before + 100
    })
    .await;
    assert!(gateway.terminate().await.status.success());

    let gateway = setup.start().await;
    let (mut remaining, mut met) = ((1..=asked).rev(), Vec::new());
    eventually("the shared tier answers", async || {
        let number = remaining.next().unwrap_or_else(|| panic!("nothing comes from Redis, but: {met:?}"));
        let answer = gateway.send(ask(number)).await;
        assert_eq!((answer.status, answer.text()), (200, format!("/items/{number}")));
        met.push(answer.cache_status());
        answer.is_hit() && answer.says("detail=shared")
    })
    .await;
}

/// I9: what is lost with Redis is speed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_redis_midway_changes_no_answer_and_it_is_used_again_when_it_is_back() {
    let (source, mut redis) = (ScriptedSource::start().await, RedisServer::start().await);
    source.on("*", |request| Reply::ok(request.target.as_str()).cache_control("max-age=600"));
    let setup = Setup::new(format!("{}{EVERYTHING}{}", source.table(), redis.table()));
    let gateway = setup.start().await;
    assert_eq!(gateway.get("/kept").await.status, 200);
    redis.stop().await;
    for number in 0..30 {
        assert!(gateway.get("/kept").await.is_hit());
        let answer = gateway.get(&format!("/new/{number}")).await;
        assert_eq!((answer.status, answer.text()), (200, format!("/new/{number}")));
    }
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
    redis.start_again().await;
    let mut number = 0;
    eventually("what is new is stored in Redis again", async || {
        number += 1;
        assert_eq!(gateway.get(&format!("/back/{number}")).await.status, 200);
        redis.keys().await > 0
    })
    .await;
}

/// I9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_delays_nobody_for_long() {
    let (source, redis) = (ScriptedSource::start().await, RedisServer::start().await);
    source.on("*", |request| Reply::ok(request.target.as_str()).cache_control("max-age=600"));
    let setup = Setup::new(format!("{}{EVERYTHING}{}", source.table(), redis.table()));
    let gateway = setup.start().await;
    assert_eq!(gateway.get("/kept").await.status, 200);
    let hundred_misses = async |what: &str| {
        let began = tokio::time::Instant::now();
        for number in 0..100 {
            assert!(gateway.get("/kept").await.is_hit());
            let answer = gateway.get(&format!("/{what}/{number}")).await;
            assert_eq!((answer.status, answer.text()), (200, format!("/{what}/{number}")));
        }
        began.elapsed()
    };
    let usual = hundred_misses("usual").await;
    redis.freeze();
    let frozen = hundred_misses("frozen").await;
    // 100 misses at the full budget of 75 ms each would take 7.5 s more; the breaker ends that early.
    assert!(frozen < usual * 2 + std::time::Duration::from_secs(4), "{frozen:?}, and {usual:?} before");
    redis.thaw();
}

/// I9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_without_redis_serves() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok("a").cache_control("max-age=60"));
    let nobody = crate::support::redis::free_port().await;
    let shared = format!("[cache.shared]\nredis = \"redis://127.0.0.1:{nobody}\"\n");
    let gateway = Setup::new(format!("{}{EVERYTHING}{shared}", source.table())).start().await;
    assert_eq!(gateway.get("/a").await.text(), "a");
    assert!(gateway.get("/a").await.is_hit());
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routes_ttl_holds_where_the_response_says_nothing_and_ends() {
    let source = ScriptedSource::start().await;
    source.always("/silent", Reply::ok("a"));
    source.always("/broken", Reply::new(500, "b"));
    source.always("/zero", Reply::ok("c").cache_control("max-age=0"));
    let gateway = gateway_for(&source, "[route.cache]\nttl = \"1s\"\n").await;
    gateway.get("/silent").await;
    assert!(gateway.get("/silent").await.is_hit());
    eventually("the ttl ends", async || {
        gateway.get("/silent").await;
        source.count("/silent") == 2
    })
    .await;
    for path in ["/broken", "/zero"] {
        gateway.get(path).await;
        assert!(!gateway.get(path).await.is_hit(), "{path}");
        assert_eq!(source.count(path), 2, "{path}");
    }
}

/// A path, the fields of its response, and whether a second request is a hit.
type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, bool);

/// Rows: path, the response's fields, whether a second request is answered without the source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_response_says_decides_about_reuse() {
    let past = http_date(-3600);
    let soon = http_date(60);
    let now = http_date(0);
    let rows: Vec<Row<'_>> = vec![
        ("/5.2.2.5-no-store", vec![("Cache-Control", "no-store, max-age=60")], false),
        ("/5.2.2.7-private", vec![("Cache-Control", "private, max-age=60")], false),
        ("/5.2.2.4-no-cache", vec![("Cache-Control", "no-cache, max-age=60")], false),
        ("/5.2.2.1-max-age", vec![("Cache-Control", "max-age=60")], true),
        ("/5.2.2.1-max-age-zero", vec![("Cache-Control", "max-age=0")], false),
        ("/5.2.2.10-s-maxage-wins", vec![("Cache-Control", "max-age=0, s-maxage=60")], true),
        ("/5.2.2.10-s-maxage-zero-wins", vec![("Cache-Control", "max-age=60, s-maxage=0")], false),
        (
            "/5.2.2.2-must-revalidate-while-fresh",
            vec![("Cache-Control", "max-age=60, must-revalidate")],
            true,
        ),
        ("/5.3-expires", vec![("Date", &now), ("Expires", &soon)], true),
        ("/5.3-max-age-before-expires", vec![("Expires", &past), ("Cache-Control", "max-age=60")], true),
        ("/5.3-expires-zero-is-the-past", vec![("Expires", "0"), ("Last-Modified", &past)], false),
        ("/5.1-age-counts", vec![("Age", "61"), ("Cache-Control", "max-age=60")], false),
        ("/4.2.2-nothing", vec![], false),
        (
            "/rfc9213-targeted-wins",
            vec![("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")],
            true,
        ),
        (
            "/rfc9213-targeted-forbids",
            vec![("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")],
            false,
        ),
        ("/set-cookie", vec![("Cache-Control", "max-age=60"), ("Set-Cookie", "session=1")], false),
        ("/4.1-vary-star", vec![("Cache-Control", "max-age=60"), ("Vary", "*")], false),
    ];
    let source = ScriptedSource::start().await;
    for (path, fields, _) in &rows {
        let reply = fields.iter().fold(Reply::ok("x"), |reply, (name, value)| reply.field(name, value));
        source.always(path, reply);
    }
    let gateway = gateway_for(&source, "").await;
    for (path, fields, reused) in &rows {
        let first = gateway.get(path).await;
        let second = gateway.get(path).await;
        assert_eq!((first.text(), second.text()), ("x".to_owned(), "x".to_owned()), "{path}");
        assert_eq!(second.is_hit(), *reused, "{path}: {second:?}");
        assert_eq!(source.count(path), if *reused { 1 } else { 2 }, "{path}");
        for (name, value) in fields.iter().filter(|(name, _)| *name != "Age" && *name != "Date") {
            assert_eq!(second.field(name), *value, "{path} keeps {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_are_kept_apart() {
    let source = ScriptedSource::start().await;
    source.on("/page", |request| {
        Reply::ok(request.fields.get("Accept-Language").unwrap_or("none"))
            .cache_control("max-age=60")
            .field("Vary", "Accept-Language")
    });
    let gateway = gateway_for(&source, "").await;
    let ask = |language: &str| Ask::get("/page").field("Accept-Language", language);
    assert_eq!(gateway.send(ask("de")).await.text(), "de");
    let other = gateway.send(ask("en")).await;
    assert!(other.text() == "en" && other.says("fwd=vary-miss"), "{other:?}");
    for language in ["de", "en"] {
        let hit = gateway.send(ask(language)).await;
        assert!(hit.is_hit() && hit.text() == language, "{hit:?}");
    }
    assert_eq!(gateway.get("/page").await.text(), "none");
    assert_eq!(source.count("/page"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_answered_from_a_stored_get_and_forwarded_as_head_otherwise() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok("body").cache_control("max-age=60"));
    source.always("/b", Reply::ok("other"));
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    let head = gateway.send(Ask::new("HEAD", "/a")).await;
    assert!(head.is_hit() && head.body.is_empty() && head.field("Content-Length") == "4", "{head:?}");
    assert_eq!(source.count("/a"), 1);
    gateway.send(Ask::new("HEAD", "/b")).await;
    assert_eq!(source.received("/b")[0].method, "HEAD");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_cut_from_a_stored_response() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok("0123456789").cache_control("max-age=60").field("ETag", "\"v1\""));
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=20-", 416, "", "bytes */10"),
    ] {
        let answer = gateway.send(Ask::get("/a").field("Range", range)).await;
        assert_eq!((answer.status, answer.field("Content-Range")), (status, content_range), "{range}");
        if status == 206 {
            assert_eq!(answer.text(), body, "{range}");
        }
    }
    assert_eq!(source.count("/a"), 1);
}

/// I7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_authorization_only_what_says_so_is_shared() {
    let source = ScriptedSource::start().await;
    for (path, control) in
        [("/plain", "max-age=60"), ("/public", "public, max-age=60"), ("/shared", "s-maxage=60")]
    {
        source.on(path, move |request| {
            Reply::ok(request.fields.get("Authorization").unwrap_or("nobody")).cache_control(control)
        });
    }
    let gateway = gateway_for(&source, "").await;
    let ask = |path: &str, who: &str| Ask::get(path).field("Authorization", who);
    for who in ["Bearer a", "Bearer b"] {
        assert_eq!(gateway.send(ask("/plain", who)).await.text(), who);
    }
    assert_eq!(gateway.get("/plain").await.text(), "nobody");
    for path in ["/public", "/shared"] {
        assert_eq!(gateway.send(ask(path, "Bearer a")).await.text(), "Bearer a");
        assert!(gateway.send(ask(path, "Bearer b")).await.is_hit(), "{path}");
    }
}

/// I7: Set-Cookie reaches the client that caused it and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_is_passed_on_and_never_stored() {
    let source = ScriptedSource::start().await;
    let with = Reply::ok("a").cache_control("max-age=60").field("Set-Cookie", "session=1");
    source.sequence("/a", vec![with, Reply::ok("b").cache_control("max-age=60")]);
    let gateway = gateway_for(&source, "").await;
    assert_eq!(gateway.get("/a").await.field("Set-Cookie"), "session=1");
    let second = gateway.get("/a").await;
    assert_eq!((second.text().as_str(), second.field("Set-Cookie")), ("b", ""));
}
