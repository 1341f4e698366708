//! What the retry budget is charged for where a source is read first: what it was read for may have changed by
//! the time it is sent.

use super::super::budget::Repeats;
use super::super::carrier;
use super::super::course::{Begin, Course};
use super::super::decide::Answered;
use super::super::key_state::Entry;
use super::super::outcome::{Blame, Code, Failure, Outcome};
use super::super::pace::News;
use super::super::reads::Unread;
use super::super::retry::Standing;
use super::super::seen::{AfterRead, ReadEnded};
use super::super::state::{Seen, Snapshot};
use super::simulation::settings;
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::journal::record::Past;
use crate::sync::journal::sqlite::{Kept, KnownDestination, Loaded, OpenKey, Waiting};
use crate::sync::settings::{Format, OnFailure};
use std::sync::Arc;
use std::time::Duration;

/// A destination that gets states, with one change that has failed before.
fn course(now: Timestamp) -> Course {
    let known = KnownDestination {
        id: 1,
        name: "d".into(),
        frontier: 0,
        paused: false,
        waits_until: Timestamp::default(),
        proven: true,
        is_detached: false,
    };
    let open =
        OpenKey { key: "k".into(), route: "r".into(), next_at: now, waits: true, dead: false, repeat: true };
    Course::new(&known, settings("d", OnFailure::Skip, Format::State), vec![open], now)
}

/// What begins, once its deliveries are loaded.
fn begin(course: &mut Course, now: Timestamp) -> Option<Begin> {
    loop {
        match course.begin(now)? {
            Begin::Load(key, _) => {
                let past = Past { attempts: 1, ..Past::default() };
                let waiting = Waiting { sequence: 1, past, route: "r".into(), kept: Kept::Row };
                course.free(&key);
                course.lanes.loaded(&key, Loaded { deliveries: vec![waiting], ..Loaded::default() });
            }
            begins => return Some(begins),
        }
    }
}

/// The source tells what it has.
fn told(entry: &Entry) -> Seen {
    Seen::State(Box::new(Snapshot::sample(entry.sequence, 1)))
}

/// The source tells nothing.
fn untold(_: &Entry) -> Seen {
    Seen::Unread(Unread { source: String::new(), status: Some(403), retry_after: None })
}

/// The source is read.
fn read(course: &mut Course, now: Timestamp, seen: impl FnOnce(&Entry) -> Seen) {
    let Some(Begin::Read(key, entry, _)) = begin(course, now) else { panic!("nothing is read") };
    let read = Some(carrier::Read::Seen(seen(&entry)));
    let ended = ReadEnded { key: Arc::clone(&key), entry, read, began_at: now };
    if let AfterRead::Unread { after, .. } = course.read(ended, now, || 0.0) {
        course.durable(&key, after);
        course.resume();
    }
}

/// What was read is sent, and fails.
fn fail(course: &mut Course, now: Timestamp) -> Standing {
    let Some(Begin::Attempt(key, entry, standing, _)) = begin(course, now) else { panic!("nothing is sent") };
    let answered = Answered {
        key: Arc::clone(&key),
        entry,
        standing,
        began_at: now,
        change: ChangeId(uuid::Uuid::from_u64_pair(0, 1)),
        outcome: Outcome::Retry(Failure::of(Code::Connect), Blame::Destination),
        round_trip: Duration::ZERO,
        state: None,
    };
    let decided = course.answered(answered, now, || 0.0);
    course.durable(&key, decided.after);
    course.resume();
    standing
}

/// It refuses everybody, and is probed from now on.
fn hold(course: &mut Course, now: Timestamp) {
    course.pace.learn(News::Refused, Standing::Open, now, Duration::ZERO, 0.0);
    course.resume();
}

/// Another change has got through.
fn release(course: &mut Course, now: Timestamp) {
    assert_eq!(course.pace.admit(now), Some(Standing::Probe));
    course.pace.learn(News::Good, Standing::Probe, now, Duration::ZERO, 0.0);
}

#[test]
fn i10_what_was_read_for_a_probe_is_charged_where_it_is_sent_as_a_repetition() {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let mut course = course(now);
    while course.budget.repeats(now) == Repeats::Allowed {
        course.budget.spend(now);
    }

    hold(&mut course, now);
    read(&mut course, now, untold);
    assert_eq!(course.budget.repeats(now), Repeats::Exhausted, "what was not paid is not given back");

    read(&mut course, now, told);
    release(&mut course, now);
    assert!(begin(&mut course, now).is_none(), "it is no probe any more, and nothing is saved for it");

    let later = now.plus(Duration::from_secs(1));
    hold(&mut course, later);
    read(&mut course, later, told);
    release(&mut course, later);
    assert_eq!(fail(&mut course, later), Standing::Open);
    assert_eq!(course.budget.repeats(later), Repeats::Exhausted, "it is paid when it is sent");

    hold(&mut course, later);
    read(&mut course, later, told);
    assert_eq!(fail(&mut course, later), Standing::Probe, "a probe costs nothing");
}
