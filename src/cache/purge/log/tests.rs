use super::*;
use crate::cache::CacheKey;
use crate::cache::purge::Standing;
use crate::redis::testing::{RedisServer, eventually};
use crate::redis::{LogEntry, LogExtent, Patience};
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
    Log::start(&settings(server), redis, Arc::new(Tables::new(7)), clock)
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

/// An entry of purges drawn at random, of few names, so that they meet.
fn drawn(random: &mut fastrand::Rng, millis: u64) -> LogEntry {
    let purges = std::iter::repeat_with(|| {
        let (name, authority) = (random.choice(["a", "ab", "b"]).unwrap(), || "h".to_owned());
        match random.u8(..16) {
            0 => Purge::All,
            1..4 => Purge::Prefix { authority: random.bool().then(authority), path: format!("/{name}") },
            4..7 => Purge::Tag(name.into()),
            7..10 => Purge::Group { scheme: "http".into(), authority: authority(), group: name.into() },
            10..13 => Purge::Path { authority: authority(), path: format!("/{name}") },
            _ => Purge::Url { authority: authority(), path_and_query: format!("/{name}?q") },
        }
    });
    let purges: Vec<Purge> = purges.take(2).collect();
    let mode = if random.u8(..3) == 0 { PurgeMode::Hard } else { PurgeMode::Soft };
    let message = Message { gateway: random.u64(1..4), number: millis, mode, purges };
    LogEntry { position: at(millis), bytes: postcard::to_stdvec(&message).unwrap().into() }
}

/// As it lies in Redis.
fn folded(log: &Log) -> Vec<u8> {
    // Positions are small here.
    let read = checkpoint::Read { oldest_millis: 0, ..compact::read_so_far(&log.shared, EPOCH) };
    log.shared.seal.sealed_checkpoint(checkpoint::Checkpoint::fold(&log.shared.tables, read).encode())
}

/// One that starts with that, where the log has lost what is before `floor`.
fn resumed(bytes: &[u8], floor: u64) -> Log {
    let log = start(&RedisServer::reserved());
    let opened = log.shared.seal.opened_checkpoint(bytes).unwrap();
    let checkpoint = checkpoint::Checkpoint::decode(opened, &log.shared.tables);
    assert!(checkpoint.is_some());
    // It has lost something, nobody knows how much.
    let extent = LogExtent { first: Some(at(floor)), newest: at(u64::MAX), ..LogExtent::default() };
    follow::begin_with(&log.shared, EPOCH, (extent, at(0)), checkpoint);
    log.shared.state().reading = Reading::Following;
    log
}

#[tokio::test]
async fn i5_a_checkpoint_and_the_rest_of_the_log_say_what_the_whole_log_does() {
    const ENTRIES: u64 = 40;
    for seed in 0..50 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let entries: Vec<LogEntry> = (1..=ENTRIES).map(|number| drawn(random, 10 * number)).collect();
        let take = |log: &Log, from: usize, to: usize| {
            entries[from..to].iter().for_each(|entry| follow::take(&log.shared, entry));
        };
        let (whole, first) = (following(), following());
        take(&whole, 0, entries.len());
        // One that began with the log writes a checkpoint, and one that began with that another.
        let one = random.usize(1..entries.len());
        let two = random.usize(one..entries.len());
        take(&first, 0, one);
        let second = resumed(&folded(&first), random.u64(..=10 * one as u64));
        take(&second, one, two);
        let third = resumed(&folded(&second), random.u64(..=10 * two as u64));
        take(&third, two, entries.len());
        for (position, name) in (0..=10 * ENTRIES).step_by(5).zip(["a", "ab", "b", "c"].iter().cycle()) {
            for url in
                [format!("http://h/{name}"), format!("http://g/{name}?q"), format!("http://h/{name}?q")]
            {
                let key = CacheKey::new(&Target::parse_absolute(&url).unwrap(), None);
                let tags = [(*name).to_owned()];
                let judged = |log: &Log| {
                    let fence = log.fence_of(stamp(at(position))).unwrap();
                    [log.shared.tables.judge(&key, &[], fence), log.shared.tables.judge(&key, &tags, fence)]
                };
                assert_eq!(judged(&third), judged(&whole), "seed {seed}: {url} stored at {position}");
            }
        }
        // I6: what is said to be heard of is never earlier.
        for (gateway, number) in (1..4).flat_map(|gateway| (1..=10 * ENTRIES).map(move |it| (gateway, it))) {
            let heard = |log: &Log| log.shared.state().heard.fence_of(gateway, number);
            assert_eq!(heard(&third).is_some(), heard(&whole).is_some(), "seed {seed}: {gateway} {number}");
            for position in (0..=10 * ENTRIES).step_by(10) {
                let satisfies = |log: &Log| log.fence_of(stamp(at(position))) >= heard(log);
                assert!(
                    satisfies(&whole) || !satisfies(&third),
                    "seed {seed}: {gateway} {number} {position}"
                );
            }
        }
    }
}

#[tokio::test]
async fn i5_a_checkpoint_that_the_log_does_not_go_on_from_is_not_used() {
    let log = following();
    follow::take(&log.shared, &entry(at(10), 1, 1));
    let bytes = folded(&log);
    let key = CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None);
    let standing = |log: &Log, position| {
        let fence = log.fence_of(stamp(at(position))).unwrap();
        log.shared.tables.judge(&key, &["t".to_owned()], fence)
    };
    let fits = resumed(&bytes, 10);
    assert_eq!((standing(&fits, 9), standing(&fits, 10)), (Standing::Gone, Standing::Valid));
    assert_eq!(fits.shared.state().last, at(10), "it reads on behind it");
    // What stood between 10 and 11 is not known.
    let behind = resumed(&bytes, 11);
    assert_eq!((standing(&behind, 10), standing(&behind, 11)), (Standing::Unverified, Standing::Valid));
    assert_eq!(behind.shared.state().last, at(0), "it reads all there is");
    // The log reaches back further than what the writer of this one knew.
    let late = start(&RedisServer::reserved());
    follow::begin(&late.shared, EPOCH, at(5));
    follow::take(&late.shared, &entry(at(10), 1, 1));
    assert_eq!(resumed(&folded(&late), 4).shared.state().last, at(0));
    assert_eq!(resumed(&folded(&late), 5).shared.state().last, at(10));
}

#[tokio::test]
async fn a_soft_purge_counts_from_when_it_was_made_for_who_hears_of_it_late() {
    let log = following();
    let soft = Message { gateway: 1, number: 1, mode: PurgeMode::Soft, purges: tag("t") };
    let bytes = postcard::to_stdvec(&soft).unwrap().into();
    follow::take(&log.shared, &LogEntry { position: at(10), bytes });
    let key = CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None);
    let standing = log.shared.tables.judge(&key, &["t".to_owned()], Fence(0));
    assert_eq!(standing, Standing::StaleSince(Timestamp::from_millis(10)));
}
