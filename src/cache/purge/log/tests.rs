use super::*;
use crate::cache::CacheKey;
use crate::cache::purge::Standing;
use crate::redis::testing::{RedisServer, eventually};
use crate::redis::{LogEntry, Patience};
use crate::target::Target;

const EPOCH: u64 = 7;

fn settings(server: &RedisServer) -> SharedSettings {
    SharedSettings {
        redis: server.endpoint(),
        namespace: "test".into(),
        object_bytes: 1 << 20,
        secret: None,
        hash_keys: true,
        max_unverified: Duration::from_secs(30),
        lease: Duration::ZERO,
        data: None,
    }
}

fn start(server: &RedisServer) -> Log {
    let clock = Clock::system();
    let redis = Redis::open(&server.endpoint(), clock.clone()).unwrap();
    Log::start(&settings(server), redis, Arc::new(Tables::new()), clock)
}

fn at(millis: u64) -> LogPosition {
    LogPosition { millis, sequence: 0 }
}

fn tag(name: &str) -> Vec<Purge> {
    vec![Purge::Tag(name.into())]
}

fn entry(position: LogPosition, gateway: u64, number: u64) -> LogEntry {
    let message = Message { gateway, number, mode: PurgeMode::Hard, purges: tag("t") };
    LogEntry { position, bytes: postcard::to_stdvec(&message).unwrap().into() }
}

fn stamp(position: LogPosition) -> Stamp {
    Stamp { epoch: EPOCH, position }
}

/// A log at its end, whose Redis is not there: what happens is told by the test.
fn following() -> Log {
    let log = start(&RedisServer::reserved());
    follow::begin(&log.shared, EPOCH, LogPosition::default());
    log.shared.state().reading = Reading::Following;
    log
}

#[tokio::test]
async fn i5_an_own_purge_on_its_way_counts_against_what_others_stamped() {
    let log = following();
    let gateway = log.shared.gateway;
    let (number, scope) =
        log.purge(tag("own"), PurgeMode::Hard, Timestamp::default(), &Patience::of_request()).await;
    assert_eq!((number, scope), (Fence(1), PurgeScope::Local));
    assert_eq!(log.fence_of(stamp(at(0))), None, "the shared tier is not read while a purge is unsent");
    assert_eq!(log.stamp(number), None, "nor written");

    log.shared.state().outbox.sent(1);
    follow::take(&log.shared, &entry(at(10), gateway ^ 1, 1));
    assert_eq!(log.fence_of(stamp(at(10))), Some(Fence(0)), "its place may be behind the stamp's");
    assert_eq!(log.stamp(Fence(1)), Some(stamp(at(0))), "had not seen the other's purge");

    follow::take(&log.shared, &entry(at(20), gateway, 1));
    assert_eq!(log.fence_of(stamp(at(10))), Some(Fence(0)));
    assert_eq!(log.fence_of(stamp(at(20))), Some(Fence(2)));
    assert_eq!(log.stamp(Fence(2)), Some(stamp(at(20))));
}

#[tokio::test]
async fn i5_stamps_of_another_epoch_are_not_judged_and_those_before_the_log_are_validated() {
    let log = following();
    let other_epoch = Stamp { epoch: EPOCH + 1, position: at(0) };
    assert_eq!(log.fence_of(other_epoch), None);
    assert!(log.fence_of(stamp(at(5))).is_some());
    let before = log.shared.tables.fence();
    follow::begin(&log.shared, EPOCH, at(10));
    assert_eq!(log.fence_of(stamp(at(10))), None, "not read to its end yet");
    log.shared.state().reading = Reading::Following;
    let key = CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None);
    let old = log.fence_of(stamp(at(9))).unwrap();
    let standing = log.shared.tables.judge(&key, &[], old);
    assert_eq!(standing, Standing::Unverified, "before the first entry of a trimmed log");
    assert!(log.fence_of(stamp(at(10))).is_some());
    assert_eq!(log.stamp(before), None, "a forward of the epoch before");
}

#[tokio::test]
async fn what_another_version_wrote_purges_everything() {
    let log = following();
    let fence = log.shared.tables.fence();
    follow::take(&log.shared, &LogEntry { position: at(1), bytes: "?".into() });
    let key = CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None);
    assert_eq!(log.shared.tables.judge(&key, &[], fence), Standing::Gone);
}

#[tokio::test]
async fn i5_a_log_trimmed_past_what_is_known_leaves_memory_unverified() {
    let server = RedisServer::start().await;
    let (log, other) = (start(&server), start(&server));
    eventually("both follow", async || log.is_trusted() && other.is_trusted()).await;
    other.purge(tag("a"), PurgeMode::Hard, Timestamp::default(), &Patience::of_request()).await;
    eventually("heard of", async || log.shared.state().last > LogPosition::default()).await;
    let fence = log.shared.tables.fence();

    // In one step: connections are cut, what is known is trimmed, something unknown follows.
    let foreign = entry(at(0), 0, 0).bytes;
    let () = redis::pipe()
        .atomic()
        .cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .ignore()
        .cmd("XTRIM")
        .arg(&["test:purges", "MAXLEN", "0"])
        .ignore()
        .cmd("XADD")
        .arg(&["test:purges", "*", "e"])
        .arg(&foreign[..])
        .ignore()
        .query_async(&mut server.connection().await)
        .await
        .unwrap();
    let key = CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None);
    eventually("unverified", async || log.shared.tables.judge(&key, &[], fence) == Standing::Unverified)
        .await;
    eventually("followed again", async || log.is_trusted()).await;
    assert_eq!(log.shared.tables.judge(&key, &[], log.shared.tables.fence()), Standing::Valid);
}

#[tokio::test]
async fn i5_the_first_log_that_is_seen_is_trusted_only_if_it_is_whole() {
    let key = CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None);
    for (floor, standing) in [(at(0), Standing::Valid), (at(10), Standing::Unverified)] {
        let log = start(&RedisServer::reserved());
        let before = log.shared.tables.fence();
        follow::begin(&log.shared, EPOCH, floor);
        assert_eq!(log.shared.tables.judge(&key, &[], before), standing, "{floor}");
        let fence = log.shared.tables.fence();
        follow::begin(&log.shared, EPOCH + 1, at(0));
        assert_eq!(log.shared.tables.judge(&key, &[], fence), Standing::Unverified, "another epoch");
    }
}
