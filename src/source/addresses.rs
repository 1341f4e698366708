//! The addresses of a source: each request is sent to the less busy of two, of those that are in.

use super::address::{Address, Load, Standing};
use super::body::{Awaits, Upload};
use super::ejection::{Change, Outage, Probing, Report, Risk, Roster, Set, Then, Way};
use crate::breaker::State;
use crate::clock::Clock;
use crate::explanation::SourceAddress;
use crate::secret::Endpoint;
use crate::telemetry::metrics as names;
use metrics::{Gauge, gauge};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Which addresses requests for one thing have gone to, a bit each: another one goes elsewhere where there is an
/// elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Visited(pub Arc<AtomicU64>);

impl Visited {
    pub(super) fn addresses(&self) -> Set {
        Set::of_bits(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn add(&self, number: usize) {
        self.0.fetch_or(Set::default().with(number).bits(), Ordering::Relaxed);
    }
}

/// All addresses of a source. The one owner of what is known of them; its lock is held for a moment,
/// never across an await.
#[derive(Debug)]
pub(super) struct Addresses {
    source: String,
    list: Vec<Arc<Address>>,
    roster: Mutex<Roster>,
    breaker: Gauge,
    clock: Clock,
}

impl Addresses {
    pub(super) fn new(source: &str, urls: &[Endpoint], clock: Clock) -> Self {
        let breaker = gauge!(names::SOURCE_BREAKER, "source" => source.to_owned());
        breaker.set(State::Closed.as_gauge());
        Self {
            source: source.to_owned(),
            list: urls.iter().map(|url| Arc::new(Address::new(source, url))).collect(),
            roster: Mutex::new(Roster::new(urls.len())),
            breaker,
            clock,
        }
    }

    /// The addresses of other URLs: those that stay keep what is known of them, and so does the source's
    /// breaker. The same URLs are the same addresses.
    pub(super) fn succeed(self: &Arc<Self>, urls: &[Endpoint]) -> Arc<Self> {
        let made: Vec<Address> = urls.iter().map(|url| Address::new(&self.source, url)).collect();
        let number = |new: &Address| self.list.iter().position(|old| old.shown() == new.shown());
        let kept: Vec<Option<usize>> = made.iter().map(number).collect();
        if kept.iter().copied().eq((0..self.list.len()).map(Some)) {
            self.show(&self.roster(), 0, None);
            return Arc::clone(self);
        }
        let gone = self.list.iter().filter(|old| made.iter().all(|new| old.shown() != new.shown()));
        gone.for_each(|old| old.show(Standing::In));
        let taken = |(new, number): (Address, &Option<usize>)| {
            let old = number.and_then(|number| self.list.get(number)).cloned();
            old.unwrap_or_else(|| Arc::new(new))
        };
        let list = made.into_iter().zip(&kept).map(taken).collect();
        let roster = self.roster().succeed(&kept, self.clock.now());
        let (breaker, clock) = (self.breaker.clone(), self.clock.clone());
        let succeeding =
            Self { source: self.source.clone(), list, roster: Mutex::new(roster), breaker, clock };
        succeeding.show(&succeeding.roster(), 0, None);
        Arc::new(succeeding)
    }

    /// Nobody checks any more: what checks held against an address is over.
    pub(super) fn forget_checks(&self) {
        let mut roster = self.roster();
        roster.forget_checks();
        self.show(&roster, 0, None);
    }

    /// Brings its gauges up to now: the time that a breaker is open ends also while nobody asks.
    pub(super) fn observe(&self) {
        self.show(&self.roster(), 0, None);
    }

    /// Its gauges say nothing any more.
    pub(super) fn retire(&self) {
        self.breaker.set(State::Closed.as_gauge());
        self.list.iter().for_each(|address| address.show(Standing::In));
    }

    pub(super) fn list(&self) -> &[Arc<Address>] {
        &self.list
    }

    /// Whether a request would be refused now.
    pub(super) fn refusal(&self) -> Option<Outage> {
        self.roster().refusal(self.clock.now())
    }

    /// Where the breaker stands, and each address: how it is named, whether it is in, and what is under way
    /// there.
    pub(super) fn look(&self) -> (State, Vec<SourceAddress>) {
        let now = self.clock.now();
        let (breaker, inside) = {
            let roster = self.roster();
            (roster.breaker(now), roster.inside(now))
        };
        let address = |(number, address): (usize, &Arc<Address>)| SourceAddress {
            address: address.shown().to_owned(),
            ejected: !inside.has(number),
            in_flight: address.in_flight(),
        };
        (breaker, self.list.iter().enumerate().map(address).collect())
    }

    /// How many addresses are in, those of `tried` left out.
    pub(super) fn elsewhere(&self, tried: Set) -> usize {
        self.roster().inside(self.clock.now()).without(tried).len()
    }

    /// Chooses an address, not one of `tried` where there is another. One that brings no head within `grace` is
    /// overdue, or silent, also where nobody waits to the end.
    ///
    /// # Errors
    /// How the source failed, where its breaker is open.
    pub(super) fn visit(
        &self,
        risk: Risk,
        tried: Set,
        (grace, upload): (Grace, Option<&Upload>),
    ) -> Result<Option<Visit<'_>>, Outage> {
        let now = self.clock.now();
        let way = {
            let mut roster = self.roster();
            let way = roster.admit(now, risk);
            self.breaker.set(roster.breaker(now).as_gauge());
            way
        };
        let (number, probing) = match way {
            Way::Refused(outage) => return Err(outage),
            Way::Probe(number, probing) => (Some(number), probing),
            Way::Among(inside) => {
                let untried = inside.without(tried);
                (self.less_busy(if untried.is_empty() { inside } else { untried }), Probing::None)
            }
        };
        Ok(number.and_then(|number| {
            let address = Arc::clone(self.list.get(number)?);
            let awaited = Awaited {
                since: Instant::now(),
                grace,
                upload: upload.cloned(),
                heads_before: address.heads(),
            };
            let duty = Duty { addresses: self, number, probing, awaited, report: None, then: Then::Over };
            Some(Visit { load: Load::new(&address), address, number, duty })
        }))
    }

    /// The power of two choices: two at random, and of them the one with fewer requests under way.
    fn less_busy(&self, among: Set) -> Option<usize> {
        let count = among.len();
        let nth = |place: usize| among.iter().nth(place);
        if count < 2 {
            return nth(0);
        }
        let first = fastrand::usize(..count);
        // Another than the first: the places behind it move up by one.
        let second = fastrand::usize(..count - 1);
        let second = if second < first { second } else { second + 1 };
        let load = |number: &usize| self.list.get(*number).map_or(usize::MAX, |address| address.in_flight());
        [nth(first), nth(second)].into_iter().flatten().min_by_key(load)
    }

    /// Takes in an active check.
    pub(super) fn checked(&self, number: usize, report: Report) {
        let now = self.clock.now();
        let mut roster = self.roster();
        let change = match report {
            Report::Well => roster.passed(number, now),
            Report::Unwell | Report::Missing(_) => roster.missed(number, now),
            Report::Overdue | Report::Nothing => None,
        };
        self.show(&roster, number, change);
    }

    fn report(&self, duty: &Duty<'_>) {
        let Some(address) = self.list.get(duty.number) else { return };
        let report = duty.report.unwrap_or_else(|| duty.awaited.given_up(address.heads()));
        match report {
            Report::Unwell | Report::Missing(_) | Report::Overdue => address.failed(),
            Report::Well | Report::Nothing => {}
        }
        let now = self.clock.now();
        let mut roster = self.roster();
        let change = match duty.probing {
            Probing::None => roster.told(duty.number, report, duty.then, now, fastrand::f64()),
            Probing::Address => roster.probed(duty.number, report, now, fastrand::f64()),
            Probing::Source => roster.source_probed(duty.number, report, now, fastrand::f64()),
        };
        if change.is_some() || duty.probing != Probing::None {
            self.show(&roster, duty.number, change);
        }
    }

    /// Tells metrics and log.
    fn show(&self, roster: &Roster, number: usize, change: Option<Change>) {
        let now = self.clock.now();
        self.breaker.set(roster.breaker(now).as_gauge());
        let inside = roster.inside(now);
        for (at, address) in self.list.iter().enumerate() {
            address.show(if inside.has(at) { Standing::In } else { Standing::Out });
        }
        let name = self.list.get(number).map_or("", |address| address.shown());
        let source = &self.source;
        match change {
            None => {}
            Some(Change::Ejected) => {
                tracing::warn!(target: "tidegate::source", source, address = name, "address ejected");
            }
            Some(Change::Restored) => {
                tracing::info!(target: "tidegate::source", source, address = name, "address is back");
            }
            Some(Change::Opened) => {
                tracing::warn!(target: "tidegate::source", source, "breaker open");
            }
            Some(Change::Closed) => {
                tracing::info!(target: "tidegate::source", source, address = name, "breaker closed");
            }
        }
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One exchange with an address, which ends with a report.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) address: Arc<Address>,
    pub(super) number: usize,
    load: Load,
    duty: Duty<'a>,
}

impl Visit<'_> {
    /// Whether it decides if the source is asked again.
    pub(super) fn decides_for_all(&self) -> bool {
        self.duty.probing == Probing::Source
    }

