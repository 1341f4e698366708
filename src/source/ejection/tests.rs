use super::*;
use Outage::{Disconnected, Silent};
use Report::{Missing, Nothing, Overdue, Unwell, Well};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + millis)
}

fn set(numbers: &[usize]) -> Set {
    numbers.iter().fold(Set::default(), |set, number| set.with(*number))
}

/// Reports of requests that went the ordinary way.
fn told(roster: &mut Roster, number: usize, report: Report, times: usize, now: u64) -> Option<Change> {
    (0..times).filter_map(|_| roster.told(number, report, Then::Over, at(now), 0.0)).last()
}

#[test]
fn a_set_has_what_it_was_made_of() {
    for numbers in [&[][..], &[0], &[1, 3], &[0, 5, 63], &[5, 5]] {
        let given = set(numbers);
        for number in 0..ADDRESSES_MAX {
            assert_eq!(given.has(number), numbers.contains(&number), "{numbers:?} {number}");
        }
        assert_eq!(Set::of_bits(given.bits()), given);
        assert_eq!(given.bits().count_ones() as usize, given.len());
        assert!(given.iter().eq((0..ADDRESSES_MAX).filter(|number| numbers.contains(number))), "{numbers:?}");
    }
}

#[test]
fn five_failures_in_a_row_take_an_address_out() {
    for (what, reports, out) in [
        ("five refused", &[(Missing(Disconnected), 5)][..], true),
        ("five silent", &[(Missing(Silent), 5)], true),
        ("five overdue", &[(Overdue, 5)], true),
        ("five bad answers", &[(Unwell, 5)], true),
        ("of all kinds", &[(Unwell, 2), (Missing(Silent), 2), (Missing(Disconnected), 1)], true),
        ("four", &[(Unwell, 4)], false),
        ("four, an answer, four", &[(Unwell, 4), (Well, 1), (Unwell, 4)], false),
        ("what tells nothing", &[(Unwell, 4), (Nothing, 9)], false),
        ("what tells nothing breaks no row", &[(Unwell, 4), (Nothing, 9), (Unwell, 1)], true),
        ("half of many", &[(Unwell, 4), (Well, 4), (Unwell, 4), (Well, 4), (Unwell, 4)], false),
    ] {
        let mut roster = Roster::new(2);
        let mut change = None;
        for (report, times) in reports {
            change = told(&mut roster, 0, *report, *times, 0).or(change);
        }
        let inside = if out { set(&[1]) } else { set(&[0, 1]) };
        assert_eq!(roster.inside(at(0)), inside, "{what}");
        assert_eq!(change, out.then_some(Change::Ejected), "{what}");
        assert_eq!(roster.breaker(at(0)), State::Closed, "{what}");
        assert_eq!(roster.admit(at(0), Risk::Taken), Way::Among(inside), "{what}");
    }
}

#[test]
fn impatient_clients_open_no_breaker_and_keep_none_open() {
    let mut roster = Roster::new(1);
    assert_eq!(told(&mut roster, 0, Overdue, 50, 0), None);
    assert_eq!((roster.inside(at(0)), roster.breaker(at(0))), (set(&[0]), State::Closed));
    // Nor do they break a row.
    told(&mut roster, 0, Missing(Silent), 4, 0);
    told(&mut roster, 0, Overdue, 1, 0);
    assert_eq!(told(&mut roster, 0, Missing(Silent), 1, 0), Some(Change::Opened));
    // One that probes leaves the question to the next.
    for _ in 0..3 {
        assert_eq!(roster.admit(at(10_000), Risk::Avoided), Way::Probe(0, Probing::Source));
        assert_eq!(roster.source_probed(0, Overdue, at(10_000), 0.0), None);
    }
}

