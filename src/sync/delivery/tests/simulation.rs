//! I3, I4 and I10 by simulation: the course of each destination and the journal's statements as they are,
//! driven by a seeded schedule of writes, answers, lost answers, late reads, late commits, crashes, pauses
//! and operators. Only the shell of tasks around them (`worker`) is played here. A failure prints its seed;
//! `PROPTEST_CASES=10000 cargo test simulation` runs longer.

use super::super::Act;
use super::super::carrier::{self, Content};
use super::super::course::{After, Begin, Course};
use super::super::covered::Target;
use super::super::decide::{Answered, Decided};
use super::super::key_state::{Class, Entry};
use super::super::lanes::{PAGE, WINDOW_MAX};
use super::super::outcome::{Before, Blame, Code, Failure, Meanings, Outcome};
use super::super::reads::Unread;
use super::super::retry::{Next, Standing};
use super::super::search::{SHARE, Wanted};
use super::super::seen::{AfterRead, ReadEnded};
use super::super::state::{Seen, Snapshot};
use crate::clock::Timestamp;
use crate::secret::Endpoint;
use crate::sync::DeadLetterFilter;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::{Enlisted, Head, NewChange, Record, Step, Verdict};
use crate::sync::journal::sqlite::{self, Ahead, Dead, Found, LETTERS_MAX, Loaded, Store};
use crate::sync::settings::{
    Allow, BreakerSettings, DestinationSettings, Format, OnFailure, RetrySettings, Start,
};
use fastrand::Rng;
use http::{Method, StatusCode};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Steps of the schedule after which everything must have been settled.
const DRAIN_STEPS: usize = 20_000;
/// Rounds of begins, reads, answers and commits between two writes.
const ROUNDS: usize = 6;
/// Attempts at once.
const CONCURRENCY: usize = 6;

/// What a destination is like for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weather {
    Good,
    Flaky,
    /// It misses what most changes need.
    Picky,
    /// It takes none: where dead letters let others pass, a key has several.
    Rejecting,
    Down,
    Refusing,
    Overloaded,
    /// Nothing is wrong any more, with no change.
    Mended,
}

/// What was read for a course, and arrives later.
enum Read {
    Page(Vec<Ahead>, u64),
    Found(Vec<Found>, u64),
    Loaded(Arc<str>, Loaded),
    /// A source, after everything up to the last one had happened.
    Source {
        key: Arc<str>,
        entry: Entry,
        covered: Vec<Target>,
        as_of: u64,
        began_at: Timestamp,
    },
}

/// An attempt under way.
struct Attempt {
    key: Arc<str>,
    entry: Entry,
    standing: Standing,
    began_at: Timestamp,
    content: Content,
}

/// One destination with its course, and what it has seen.
struct Site {
    name: String,
    rng: Rng,
    settings: DestinationSettings,
    course: Course,
    weather: Weather,
    is_reading: bool,
    reads: Vec<Read>,
    attempts: Vec<Attempt>,
    /// Records that are not durable, with what follows once they are.
    queued: Vec<(Record, Option<Told>)>,
    /// What was applied, in order: key and sequence.
    applied: Vec<(Arc<str>, u64)>,
    /// In `format = "state"`: what it was sent, in order: key, target, and as of when it was read.
    states: Vec<(Arc<str>, Target, u64)>,
    attempted: BTreeMap<Arc<str>, u64>,
    delivered: BTreeMap<Arc<str>, u64>,
    delivered_durably: BTreeMap<Arc<str>, u64>,
    begun_at: Timestamp,
    repeated: u64,
    succeeded: u64,
    /// It may start with another `on_failure` after a crash.
    switches: bool,
    /// `on_failure` is and was another than `skip`: not even an attempt goes back.
    has_kept_order: bool,
}

#[derive(Clone)]
enum Told {
    Durable(Arc<str>, After, Option<u64>),
    Rows,
}

/// What a destination may meet.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Any,
    None,
}

struct World {
    store: Store,
    now: Timestamp,
    rng: Rng,
    written: u64,
    sites: Vec<Site>,
}

