//! The first line of a plain read, as nearly all come: `GET /path HTTP/1.1`. What is not one is left to the whole
//! gate. Pure.

use http::Method;

/// The request line of a GET or HEAD in origin form by HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct PlainLine<'a> {
    pub(in crate::gateway) method: Method,
    /// Begins with `/`; not judged further.
    pub(in crate::gateway) target: &'a str,
    /// Of the line with its end.
    pub(in crate::gateway) bytes: usize,
}

impl<'a> PlainLine<'a> {
    /// That at the front of what has arrived, if it is whole and one.
    pub(in crate::gateway) fn of(arrived: &'a [u8]) -> Option<Self> {
        let (method, rest) = match arrived {
            [b'G', b'E', b'T', b' ', rest @ ..] => (Method::GET, rest),
            [b'H', b'E', b'A', b'D', b' ', rest @ ..] => (Method::HEAD, rest),
            _ => return None,
        };
        let (target, rest) = rest.split_at_checked(memchr::memchr(b' ', rest)?)?;
        let behind = rest.strip_prefix(b" HTTP/1.1\r\n")?;
        let target = std::str::from_utf8(target).ok().filter(|target| target.starts_with('/'))?;
        Some(Self { method, target, bytes: arrived.len() - behind.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9112_3_only_a_line_that_nobody_reads_otherwise_is_plain() {
        let target = |line: &'static str| PlainLine::of(line.as_bytes()).map(|line| line.target);
        assert_eq!(target("GET /a?b HTTP/1.1\r\n"), Some("/a?b"));
        let head = PlainLine::of(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(head, Some(PlainLine { method: Method::HEAD, target: "/", bytes: 17 }));
        for other in [
            "",
            "GET",
            "GET /",
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.1\r",
            "GET / HTTP/1.0\r\n",
            "GET / HTTP/1.1 \r\n",
            "GET  / HTTP/1.1\r\n",
            "GET /\tHTTP/1.1\r\n",
            "get / HTTP/1.1\r\n",
            "POST / HTTP/1.1\r\n",
            "GET http://a/ HTTP/1.1\r\n",
            "GET * HTTP/1.1\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            " GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(target(other), None, "{other:?}");
        }
    }
}
