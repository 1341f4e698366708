//! Who of a flight's leaders lands: pure, so that every order of events can be tried.
//!
//! ```text
//! first: under way --claims--> it lands, for everybody
//!   |                                        whoever comes second keeps its answer to itself
//!   +- overdue -> one follower steps in ---> extra: under way --claims--> it lands, for everybody
//! one fails or ends: the other is waited for; both: the failure lands, or the followers are released
//! ```

/// Which of a flight's leaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The one whose forward began the flight.
    First,
    /// The follower that stepped in when no head had come for long.
    Extra,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forward {
    NotBegun,
    UnderWay,
    Over,
}

/// The forwards of one flight, two at most, and which of them lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    first: Forward,
    extra: Forward,
    lands: Option<Turn>,
}

impl Course {
    /// The first forward begins.
    pub(super) const fn begun() -> Self {
        Self { first: Forward::UnderWay, extra: Forward::NotBegun, lands: None }
    }

    /// Makes a follower the extra leader: once, while the first is still awaited. One that is not `admitted`
    /// leaves the turn to the next.
    pub(super) fn step_in<A>(&mut self, admitted: impl FnOnce() -> Option<A>) -> Option<A> {
        let may = self.lands.is_none() && self.extra == Forward::NotBegun && self.first == Forward::UnderWay;
        let admitted = may.then(admitted).flatten()?;
        self.extra = Forward::UnderWay;
        Some(admitted)
    }

    /// Whether this one lands: whoever claims first does.
    pub(super) fn claim(&mut self, turn: Turn) -> bool {
        *self.lands.get_or_insert(turn) == turn
    }

    /// As a claim, of one that has only a failure to land: it lands if no other is awaited, or if this one
    /// had claimed before, for an answer that turned out to be none.
    pub(super) fn claim_failed(&mut self, turn: Turn) -> bool {
        *self.forward(turn) = Forward::Over;
        (self.lands == Some(turn) || !self.awaits_another(turn)) && self.claim(turn)
    }

    /// One has ended; whether newcomers are taken no more.
    pub(super) fn end(&mut self, turn: Turn) -> bool {
        *self.forward(turn) = Forward::Over;
        match self.lands {
            Some(lands) => lands == turn,
            None => !self.awaits_another(turn),
        }
    }

    fn forward(&mut self, turn: Turn) -> &mut Forward {
        match turn {
            Turn::First => &mut self.first,
            Turn::Extra => &mut self.extra,
        }
    }

    fn awaits_another(self, turn: Turn) -> bool {
        let other = match turn {
            Turn::First => self.extra,
            Turn::Extra => self.first,
        };
        other == Forward::UnderWay
    }
}