pub(super) fn settings(name: &str, on_failure: OnFailure, format: Format) -> DestinationSettings {
    DestinationSettings {
        name: name.into(),
        url: Endpoint::new(url::Url::parse("http://h").unwrap()),
        concurrency: CONCURRENCY,
        timeout: Duration::from_secs(1),
        on_failure,
        retry: RetrySettings {
            base: Duration::from_millis(200),
            cap: Duration::from_secs(2),
            give_up: Duration::from_hours(1),
            after_cap: Duration::from_secs(5),
            attempts: Some(3),
        },
        breaker: BreakerSettings {
            failures: 10,
            open: Duration::from_secs(1),
            open_cap: Duration::from_secs(30),
        },
        backlog_bytes: None,
        start: Start::Now,
        format,
        rate: None,
        secrets: Vec::new(),
        allow: Allow::Any,
        tls: crate::tls::ClientTls::default(),
        outcome: BTreeMap::new(),
        headers: Vec::new(),
    }
}

impl Site {
    fn new(store: &Store, settings: DestinationSettings, seed: u64, now: Timestamp) -> Self {
        Self {
            name: settings.name.clone(),
            rng: Rng::with_seed(seed),
            course: course(store, &settings, now),
            switches: seed % 8 > 3,
            has_kept_order: settings.on_failure != OnFailure::Skip,
            settings,
            weather: Weather::Good,
            is_reading: false,
            reads: Vec::new(),
            attempts: Vec::new(),
            queued: Vec::new(),
            applied: Vec::new(),
            states: Vec::new(),
            attempted: BTreeMap::new(),
            delivered: BTreeMap::new(),
            delivered_durably: BTreeMap::new(),
            begun_at: now,
            repeated: 0,
            succeeded: 0,
        }
    }

    /// The process ended and starts anew: what was not durable is gone.
    fn crash(&mut self, store: &Store, now: Timestamp) {
        // What was under way may have arrived.
        for attempt in std::mem::take(&mut self.attempts) {
            if self.weather != Weather::Down && self.rng.bool() {
                self.apply(&attempt);
            }
        }
        (self.queued, self.reads, self.is_reading) = (Vec::new(), Vec::new(), false);
        self.delivered = self.delivered_durably.clone();
        let choices = [self.settings.on_failure, OnFailure::ParkKey, OnFailure::Skip, OnFailure::Block];
        let choice = if self.switches { self.rng.usize(..choices.len()) } else { 0 };
        let on_failure = choices[choice];
        self.has_kept_order &= on_failure == self.settings.on_failure;
        self.settings.on_failure = on_failure;
        sqlite::apply(store, &Record::Adopt { destination: self.course.id, on_failure }, now).unwrap();
        self.course = course(store, &self.settings, now);
        (self.begun_at, self.repeated, self.succeeded) = (now, 0, 0);
    }

    /// An attempt has arrived.
    fn apply(&mut self, attempt: &Attempt) {
        self.applied.push((Arc::clone(&attempt.key), attempt.entry.sequence));
        if let Content::State(snapshot) = &attempt.content {
            self.states.push((Arc::clone(&attempt.key), snapshot.target, snapshot.as_of));
        }
    }

    fn known(&self, store: &Store) -> sqlite::KnownDestination {
        sqlite::destinations(store).unwrap().into_iter().find(|known| known.name == self.name).unwrap()
    }

    /// Reads ahead as the worker does; what is read is what stands there now, and arrives later.
    fn read(&mut self, store: &Store, newest: u64) {
        let lanes = &mut self.course.lanes;
        let cursor = lanes.cursor();
        if self.is_reading {
            return;
        }
        if newest > cursor && lanes.has_room() {
            let (page, to) = sqlite::page(store, self.course.id, cursor, PAGE).unwrap();
            self.is_reading = true;
            self.reads.push(Read::Page(page, to));
        } else if let Some(Wanted { apart, seen }) = lanes.search(newest) {
            let id = self.course.id;
            let found = sqlite::search(store, id, cursor, seen.max(cursor), SHARE, &apart).unwrap();
            self.is_reading = true;
            self.reads.push(Read::Found(found, newest));
        }
    }