    /// Whether it decides over an address, or the source.
    pub(super) fn is_probe(&self) -> bool {
        self.duty.probing != Probing::None
    }

    /// It ended, and told this of the address.
    pub(super) fn ended(self, report: Report, then: Then) -> Load {
        let Self { address, load, mut duty, .. } = self;
        duty.then = then;
        if let Report::Well | Report::Unwell = report {
            address.has_answered();
        }
        duty.report = Some(report);
        load
    }
}

/// A report that will be made, however the exchange ends: nobody waits for a probe that is gone.
#[derive(Debug)]
struct Duty<'a> {
    addresses: &'a Addresses,
    number: usize,
    probing: Probing,
    awaited: Awaited,
    /// `None`: nobody waits for its end any more.
    report: Option<Report>,
    then: Then,
}

/// How long a head may be waited for before that tells something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    /// Then it is overdue.
    pub(super) overdue_after: Duration,
    /// Then the address is silent.
    pub(super) silent_after: Duration,
}

/// How long a head has been waited for.
#[derive(Debug)]
struct Awaited {
    since: Instant,
    grace: Grace,
    upload: Option<Upload>,
    /// How many heads the address had brought when the wait began.
    heads_before: u64,
}

impl Awaited {
    /// What it tells that nobody waits any more: nothing, where the head could still have come, or where
    /// others have had answers meanwhile.
    fn given_up(&self, heads: u64) -> Report {
        // A request that is still being sent has not begun to wait.
        if self.upload.as_ref().is_some_and(|upload| upload.awaits() != Awaits::Source) {
            return Report::Nothing;
        }
        let moved_at = self.upload.as_ref().and_then(Upload::moved_at);
        let since = moved_at.map_or(self.since, |at| at.max(self.since));
        let waited = since.elapsed();
        if heads != self.heads_before || waited < self.grace.overdue_after {
            Report::Nothing
        } else if waited < self.grace.silent_after {
            Report::Overdue
        } else {
            Report::Missing(Outage::Silent)
        }
    }
}

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        self.addresses.report(self);
    }
}
