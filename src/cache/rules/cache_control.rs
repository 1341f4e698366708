//! Cache-Control of responses and requests (RFC 9111 5.2), CDN-Cache-Control (RFC 9213).
//!
//! Reading is forgiving about form and strict about meaning: what might be a prohibition counts as one,
//! what might be a lifetime but is not an integer counts as zero (RFC 9111 4.2.1), and only what is
//! well-formed allows anything.

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};
use parts::{Argument, Directive, parts};
use std::time::Duration;

mod parts;

/// The targeted field that is obeyed (RFC 9213 3).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Larger numbers of seconds become this one (RFC 9111 1.2.2).
pub(super) const DELTA_SECONDS_MAX: Duration = Duration::from_secs(1 << 31);

/// A directive without an argument, or whose argument is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `no-store`.
    NoStore,
    /// `no-cache`, with field names or without.
    NoCache,
    /// `private`, with field names or without.
    Private,
    /// `public`.
    Public,
    /// `must-revalidate`.
    MustRevalidate,
    /// `proxy-revalidate`.
    ProxyRevalidate,
    /// `must-understand`.
    MustUnderstand,
    /// `only-if-cached`, of requests.
    OnlyIfCached,
}

impl Flag {
    const ALL: [(&'static str, Self); 8] = [
        ("no-store", Self::NoStore),
        ("no-cache", Self::NoCache),
        ("private", Self::Private),
        ("public", Self::Public),
        ("must-revalidate", Self::MustRevalidate),
        ("proxy-revalidate", Self::ProxyRevalidate),
        ("must-understand", Self::MustUnderstand),
        ("only-if-cached", Self::OnlyIfCached),
    ];

    fn named(name: &[u8]) -> Option<Self> {
        let known = Self::ALL.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        known.map(|(_, flag)| *flag)
    }
}

/// Which field the directives of a response come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Cache-Control: Expires counts too.
    #[default]
    Untargeted,
    /// CDN-Cache-Control: Cache-Control and Expires do not count (RFC 9213 2.2).
    Targeted,
}

/// What a Cache-Control field says; unknown directives are left out (RFC 9111 5.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// A bit for each flag that is there, whatever is written to it.
    flags: u16,
    /// A bit for each flag that is there and well-formed.
    granting: u16,
    /// Whether `s-maxage` is there with a number.
    s_maxage_is_number: bool,
    /// Where they were found.
    pub origin: Origin,
    /// `max-age`.
    pub max_age: Option<Duration>,
    /// `s-maxage`.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 4).
    pub stale_if_error: Option<Duration>,
    /// `min-fresh`, of requests.
    pub min_fresh: Option<Duration>,
    /// `max-stale`, of requests; without an argument the longest.
    pub max_stale: Option<Duration>,
}

impl Directives {
    /// Those that count for a shared cache: a valid CDN-Cache-Control, else Cache-Control.
    #[must_use]
    pub fn of_response(fields: &HeaderMap) -> Self {
        Self::targeted(fields).unwrap_or_else(|| Self::untargeted(fields))
    }

    /// A request's: Cache-Control, or where there is none `Pragma: no-cache` (RFC 9111 5.4).
    #[must_use]
    pub fn of_request(fields: &HeaderMap) -> Self {
        let mut directives = Self::untargeted(fields);
        if !fields.contains_key(CACHE_CONTROL) {
            let no_cache = fields.get_all(PRAGMA).iter().any(|value| {
                parts(value.as_bytes()).any(|directive| directive.name.eq_ignore_ascii_case(b"no-cache"))
            });
            if no_cache {
                directives.set(Flag::NoCache, Form::Good);
            }
        }
        directives
    }

    /// Whether a directive is there.
    #[must_use]
    pub const fn has(&self, flag: Flag) -> bool {
        self.flags & (1 << flag as u16) != 0
    }

    /// Whether a directive is there in the form that allows what it allows: `public`, and what
    /// `must-understand` overrides.
    #[must_use]
    pub const fn grants(&self, flag: Flag) -> bool {
        self.granting & (1 << flag as u16) != 0
    }

    /// Whether a response to a request with Authorization may be shared (RFC 9111 3.5).
    #[must_use]
    pub const fn allows_sharing_with_authorization(&self) -> bool {
        self.grants(Flag::Public) || self.grants(Flag::MustRevalidate) || self.s_maxage_is_number
    }

    const fn set(&mut self, flag: Flag, form: Form) {
        self.flags |= 1 << flag as u16;
        if matches!(form, Form::Good) {
            self.granting |= 1 << flag as u16;
        }
    }

