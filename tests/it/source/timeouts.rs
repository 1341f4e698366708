//! How long the head of an answer is waited for: the source's word, or the route's own.

use super::nothing_is_left;
use crate::support::{EVERYTHING, Gate, Reply, ScriptedSource, Setup, Step};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routes_own_timeout_counts_instead_of_its_sources() {
    let source = ScriptedSource::start().await;
    let gate = Gate::closed();
    for path in ["/long", "/short", "/own"] {
        source.always(path, Reply::ok("late").after(Step::Wait(gate.clone())));
    }
    let route = |name: &str, timeout: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nsource = \"inventory\"\ntimeout = \"{timeout}\"\n"
        )
    };
    let text = format!(
        "{}timeout = \"1s\"\n{}{}{EVERYTHING}",
        source.table(),
        route("long", "30s"),
        route("short", "100ms")
    );
    let gateway = Setup::new(text).start().await;
    let (long, own) = tokio::join!(gateway.get("/long"), async {
        // The order of the two tells which time counted.
        let (short, own) = tokio::join!(gateway.get("/short"), gateway.get("/own"));
        short.assert_problem(504);
        gate.open();
        own
    });
    own.assert_problem(504);
    assert_eq!((long.status, long.text().as_str()), (200, "late"));
    nothing_is_left(&gateway).await;
}
