//! `tests/corpus/http2.txt`: frames of one stream a case; the file says how they are written.

use super::cases::{Case, bytes, cases};
use super::http1::{Refusals, more, refusals};
use super::recorder::{Recorder, normal};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, field, frame, next, open,
};
use crate::support::{EVERYTHING, Gateway, Setup, within};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tokio::io::AsyncWriteExt;

/// Cases that the corpus has at least.
const CASES_MIN: usize = 50;

const GOOD: [&str; 4] = [":method=GET", ":scheme=http", ":authority=a", ":path=/p"];
const POST: [&str; 4] = [":method=POST", ":scheme=http", ":authority=a", ":path=/p"];
const FIRST: &str = "HEADERS end :method=GET :scheme=http :authority=a :path=";
const SENTINEL: &str = "HEADERS end :method=GET :scheme=http :authority=a :path=/sentinel";
const SENTINEL_AT_SOURCE: &str = "GET /sentinel HTTP/1.1|host: a||";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Play {
    Alone,
    BehindGood,
    BehindHit,
}

impl Play {
    /// What is asked on the stream before, and what of that the source sees.
    const fn first(self) -> Option<(&'static str, Option<&'static str>)> {
        match self {
            Self::Alone => None,
            Self::BehindGood => Some(("/good", Some("GET /good HTTP/1.1|host: a||"))),
            Self::BehindHit => Some(("/hit", None)),
        }
    }

    /// The case's stream.
    const fn stream(self) -> u32 {
        if self.first().is_some() { 3 } else { 1 }
    }
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Reset,
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    digits.chunks(2).map(|two| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap()).collect()
}

/// The fields of a block.
fn block<'a>(tokens: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut block = Vec::new();
    for token in tokens {
        let (token, count) = match token.strip_prefix('{').and_then(|token| token.strip_suffix('}')) {
            Some(repeated) => {
                repeated.rsplit_once('*').map(|(token, count)| (token, count.parse().unwrap())).unwrap()
            }
            None => (token, 1_usize),
        };
        let (name, value) = if let Some(rest) = token.strip_prefix(':') {
            let (name, value) = rest.split_once('=').expect("a field has a value");
            (format!(":{name}"), value)
        } else {
            let (name, value) = token.split_once('=').expect("a field has a value");
            (name.to_owned(), value)
        };
        let one = match name.as_str() {
            "hpack" => hex(value),
            name => field(&bytes(name), &bytes(value)),
        };
        block.extend(one.repeat(count));
    }
    block
}

/// The frame that a line says, on a stream of the case's own number.
fn said(line: &str, own: u32) -> Vec<u8> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    if kind == "FRAME" {
        let parts: Vec<&str> = rest.split(' ').collect();
        let stream = if parts[2] == "own" { own } else { parts[2].parse().unwrap() };
        let payload = String::from_utf8(bytes(parts[3])).unwrap();
        return frame(hex(parts[0])[0], hex(parts[1])[0], stream, &hex(&payload));
    }
    let mut rest = rest;
    let (mut flags, mut stream, mut is_open) = (0, own, false);
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        match (word, word.strip_prefix("on=")) {
            ("end", _) => flags |= END_STREAM,
            ("open", _) => is_open = true,
            (_, Some(number)) => stream = own - 1 + number.parse::<u32>().unwrap(),
            _ => break,
        }
        rest = after;
    }
    let tokens = rest.split(' ').filter(|token| !token.is_empty()).flat_map(|token| match token {
        "good" => GOOD.to_vec(),
        "post" => POST.to_vec(),
        other => vec![other],
    });
    match kind {
        "DATA" => frame(DATA, flags, stream, &bytes(rest)),
        "HEADERS" | "CONTINUATION" => {
            let kind = if kind == "HEADERS" { HEADERS } else { CONTINUATION };
            frame(kind, flags | if is_open { 0 } else { END_HEADERS }, stream, &block(tokens))
        }
        other => panic!("{other} is no frame"),
    }
}

