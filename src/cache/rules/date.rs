//! HTTP dates (RFC 9110 5.6.7): all three forms are read, IMF-fixdate is written.
//!
//! As RFC 9111 4.2 asks of a cache, names are read in any case and no zone but GMT is known. What names a
//! day that is not in the calendar, or not on that weekday, is no date: it could only be guessed at.

use crate::clock::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, UNIX_EPOCH};

/// 9999-12-31T23:59:59Z, the last second that an HTTP date can name.
const LAST_SECOND: u64 = 253_402_300_799;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// A year of two digits that seems further ahead than this is of the century before (RFC 9110 5.6.7).
const YEARS_AHEAD_MAX: i64 = 50;

/// In the order of the days since the epoch, which was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days of all months before, in a year that begins in March.
const DAYS_BEFORE_MONTH: [i64; 12] = [306, 337, 0, 31, 61, 92, 122, 153, 184, 214, 245, 275];

/// Reads a date; `None` where it is none. A year of two digits is read as of `now`, and what lies before
/// the epoch as the epoch.
#[must_use]
pub fn parse(value: &HeaderValue, now: Timestamp) -> Option<Timestamp> {
    read(value.as_bytes(), now)
}

/// As [`parse`], of the bytes of a value.
#[must_use]
pub fn read(text: &[u8], now: Timestamp) -> Option<Timestamp> {
    let date = fixdate(text).or_else(|| asctime(text)).or_else(|| rfc850(text, now))?;
    let seconds = date.seconds().filter(|_| date.is_in_calendar())?;
    Some(Timestamp::from_millis(u64::try_from(seconds).unwrap_or_default() * 1000))
}

/// The date of a field that stands at most once: with several lines, the first.
#[must_use]
pub fn of_field(fields: &HeaderMap, name: &HeaderName, now: Timestamp) -> Option<Timestamp> {
    fields.get(name).and_then(|value| parse(value, now))
}

/// A date as it was written.
#[derive(Clone, Copy)]
struct Date {
    /// Its place in [`WEEKDAYS`].
    weekday: usize,
    year: i64,
    /// Its place in [`MONTHS`].
    month: usize,
    day: i64,
    second_of_day: i64,
}

impl Date {
    /// Days since the epoch, by the calendar that the RFCs use; a day that a month does not have counts
    /// on into the next one.
    fn days(&self) -> Option<i64> {
        let before = DAYS_BEFORE_MONTH.get(self.month)?;
        // Years begin in March here, so that the leap day is their last.
        let year = if self.month < 2 { self.year - 1 } else { self.year };
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        // 1970-01-01 is so many days after 0000-03-01.
        Some(365 * year + leap_days + before + self.day - 1 - 719_468)
    }

    /// Seconds since the epoch.
    fn seconds(&self) -> Option<i64> {
        Some(self.days()? * SECONDS_PER_DAY + self.second_of_day)
    }

    /// Whether its month has that day, and the day is on that weekday.
    fn is_in_calendar(&self) -> bool {
        let next_month = if self.month == 11 {
            Self { year: self.year + 1, month: 0, day: 1, ..*self }
        } else {
            Self { month: self.month + 1, day: 1, ..*self }
        };
        let (Some(days), Some(next)) = (self.days(), next_month.days()) else { return false };
        self.day >= 1 && days < next && usize::try_from(days.rem_euclid(7)) == Ok(self.weekday)
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn fixdate(text: &[u8]) -> Option<Date> {
    let mut rest = Rest(text);
    let weekday = rest.short_name(&WEEKDAYS)?;
    rest.literal(", ")?;
    let day = rest.number(2)?;
    rest.literal(" ")?;
    let month = rest.short_name(&MONTHS)?;
    rest.literal(" ")?;
    let year = rest.number(4)?;
    rest.literal(" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(" GMT")?;
    rest.end(Date { weekday, year, month, day, second_of_day })
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc850(text: &[u8], now: Timestamp) -> Option<Date> {
    let mut rest = Rest(text);
    let weekday = rest.long_name(&WEEKDAYS)?;
    rest.literal(", ")?;
    let day = rest.number(2)?;
    rest.literal("-")?;
    let month = rest.short_name(&MONTHS)?;
    rest.literal("-")?;
    let year = rest.number(2)?;
    rest.literal(" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(" GMT")?;
    rest.end(in_century(Date { weekday, year, month, day, second_of_day }, now)?)
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime(text: &[u8]) -> Option<Date> {
    let mut rest = Rest(text);
    let weekday = rest.short_name(&WEEKDAYS)?;
    rest.literal(" ")?;
    let month = rest.short_name(&MONTHS)?;
    rest.literal(" ")?;
    let day = if rest.literal(" ").is_some() { rest.number(1)? } else { rest.number(2)? };
    rest.literal(" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(" ")?;
    let year = rest.number(4)?;
    rest.end(Date { weekday, year, month, day, second_of_day })
}

/// Gives a year of two digits the latest century in which it is not too far ahead.
fn in_century(date: Date, now: Timestamp) -> Option<Date> {
    let now = i64::try_from(whole_seconds(now)).ok()?;
    // At most a year too late, never too early: what is too far ahead is tested exactly.
    let last_year = 1971 + now / (365 * SECONDS_PER_DAY) + YEARS_AHEAD_MAX;
    let latest = Date { year: last_year - last_year % 100 + date.year, ..date };
    let as_long_ago = Date { year: latest.year - YEARS_AHEAD_MAX, ..latest };
    if as_long_ago.seconds()? > now { Some(Date { year: latest.year - 100, ..latest }) } else { Some(latest) }
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn literal(&mut self, text: &str) -> Option<()> {
        let next = self.0.get(..text.len())?;
        if !next.eq_ignore_ascii_case(text.as_bytes()) {
            return None;
        }
        self.take(text.len()).map(drop)
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        self.take(digits)?
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    }

    fn long_name(&mut self, names: &[&str]) -> Option<usize> {
        names.iter().position(|name| self.literal(name).is_some())
    }

    fn short_name(&mut self, names: &[&str]) -> Option<usize> {
        names.iter().position(|name| name.get(..3).is_some_and(|short| self.literal(short).is_some()))
    }

    /// `08:49:37`. A leap second is the second before it: the nearest that is not later (RFC 9111 4.2).
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.literal(":")?;
        let minute = self.number(2)?;
        self.literal(":")?;
        let second = self.number(2)?;
        let is_leap = (hour, minute, second) == (23, 59, 60);
        let exists = hour < 24 && minute < 60 && second < 60;
        (exists || is_leap).then(|| hour * 3600 + minute * 60 + second.min(59))
    }

    fn end(&self, date: Date) -> Option<Date> {
        self.0.is_empty().then_some(date)
    }
}

/// Writes a date, cut to whole seconds.
#[must_use]
pub fn format(at: Timestamp) -> HeaderValue {
    let seconds = whole_seconds(at).min(LAST_SECOND);
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Seconds since the epoch: dates have no finer unit, so arithmetic between our clock and a date must
/// not see the milliseconds either.
#[must_use]
pub const fn whole_seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1000
}

#[cfg(test)]
mod tests;
