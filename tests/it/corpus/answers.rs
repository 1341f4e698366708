//! `tests/corpus/answers.txt`: what a source may say, on a connection that has served a good request before.

use super::cases::{Case, bytes, cases, shown};
use crate::support::{Ask, EVERYTHING, Gate, Gateway, Reply, ScriptedSource, Setup, Step, within};
use std::fmt::Write as _;

/// Cases that the corpus has at least.
const CASES_MIN: usize = 50;

/// What the client has of an answer, in the corpus' words.
async fn outcome(gateway: &Gateway, path: &str) -> String {
    let Ok(mut opened) = within("a head", Ask::get(path).open(gateway.public)).await else {
        return "no answer at all".to_owned();
    };
    let is_problem = opened.head.field("Content-Type") == "application/problem+json";
    match within("an end", opened.rest()).await {
        Err(_) => "broken".to_owned(),
        Ok(_) if is_problem => opened.head.status.to_string(),
        Ok(body) => format!("passed {} {}", opened.head.status, shown(&body)),
    }
}

async fn faults(gateway: &Gateway, source: &ScriptedSource, case: &Case, path: &str) -> String {
    let closes = case.given.last().is_some_and(|line| line == "close");
    let given = &case.given[..case.given.len() - usize::from(closes)];
    let passes = case.verdict.starts_with("passed");
    let warm = gateway.get("/warm").await;
    let connections = source.connections();
    let lie = Reply::none(Step::Bytes(bytes(&given.concat())));
    // A lie is seen without the end of the connection.
    let last = if closes || passes { Step::Cut } else { Step::Wait(Gate::closed()) };
    source.always(path, lie.after(last));
    let outcome = outcome(gateway, path).await;
    let mut faults = String::new();
    let is_expected = outcome.trim_end() == case.verdict.trim_end()
        // It may be known before anything has gone out.
        || (case.verdict == "broken" && outcome == "502");
    if warm.status != 200 || !is_expected {
        writeln!(faults, "  {outcome}, not {}", case.verdict).unwrap();
    }
    source.always(path, Reply::ok("good").cache_control("max-age=60"));
    if !passes {
        let next = gateway.get(path).await;
        if (next.status, next.text().as_str(), next.is_hit()) != (200, "good", false) {
            writeln!(faults, "  then {next:?}").unwrap();
        }
        if source.connections() == connections {
            writeln!(faults, "  its connection was used again").unwrap();
        }
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_could_be_read_in_two_ways_are_none() {
    let cases = cases("answers.txt");
    let source = ScriptedSource::start().await;
    source.always("/warm", Reply::ok("").cache_control("no-store"));
    let keys = "timeout = \"5s\"\nbody_idle = \"2s\"\n";
    let text = format!("{}{keys}{EVERYTHING}[route.cache]\nheuristic = false\n", source.table());
    let gateway = Setup::new(text).start().await;
    let mut broken = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let faults = faults(&gateway, &source, case, &format!("/{number}")).await;
        if !faults.is_empty() {
            broken.push(format!("{}\n{faults}", case.name));
        }
    }
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), cases.len(), broken.join("\n"));
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
}
