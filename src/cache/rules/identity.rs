//! Who asks, as far as a route's stored responses are split by it (`identity`). Pure.
//!
//! Authorization always counts with it (RFC 9111 3.5), so that a response to a request with Authorization
//! can be stored for whoever sends the same.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

/// Who was let in (`route.access`), written by Tidegate; a client's own is removed before.
pub const TIDEGATE_IDENTITY: HeaderName = HeaderName::from_static("tidegate-identity");

/// Written by Tidegate where what was let in counts as Authorization (RFC 9111 3.5): it was one, or the source
/// is told who asks; with the name in the client's certificate where it is told that.
pub const TIDEGATE_AUTHORIZED: HeaderName = HeaderName::from_static("tidegate-authorized");

/// Whether what is answered to these fields may be meant for who sent them alone (RFC 9111 3.5).
#[must_use]
pub fn is_authorized(fields: &HeaderMap) -> bool {
    fields.contains_key(AUTHORIZATION) || fields.contains_key(TIDEGATE_AUTHORIZED)
}

/// What splits a route's stored responses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Nothing: they are for everybody.
    #[default]
    Shared,
    /// The values of a request field. But for Authorization and Cookie it is a name that somebody in front
    /// gives a client: only a trusted proxy is believed.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
    /// Who was let in.
    Access,
}

impl Identity {
    /// Whether responses to requests with Authorization are stored for whoever sends the same only.
    #[must_use]
    pub const fn splits(&self) -> bool {
        !matches!(self, Self::Shared)
    }

    /// The field that a client may not set itself.
    #[must_use]
    pub fn claim(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) if *name != AUTHORIZATION && *name != COOKIE => Some(name),
            Self::Header(_) | Self::Shared | Self::Cookie(_) | Self::Access => None,
        }
    }

    /// What tells a request's client from others, each with the kind that it is of; empty: there is nothing, as
    /// with everybody else who has nothing.
    #[must_use]
    pub fn parts<'a>(&self, fields: &'a HeaderMap) -> Vec<&'a [u8]> {
        let mut parts: Vec<&[u8]> = Vec::new();
        match self {
            Self::Shared => return parts,
            Self::Access => {}
            Self::Header(name) if *name == AUTHORIZATION => {}
            Self::Header(name) => {
                parts.extend(fields.get_all(name).iter().flat_map(|line| [b"h", line.as_bytes()]));
            }
            Self::Cookie(name) => cookie(name.as_bytes(), fields, &mut parts),
        }
        if *self == Self::Access || fields.contains_key(TIDEGATE_AUTHORIZED) {
            parts.extend(fields.get(TIDEGATE_IDENTITY).into_iter().flat_map(|who| [b"i", who.as_bytes()]));
            parts.extend(fields.get(TIDEGATE_AUTHORIZED).into_iter().flat_map(|who| [b"n", who.as_bytes()]));
        }
        parts.extend(fields.get_all(AUTHORIZATION).iter().flat_map(|line| [b"a", line.as_bytes()]));
        parts
    }
}

/// The values of a cookie (RFC 6265 4.2.1), all of them, because nobody knows which one the source takes. Where
/// a lenient reader could find another than is found here, the whole field counts: that costs hits, and never
/// shows anybody what another was given.
fn cookie<'a>(name: &[u8], fields: &'a HeaderMap, parts: &mut Vec<&'a [u8]>) {
    let (mut found, mut readings) = (Vec::new(), 0);
    for line in fields.get_all(COOKIE) {
        readings += lenient_readings(name, line.as_bytes());
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let Some(end) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (own, value) = pair.split_at(end);
            if own.trim_ascii() == name {
                found.extend([b"c", value.get(1..).unwrap_or_default()]);
            }
        }
    }
    if readings == found.len() / 2 {
        parts.append(&mut found);
    } else {
        parts.extend(fields.get_all(COOKIE).iter().flat_map(|line| [b"C", line.as_bytes()]));
    }
}

