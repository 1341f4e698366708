//! Several gateways before one source: what their readers see while one of them writes (I5, I6), how long
//! one that is cut off trusts its memory, who forwards for what several miss, and how one starts warm.

use crate::purges::{acquainted, counting_source, get, setup};
use crate::support::{
    Ask, EVERYTHING, Gate, Gateway, RedisServer, Relay, Reply, ScriptedSource, Setup, Step, eventually,
};
use ::redis::cmd;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the writer writes.
const WRITING: Duration = Duration::from_secs(6);
/// Each reader reads more often than that, however long it takes.
const READS_MIN: usize = 100;
/// When a write must be seen at the other gateways: 1 s is promised, the rest a machine under load adds.
const SEEN_ELSEWHERE: Duration = Duration::from_secs(4);

/// One write or read of the register's whole history.
#[derive(Clone, Copy, Debug)]
struct Event {
    began: Instant,
    ended: Instant,
    version: u64,
}

/// The latest write and its token.
type Latest = Arc<Mutex<(u64, String)>>;

/// A register: PUT sets it, GET takes a while to say what it was when it was asked.
async fn register() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    let version = Arc::new(AtomicU64::new(0));
    source.on("*", move |request| {
        if request.method == "PUT" {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            version.store(text.parse().unwrap(), Ordering::SeqCst);
            return Reply::new(204, "");
        }
        let gate = Gate::closed();
        let (slow, answer) = (gate.clone(), version.load(Ordering::SeqCst).to_string());
        tokio::spawn(async move {
            sleep(Duration::from_millis(fastrand::u64(..40))).await;
            gate.open();
        });
        Reply::ok(answer).cache_control("max-age=600").after(Step::Wait(slow))
    });
    source
}

