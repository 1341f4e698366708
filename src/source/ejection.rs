//! Which addresses of a source are asked: a pure state machine, `now` passed in.
//!
//! ```text
//!      5 failures in a row; never the last address
//! IN ----------------------------------------------> OUT for 30 s
//!  ^                                                  |  ^
//!  +-- a probe is answered -- one request probes <----+  |
//!                                 | it fails: twice as long
//!                                 +----------------------+
//! IN -- 3 failed checks; never the last address --> OUT -- a good check --> IN, unless requests took it out
//! ```
//!
//! Of the last address that is in, requests that end without an answer count for the source's breaker
//! instead: five in a row open it. While it is open nothing is asked but one probe at a time, of each address in turn, in or out.

use crate::breaker::{self, Admission, Breaker, State};
use crate::clock::Timestamp;
use std::time::Duration;

/// The most addresses of a source.
pub const ADDRESSES_MAX: usize = 64;

/// Checks that must fail in a row to take an address out.
const FAILED_CHECKS_MAX: u32 = 3;

/// Failures in a row count, nothing else does: half of the answers may be errors that are meant.
const NEVER_BY_SHARE: u32 = u32::MAX;

/// When an address is out, and for how long.
const EJECTION: breaker::Settings = breaker::Settings {
    failures: 5,
    outcomes_min: NEVER_BY_SHARE,
    window: Duration::from_secs(10),
    open: Duration::from_secs(30),
    open_cap: Duration::from_mins(5),
};

/// When the source as a whole is left alone. Briefly: nobody should wait long for a source that is back.
const BREAKER: breaker::Settings = breaker::Settings {
    failures: 5,
    outcomes_min: NEVER_BY_SHARE,
    window: Duration::from_secs(10),
    open: Duration::from_secs(1),
    open_cap: Duration::from_secs(5),
};

/// How long a probe of the source stands alone: after that another one may try, for a slow answer must not
/// keep everybody else out.
const PROBE_ALONE: Duration = Duration::from_secs(1);

/// How the failures were that opened a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// It could not be reached, or closed without an answer.
    Disconnected,
    /// It did not answer in time.
    Silent,
}

/// What an exchange with an address tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// It answered.
    Well,
    /// It answered that it cannot (502, 503, 504), or what is no proper answer.
    Unwell,
    /// It gave no answer.
    Missing(Outage),
    /// Its answer was overdue, and nobody waits for it any more: it may be slow, and its clients impatient.
    Overdue,
    /// Nothing: nobody waited for the answer, or a connection had grown old.
    Nothing,
}

/// What a request does after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is over.
    Over,
    /// It is sent again.
    Again,
}

/// Addresses, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    pub(super) const fn with(self, number: usize) -> Self {
        Self(self.0 | 1 << (number % ADDRESSES_MAX))
    }

    pub(super) const fn of_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn has(self, number: usize) -> bool {
        self.0 >> (number % ADDRESSES_MAX) & 1 == 1
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The members, the smallest first.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..ADDRESSES_MAX).filter(move |number| self.has(*number))
    }
}

/// Whose standing a request decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probing {
    /// Nobody's alone.
    None,
    /// That of its address.
    Address,
    /// That of the source.
    Source,
}

/// Whether a request may be risked on an address that was out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Risk {
    /// It can be sent again elsewhere.
    Taken,
    /// It cannot.
    Avoided,
}

/// Where a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To any of these.
    Among(Set),
    /// To this address, and a report must follow.
    Probe(usize, Probing),
    /// Nowhere: the breaker is open.
    Refused(Outage),
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// An address is out.
    Ejected,
    /// It is in again.
    Restored,
    /// The breaker opened.
    Opened,
    /// It closed.
    Closed,
}

#[derive(Clone, Debug)]
struct Address {
    ejection: Breaker,
    failed_checks: u32,
}

impl Address {
    fn new() -> Self {
        Self { ejection: Breaker::new(EJECTION), failed_checks: 0 }
    }

    fn is_in(&self, now: Timestamp) -> bool {
        self.failed_checks < FAILED_CHECKS_MAX && self.ejection.state(now) == State::Closed
    }
}

/// The addresses of a source and its breaker. At least one address is in at any time.
#[derive(Debug)]
pub(super) struct Roster {
    addresses: Vec<Address>,
    breaker: Breaker,
    outage: Outage,
    /// Who is probed next for the source.
    turn: usize,
    probed_at: Timestamp,
}

impl Roster {
    pub(super) fn new(count: usize) -> Self {
        Self {
            addresses: (0..count).map(|_| Address::new()).collect(),
            breaker: Breaker::new(BREAKER),
            outage: Outage::Disconnected,
            turn: 0,
            probed_at: Timestamp::default(),
        }
    }

    /// What is known where the addresses change: each is the one of that number so far, or new. Nobody who is
    /// under way reports here, so a probe may go at once.
    pub(super) fn succeed(&self, kept: &[Option<usize>], now: Timestamp) -> Self {
        let address = |number: &Option<usize>| {
            let known = number.and_then(|number| self.addresses.get(number)).cloned();
            let mut address = known.unwrap_or_else(Address::new);
            address.ejection.undecided(now);
            address
        };
        let mut breaker = self.breaker.clone();
        breaker.undecided(now);
        let addresses = kept.iter().map(address).collect();
        let mut roster = Self { addresses, breaker, ..Self::new(0) };
        roster.outage = self.outage;
        if roster.inside(now).is_empty() {
            roster.addresses.iter_mut().for_each(|address| *address = Address::new());
        }
        roster
    }

    /// What failed checks hold against addresses is over.
    pub(super) fn forget_checks(&mut self) {
        self.addresses.iter_mut().for_each(|address| address.failed_checks = 0);
    }