#[test]
fn other_addresses_keep_what_is_known_of_those_that_stay() {
    let mut roster = Roster::new(3);
    told(&mut roster, 1, Unwell, 5, 0);
    assert_eq!(roster.inside(at(0)), set(&[0, 2]));
    for (what, kept, inside) in [
        ("the same", vec![Some(0), Some(1), Some(2)], set(&[0, 2])),
        ("another order", vec![Some(1), Some(2), Some(0)], set(&[1, 2])),
        ("one more", vec![Some(0), Some(1), Some(2), None], set(&[0, 2, 3])),
        ("in the place of the one that is out", vec![Some(0), None, Some(2)], set(&[0, 1, 2])),
        ("only the one that is out", vec![Some(1)], set(&[0])),
    ] {
        assert_eq!(roster.succeed(&kept, at(0)).inside(at(0)), inside, "{what}");
    }
    // The breaker goes on too; a probe that is under way reports elsewhere, and keeps nobody out.
    let mut roster = Roster::new(1);
    told(&mut roster, 0, Missing(Silent), 5, 0);
    let after = roster.succeed(&[Some(0), None], at(0));
    assert_eq!(after.refusal(at(0)), Some(Silent));
    assert_eq!(roster.admit(at(10_000), Risk::Avoided), Way::Probe(0, Probing::Source));
    let mut after = roster.succeed(&[Some(0)], at(10_000));
    assert_eq!(after.admit(at(10_000), Risk::Avoided), Way::Probe(0, Probing::Source));
    // What checks hold against an address ends with them.
    let mut roster = Roster::new(2);
    for _ in 0..3 {
        roster.missed(0, at(0));
    }
    assert_eq!(roster.inside(at(0)), set(&[1]));
    roster.forget_checks();
    assert_eq!(roster.inside(at(0)), set(&[0, 1]));
}

#[test]
fn a_probe_that_fails_doubles_the_time_and_one_that_is_answered_ends_it() {
    let mut roster = Roster::new(2);
    told(&mut roster, 0, Unwell, 5, 0);
    let probe = Way::Probe(0, Probing::Address);
    let mut now = 0;
    for out_for in [30_000, 60_000, 120_000, 240_000, 300_000, 300_000] {
        now += out_for;
        assert_eq!(roster.admit(at(now - 1), Risk::Taken), Way::Among(set(&[1])), "after {now}");
        assert_eq!(roster.admit(at(now), Risk::Avoided), Way::Among(set(&[1])), "nobody is risked");
        assert_eq!(roster.admit(at(now), Risk::Taken), probe);
        assert_eq!(roster.admit(at(now), Risk::Taken), Way::Among(set(&[1])), "one at a time");
        assert_eq!(roster.probed(0, Missing(Silent), at(now), 0.0), None);
    }
    now += 300_000;
    assert_eq!(roster.admit(at(now), Risk::Taken), probe);
    assert_eq!(roster.probed(0, Nothing, at(now), 0.0), None);
    assert_eq!(roster.admit(at(now), Risk::Taken), probe, "nobody waited: the next one probes");
    assert_eq!(roster.probed(0, Well, at(now), 0.0), Some(Change::Restored));
    assert_eq!(roster.inside(at(now)), set(&[0, 1]));
    told(&mut roster, 0, Unwell, 5, now);
    assert_eq!(roster.admit(at(now + 30_000), Risk::Taken), probe, "30 s again");
}

#[test]
fn jitter_only_shortens() {
    let mut roster = Roster::new(2);
    (0..5).for_each(|_| {
        assert_eq!(roster.told(0, Unwell, Then::Over, at(0), 1.0).is_some(), roster.inside(at(0)).len() == 1);
    });
    assert_eq!(roster.admit(at(23_999), Risk::Taken), Way::Among(set(&[1])));
    assert_eq!(roster.admit(at(24_000), Risk::Taken), Way::Probe(0, Probing::Address));
}

#[test]
fn the_last_address_stays_and_its_failures_to_answer_open_the_breaker() {
    for count in [1, 3] {
        let mut roster = Roster::new(count);
        let last = count - 1;
        for number in 0..last {
            assert_eq!(told(&mut roster, number, Missing(Disconnected), 5, 0), Some(Change::Ejected));
        }
        told(&mut roster, last, Unwell, 50, 0);
        assert_eq!(roster.breaker(at(0)), State::Closed, "it answers, be it errors");
        for answers in [Well, Unwell] {
            told(&mut roster, last, Missing(Disconnected), 4, 0);
            told(&mut roster, last, answers, 1, 0);
        }
        assert_eq!(told(&mut roster, last, Missing(Disconnected), 4, 0), None, "not in a row");
        assert_eq!(roster.refusal(at(0)), None);
        assert_eq!(told(&mut roster, last, Missing(Silent), 1, 0), Some(Change::Opened));
        assert_eq!(roster.inside(at(0)), set(&[last]), "and is in");
        assert_eq!(roster.refusal(at(999)), Some(Silent));
        assert_eq!(roster.admit(at(999), Risk::Taken), Way::Refused(Silent));
    }
}

