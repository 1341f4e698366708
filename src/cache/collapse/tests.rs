use super::*;
use crate::target::Target;
use futures_util::FutureExt;
use std::sync::Weak;

mod interleavings;

fn key() -> CacheKey {
    CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None)
}

fn join<L: Clone>(flights: &Arc<Flights<L>>, fence: u64) -> Role<L> {
    flights.join(&key(), Lane::Any, Fence(fence), |began| began >= Fence(fence))
}

fn follower<L>(role: Role<L>) -> Follower<L> {
    match role {
        Role::Follow(follower) => follower,
        Role::Lead(_) | Role::Full(_) => panic!("expected to follow"),
    }
}

fn lead<L>(role: Role<L>) -> Lead<L> {
    match role {
        Role::Lead(lead) => lead,
        Role::Follow(_) | Role::Full(_) => panic!("expected to lead"),
    }
}

fn step_in<L>(flights: &Arc<Flights<L>>, follower: &Follower<L>, fence: u64) -> Option<Lead<L>>
where
    L: Clone,
{
    flights.step_in(follower, Fence(fence), || Some(())).map(|(lead, ())| lead)
}

async fn landed(follower: &mut Follower<u32>) -> Option<u32> {
    follower.landed().await.map(|landed| landed.landing)
}

#[tokio::test]
async fn one_leads_and_the_others_get_what_it_lands() {
    let flights = Flights::<u32>::new();
    let leader = lead(join(&flights, 1));
    let mut waiting = follower(join(&flights, 1));
    leader.land(7);
    let mut late = follower(join(&flights, 1));
    assert_eq!((waiting.joined(), late.joined()), (Joined::BeforeLanding, Joined::AfterLanding));
    assert_eq!(landed(&mut waiting).await, Some(7));
    assert_eq!(landed(&mut late).await, Some(7));
    leader.close();
    let next = lead(join(&flights, 1));
    drop(leader);
    assert_eq!(flights.len(), 1, "closing twice does not close the next flight");
    drop(next);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn one_who_came_too_late_closes_that_flight_and_no_other() {
    let flights = Flights::<u32>::new();
    let old = lead(join(&flights, 1));
    old.land(7);
    let (late, later) = (follower(join(&flights, 1)), follower(join(&flights, 1)));
    flights.close(&late);
    let next = lead(join(&flights, 1));
    flights.close(&later);
    drop(follower(join(&flights, 1)));
    assert_eq!(flights.len(), 1, "the next flight takes newcomers");
    drop((old, next));
    flights.close(&later);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_leader_that_dies_releases_everyone() {
    let flights = Flights::<u32>::new();
    let leader = lead(join(&flights, 1));
    let mut waiting = follower(join(&flights, 1));
    drop(leader);
    assert_eq!(landed(&mut waiting).await, None);
}

#[tokio::test]
async fn i5_nobody_joins_a_flight_that_began_before_a_purge() {
    let flights = Flights::<u32>::new();
    let old = lead(join(&flights, 1));
    let new = lead(join(&flights, 2));
    let mut joined = follower(join(&flights, 2));
    old.land(1);
    drop(old);
    new.land(2);
    assert_eq!(landed(&mut joined).await, Some(2));
}

#[tokio::test]
async fn variants_and_heads_have_flights_of_their_own() {
    let flights = Flights::<u32>::new();
    let variant = |value: &'static str| {
        flights.variant(&[(http::header::ACCEPT_LANGUAGE, Some(HeaderValue::from_static(value)))])
    };
    assert_eq!(variant("de"), variant("de"));
    let leads: Vec<_> = [Lane::Any, Lane::Head, variant("de"), variant("fr")]
        .map(|lane| lead(flights.join(&key(), lane, Fence(1), |_| true)))
        .into();
    assert_eq!(flights.len(), 4);
    drop(leads);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn i10_followers_are_bounded() {
    let flights = Flights::<u32>::new();
    let leader = lead(join(&flights, 1));
    let own = leader.follow();
    let crowd: Vec<_> = (1..FOLLOWERS_MAX).map(|_| follower(join(&flights, 1))).collect();
    assert!(matches!(join(&flights, 1), Role::Full(None)));
    drop(own);
    assert!(matches!(join(&flights, 1), Role::Follow(_)), "who leaves makes room");
    let _one_more = leader.follow();
    leader.land(7);
    let Role::Full(Some(mut late)) = join(&flights, 1) else { panic!("what was landed is theirs too") };
    assert_eq!(landed(&mut late).await, Some(7));
    drop(crowd);
}

#[tokio::test]
async fn whichever_of_two_leaders_lands_first_serves_everybody() {
    for turn in [Turn::First, Turn::Extra] {
        let flights = Flights::<u32>::new();
        let first = lead(join(&flights, 1));
        let mut waiting = follower(join(&flights, 1));
        let extra = step_in(&flights, &waiting, 5).unwrap();
        assert_eq!(extra.fence(), Fence(5), "its forward began later");
        assert!(step_in(&flights, &waiting, 5).is_none(), "two at most");
        let (faster, slower) = if turn == Turn::First { (&first, &extra) } else { (&extra, &first) };
        assert!(slower.outrun().now_or_never().is_none());
        faster.land(1);
        slower.land(2);
        assert_eq!(slower.outrun().await, 1);
        assert!(faster.outrun().now_or_never().is_none());
        assert_eq!(waiting.landed().await, Some(Landed { landing: 1, by: turn }));
    }
}

#[tokio::test]
async fn a_follower_that_is_denied_leaves_the_turn_to_the_next() {
    let flights = Flights::<u32>::new();
    let first = lead(join(&flights, 1));
    let waiting = follower(join(&flights, 1));
    assert!(flights.step_in(&waiting, Fence(1), || None::<()>).is_none());
    let (extra, quota) = flights.step_in(&waiting, Fence(1), || Some("admitted")).unwrap();
    assert_eq!((extra.turn(), quota), (Turn::Extra, "admitted"));
    let charged = flights.step_in(&waiting, Fence(1), || -> Option<()> { panic!("charged for nothing") });
    assert!(charged.is_none());
    first.land(1);
}

#[tokio::test]
async fn a_leader_whose_followers_have_all_left_ends_and_the_key_is_free() {
    let flights = Flights::<u32>::new();
    let first = lead(join(&flights, 1));
    let waiting = follower(join(&flights, 1));
    let extra = step_in(&flights, &waiting, 1).unwrap();
    assert!(!first.leave_if_abandoned() && first.deserted().now_or_never().is_none());
    drop(waiting);
    first.deserted().await;
    let mut newcomer = follower(join(&flights, 1));
    assert!(!extra.leave_if_abandoned(), "somebody has come, whom the other leader serves");
    extra.land(7);
    assert_eq!(landed(&mut newcomer).await, Some(7));
    drop(newcomer);
    extra.deserted().await;
    assert!(flights.is_empty());
    drop((first, extra));
}

#[tokio::test]
async fn the_beginning_is_kept_until_all_who_waited_read_or_have_left() {
    let flights = Flights::<u32>::new();
    let leader = lead(join(&flights, 1));
    let (mut reads, leaves) = (follower(join(&flights, 1)), follower(join(&flights, 1)));
    leader.land(7);
    let _late = follower(join(&flights, 1));
    reads.decide();
    assert!(leader.decided().now_or_never().is_none(), "one of them has not come for it yet");
    drop(leaves);
    leader.decided().await;
}

#[tokio::test]
async fn a_failure_is_landed_only_where_nobody_else_may_have_an_answer() {
    let flights = Flights::<u32>::new();
    let first = lead(join(&flights, 1));
    let mut waiting = follower(join(&flights, 1));
    let extra = step_in(&flights, &waiting, 1).unwrap();
    first.fail(0);
    drop(first);
    assert!(waiting.landed().now_or_never().is_none());
    assert_eq!(flights.len(), 1, "newcomers may still join");
    extra.land(7);
    assert_eq!(landed(&mut waiting).await, Some(7));
}

/// What may happen to a key's flights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Somebody asks.
    Ask,
    /// Something that the key falls under is purged.
    Purge,
    /// The first follower of the newest flight finds the head overdue.
    Overdue,
    /// A leader's head arrives, and what it is about has to be asked for once more.
    Misfit(Turn),
    /// A leader's head arrives and may be shared.
    Head(Turn),
    /// A leader's head arrives and may not be shared.
    Unshareable(Turn),
    /// A leader gets no answer.
    NoAnswer(Turn),
    /// A leader's task ends, well or not (abort, panic).
    End(Turn),
}

const EVENTS: [Event; 13] = [
    Event::Ask,
    Event::Purge,
    Event::Overdue,
    Event::Misfit(Turn::First),
    Event::Misfit(Turn::Extra),
    Event::Head(Turn::First),
    Event::Head(Turn::Extra),
    Event::Unshareable(Turn::First),
    Event::Unshareable(Turn::Extra),
    Event::NoAnswer(Turn::First),
    Event::NoAnswer(Turn::Extra),
    Event::End(Turn::First),
    Event::End(Turn::Extra),
];

/// How long the histories are that are all tried.
const EVENTS_MAX: usize = 6;

/// What is landed: whose, behind which fence, and whether it was a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Brought {
    fence: Fence,
    by: Turn,
    failure: bool,
}

