//! The rate of a destination: attempts are spaced, what waits for that is no failure.

use crate::support::{Delivery, EVERYTHING, RecordingDestination, Setup, eventually, obliging_source};
use std::time::Duration;
use tokio::time::Instant;

/// In no second more than ten, also after a restart; nothing is lost or counted for having waited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_spaces_attempts_also_after_a_restart() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let text = format!(
        "{}{}rate = {{ requests = 10, per = \"1s\" }}\n{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    let setup = Setup::new(text);
    let (gateway, mut began) = (setup.start().await, vec![(0, Instant::now())]);
    for number in 0..36 {
        gateway.put(&format!("/items/{number}"), "x").await;
    }
    eventually("lag grows", async || {
        gateway.destination("search").await["lag_seconds"].as_f64().is_some_and(|lag| lag > 0.5)
    })
    .await;
    assert_eq!(gateway.destination("search").await["state"], "running");
    destination.wait_for(12).await;
    gateway.terminate().await;
    began.push((destination.deliveries.all().len(), Instant::now()));
    let gateway = setup.start().await;
    let keys =
        |all: &[Delivery]| all.iter().map(|one| one.key.clone()).collect::<std::collections::BTreeSet<_>>();
    let all = destination.deliveries.until("all of them", |all| keys(all).len() == 36).await;
    // From before the first of each start: how long an attempt was on its way nobody knows, but none came early.
    for (sent, since) in began {
        for (steps, one) in (0..).zip(&all[sent..]) {
            let after = one.at - since;
            assert!(after > Duration::from_millis(95) * steps, "{steps} steps within {after:?}");
        }
    }
    assert!(all.iter().all(|one| one.attempt == 1), "waiting is no attempt");
    let took = all.last().unwrap().at - all[0].at;
    assert!(took < Duration::from_secs(15), "and it is not slower than it must be: {took:?}");
    eventually("nothing waits", async || gateway.destination("search").await["pending"] == 0).await;
}
