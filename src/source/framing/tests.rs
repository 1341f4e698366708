//! What is found in the bytes of answers, however they come apart.

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n";

/// What is found in an answer that comes in two parts.
fn found(asked: &[u8], answer: &[u8], split_at: usize) -> Finding {
    let mut framing = Framing::new();
    framing.asks(asked);
    let (first, second) = answer.split_at(split_at);
    let finding = framing.hears(first);
    if finding == Finding::Sound { framing.hears(second) } else { finding }
}

fn is_found(asked: &[u8], answer: &str, finding: Finding) {
    for split_at in 0..=answer.len() {
        let found = found(asked, answer.as_bytes(), split_at);
        assert_eq!(found, finding, "{answer:?} in two parts, the first of {split_at}");
    }
}

#[test]
fn rfc9112_7_1_chunks_are_framed_one_way() {
    for (chunks, finding) in [
        ("", Finding::Sound),
        ("5", Finding::Sound),
        ("5\r\nhel", Finding::Sound),
        ("5\r\nhello\r", Finding::Sound),
        ("5\r\nhello\r\n0\r\n\r\n", Finding::Sound),
        ("5\r\nhello\r\n00\r\nX: y\r\n\r\n", Finding::Sound),
        ("5;a=b\r\nhello\r\nA ; c\r\n", Finding::Sound),
        ("0000000000000005\r\nhello\r\n", Finding::Sound),
        ("ffffffffffffffff\r\nhello", Finding::Sound),
        ("xyz\r\n", Finding::Foul),
        ("-5\r\nhello\r\n", Finding::Foul),
        ("+5\r\nhello\r\n", Finding::Foul),
        ("0x5\r\nhello\r\n", Finding::Foul),
        ("\r\n", Finding::Foul),
        (" 5\r\nhello\r\n", Finding::Foul),
        ("5 \r\nhello\r\n", Finding::Foul),
        ("5\t\r\nhello\r\n", Finding::Foul),
        ("5\nhello\r\n", Finding::Foul),
        ("5;a\nhello\r\n", Finding::Foul),
        ("5x\r\nhello\r\n", Finding::Foul),
        ("00000000000000005\r\nhello\r\n", Finding::Foul),
        ("5\r\nhello\r\nxyz\r\n", Finding::Foul),
        ("3\r\nhello\r\n0\r\n\r\n", Finding::Foul),
        ("5\r\nhellox", Finding::Foul),
        ("5\r\nhello\rx", Finding::Foul),
        ("5\r\nhello\n", Finding::Foul),
        ("0\r\nX: y\n\r\n", Finding::Foul),
        ("0\r\nX: y\r\n\n", Finding::Foul),
        ("5\r\nhello\r\n0\r\n\r\nmore", Finding::Beyond),
    ] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \r\n\r\n";
        is_found(GET, &format!("{head}{chunks}"), finding);
        is_found(GET, &format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{head}{chunks}"), finding);
        // What is framed otherwise has no chunks.
        is_found(GET, &format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{chunks}"), Finding::Sound);
        is_found(GET, &format!("HTTP/1.1 200 OK\r\n\r\n{chunks}"), Finding::Sound);
    }
}

#[test]
fn rfc9112_2_2_lines_of_a_head_end_by_crlf() {
    for (head, finding) in [
        ("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", Finding::Sound),
        ("HTTP/1.1 200 OK\nA: b\r\n\r\n", Finding::Foul),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", Finding::Foul),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", Finding::Foul),
        ("HTTP/1.1 200 OK\n\n", Finding::Foul),
        ("HTTP/1.1 103 Early\n\r\nHTTP/1.1 200 OK\r\n\r\n", Finding::Foul),
        ("hello\nthere\n", Finding::Foul),
        // The parser skips these.
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Finding::Foul),
        ("\nHTTP/1.1 200 OK\r\n\r\n", Finding::Foul),
        ("HTTP/1.1 103 Early\r\n\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Finding::Foul),
        ("HTTP/1.1 2x0 OK\r\n\r\n", Finding::Foul),
    ] {
        is_found(GET, head, finding);
    }
    let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(LINE_BYTES_MAX));
    is_found(GET, &format!("{long}\r\nContent-Length: 2\r\n\r\nokmore"), Finding::Foul);
    is_found(GET, &format!("{long}\nContent-Length: 2\r\n\r\nok"), Finding::Foul);
}