/// The flights of one key, with everybody in the newest flight, and in those before it.
struct World {
    flights: Arc<Flights<Brought>>,
    purged: u64,
    /// When the newest flight began, and its leaders.
    leads: Vec<Lead<Brought>>,
    /// Those who asked, when, and what they wait for.
    waiting: Vec<(u64, Follower<Brought>)>,
    /// How many forwards the newest flight has made.
    forwards: usize,
    /// Whose head has arrived.
    arrived: Vec<Turn>,
}

impl World {
    /// A leader whose head is awaited.
    fn awaited(&self, turn: Turn) -> Option<&Lead<Brought>> {
        self.leads.iter().find(|lead| lead.turn() == turn && !self.arrived.contains(&turn))
    }

    /// Whether the event could happen.
    fn play(&mut self, event: Event) -> bool {
        match event {
            Event::Ask => match join(&self.flights, self.purged) {
                Role::Lead(lead) => {
                    self.waiting.push((self.purged, lead.follow()));
                    // The leaders of a flight that a purge overtook end unseen here.
                    (self.leads, self.forwards, self.arrived) = (vec![lead], 1, Vec::new());
                }
                Role::Follow(follower) => self.waiting.push((self.purged, follower)),
                Role::Full(_) => unreachable!("few ask"),
            },
            Event::Purge => self.purged += 1,
            Event::Overdue => {
                let Some((_, follower)) = self.waiting.last() else { return false };
                let Some(extra) = step_in(&self.flights, follower, self.purged) else { return false };
                self.forwards += 1;
                self.leads.push(extra);
            }
            Event::Misfit(turn) => {
                let Some(lead) = self.awaited(turn) else { return false };
                if !lead.claim() {
                    self.arrived.push(turn);
                }
            }
            Event::Head(turn) | Event::Unshareable(turn) => {
                let Some(lead) = self.awaited(turn) else { return false };
                if lead.claim() && matches!(event, Event::Unshareable(_)) {
                    lead.close();
                }
                lead.land(Brought { fence: lead.fence(), by: turn, failure: false });
                self.arrived.push(turn);
            }
            Event::NoAnswer(turn) => {
                let Some(lead) = self.awaited(turn) else { return false };
                lead.fail(Brought { fence: lead.fence(), by: turn, failure: true });
                self.leads.retain(|lead| lead.turn() != turn);
            }
            Event::End(turn) => {
                let before = self.leads.len();
                self.leads.retain(|lead| lead.turn() != turn);
                return self.leads.len() < before;
            }
        }
        true
    }

