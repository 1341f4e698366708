//! The journal's files at rest, flipped and cut at random: never a wrong byte is delivered, nothing out of
//! order, no panic, and what is not delivered is reported. `TIDEGATE_TEST_SEED` repeats a run,
//! `TIDEGATE_TORTURE` makes it five times as long.

#![allow(clippy::print_stderr, reason = "a seed is told")]

use super::*;
use crate::sync::journal::record::Record;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Damaged folders.
const ROUNDS: usize = 500;
/// Examined at once.
const AT_ONCE: usize = 8;
/// How long a round may take to deliver what it can, or to say why not.
const ROUND_WITHIN: Duration = Duration::from_secs(10);

/// What a change is, by its id.
type Truth = BTreeMap<String, (String, u64, Bytes)>;

/// A folder as SIGKILL left it: the writer's connection was open, so that the log stands beside the file.
struct Sample {
    folder: tempfile::TempDir,
    truth: Truth,
}

/// Sixty changes of eight keys: a few delivered, one a dead letter with followers, some waiting with rows,
/// the others beyond the frontier; one in doubt, one aborted.
async fn sample() -> Sample {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::start(|got, number| match number {
        0..=12 => StatusCode::OK.into_response(),
        _ if got.target.starts_with("/k0") => StatusCode::BAD_REQUEST.into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
    .await;
    let engine = engine(data.path(), vec![destination("d", &to.url)]).await;
    let mut truth = Truth::new();
    for number in 0..60_u32 {
        let mut draft = draft(Method::PUT, &format!("/k{}", number % 8), &["d"]);
        // Some contents take pages of their own.
        let length = if number % 9 == 0 { 9000 } else { 40 };
        draft.body = format!("{number:06}").repeat(length / 6).into();
        let body = draft.body.clone();
        let intent = engine.begin(draft, etag()).await.unwrap();
        let id = intent.id();
        intent.commit(None, None).await.unwrap();
        truth.insert(id.to_string(), (format!("/k{}", number % 8), 0, body));
    }
    until("a dead letter and rows that wait", || async {
        let status = engine.destinations().await.unwrap().remove(0);
        status.dead_letters == 1 && status.parked_keys == 1 && status.last_error.is_some()
    })
    .await;
    let mut doubtful = engine.begin(draft(Method::POST, "/posted", &["d"]), etag()).await.unwrap();
    doubtful.sent();
    doubtful.doubt().await;
    drop(engine.begin(draft(Method::PUT, "/aborted", &["d"]), etag()).await.unwrap());
    engine.inner.journal.write(Record::Flush).await.unwrap();
    let every = ChangeFilter { limit: Some(1000), ..ChangeFilter::default() };
    for view in engine.changes(every).await.unwrap() {
        if let Some((_, sequence, _)) = truth.get_mut(&view.id) {
            *sequence = view.sequence.unwrap();
        }
    }
    // While the engine still has it open: as if the process had been killed now.
    let folder = tempfile::tempdir().unwrap();
    copy(data.path(), folder.path());
    engine.stop(DEADLINE).await;
    Sample { folder, truth }
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// Flips bits of a file, or cuts it; what was done.
fn damage(folder: &Path, random: &mut fastrand::Rng) -> String {
    let file = match random.u8(..8) {
        0..=4 => "journal.sqlite",
        5..=6 => "journal.sqlite-wal",
        _ => "journal.sqlite-shm",
    };
    let path = folder.join(file);
    let Ok(length) = std::fs::metadata(&path).map(|data| data.len()) else { return "nothing".into() };
    if length == 0 {
        return "nothing".into();
    }
    let mut open = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    if random.u8(..8) == 0 {
        let to = if random.bool() { 0 } else { random.u64(..length) };
        open.set_len(to).unwrap();
        return format!("{file} of {length} cut to {to}");
    }
    let mut told = format!("{file} of {length}:");
    for _ in 0..random.usize(1..=3) {
        let at = random.u64(..length);
        let mut byte = [0];
        open.seek(SeekFrom::Start(at)).unwrap();
        open.read_exact(&mut byte).unwrap();
        let bits = if random.bool() { 1 << random.u8(..8) } else { random.u8(1..) };
        open.seek(SeekFrom::Start(at)).unwrap();
        open.write_all(&[byte[0] ^ bits]).unwrap();
        write!(told, " {at}^{bits:#x}").unwrap();
    }
    told
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Refused,
    Reported,
    Unharmed,
}

/// Starts an engine on a damaged folder and lets it deliver what it can.
async fn round(sample: &Sample, seed: u64) -> Result<End, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    copy(sample.folder.path(), folder.path());
    // Half of them after a stop, when there is no log.
    if random.bool() {
        drop(crate::sync::journal::sqlite::open(folder.path()).unwrap());
    }
    let done = damage(folder.path(), &mut random);
    let fault = |what: String| Err(format!("{what} after {done} (round seed {seed})"));
    let to = Destination::good().await;
    let to_it = vec![DestinationSettings { on_failure: OnFailure::ParkKey, ..destination("d", &to.url) }];
    let engine = match Engine::start(settings(folder.path(), to_it), Clock::system(), ports(vec![]).0).await {
        Ok(engine) => engine,
        Err(error) if error.to_string().len() > 40 => return Ok(End::Refused),
        Err(error) => return fault(format!("it says no more than {error}")),
    };
    let settled = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            if engine.journal_state() != JournalState::Accepts {
                return true;
            }
            let Ok(all) = engine.destinations().await else { continue };
            if all.iter().all(|status| status.pending == 0 && status.in_flight == 0) {
                return false;
            }
        }
    };
    let stopped = tokio::time::timeout(ROUND_WITHIN, settled).await;
    let got = to.got.lock().unwrap().clone();
    let last = engine.destinations().await;
    let letters = engine
        .dead_letters(DeadLetterFilter::default(), LetterPage::FIRST)
        .await
        .unwrap_or_default()
        .dead_letters;
    let reported =
        engine.inner.journal.damaged() + u64::from(engine.journal_state() == JournalState::Damaged);
    engine.stop(DEADLINE).await;
    let Ok(stopped) = stopped else {
        return fault(format!("it neither delivered nor said why not: {last:?}"));
    };
    if let Err(wrong) = check(&sample.truth, &got) {
        return fault(wrong);
    }
    let arrived: BTreeSet<&str> = got.iter().map(|got| got.field("tidegate-change")).collect();
    let parked: BTreeSet<&str> = letters.iter().map(|letter| letter.key.as_str()).collect();
    let missing = sample.truth.iter().filter(|(id, (key, sequence, _))| {
        // Those that the sample delivered, and those behind its own dead letter.
        let delivered = sample.truth.values().map(|(_, sequence, _)| sequence).collect::<BTreeSet<_>>();
        let place = delivered.iter().position(|one| *one == sequence);
        !arrived.contains(id.as_str())
            && place.is_some_and(|place| place >= 20)
            && !parked.contains(key.as_str())
    });
    let missing = missing.count();
    if missing > 0 && reported == 0 && !stopped {
        return fault(format!("{missing} changes are missing and nothing is reported"));
    }
    if reported == 0 && letters.iter().any(|letter| letter.code == "damaged") {
        return fault("a damaged one is not counted".into());
    }
    Ok(if reported > 0 || stopped { End::Reported } else { End::Unharmed })
}

