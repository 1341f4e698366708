//! `tests/corpus/http1/`: one HTTP/1 message a case. Verdicts: `refused STATUS REASON`, `broken STATUS REASON` (content
//! that turns out bad on its way: nothing whole at the source), `answered STATUS` (by Tidegate itself),
//! `forwarded BYTES`, `last BYTES` where the connection ends behind it, and `then STATUS REASON BYTES` where what
//! is behind it is refused.

use super::cases::{Case, bytes, cases, shown};
use super::recorder::{Recorder, normal};
use crate::support::{EVERYTHING, Gateway, Setup, within};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Cases that the corpus has at least.
const CASES_MIN: usize = 250;

/// Beside the route for everything: one of short bodies, one of another method, one that is used up.
const ROUTES: &str = r#"
[[route]]
name = "small"
path = "/small/{*rest}"
body = "8B"
source = "inventory"
[[route]]
name = "closed"
path = "/closed/{*rest}"
methods = ["DELETE"]
source = "inventory"
[[route]]
name = "limited"
path = "/limited/{*rest}"
source = "inventory"
[[route.limit]]
name = "once"
requests = 1
per = "24h"
key = "route"
"#;

const HIT: &str = "GET /hit HTTP/1.1|Host: a||";
const GOOD: &str = "GET /good HTTP/1.1|Host: a||";
const GOOD_AT_SOURCE: &str = "GET /good HTTP/1.1|host: a||";
const SENTINEL: &str = "GET /sentinel HTTP/1.1|Host: a|Connection: close||";
const SENTINEL_AT_SOURCE: &str = "GET /sentinel HTTP/1.1|host: a||";

/// How a case is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Play {
    Alone,
    BehindGood,
    BehindHit,
}

/// An answer as the client has it.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
}

impl Answer {
    fn is_problem(&self) -> bool {
        self.head.to_ascii_lowercase().contains("content-type: application/problem+json")
    }
}

/// The final answers in what came until the end; `Err` where it is not a whole number of them.
fn answers(mut rest: &[u8], head_at: Option<usize>) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").ok_or("a head without end")?;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let status: u16 = head.get(9..12).and_then(|text| text.parse().ok()).ok_or("no status")?;
        if status < 200 {
            continue;
        }
        let lower = head.to_ascii_lowercase();
        let value = |name: &str| {
            lower.split("\r\n").find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let is_empty = Some(answers.len()) == head_at || matches!(status, 204 | 304);
        match (value("content-length:"), value("transfer-encoding:")) {
            _ if is_empty => {}
            (Some(length), None) => {
                let length: usize = length.parse().map_err(|_| "a length that is none")?;
                rest = rest.get(length..).ok_or("content that is cut")?;
            }
            (None, Some(_)) => {
                let end =
                    rest.windows(5).position(|window| window == b"0\r\n\r\n").ok_or("chunks without end")?;
                rest = &rest[end + 5..];
            }
            _ => rest = &[],
        }
        answers.push(Answer { status, head });
    }
    Ok(answers)
}

/// All that comes until the connection ends, however it ends.
async fn all(stream: &mut TcpStream, got: &mut Vec<u8>) {
    while within("an end", stream.read_buf(got)).await.unwrap_or(0) > 0 {}
}

/// Sends the case; the final answers.
async fn exchange(gateway: &Gateway, case: &Case, play: Play) -> Result<Vec<Answer>, String> {
    let given = bytes(&case.given.concat());
    let sent = match play {
        Play::Alone => given.clone(),
        Play::BehindGood => [bytes(GOOD), given.clone(), bytes(SENTINEL)].concat(),
        Play::BehindHit => [bytes(HIT), given.clone(), bytes(SENTINEL)].concat(),
    };
    let is_head = given.starts_with(b"HEAD ");
    let head_at = is_head.then_some(usize::from(play != Play::Alone));
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // Who is refused early may be closed on while it sends.
    drop(stream.write_all(&sent).await);
    let mut got = Vec::new();
    if play == Play::Alone {
        while !answers(&got, head_at).is_ok_and(|answers| !answers.is_empty()) {
            match within(&format!("an answer to {}", case.name), stream.read_buf(&mut got)).await {
                Ok(read) if read > 0 => {}
                _ => break,
            }
        }
        drop(stream.write_all(&bytes(SENTINEL)).await);
    }
    all(&mut stream, &mut got).await;
    answers(&got, head_at).map_err(|fault| format!("{fault}: {}", shown(&got)))
}

/// How often each reason of a refusal has been counted.
pub(super) type Refusals = BTreeMap<String, u64>;

