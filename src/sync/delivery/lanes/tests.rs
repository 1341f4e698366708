use super::*;
use crate::sync::journal::sqlite::Waiting;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn page(entries: &[(u64, &str)]) -> Vec<Ahead> {
    entries.iter().map(|(sequence, key)| ahead(*sequence, key, "r")).collect()
}

fn ahead(sequence: u64, key: &str, route: &str) -> Ahead {
    Ahead { sequence, key: key.into(), route: route.into() }
}

fn row(sequence: u64) -> Waiting {
    Waiting { sequence, past: Past::default(), route: "r".into(), kept: Kept::Row }
}

fn failed() -> Past {
    Past { attempts: 1, ..Past::default() }
}

fn loaded(deliveries: Vec<Waiting>) -> Loaded {
    Loaded { deliveries, ..Loaded::default() }
}

/// Every route may.
fn any(_: &str) -> bool {
    true
}

fn lanes() -> Lanes {
    Lanes::new(0, Vec::new(), OnFailure::ParkKey)
}

/// A key, with the sequence that is attempted or 0 for a load.
fn taken(lanes: &mut Lanes) -> Option<(String, u64)> {
    match lanes.take(at(0), Repeats::Allowed, any)? {
        Turn::Attempt(key, entry) => Some((key.to_string(), entry.sequence)),
        Turn::Load(key, _) => Some((key.to_string(), 0)),
    }
}

fn delivered(lanes: &mut Lanes, key: &str) {
    lanes.settle_head(&key.into());
    lanes.go_on(&key.into());
}

#[test]
fn i3_one_in_flight_per_key_in_order() {
    let mut lanes = lanes();
    assert!(lanes.read(page(&[(1, "a"), (2, "a"), (3, "b")]), 3).is_empty());
    assert_eq!(taken(&mut lanes), Some(("a".into(), 1)));
    assert_eq!(taken(&mut lanes), Some(("b".into(), 3)));
    assert_eq!(taken(&mut lanes), None, "2 waits for 1");
    lanes.settle_head(&"b".into());
    assert_eq!(lanes.frontier(), 0, "1 and 2 are not settled");
    lanes.settle_head(&"a".into());
    assert_eq!(lanes.frontier(), 1);
    assert_eq!(taken(&mut lanes), None, "not before it is durable");
    lanes.go_on(&"a".into());
    assert_eq!(taken(&mut lanes), Some(("a".into(), 2)));
    lanes.settle_head(&"a".into());
    assert_eq!(lanes.frontier(), 3);
}

#[test]
fn i3_rows_that_a_load_did_not_see_are_loaded_later() {
    let mut lanes = lanes();
    let key: Arc<str> = "a".into();
    lanes.read(page(&[(1, "a")]), 1);
    taken(&mut lanes);
    assert!(lanes.defer(&key, &failed()).is_empty());
    assert_eq!(lanes.read(page(&[(2, "a")]), 2).len(), 1, "what follows a deferred one needs a row");
    lanes.wait(&key, at(0));
    assert_eq!(taken(&mut lanes), None, "nothing is loaded before that row can be read");
    lanes.rows_written();
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
    assert_eq!(lanes.read(page(&[(3, "a")]), 3).len(), 1);
    lanes.rows_written();
    lanes.loaded(&key, loaded(vec![row(1), row(2)]));
    for sequence in [1, 2] {
        assert_eq!(taken(&mut lanes), Some(("a".into(), sequence)));
        delivered(&mut lanes, "a");
    }
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)), "3 is loaded");
    lanes.loaded(&key, loaded(vec![row(3)]));
    assert_eq!(taken(&mut lanes), Some(("a".into(), 3)));
    delivered(&mut lanes, "a");
    assert_eq!((taken(&mut lanes), lanes.keys.len(), lanes.in_memory), (None, 0, 0));
}

#[test]
fn i3_what_a_load_took_ahead_is_not_read_again() {
    let open = OpenKey {
        key: "a".into(),
        route: "r".into(),
        next_at: at(0),
        waits: true,
        dead: false,
        repeat: true,
    };
    let mut lanes = Lanes::new(4, vec![open], OnFailure::ParkKey);
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
    let unread = Waiting { kept: Kept::Unread, ..row(9) };
    lanes.loaded(&"a".into(), loaded(vec![row(3), unread]));
    assert_eq!((lanes.frontier(), lanes.rowless()), (4, (Some(9), 0)));
    for sequence in [3, 9] {
        assert_eq!(taken(&mut lanes), Some(("a".into(), sequence)));
        delivered(&mut lanes, "a");
    }
    assert!(lanes.read(page(&[(5, "b"), (9, "a")]), 9).is_empty());
    assert_eq!(taken(&mut lanes), Some(("b".into(), 5)));
    delivered(&mut lanes, "b");
    assert_eq!((taken(&mut lanes), lanes.frontier(), lanes.keys.len()), (None, 9, 0));
}

