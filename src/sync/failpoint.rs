//! Named points at which a crash test ends the process, as `kill -9` would.
//!
//! In debug builds `TIDEGATE_FAIL_POINT=name` (or `name:N`, the N-th time it is reached) writes
//! `fail point reached: name` to standard error and sends the own process SIGKILL. Release builds
//! compile `reach` to nothing. The points are listed in [`NAMES`], in the order of a change's way.

/// Before the transaction with an intent is committed: the client has no answer, the source no request.
pub const INTENT_BEFORE_COMMIT: &str = "intent-before-commit";
/// The intent is durable, the source has not been called.
pub const INTENT_AFTER_COMMIT: &str = "intent-after-commit";
/// The source has answered, the outcome is not queued yet.
pub const SOURCE_ANSWERED: &str = "source-answered";
/// Before the transaction with an outcome is committed.
pub const OUTCOME_BEFORE_COMMIT: &str = "outcome-before-commit";
/// The outcome is durable.
pub const OUTCOME_AFTER_COMMIT: &str = "outcome-after-commit";
/// Before a destination is asked.
pub const DELIVERY_BEFORE_ATTEMPT: &str = "delivery-before-attempt";
/// The destination has answered, the settlement is not queued yet.
pub const DELIVERY_AFTER_ATTEMPT: &str = "delivery-after-attempt";
/// Before the transaction with a settlement is committed.
pub const SETTLE_BEFORE_COMMIT: &str = "settle-before-commit";
/// The settlement is durable.
pub const SETTLE_AFTER_COMMIT: &str = "settle-after-commit";
/// Within a step of retention, before its transaction is committed.
pub const RETENTION_STEP: &str = "retention-step";

/// Every fail point.
pub const NAMES: [&str; 10] = [
    INTENT_BEFORE_COMMIT,
    INTENT_AFTER_COMMIT,
    SOURCE_ANSWERED,
    OUTCOME_BEFORE_COMMIT,
    OUTCOME_AFTER_COMMIT,
    DELIVERY_BEFORE_ATTEMPT,
    DELIVERY_AFTER_ATTEMPT,
    SETTLE_BEFORE_COMMIT,
    SETTLE_AFTER_COMMIT,
    RETENTION_STEP,
];

/// Ends the process here, where the environment asks for it.
#[cfg(debug_assertions)]
pub(crate) fn reach(name: &'static str) {
    armed::reach(name);
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn reach(_name: &'static str) {}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::process::Command;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = std::env::var("TIDEGATE_FAIL_POINT").ok()?;
        match text.rsplit_once(':') {
            Some((name, times)) => Some((name.to_owned(), times.parse().ok()?)),
            None => Some((text, 1)),
        }
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn reach(name: &'static str) {
        let Some((armed, times)) = &*ARMED else { return };
        if armed != name || REACHED.fetch_add(1, Ordering::SeqCst) + 1 != *times {
            return;
        }
        // The process ends next: a lost line or a failed kill has nobody left to tell.
        drop(writeln!(std::io::stderr(), "fail point reached: {name}"));
        drop(Command::new("kill").args(["-9", &std::process::id().to_string()]).status());
        loop {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let unique: std::collections::BTreeSet<_> = NAMES.into_iter().collect();
        assert_eq!(unique.len(), NAMES.len());
    }
}
