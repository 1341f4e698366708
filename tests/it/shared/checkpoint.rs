//! A replica that has just started knows from the checkpoint what the log of purges has lost; one that nobody with
//! the secret wrote, or that does not fit the log, is as none.

use super::trust::{name_of, put, read_by_a_newcomer, value};
use super::{HOST, asking, changing, purged as purge, setup};
use crate::support::{Gateway, RedisServer, Reply, ScriptedSource, eventually};
use redis::{Value, cmd};
use serde_json::json;

const SECRET: &str = "secret = \"a secret of the replicas\"\n";
const LOG: &str = "tidegate:purges";
const CHECKPOINT: &str = "tidegate:checkpoint";
/// What is stored, and not purged.
const OTHERS: [&str; 3] = ["/b", "/c", "/d"];

fn body_of(path: &str) -> String {
    format!("body of {path}")
}

async fn started(source: &ScriptedSource, shared: &str) -> Gateway {
    let gateway = setup(source, shared).start().await;
    gateway.uses_redis().await;
    gateway
}

async fn looked_for(gateway: &Gateway, result: &str) -> u64 {
    gateway.metric(&format!("tidegate_purge_checkpoints_read_total{{result=\"{result}\"}}")).await
}

/// Waits for a checkpoint that is another than this one.
async fn written(redis: &RedisServer, before: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    eventually("a checkpoint is written", async || {
        bytes = redis.command::<Option<Vec<u8>>>(cmd("GET").arg(CHECKPOINT)).await.unwrap_or_default();
        !bytes.is_empty() && bytes != before
    })
    .await;
    bytes
}

/// A position of the log, to be compared.
fn place(text: &str) -> (u64, u64) {
    let (millis, sequence) = text.split_once('-').unwrap();
    (millis.parse().unwrap(), sequence.parse().unwrap())
}

/// Trims the log to its last so many entries, and waits until no replica vouches for any of the others.
async fn trim_to(redis: &RedisServer, kept: usize) {
    let entries: Vec<(String, Vec<Vec<u8>>)> = redis.command(cmd("XRANGE").arg(LOG).arg("-").arg("+")).await;
    let trimmed = place(&entries[entries.len() - kept - 1].0);
    redis.command::<u64>(cmd("XTRIM").arg(LOG).arg("MAXLEN").arg(kept)).await;
    // The lines of those that are gone would stay for a while; who is there writes its own again.
    redis.command::<()>(cmd("DEL").arg("tidegate:replicas")).await;
    eventually("the replica has seen that the log was trimmed", async || {
        let lines: Vec<String> = redis.command(cmd("HVALS").arg("tidegate:replicas")).await;
        let vouches_behind = |line: &String| place(line.split(' ').nth(3).unwrap());
        !lines.is_empty() && lines.iter().all(|line| vouches_behind(line) >= trimmed)
    })
    .await;
}

/// A writer has stored `/a` and the others and purged `/a`; the checkpoint is written, and the log has lost everything.
struct Trimmed {
    source: ScriptedSource,
    redis: RedisServer,
    table: String,
    writer: Gateway,
    /// The number of the purge.
    purge: u64,
    checkpoint: Vec<u8>,
    /// What was stored before the purge, with its names.
    before: Vec<(String, Vec<u8>)>,
}

impl Trimmed {
    async fn start() -> Self {
        let (source, redis) = (changing().await, RedisServer::start().await);
        for path in OTHERS {
            source.always(path, Reply::ok(body_of(path)).cache_control("max-age=600"));
        }
        let table = redis.table() + SECRET;
        let writer = started(&source, &table).await;
        let paths = [("/a", "old".to_owned())].into_iter().chain(OTHERS.map(|path| (path, body_of(path))));
        let paths: Vec<_> = paths.collect();
        for (path, body) in &paths {
            assert_eq!(writer.send(asking(path)).await.text(), *body);
        }
        writer.has_written().await;
        let mut before = Vec::new();
        for (_, body) in &paths {
            let name = name_of(&redis, "tidegate", body).await;
            before.push((name.clone(), value(&redis, &name).await));
        }
        let purge = purge(&writer, &json!({ "urls": [format!("http://{HOST}/a")] })).await;
        let checkpoint = written(&redis, &[]).await;
        trim_to(&redis, 0).await;
        Self { source, redis, table, writer, purge, checkpoint, before }
    }

    /// As [`Trimmed::newcomer`], once all is prepared, and once more where Redis is late for its checkpoint.
    async fn newcomer_in_time(&self, what: &str, prepare: impl AsyncFn()) -> (Gateway, bool) {
        for _ in 0..5 {
            prepare().await;
            let (newcomer, took) = self.newcomer(what).await;
            if what == "unavailable" || looked_for(&newcomer, "unavailable").await == 0 {
                return (newcomer, took);
            }
            assert!(newcomer.terminate().await.status.success());
        }
        panic!("{what}: Redis was never in time");
    }

