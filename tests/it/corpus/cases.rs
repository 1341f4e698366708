//! How a case is written: a line with its name, and indented lines with what is sent and what comes of it.
//!
//! In bytes `|` is the end of a line (CR LF), `\r` `\n` `\t` `\0` `\\` `\|` `\{` and `\xHH` are single bytes, and
//! `{text*300}` is a text so many times. A line that begins with `#` is a comment.

use std::path::{Path, PathBuf};

/// One case of a file.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// File and name.
    pub(super) name: String,
    /// What is sent.
    pub(super) given: Vec<String>,
    /// What comes of it: the last line.
    pub(super) verdict: String,
}

/// All cases of a file, or of all files of a folder, below `tests/corpus/`.
pub(super) fn cases(below: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(below);
    let mut files: Vec<PathBuf> = if path.is_dir() {
        std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect()
    } else {
        vec![path]
    };
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).unwrap();
    let class = file.file_stem().unwrap().to_string_lossy();
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        match (line.strip_prefix("  "), cases.last_mut()) {
            (None, _) => cases.push(Case {
                name: format!("{class}: {line}"),
                given: Vec::new(),
                verdict: String::new(),
            }),
            (Some(line), Some(case)) => case.given.push(line.to_owned()),
            (Some(line), None) => panic!("{}: {line} belongs to no case", file.display()),
        }
    }
    for case in &mut cases {
        case.verdict = case.given.pop().unwrap_or_default();
        assert!(!case.given.is_empty(), "{} says too little", case.name);
    }
    cases
}

/// The bytes that a text says.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '|' => bytes.extend(b"\r\n"),
            '\\' => rest = escaped(rest, &mut bytes),
            '{' => {
                let (repeated, after) = rest.split_once('}').expect("a repetition ends");
                let (what, count) = repeated.rsplit_once('*').expect("a repetition has a count");
                bytes.extend(self::bytes(what).repeat(count.parse().expect("a count")));
                rest = after;
            }
            other => bytes.extend(other.to_string().as_bytes()),
        }
    }
    bytes
}

fn escaped<'a>(rest: &'a str, bytes: &mut Vec<u8>) -> &'a str {
    let (letter, after) = rest.split_at(1);
    match letter {
        "r" => bytes.push(b'\r'),
        "n" => bytes.push(b'\n'),
        "t" => bytes.push(b'\t'),
        "0" => bytes.push(0),
        "x" => {
            bytes.push(u8::from_str_radix(&after[..2], 16).expect("two hex digits"));
            return &after[2..];
        }
        "\\" | "|" | "{" => bytes.extend(letter.as_bytes()),
        other => panic!("\\{other} is no escape"),
    }
    after
}

/// Bytes as the corpus would say them; runs of one letter are cut short.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        let run = rest.iter().take_while(|byte| *byte == first).count();
        if run > 20 && first.is_ascii_alphanumeric() {
            text.push_str(&format!("{{{}*{run}}}", char::from(*first)));
            rest = &rest[run..];
            continue;
        }
        rest = after;
        match (*first, after) {
            (b'\r', [b'\n', ..]) => {
                text.push('|');
                rest = &after[1..];
            }
            (b'\r', _) => text.push_str("\\r"),
            (b'\n', _) => text.push_str("\\n"),
            (b'\t', _) => text.push_str("\\t"),
            (0, _) => text.push_str("\\0"),
            (b'\\' | b'|' | b'{', _) => text.push_str(&format!("\\{}", char::from(*first))),
            (0x20..=0x7E, _) => text.push(char::from(*first)),
            _ => text.push_str(&format!("\\x{first:02X}")),
        }
    }
    text
}

#[test]
fn what_is_written_is_what_is_sent() {
    let said = "GET /\\{a\\|b\\\\ HTTP/1.1|X: {a*25}\\0\\r\\n\\xE9\\t||";
    let sent = [b"GET /{a|b\\ HTTP/1.1\r\nX: ", [b'a'; 25].as_slice(), b"\0\r\n\xE9\t\r\n\r\n"].concat();
    // A CR and an LF in a row are a line's end, however they were written.
    assert_eq!(bytes(said), sent);
    assert_eq!(bytes(&shown(&sent)), sent);
}
