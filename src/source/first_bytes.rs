//! What the first bytes of an answer tell of its body: where chunks that have come with the head are framed
//! wrongly (RFC 9112 7.1), the answer is known to break before anything of it was passed on.
//!
//! It only looks; the parser decides. Whatever is not complete here is no fault.

/// The most hex digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 16;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// Whether a body in chunks that begins in these bytes, behind its head, is framed wrongly.
pub(super) fn are_foul(bytes: &[u8]) -> bool {
    body(bytes).is_some_and(|body| chunks_are_foul(body).is_some())
}

/// How many bytes an answer that begins in these has in all, interim responses included, where its head is
/// complete and says the length of its body.
pub(super) fn all(bytes: &[u8]) -> Option<u64> {
    let (head, behind) = final_head(bytes)?;
    let length = value(head, b"content-length")?;
    let length: u64 = std::str::from_utf8(length).ok()?.parse().ok()?;
    length.checked_add((bytes.len() - behind.len()) as u64)
}

/// What stands behind the final head, where its body is in chunks.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (head, behind) = final_head(bytes)?;
    let is_in_chunks =
        value(head, b"transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    is_in_chunks.then_some(behind)
}

/// The final head, and what stands behind it.
fn final_head(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    loop {
        let end = rest.windows(HEAD_END.len()).position(|window| window == HEAD_END)?;
        let (head, behind) = rest.split_at_checked(end)?;
        rest = behind.get(HEAD_END.len()..)?;
        // `HTTP/1.1 103`: another head follows.
        if head.get(9) != Some(&b'1') {
            return Some((head, rest));
        }
    }
}

/// The first value of a field.
fn value<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (own, rest) = line.split_at_checked(colon)?;
        own.eq_ignore_ascii_case(name).then(|| rest.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// A fault in chunks of which the last may be incomplete.
struct Foul;

/// Walks along chunks; `None` where nothing is wrong as far as they go.
fn chunks_are_foul(mut rest: &[u8]) -> Option<Foul> {
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, behind) = rest.split_at_checked(digits)?;
        match behind.first()? {
            _ if digits == 0 || digits > SIZE_DIGITS_MAX => return Some(Foul),
            b'\r' | b';' | b' ' | b'\t' => {}
            _ => return Some(Foul),
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        let line_end = behind.iter().position(|byte| *byte == b'\n')?;
        if !behind.get(..line_end)?.ends_with(b"\r") {
            return Some(Foul);
        }
        if size == 0 {
            // Trailers: the parser's affair.
            return None;
        }
        let content = behind.get(line_end + 1..)?;
        let end = content.get(size..)?;
        if !HEAD_END.starts_with(end.get(..end.len().min(2))?) {
            return Some(Foul);
        }
        rest = end.get(2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9112_7_1_what_is_known_to_break_when_the_head_has_come() {
        for (chunks, foul) in [
            ("", false),
            ("5", false),
            ("5\r\nhel", false),
            ("5\r\nhello", false),
            ("5\r\nhello\r", false),
            ("5\r\nhello\r\n", false),
            ("5\r\nhello\r\n0\r\n\r\n", false),
            ("5\r\nhello\r\n0\r\nX: y\r\n\r\n", false),
            ("5 ;a=b\r\nhello\r\nA\r\n", false),
            ("0000000000000005\r\nhello\r\n", false),
            ("ffffffffffffffff\r\nhello", false),
            ("xyz\r\n", true),
            ("-5\r\nhello\r\n", true),
            ("\r\n", true),
            ("5\nhello\r\n", true),
            ("5;a\nhello\r\n", true),
            ("5x\r\nhello\r\n", true),
            ("00000000000000005\r\nhello\r\n", true),
            ("5\r\nhello\r\nxyz\r\n", true),
            ("5\r\nhello\r\n-5\r\n", true),
            ("3\r\nhello\r\n0\r\n\r\n", true),
            ("5\r\nhellox", true),
            ("5\r\nhello\rx", true),
        ] {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \r\n\r\n";
            assert_eq!(are_foul(format!("{head}{chunks}").as_bytes()), foul, "{chunks:?}");
            let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
            assert_eq!(are_foul(format!("{interim}{head}{chunks}").as_bytes()), foul, "{chunks:?} after 103");
            // What is framed otherwise has no chunks.
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
            assert!(!are_foul(format!("{head}{chunks}").as_bytes()), "{chunks:?} by length");
        }
        assert_eq!(all(b"HTTP/1.1 200 OK\r\nContent-length: 5 \r\n\r\nhel"), Some(44));
        let after_another = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(all(after_another), Some(after_another.len() as u64));
        for bytes in ["", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"] {
            assert_eq!(all(bytes.as_bytes()), None, "{bytes:?}");
        }
        assert!(!are_foul(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"), "no head yet");
        assert!(!are_foul(b"\r\n\r\n") && !are_foul(b""));
    }
}