    /// One that starts now, with all that was stored before put back, must not take `/a`; whether it takes the
    /// others.
    async fn newcomer(&self, what: &str) -> (Gateway, bool) {
        for (name, value) in &self.before {
            put(&self.redis, name, value).await;
        }
        let newcomer = started(&self.source, &self.table).await;
        let answer = newcomer.send(asking("/a")).await;
        assert_eq!((answer.text().as_str(), answer.is_hit()), ("new", false), "{what}: {answer:?}");
        // One of its looks may be late.
        let mut took = false;
        for path in OTHERS {
            let asked = self.source.count(path);
            let answer = newcomer.send(asking(path)).await;
            assert_eq!((answer.status, answer.text()), (200, body_of(path)), "{what}");
            assert_eq!(answer.is_hit(), self.source.count(path) == asked, "{what}: {answer:?}");
            took |= answer.is_hit();
        }
        (newcomer, took)
    }
}

/// I5: nothing that was purged comes back, and nothing else is validated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_who_starts_with_a_checkpoint_knows_what_the_log_has_lost() {
    let trimmed = Trimmed::start().await;
    let expiry: i64 = trimmed.redis.command(cmd("PTTL").arg(CHECKPOINT)).await;
    assert!(expiry > 0, "{expiry}");
    for (name, to) in [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "100000")] {
        trimmed.redis.command::<()>(cmd("CONFIG").arg("SET").arg(name).arg(to)).await;
    }
    let prepare = async || trimmed.redis.command::<()>(cmd("SLOWLOG").arg("RESET")).await;
    let (newcomer, took) = trimmed.newcomer_in_time("a checkpoint", prepare).await;
    assert!(took, "nothing that was not purged is validated");
    assert_eq!(looked_for(&newcomer, "used").await, 1);
    // It reads the checkpoint once, and nothing of the log from before it.
    let log: Vec<Vec<Value>> = trimmed.redis.command(cmd("SLOWLOG").arg("GET").arg("-1")).await;
    let text = |part: Vec<u8>| String::from_utf8_lossy(&part).into_owned();
    let commands = log.into_iter().map(|mut entry| {
        let command: Vec<Vec<u8>> = redis::from_redis_value(entry.swap_remove(3)).unwrap();
        command.into_iter().map(text).collect::<Vec<String>>()
    });
    let commands: Vec<Vec<String>> = commands.collect();
    let of = |name: &str| {
        commands.iter().filter(|command| command[0].eq_ignore_ascii_case(name)).collect::<Vec<_>>()
    };
    assert_eq!(of("GETRANGE").len(), 1);
    let reads = of("XREAD");
    assert!(!reads.is_empty() && reads.iter().all(|read| read.last().unwrap() != "0-0"), "{reads:?}");
    // What comes behind it counts as ever, also for one that starts then with the log as it is.
    purge(&trimmed.writer, &json!({ "urls": [format!("http://{HOST}/b")] })).await;
    eventually("a purge reaches it", async || !newcomer.send(asking("/b")).await.is_hit()).await;
    newcomer.has_written().await;
    written(&trimmed.redis, &trimmed.checkpoint).await;
    let (third, answer) = read_by_a_newcomer(&trimmed.source, &trimmed.table, "/b", async || {}).await;
    assert_eq!(looked_for(&third, "used").await, 1);
    assert!(answer.is_hit() && answer.text() == body_of("/b"), "{answer:?}");
    for gateway in [&trimmed.writer, &newcomer] {
        assert!(!gateway.log_text().contains("trimmed past"), "{}", gateway.log_text());
    }
}

/// I5: the log has lost just what the checkpoint tells of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_trimmed_to_where_its_checkpoint_ends_goes_on_from_it() {
    for what in ["another is at work", "nobody is"] {
        let trimmed = Trimmed::start().await;
        purge(&trimmed.writer, &json!({ "tags": ["none"] })).await;
        written(&trimmed.redis, &trimmed.checkpoint).await;
        // It would put a new one there.
        trimmed.writer.signal("STOP");
        if what == "nobody is" {
            trimmed.redis.command::<()>(cmd("DEL").arg("tidegate:replicas")).await;
        }
        let prepare = async || put(&trimmed.redis, CHECKPOINT, &trimmed.checkpoint).await;
        let (newcomer, took) = trimmed.newcomer_in_time(what, prepare).await;
        assert!(took, "{what}: nothing that was not purged is validated");
        assert_eq!(looked_for(&newcomer, "used").await, 1, "{what}");
    }
}