#[test]
fn i3_a_load_under_way_is_void_once_older_ones_are_put_in_front() {
    let mut lanes = lanes();
    let key: Arc<str> = "a".into();
    lanes.read(page(&[(2, "a")]), 2);
    taken(&mut lanes);
    lanes.defer(&key, &failed());
    lanes.wait(&key, at(0));
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
    assert!(lanes.make_way(&key).is_empty());
    lanes.revive(&key);
    lanes.loaded(&key, loaded(vec![row(2)]));
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)), "it is loaded again");
    lanes.loaded(&key, loaded(vec![row(1), row(2)]));
    assert_eq!(taken(&mut lanes), Some(("a".into(), 1)));
    assert!(lanes.make_way(&key).is_empty(), "2 has a row already");
    delivered(&mut lanes, "a");
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
}

#[test]
fn i3_behind_a_dead_letter_that_is_left_a_key_is_parked_again() {
    let mut lanes = lanes();
    let key: Arc<str> = "a".into();
    lanes.revive(&key);
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
    lanes.loaded(&key, Loaded { is_barred: true, ..loaded(vec![row(1)]) });
    assert_eq!(taken(&mut lanes), Some(("a".into(), 1)));
    let rows = lanes.read(page(&[(5, "a")]), 5);
    assert_eq!(rows.first().map(|row| row.2), Some(Followers::Parked), "it stays behind the dead letter");
    lanes.rows_written();
    delivered(&mut lanes, "a");
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
    lanes.loaded(&key, Loaded { is_barred: true, ..Loaded::default() });
    assert_eq!((taken(&mut lanes), lanes.keys.len()), (None, 1));
    lanes.revive(&key);
    assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
}

#[test]
fn repetitions_wait_for_the_budget_and_first_attempts_go_on() {
    let mut lanes = lanes();
    lanes.read(page(&[(1, "a"), (2, "b")]), 2);
    taken(&mut lanes);
    lanes.defer(&"a".into(), &failed());
    lanes.wait(&"a".into(), at(0));
    let first = lanes.take(at(0), Repeats::Exhausted, any);
    assert!(matches!(first, Some(Turn::Attempt(key, _)) if key.as_ref() == "b"));
    assert!(!lanes.is_ready(at(0), Repeats::Exhausted, any) && lanes.is_ready(at(0), Repeats::Allowed, any));
    assert_eq!((taken(&mut lanes), lanes.in_memory), (Some(("a".into(), 0)), 1), "nothing was loaded for it");
    lanes.loaded(&"a".into(), loaded(vec![Waiting { past: failed(), ..row(1) }]));
    assert_eq!(lanes.take(at(0), Repeats::Exhausted, any), None);
    assert_eq!(taken(&mut lanes), Some(("a".into(), 1)));
}

#[test]
fn i10_a_hot_or_parked_key_does_not_fill_the_window() {
    let mut lanes = lanes();
    let hot: Vec<(u64, &str)> = (1..=2000).map(|sequence| (sequence, "hot")).collect();
    assert_eq!(lanes.read(page(&hot), 2000).len(), 2000 - QUEUE_PER_KEY_MAX);
    lanes.rows_written();
    assert!(lanes.has_room());
    taken(&mut lanes);
    assert_eq!(lanes.park(&"hot".into()).len(), QUEUE_PER_KEY_MAX - 1);
    assert_eq!(lanes.rowless(), (None, 0));
    let rows = lanes.read(page(&[(2001, "hot")]), 2001);
    assert_eq!(rows.first().map(|row| row.2), Some(Followers::Parked));
}

/// Reads pages of a journal as a worker does, while there is room.
fn read_on(lanes: &mut Lanes, journal: &[(u64, String, &str)]) -> usize {
    let mut rows = 0;
    while lanes.has_room() {
        let unread = journal.iter().filter(|change| change.0 > lanes.cursor()).take(PAGE as usize);
        let page: Vec<_> = unread.map(|(sequence, key, route)| ahead(*sequence, key, route)).collect();
        let Some(last) = page.last() else { break };
        let to = last.sequence;
        rows += lanes.read(page, to).len();
        lanes.rows_written();
    }
    rows
}