pub(super) async fn refusals(gateway: &Gateway) -> Refusals {
    let text = gateway.admin_get("/metrics").await.text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("tidegate_refused_total{reason=\""));
    lines
        .filter_map(|line| line.split_once("\"} "))
        .map(|(reason, count)| (reason.to_owned(), count.parse().unwrap()))
        .collect()
}

/// How many more there are than at the last look.
pub(super) async fn more(gateway: &Gateway, counted: &mut Refusals) -> Vec<(String, u64)> {
    let before = std::mem::replace(counted, refusals(gateway).await);
    let more =
        counted.iter().map(|(reason, count)| (reason.clone(), count - before.get(reason).unwrap_or(&0)));
    more.filter(|(_, count)| *count > 0).collect()
}

/// What the client and the source must have had.
struct Expected {
    statuses: Vec<u16>,
    whole: Vec<String>,
    reason: Option<String>,
}

fn expected(case: &Case, play: Play) -> Expected {
    let (kind, rest) = case.verdict.split_once(' ').unwrap_or((&case.verdict, ""));
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = || status.parse::<u16>().unwrap_or_else(|_| panic!("{}: no status", case.name));
    let (statuses, at_source, goes_on) = match kind {
        "refused" | "broken" => (vec![status()], None, false),
        "answered" => (vec![status()], None, true),
        "forwarded" => (vec![200], Some(rest), true),
        "last" => (vec![200], Some(rest), false),
        "then" => (vec![200, status()], reason.split_once(' ').map(|(_, rest)| rest), false),
        other => panic!("{}: {other} is no verdict", case.name),
    };
    let reason = reason.split(' ').next().unwrap_or_default();
    let mut expected = Expected {
        statuses,
        whole: at_source.into_iter().map(|text| normal(&bytes(text))).collect(),
        reason: matches!(kind, "refused" | "broken" | "then")
            .then(|| reason.to_owned())
            .filter(|reason| !reason.is_empty()),
    };
    if play != Play::Alone {
        expected.statuses.insert(0, 200);
    }
    if play == Play::BehindGood {
        expected.whole.insert(0, GOOD_AT_SOURCE.to_owned());
    }
    if goes_on {
        expected.statuses.push(200);
        expected.whole.push(SENTINEL_AT_SOURCE.to_owned());
    }
    expected
}

/// What is wrong with one play of a case; empty where nothing is.
async fn faults(
    gateway: &Gateway,
    source: &Recorder,
    counted: &mut Refusals,
    case: &Case,
    play: Play,
) -> String {
    let answers = exchange(gateway, case, play).await;
    let (seen, expected) = (source.take(), expected(case, play));
    let mut faults = String::new();
    match &answers {
        Err(fault) => writeln!(faults, "  answers: {fault}").unwrap(),
        Ok(answers) => {
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            if statuses != expected.statuses {
                writeln!(faults, "  answers {statuses:?}, not {:?}", expected.statuses).unwrap();
            }
            let unexplained = answers.iter().filter(|answer| answer.status >= 400 && !answer.is_problem());
            unexplained.for_each(|answer| writeln!(faults, "  no problem+json: {}", answer.head).unwrap());
        }
    }
    if seen.whole != expected.whole {
        writeln!(faults, "  at the source {:#?}\n  not {:#?}", seen.whole, expected.whole).unwrap();
    }
    if !seen.garbage.is_empty() || (!seen.unfinished.is_empty() && !case.verdict.starts_with("broken")) {
        writeln!(faults, "  at the source {seen:?}").unwrap();
    }
    let counted = more(gateway, counted).await;
    let wanted: Vec<(String, u64)> = expected.reason.into_iter().map(|reason| (reason, 1)).collect();
    if counted != wanted {
        writeln!(faults, "  counted {counted:?}, not {wanted:?}").unwrap();
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_no_message_is_read_in_two_ways() {
    let cases = cases("http1");
    let source = Recorder::start().await;
    let gateway = Setup::new(format!("{}{ROUTES}{EVERYTHING}", source.table())).start().await;
    gateway.get("/hit").await;
    let warm = Case { name: "warm".into(), given: vec![HIT.into()], verdict: "answered 200".into() };
    // The store is warm once a hit reaches nobody.
    exchange(&gateway, &warm, Play::Alone).await.unwrap();
    assert_eq!(gateway.get("/limited/once").await.status, 200);
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
    // What comes late is a desync, too.
    assert_eq!(gateway.get("/end").await.status, 200);
    assert_eq!(source.take().whole.len(), 1);
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), cases.len(), broken.join("\n"));
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
}