/// What arrived is what was written, and no key goes back.
fn check(truth: &Truth, got: &[Got]) -> Result<(), String> {
    let mut newest: HashMap<&str, u64> = HashMap::new();
    for got in got {
        let id = got.field("tidegate-change");
        let Some((target, sequence, body)) = truth.get(id) else {
            return Err(format!("no such change: {got:?}"));
        };
        let is_right = got.method == Method::PUT
            && got.target == *target
            && got.field("tidegate-key") == target
            && got.body == *body
            && got.field("content-type") == "text/plain"
            && got.field("authorization") == "Bearer own"
            && got.sequence() == *sequence;
        if !is_right {
            return Err(format!("wrong bytes: {got:?}"));
        }
        let before = newest.insert(target, *sequence).unwrap_or_default();
        if before >= *sequence {
            return Err(format!("{target} went back or repeats: {got:?}"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i3_damage_is_never_delivered_never_silent_and_never_a_panic() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let given = std::env::var("TIDEGATE_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("TIDEGATE_TEST_SEED={seed}");
    let rounds = if std::env::var_os("TIDEGATE_TORTURE").is_some() { ROUNDS * 5 } else { ROUNDS };
    let sample = Arc::new(sample().await);
    // The engine's own tasks survive a panic: it must be seen all the same.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let ours = panic.location().is_some_and(|at| {
            at.file().contains("sync/journal")
                || at.file().contains("sync/delivery")
                || at.file().contains("rusqlite")
        });
        let in_rounds = std::thread::current().name().is_some_and(|name| name == "journal") || ours;
        if in_rounds && !std::thread::current().name().is_some_and(|name| name.contains("tests")) {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        before(panic);
    }));
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut running, mut ends, mut faults) = (tokio::task::JoinSet::new(), BTreeMap::new(), Vec::new());
    let mut begun = 0;
    loop {
        while begun < rounds && running.len() < AT_ONCE {
            let (sample, seed) = (Arc::clone(&sample), random.u64(..));
            running.spawn(async move { round(&sample, seed).await });
            begun += 1;
        }
        match running.join_next().await {
            Some(Ok(Ok(end))) => *ends.entry(end).or_insert(0_usize) += 1,
            Some(Ok(Err(fault))) => faults.push(fault),
            Some(Err(error)) => faults.push(format!("a round panicked: {error}")),
            None => break,
        }
    }
    drop(std::panic::take_hook());
    eprintln!("{rounds} rounds: {ends:?}");
    assert!(faults.is_empty(), "{} of {rounds} rounds failed:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "the engine panicked");
    // Neither does nothing nor is all refused: otherwise this would prove nothing.
    for end in [End::Refused, End::Reported, End::Unharmed] {
        assert!(ends.get(&end).is_some_and(|count| *count >= rounds / 50), "{ends:?}");
    }
}