/// Reads until told to stop; every other read brings the token of the latest write back.
async fn read(gateway: Arc<Gateway>, latest: Latest, over: Arc<AtomicBool>) -> (Vec<Event>, usize) {
    let (mut events, mut hits) = (Vec::new(), 0);
    while !over.load(Ordering::SeqCst) || events.len() <= READS_MIN {
        let mut ask = Ask::get("/register").field("Host", "shop.example");
        let (written, token) = latest.lock().unwrap().clone();
        let with_token = events.len() % 2 == 1 && !token.is_empty();
        if with_token {
            ask = ask.field("Tidegate-Min-Version", &token);
        }
        let began = Instant::now();
        let answer = gateway.send(ask).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let version = answer.text().parse().unwrap();
        assert!(!with_token || version >= written, "I6: {version} where {written} was seen: {answer:?}");
        hits += usize::from(answer.is_hit());
        events.push(Event { began, ended: Instant::now(), version });
    }
    (events, hits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_i6_no_reader_at_any_replica_sees_less_than_is_promised() {
    let (source, redis) = (register().await, RedisServer::start().await);
    let text = setup(&source, &redis.table());
    let (one, two, three) =
        (text.start().await, setup(&source, &redis.table()), setup(&source, &redis.table()));
    let gateways = [Arc::new(one), Arc::new(two.start().await), Arc::new(three.start().await)];
    let all: Vec<&Gateway> = gateways.iter().map(AsRef::as_ref).collect();
    acquainted(&all).await;
    let (latest, over) = (Latest::default(), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = gateways
        .iter()
        .map(|gateway| tokio::spawn(read(Arc::clone(gateway), Arc::clone(&latest), Arc::clone(&over))))
        .collect();
    let (mut writes, until) = (Vec::new(), Instant::now() + WRITING);
    while Instant::now() < until {
        let (began, version) = (Instant::now(), writes.len() as u64 + 1);
        let ask = Ask::put("/register", version.to_string()).field("Host", "shop.example");
        let answer = gateways[0].send(ask).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        writes.push(Event { began, ended: Instant::now(), version });
        *latest.lock().unwrap() = (version, answer.field("Tidegate-Version").to_owned());
        // So that some reads are hits.
        sleep(Duration::from_millis(fastrand::u64(..60))).await;
    }
    let last = writes.len() as u64;
    for gateway in &gateways {
        eventually("the last write is seen", async || {
            get(gateway, "/register").await.text() == last.to_string()
        })
        .await;
    }
    over.store(true, Ordering::SeqCst);
    for (replica, reader) in readers.into_iter().enumerate() {
        let (reads, hits) = reader.await.unwrap();
        let seen_after = if replica == 0 { Duration::ZERO } else { SEEN_ELSEWHERE };
        for read in &reads {
            let promised = writes.iter().rfind(|write| write.ended + seen_after <= read.began);
            let promised = promised.map_or(0, |write| write.version);
            assert!(read.version >= promised, "I5 at {replica}: {read:?} where {promised} is promised");
            let begun = writes.iter().filter(|write| write.began <= read.ended).count() as u64;
            assert!(read.version <= begun, "from the future: {read:?}");
        }
        assert!(hits > 0 && reads.len() > READS_MIN, "replica {replica}: {hits} hits of {}", reads.len());
    }
}

/// Whether the gateway still serves what it has of `/a`.
async fn is_served(gateway: &Gateway) -> bool {
    get(gateway, "/a").await.is_hit()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_cut_off_from_the_log_memory_is_served_for_max_unverified_and_then_validated() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    for (most, seconds) in [("0s", 0), ("3s", 3)] {
        let relay = Relay::to(&redis.address()).await;
        let shared = format!("{}max_unverified = \"{most}\"\n", relay.table());
        let gateway = setup(&source, &shared).start().await;
        acquainted(&[&gateway]).await;
        get(&gateway, "/a").await;
        assert!(is_served(&gateway).await);
        let cut = Instant::now();
        relay.cut();
        if seconds > 0 {
            assert!(is_served(&gateway).await, "{most}");
        }
        eventually("it is validated", async || !is_served(&gateway).await).await;
        let served = cut.elapsed();
        let least = Duration::from_secs(seconds).saturating_sub(Duration::from_secs(1));
        assert!(served >= least && served < Duration::from_secs(seconds + 10), "{most}: {served:?}");
        relay.mend();
        eventually("it is served again", async || is_served(&gateway).await && is_served(&gateway).await)
            .await;
        assert!(gateway.terminate().await.status.success());
    }
}

/// Two gateways that know of each other, and what `[cache.shared]` has more.
async fn two(source: &ScriptedSource, redis: &RedisServer, more: &str) -> (Arc<Gateway>, Arc<Gateway>) {
    let shared = format!("{}{more}", redis.table());
    let (one, other) = (setup(source, &shared).start().await, setup(source, &shared).start().await);
    acquainted(&[&one, &other]).await;
    (Arc::new(one), Arc::new(other))
}

/// Asks one gateway, and once its forward is at the source, the other; both are on their way then.
async fn asked_of_both(
    source: &ScriptedSource,
    path: &'static str,
    one: &Arc<Gateway>,
    other: &Arc<Gateway>,
) -> [tokio::task::JoinHandle<String>; 2] {
    let ask = |gateway: &Arc<Gateway>| {
        let gateway = Arc::clone(gateway);
        tokio::spawn(async move {
            let ask = Ask::get(path).field("Host", "shop.example");
            ask.send(gateway.public).await.map_or_else(|_| String::new(), |answer| answer.text())
        })
    };
    let first = ask(one);
    source.wait_for(path, 1).await;
    let second = ask(other);
    eventually("the other fills", async || other.metric("tidegate_fills").await == 1).await;
    [first, second]
}

/// A path whose first answer waits for the gate; each answer is another one.
fn gated(source: &ScriptedSource, path: &str, control: &'static str) -> Gate {
    let (gate, count) = (Gate::closed(), AtomicU64::new(0));
    let waits = gate.clone();
    source.on(path, move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let reply = Reply::ok(number.to_string()).cache_control(control);
        if number == 0 { reply.after(Step::Wait(waits.clone())) } else { reply }
    });
    gate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_forwards_for_what_several_miss_at_once() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    let (one, other) = two(&source, &redis, "lease = \"15s\"\n").await;
    let gate = gated(&source, "/slow", "max-age=600");
    let asked = asked_of_both(&source, "/slow", &one, &other).await;
    gate.open();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), "0");
    }
    assert_eq!(source.count("/slow"), 1);
    assert_eq!(other.metric("tidegate_fill_turns_total{result=\"found\"}").await, 1);
    assert!(get(&other, "/slow").await.is_hit());

    // What may not be stored releases the others at once, and so does a Redis that stops answering.
    let gate = gated(&source, "/private", "private");
    let asked = asked_of_both(&source, "/private", &one, &other).await;
    gate.open();
    let began = Instant::now();
    let [first, second] = asked;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), ("0".into(), "1".into()));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let gate = gated(&source, "/frozen", "max-age=600");
    let asked = asked_of_both(&source, "/frozen", &one, &other).await;
    redis.freeze();
    let [first, second] = asked;
    assert_eq!(second.await.unwrap(), "1", "it goes on by itself");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    redis.thaw();
    gate.open();
    assert_eq!(first.await.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_holder_costs_the_others_at_most_its_lease() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    let (one, other) = two(&source, &redis, "lease = \"2s\"\n").await;
    gated(&source, "/slow", "max-age=600");
    let [first, second] = asked_of_both(&source, "/slow", &one, &other).await;
    let began = Instant::now();
    one.signal("KILL");
    assert_eq!(second.await.unwrap(), "1");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    drop(first);
}