    fn check(&mut self, history: &[Event]) {
        assert!(self.forwards <= 2, "{history:?}: two forwards a flight at most");
        let is_over = self.leads.is_empty();
        let mut landings = Vec::new();
        for (asked, follower) in &mut self.waiting {
            let seen = *follower.landing.borrow();
            match (seen, follower.landing.has_changed()) {
                (Some(landed), _) => {
                    assert!(landed.landing.fence >= Fence(*asked), "{history:?}: I5, older than its reader");
                    assert_eq!(landed.landing.by, landed.by, "{history:?}");
                    let flight = follower.flight.as_ptr();
                    landings.push((flight, landed.landing));
                }
                (None, Err(_)) => {
                    assert_eq!(follower.flight.strong_count(), 0, "{history:?}: released early");
                }
                (None, Ok(_)) => assert!(!is_over, "{history:?}: nobody will ever wake this one"),
            }
        }
        for (flight, landing) in &landings {
            let same = landings.iter().filter(|(other, _)| other == flight);
            assert!(
                same.clone().all(|(_, other)| other == landing),
                "{history:?}: two answers of one flight"
            );
        }
        if let [lead] = self.leads.as_slice()
            && self.forwards == 2
        {
            let own = Arc::as_ptr(&lead.flight);
            let failed = landings.iter().any(|(flight, landing)| *flight == own && landing.failure);
            let misfit = history.iter().any(|event| matches!(event, Event::Misfit(_)));
            assert!(!failed || misfit, "{history:?}: a failure was landed while another answer was awaited");
        }
        assert!(!is_over || self.flights.is_empty(), "{history:?}: a flight without a leader");
    }
}

fn replay(history: &[Event]) -> bool {
    let (leads, waiting) = (Vec::new(), Vec::new());
    let arrived = Vec::new();
    let mut world = World { flights: Flights::new(), purged: 1, leads, waiting, forwards: 0, arrived };
    let possible = history.iter().all(|event| world.play(*event));
    if possible {
        world.check(history);
    }
    possible
}

#[tokio::test(start_paused = true)]
async fn i5_i10_every_order_of_events_leaves_everybody_answered_or_waiting_for_somebody() {
    let (mut histories, mut tried) = (vec![Vec::new()], 0_usize);
    while let Some(history) = histories.pop() {
        tried += 1;
        if history.len() == EVENTS_MAX {
            continue;
        }
        for event in EVENTS {
            let longer = [history.as_slice(), &[event]].concat();
            if replay(&longer) {
                histories.push(longer);
            }
        }
    }
    assert!(tried > 5_000, "only {tried} histories were possible");
}

/// A 304 that speaks of nothing is claimed with, and may end in no answer when the whole is asked for.
#[tokio::test]
async fn who_has_claimed_and_then_fails_lands_the_failure() {
    let flights = Flights::<u32>::new();
    let first = lead(join(&flights, 1));
    let mut waiting = follower(join(&flights, 1));
    let extra = step_in(&flights, &waiting, 1).unwrap();
    assert!(first.claim() && !extra.claim());
    first.fail(0);
    assert_eq!(landed(&mut waiting).await, Some(0));
    assert!(flights.is_empty());
}
