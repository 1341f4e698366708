//! Who gets a place toward a source: clients before what nobody waits for, and how many there are.

use super::{becomes, gateway_of, metric, nothing_is_left};
use crate::support::{Ask, Gate, Gateway, Reply, ScriptedSource, Step, eventually};
use futures_util::future::join_all;

async fn validations(gateway: &Gateway, result: &str) -> f64 {
    let labels = ["cause=\"stale\"", &format!("result=\"{result}\"")];
    metric(gateway, "tidegate_background_validations_total", &labels).await
}

/// The shedding order toward a source: what a hit begins takes no place that a client could have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_validations_in_the_background_begin_only_where_a_place_is_free_and_nobody_waits() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("/stale", Reply::ok("old").cache_control("max-age=0, stale-while-revalidate=60"));
    source.always("/held", Reply::ok("held").cache_control("no-store").after(Step::Wait(gate.clone())));
    source.always("/next", Reply::ok("next").cache_control("no-store"));
    let gateway = gateway_of(&[&source.url()], "concurrency = 1", "").await;
    assert_eq!(gateway.get("/stale").await.text(), "old");
    becomes(&gateway, "tidegate_source_in_flight", &[], 0.0).await;

    // The place is taken, and then somebody waits for it: the hits are served, and nothing is begun.
    let held = tokio::spawn(Ask::get("/held").send(gateway.public));
    source.wait_for("/held", 1).await;
    let stale_hits = async |count: usize| {
        let hits = join_all((0..count).map(|_| gateway.get("/stale"))).await;
        assert!(hits.iter().all(|hit| hit.is_hit() && hit.text() == "old"), "{hits:?}");
    };
    stale_hits(5).await;
    let next = tokio::spawn(Ask::get("/next").send(gateway.public));
    becomes(&gateway, "tidegate_source_waiting", &[], 1.0).await;
    stale_hits(5).await;
    assert!((validations(&gateway, "source-busy").await - 10.0).abs() < 0.5);
    becomes(&gateway, "tidegate_source_waiting", &[], 1.0).await;
    let requests = async || metric(&gateway, "tidegate_source_requests_total", &["reason=\"stale\""]).await;
    assert!(requests().await < 0.5, "what was not sent is not counted");

    gate.open();
    for (answer, text) in [(held, "held"), (next, "next")] {
        assert_eq!(answer.await.expect("a task").expect("an answer").text(), text);
    }
    assert_eq!(source.count("/stale"), 1, "nothing stood in front of the one that waited");
    becomes(&gateway, "tidegate_source_in_flight", &[], 0.0).await;
    // It does not rest: the next hit has it validated.
    stale_hits(1).await;
    source.wait_for("/stale", 2).await;
    nothing_is_left(&gateway).await;
}

/// A validation is no reason for anybody to fail: who asks while one is under way waits for a place, or follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_waits_for_the_place_that_a_validation_has() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let stale = || Reply::ok("old").cache_control("max-age=0, stale-while-revalidate=60");
    source.sequence("/stale", vec![stale(), stale().after(Step::Wait(gate.clone())), stale()]);
    source.always("/next", Reply::ok("next"));
    let gateway = gateway_of(&[&source.url()], "concurrency = 1", "").await;
    gateway.get("/stale").await;
    becomes(&gateway, "tidegate_source_in_flight", &[], 0.0).await;
    assert!(gateway.get("/stale").await.is_hit());
    source.wait_for("/stale", 2).await;
    let next = tokio::spawn(Ask::get("/next").send(gateway.public));
    becomes(&gateway, "tidegate_source_waiting", &[], 1.0).await;
    gate.open();
    assert_eq!(next.await.expect("a task").expect("an answer").text(), "next");
    nothing_is_left(&gateway).await;
}

/// The whole rule is a table and a simulation in `src/source/limit`; here it governs real places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_an_adaptive_limit_begins_low_grows_where_it_is_used_and_shrinks_on_failures() {
    const LIMIT: &str = "tidegate_source_concurrency_limit";
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("*", Reply::ok("good").cache_control("no-store"));
    source.always("/bad", Reply::new(503, "bad").cache_control("no-store"));
    source.always("/held", Reply::ok("").cache_control("no-store").after(Step::Wait(gate.clone())));
    let keys = "concurrency = 64\nconcurrency_mode = \"adaptive\"";
    let gateway = gateway_of(&[&source.url()], keys, "").await;
    becomes(&gateway, LIMIT, &[], 4.0).await;

    // More than there are places for wait, and are served in turn.
    let asked = (0..6).map(|number| Ask::get(&format!("/held?{number}")).send(gateway.public));
    let held: Vec<_> = asked.map(tokio::spawn).collect();
    becomes(&gateway, "tidegate_source_in_flight", &[], 4.0).await;
    becomes(&gateway, "tidegate_source_waiting", &[], 2.0).await;
    gate.open();
    for answer in held {
        assert_eq!(answer.await.expect("a task").expect("an answer").status, 200);
    }

    // The first window grows, whatever its times are. Few at once: it is looked at before the next one is full, which
    // may shrink again where this machine's own work makes the times rise with what is under way.
    eventually("it grows", async || {
        join_all((0..10).map(|number| gateway.send(Ask::get(&format!("/{number}"))))).await;
        metric(&gateway, LIMIT, &[]).await > 7.5
    })
    .await;
    eventually("it shrinks to one", async || {
        join_all((0..20).map(|_| gateway.get("/bad"))).await;
        metric(&gateway, LIMIT, &[]).await < 1.5
    })
    .await;
    // Nobody is lost meanwhile.
    let answers = join_all((0..100).map(|number| gateway.send(Ask::get(&format!("/{number}"))))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    nothing_is_left(&gateway).await;
}
