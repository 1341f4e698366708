//! Work that a hit begins and nobody waits for: the validation of what was served stale (RFC 5861 3), or
//! is about to become stale (`cache/rules/early.rs`), or was made stale by a soft purge (`refill.rs`).
//!
//! ```text
//! source -> a client would have to wait for it, or nearly: nothing is begun, a later hit tries again
//! claim -> somebody validates it, or did a moment ago: nothing to do
//!       -> another gateway has put a newer one into the shared tier: use that
//!       -> the key's flight is somebody's: wait for what it lands, look again, then join that of the variant
//!       -> a fill of its own
//! ```
//! Whatever comes of it, the stored response that it was about rests for [`REST`]: a hit that was under way
//! meanwhile does not begin again, and a source in trouble is not hammered.

mod claims;
mod refill;

pub(crate) use refill::refill;

use super::Gateway;
use super::cache_status::Stored;
use super::fill::{BeganBy, Fill};
use super::landing::Landing;
use super::read;
use super::request::Request;
use super::route::Route;
use crate::cache::collapse::{Lane, Role};
use crate::cache::rules::{ForwardReason, early, vary};
use crate::cache::{CacheKey, StoredResponse};
use crate::clock::Timestamp;
use crate::source::Urgency;
use crate::telemetry::metrics as names;
use claims::{Claim, Claims, Refused};
use std::sync::Arc;
use std::time::Duration;

/// The most that is validated at once; beyond it a later hit tries again.
const VALIDATIONS_MAX: usize = 256;

/// How long a stored response rests after its validation has ended.
const REST: Duration = Duration::from_secs(1);

/// The most that rest; beyond them some are validated again earlier.
const RESTING_MAX: u64 = 10_000;

/// How often a validation waits for somebody else's forward of its key; then a later hit tries again.
const WAITS_MAX: usize = 3;

/// Per cent of a source's `concurrency` in use beyond which nothing is validated early.
const EARLY_LOAD_PERCENT_MAX: usize = 80;

/// What is validated, or was a moment ago.
#[derive(Clone, Debug)]
pub(crate) struct Background {
    claims: Arc<Claims>,
}

impl Background {
    pub(crate) fn new() -> Self {
        Self { claims: Claims::new() }
    }
}

/// Why something is validated in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It was served stale.
    Stale,
    /// It will soon be stale.
    Early,
    /// A soft purge has made it stale.
    Purged,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The source confirmed what is stored.
    Validated,
    /// The source had another response.
    Replaced,
    /// The source's answer may not be stored.
    NotStorable,
    /// There was no good answer: what is stored stays.
    Failed,
    /// A tier had a newer one by then.
    Found,
    /// Others were forwarding for the key all the time.
    Crowded,
    /// [`VALIDATIONS_MAX`] are under way.
    NoPlace,
    /// The source has no place to spare, or is busy with more than [`EARLY_LOAD_PERCENT_MAX`].
    SourceBusy,
    /// Too much is in flight.
    NoRoom,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Early => "early",
            Self::Purged => "purged",
        }
    }

    fn count(self, outcome: Outcome) {
        let labels = [("cause", self.as_str()), ("result", outcome.as_str())];
        metrics::counter!(names::VALIDATIONS, &labels).increment(1);
    }
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Validated => "validated",
            Self::Replaced => "replaced",
            Self::NotStorable => "not-storable",
            Self::Failed => "failed",
            Self::Found => "found",
            Self::Crowded => "crowded",
            Self::NoPlace => "no-place",
            Self::SourceBusy => "source-busy",
            Self::NoRoom => "no-room",
        }
    }

    fn of(landing: Option<&Landing>) -> Self {
        match landing {
            Some(Landing::Validated(_)) => Self::Validated,
            Some(Landing::Found(_)) => Self::Found,
            Some(Landing::Shared(shared) | Landing::SharedOnce(shared))
                if !shared.head.status.is_server_error() =>
            {
                Self::Replaced
            }
            Some(Landing::ValidatedOnce(..) | Landing::Alone) => Self::NotStorable,
            Some(Landing::Shared(_) | Landing::SharedOnce(_) | Landing::Failed(_)) => Self::Failed,
            // Between the look at the places and the forward somebody else has taken the last one.
            None => Self::SourceBusy,
        }
    }
}