    /// Where the source's breaker stands.
    pub(super) fn breaker(&self, now: Timestamp) -> State {
        self.breaker.state(now)
    }

    /// Whether nothing would be sent at `now`; decides nothing.
    pub(super) fn refusal(&self, now: Timestamp) -> Option<Outage> {
        (self.breaker.state(now) == State::Open).then_some(self.outage)
    }

    /// The addresses that are in.
    pub(super) fn inside(&self, now: Timestamp) -> Set {
        let inside = self.addresses.iter().enumerate().filter(|(_, address)| address.is_in(now));
        inside.fold(Set::default(), |set, (number, _)| set.with(number))
    }

    /// Asks for a way. Every request that goes it must report.
    pub(super) fn admit(&mut self, now: Timestamp, risk: Risk) -> Way {
        if self.breaker.state(now) == State::HalfOpen && now.since(self.probed_at) >= PROBE_ALONE {
            self.breaker.undecided(now);
        }
        match self.breaker.admit(now) {
            Admission::Refused { .. } => return Way::Refused(self.outage),
            Admission::Probe => {
                self.probed_at = now;
                let number = self.turn;
                self.turn = (number + 1) % self.addresses.len().max(1);
                return Way::Probe(number, Probing::Source);
            }
            Admission::Pass => {}
        }
        if risk == Risk::Taken {
            for (number, address) in self.addresses.iter_mut().enumerate() {
                let is_rested = address.failed_checks < FAILED_CHECKS_MAX
                    && address.ejection.state(now) == State::HalfOpen;
                // Of one whose probe is under way already the breaker asks no second one.
                if is_rested && address.ejection.admit(now) == Admission::Probe {
                    return Way::Probe(number, Probing::Address);
                }
            }
        }
        Way::Among(self.inside(now))
    }

    /// Takes in what an ordinary exchange told. Late news, of what was sent before its address was out or the
    /// breaker open, decide nothing.
    pub(super) fn told(
        &mut self,
        number: usize,
        report: Report,
        then: Then,
        now: Timestamp,
        jitter: f64,
    ) -> Option<Change> {
        let others = self.inside(now).without(Set::default().with(number));
        let address = self.addresses.get_mut(number).filter(|address| address.is_in(now))?;
        if self.breaker.state(now) != State::Closed {
            return None;
        }
        match report {
            Report::Well => address.ejection.success(now),
            Report::Unwell | Report::Missing(_) | Report::Overdue if !others.is_empty() => {
                address.ejection.failure(now, jitter);
            }
            // Where nobody can be asked in its place, those who would have waited are not sent away for it.
            Report::Overdue | Report::Nothing => return None,
            // What is sent again counts when it is over.
            Report::Missing(_) if then == Then::Again => return None,
            Report::Unwell => {}
            Report::Missing(outage) => {
                self.outage = outage;
                self.breaker.failure(now, jitter);
                return (self.breaker.state(now) != State::Closed).then_some(Change::Opened);
            }
        }
        let is_out = !address.is_in(now);
        if report == Report::Well || report == Report::Unwell {
            self.breaker.success(now);
        }
        is_out.then_some(Change::Ejected)
    }

    /// Takes in what the probe of an address told.
    pub(super) fn probed(
        &mut self,
        number: usize,
        report: Report,
        now: Timestamp,
        jitter: f64,
    ) -> Option<Change> {
        let address = self.addresses.get_mut(number)?;
        match report {
            Report::Well => {
                address.ejection.success(now);
                self.breaker = Breaker::new(BREAKER);
                Some(Change::Restored)
            }
            Report::Unwell | Report::Missing(_) | Report::Overdue => {
                address.ejection.failure(now, jitter);
                None
            }
            Report::Nothing => {
                address.ejection.undecided(now);
                None
            }
        }
    }

    /// Takes in what the probe of the source told.
    pub(super) fn source_probed(
        &mut self,
        number: usize,
        report: Report,
        now: Timestamp,
        jitter: f64,
    ) -> Option<Change> {
        // Another probe was quicker.
        if self.breaker.state(now) == State::Closed {
            return self.told(number, report, Then::Over, now, jitter);
        }
        match report {
            Report::Well => {
                if let Some(address) = self.addresses.get_mut(number) {
                    *address = Address::new();
                }
                self.breaker = Breaker::new(BREAKER);
            }
            Report::Unwell => self.breaker = Breaker::new(BREAKER),
            Report::Missing(outage) => {
                self.outage = outage;
                self.breaker.failure(now, jitter);
            }
            Report::Overdue | Report::Nothing => self.breaker.undecided(now),
        }
        (self.breaker.state(now) == State::Closed).then_some(Change::Closed)
    }

    /// Takes in an active check that was good: failed ones are forgotten. What requests have found holds, for
    /// they ask for more than a check does: its time and its probe end it.
    pub(super) fn passed(&mut self, number: usize, now: Timestamp) -> Option<Change> {
        let address = self.addresses.get_mut(number)?;
        let was_in = address.is_in(now);
        address.failed_checks = 0;
        (!was_in && address.is_in(now)).then_some(Change::Restored)
    }

    /// Takes in an active check that failed.
    pub(super) fn missed(&mut self, number: usize, now: Timestamp) -> Option<Change> {
        let is_last = self.inside(now).without(Set::default().with(number)).is_empty();
        let address = self.addresses.get_mut(number)?;
        let was_in = address.is_in(now);
        let failed = address.failed_checks.saturating_add(1).min(FAILED_CHECKS_MAX);
        if is_last && failed == FAILED_CHECKS_MAX {
            return None;
        }
        address.failed_checks = failed;
        (was_in && !address.is_in(now)).then_some(Change::Ejected)
    }
}

#[cfg(test)]
mod tests;
