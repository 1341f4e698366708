//! Who is served when: routes in turn, a destination in trouble and its neighbours (I4), new ones, removed
//! ones, and one that falls too far behind.

mod left;

use crate::support::{
    Delivery, Gate, Gateway, RecordingDestination, Reply, ScriptedSource, Setup, Step, answers_within,
    eventually, obliging_source,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A route of its own below a path.
fn route(name: &str, destinations: &[&str]) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\npath = \"/{name}/{{*rest}}\"\nsource = \"inventory\"\n\
         [route.sync]\ndestinations = {destinations:?}\n"
    )
}

/// A destination that takes requests and never answers.
async fn black_hole() -> RecordingDestination {
    let (hole, never) = (RecordingDestination::start().await, Gate::closed());
    hole.answer(move |_| Reply::none(Step::Wait(never.clone())));
    hole
}

fn tables(source: &ScriptedSource, destinations: &[String], routes: &[String]) -> String {
    [source.table(), destinations.concat(), routes.concat()].concat()
}

/// Writes of many keys, many at once.
async fn write_all(gateway: &Gateway, paths: Vec<String>, body: &str) {
    for some in paths.chunks(64) {
        let writes = some.iter().map(|path| gateway.put(path, body));
        let answers = futures_util::future::join_all(writes).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    }
}

async fn lag(gateway: &Gateway, name: &str) -> f64 {
    gateway.destination(name).await["lag_seconds"].as_f64().unwrap()
}