    fn begin(&mut self, store: &Store, newest: u64, now: Timestamp) {
        while let Some(begin) = self.course.begin(now) {
            match begin {
                Begin::Load(key, limit) => {
                    let (id, cursor, dead) = (self.course.id, self.course.lanes.cursor(), self.course.dead());
                    let loaded = sqlite::load_key(store, id, &key, cursor, dead, limit).unwrap();
                    self.reads.push(Read::Loaded(key, loaded));
                }
                Begin::Read(key, entry, covered) => {
                    self.reads.push(Read::Source { key, entry, covered, as_of: newest, began_at: now });
                }
                Begin::Attempt(key, entry, standing, content) => {
                    self.check_parked(store, &key, entry.sequence);
                    self.attempt(Attempt { key, entry, standing, began_at: now, content });
                }
            }
        }
    }

    /// Where dead letters park their key, nothing behind one of them is sent.
    fn check_parked(&self, store: &Store, key: &Arc<str>, sequence: u64) {
        let filter = DeadLetterFilter { key_prefix: Some(key.to_string()), ..DeadLetterFilter::default() };
        let parks = self.course.dead() == Dead::Park;
        let buried = sqlite::buried(store, self.course.id, &filter, 0, LETTERS_MAX).unwrap();
        let before = buried.iter().find(|it| it.key == *key && !it.overtaken && it.sequence < sequence);
        assert!(!parks || before.is_none(), "{key} {sequence} passes the dead letter {before:?}");
    }

    fn attempt(&mut self, attempt: Attempt) {
        let Attempt { key, entry, standing, began_at: now, .. } = &attempt;
        let sequence = entry.sequence;
        assert!(self.attempts.iter().all(|attempt| attempt.key != *key), "I3: {key} is in flight twice");
        let newest_delivered = self.delivered.get(key).copied().unwrap_or_default();
        assert!(sequence >= newest_delivered, "I3: {key} {sequence} after {newest_delivered} was delivered");
        let last = self.attempted.insert(Arc::clone(key), sequence).unwrap_or_default();
        assert!(!self.has_kept_order || sequence >= last, "I3: {key} {sequence} after {last} was attempted");
        let is_repetition = *standing == Standing::Open && Class::of(&entry.past) == Class::Repeat;
        let now = *now;
        self.attempts.push(attempt);
        assert!(self.attempts.len() <= CONCURRENCY, "I10: attempts at once");
        if is_repetition {
            self.repeated += 1;
            let seconds = now.since(self.begun_at).as_secs();
            let allowed = 60 + self.succeeded / 5 + seconds + 1;
            assert!(self.repeated <= allowed, "I10: {} repetitions, {allowed} allowed", self.repeated);
        }
    }

    fn arrive(&mut self, read: Read, now: Timestamp) {
        match read {
            Read::Source { key, entry, covered, as_of, began_at } => {
                let snapshot = Box::new(Snapshot::sample(entry.sequence, as_of));
                let roll = self.rng.u8(..);
                let unread = |status| Unread { source: String::new(), status, retry_after: None };
                let seen = match roll {
                    _ if covered.contains(&snapshot.target) => Seen::Covered,
                    0..8 => Seen::Unread(unread(None)),
                    8..12 => Seen::Unread(unread(Some(403))),
                    _ => Seen::State(snapshot),
                };
                let read = Some(carrier::Read::Seen(seen));
                let ended = ReadEnded { key: Arc::clone(&key), entry, read, began_at };
                let mut rng = self.rng.fork();
                let (step, after) = match self.course.read(ended, now, || rng.f64()) {
                    AfterRead::Nothing | AfterRead::Answered(_) => return,
                    AfterRead::Recorded(step, after) | AfterRead::Unread { step, after, .. } => (step, after),
                };
                self.record(key, step, after, None);
            }
            Read::Loaded(key, loaded) => {
                self.course.free(&key);
                self.course.lanes.loaded(&key, loaded);
            }
            Read::Found(found, newest) => {
                self.is_reading = false;
                self.course.lanes.found(found, newest);
            }
            Read::Page(page, to) => {
                let rows = self.course.lanes.read(page, to);
                // While rows are written nothing more is read.
                self.is_reading = !rows.is_empty();
                let told = self.is_reading.then_some(Told::Rows);
                let step = self.course.progress(Step::Spill { rows });
                self.queued.push((Record::Progress(Box::new(step)), told));
            }
        }
    }