#[test]
fn an_open_breaker_probes_each_address_in_turn_and_stays_open_briefly() {
    let mut roster = Roster::new(2);
    told(&mut roster, 0, Missing(Disconnected), 5, 0);
    told(&mut roster, 1, Missing(Disconnected), 5, 0);
    let mut now = 0;
    for (turn, open_for) in [1000, 2000, 4000, 5000, 5000].into_iter().enumerate() {
        now += open_for;
        assert_eq!(roster.admit(at(now - 1), Risk::Taken), Way::Refused(Disconnected));
        assert_eq!(roster.refusal(at(now)), None, "somebody may try");
        assert_eq!(roster.admit(at(now), Risk::Avoided), Way::Probe(turn % 2, Probing::Source));
        assert_eq!(roster.admit(at(now), Risk::Taken), Way::Refused(Disconnected), "one at a time");
        // What was sent before it opened comes late, good or bad: the probe decides.
        told(&mut roster, 1, Missing(Disconnected), 9, now);
        told(&mut roster, 1, Well, 1, now);
        assert_eq!(roster.breaker(at(now)), State::HalfOpen);
        assert_eq!(roster.source_probed(turn % 2, Missing(Disconnected), at(now), 0.0), None);
    }
    // The sixth is that of number 1; nobody waits for it; then number 0, which is out, answers.
    now += 5000;
    assert_eq!(roster.admit(at(now), Risk::Taken), Way::Probe(1, Probing::Source));
    assert_eq!(roster.source_probed(1, Nothing, at(now), 0.0), None);
    assert_eq!(roster.admit(at(now), Risk::Taken), Way::Probe(0, Probing::Source));
    assert_eq!(roster.source_probed(0, Well, at(now), 0.0), Some(Change::Closed));
    assert_eq!(roster.inside(at(now)), set(&[0, 1]), "who answered is in");
    assert_eq!(roster.breaker(at(now)), State::Closed);
}

#[test]
fn a_slow_probe_of_the_source_keeps_nobody_out_for_long() {
    let mut roster = Roster::new(1);
    told(&mut roster, 0, Missing(Silent), 5, 0);
    let probe = Way::Probe(0, Probing::Source);
    for now in [1000, 2000, 3000] {
        assert_eq!(roster.admit(at(now), Risk::Taken), probe);
        assert_eq!(roster.admit(at(now + 999), Risk::Taken), Way::Refused(Silent));
    }
    assert_eq!(roster.source_probed(0, Missing(Silent), at(3100), 0.0), None, "the first one failed");
    assert_eq!(roster.admit(at(3200), Risk::Taken), Way::Refused(Silent));
    assert_eq!(roster.source_probed(0, Well, at(3300), 0.0), Some(Change::Closed), "a later one is answered");
    assert_eq!(roster.admit(at(3300), Risk::Taken), Way::Among(set(&[0])));
    assert_eq!(roster.source_probed(0, Missing(Silent), at(3400), 0.0), None, "and the last one comes late");
    assert_eq!(roster.breaker(at(3400)), State::Closed);
}

#[test]
fn what_is_sent_again_counts_for_the_breaker_when_it_is_over() {
    let mut roster = Roster::new(1);
    for _ in 0..4 {
        for then in [Then::Again, Then::Again, Then::Over] {
            assert_eq!(roster.told(0, Missing(Disconnected), then, at(0), 0.0), None);
        }
    }
    assert_eq!(roster.told(0, Missing(Disconnected), Then::Again, at(0), 0.0), None);
    assert_eq!(roster.told(0, Missing(Disconnected), Then::Over, at(0), 0.0), Some(Change::Opened));
}

#[test]
fn a_probe_of_the_source_that_answers_an_error_closes_the_breaker() {
    let mut roster = Roster::new(1);
    told(&mut roster, 0, Missing(Silent), 5, 0);
    assert_eq!(roster.admit(at(1000), Risk::Taken), Way::Probe(0, Probing::Source));
    assert_eq!(roster.source_probed(0, Unwell, at(1000), 0.0), Some(Change::Closed));
    assert_eq!(roster.admit(at(1000), Risk::Taken), Way::Among(set(&[0])));
}