#[test]
fn i10_fifty_thousand_changes_behind_a_black_hole_cost_disk_and_not_memory() {
    let journal: Vec<_> = (1..=50_000).map(|sequence| (sequence, format!("k{sequence}"), "r")).collect();
    let mut lanes = lanes();
    let mut rows = read_on(&mut lanes, &journal);
    // One delivery after another times out and waits; each makes room for one more.
    for _ in 0..2000 {
        let Some(Turn::Attempt(key, _)) = lanes.take(at(0), Repeats::Allowed, any) else {
            panic!("one is ready")
        };
        rows += 1 + lanes.defer(&key, &failed()).len();
        lanes.wait(&key, at(1_000_000));
        rows += read_on(&mut lanes, &journal);
        assert!(lanes.in_memory <= WINDOW_MAX + PAGE as usize, "{}", lanes.in_memory);
    }
    assert_eq!(
        (rows, lanes.waiting.len()),
        (2000, 2000),
        "a row for what was attempted, none for what waits"
    );
    assert!(lanes.keys.len() <= 2000 + WINDOW_MAX + PAGE as usize);
    // All are due at once: they are loaded one by one and not all together.
    let now = at(1_000_000);
    for _ in 0..2000 {
        let mut turn = lanes.take(now, Repeats::Allowed, any);
        // What was never tried has its turns in between.
        if let Some(Turn::Attempt(first, _)) = &turn {
            lanes.place_first(Arc::clone(first));
            turn = lanes.take(now, Repeats::Allowed, any);
        }
        let Some(Turn::Load(key, limit)) = turn else { panic!("{turn:?}") };
        assert_eq!(limit, 1, "the window is full");
        lanes.loaded(&key, loaded(vec![Waiting { past: failed(), ..row(1) }]));
        let Some(Turn::Attempt(again, _)) = lanes.take(now, Repeats::Allowed, any) else { panic!("{key}") };
        assert_eq!(again, key, "what is loaded is attempted next");
        assert!(lanes.in_memory <= WINDOW_MAX + PAGE as usize + 1);
        delivered(&mut lanes, &key);
    }
}

/// What the journal finds for a search.
fn find(lanes: &mut Lanes, journal: &[(u64, String, &str)]) {
    let newest = journal.last().unwrap().0;
    let Some(Wanted { apart, seen }) = lanes.search(newest) else { return };
    let routes: BTreeSet<&str> = journal.iter().map(|change| change.2).collect();
    let mut found = Vec::new();
    for route in routes {
        let (from, room) = apart.get(route).copied().unwrap_or((seen, 32));
        let from = from.max(lanes.cursor());
        let all: Vec<_> = journal.iter().filter(|it| it.2 == route && it.0 > from).take(room).collect();
        let more_behind = all.last().filter(|_| all.len() == room).map(|it| it.0);
        let keys = all.into_iter().map(|it| Arc::from(it.1.as_str())).collect();
        if room > 0 {
            found.push(Found { route: route.into(), keys, more_behind });
        }
    }
    lanes.found(found, newest);
}

#[test]
fn i4_a_route_with_a_hundred_thousand_keys_delays_another_by_its_share_only() {
    let mut journal: Vec<_> = (1..=100_000).map(|number| (number, format!("a{number}"), "busy")).collect();
    journal.extend((0..200_u64).map(|number| (100_001 + number, format!("b{number}"), "quiet")));
    let mut lanes = lanes();
    let mut turns = Vec::new();
    while turns.iter().filter(|route| **route == "quiet").count() < 200 {
        read_on(&mut lanes, &journal);
        find(&mut lanes, &journal);
        match lanes.take(at(0), Repeats::Allowed, any).unwrap() {
            Turn::Attempt(key, entry) => {
                turns.push(if entry.route.as_ref() == "quiet" { "quiet" } else { "busy" });
                delivered(&mut lanes, &key);
            }
            Turn::Load(key, _) => {
                let change = journal.iter().rev().find(|change| *change.1 == *key).unwrap();
                let kept = if change.0 > lanes.cursor() { Kept::Unread } else { Kept::Row };
                let (sequence, route) = (change.0, change.2.into());
                lanes.loaded(&key, loaded(vec![Waiting { sequence, route, kept, past: Past::default() }]));
            }
        }
    }
    assert!(turns.len() <= 400 + 2 * WINDOW_MAX / 16, "every other turn is its own: {}", turns.len());
    assert!(lanes.frontier() < 1000, "the other route is as far as it would be alone");
}

#[test]
fn i10_far_beyond_the_cursor_the_journal_is_read_on_into_rows() {
    let mut lanes = lanes();
    let window: Vec<_> = (1..=50_000).map(|number| (number, format!("a{number}"), "busy")).collect();
    read_on(&mut lanes, &window);
    let held = lanes.in_memory;
    for sequence in 100_000..100_000 + super::super::frontier::TAKEN_MAX as u64 {
        let key: Arc<str> = sequence.to_string().into();
        lanes.frontier.hold(sequence, &key);
        lanes.frontier.release(sequence);
    }
    assert!(read_on(&mut lanes, &window) >= 50_000 - held - PAGE as usize);
    assert!(lanes.in_memory <= WINDOW_MAX + PAGE as usize);
    assert_eq!(lanes.cursor(), 50_000);
}