    fn answer(&mut self, at: usize, now: Timestamp) {
        let attempt = self.attempts.swap_remove(at);
        let (outcome, arrived) = self.outcome(&attempt.key, &attempt.entry);
        if arrived {
            self.apply(&attempt);
        }
        let Attempt { key, entry, standing, began_at, content } = attempt;
        let sequence = entry.sequence;
        let state = match content {
            Content::Change => None,
            Content::State(snapshot) => Some((snapshot.target, snapshot.as_of)),
        };
        let round_trip = now.since(began_at);
        let change = ChangeId(uuid::Uuid::from_u64_pair(0, sequence));
        let answered =
            Answered { key: Arc::clone(&key), entry, standing, began_at, change, outcome, round_trip, state };
        let mut rng = self.rng.fork();
        let Decided { next, step, after } = self.course.answered(answered, now, || rng.f64());
        let settled = matches!(next, Next::Settle(_)).then_some(sequence);
        if settled.is_some() {
            self.succeeded += 1;
            self.delivered.insert(Arc::clone(&key), sequence);
        }
        self.record(key, step, after, settled);
    }

    fn record(&mut self, key: Arc<str>, step: Step, after: After, settled: Option<u64>) {
        let record = Record::Progress(Box::new(self.course.progress(step)));
        self.queued.push((record, Some(Told::Durable(key, after, settled))));
        let rows = self.course.lanes.laggards();
        if !rows.is_empty() {
            let step = self.course.progress(Step::Spill { rows });
            self.queued.push((Record::Progress(Box::new(step)), None));
        }
    }

    /// What it answers, and whether it has acted.
    fn outcome(&mut self, key: &str, entry: &Entry) -> (Outcome, bool) {
        let before = if entry.past.answer_lost { Before::AnswerLost } else { Before::Nothing };
        let (roll, is_lost, acts) = (self.rng.usize(..64), self.rng.u8(..) < 40, self.rng.bool());
        let meanings = Meanings { format: Format::Replay, given: BTreeMap::new() };
        let answer = |statuses: &[u16], after: Option<u64>| {
            let status = StatusCode::from_u16(statuses[roll % statuses.len()]).unwrap();
            let after = after.map(Duration::from_secs);
            let failure = Failure::answered(status, after, String::new());
            let outcome = meanings.of(&Method::PUT, before, failure);
            (outcome, status.is_success())
        };
        // Some changes are at fault themselves, whatever the weather.
        match (self.weather, entry.sequence % 41) {
            (Weather::Down, _) => (Outcome::Retry(Failure::of(Code::Connect), Blame::Destination), false),
            (Weather::Mended, _) => answer(&[200], None),
            (Weather::Rejecting, _) => answer(&[400], None),
            (Weather::Refusing, _) => answer(&[401, 403], None),
            (_, 7) if key.len() < 4 => answer(&[400, 422, 301], None),
            (_, 8) => answer(&[403], None),
            (Weather::Overloaded, _) => answer(&[200, 429, 503], Some(1)),
            (Weather::Picky, _) => answer(&[200, 404, 404], None),
            (Weather::Good, _) => answer(&[200, 204], None),
            (Weather::Flaky, _) if is_lost => {
                (Outcome::Retry(Failure::of(Code::Timeout), Blame::Destination), acts)
            }
            (Weather::Flaky, _) => answer(&[200, 200, 200, 500, 404, 409], None),
        }
    }