/// How often Redis has carried out a command since its statistics were reset.
async fn calls(redis: &RedisServer, command: &str) -> u64 {
    let info: String = redis.command(cmd("INFO").arg("commandstats")).await;
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_replica_pays_for_no_turns_and_a_purge_costs_the_same_for_few_and_for_many() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    let gateway = setup(&source, &redis.table()).start().await;
    acquainted(&[&gateway]).await;
    gateway.has_written().await;
    redis.command::<()>(cmd("CONFIG").arg("RESETSTAT")).await;
    let mut purged = Vec::new();
    for (stored, name) in [(10_u64, "few"), (300, "many")] {
        for number in 0..stored {
            assert!(!get(&gateway, &format!("/{name}/{number}")).await.is_hit());
        }
        gateway.has_written().await;
        if name == "few" {
            assert_eq!((calls(&redis, "get").await, calls(&redis, "set").await), (stored, stored));
        }
        assert_eq!(calls(&redis, "eval").await, 0);
        redis.command::<()>(cmd("CONFIG").arg("RESETSTAT")).await;
        gateway.admin_post("/v1/purge", &json!({"tags":["t"]})).await;
        let mut counts = Vec::new();
        for command in ["xadd", "pexpire", "del", "unlink", "scan", "keys", "set", "get", "eval"] {
            // Its line among the replicas expires too.
            let most = calls(&redis, command).await;
            counts.push(if command == "pexpire" { most.min(1) } else { most });
        }
        purged.push(counts);
        assert!(!get(&gateway, &format!("/{name}/0")).await.is_hit());
    }
    assert_eq!(purged[0], purged[1]);
    assert_eq!(purged[0][0], 1, "one entry of the log");
}

/// How often one starts with what is hot.
const STARTS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_has_the_hottest_in_memory_before_it_is_ready() {
    let (source, redis) = (counting_source().await, RedisServer::start().await);
    source
        .on("/varied", |_| Reply::ok("varied").cache_control("max-age=600").field("Vary", "Accept-Language"));
    let text = format!("{}{EVERYTHING}{}", source.table(), redis.table());
    let gateway = Setup::new(text.clone()).start().await;
    acquainted(&[&gateway]).await;
    let german = || Ask::get("/varied").field("Host", "shop.example").field("Accept-Language", "de");
    get(&gateway, "/seldom").await;
    for _ in 0..400 {
        get(&gateway, "/hot").await;
        gateway.send(german()).await;
    }
    gateway.has_written().await;
    assert!(gateway.terminate().await.status.success());

    // A machine that is busy with other things may overrun the time that is given to a start, or to a look into Redis,
    // but not each time.
    let mut warm = 0;
    for _ in 0..STARTS {
        let gateway = Setup::new(text.clone()).start().await;
        eventually("it is ready", async || gateway.admin_get("/readyz").await.status == 200).await;
        let late = gateway.late_looks().await;
        let hot = get(&gateway, "/hot").await;
        // What selects a variant is a client's, and not kept in Redis: it is found there when somebody asks.
        let (varied, seldom) = (gateway.send(german()).await, get(&gateway, "/seldom").await);
        assert!(!varied.says("detail=memory") && !seldom.says("detail=memory"), "{varied:?} {seldom:?}");
        if gateway.late_looks().await == late {
            assert!(hot.is_hit() && varied.is_hit() && seldom.is_hit(), "{hot:?} {varied:?} {seldom:?}");
        }
        warm += usize::from(hot.says("detail=memory"));
        gateway.kill().await;
    }
    assert!(warm > STARTS / 2, "{warm} of {STARTS} had it in memory");
    let listed: String = redis.command(cmd("GET").arg("tidegate:hottest")).await;
    assert!(!listed.contains("hot/") && !listed.contains("varied") && !listed.contains("shop"), "{listed}");
}
