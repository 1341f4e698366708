//! The source becomes ten times slower for a while. Of twenty requests nineteen ask for what is stored
//! and must not notice; one asks for what nobody asked for yet, and waits for the source.
//!
//! The two kinds have clients of their own: one that waits for the source delays no read of what is stored.

use crate::gateway::Gateway;
use crate::report::{self, Latency};
use crate::schedule::{self, Answer, Load, Measured, Request};
use crate::stage::Stage;
use anyhow::ensure;
use std::time::Duration;

/// What is stored before the first phase.
const STORED: u64 = 2_000;
/// Of so many requests one is for what is not stored: 5 %.
const ONE_NEW_IN: u64 = 20;
/// Clients for what is not stored: many, as each waits for the source.
const NEW_CLIENTS: u64 = 512;
/// A phase before the first, which connects everyone and is not reported.
const WARM_UP: Duration = Duration::from_secs(3);
/// How much slower the source becomes.
const SLOWER: u32 = 10;

/// How much, how long, how late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Load of one phase, both kinds together; the clients are those that read what is stored.
    pub(crate) load: Load,
    /// What the source waits before it becomes slower.
    pub(crate) latency: Duration,
}

impl Plan {
    /// What of the load asks for what is stored, and what for what is not.
    fn split(self) -> (Load, Load) {
        let new = Load { rate: (self.load.rate / ONE_NEW_IN).max(1), clients: NEW_CLIENTS, ..self.load };
        (Load { rate: self.load.rate.saturating_sub(new.rate).max(1), ..self.load }, new)
    }
}

/// What one phase measured.
struct Phase {
    name: &'static str,
    stored: Measured,
    new: Measured,
}

/// Plays the three phases; the lines of the report.
pub(crate) async fn run(plan: Plan, gateway: &Gateway, stage: &Stage) -> anyhow::Result<Vec<String>> {
    stage.set_latency(Duration::ZERO);
    for number in 0..STORED {
        let answer = schedule::send_once(stored(&gateway.base, number)).await?;
        ensure!(!matches!(answer, Answer::Refused(_)), "a read was answered {answer:?}");
    }
    stage.set_latency(plan.latency);
    let warm_up = Plan { load: Load { length: WARM_UP, ..plan.load }, ..plan };
    phase("warm-up", warm_up, gateway).await;
    let mut phases = Vec::new();
    for (name, latency) in
        [("before", plan.latency), ("during", plan.latency * SLOWER), ("after", plan.latency)]
    {
        stage.set_latency(latency);
        phases.push(phase(name, plan, gateway).await);
    }
    Ok(lines(plan, &phases))
}

async fn phase(name: &'static str, plan: Plan, gateway: &Gateway) -> Phase {
    let (stored_load, new_load) = plan.split();
    let (stored_base, new_base) = (gateway.base.clone(), gateway.base.clone());
    let read_stored = move |number| stored(&stored_base, number);
    let read_new = move |number| Request::get(format!("{new_base}/slow/new-{name}-{number}"));
    let (stored, new) =
        tokio::join!(schedule::run(stored_load, read_stored), schedule::run(new_load, read_new));
    Phase { name, stored, new }
}

fn stored(base: &str, number: u64) -> Request {
    Request::get(format!("{base}/slow/stored-{}", number % STORED))
}

fn lines(plan: Plan, phases: &[Phase]) -> Vec<String> {
    let mut lines = vec![
        format!(
            "the source answers after {:?}, during the brownout after {:?}; each phase {:?}",
            plan.latency,
            plan.latency * SLOWER,
            plan.load.length
        ),
        format!(
            "stored: {STORED} keys, {} clients; new: 1 of {ONE_NEW_IN} requests, {NEW_CLIENTS} clients\n",
            plan.load.clients
        ),
        "| phase | asked for | good | failed | good, % | from memory | due: p50 | p99 | sent: p50 | p99 | sent late: p99 |".to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for phase in phases {
        lines.push(row(phase.name, "stored", &phase.stored));
        lines.push(row(phase.name, "new", &phase.new));
    }
    lines.push(String::new());
    if let [before, during, ..] = phases {
        let good = during.stored.answered + during.new.answered;
        let failed = during.stored.failed + during.new.failed;
        lines.push(format!("good answers during: {}", share(good, failed)));
        let ratio = |of: fn(&Measured) -> &[Duration]| {
            let p99 = |phase: &Phase| report::quantile(of(&phase.stored), 990).0.as_secs_f64();
            p99(during) / p99(before)
        };
        lines.push(format!(
            "p99 of what is stored, during over before: {:.2} from the time due, {:.2} from the time sent",
            ratio(|measured| &measured.from_due),
            ratio(|measured| &measured.from_sent)
        ));
    }
    lines
}

fn row(phase: &str, asked: &str, measured: &Measured) -> String {
    let at = |sorted: &[Duration], per_mille| -> Latency { report::quantile(sorted, per_mille) };
    format!(
        "| {phase} | {asked} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        measured.answered,
        measured.failed,
        share(measured.answered, measured.failed),
        measured.hits,
        at(&measured.from_due, 500),
        at(&measured.from_due, 990),
        at(&measured.from_sent, 500),
        at(&measured.from_sent, 990),
        at(&measured.late, 990)
    )
}

/// Good answers of all, in per cent; rounded down, so that 100 means all.
fn share(good: u64, failed: u64) -> String {
    let per_100_000 = (good * 100_000).checked_div(good + failed).unwrap_or_default();
    format!("{}.{:03} %", per_100_000 / 1_000, per_100_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_twenty_is_new() {
        let split = |rate| {
            let load = Load { rate, length: Duration::from_secs(1), clients: 7 };
            let (stored, new) = Plan { load, latency: Duration::ZERO }.split();
            (stored.rate, stored.clients, new.rate, new.clients)
        };
        assert_eq!(split(5_000), (4_750, 7, 250, NEW_CLIENTS));
        assert_eq!(split(1), (1, 7, 1, NEW_CLIENTS), "no rate is zero");
    }

    #[test]
    fn a_hundred_per_cent_means_all() {
        assert_eq!(share(1_000_000, 1), "99.999 %");
        assert_eq!(share(3, 0), "100.000 %");
        assert_eq!(share(0, 0), "0.000 %");
    }
}
