//! I1, I2, I3 against `kill -9`: the real process dies at random and at every named point of a
//! change's way, again and again, and in the end the destination has what the source has: nothing
//! acknowledged is missing, no key has gone backwards, what was repeated is the same.

mod traffic;
mod verdict;

use crate::support::{
    EVERYTHING, InventorySource, RecordingDestination, Setup, answers_within, eventually, within,
};
use std::sync::Arc;
use std::time::Duration;
use traffic::{Ledger, Traffic};

/// Deaths at named points: each point so often.
const ROUNDS_PER_POINT: usize = 3;
/// Deaths at a random moment.
const RANDOM_DEATHS: usize = 25;
/// Acknowledged writes in all.
const ACKNOWLEDGED_MIN: usize = 5_000;
/// `concurrency` of the destination: a crash repeats at most so many deliveries (I2).
const CONCURRENCY: usize = 16;
/// After the last death everything has arrived within this time.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);
/// The variable that names a fail point, alone or as `name:N` for the N-th passage.
const FAIL_POINT: &str = "TIDEGATE_FAIL_POINT";

/// A point of a change's way, and the largest passage at which the process dies there.
const POINTS: [(&str, usize); 10] = [
    ("intent-before-commit", 30),
    ("intent-after-commit", 30),
    ("source-answered", 60),
    ("outcome-before-commit", 30),
    ("outcome-after-commit", 30),
    ("delivery-before-attempt", 60),
    ("delivery-after-attempt", 60),
    ("settle-before-commit", 30),
    ("settle-after-commit", 30),
    ("retention-step", 1),
];

/// A test that failed is repeated with the seed that it printed.
fn seed() -> u64 {
    let given = std::env::var("TIDEGATE_TEST_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("TIDEGATE_TEST_SEED={seed}");
    seed
}

struct World {
    source: InventorySource,
    destination: RecordingDestination,
    setup: Setup,
    traffic: Arc<Traffic>,
    deaths: usize,
}

impl World {
    async fn build() -> Self {
        let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
        let text = format!(
            "{}timeout = \"1s\"\n{}concurrency = {CONCURRENCY}\n{EVERYTHING}\
             [route.sync]\ndestinations = [\"search\"]\n",
            source.table(),
            destination.table("search")
        );
        let setup = Setup::new(text).sync("retention = \"1s\"");
        Self { source, destination, setup, traffic: Arc::new(Traffic::new()), deaths: 0 }
    }

    /// Writes until the process dies at the point.
    async fn die_at(&mut self, point: &str, passage: usize) {
        self.setup.environment(FAIL_POINT, &format!("{point}:{passage}"));
        let exit = match self.setup.try_start().await {
            Ok(gateway) => {
                let writers = self.traffic.start(gateway.public);
                let exit = gateway.ended().await;
                within("the writers notice", writers.done()).await;
                exit
            }
            // What an earlier death left to do can lead to the point before anybody is listened to.
            Err(exit) => exit,
        };
        let reached = format!("fail point reached: {point}");
        assert!(exit.stderr.contains(&reached), "not at {point}: {:?}\n{}", exit.status, exit.stderr);
        self.deaths += 1;
    }

    /// Writes, and kills the process once `count` more writes have been acknowledged.
    async fn die_after(&mut self, count: usize) {
        self.setup.environment(FAIL_POINT, "");
        let gateway = self.setup.start().await;
        let enough = self.traffic.acknowledged() + count;
        let writers = self.traffic.start(gateway.public);
        self.traffic.wait_for(enough).await;
        gateway.kill().await;
        within("the writers notice", writers.done()).await;
        self.deaths += 1;
    }

    /// Starts once more and waits until nothing is left to deliver.
    async fn settle(&mut self) -> Ledger {
        self.setup.environment(FAIL_POINT, "");
        let gateway = self.setup.start().await;
        let ledger = self.traffic.ledger();
        let arrived = async || {
            verdict::unexplained(&self.source.state(), &self.destination.state(), &ledger).is_empty()
                && verdict::missing(&ledger, &self.destination.deliveries.all()).is_empty()
        };
        if !answers_within(SETTLED_WITHIN, arrived).await {
            verdict::nothing_acknowledged_is_missing(&ledger, &self.destination.deliveries.all());
            let differences = verdict::unexplained(&self.source.state(), &self.destination.state(), &ledger);
            panic!("path, source, destination: {differences:?}");
        }
        eventually("nothing waits", async || {
            let status = gateway.destination("search").await;
            status["pending"] == 0 && status["in_flight"] == 0
        })
        .await;
        let status = gateway.destination("search").await;
        assert_eq!(status["dead_letters"], 0, "{status}");
        let in_doubt = gateway.admin_get("/v1/changes?state=in-doubt&limit=1000").await.json();
        let in_doubt = in_doubt["changes"].as_array().map_or(0, Vec::len);
        let left = verdict::differences(&self.source.state(), &self.destination.state()).len();
        assert!(left <= in_doubt, "{left} orders lack, {in_doubt} changes are listed in doubt");
        assert!(gateway.terminate().await.status.success());
        ledger
    }
}

/// The whole promise in one run, so that damage done by one death can show after the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_change_is_lost_by_kill_9() {
    let mut random = fastrand::Rng::with_seed(seed());
    let mut plan = POINTS.repeat(ROUNDS_PER_POINT);
    random.shuffle(&mut plan);
    let mut world = World::build().await;
    for (point, passage_max) in plan {
        world.die_at(point, random.usize(1..=passage_max)).await;
    }
    for left in (1..=RANDOM_DEATHS).rev() {
        let missing = ACKNOWLEDGED_MIN.saturating_sub(world.traffic.acknowledged());
        let share = missing.div_ceil(left).max(20);
        world.die_after(random.usize(share..=share + share / 2)).await;
    }
    let ledger = world.settle().await;
    let deliveries = world.destination.deliveries.all();
    assert!(world.deaths >= 50, "{} deaths", world.deaths);
    assert!(ledger.acknowledged.len() >= ACKNOWLEDGED_MIN, "{} acknowledged", ledger.acknowledged.len());
    verdict::nothing_acknowledged_is_missing(&ledger, &deliveries);
    verdict::no_key_goes_backwards(&deliveries);
    verdict::repeated_deliveries_are_equal_and_few(&deliveries, world.deaths * CONCURRENCY);
    eprintln!(
        "{} deaths, {} acknowledged, {} unknown, {} deliveries",
        world.deaths,
        ledger.acknowledged.len(),
        ledger.unknown,
        deliveries.len()
    );
}