async fn state(gateway: &Gateway, name: &str) -> String {
    gateway.destination(name).await["state"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_route_with_very_many_waiting_changes_delays_another_by_its_share_only() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let table = format!("{}concurrency = 1\n", destination.table("search"));
    let routes = ["busy", "quiet"].map(|name| route(name, &["search"]));
    let gateway = Setup::new(tables(&source, &[table], &routes)).start().await;
    gateway.admin_post("/v1/destinations/search/pause", &serde_json::json!({})).await;
    write_all(&gateway, (0..2500).map(|number| format!("/busy/{number}")).collect(), "x").await;
    write_all(&gateway, (0..50).map(|number| format!("/quiet/{number}")).collect(), "x").await;
    gateway.admin_post("/v1/destinations/search/resume", &serde_json::json!({})).await;
    let is_quiet = |delivery: &Delivery| delivery.key.starts_with("/quiet/");
    let all = destination
        .deliveries
        .until("all of the quiet route arrive", |all| all.iter().filter(|one| is_quiet(one)).count() == 50)
        .await;
    let last = all.iter().rposition(is_quiet).unwrap();
    assert!(last < 250, "the last of the quiet route came as number {last} of 2550");
    let arrived = answers_within(Duration::from_mins(5), async || destination.state().len() == 2550).await;
    assert!(arrived, "{} of 2550 have arrived", destination.state().len());
    assert!(destination.deliveries.all().iter().all(|delivery| delivery.attempt == 1), "and each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_the_lag_of_a_black_hole_grows_by_itself_and_its_neighbour_has_none() {
    let source = obliging_source().await;
    let (hole, good) = (black_hole().await, RecordingDestination::start().await);
    let both = [route("items", &["hole", "good"])];
    let text = tables(&source, &[hole.table("hole"), good.table("good")], &both);
    let gateway = Setup::new(text).start().await;
    gateway.put("/items/1", "x").await;
    good.wait_for(1).await;
    eventually("the good one has it", async || gateway.destination("good").await["in_flight"] == 0).await;
    // From here on nothing happens but that time passes.
    let first = lag(&gateway, "hole").await;
    eventually("lag grows", async || lag(&gateway, "hole").await >= first + 1.0).await;
    assert!(lag(&gateway, "good").await < f64::EPSILON);
    let scraped = gateway.admin_get("/metrics").await.text();
    let figure = |name: &str| -> f64 {
        let label = format!("tidegate_destination_lag_seconds{{destination=\"{name}\"}} ");
        scraped.lines().find_map(|line| line.strip_prefix(&label)).unwrap().parse().unwrap()
    };
    assert!(figure("hole") >= first + 1.0, "computed when scraped");
    assert!(figure("good") < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrency_begins_at_one_and_grows_to_its_bound() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let text = tables(&source, &[destination.table("search")], &[route("items", &["search"])]);
    let gateway = Setup::new(text).start().await;
    assert_eq!(gateway.destination("search").await["concurrency"], 1);
    write_all(&gateway, (0..100).map(|number| format!("/items/{number}")).collect(), "x").await;
    eventually("it has grown", async || gateway.destination("search").await["concurrency"] == 16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_destination_starts_at_the_oldest_kept_change_where_that_is_wanted() {
    let source = obliging_source().await;
    let (old, new) = (RecordingDestination::start().await, RecordingDestination::start().await);
    let late = RecordingDestination::start().await;
    let before = [route("items", &["old"]), route("other", &["old"])];
    let setup = Setup::new(tables(&source, &[old.table("old")], &before));
    let gateway = setup.start().await;
    for body in ["1", "2", "3"] {
        gateway.put("/items/1", body).await;
        gateway.put("/other/1", body).await;
    }
    old.wait_for(6).await;
    assert!(gateway.terminate().await.status.success());
    let from_now = format!("{}from = \"now\"\n", late.table("late"));
    let from_retention = format!("{}from = \"retention\"\n", new.table("new"));
    let after = [route("items", &["old", "new", "late"]), route("other", &["old"])];
    let gateway =
        setup.rest(tables(&source, &[old.table("old"), from_retention, from_now], &after)).start().await;
    gateway.put("/items/1", "4").await;
    let all = new.wait_for(4).await;
    let bodies: Vec<_> = all.iter().map(|delivery| delivery.request.text()).collect();
    assert_eq!(bodies, ["1", "2", "3", "4"], "of its own route, in order, live ones behind");
    assert_eq!(all[0].id, old.deliveries.all()[0].id, "the same changes");
    let shown = gateway.admin_get(&format!("/v1/changes/{}", all[0].id)).await.json();
    assert!(shown["deliveries"].as_array().unwrap().iter().any(|it| it["destination"] == "new"), "{shown}");
    late.wait_for_body("4").await;
    assert_eq!(late.deliveries.all().len(), 1);
    eventually("nothing waits", async || gateway.destination("new").await["pending"] == 0).await;
    assert_eq!((new.deliveries.all().len(), old.deliveries.all().len()), (4, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_removed_destination_is_kept_until_it_is_back() {
    let source = obliging_source().await;
    let (kept, gone) = (RecordingDestination::start().await, RecordingDestination::start().await);
    let is_back = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_back);
    gone.answer(move |_| Reply::new(if flag.load(Ordering::SeqCst) { 200 } else { 503 }, ""));
    let tables_of_both = [kept.table("kept"), gone.table("gone")];
    let both = tables(&source, &tables_of_both, &[route("items", &["kept", "gone"])]);
    let one = tables(&source, &[kept.table("kept")], &[route("items", &["kept"])]);
    // What is delivered goes at once, what is not stays.
    let setup = Setup::new(both.clone()).sync("retention = \"0s\"");
    let gateway = setup.start().await;
    let id = gateway.put("/items/1", "1").await.field("Tidegate-Change").to_owned();
    gateway.put("/items/1", "2").await;
    gone.wait_for(1).await;
    assert!(gateway.terminate().await.status.success());

    let setup = setup.rest(one);
    let gateway = setup.start().await;
    let shown = gateway.destination("gone").await;
    assert_eq!((shown["state"].as_str(), shown["pending"].as_u64()), (Some("disabled"), Some(2)), "{shown}");
    assert!(shown["lag_seconds"].as_f64() > Some(0.0), "it ages");
    let other = gateway.put("/items/2", "x").await.field("Tidegate-Change").to_owned();
    eventually("what all have is forgotten", async || gateway.change_state(&other).await.is_empty()).await;
    assert_eq!(gateway.change_state(&id).await, "committed");
    let ended = gateway.terminate().await;
    assert!(ended.stderr.contains("not configured any more"), "{}", ended.stderr);

    is_back.store(true, Ordering::SeqCst);
    let gateway = setup.rest(both).start().await;
    let all = gone.wait_for_body("2").await;
    let taken: Vec<_> = all.iter().filter(|it| it.answered == 200).map(|it| it.request.text()).collect();
    assert_eq!(taken, ["1", "2"]);
    eventually("it runs", async || gateway.destination("gone").await["pending"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_removed_destination_is_given_up_where_that_is_wanted() {
    let source = obliging_source().await;
    let (kept, gone) = (RecordingDestination::start().await, RecordingDestination::start().await);
    gone.answer(|_| Reply::new(503, ""));
    let both =
        tables(&source, &[kept.table("kept"), gone.table("gone")], &[route("items", &["kept", "gone"])]);
    let one = tables(&source, &[kept.table("kept")], &[route("items", &["kept"])]);
    let setup = Setup::new(both).sync("removed = \"drop\"");
    let gateway = setup.start().await;
    gateway.put("/items/1", "1").await;
    gone.wait_for(1).await;
    assert!(gateway.terminate().await.status.success());
    let gateway = setup.rest(one).start().await;
    let all = gateway.admin_get("/v1/destinations").await.json();
    let names: Vec<_> = all["destinations"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(gateway.metric("tidegate_deliveries_dropped_total{destination=\"gone\"}").await, 1);
    eventually("it is told", async || gateway.log_text().contains("has been given up")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_destination_beyond_its_backlog_is_detached_and_the_others_go_on() {
    let source = obliging_source().await;
    let (hole, good) = (RecordingDestination::start().await, RecordingDestination::start().await);
    let is_mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_mended);
    hole.answer(move |_| Reply::new(if flag.load(Ordering::SeqCst) { 200 } else { 503 }, ""));
    let small = format!("{}backlog = \"256KiB\"\n", hole.table("hole"));
    let both = [route("items", &["hole", "good"])];
    let setup = Setup::new(tables(&source, &[small, good.table("good")], &both)).sync("retention = \"0s\"");
    let gateway = setup.start().await;
    let body = "x".repeat(16 * 1024);
    let first = gateway.put("/items/first", &body).await.field("Tidegate-Change").to_owned();
    write_all(&gateway, (0..8).map(|number| format!("/items/{number}")).collect(), &body).await;
    good.wait_for(9).await;
    assert_ne!(state(&gateway, "hole").await, "detached", "within its backlog");
    assert_eq!(gateway.change_state(&first).await, "committed", "what it has not got is kept");
    write_all(&gateway, (8..24).map(|number| format!("/items/{number}")).collect(), &body).await;
    eventually("it is detached", async || state(&gateway, "hole").await == "detached").await;
    good.wait_for(25).await;
    eventually("nothing is kept for it", async || gateway.change_state(&first).await.is_empty()).await;
    assert_eq!(gateway.destination("hole").await["pending"], 0);
    eventually("a metric says so", async || {
        gateway.metric("tidegate_destination_detached{destination=\"hole\"}").await == 1
    })
    .await;
    let ended = gateway.terminate().await;
    assert!(ended.stderr.contains("a destination is detached"), "{}", ended.stderr);

    is_mended.store(true, Ordering::SeqCst);
    let gateway = setup.start().await;
    assert_eq!(state(&gateway, "hole").await, "detached", "it stays so over a restart");
    gateway.put("/items/missed", "missed").await;
    good.wait_for_body("missed").await;
    let before = hole.deliveries.all().len();
    gateway.admin_post("/v1/destinations/hole/resume", &serde_json::json!({})).await;
    eventually("it runs", async || state(&gateway, "hole").await == "running").await;
    gateway.put("/items/next", "next").await;
    hole.wait_for_body("next").await;
    assert_eq!(hole.deliveries.all().len(), before + 1, "from now on, and nothing of before");
}
