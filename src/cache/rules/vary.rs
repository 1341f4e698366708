//! Which stored response of a key a request selects (RFC 9111 4.1, RFC 9110 12.5.5).
//!
//! What is compared is normalised when stored and when looked up, by the same function. Only for fields
//! whose syntax is known is anything but the joining of lines taken away.

mod ranked;

use http::header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use ranked::Case;

/// Fields that one response may vary on; a response that names more is taken to vary on anything.
pub const SELECTING_FIELDS_MAX: usize = 32;

/// The codings that are kept apart, in the order in which they are written; identity comes last.
const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];
const IDENTITY: &str = "identity";

/// What a response varies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// `*`, or what cannot be read: no other request selects it.
    Anything,
    /// These fields, in order of name; none: every request selects it.
    Fields(Vec<HeaderName>),
}

impl Vary {
    /// Reads all lines of Vary.
    #[must_use]
    pub fn of_response(fields: &HeaderMap) -> Self {
        let mut names: Vec<HeaderName> = Vec::new();
        for value in fields.get_all(VARY) {
            let Ok(line) = value.to_str() else { return Self::Anything };
            for member in line.split(',').map(str::trim).filter(|member| !member.is_empty()) {
                // `*` is a token too, so it would be taken for a name.
                match member.parse::<HeaderName>() {
                    Ok(name) if name != "*" && !is_written_here(&name) => names.push(name),
                    _ => return Self::Anything,
                }
            }
        }
        names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        if names.len() > SELECTING_FIELDS_MAX { Self::Anything } else { Self::Fields(names) }
    }
}

/// Fields that the source gets from the gateway, not from the client: what it varies on there cannot be
/// told from a client's request.
fn is_written_here(name: &HeaderName) -> bool {
    const NAMES: [&str; 4] = ["forwarded", "via", "cdn-loop", "x-request-id"];
    name.as_str().starts_with("x-forwarded-") || NAMES.contains(&name.as_str())
}

/// The values of a request for these names, as they are stored.
#[must_use]
pub fn selecting_fields(
    names: Vec<HeaderName>,
    request: &HeaderMap,
) -> Vec<(HeaderName, Option<HeaderValue>)> {
    let value = |name: HeaderName| {
        let value = normalised(request, &name);
        (name, value)
    };
    names.into_iter().map(value).collect()
}

/// Whether a request selects what was stored with these fields.
#[must_use]
pub fn matches(selecting: &[(HeaderName, Option<HeaderValue>)], request: &HeaderMap) -> bool {
    let is_same = |(name, stored): &(HeaderName, Option<HeaderValue>)| {
        is_verbatim(request, name, stored.as_ref()) || normalised(request, name) == *stored
    };
    selecting.iter().all(is_same)
}

/// Whether a request has just what is stored, which is in its one form: this spares the usual hit the work.
fn is_verbatim(request: &HeaderMap, name: &HeaderName, stored: Option<&HeaderValue>) -> bool {
    let mut lines = request.get_all(name).iter();
    lines.next() == stored && lines.next().is_none()
}

/// The one form of a request field that is compared; `None`: absent.
#[must_use]
pub fn normalised(request: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    if name == ACCEPT_ENCODING {
        return folded_accept_encoding(request);
    }
    let mut lines = request.get_all(name).iter().peekable();
    let first = lines.next()?;
    let list = ranked_list(name);
    if list.is_none() && lines.peek().is_none() && first.as_bytes().trim_ascii().len() == first.len() {
        // The usual case costs a hit no copy.
        return Some(first.clone());
    }
    let mut joined = first.as_bytes().trim_ascii().to_vec();
    for line in lines {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes().trim_ascii());
    }
    if let Some(case) = list {
        joined = ranked::normalised(&joined, case);
    }
    // Parts of valid values joined by a comma are a valid value.
    HeaderValue::from_bytes(&joined).ok().or_else(|| Some(first.clone()))
}

/// Which letters count in a field that is a list of alternatives with weights; `None`: it is none.
fn ranked_list(name: &HeaderName) -> Option<Case> {
    if [ACCEPT_LANGUAGE, ACCEPT_CHARSET].contains(name) {
        Some(Case::Folded)
    } else {
        (name == ACCEPT).then_some(Case::FoldedBesideValues)
    }
}

/// What most clients send, and what it is folded to.
const USUAL_CODINGS: [(&str, &str); 4] = [
    ("gzip, deflate, br, zstd", "zstd, br, gzip, identity"),
    ("gzip, deflate, br", "br, gzip, identity"),
    ("gzip, deflate", "gzip, identity"),
    ("gzip", "gzip, identity"),
];

/// Accept-Encoding as the source gets it: the known codings that the client takes, in a fixed order.
/// `None`: the client said nothing. Folding twice changes nothing.
#[must_use]
pub fn folded_accept_encoding(request: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = request.get_all(ACCEPT_ENCODING).iter().peekable();
    let first = lines.next()?;
    if lines.peek().is_none()
        && let Some((_, folded)) = USUAL_CODINGS.iter().find(|(usual, _)| first == usual)
    {
        return Some(HeaderValue::from_static(folded));
    }
    let named = NamedCodings::of(std::iter::once(first).chain(lines).filter_map(|line| line.to_str().ok()));
    let mut list = String::with_capacity("zstd, br, gzip, identity;q=0".len());
    for coding in CODINGS {
        if named.word(coding).unwrap_or(Word::Refused) == Word::Taken {
            list.push_str(coding);
            list.push_str(", ");
        }
    }
    // Without a word identity is always acceptable (RFC 9110 12.5.3).
    list.push_str(match named.word(IDENTITY).unwrap_or(Word::Taken) {
        Word::Taken => IDENTITY,
        Word::Refused => "identity;q=0",
    });
    HeaderValue::try_from(list).ok()
}

/// What a client says of a coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Taken,
    Refused,
}

/// What Accept-Encoding says of the codings that are kept apart, and of all others (`*`). One that is
/// named several times is refused if one of them refuses it.
struct NamedCodings {
    words: [(&'static str, Option<Word>); 5],
}

impl NamedCodings {
    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let [zstd, br, gzip] = CODINGS;
        let mut words = [zstd, br, gzip, IDENTITY, "*"].map(|name| (name, None));
        for member in lines.flat_map(|line| line.split(',')) {
            let mut parts = member.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let coding = if coding.eq_ignore_ascii_case("x-gzip") { gzip } else { coding };
            let word = if parts.any(refuses) { Word::Refused } else { Word::Taken };
            let known = words.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(coding));
            if let Some((_, said)) = known.filter(|(_, said)| *said != Some(Word::Refused)) {
                *said = Some(word);
            }
        }
        Self { words }
    }

    fn word(&self, coding: &str) -> Option<Word> {
        let said =
            |name: &str| self.words.iter().find(|(known, _)| *known == name).and_then(|(_, said)| *said);
        said(coding).or_else(|| said("*"))
    }
}

/// Whether a weight is zero; one that cannot be read counts as zero, since plain content never harms.
fn refuses(parameter: &str) -> bool {
    let Some((name, weight)) = parameter.split_once('=') else { return false };
    let weight = || ranked::thousandths(weight.trim().as_bytes());
    name.trim().eq_ignore_ascii_case("q") && weight().is_none_or(|weight| weight == 0)
}

#[cfg(test)]
mod tests;