    /// An operator redrives or discards some dead letters; the worker waits for the journal meanwhile.
    fn operate(&mut self, store: &Store, act: Act, share: f64, now: Timestamp) -> Vec<Told> {
        let filter = DeadLetterFilter::default();
        let buried = sqlite::buried(store, self.course.id, &filter, 0, LETTERS_MAX).unwrap();
        let chosen: Vec<_> = buried
            .into_iter()
            .filter(|buried| self.rng.f64() < share && self.course.may_raise(act, buried))
            .collect();
        let keys: BTreeSet<Arc<str>> = chosen.iter().map(|buried| Arc::clone(&buried.key)).collect();
        let sequences = chosen.iter().map(|buried| buried.sequence).collect();
        let (destination, on_failure) = (self.course.id, self.settings.on_failure);
        let record = match act {
            Act::Discard => Record::Discard { destination, sequences },
            Act::Redrive => {
                let rows = self.course.make_way(&keys);
                let step = self.course.progress(Step::Spill { rows });
                self.queued.push((Record::Progress(Box::new(step)), None));
                Record::Redrive { destination, sequences, on_failure }
            }
        };
        self.queued.push((record, None));
        let told = self.commit(store, now);
        for key in &keys {
            let step = Record::Arrange { destination, key: Arc::clone(key), on_failure, after: 0 };
            sqlite::apply(store, &step, now).unwrap();
            self.course.lanes.revive(key);
        }
        told
    }

    /// What is queued becomes durable; what is to be told of it.
    fn commit(&mut self, store: &Store, now: Timestamp) -> Vec<Told> {
        let mut told = Vec::new();
        for (record, tell) in std::mem::take(&mut self.queued) {
            sqlite::apply(store, &record, now).unwrap();
            if let Some(Told::Durable(key, _, Some(sequence))) = &tell {
                self.delivered_durably.insert(Arc::clone(key), *sequence);
            }
            told.extend(tell);
        }
        told
    }

    fn commit_and_tell(&mut self, store: &Store, now: Timestamp) {
        let told = self.commit(store, now);
        self.tell(told);
    }

    fn tell(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Durable(key, after, _) => self.course.durable(&key, after),
                Told::Rows => {
                    self.is_reading = false;
                    self.course.lanes.rows_written();
                }
            }
        }
    }

    fn is_settled(&self, store: &Store, newest: u64) -> bool {
        let figures = sqlite::figures(store, &self.known(store), self.course.lanes.cursor()).unwrap();
        let lanes = &self.course.lanes;
        figures.waiting + figures.parked + figures.dead_letters == 0
            && lanes.is_empty()
            && lanes.frontier() == newest
    }

    fn step(&mut self, store: &Store, newest: u64, now: Timestamp) {
        self.read(store, newest);
        self.begin(store, newest, now);
        for _ in 0..self.rng.usize(..=self.reads.len()) {
            let at = self.rng.usize(..self.reads.len());
            let read = self.reads.swap_remove(at);
            self.arrive(read, now);
        }
        for _ in 0..self.rng.usize(..=self.attempts.len()) {
            let at = self.rng.usize(..self.attempts.len());
            self.answer(at, now);
        }
        self.course.lanes.check_bounds(WINDOW_MAX + PAGE as usize + 16 * CONCURRENCY);
    }
}

fn course(store: &Store, settings: &DestinationSettings, now: Timestamp) -> Course {
    let known = sqlite::destinations(store).unwrap();
    let known = known.into_iter().find(|known| known.name == settings.name).unwrap();
    let open = sqlite::open_keys(store, known.id).unwrap();
    Course::new(&known, settings.clone(), open, now)
}

impl World {
    fn new(seed: u64, on_failure: OnFailure, format: Format) -> Self {
        let store = sqlite::in_memory();
        let now = Timestamp::from_millis(1_700_000_000_000);
        let enlisted: Vec<_> =
            ["a", "b"].map(|name| Enlisted { name: name.into(), start: Start::Now }).into();
        sqlite::register(&store, &enlisted).unwrap();
        let site = |name, seed| Site::new(&store, settings(name, on_failure, format), seed, now);
        let sites = vec![site("a", seed ^ 1), site("b", seed ^ 2)];
        Self { store, now, rng: Rng::with_seed(seed), written: 0, sites }
    }

