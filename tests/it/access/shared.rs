//! What those who were let in share, and what they never do (I7).

use super::{door, guarded, telling_source, with_key};
use crate::support::{Ask, EVERYTHING, Reply, ScriptedSource, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_what_a_source_was_told_of_one_is_never_given_to_another() {
    let source = telling_source().await;
    for (access, said) in [
        ("credentials = \"forward\"", ["key-ada - -", "key-bob - -"]),
        ("identity_field = \"X-User\"", ["- - ada", "- - bob"]),
        (
            "key_field = \"Authorization\"\ncredentials = \"forward\"",
            ["- Bearer key-ada -", "- Bearer key-bob -"],
        ),
    ] {
        for route in
            ["", "[route.cache]\nidentity = \"access\"\n", "[route.cache]\nidentity = \"cookie:s\"\n"]
        {
            let gateway = guarded(&source, &door(access), route).await;
            for again in [false, true] {
                for (name, expected) in ["ada", "bob"].into_iter().zip(said) {
                    let key = format!("key-{name}");
                    let ask = Ask::get("/x").field("Authorization", &format!("Bearer {key}"));
                    let by_field = !access.starts_with("key_field");
                    let ask = if by_field { with_key(Ask::get("/x"), &key) } else { ask };
                    let answer = gateway.send(ask.field("Cookie", "s=1")).await;
                    assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{access} {route}");
                    assert_eq!(answer.is_hit(), again && !route.is_empty(), "{access} {route}");
                }
            }
        }
    }
}

/// Of a credential that let nobody in nobody knows whose it is: no source acts on it, and no trailer says who asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_only_what_was_found_good_goes_on() {
    let source = telling_source().await;
    let access =
        door("addresses = [\"127.0.0.0/8\"]\ncredentials = \"forward\"\nidentity_field = \"X-User\"");
    let gateway = guarded(&source, &access, "[route.cache]\nidentity = \"access\"\n").await;
    for (key, said, hit) in
        [("other", "- - -", false), ("another", "- - -", true), ("key-ada", "key-ada - ada", false)]
    {
        let answer = gateway.send(with_key(Ask::get("/x"), key)).await;
        assert_eq!((answer.text().as_str(), answer.is_hit()), (said, hit), "{key}");
    }
    let write = with_key(Ask::put("/t", "1"), "key-ada").chunked().trailer("X-User", "root");
    assert_eq!(gateway.send(write.field("Trailer", "X-User")).await.status, 200);
    assert_eq!(source.received("/t")[0].trailers.get("X-User"), None);
}

/// A source that is told nothing of who asks answers all of them alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_source_was_told_nothing_for_is_for_all_who_are_let_in() {
    let source = telling_source().await;
    let gateway = guarded(&source, &door(""), "").await;
    assert_eq!(gateway.send(with_key(Ask::get("/x"), "key-ada")).await.text(), "- - -");
    assert!(gateway.send(with_key(Ask::get("/x"), "key-bob")).await.is_hit());
    let gateway = guarded(&source, &door(""), "[route.cache]\nidentity = \"access\"\n").await;
    assert!(!gateway.send(with_key(Ask::get("/x"), "key-ada")).await.is_hit());
    assert!(!gateway.send(with_key(Ask::get("/x"), "key-bob")).await.is_hit());
    assert!(gateway.send(with_key(Ask::get("/x"), "key-bob")).await.is_hit());
}

/// RFC 9111 3.5 holds although the source never sees the field.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_what_came_with_authorization_is_shared_by_the_sources_word_only() {
    let source = ScriptedSource::start().await;
    source.always("/own", Reply::ok("x").cache_control("max-age=60"));
    source.always("/all", Reply::ok("x").cache_control("public, max-age=60"));
    let gateway = guarded(&source, &door("key_field = \"Authorization\""), "").await;
    for (path, shared) in [("/own", false), ("/all", true)] {
        for again in [false, true] {
            let ask = Ask::get(path).field("Authorization", "bearer key-ada");
            assert_eq!(gateway.send(ask).await.is_hit(), again && shared, "{path}");
        }
        assert_eq!(source.received(path)[0].fields.get("Authorization"), None);
    }
    assert_eq!(gateway.get("/all").await.field("WWW-Authenticate"), "Bearer realm=\"tidegate\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_count_whom_they_let_in_apart() {
    let source = telling_source().await;
    let limit = "[[route.limit]]\nname = \"per-name\"\nrequests = 2\nper = \"1h\"\nkey = \"identity\"\n";
    let gateway = guarded(&source, &door(""), limit).await;
    for (key, status) in [
        ("key-ada", 200),
        ("key-ada", 200),
        ("key-ada", 429),
        ("key-bob", 200),
        ("x", 401),
        ("x", 401),
        ("x", 429),
    ] {
        assert_eq!(gateway.send(with_key(Ask::get("/x"), key)).await.status, status, "{key}");
    }
    assert_eq!(
        gateway.send(with_key(Ask::get("/x"), "key-bob")).await.status,
        200,
        "guesses cost nobody else"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_an_idempotency_key_of_one_is_not_anothers() {
    let (source, destination) =
        (ScriptedSource::start().await, crate::support::RecordingDestination::start().await);
    let count = std::sync::atomic::AtomicUsize::new(0);
    source.on("*", move |_| Reply::ok(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string()));
    let text = format!(
        "{}{}{}{EVERYTHING}access = \"door\"\n{}",
        source.table(),
        destination.table("search"),
        door(""),
        crate::support::SYNC
    );
    let gateway = Setup::new(text).start().await;
    for (key, answered) in [("key-ada", "0"), ("key-bob", "1"), ("key-ada", "0")] {
        let write = with_key(Ask::put("/x", "1"), key).field("Idempotency-Key", "\"k\"");
        assert_eq!(gateway.send(write).await.text(), answered, "{key}");
    }
}

/// What no key holds is removed, or held by the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_field_that_a_route_lets_through_is_part_of_its_key() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| {
        let field = |name| request.fields.get(name).unwrap_or("-").to_owned();
        Reply::ok(format!("{} {}", field("X-Original-URL"), field("X-Rewrite-URL")))
            .cache_control("max-age=60")
    });
    for (route, said) in [("", "- -"), ("let_through = [\"X-Original-URL\"]\n", "/admin -")] {
        let gateway = crate::support::gateway_for(&source, route).await;
        let poisoned = || Ask::get("/x").field("X-Original-URL", "/admin").field("X-Rewrite-URL", "/admin");
        assert_eq!(gateway.send(poisoned()).await.text(), said);
        let clean = gateway.get("/x").await;
        assert_eq!((clean.text().as_str(), clean.is_hit()), ("- -", route.is_empty()));
        assert!(gateway.send(poisoned()).await.is_hit());
    }
}
