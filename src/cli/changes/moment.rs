//! A time as operators type it.

use crate::clock::{Clock, Timestamp};
use std::str::FromStr;

/// A time as the admin API reads it. An age is taken from now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment(String);

impl Moment {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.parse::<u64>().is_ok() || Timestamp::parse_rfc3339(text).is_some() {
            return Ok(Self(text.to_owned()));
        }
        let age = humantime::parse_duration(text).ok();
        let at = age.and_then(|age| Clock::system().wall().checked_sub(age)).map(Timestamp::from_system_time);
        at.map(|at| Self(at.as_millis().to_string()))
            .ok_or_else(|| "neither a time like 2026-01-31T12:00:00Z nor an age like 2h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages() {
        for same in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+02:00", "1500"] {
            assert_eq!(same.parse(), Ok(Moment(same.to_owned())));
        }
        let now = Timestamp::from_system_time(Clock::system().wall()).as_millis();
        let hour_ago: u64 = "1h".parse::<Moment>().unwrap().0.parse().unwrap();
        assert!((3_590_000..3_601_000).contains(&(now - hour_ago)), "{hour_ago}");
        for odd in ["soon", "", "-1", "2026-01-31"] {
            odd.parse::<Moment>().unwrap_err();
        }
    }
}