/// How often somebody could find a cookie of that name in a line: wherever something like the name stands in
/// front of a `=`. Some readers fold case, take other bytes for `_`, decode escapes, or part by commas.
fn lenient_readings(name: &[u8], line: &[u8]) -> usize {
    let ends = line.iter().enumerate().filter(|(_, byte)| **byte == b'=').map(|(at, _)| at);
    ends.filter(|end| {
        let own = line.get(..*end).unwrap_or_default().trim_ascii_end();
        let begin = own.iter().rposition(|byte| !is_of_name(*byte)).map_or(0, |before| before + 1);
        let own = own.get(begin..).unwrap_or_default();
        own.contains(&b'%') || own.iter().copied().map(folded).eq(name.iter().copied().map(folded))
    })
    .count()
}

/// Whether a byte can be one of a name (RFC 9110 5.6.2), or is taken for one by some.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~[".contains(&byte)
}

fn folded(byte: u8) -> u8 {
    if matches!(byte, b'.' | b'[') { b'_' } else { byte.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn i7_authorization_always_counts_where_responses_are_split() {
        let header = Identity::Header(HeaderName::from_static("x-user"));
        let cookie = Identity::Cookie("session".into());
        let authorization = Identity::Header(AUTHORIZATION);
        let both = fields(&[("x-user", "u"), ("cookie", "session=s; a=b"), ("authorization", "x y")]);
        for (identity, parts) in [
            (&Identity::Shared, &[][..]),
            (&header, &[&b"h"[..], b"u", b"a", b"x y"]),
            (&cookie, &[b"c", b"s", b"a", b"x y"]),
            (&authorization, &[b"a", b"x y"]),
        ] {
            assert_eq!(identity.parts(&both), parts, "{identity:?}");
            assert!(identity.parts(&fields(&[("x-other", "u")])).is_empty(), "{identity:?}");
            assert_eq!(identity.splits(), *identity != Identity::Shared);
        }
        let told = fields(&[("tidegate-identity", "a"), ("tidegate-authorized", "c")]);
        for identity in [&Identity::Access, &header, &cookie, &authorization] {
            assert_eq!(identity.parts(&told), [&b"i"[..], b"a", b"n", b"c"], "{identity:?}");
        }
        let let_in = fields(&[("tidegate-identity", "a")]);
        assert_eq!(Identity::Access.parts(&let_in), [b"i", b"a"]);
        assert!(cookie.parts(&let_in).is_empty() && !is_authorized(&let_in) && is_authorized(&told));
        assert_ne!(header.parts(&fields(&[("x-user", "")])), header.parts(&HeaderMap::new()));
        assert_eq!(header.claim().map(HeaderName::as_str), Some("x-user"));
        for anybodys in [&cookie, &authorization, &Identity::Header(COOKIE), &Identity::Shared] {
            assert_eq!(anybodys.claim(), None, "{anybodys:?}");
        }
    }

    #[test]
    fn i7_what_another_reader_could_take_for_the_cookie_counts_whole() {
        let identity = Identity::Cookie("my_session".into());
        for (line, part) in [
            ("my_session=a", "a"),
            ("x=1; my_session=a; y=2", "a"),
            ("x=1;my_session = a", " a"),
            ("my_session=\"a\"", "\"a\""),
            ("my_session=a=b", "a=b"),
            ("xmy_session=1; my_session=a; my_session_id=2", "a"),
            ("our_session=1; my_sessiom=2; my_session=a", "a"),
        ] {
            let found = fields(&[("cookie", line)]);
            assert_eq!(identity.parts(&found), [b"c", part.as_bytes()], "{line}");
        }
        for line in [
            "x=1, my_session=a",
            "x=\"my_session=a\"",
            "x=1 my_session=a",
            "MY_session=a",
            "my.session=a",
            "my%5Fsession=a",
            "my_session=a; My_Session=b",
            "my_session=my_session=a",
        ] {
            let found = fields(&[("cookie", line)]);
            assert_eq!(identity.parts(&found), [b"C", line.as_bytes()], "{line}");
        }
        let others = fields(&[("cookie", "x=1; my_session_id=2; my_session")]);
        assert!(identity.parts(&others).is_empty());
        let two = fields(&[("cookie", "my_session=a; my_session=b")]);
        let swapped = fields(&[("cookie", "my_session=b; my_session=a")]);
        assert_ne!(identity.parts(&two), identity.parts(&swapped));
    }
}
