//! Destinations that come, change and go while the gateway runs.

use super::{reload, status};
use crate::support::{
    EVERYTHING, Gate, Gateway, RecordingDestination, Reply, ScriptedSource, Setup, Step, eventually,
    obliging_source,
};
use serde_json::json;

fn synced_to(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("{EVERYTHING}[route.sync]\ndestinations = [{}]\n", quoted.join(", "))
}

async fn settled(gateway: &Gateway, name: &str) {
    eventually("all is delivered", async || {
        let told = gateway.destination(name).await;
        told["pending"] == 0 && told["in_flight"] == 0
    })
    .await;
}

/// The bodies that a destination took, in order.
fn bodies(destination: &RecordingDestination) -> Vec<String> {
    let taken = destination.deliveries.all().into_iter().filter(|delivery| delivery.answered == 200);
    taken.map(|delivery| delivery.request.text()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_starts_when_a_route_syncs_and_goes_on_when_none_does() {
    let (source, search) = (obliging_source().await, RecordingDestination::start().await);
    let plain = format!("{}{EVERYTHING}", source.table());
    let setup = Setup::new(plain.clone());
    let gateway = setup.start().await;
    assert_eq!(gateway.put("/items/1", "unsynced").await.field("Tidegate-Change"), "");
    let synced = format!("{}{}{}", source.table(), search.table("search"), synced_to(&["search"]));
    let setup = reload(&gateway, setup, synced.clone()).await;
    assert_ne!(gateway.put("/items/1", "one").await.field("Tidegate-Change"), "");
    search.wait_for_body("one").await;
    gateway.admin_post("/v1/destinations/search/pause", &json!({})).await;
    gateway.put("/items/1", "two").await;
    // No route syncs any more: what waits for a destination that is still there is delivered all the same.
    let setup =
        reload(&gateway, setup, format!("{}{}{EVERYTHING}", source.table(), search.table("search"))).await;
    assert_eq!(gateway.put("/items/1", "unsynced").await.field("Tidegate-Change"), "");
    gateway.admin_post("/v1/destinations/search/resume", &json!({})).await;
    search.wait_for_body("two").await;
    reload(&gateway, setup, synced).await;
    gateway.put("/items/1", "three").await;
    search.wait_for_body("three").await;
    assert_eq!(bodies(&search), ["one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_added_gets_what_comes_and_the_others_are_not_disturbed() {
    let (source, search, other) =
        (obliging_source().await, RecordingDestination::start().await, RecordingDestination::start().await);
    let one = format!("{}{}{}", source.table(), search.table("search"), synced_to(&["search"]));
    let setup = Setup::new(one);
    let gateway = setup.start().await;
    gateway.put("/items/1", "before").await;
    search.wait_for_body("before").await;
    let tables = format!("{}{}{}", source.table(), search.table("search"), other.table("other"));
    let setup = reload(&gateway, setup, format!("{tables}{}", synced_to(&["search", "other"]))).await;
    gateway.put("/items/1", "after").await;
    other.wait_for_body("after").await;
    search.wait_for_body("after").await;
    assert_eq!(
        (bodies(&search), bodies(&other)),
        (vec!["before".into(), "after".into()], vec!["after".to_owned()])
    );
    assert_eq!(search.connections(), 1, "its connection is the same");
    // `from = "retention"`: what is kept of its routes is delivered first.
    let late = RecordingDestination::start().await;
    let tables = format!("{tables}{}from = \"retention\"\n", late.table("late"));
    reload(&gateway, setup, format!("{tables}{}", synced_to(&["search", "other", "late"]))).await;
    gateway.put("/items/1", "last").await;
    late.wait_for_body("last").await;
    assert_eq!(bodies(&late), ["before", "after", "last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_settings_count_from_the_next_attempt_and_a_pause_stays() {
    let (source, old, new) =
        (obliging_source().await, RecordingDestination::start().await, RecordingDestination::start().await);
    let gate = Gate::closed();
    let wait = gate.clone();
    old.answer(move |_| Reply::ok("").after(Step::Wait(wait.clone())));
    let with = |table: &str| format!("{}{table}{}", source.table(), synced_to(&["search"]));
    let setup = Setup::new(with(&old.table("search")));
    let gateway = setup.start().await;
    gateway.put("/items/1", "one").await;
    old.wait_for(1).await;
    gateway.put("/items/1", "two").await;
    // The attempt under way ends where it began; the next one goes to the other place, with the other field.
    let changed = format!("{}headers = {{ x-new = \"yes\" }}\n", new.table("search"));
    let setup = reload(&gateway, setup, with(&changed)).await;
    gate.open();
    let got = new.wait_for_body("two").await;
    assert_eq!(got[0].request.fields.get("x-new"), Some("yes"));
    assert_eq!((bodies(&old), bodies(&new)), (vec!["one".to_owned()], vec!["two".to_owned()]));
    gateway.admin_post("/v1/destinations/search/pause", &json!({})).await;
    gateway.put("/items/1", "three").await;
    let setup = reload(&gateway, setup, with(&format!("{changed}timeout = \"9s\"\n"))).await;
    assert_eq!(gateway.destination("search").await["state"], "paused");
    // Another `on_failure` sorts what waits anew; it stays paused.
    let setup = reload(&gateway, setup, with(&format!("{changed}on_failure = \"skip\"\n"))).await;
    eventually("its worker tells its state", async || {
        gateway.destination("search").await["state"] == "paused"
    })
    .await;
    assert_eq!(new.deliveries.all().len(), 1);
    gateway.admin_post("/v1/destinations/search/resume", &json!({})).await;
    new.wait_for_body("three").await;
    // A refusal: the breaker that it opens stays open over a reload, and a dead letter parks or not as is said now.
    new.answer(|_| Reply::new(422, ""));
    gateway.put("/items/1", "dead").await;
    eventually("a dead letter", async || gateway.destination("search").await["dead_letters"] == 1).await;
    new.answer(|_| Reply::ok(""));
    reload(&gateway, setup, with(&changed)).await;
    gateway.put("/items/1", "behind").await;
    eventually("parked behind what is dead", async || {
        gateway.destination("search").await["parked_keys"] == 1
    })
    .await;
    gateway.admin_post("/v1/dead-letters/redrive", &json!({ "destination": "search" })).await;
    new.wait_for_body("behind").await;
    assert_eq!(bodies(&new), ["two", "three", "dead", "behind"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_that_is_open_stays_open() {
    let (source, search) = (obliging_source().await, RecordingDestination::start().await);
    search.answer(|_| Reply::new(503, ""));
    let with = |more: &str| {
        let table = search.table("search");
        let breaker = "breaker = { failures = 2, open = \"1h\", open_cap = \"1h\" }\n";
        format!("{}{table}{breaker}{more}{}", source.table(), synced_to(&["search"]))
    };
    let setup = Setup::new(with(""));
    let gateway = setup.start().await;
    gateway.put("/items/1", "one").await;
    eventually("it opens", async || gateway.destination("search").await["breaker"] == "open").await;
    let attempts = search.deliveries.all().len();
    reload(&gateway, setup, with("timeout = \"9s\"\nconcurrency = 2\n")).await;
    let shown = gateway.destination("search").await;
    assert_eq!((&shown["breaker"], &shown["state"]), (&json!("open"), &json!("held")));
    assert_eq!(search.deliveries.all().len(), attempts);
    search.answer(|_| Reply::ok(""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_what_waits_for_a_destination_that_goes_is_delivered_also_if_it_comes_back_in_between() {
    let (source, search) = (obliging_source().await, RecordingDestination::start().await);
    let gate = Gate::closed();
    let wait = gate.clone();
    search.answer(move |_| Reply::ok("").after(Step::Wait(wait.clone())));
    let with = format!("{}{}{}", source.table(), search.table("search"), synced_to(&["search"]));
    let without = format!("{}{EVERYTHING}", source.table());
    let setup = Setup::new(with.clone());
    let gateway = setup.start().await;
    for body in ["1", "2", "3"] {
        gateway.put("/items/1", body).await;
    }
    search.wait_for(1).await;
    let setup = reload(&gateway, setup, without.clone()).await;
    eventually("it is said", async || gateway.log_text().contains("is still delivered")).await;
    assert_eq!(gateway.put("/items/1", "unsynced").await.field("Tidegate-Change"), "");
    // It comes back while the attempt of before is under way: nothing of its key begins beside it.
    let setup = reload(&gateway, setup, with.clone()).await;
    gateway.put("/items/1", "4").await;
    assert_eq!(search.deliveries.all().len(), 1, "one of a key at a time");
    gate.open();
    settled(&gateway, "search").await;
    assert_eq!(bodies(&search), ["1", "2", "3", "4"]);
    // Gone in an outage, and not back: it gets what waits for it, and then nobody delivers to it any more.
    search.answer(|_| Reply::new(503, ""));
    gateway.put("/items/1", "5").await;
    search.wait_for(5).await;
    let setup = reload(&gateway, setup, without).await;
    eventually("it waits", async || gateway.destination("search").await["pending"] == 1).await;
    assert_eq!(gateway.put("/items/1", "unsynced").await.field("Tidegate-Change"), "");
    search.answer(|_| Reply::ok(""));
    search.wait_for_body("5").await;
    eventually("its worker has ended", async || gateway.destination("search").await["state"] == "disabled")
        .await;
    eventually("it is told", async || gateway.log_text().contains("nothing waits for it any more")).await;
    // Back once more.
    reload(&gateway, setup, with).await;
    gateway.put("/items/1", "6").await;
    search.wait_for_body("6").await;
    assert_eq!(bodies(&search), ["1", "2", "3", "4", "5", "6"]);
}

/// What drains is given up by a later word, and told rightly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_drains_can_still_be_given_up_and_is_an_operators_as_before() {
    let (source, search) = (obliging_source().await, RecordingDestination::start().await);
    let with = format!("{}{}{}", source.table(), search.table("search"), synced_to(&["search"]));
    let without = format!("{}{EVERYTHING}", source.table());
    let setup = Setup::new(with);
    let gateway = setup.start().await;
    // What it has had already is none of what is left.
    for number in 0..3 {
        gateway.put(&format!("/items/{number}"), "had").await;
    }
    settled(&gateway, "search").await;
    gateway.admin_post("/v1/destinations/search/pause", &json!({})).await;
    gateway.put("/items/1", "lost").await;
    gateway.put("/items/2", "lost").await;
    let setup = reload(&gateway, setup, without.clone()).await;
    eventually("it is said", async || gateway.log_text().contains("\"waiting\":2")).await;
    assert_eq!(gateway.destination("search").await["state"], "paused");
    assert_eq!(gateway.admin_post("/v1/destinations/search/pause", &json!({})).await.status, 200);
    reload(&gateway, setup.sync("removed = \"drop\""), without).await;
    eventually("it is given up", async || {
        gateway.metric("tidegate_deliveries_dropped_total{destination=\"search\"}").await == 2
    })
    .await;
    let all = gateway.admin_get("/v1/destinations").await.json();
    assert_eq!(all["destinations"], json!([]));
    assert_eq!(search.deliveries.all().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_destination_that_goes_is_given_up_where_that_is_said() {
    let (source, search) = (obliging_source().await, RecordingDestination::start().await);
    search.answer(|delivery| Reply::new(if delivery.request.text() == "bad" { 400 } else { 503 }, ""));
    let table = format!("{}breaker = {{ failures = 1, open = \"30s\" }}\n", search.table("search"));
    let with = format!("{}{table}{}", source.table(), synced_to(&["search"]));
    let setup = Setup::new(with.clone()).sync("removed = \"drop\"");
    let gateway = setup.start().await;
    gateway.put("/items/0", "bad").await;
    gateway.put("/items/0", "parked").await;
    search.wait_for(1).await;
    gateway.put("/items/1", "lost").await;
    search.wait_for(2).await;
    eventually("the gauges tell of it", async || told(&gateway).await == [1, 1, 1, 2, 1]).await;
    let setup = reload(&gateway, setup, format!("{}{EVERYTHING}", source.table())).await;
    eventually("it is given up and counted", async || {
        gateway.metric("tidegate_deliveries_dropped_total{destination=\"search\"}").await == 3
    })
    .await;
    eventually("no gauge tells of it any more", async || told(&gateway).await == [0; 5]).await;
    let all = gateway.admin_get("/v1/destinations").await.json();
    assert_eq!(all["destinations"], json!([]));
    search.answer(|_| Reply::ok(""));
    reload(&gateway, setup, with).await;
    gateway.put("/items/1", "new").await;
    search.wait_for_body("new").await;
    assert_eq!(bodies(&search), ["new"]);
}

/// Of `search`: dead letters, what waits, parked keys, the breaker, whether it is held.
async fn told(gateway: &Gateway) -> [u64; 5] {
    let names =
        ["dead_letters", "destination_pending", "destination_parked_keys", "destination_breaker_state"];
    let mut told = [0; 5];
    for (told, name) in told.iter_mut().zip(names.into_iter().chain(["destination_held"])) {
        *told = gateway.metric(&format!("tidegate_{name}{{destination=\"search\"}}")).await;
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_for_a_source_that_goes_is_sent_when_it_comes_back() {
    let (source, other) = (ScriptedSource::start().await, ScriptedSource::start().await);
    source.always("*", Reply::new(503, ""));
    other.always("*", Reply::ok("x"));
    let search = RecordingDestination::start().await;
    let retry = "retry = { base = \"100ms\", cap = \"200ms\" }\n";
    let with = |more: &str| {
        let route = format!("{}mode = \"accept\"\n", synced_to(&["search"]));
        format!("{}{retry}{more}{}{route}", source.table(), search.table("search"))
    };
    let away = format!(
        "{}{}[[route]]\nname = \"items\"\npath = \"/{{*rest}}\"\nsource = \"other\"\n",
        other.table().replace("inventory", "other"),
        search.table("search"),
    );
    let setup = Setup::new(with(""));
    let gateway = setup.start().await;
    assert_eq!(gateway.put("/items/1", "one").await.status, 202);
    source.wait_for("/items/1", 1).await;
    let setup = reload(&gateway, setup, away).await;
    assert_eq!(status(&gateway, "/items/1").await, 200);
    eventually("it is said", async || {
        gateway.log_text().contains("accepted changes wait for a source that is not configured any more")
    })
    .await;
    let waiting = "tidegate_accepted_waiting{source=\"inventory\"}";
    assert_eq!(gateway.metric(waiting).await, 1, "what waits for it stays in sight");
    source.always("*", Reply::ok(""));
    let setup = reload(&gateway, setup, with("")).await;
    search.wait_for_body("one").await;
    // Other settings of a source count for what is accepted, too.
    reload(&gateway, setup, with("concurrency = 2\n")).await;
    assert_eq!(gateway.put("/items/1", "two").await.status, 202);
    search.wait_for_body("two").await;
    assert_eq!(bodies(&search), ["one", "two"]);
}

/// Dead letters of what is not configured any more are listed, and who acts on them is told what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_what_went_say_what_to_do() {
    let (source, refusing) = (obliging_source().await, ScriptedSource::start().await);
    refusing.always("*", Reply::new(403, "no"));
    let search = RecordingDestination::start().await;
    search.answer(|_| Reply::new(400, "no"));
    let other = refusing.table().replace("inventory", "other");
    let accepting = "[[route]]\nname = \"accepting\"\npath = \"/accepted/{*rest}\"\nsource = \"other\"\n\
                     [route.sync]\nmode = \"accept\"\ndestinations = [\"index\"]\n";
    let setup = Setup::new(format!(
        "{}{other}{}{}{accepting}{}",
        source.table(),
        search.table("index"),
        search.table("search"),
        synced_to(&["search"])
    ));
    let gateway = setup.start().await;
    gateway.put("/items/1", "x").await;
    gateway.put("/accepted/1", "x").await;
    let listed = async || gateway.admin_get("/v1/dead-letters").await.json()["dead_letters"].clone();
    eventually("two are dead", async || listed().await.as_array().map(Vec::len) == Some(2)).await;
    reload(&gateway, setup, format!("{}{EVERYTHING}", source.table())).await;
    eventually("it is not configured", async || gateway.destination("search").await["state"] == "disabled")
        .await;
    let letters = listed().await;
    for which in [
        json!({"destination": "search"}),
        json!({"source": "other"}),
        json!({"change": letters[0]["change"]}),
        json!({"change": letters[1]["change"]}),
    ] {
        for call in ["redrive", "discard"] {
            let told = gateway.admin_post(&format!("/v1/dead-letters/{call}"), &which).await;
            told.assert_problem(409);
            assert!(told.text().contains("configure it again"), "{which}: {}", told.text());
        }
    }
    gateway.admin_post("/v1/destinations/search/resume", &json!({})).await.assert_problem(409);
    gateway.admin_post("/v1/replay", &json!({"destination": "search"})).await.assert_problem(409);
    gateway.admin_post("/v1/dead-letters/redrive", &json!({"source": "nobody"})).await.assert_problem(404);
}

/// What one address has been sent says nothing of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_state_that_was_delivered_elsewhere_is_sent_to_another_address() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("state"));
    let (before, after) = (RecordingDestination::start().await, RecordingDestination::start().await);
    let rest = |to: &RecordingDestination, rate: &str| {
        format!(
            "{}{}format = \"state\"\n{rate}\n{}",
            source.table(),
            to.table("search"),
            synced_to(&["search"])
        )
    };
    // After the first delivery nothing is done until the address is another.
    let setup = Setup::new(rest(&before, "rate = { requests = 1, per = \"10m\" }"));
    let gateway = setup.start().await;
    gateway.admin_post("/v1/destinations/search/pause", &json!({})).await;
    for _ in 0..3 {
        assert_eq!(gateway.put("/items/7", "x").await.status, 200);
    }
    gateway.admin_post("/v1/destinations/search/resume", &json!({})).await;
    before.wait_for(1).await;
    reload(&gateway, setup, rest(&after, "")).await;
    after.wait_for(1).await;
    settled(&gateway, "search").await;
    assert_eq!((before.deliveries.all().len(), after.deliveries.all().len()), (1, 1));
}
