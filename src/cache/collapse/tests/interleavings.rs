//! Clients and forwards of one key as tasks, in orders that a seed draws: who runs next, what the source does,
//! who leaves, who finds the head overdue, what is purged. A task runs when it was woken and only then, so a
//! wake-up that is lost is seen. After each step everything that must hold is looked at.

use super::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use tokio::sync::oneshot;

/// How many orders are drawn; each is named by its seed.
const SEEDS: u64 = 3_000;

/// Steps of one of them, before everything is brought to its end.
const STEPS: usize = 120;

/// What is landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Shared(Fence),
    Alone(Fence),
    Failed(Fence),
}

/// What a source does with a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Shareable,
    Unshareable,
    /// A 304 that fits nothing: it is asked once more.
    Misfit,
    NoAnswer,
    /// The forward's task dies.
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Broken,
}

/// What happens to a client that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Overdue,
    /// As overdue, but its quota is used up.
    OverdueAndDenied,
    Deadline,
}

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    Reads,
    Answered,
    ForwardsAlone,
    GaveUp,
}

/// What tasks and scheduler share.
struct World {
    flights: Arc<Flights<Answer>>,
    purged: Cell<u64>,
    begun: RefCell<Vec<Task>>,
    /// Forwards that wait for a head, and fills that wait for the end of the body.
    heads: RefCell<Vec<oneshot::Sender<Head>>>,
    ends: RefCell<Vec<oneshot::Sender<End>>>,
    signals: RefCell<Vec<oneshot::Sender<Signal>>>,
    /// How many forwards each flight has made, by where it lies: another may lie there later.
    made: RefCell<BTreeMap<usize, usize>>,
    /// How many have made two.
    twice: Cell<usize>,
    under_way: Cell<usize>,
    /// What each client waits for.
    clients: RefCell<Vec<(Fate, Option<usize>)>>,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    work: Work,
    woken: Arc<Woken>,
    /// Whose it is, of a client's.
    client: Option<usize>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct UnderWay(Rc<World>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

fn id<L>(flight: &Weak<Flight<L>>) -> usize {
    flight.as_ptr().addr()
}

impl World {
    fn spawn(&self, client: Option<usize>, work: impl Future<Output = ()> + 'static) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.begun.borrow_mut().push(Task { work: Box::pin(work), woken, client });
    }

    fn ask(list: &RefCell<Vec<oneshot::Sender<Head>>>) -> oneshot::Receiver<Head> {
        let (sender, receiver) = oneshot::channel();
        list.borrow_mut().push(sender);
        receiver
    }

    /// Begins a forward as a fill does.
    fn forward(self: &Rc<Self>, lead: Lead<Answer>) {
        let flight = Arc::as_ptr(&lead.flight).addr();
        match lead.turn() {
            Turn::First => {
                self.made.borrow_mut().insert(flight, 1);
            }
            Turn::Extra => {
                *self.made.borrow_mut().entry(flight).or_default() += 1;
                self.twice.set(self.twice.get() + 1);
            }
        }
        self.under_way.set(self.under_way.get() + 1);
        let (world, own) = (Rc::clone(self), UnderWay(Rc::clone(self)));
        self.spawn(None, async move {
            let _own = own;
            fill(&world, &lead).await;
        });
    }

    fn becomes(&self, client: usize, fate: Fate, flight: Option<usize>) {
        self.clients.borrow_mut()[client] = (fate, flight);
    }
}

/// The order of calls of `gateway/fill.rs`.
async fn fill(world: &Rc<World>, lead: &Lead<Answer>) {
    loop {
        let head = tokio::select! {
            biased;
            head = World::ask(&world.heads) => head,
            _ = lead.outrun() => return,
            () = lead.deserted() => return,
        };
        let fence = lead.fence();
        match head {
            Ok(Head::NoAnswer) => return lead.fail(Answer::Failed(fence)),
            Ok(Head::Panic) | Err(_) => return,
            Ok(_) if !lead.claim() => return,
            Ok(Head::Misfit) => {}
            Ok(Head::Unshareable) => {
                lead.close();
                return lead.land(Answer::Alone(fence));
            }
            Ok(Head::Shareable) => {
                lead.land(Answer::Shared(fence));
                let (sender, end) = oneshot::channel();
                world.ends.borrow_mut().push(sender);
                tokio::select! {
                    _ = end => lead.close(),
                    () = lead.deserted() => {}
                }
                return;
            }
        }
    }
}

/// A client, as `gateway/read/collapsed.rs` has them.
async fn client(world: Rc<World>, own: usize) {
    let asked = Fence(world.purged.get());
    let (mut follower, mut leads) = match world.flights.join(&key(), Lane::Any, asked, |began| began >= asked)
    {
        Role::Follow(follower) => (follower, false),
        Role::Full(_) => unreachable!("few ask"),
        Role::Lead(lead) => {
            let follower = lead.follow();
            world.forward(lead);
            (follower, true)
        }
    };
    let flight = id(&follower.flight);
    world.becomes(own, Fate::Waits, Some(flight));
    let landed = loop {
        let (sender, signal) = oneshot::channel();
        world.signals.borrow_mut().push(sender);
        let signal = tokio::select! {
            biased;
            landed = follower.landed() => break landed,
            signal = signal => signal,
        };
        let admit = match signal {
            Ok(Signal::Deadline) => return world.becomes(own, Fate::GaveUp, None),
            Ok(Signal::Overdue) => Some(()),
            Ok(Signal::OverdueAndDenied) | Err(_) => None,
        };
        if !leads
            && let Some((extra, ())) = world.flights.step_in(&follower, Fence(world.purged.get()), || admit)
        {
            leads = true;
            world.forward(extra);
        }
    };
    let fate = match landed.map(|landed| landed.landing) {
        Some(Answer::Shared(fence)) => {
            assert!(fence >= asked, "I5: what began at {fence:?} for who asked at {asked:?}");
            Fate::Reads
        }
        Some(Answer::Failed(_)) => Fate::Answered,
        Some(Answer::Alone(_)) | None => Fate::ForwardsAlone,
    };
    follower.decide();
    world.becomes(own, fate, None);
    if fate == Fate::Reads {
        // Until the body ends or it leaves, of which the scheduler knows.
        std::future::pending::<()>().await;
    }
}

/// Tells a task, unless it has gone on or ended.
fn tell<T>(sender: oneshot::Sender<T>, what: T) {
    drop(sender.send(what).err());
}

struct Scheduler {
    world: Rc<World>,
    random: fastrand::Rng,
    tasks: Vec<Task>,
}

impl Scheduler {
    fn new(seed: u64) -> Self {
        let world = World {
            flights: Flights::new(),
            purged: Cell::new(1),
            begun: RefCell::default(),
            heads: RefCell::default(),
            ends: RefCell::default(),
            signals: RefCell::default(),
            made: RefCell::default(),
            twice: Cell::new(0),
            under_way: Cell::new(0),
            clients: RefCell::default(),
        };
        Self { world: Rc::new(world), random: fastrand::Rng::with_seed(seed), tasks: Vec::new() }
    }

    /// Runs one of those that were woken; whether there was one.
    fn run(&mut self) -> bool {
        self.tasks.append(&mut self.world.begun.borrow_mut());
        let woken = |task: &Task| task.woken.0.load(Ordering::SeqCst);
        let ready: Vec<usize> = (0..self.tasks.len()).filter(|index| woken(&self.tasks[*index])).collect();
        if ready.is_empty() {
            return false;
        }
        let index = ready[self.random.usize(..ready.len())];
        let task = &mut self.tasks[index];
        task.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&task.woken));
        if task.work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(self.tasks.swap_remove(index));
        }
        self.tasks.append(&mut self.world.begun.borrow_mut());
        true
    }

    fn drawn<T>(&mut self, list: fn(&World) -> &RefCell<Vec<T>>) -> Option<T> {
        let mut list = list(&self.world).borrow_mut();
        let length = list.len();
        (length > 0).then(|| list.swap_remove(self.random.usize(..length)))
    }

    fn step(&mut self) {
        match self.random.u32(..20) {
            0..3 => {
                let own = self.world.clients.borrow().len();
                self.world.clients.borrow_mut().push((Fate::Waits, None));
                let world = Rc::clone(&self.world);
                self.world.spawn(Some(own), client(world, own));
            }
            3 => self.world.purged.set(self.world.purged.get() + 1),
            4..6 => {
                let heads = [
                    Head::Shareable,
                    Head::Shareable,
                    Head::Unshareable,
                    Head::Misfit,
                    Head::NoAnswer,
                    Head::Panic,
                ];
                let head = heads[self.random.usize(..heads.len())];
                if let Some(asked) = self.drawn(|world| &world.heads) {
                    tell(asked, head);
                }
            }
            6 => {
                let end = if self.random.bool() { End::Complete } else { End::Broken };
                if let Some(awaited) = self.drawn(|world| &world.ends) {
                    tell(awaited, end);
                }
            }
            7..9 => {
                let signals = [Signal::Overdue, Signal::Overdue, Signal::OverdueAndDenied, Signal::Deadline];
                let signal = signals[self.random.usize(..signals.len())];
                if let Some(client) = self.drawn(|world| &world.signals) {
                    tell(client, signal);
                }
            }
            9 => self.somebody_leaves(),
            _ => drop(self.run()),
        }
    }

    /// A client's connection is gone, and its task with it.
    fn somebody_leaves(&mut self) {
        let clients: Vec<usize> =
            (0..self.tasks.len()).filter(|index| self.tasks[*index].client.is_some()).collect();
        if !clients.is_empty() {
            let task = self.tasks.swap_remove(clients[self.random.usize(..clients.len())]);
            if let Some(own) = task.client {
                self.world.becomes(own, Fate::GaveUp, None);
            }
        }
    }

    fn check(&self, at: &str) {
        let world = &self.world;
        for (flight, made) in &*world.made.borrow() {
            assert!(*made <= 2, "{at}: {made} forwards of flight {flight:x}");
        }
        assert!(world.flights.len() <= 1, "{at}: one key, one flight that can be joined");
        if world.under_way.get() == 0 {
            assert!(world.flights.is_empty(), "{at}: a flight without a forward");
        }
        for task in &self.tasks {
            let Some(own) = task.client else { continue };
            let (fate, flight) = world.clients.borrow()[own];
            if fate == Fate::Waits && flight.is_some() && !task.woken.0.load(Ordering::SeqCst) {
                assert!(world.under_way.get() > 0, "{at}: client {own} waits for nobody");
            }
        }
    }

    /// The source ends everything, nobody leaves: all who waited go on.
    fn ends(&mut self, at: &str) {
        loop {
            while self.run() {
                self.check(at);
            }
            let asked = self.drawn(|world| &world.heads);
            let awaited = self.drawn(|world| &world.ends);
            if asked.is_none() && awaited.is_none() {
                break;
            }
            if let Some(asked) = asked {
                tell(asked, Head::NoAnswer);
            }
            if let Some(awaited) = awaited {
                tell(awaited, End::Complete);
            }
        }
        let waiting = |(fate, _): &&(Fate, Option<usize>)| *fate == Fate::Waits;
        let left = self.world.clients.borrow().iter().filter(waiting).count();
        assert_eq!(left, 0, "{at}: still waiting, though nothing is under way");
        assert_eq!(self.world.under_way.get(), 0, "{at}: a forward goes on for nobody");
        assert!(self.world.flights.is_empty(), "{at}: a flight is left");
    }
}

#[test]
fn i5_i10_whatever_the_order_nobody_waits_for_nothing_and_nothing_is_left() {
    let mut fates = BTreeMap::<&str, usize>::new();
    for seed in 0..SEEDS {
        let mut scheduler = Scheduler::new(seed);
        for step in 0..STEPS {
            scheduler.step();
            scheduler.check(&format!("seed {seed}, step {step}"));
        }
        scheduler.ends(&format!("seed {seed}, the end"));
        for (fate, _) in &*scheduler.world.clients.borrow() {
            let name = match fate {
                Fate::Waits => "waits",
                Fate::Reads => "reads",
                Fate::Answered => "answered",
                Fate::ForwardsAlone => "alone",
                Fate::GaveUp => "gave up",
            };
            *fates.entry(name).or_default() += 1;
        }
        *fates.entry("two forwards").or_default() += scheduler.world.twice.get();
    }
    for what in ["reads", "answered", "alone", "gave up", "two forwards"] {
        assert!(fates.get(what).is_some_and(|times| *times > 500), "{what} is hardly tried: {fates:?}");
    }
}
