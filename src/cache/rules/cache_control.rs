//! Cache-Control of responses and requests (RFC 9111 5.2), CDN-Cache-Control (RFC 9213).
//!
//! Reading is forgiving about form and strict about meaning: what might be a prohibition counts as one,
//! and what might be a lifetime but is not an integer counts as zero (RFC 9111 4.2.1).

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The targeted field that is obeyed (RFC 9213 3).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Larger numbers of seconds become this one (RFC 9111 1.2.2).
const DELTA_SECONDS_MAX: u64 = 1 << 31;

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

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag)
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
    flags: u16,
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
                let line = String::from_utf8_lossy(value.as_bytes());
                split(&line).any(|directive| directive.name.eq_ignore_ascii_case("no-cache"))
            });
            if no_cache {
                directives.set(Flag::NoCache);
            }
        }
        directives
    }

    /// Whether a directive is there.
    #[must_use]
    pub const fn has(&self, flag: Flag) -> bool {
        self.flags & (1 << flag as u16) != 0
    }

    const fn set(&mut self, flag: Flag) {
        self.flags |= 1 << flag as u16;
    }

    fn untargeted(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for value in fields.get_all(CACHE_CONTROL) {
            for directive in split(&String::from_utf8_lossy(value.as_bytes())) {
                let name = directive.name.to_ascii_lowercase();
                if let Some(flag) = Flag::named(&name) {
                    directives.set(flag);
                } else if name == "max-stale" && directive.argument.is_none() {
                    restrict(&mut directives.max_stale, Duration::from_secs(DELTA_SECONDS_MAX));
                } else if let Some(place) = directives.seconds_mut(&name) {
                    restrict(place, directive.seconds());
                }
            }
        }
        directives
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
            if let Some(flag) = Flag::named(name.as_str()) {
                let boolean = value.and_then(sfv::BareItem::as_boolean);
                if boolean == Some(true) || (boolean.is_none() && flag != Flag::Public) {
                    directives.set(flag);
                }
            } else if let Some(place) = directives.seconds_mut(name.as_str()) {
                let seconds = value.and_then(sfv::BareItem::as_integer).map(i64::from);
                *place = seconds.map(|seconds| capped(u64::try_from(seconds).unwrap_or(0)));
            }
        }
        Some(directives)
    }

    fn seconds_mut(&mut self, name: &str) -> Option<&mut Option<Duration>> {
        match name {
            "max-age" => Some(&mut self.max_age),
            "s-maxage" => Some(&mut self.s_maxage),
            "stale-while-revalidate" => Some(&mut self.stale_while_revalidate),
            "stale-if-error" => Some(&mut self.stale_if_error),
            "min-fresh" => Some(&mut self.min_fresh),
            "max-stale" => Some(&mut self.max_stale),
            _ => None,
        }
    }
}

/// A directive that is given twice counts with its smaller value (RFC 9111 4.2.1: the more restrictive).
fn restrict(place: &mut Option<Duration>, value: Duration) {
    *place = Some(place.map_or(value, |before| before.min(value)));
}

fn capped(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(DELTA_SECONDS_MAX))
}

/// Reads delta-seconds (RFC 9111 1.2.2): digits only; too many of them are the largest value.
pub(super) fn delta_seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(capped(text.parse().unwrap_or(DELTA_SECONDS_MAX)))
}

/// `name` or `name=argument` as it stands between two commas.
struct Directive<'a> {
    name: &'a str,
    argument: Option<&'a str>,
}

impl Directive<'_> {
    /// The argument in seconds, token or quoted (RFC 9111 5.2); anything else is zero, which is stale.
    fn seconds(&self) -> Duration {
        let argument = self.argument.unwrap_or_default();
        let unquoted = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        delta_seconds(unquoted.unwrap_or(argument)).unwrap_or_default()
    }
}

/// Cuts a field line at the commas that no quoted string holds.
fn split(line: &str) -> impl Iterator<Item = Directive<'_>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = comma(text);
        rest = end.and_then(|end| text.get(end + 1..));
        text.get(..end.unwrap_or(text.len()))
    })
    .filter_map(|text| {
        let text = text.trim_matches([' ', '\t']);
        let (name, argument) = match text.split_once('=') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        // Space around `=` is malformed: the name still counts, the argument no longer is a number.
        let name = name.trim_end_matches([' ', '\t']);
        let argument = if text.get(name.len()..).is_some_and(|after| after.starts_with([' ', '\t'])) {
            Some("")
        } else {
            argument
        };
        (!name.is_empty()).then_some(Directive { name, argument })
    })
}

/// Where the first comma outside of quotes is. A quote that never ends is an ordinary character, so that
/// it cannot hide a prohibition.
fn comma(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return Some(at),
            _ => {}
        }
    }
    if quoted { text.find(',') } else { None }
}

#[cfg(test)]
mod tests;