/// `:status`, the first field of an answer, as hyper writes it (RFC 7541 6, A, B).
fn status(block: &[u8]) -> u16 {
    match *block {
        [indexed @ 0x88..=0x8E, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x08..=0x0E | 0x48..=0x4E, 3, a, b, c, ..] => {
            [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
        }
        [0x08..=0x0E | 0x48..=0x4E, length, ref rest @ ..] if length & 0x80 != 0 => {
            let bits: String =
                rest[..usize::from(length & 0x7F)].iter().copied().map(bits_of).collect::<Vec<_>>().concat();
            huffman_digits(&bits)
        }
        _ => panic!("a status that is written in another way: {block:02X?}"),
    }
}

fn bits_of(byte: u8) -> String {
    format!("{byte:08b}")
}

fn huffman_digits(mut bits: &str) -> u16 {
    let mut number = 0;
    for _ in 0..3 {
        let five = u16::from_str_radix(&bits[..5], 2).unwrap();
        let (digit, length) = if five < 3 {
            (five, 5)
        } else {
            (u16::from_str_radix(&bits[..6], 2).unwrap() - 0b01_1001 + 3, 6)
        };
        (number, bits) = (number * 10 + digit, &bits[length..]);
    }
    number
}

/// What came of each stream, and whether the connection ended first.
struct Played {
    outcomes: BTreeMap<u32, Outcome>,
    ended: bool,
}

async fn exchange(gateway: &Gateway, case: &Case, play: Play) -> Played {
    let (mut from, mut to) = open(gateway, &[]).await;
    let own = play.stream();
    let last = own + 20;
    let first = play.first().map(|(path, _)| said(&format!("{FIRST}{path}"), 1)).unwrap_or_default();
    let given: Vec<u8> = case.given.iter().flat_map(|line| said(line, own)).collect();
    let sentinel = said(SENTINEL, last);
    let at_once =
        if play == Play::Alone { [first, given].concat() } else { [first, given, sentinel.clone()].concat() };
    // Who is cut early cannot send all.
    drop(to.write_all(&at_once).await);
    let mut played = Played { outcomes: BTreeMap::new(), ended: false };
    let mut waits = play == Play::Alone;
    let is_over = |Played { outcomes, .. }: &Played| {
        let is_first_there = play.first().is_none() || outcomes.contains_key(&1);
        let is_own_there = !expects_answer(case) || outcomes.contains_key(&own);
        is_first_there && is_own_there && outcomes.contains_key(&last)
    };
    while !is_over(&played) {
        let Some(frame) = within(&format!("an end of {} ({play:?})", case.name), next(&mut from)).await
        else {
            played.ended = true;
            break;
        };
        note(&frame, &mut played);
        // What ends no stream is heard of by the answer to what follows it.
        let is_heard = played.outcomes.contains_key(&own) || !expects_answer(case);
        if waits && is_heard && frame.kind != GOAWAY {
            drop(to.write_all(&sentinel).await);
            waits = false;
        }
    }
    played
}

fn expects_answer(case: &Case) -> bool {
    !case.verdict.starts_with("ended") && !case.verdict.starts_with("late")
}

fn note(frame: &Frame, played: &mut Played) {
    match frame.kind {
        HEADERS => {
            played.outcomes.entry(frame.stream).or_insert_with(|| Outcome::Status(status(&frame.payload)));
        }
        RST_STREAM => {
            // An answer that came before stands; what is reset behind it was not needed any more.
            played.outcomes.entry(frame.stream).or_insert(Outcome::Reset);
        }
        GOAWAY => played.ended = true,
        _ => {}
    }
}

/// What is wrong with one play of a case; empty where nothing is.
async fn faults(
    gateway: &Gateway,
    source: &Recorder,
    counted: &mut Refusals,
    case: &Case,
    play: Play,
) -> String {
    let Played { outcomes, ended } = exchange(gateway, case, play).await;
    let counted = more(gateway, counted).await;
    let mut seen = source.take();
    let (kind, rest) = case.verdict.split_once(' ').unwrap_or((&case.verdict, ""));
    let outcome = outcomes.get(&play.stream()).copied();
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_refusal = |outcome| matches!(outcome, Some(Outcome::Reset | Outcome::Status(400..=499)));
    let is_so = match kind {
        "forwarded" => outcome == Some(Outcome::Status(200)),
        "answered" | "refused" => outcome == Some(Outcome::Status(status.parse().unwrap())),
        "reset" => matches!(outcome, Some(Outcome::Reset | Outcome::Status(400))),
        "broken" => is_refusal(outcome),
        "late" => true,
        "ended" | "ended-after" | "ended-unfinished" => ended,
        other => panic!("{}: {other} is no verdict", case.name),
    };
    let mut faults = String::new();
    if !is_so || (ended && !kind.starts_with("ended") && kind != "late") {
        writeln!(faults, "  {outcomes:?} ended: {ended}, not {}", case.verdict).unwrap();
    }
    let mut whole: Vec<String> = Vec::new();
    whole.extend(play.first().and_then(|(_, at_source)| at_source).map(str::to_owned));
    whole.extend(matches!(kind, "forwarded" | "late" | "ended-after").then(|| normal(&bytes(rest))));
    whole.push(SENTINEL_AT_SOURCE.to_owned());
    whole.sort();
    seen.whole.sort();
    // What a connection that ended had begun may have reached the source, whole, or not.
    let is_all = if ended { seen.whole.iter().all(|one| whole.contains(one)) } else { seen.whole == whole };
    if !is_all || !seen.garbage.is_empty() {
        writeln!(faults, "  at the source {seen:#?}\n  not {whole:#?}").unwrap();
    }
    if !seen.unfinished.is_empty() && !matches!(kind, "broken" | "ended-unfinished" | "late") {
        writeln!(faults, "  at the source {seen:?}").unwrap();
    }
    let wanted: Vec<(String, u64)> =
        if kind == "refused" { vec![(reason.to_owned(), 1)] } else { Vec::new() };
    if kind == "refused" && counted != wanted {
        writeln!(faults, "  counted {counted:?}, not {wanted:?}").unwrap();
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_no_frames_are_read_in_two_ways() {
    let cases = cases("http2.txt");
    let source = Recorder::start().await;
    let gateway = Setup::new(format!("{}{EVERYTHING}", source.table())).start().await;
    let warm = Case {
        name: "warm".into(),
        given: vec!["HEADERS end :method=GET :scheme=http :authority=a :path=/hit".into()],
        verdict: "answered 200".into(),
    };
    exchange(&gateway, &warm, Play::Alone).await;
    source.take();
    let (mut broken, mut counted) = (Vec::new(), refusals(&gateway).await);
    for case in &cases {
        for play in [Play::Alone, Play::BehindGood, Play::BehindHit] {
            let faults = faults(&gateway, &source, &mut counted, case, play).await;
            if !faults.is_empty() {
                broken.push(format!("{} ({play:?})\n{faults}", case.name));
            }
        }
    }
    assert_eq!(gateway.get("/end").await.status, 200);
    assert_eq!(source.take().whole.len(), 1);
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), cases.len(), broken.join("\n"));
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
}
