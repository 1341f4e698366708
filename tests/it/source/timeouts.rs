//! How long the head of an answer is waited for: the source's word, or the route's own.

use super::nothing_is_left;
use crate::support::{EVERYTHING, Gate, Reply, ScriptedSource, Setup, Step};

/// A gateway's tables: the source's timeout, and that of the route for `/own`.
fn tables(source: &ScriptedSource, timeout: &str, own: &str) -> String {
    let route = "[[route]]\nname = \"own\"\npath = \"/own\"\nsource = \"inventory\"";
    format!("{}timeout = \"{timeout}\"\n{route}\ntimeout = \"{own}\"\n{EVERYTHING}", source.table())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routes_own_timeout_counts_instead_of_its_sources() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("*", Reply::ok("late").after(Step::Wait(gate.clone())));

    // A shorter one: the test would not wait for the source's.
    let gateway = Setup::new(tables(&source, "60s", "100ms")).start().await;
    gateway.get("/own").await.assert_problem(504);
    nothing_is_left(&gateway).await;

    // A longer one: it outlasts the source's.
    let gateway = Setup::new(tables(&source, "100ms", "30s")).start().await;
    let own = tokio::spawn(crate::support::Ask::get("/own").send(gateway.public));
    source.wait_for("/own", 2).await;
    gateway.get("/other").await.assert_problem(504);
    gate.open();
    let own = own.await.expect("done").expect("an answer");
    assert_eq!((own.status, own.text().as_str()), (200, "late"));
    nothing_is_left(&gateway).await;
}