    fn newest(&self) -> u64 {
        sqlite::last_sequence(&self.store).unwrap()
    }

    fn write(&mut self, key: String, route: &str, destinations: &[&str]) {
        self.written += 1;
        let id = ChangeId(uuid::Uuid::from_u64_pair(1, self.written));
        let text = String::new;
        let head = Head {
            route: route.into(),
            source: text(),
            method: "PUT".into(),
            authority: text(),
            client_path_and_query: text(),
            path_and_query: text(),
            fields: Vec::new(),
            known_etag: None,
        };
        let destinations = destinations.iter().map(ToString::to_string).collect();
        let body = bytes::Bytes::new();
        let change = NewChange {
            id,
            key,
            destinations,
            head,
            body,
            recorded_at: self.now,
            accepted: None,
            client_key: None,
            for_source: None,
        };
        sqlite::apply(&self.store, &Record::Intent(Box::new(change)), self.now).unwrap();
        let verdict = Verdict::Committed { key: None };
        sqlite::apply(&self.store, &Record::outcome(id, verdict), self.now).unwrap();
    }

    fn writes(&mut self) {
        // Now and then one route gets many keys at once, so that the window fills.
        if self.rng.u16(..) < 400 {
            for number in 0..1300 {
                self.write(format!("burst-{number}"), "busy", &["a", "b"]);
            }
        }
        for _ in 0..self.rng.usize(..4) {
            let key = format!("k{}", self.rng.u8(..12));
            let route = ["quiet", "busy", "other"][self.rng.usize(..3)];
            let destinations: &[&str] = if self.rng.u8(..8) == 0 { &["b"] } else { &["a", "b"] };
            self.write(key, route, destinations);
        }
    }

    /// One step; the first destination meets this trouble, the second one has its own always.
    fn step(&mut self, trouble: Trouble) {
        self.now = self.now.plus(Duration::from_millis(self.rng.u64(1..400)));
        self.writes();
        let (crashes, newest) = (self.rng.u8(..) < 6, self.newest());
        for (number, site) in self.sites.iter_mut().enumerate() {
            let mut rng = site.rng.fork();
            if crashes {
                site.crash(&self.store, self.now);
            }
            if rng.u8(..) < 5 {
                use Weather::{Down, Flaky, Good, Overloaded, Picky, Refusing, Rejecting};
                let all = [Good, Good, Flaky, Flaky, Picky, Rejecting, Down, Refusing, Overloaded];
                site.weather =
                    if number > 0 || trouble == Trouble::Any { all[rng.usize(..all.len())] } else { Good };
            }
            match rng.u8(..) {
                0..2 => site.course.pause(),
                2..20 => site.course.resume(),
                20..40 => {
                    let act = if rng.bool() { Act::Redrive } else { Act::Discard };
                    let told = site.operate(&self.store, act, rng.f64(), self.now);
                    site.tell(told);
                }
                _ => {}
            }
            for _ in 0..ROUNDS {
                site.step(&self.store, newest, self.now);
                if rng.u8(..) < 170 {
                    site.commit_and_tell(&self.store, self.now);
                }
            }
        }
    }

    /// All is well again and operators send what is dead again, until nothing is left.
    fn drain(&mut self) {
        for site in &mut self.sites {
            site.course.resume();
            site.weather = Weather::Mended;
        }
        let newest = self.newest();
        for number in 0..DRAIN_STEPS {
            self.now = self.now.plus(Duration::from_secs(1));
            for site in &mut self.sites {
                site.step(&self.store, newest, self.now);
                site.commit_and_tell(&self.store, self.now);
            }
            if number % 50 > 0 {
                continue;
            }
            // What a newer change has overtaken can only be discarded.
            let act = if number < 1000 { Act::Redrive } else { Act::Discard };
            for site in &mut self.sites {
                let told = site.operate(&self.store, act, 1.0, self.now);
                site.tell(told);
            }
            if self.sites.iter().all(|site| site.is_settled(&self.store, newest)) {
                return;
            }
        }
        let left = self.sites.iter().map(|site| (&site.name, &site.course.lanes, &site.course.pace));
        panic!("I2: something is never settled: {:?}", left.collect::<Vec<_>>());
    }