#[test]
fn three_failed_checks_take_an_address_out_and_a_good_one_takes_it_back() {
    let mut roster = Roster::new(2);
    let missed = |roster: &mut Roster, number| roster.missed(number, at(0));
    assert_eq!([(); 3].map(|()| missed(&mut roster, 0)), [None, None, Some(Change::Ejected)]);
    assert_eq!(roster.inside(at(0)), set(&[1]));
    assert_eq!(roster.admit(at(3_600_000), Risk::Taken), Way::Among(set(&[1])), "no request probes it");
    assert_eq!([(); 9].map(|()| missed(&mut roster, 1)), [None; 9], "never the last");
    assert_eq!(roster.inside(at(0)), set(&[1]));
    assert_eq!(roster.passed(0, at(0)), Some(Change::Restored));
    assert_eq!(roster.passed(0, at(0)), None);
    assert_eq!(roster.inside(at(0)), set(&[0, 1]));
    assert_eq!(missed(&mut roster, 1), Some(Change::Ejected), "now it is not the last any more");
    assert_eq!(roster.passed(1, at(0)), Some(Change::Restored));
    missed(&mut roster, 0);
    missed(&mut roster, 0);
    roster.passed(0, at(0));
    assert_eq!(missed(&mut roster, 0), None, "not in a row");
}

#[test]
fn a_good_check_ends_nothing_that_requests_have_found() {
    let mut roster = Roster::new(2);
    told(&mut roster, 0, Missing(Silent), 5, 0);
    assert_eq!(roster.passed(0, at(1)), None);
    assert_eq!(roster.inside(at(1)), set(&[1]), "its time is not over");
    let probe = Way::Probe(0, Probing::Address);
    assert_eq!(roster.admit(at(30_000), Risk::Taken), probe);
    assert_eq!(roster.probed(0, Unwell, at(30_000), 0.0), None);
    assert_eq!(roster.passed(0, at(30_001)), None);
    assert_eq!(roster.admit(at(89_999), Risk::Taken), Way::Among(set(&[1])), "twice as long");
    told(&mut roster, 1, Missing(Silent), 5, 89_999);
    assert_eq!(roster.passed(1, at(90_000)), None);
    assert_eq!(roster.admit(at(90_000), Risk::Taken), Way::Refused(Silent), "the breaker is open");
    // Out by both: the good check ends its own half.
    let mut roster = Roster::new(2);
    told(&mut roster, 0, Unwell, 5, 0);
    (0..3).for_each(|_| _ = roster.missed(0, at(0)));
    assert_eq!(roster.admit(at(30_000), Risk::Taken), Way::Among(set(&[1])), "no request probes it");
    assert_eq!(roster.passed(0, at(30_000)), None);
    assert_eq!(roster.admit(at(30_000), Risk::Taken), probe);
    assert_eq!(roster.probed(0, Well, at(30_000), 0.0), Some(Change::Restored));
}

fn settle(roster: &mut Roster, number: usize, probing: Probing, report: Report, now: u64) {
    match probing {
        Probing::None => {}
        Probing::Address => _ = roster.probed(number, report, at(now), 0.5),
        Probing::Source => _ = roster.source_probed(number, report, at(now), 0.5),
    }
}

/// Whatever happens in whatever order: one address is in, and an open breaker ends.
#[test]
fn i10_at_least_one_address_is_in_and_every_outage_ends() {
    let steps = proptest::collection::vec((0..6u8, 0..3usize, 0..40_000u64), 0..200);
    proptest::proptest!(|(count in 1..4usize, steps in steps)| {
        let mut roster = Roster::new(count);
        let mut now = 0;
        let mut probes = Vec::new();
        for (what, number, passes) in steps {
            now += passes / 10;
            let number = number % count;
            match what {
                0 => _ = told(&mut roster, number, Missing(Silent), 5, now),
                1 => _ = told(&mut roster, number, Unwell, 5, now),
                2 => _ = roster.missed(number, at(now)),
                3 => _ = roster.passed(number, at(now)),
                4 => {
                    if let Way::Probe(number, probing) = roster.admit(at(now), Risk::Taken) {
                        probes.push((number, probing));
                    }
                }
                _ => {
                    if let Some((number, probing)) = probes.pop() {
                        let report = if passes % 2 == 0 { Missing(Silent) } else { Nothing };
                        settle(&mut roster, number, probing, report, now);
                    }
                }
            }
            proptest::prop_assert!(!roster.inside(at(now)).is_empty());
        }
        for (number, probing) in probes {
            settle(&mut roster, number, probing, Nothing, now);
        }
        let way = roster.admit(at(now + 600_000), Risk::Avoided);
        proptest::prop_assert!(!matches!(way, Way::Refused(_)), "{:?}", way);
    });
}
