//! The only place where a clock is read.
//!
//! A [`Timestamp`] is wall time read once at start and carried on by the monotonic clock, so that a
//! step of the wall clock neither ages nor rejuvenates what is stored. HTTP dates and signatures,
//! which others compare with their own wall clock, come from [`Clock::wall`].

mod deadline;

pub(crate) use deadline::Deadline;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, monotonic within a process.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A timestamp of so many milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This instant moved on by `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The same instant for HTTP dates.
    #[must_use]
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }

    /// From a date and time as RFC 3339 writes them, with any offset; those before the epoch become the epoch.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let (time, offset) = if let Some(time) = text.strip_suffix('Z') {
            (time, 0)
        } else {
            let (time, zone) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
            (time, offset_minutes(zone)?)
        };
        // What is read knows neither offsets nor the time before the epoch: a year of the same shape, moved back.
        let (year, rest) = time.split_at_checked(4)?;
        let years: u64 = year.parse().ok().filter(|_| year.bytes().all(|byte| byte.is_ascii_digit()))?;
        let cycles = if years < FIRST_YEAR { (FIRST_YEAR - years).div_ceil(CYCLE_YEARS) } else { 0 };
        let moved = humantime::parse_rfc3339(&format!("{:04}{rest}Z", years + cycles * CYCLE_YEARS)).ok()?;
        let millis = i64::try_from(Self::from_system_time(moved).as_millis()).ok()?;
        let back = i64::try_from(cycles * CYCLE_MILLIS).ok()? + offset * 60_000;
        Some(Self(u64::try_from(millis - back).unwrap_or_default()))
    }

    /// From a date that somebody else wrote; dates before the epoch become the epoch.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// The first year that a timestamp knows.
const FIRST_YEAR: u64 = 1970;
/// After so many years the calendar begins anew.
const CYCLE_YEARS: u64 = 400;
/// So long they are.
const CYCLE_MILLIS: u64 = 146_097 * 86_400_000;

/// The minutes of an offset such as `+02:00`.
fn offset_minutes(zone: &str) -> Option<i64> {
    let (sign, digits) = zone.split_at_checked(1)?;
    let (hours, minutes) = digits.split_once(':')?;
    let two = |text: &str, most: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| digits && *number <= most)
    };
    let offset = two(hours, 23)? * 60 + two(minutes, 59)?;
    match sign {
        "+" => Some(offset),
        "-" => Some(-offset),
        _ => None,
    }
}

/// Where "now" comes from; cheap to clone, read once per request and passed down.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    System { start: Instant, start_wall: Timestamp },
    Manual(AtomicU64),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn system() -> Self {
        let start_wall = Timestamp::from_system_time(SystemTime::now());
        Self(Arc::new(Kind::System { start: Instant::now(), start_wall }))
    }

    /// A clock that stands still until it is moved; for tests.
    #[must_use]
    pub fn manual(at: Timestamp) -> Self {
        Self(Arc::new(Kind::Manual(AtomicU64::new(at.0))))
    }

    /// Moves a manual clock on; a system clock cannot be moved and ignores it.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(millis) = &*self.0 {
            millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Now, unaffected by steps of the wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Kind::System { start, start_wall } => start_wall.plus(start.elapsed()),
            Kind::Manual(millis) => Timestamp(millis.load(Ordering::Relaxed)),
        }
    }

    /// What the wall clock says now: for HTTP dates and signatures only.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn wall(&self) -> SystemTime {
        match &*self.0 {
            Kind::System { .. } => SystemTime::now(),
            Kind::Manual(_) => self.now().to_system_time(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::from_millis(5));
        clock.advance(Duration::from_millis(7));
        assert_eq!(clock.now(), Timestamp::from_millis(12));
        assert_eq!(clock.now().since(Timestamp::from_millis(20)), Duration::ZERO);
    }

    /// As after a step of an hour, forth or back, since the process started.
    #[test]
    fn what_is_carried_on_is_not_the_wall_clock() {
        let hour = 3_600_000;
        let Clock(kind) = Clock::system();
        let Kind::System { start, start_wall } = &*kind else { panic!("a system clock") };
        for stepped in [start_wall.0 + hour, start_wall.0 - hour] {
            let began = Timestamp(stepped);
            let clock = Clock(Arc::new(Kind::System { start: *start, start_wall: began }));
            assert!(clock.now() >= began && clock.now().since(began) < Duration::from_mins(1));
            let wall = Timestamp::from_system_time(clock.wall());
            assert!(wall >= *start_wall && wall.since(*start_wall) < Duration::from_mins(1));
        }
    }
}