    /// Per key, what was applied last is the newest that was applied, and nothing that was not discarded
    /// is missing.
    fn judge(&self) {
        for site in &self.sites {
            let mut last = BTreeMap::new();
            let mut newest = BTreeMap::<_, u64>::new();
            for (key, sequence) in &site.applied {
                last.insert(key, *sequence);
                let newest = newest.entry(key).or_default();
                *newest = (*newest).max(*sequence);
            }
            // A state may come with an older change: then it is as of later, and covers the newer one.
            if site.settings.format == Format::Replay {
                assert_eq!(last, newest, "I3: a key of {} ended with something older", site.name);
            }
            let mut states = BTreeMap::<_, u64>::new();
            for (key, target, as_of) in &site.states {
                let newest = states.entry((key.as_ref(), target)).or_default();
                assert!(*newest <= *as_of, "I3: a state of {key} at {} went back", site.name);
                *newest = *as_of;
            }
            let applied: BTreeSet<u64> = site.applied.iter().map(|(_, sequence)| *sequence).collect();
            let known = site.known(&self.store);
            for view in sqlite::changes(
                &self.store,
                &crate::sync::ChangeFilter { limit: Some(sqlite::LISTED_MAX), ..Default::default() },
            )
            .unwrap()
            {
                let of_site = view.deliveries.iter().find(|delivery| delivery.destination == known.name);
                let Some(delivery) = of_site else { continue };
                let is_applied = applied.contains(&view.sequence.unwrap());
                let sequence = view.sequence.unwrap();
                let target = Snapshot::sample(sequence, 0).target;
                let has = states.get(&(view.key.as_str(), &target)).copied().unwrap_or_default();
                let fits = match delivery.state.as_str() {
                    "delivered" => is_applied,
                    // The destination has its target as it was after it, or newer.
                    "superseded" => has >= sequence,
                    state => state == "discarded",
                };
                assert!(fits, "I2: {} {delivery:?} {is_applied}", view.key);
            }
        }
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(24), failure_persistence: None, ..ProptestConfig::default() }
}

fn on_failures() -> impl Strategy<Value = OnFailure> {
    prop_oneof![3 => Just(OnFailure::ParkKey), 2 => Just(OnFailure::Skip), 1 => Just(OnFailure::Block)]
}

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![2 => Just(Format::Replay), 1 => Just(Format::State)]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn i3_i10_every_schedule_keeps_the_order_loses_nothing_and_stays_within_bounds(
        seed in any::<u64>().no_shrink(), steps in 1..200_usize, on_failure in on_failures(),
        format in formats(),
    ) {
        let mut world = World::new(seed, on_failure, format);
        for _ in 0..steps {
            world.step(Trouble::Any);
        }
        world.drain();
        world.judge();
    }

    #[test]
    fn i4_the_trouble_of_one_destination_changes_nothing_for_another(
        seed in any::<u64>().no_shrink(), steps in 1..120_usize, on_failure in on_failures(),
        format in formats(),
    ) {
        let [in_trouble, at_peace] = [Trouble::Any, Trouble::None].map(|trouble| {
            let mut world = World::new(seed, on_failure, format);
            for _ in 0..steps {
                world.step(trouble);
            }
            let other = world.sites.remove(1);
            let known = other.known(&world.store);
            let figures = sqlite::figures(&world.store, &known, other.course.lanes.cursor()).unwrap();
            (other, format!("{figures:?}"))
        });
        prop_assert_eq!(in_trouble.0.applied, at_peace.0.applied);
        prop_assert_eq!(in_trouble.0.attempted, at_peace.0.attempted);
        prop_assert_eq!(in_trouble.1, at_peace.1);
    }
}
