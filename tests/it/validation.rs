//! Validation with the source, and what is served stale instead.

use crate::support::{Ask, Reply, ScriptedSource, Step, eventually, gateway_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_response_is_validated_and_a_304_freshens_it() {
    for (path, stored, sent) in [
        ("/tagged", ("ETag", "\"v1\""), ("If-None-Match", "\"v1\"")),
        (
            "/dated",
            ("Last-Modified", "Mon, 02 Mar 2020 10:00:00 GMT"),
            ("If-Modified-Since", "Mon, 02 Mar 2020 10:00:00 GMT"),
        ),
    ] {
        let source = ScriptedSource::start().await;
        let stale =
            Reply::ok("body").cache_control("max-age=0").field(stored.0, stored.1).field("X-Turn", "1");
        let not_modified =
            Reply::new(304, "").cache_control("max-age=60").field(stored.0, stored.1).field("X-Turn", "2");
        source.sequence(path, vec![stale, not_modified]);
        let gateway = gateway_for(&source, "").await;
        gateway.get(path).await;
        let validated = gateway.get(path).await;
        assert_eq!((validated.status, validated.text().as_str()), (200, "body"), "{path}");
        assert!(validated.says("fwd=stale") && validated.says("fwd-status=304"), "{validated:?}");
        assert_eq!(source.received(path)[1].fields.get(sent.0), Some(sent.1));
        let hit = gateway.get(path).await;
        assert!(hit.is_hit() && hit.text() == "body", "{hit:?}");
        assert_eq!(hit.field("X-Turn"), "2", "RFC 9111 3.2: the 304 updates the stored fields");
        assert_eq!(source.count(path), 2);
    }
}

/// RFC 9111 5.2.2.4 and 4: what may be stored but not used unasked is validated each time, not sent anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_be_validated_is_stored_and_validated() {
    for control in ["no-cache", "no-cache, max-age=60", "max-age=0", "must-revalidate"] {
        let source = ScriptedSource::start().await;
        let whole = || Reply::ok("body").cache_control(control).field("ETag", "\"v1\"");
        let not_modified = || Reply::new(304, "").cache_control(control).field("ETag", "\"v1\"");
        source.sequence("/a", vec![whole(), not_modified(), not_modified()]);
        let gateway = gateway_for(&source, "").await;
        assert!(gateway.get("/a").await.says("stored"), "{control}");
        for _ in 0..2 {
            let validated = gateway.get("/a").await;
            assert_eq!((validated.status, validated.text().as_str()), (200, "body"), "{control}");
            assert!(validated.says("fwd-status=304"), "{control}: {validated:?}");
        }
        let conditions: Vec<_> = source
            .received("/a")
            .iter()
            .map(|one| one.fields.get("If-None-Match").map(str::to_owned))
            .collect();
        assert_eq!(conditions, [None, Some("\"v1\"".to_owned()), Some("\"v1\"".to_owned())], "{control}");
    }
}

/// RFC 9111 4.3.3: an error with freshness of its own does not take the place of what it was to validate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_never_replaces_what_is_served_in_its_place() {
    let source = ScriptedSource::start().await;
    let good = Reply::ok("good").cache_control("max-age=0, stale-if-error=600").field("ETag", "\"v1\"");
    let bad = || Reply::new(503, "bad").cache_control("max-age=600");
    source.sequence("/a", vec![good, bad(), bad(), Reply::ok("new").cache_control("max-age=60")]);
    let gateway = gateway_for(&source, "").await;
    assert_eq!(gateway.get("/a").await.text(), "good");
    for _ in 0..2 {
        let stale = gateway.get("/a").await;
        assert_eq!((stale.status, stale.text().as_str()), (200, "good"), "{stale:?}");
        assert!(stale.says("detail=stale-if-error"), "{stale:?}");
    }
    assert_eq!(gateway.get("/a").await.text(), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_conditions_are_answered_from_the_store() {
    let source = ScriptedSource::start().await;
    let modified = "Mon, 02 Mar 2020 10:00:00 GMT";
    source.always(
        "/a",
        Reply::ok("body")
            .cache_control("max-age=60")
            .field("ETag", "\"v1\"")
            .field("Last-Modified", modified),
    );
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    let later = "Tue, 03 Mar 2020 10:00:00 GMT";
    let earlier = "Sun, 01 Mar 2020 10:00:00 GMT";
    for (name, value, status) in [
        ("If-None-Match", "\"v1\"", 304),
        ("If-None-Match", "W/\"v1\"", 304),
        ("If-None-Match", "\"v0\", \"v1\"", 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"v0\"", 200),
        ("If-Modified-Since", modified, 304),
        ("If-Modified-Since", later, 304),
        ("If-Modified-Since", earlier, 200),
    ] {
        let answer = gateway.send(Ask::get("/a").field(name, value)).await;
        assert_eq!(answer.status, status, "{name}: {value}");
        assert_eq!(answer.field("ETag"), "\"v1\"", "{name}: {value}");
        assert_eq!(answer.body.is_empty(), status == 304);
    }
    assert_eq!(source.count("/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_response_covers_for_a_failing_source_unless_forbidden() {
    let source = ScriptedSource::start().await;
    let failures = [
        ("/status", Reply::new(503, "down")),
        ("/reset", Reply::none(Step::Reset)),
        ("/closed", Reply::none(Step::Cut)),
    ];
    for (path, failure) in &failures {
        let stale = Reply::ok("kept").cache_control("max-age=0, stale-if-error=60");
        source.sequence(path, vec![stale, failure.clone()]);
    }
    let forbidden = Reply::ok("kept").cache_control("max-age=0, must-revalidate, stale-if-error=60");
    source.sequence("/forbidden", vec![forbidden, Reply::new(503, "down")]);
    let gateway = gateway_for(&source, "").await;
    for (path, _) in &failures {
        gateway.get(path).await;
        let stale = gateway.get(path).await;
        assert_eq!((stale.status, stale.text().as_str()), (200, "kept"), "{path}");
        assert!(
            stale.says("fwd=stale") && stale.says("detail=stale-if-error") && !stale.is_hit(),
            "{stale:?}"
        );
    }
    gateway.get("/forbidden").await;
    let refused = gateway.get("/forbidden").await;
    assert!(refused.status >= 500, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_while_revalidate_answers_at_once_and_renews_in_the_background() {
    let source = ScriptedSource::start().await;
    let old = Reply::ok("old").cache_control("max-age=0, stale-while-revalidate=60");
    source.sequence("/a", vec![old, Reply::ok("new").cache_control("max-age=60")]);
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    let stale = gateway.get("/a").await;
    assert!(
        stale.is_hit() && stale.text() == "old" && stale.says("detail=stale-while-revalidate"),
        "{stale:?}"
    );
    eventually("the new response is served", async || gateway.get("/a").await.text() == "new").await;
    assert_eq!(source.count("/a"), 2);
}
