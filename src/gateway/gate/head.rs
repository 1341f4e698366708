//! The head of an HTTP/1 request, byte for byte (RFC 9112 2.2, 3, 5, 6). Pure.

use crate::gateway::Limits;
use crate::gateway::strict::Refusal;
use crate::target::{self, Authority, Scheme, TargetError};
use memchr::memmem::Finder;
use std::sync::LazyLock;

/// The longest target that hyper's own reading takes, whatever the configuration allows.
const TARGET_BYTES_MAX: u64 = u16::MAX as u64 - 1;

/// How the end of a message is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// The length of a whole head and the framing that it states; `None` while it is not whole. The first
/// `seen` bytes are known to hold no end.
///
/// # Errors
/// The first [`Refusal`] found; sizes are judged while the head is still arriving.
pub(super) fn whole(
    arrived: &[u8],
    seen: usize,
    limits: &Limits,
) -> Result<Option<(usize, Framing)>, Refusal> {
    // One empty line before the request line is tolerated (RFC 9112 2.2).
    let skipped = if arrived.starts_with(b"\r\n") { 2 } else { 0 };
    let head = arrived.get(skipped..).unwrap_or_default();
    // An end may have begun with the last three bytes that were seen.
    let from = seen.saturating_sub(skipped + 3);
    let Some(end) = END.find(head.get(from..).unwrap_or_default()).map(|at| from + at + END.needle().len())
    else {
        // An end by bare line feeds would never be found: it is refused as soon as it is seen.
        if has_bare_line_end(head.get(seen.saturating_sub(skipped + 1)..).unwrap_or_default()) {
            return Err(Refusal::Framing);
        }
        sizes(head, limits)?;
        return Ok(None);
    };
    let head = head.get(..end).unwrap_or_default();
    let framing = well_formed(head, limits).map_err(|refusal| reason(refusal, head, limits))?;
    Ok(Some((skipped + end, framing)))
}

/// The end of a head.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// What is told of a head that is not well-formed: its size goes first, then its line ends, which no line takes.
fn reason(refusal: Refusal, head: &[u8], limits: &Limits) -> Refusal {
    match sizes(head, limits) {
        Err(too_large) => too_large,
        Ok(()) if has_bare_line_end(head) => Refusal::Framing,
        Ok(()) => refusal,
    }
}

fn sizes(head: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let line = memchr::memchr(b'\r', head).and_then(|end| head.get(..end)).unwrap_or(head);
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if target.len() as u64 > target_bytes_max(limits) {
        return Err(Refusal::TargetTooLong);
    }
    if head.len() as u64 > limits.head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(())
}

fn target_bytes_max(limits: &Limits) -> u64 {
    limits.target_bytes.min(TARGET_BYTES_MAX)
}

/// A carriage return or line feed without its partner. The last byte's partner may still come.
fn has_bare_line_end(bytes: &[u8]) -> bool {
    memchr::memchr2_iter(b'\r', b'\n', bytes).any(|at| match bytes.get(at) {
        Some(b'\r') => bytes.get(at + 1).is_some_and(|next| *next != b'\n'),
        _ => at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(|before| *before != b'\r'),
    })
}