/// Validates a stale response once, however many hits ask for it.
pub(crate) fn validate(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: &Request,
    stored: &Arc<StoredResponse>,
) {
    begin(Cause::Stale, gateway, route, (key, request), stored);
}

/// Validates a fresh response if this hit is the one that draws it, and its source has room.
pub(crate) fn validate_early(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    key: &CacheKey,
    request: &Request,
    stored: &Arc<StoredResponse>,
    now: Timestamp,
) {
    // Almost every hit ends here.
    if !early::draws(stored, now) {
        return;
    }
    // Uniform in (0, 1].
    let draw = 1.0 - fastrand::f64();
    if !early::is_due(stored, now, draw) {
        return;
    }
    if route.source.load_percent() > EARLY_LOAD_PERCENT_MAX {
        return Cause::Early.count(Outcome::SourceBusy);
    }
    begin(Cause::Early, gateway, route, (key, request), stored);
}

fn begin(
    cause: Cause,
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    (key, request): (&CacheKey, &Request),
    stored: &Arc<StoredResponse>,
) {
    // What is gained by it is load on the source and bytes in flight, and somebody waits for those.
    if !gateway.in_flight.admits_background() {
        return cause.count(Outcome::NoRoom);
    }
    if !route.source.has_place() {
        return cause.count(Outcome::SourceBusy);
    }
    let claim = match gateway.background.claims.claim(key, stored, &gateway.clock) {
        Ok(claim) => claim,
        Err(Refused::Taken) => return,
        Err(Refused::NoPlace) => return cause.count(Outcome::NoPlace),
    };
    let mut fill = read::fill(gateway, route, key, request, Some(Arc::clone(stored)), ForwardReason::Stale);
    // The request that began it has its final response.
    fill.head.interim = None;
    // Clients go first: it never waits for a place in front of one.
    fill.head.urgency = Urgency::Spare;
    fill.began_by = BeganBy::Hit;
    gateway.tasks.spawn(run(cause, fill, Arc::clone(stored), claim));
}

async fn run(cause: Cause, fill: Fill, stored: Arc<StoredResponse>, claim: Claim) {
    let outcome = outcome(fill, &stored).await;
    cause.count(outcome);
    drop(claim);
}

async fn outcome(fill: Fill, stored: &StoredResponse) -> Outcome {
    let gateway = Arc::clone(&fill.gateway);
    let (cache, key) = (&gateway.cache, fill.key.clone());
    let mut lane = Lane::Any;
    for _ in 0..WAITS_MAX {
        if cache.has_newer(&key, &fill.request_fields, stored).await {
            return Outcome::Found;
        }
        let holds = |fence| read::is_joinable(cache, &key, fence);
        match gateway.flights.join(&key, lane, cache.fence(), holds) {
            Role::Lead(lead) => {
                return Outcome::of(fill.run(lead, None).await.as_ref());
            }
            Role::Follow(mut follower) => {
                let landed = follower.landed().await;
                if landed.is_some_and(|landed| takes_its_place(&landed.landing, &fill)) {
                    return Outcome::Found;
                }
                // It was another variant's.
                if !stored.selecting_fields.is_empty() {
                    lane = gateway.flights.variant(&stored.selecting_fields);
                }
            }
            Role::Full(_) => return Outcome::Crowded,
        }
    }
    Outcome::Crowded
}

/// Whether what somebody else's forward brings will be found in the place of what a fill is about; it is stored
/// at its end.
fn takes_its_place(landing: &Landing, fill: &Fill) -> bool {
    let Landing::Shared(shared) = landing else { return false };
    let head = &shared.head;
    shared.stored == Stored::Yes
        && !head.status.is_server_error()
        && vary::matches(&head.selecting_fields, &fill.request_fields)
}
