//! What is sent again: a rule of values, and the budget that keeps retries from becoming the load.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that one request is sent again.
pub(super) const RETRIES_MAX: u32 = 2;

/// Retries under way that are always allowed.
const RETRIES_FREE: usize = 3;

/// One retry under way is allowed for so many active requests (20 %).
const ACTIVE_PER_RETRY: usize = 5;

/// How far an exchange had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No connection stood: nothing was sent.
    Unsent,
    /// A connection that had been used before closed before any byte of an answer came: most likely the
    /// source had closed it while it was idle (RFC 9112 9.3.1).
    Worn,
    /// A new connection closed before any byte of an answer came.
    Unheard,
    /// The answer had begun, or nobody knows.
    Begun,
}

/// What may be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Safe, and its content is held: it may be sent again although the source may have seen it.
    Safe,
    /// It may be sent again only if the source has seen nothing of it, and its content is untouched.
    Untouched,
    /// Its content is gone: it cannot be sent again.
    Spent,
}

/// Whether a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is, at nobody's cost.
    Again,
    /// It is, if the budget allows it.
    AgainOnBudget,
    /// It is not.
    Never,
}

/// What follows a failure. `elsewhere`: how many addresses are in that were not tried.
pub(super) const fn next(progress: Progress, kind: Kind, retries: u32, elsewhere: usize) -> Next {
    if retries >= RETRIES_MAX {
        return Next::Never;
    }
    match (progress, kind) {
        // An address that could not be reached a moment ago cannot be reached now.
        (Progress::Unsent, Kind::Safe | Kind::Untouched) if elsewhere > 0 => Next::AgainOnBudget,
        (Progress::Worn, Kind::Safe) if retries == 0 => Next::Again,
        (Progress::Worn | Progress::Unheard, Kind::Safe) => Next::AgainOnBudget,
        (Progress::Unsent | Progress::Worn | Progress::Unheard | Progress::Begun, _) => Next::Never,
    }
}

/// How many retries are under way at once (I10).
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    /// A retry, while `active` requests are under way; `None` where there are too many already.
    pub(super) fn take(&self, active: usize) -> Option<Spending<'_>> {
        let most = RETRIES_FREE.saturating_add(active / ACTIVE_PER_RETRY);
        let spent = |retrying: usize| (retrying < most).then_some(retrying + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).ok().map(|_| Spending(&self.0))
    }
}

/// A retry under way.
#[derive(Debug)]
pub(super) struct Spending<'a>(&'a AtomicUsize);

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again() {
        use Kind::{Safe, Spent, Untouched};
        use Next::{Again, AgainOnBudget, Never};
        use Progress::{Begun, Unheard, Unsent, Worn};
        for (progress, kind, retries, elsewhere, expected) in [
            // A worn connection tells nothing: once more, at nobody's cost; then it is a retry.
            (Worn, Safe, 0, 0, Again),
            (Worn, Safe, 1, 0, AgainOnBudget),
            (Worn, Safe, 2, 0, Never),
            (Worn, Untouched, 0, 1, Never),
            (Worn, Spent, 0, 1, Never),
            // What reached the source and is not safe is never repeated.
            (Unheard, Safe, 0, 0, AgainOnBudget),
            (Unheard, Safe, 1, 3, AgainOnBudget),
            (Unheard, Safe, 2, 3, Never),
            (Unheard, Untouched, 0, 3, Never),
            (Unheard, Spent, 0, 3, Never),
            // What nobody has seen goes elsewhere, whatever its method.
            (Unsent, Safe, 0, 1, AgainOnBudget),
            (Unsent, Untouched, 0, 1, AgainOnBudget),
            (Unsent, Untouched, 1, 1, AgainOnBudget),
            (Unsent, Untouched, 2, 1, Never),
            (Unsent, Safe, 0, 0, Never),
            (Unsent, Untouched, 0, 0, Never),
            (Unsent, Spent, 0, 1, Never),
            // Never after the source has begun to answer.
            (Begun, Safe, 0, 3, Never),
            (Begun, Untouched, 0, 3, Never),
        ] {
            let row = format!("{progress:?} {kind:?} after {retries}, {elsewhere} elsewhere");
            assert_eq!(next(progress, kind, retries, elsewhere), expected, "{row}");
        }
    }

    #[test]
    fn i10_retries_are_three_and_a_fifth_of_what_is_active() {
        for (active, most) in [(0, 3), (4, 3), (5, 4), (10, 5), (256, 54)] {
            let budget = Budget::default();
            let mut taken = Vec::new();
            while let Some(spending) = budget.take(active) {
                taken.push(spending);
                assert!(taken.len() <= most, "{active} active");
            }
            assert_eq!(taken.len(), most, "{active} active");
            taken.pop();
            assert!(budget.take(active).is_some(), "one that has ended makes room");
        }
    }
}