#[test]
fn rfc9112_6_3_an_answer_ends_where_it_said() {
    let of = |status: u16, length: usize| format!("HTTP/1.1 {status} A\r\nContent-length: {length} \r\n\r\n");
    for (asked, answer, finding) in [
        (GET, of(200, 5) + "hello", Finding::Sound),
        (GET, of(200, 5) + "hello!", Finding::Foul),
        (GET, of(200, 0) + "!", Finding::Foul),
        (GET, "HTTP/1.1 103 A\r\n\r\n".to_owned() + &of(200, 0) + "!", Finding::Foul),
        // Without content their ends are known, whatever they say.
        (HEAD, of(200, 5), Finding::Sound),
        (HEAD, of(200, 5) + "hello", Finding::Beyond),
        (GET, of(204, 5) + "hello", Finding::Beyond),
        (GET, of(304, 5), Finding::Sound),
        // What the parser refuses, or knows better, is left to it.
        (GET, "HTTP/1.1 200 A\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nmore".into(), Finding::Sound),
        (GET, "HTTP/1.1 101 A\r\nContent-Length: 1\r\n\r\nmore".into(), Finding::Sound),
        (GET, format!("HTTP/1.1 200 A\r\nContent-Length:{}5\r\n\r\n", " ".repeat(300)), Finding::Foul),
        (
            GET,
            format!("HTTP/1.1 200 A\r\nX:{}5\r\nContent-Length: 1\r\n\r\n", " ".repeat(300)),
            Finding::Sound,
        ),
        // As far as it is kept it is the parser's affair.
        (GET, format!("HTTP/1.1 200 A\r\nContent-Length: 1,{}1\r\n\r\n", " ".repeat(236)), Finding::Sound),
        (GET, format!("HTTP/1.1 200 A\r\nContent-Length: 1,{}1\r\n\r\n", " ".repeat(237)), Finding::Foul),
        (GET, "HTTP/1.1 20 A\r\nContent-Length: 1\r\n\r\nmore".into(), Finding::Foul),
    ] {
        is_found(asked, &answer, finding);
    }
}

#[test]
fn one_answer_after_the_other_is_looked_at_by_what_was_asked() {
    let mut framing = Framing::new();
    let length = b"HTTP/1.1 200 A\r\nContent-Length: 5\r\n\r\n";
    for asked in [GET, HEAD, HEAD, GET, GET] {
        assert!(framing.is_over());
        framing.asks(asked);
        assert!(!framing.is_over(), "what is said now is content");
        assert_eq!(framing.hears(length), Finding::Sound);
        if asked == GET {
            assert!(!framing.is_over());
            assert_eq!(framing.hears(b"hello"), Finding::Sound);
        }
    }
    framing.asks(b"no request");
    assert_eq!(framing.hears(length), Finding::Sound);
    assert_eq!(framing.hears(b"hello"), Finding::Sound, "nothing is known of it");
    assert_eq!(Framing::new().hears(b"HTTP/1.1 408 A\r\n\r\n"), Finding::Beyond, "nobody has asked");
}

#[test]
fn i10_extensions_of_chunks_are_bounded() {
    for (length, finding) in [(SIZE_LINE_BYTES_MAX - 3, Finding::Sound), (SIZE_LINE_BYTES_MAX, Finding::Foul)]
    {
        let mut framing = Framing::new();
        framing.asks(GET);
        let extension = "x".repeat(length);
        let answer =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;{extension}\r\nhello\r\n");
        assert_eq!(framing.hears(answer.as_bytes()), finding, "{length}");
    }
}