/// I5: an entry was deleted, but not at the log's beginning, while nobody was there to see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_an_entry_that_was_deleted_from_the_log_is_missed_by_who_starts_alone() {
    for what in ["no checkpoint", "an earlier one"] {
        let (source, redis) = (changing().await, RedisServer::start().await);
        let table = redis.table() + SECRET;
        let writer = started(&source, &table).await;
        let nothing = json!({ "tags": ["none"] });
        purge(&writer, &nothing).await;
        let early = written(&redis, &[]).await;
        assert_eq!(writer.send(asking("/a")).await.text(), "old");
        writer.has_written().await;
        let name = name_of(&redis, "tidegate", "old").await;
        let old = value(&redis, &name).await;
        purge(&writer, &json!({ "urls": [format!("http://{HOST}/a")] })).await;
        purge(&writer, &nothing).await;
        writer.kill().await;
        for key in ["tidegate:replicas", CHECKPOINT] {
            redis.command::<()>(cmd("DEL").arg(key)).await;
        }
        if what == "an earlier one" {
            put(&redis, CHECKPOINT, &early).await;
        }
        let entries: Vec<(String, Vec<Vec<u8>>)> =
            redis.command(cmd("XRANGE").arg(LOG).arg("-").arg("+")).await;
        redis.command::<()>(cmd("XDEL").arg(LOG).arg(&entries[1].0)).await;
        put(&redis, &name, &old).await;
        let newcomer = started(&source, &table).await;
        let answer = newcomer.send(asking("/a")).await;
        assert_eq!((answer.text().as_str(), answer.is_hit()), ("new", false), "{what}: {answer:?}");
    }
}

/// I5: whoever may write to Redis and has no secret can make it be of no use, and of no harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_checkpoint_that_is_forged_cut_rolled_back_or_missing_is_as_none_and_counted() {
    let trimmed = Trimmed::start().await;
    let (redis, good) = (&trimmed.redis, &trimmed.checkpoint);
    let mut altered = good.clone();
    altered[7] ^= 1;
    let cut = good[..good.len() - 1].to_vec();
    let mut longer = good.clone();
    longer.resize(5 << 20, 0);
    let rows = [
        ("unreadable", altered),
        ("unreadable", cut),
        ("unreadable", b"something else".to_vec()),
        ("unreadable", longer),
        ("missing", Vec::new()),
        ("unavailable", b"another type".to_vec()),
    ];
    for (result, bytes) in rows {
        let prepare = async || {
            // A newcomer's own, of what it believes, is not what is looked at here.
            redis.command::<()>(cmd("DEL").arg(CHECKPOINT)).await;
            if result == "unavailable" {
                redis.command::<()>(cmd("RPUSH").arg(CHECKPOINT).arg(&bytes[..])).await;
            } else if result != "missing" {
                put(redis, CHECKPOINT, &bytes).await;
            }
        };
        let (newcomer, took) = trimmed.newcomer_in_time(result, prepare).await;
        assert!(!took, "{result}: older than the log, and not validated");
        assert_eq!(looked_for(&newcomer, result).await, 1, "{result}");
        assert_eq!(looked_for(&newcomer, "used").await, 0, "{result}");
        eventually("nobody waits for a purge that is older than what it believes", async || {
            let status = format!("/v1/purges/{}", trimmed.purge);
            let status = trimmed.writer.admin_get(&status).await.json();
            status["applied"].as_array().is_some_and(|applied| applied.len() == 2)
        })
        .await;
        let unreadable = "tidegate_tier_unreadable_total{reason=\"purge-checkpoint\"}";
        assert_eq!(newcomer.metric(unreadable).await, u64::from(result == "unreadable"), "{result}");
        assert!(newcomer.terminate().await.status.success());
    }
    // An older one, and the log has lost what came behind it.
    purge(&trimmed.writer, &json!({ "urls": [format!("http://{HOST}/a")] })).await;
    purge(&trimmed.writer, &json!({ "tags": ["none"] })).await;
    trim_to(redis, 1).await;
    // It would put a new one there.
    trimmed.writer.signal("STOP");
    let prepare = async || put(redis, CHECKPOINT, good).await;
    redis.command::<()>(cmd("DEL").arg(CHECKPOINT)).await;
    let (newcomer, _) = trimmed.newcomer_in_time("rolled back", prepare).await;
    assert_eq!((looked_for(&newcomer, "behind").await, looked_for(&newcomer, "used").await), (1, 0));
}

/// I5: nobody is there but the one who starts, and it has no notes; the log is away, or is an earlier one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_log_that_lacks_what_the_checkpoint_tells_of_is_not_believed() {
    let trimmed = Trimmed::start().await;
    trimmed.redis.command::<()>(cmd("DEL").arg("tidegate:replicas")).await;
    let Trimmed { source, redis, table, writer, before, .. } = trimmed;
    assert!(writer.terminate().await.status.success());
    redis.command::<()>(cmd("DEL").arg(LOG)).await;
    for (name, value) in before {
        put(&redis, &name, &value).await;
    }
    let newcomer = started(&source, &table).await;
    let answer = newcomer.send(asking("/a")).await;
    assert_eq!((answer.text().as_str(), answer.is_hit()), ("new", false), "{answer:?}");
    assert_eq!(looked_for(&newcomer, "ahead").await, 1);
    // Others can follow it from there.
    let other = started(&source, &table).await;
    purge(&newcomer, &json!({ "urls": [format!("http://{HOST}/a")] })).await;
    eventually("a purge reaches it", async || {
        !other.send(asking("/a")).await.is_hit() && other.send(asking("/a")).await.is_hit()
    })
    .await;
}