/// Checks a whole head, the empty line included.
fn well_formed(head: &[u8], limits: &Limits) -> Result<Framing, Refusal> {
    if head.len() as u64 > limits.head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    let mut rest = head.strip_suffix(b"\r\n").unwrap_or(head);
    let version = request_line(next_line(&mut rest)?, target_bytes_max(limits))?;
    let (mut lengths, mut codings, mut fields) = (Stated::Nothing, Stated::Nothing, 0usize);
    while !rest.is_empty() {
        let line = next_line(&mut rest)?;
        fields += 1;
        if fields > limits.fields {
            return Err(Refusal::TooManyFields);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths = lengths.and(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            codings = codings.and(value);
        }
    }
    framing(lengths, codings, version)
}

/// Takes the next line off.
fn next_line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Refusal> {
    let end = memchr::memchr(b'\n', rest).ok_or(Refusal::Framing)?;
    let (line, left) = rest.split_at_checked(end + 1).ok_or(Refusal::Framing)?;
    *rest = left;
    line.strip_suffix(b"\r\n").ok_or(Refusal::Framing)
}

/// The values of a field that must stand at most once.
#[derive(Clone, Copy)]
enum Stated<'a> {
    Nothing,
    Once(&'a [u8]),
    Repeatedly,
}

impl<'a> Stated<'a> {
    const fn and(self, value: &'a [u8]) -> Self {
        match self {
            Self::Nothing => Self::Once(value),
            Self::Once(_) | Self::Repeatedly => Self::Repeatedly,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// One length, stated one way (RFC 9112 6.3).
fn framing(lengths: Stated<'_>, codings: Stated<'_>, version: Version) -> Result<Framing, Refusal> {
    match (lengths, codings) {
        (Stated::Nothing, Stated::Nothing) => Ok(Framing::None),
        (Stated::Once(length), Stated::Nothing) => number(length).map(Framing::Length),
        (Stated::Nothing, Stated::Once(_)) if version == Version::Http10 => Err(Refusal::Framing),
        (Stated::Nothing, Stated::Once(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (Stated::Nothing, Stated::Once(_)) => Err(Refusal::Coding),
        _ => Err(Refusal::Framing),
    }
}

/// Digits only, and no leading zero: what every parser reads the same.
fn number(digits: &[u8]) -> Result<u64, Refusal> {
    let plain = digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || !digits.starts_with(b"0"));
    let text = std::str::from_utf8(digits).ok().filter(|_| plain);
    text.and_then(|text| text.parse().ok()).ok_or(Refusal::Framing)
}

/// `method SP target SP version`, single spaces, a target that begins as one.
fn request_line(line: &[u8], target_bytes_max: u64) -> Result<Version, Refusal> {
    let (method, rest) = token(line, b' ').ok_or(Refusal::Framing)?;
    let space = memchr::memchr(b' ', rest).ok_or(Refusal::Framing)?;
    let (target, version) = rest.split_at(space);
    let version = version.get(1..).unwrap_or_default();
    if target.len() as u64 > target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ if version.starts_with(b"HTTP/") && !version.contains(&b' ') => return Err(Refusal::Version),
        _ => return Err(Refusal::Framing),
    };
    if method == b"CONNECT" {
        return Err(Refusal::Method);
    }
    match target.first() {
        Some(b'/') => origin_form(target)?,
        _ if target == b"*" && method == b"OPTIONS" => {}
        _ => absolute_form(target)?,
    }
    Ok(version)
}

/// Nothing but what hyper takes, too: the path's own rules are those of [`target`].
fn origin_form(target: &[u8]) -> Result<(), Refusal> {
    let query = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(query);
    let is_clean = path.iter().all(|byte| target::is_path_byte(*byte))
        && query.iter().all(|byte| target::is_query_byte(*byte));
    if is_clean { Ok(()) } else { Err(Refusal::Target(TargetError::Character)) }
}

/// RFC 9112 3.2.2. User info, which is no `host[:port]`, is refused with its authority.
fn absolute_form(target: &[u8]) -> Result<(), Refusal> {
    let text = std::str::from_utf8(target).map_err(|_| Refusal::Target(TargetError::Character))?;
    let (scheme, rest) = text.split_once("://").ok_or(Refusal::Target(TargetError::Path))?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(Refusal::Target(TargetError::Scheme));
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    Authority::parse(authority, Scheme::Http).map_err(|_| Refusal::Host)?;
    origin_form(rest.as_bytes())
}

/// `name: value`, the name a token, no space before the colon, no folding, no control octets
/// (RFC 9110 5.5, RFC 9112 5.1, 5.2).
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let (name, value) = token(line, b':').ok_or(Refusal::Field)?;
    let value = without_padding(value);
    // Over all of it: what ends early is compared byte by byte.
    let has_control = value.iter().fold(false, |found, byte| found | matches!(byte, 0..=8 | 10..=31 | 127));
    if has_control { Err(Refusal::Field) } else { Ok((name, value)) }
}

/// Without the spaces and tabs around it (RFC 9110 5.5): nothing else that is blank elsewhere is so here.
fn without_padding(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A token (RFC 9110 5.6.2) that ends with such a byte, and what stands behind that.
fn token(line: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let is_token = |byte: u8| TOKEN.get(usize::from(byte)).copied().unwrap_or(false);
    let length = line.iter().position(|byte| !is_token(*byte)).filter(|length| *length > 0)?;
    let (token, behind) = line.split_at(length);
    behind.split_first().filter(|(byte, _)| **byte == end).map(|(_, behind)| (token, behind))
}

/// The octets of a token, by their number.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let (mut rest, mut octet) = (table.as_mut_slice(), 0_u8);
    while let [is_token, others @ ..] = rest {
        *is_token = octet.is_ascii_alphanumeric()
            || matches!(
                octet,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        octet = octet.wrapping_add(1);
        rest = others;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMITS: Limits = Limits {
        head_bytes: 100,
        fields: 3,
        target_bytes: 20,
        body_bytes: None,
        connections: 1,
        connections_per_address: None,
        in_flight_bytes: 1 << 20,
        header_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        body_rate_bytes: 1,
    };

    fn framing_of(head: &str) -> Result<Framing, Refusal> {
        whole(head.as_bytes(), 0, &LIMITS).map(|found| found.expect("the head is whole").1)
    }

    #[test]
    fn rfc9112_well_formed_heads_pass() {
        for (head, framing) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
            ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
            ("POST / HTTP/1.1\r\nContent-Length:  7 \r\n\r\n", Framing::Length(7)),
            ("POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n", Framing::Length(0)),
            ("POST / HTTP/1.1\r\ntransfer-encoding: CHUNKED\r\n\r\n", Framing::Chunked),
            ("GET / HTTP/1.1\r\nX: a\tb \u{e9}\r\n\r\n", Framing::None),
            ("GET / HTTP/1.1\r\nX:\r\n\r\n", Framing::None),
            ("GET HTTPS://a?b HTTP/1.1\r\n\r\n", Framing::None),
        ] {
            assert_eq!(framing_of(head), Ok(framing), "{head:?}");
        }
    }

    #[test]
    fn rfc9112_11_2_what_two_parsers_could_read_differently_is_refused() {
        for (head, refusal) in [
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nContent-Length: 03\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Refusal::Coding),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", Refusal::Coding),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::Framing),
            ("GET / HTTP/1.1\nHost: a\n\n", Refusal::Framing),
            ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", Refusal::Framing),
            ("GET / HTTP/1.1\r\nX: a\nb\r\n\r\n", Refusal::Framing),
            ("GET / HTTP/1.1\r\nX: 1\r\n 2\r\n\r\n", Refusal::Field),
            ("GET / HTTP/1.1\r\nX : 1\r\n\r\n", Refusal::Field),
            ("GET / HTTP/1.1\r\n: 1\r\n\r\n", Refusal::Field),
            ("GET / HTTP/1.1\r\nX\r\n\r\n", Refusal::Field),
            ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", Refusal::Field),
            ("GET  / HTTP/1.1\r\n\r\n", Refusal::Framing),
            ("GET / HTTP/1.1 \r\n\r\n", Refusal::Framing),
            ("G(T / HTTP/1.1\r\n\r\n", Refusal::Framing),
            ("GET / HTTP/2.0\r\n\r\n", Refusal::Version),
            ("GET / ICY/1.1\r\n\r\n", Refusal::Framing),
            ("GET /a#b HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
            ("GET /\u{e9} HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
            ("GET a HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Path)),
            ("GET ftp://a/ HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Scheme)),
            ("GET http://u@a/ HTTP/1.1\r\n\r\n", Refusal::Host),
            ("GET http:///a HTTP/1.1\r\n\r\n", Refusal::Host),
            ("GET /<a> HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
            ("CONNECT a:1 HTTP/1.1\r\n\r\n", Refusal::Method),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Refusal::Framing),
            ("\nGET / HTTP/1.1\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nContent-Length: 3\x0C\r\n\r\n", Refusal::Field),
            ("POST / HTTP/1.1\r\nContent-Length: 00\r\n\r\n", Refusal::Framing),
            ("POST / HTTP/1.1\r\nContent-Length: 1 2\r\n\r\n", Refusal::Framing),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                Refusal::Framing,
            ),
            ("GET / HTTP/1.1\r\nX: a\0b\0\r\n\r\n", Refusal::Field),
            ("GET / HTTP/1.1\r\nX: \x7f\r\n\r\n", Refusal::Field),
            (" / HTTP/1.1\r\n\r\n", Refusal::Framing),
            ("GET / HTTP/1.1 x\r\n\r\n", Refusal::Framing),
            ("GET *  HTTP/1.1\r\n\r\n", Refusal::Framing),
            ("GET * HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Path)),
            ("OPTIONS *x HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Path)),
            ("OPTIONS a HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Path)),
            ("GET /<a>?b HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
            ("GET /a`b?c HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
            ("GET /a?b#c HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
            ("GET http://a/<b> HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
            ("GET http://a#b HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
            ("GET http://a\\b HTTP/1.1\r\n\r\n", Refusal::Target(TargetError::Character)),
        ] {
            assert_eq!(framing_of(head), Err(refusal), "{head:?}");
        }
    }

    /// Wherever the bytes that were seen before end, an end is found, and a bare one refused.
    #[test]
    fn rfc9112_2_2_ends_are_found_in_whatever_pieces_they_come() {
        for head in ["GET / HTTP/1.1\r\nX: 1\r\n\r\n", "\r\nGET / HTTP/1.1\r\n\r\n"] {
            let more = format!("{head}GET");
            for seen in 0..head.len() {
                assert_eq!(whole(&head.as_bytes()[..seen], 0, &LIMITS), Ok(None), "{head:?} {seen}");
                let found = whole(more.as_bytes(), seen, &LIMITS);
                assert_eq!(found, Ok(Some((head.len(), Framing::None))), "{head:?} after {seen}");
            }
        }
        for (arrived, seen) in [
            ("GET / HTTP/1.1\rX", 0),
            ("GET / HTTP/1.1\rX", 15),
            ("GET / HTTP/1.1\nX", 14),
            ("GET / HTTP/1.1\n", 14),
            ("\r\nGET / HTTP/1.1\rX", 17),
            ("\r\nGET / HTTP/1.1\nX", 16),
        ] {
            let refused = whole(arrived.as_bytes(), seen.min(arrived.len()), &LIMITS);
            assert_eq!(refused, Err(Refusal::Framing), "{arrived:?} after {seen}");
        }
        assert_eq!(whole(b"GET / HTTP/1.1\r", 0, &LIMITS), Ok(None), "its partner may still come");
    }

    /// RFC 9110 5.6.2, written out.
    #[test]
    fn rfc9110_5_6_2_tokens() {
        let tokens = "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
        assert!((0..=255).filter(|byte| token(&[*byte, b' '], b' ').is_some()).eq(tokens.bytes()));
    }

    #[test]
    fn sizes_count_to_the_byte_and_while_the_head_arrives() {
        let padded = |bytes: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(bytes - 23));
        assert_eq!(padded(100).len(), 100);
        assert_eq!(framing_of(&padded(100)), Ok(Framing::None));
        assert_eq!(framing_of(&padded(101)), Err(Refusal::HeadTooLarge));
        assert_eq!(whole(&padded(200).as_bytes()[..101], 0, &LIMITS), Err(Refusal::HeadTooLarge));
        let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(bytes - 1));
        assert_eq!(framing_of(&target(20)), Ok(Framing::None));
        assert_eq!(framing_of(&target(21)), Err(Refusal::TargetTooLong));
        assert_eq!(whole(&target(500).as_bytes()[..40], 0, &LIMITS), Err(Refusal::TargetTooLong));
        assert_eq!(whole(&target(20).as_bytes()[..24], 0, &LIMITS), Ok(None), "as long as it may be");
        let faulty = padded(100).replace("X:", "X ");
        assert_eq!(framing_of(&faulty), Err(Refusal::Field), "it is not too large");
        let large = Limits { head_bytes: 1 << 20, target_bytes: 1 << 20, ..LIMITS };
        for (bytes, expected) in [(65_534, None), (65_535, Some(Refusal::TargetTooLong))] {
            assert_eq!(whole(target(bytes).as_bytes(), 0, &large).err(), expected, "what hyper takes");
        }
        let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(count));
        assert_eq!(framing_of(&fields(3)), Ok(Framing::None));
        assert_eq!(framing_of(&fields(4)), Err(Refusal::TooManyFields));
        assert_eq!(whole(b"GET / HTTP/1.1\r\nHost: a\r\n\r", 0, &LIMITS), Ok(None));
        assert_eq!(whole(b"", 0, &LIMITS), Ok(None));
        assert_eq!(whole(b"GET / HTTP/1.1\n", 0, &LIMITS), Err(Refusal::Framing));
    }
}