    fn untargeted(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for value in fields.get_all(CACHE_CONTROL) {
            for directive in parts(value.as_bytes()) {
                directives.read(&directive);
            }
        }
        directives
    }

    fn read(&mut self, directive: &Directive<'_>) {
        if let Some(flag) = Flag::named(directive.name) {
            let form = if directive.argument == Argument::Absent { Form::Good } else { Form::Bad };
            return self.set(flag, form);
        }
        let Some(duration) = Seconds::named(directive.name) else { return };
        let value = match (duration, directive.argument) {
            (Seconds::MaxStale, Argument::Absent) => Some(DELTA_SECONDS_MAX),
            (_, argument) => argument.seconds(),
        };
        self.s_maxage_is_number |= duration == Seconds::SMaxAge && value.is_some();
        restrict(self.place(duration), value.unwrap_or_default());
    }

    /// RFC 9213 2.1: a structured dictionary. An empty or unreadable one is as if absent; a member of
    /// the wrong type is not consumed, except that a prohibition stands whatever is written to it.
    fn targeted(fields: &HeaderMap) -> Option<Self> {
        let lines = fields.get_all(CDN_CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
        let joined = lines.collect::<Vec<_>>().join(&b", "[..]);
        let dictionary = sfv::Parser::new(&joined).parse::<sfv::Dictionary>().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut directives = Self { origin: Origin::Targeted, ..Self::default() };
        for (name, member) in &dictionary {
            let value = match member {
                sfv::ListEntry::Item(item) => Some(&item.bare_item),
                sfv::ListEntry::InnerList(_) => None,
            };
            let name = name.as_str().as_bytes();
            if let Some(flag) = Flag::named(name) {
                match value.and_then(sfv::BareItem::as_boolean) {
                    Some(true) => directives.set(flag, Form::Good),
                    Some(false) => {}
                    None => directives.set(flag, Form::Bad),
                }
            } else if let Some(duration) = Seconds::named(name) {
                let number = value.and_then(sfv::BareItem::as_integer).map(i64::from);
                let seconds = number.map(|number| u64::try_from(number).ok());
                directives.s_maxage_is_number |=
                    duration == Seconds::SMaxAge && seconds.is_some_and(|seconds| seconds.is_some());
                *directives.place(duration) = seconds.map(|seconds| capped(seconds.unwrap_or_default()));
            }
        }
        Some(directives)
    }

    const fn place(&mut self, duration: Seconds) -> &mut Option<Duration> {
        match duration {
            Seconds::MaxAge => &mut self.max_age,
            Seconds::SMaxAge => &mut self.s_maxage,
            Seconds::StaleWhileRevalidate => &mut self.stale_while_revalidate,
            Seconds::StaleIfError => &mut self.stale_if_error,
            Seconds::MinFresh => &mut self.min_fresh,
            Seconds::MaxStale => &mut self.max_stale,
        }
    }
}

/// Whether a directive is written as its definition says.
#[derive(Clone, Copy)]
enum Form {
    Good,
    Bad,
}

/// A directive whose argument is a number of seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seconds {
    MaxAge,
    SMaxAge,
    StaleWhileRevalidate,
    StaleIfError,
    MinFresh,
    MaxStale,
}

impl Seconds {
    const ALL: [(&'static str, Self); 6] = [
        ("max-age", Self::MaxAge),
        ("s-maxage", Self::SMaxAge),
        ("stale-while-revalidate", Self::StaleWhileRevalidate),
        ("stale-if-error", Self::StaleIfError),
        ("min-fresh", Self::MinFresh),
        ("max-stale", Self::MaxStale),
    ];

    fn named(name: &[u8]) -> Option<Self> {
        let known = Self::ALL.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        known.map(|(_, duration)| *duration)
    }
}

/// A directive that is given twice counts with its smaller value, which is never longer than the first
/// (RFC 9111 4.2.1).
fn restrict(place: &mut Option<Duration>, value: Duration) {
    *place = Some(place.map_or(value, |before| before.min(value)));
}

fn capped(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(DELTA_SECONDS_MAX)
}

/// Reads delta-seconds (RFC 9111 1.2.2): digits only; too many of them are the largest value.
pub(super) fn delta_seconds(digits: impl IntoIterator<Item = u8>) -> Option<Duration> {
    let mut digits = digits.into_iter().peekable();
    digits.peek()?;
    let add = |seconds: u64, digit: u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some((seconds * 10 + digit).min(DELTA_SECONDS_MAX.as_secs()))
    };
    digits.try_fold(0, add).map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
