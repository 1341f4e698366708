//! Redrive, discard and replay: ordered, watched, stopped by Ctrl-C.

use super::How;
use super::progress::Progress;
use super::shown::time;
use crate::cli::admin::{Admin, Reach};
use crate::cli::{print, tell};
use crate::clock::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is asked of the gateway.
pub(super) struct Ordered {
    what: &'static str,
    path: Vec<&'static str>,
    body: Map<String, Value>,
    is_dry: bool,
}

impl Ordered {
    /// An order that concerns dead letters; it goes on while we watch.
    pub(super) fn letters(what: &'static str, mut body: Map<String, Value>, how: &How) -> Self {
        body.insert("background".to_owned(), json!(true));
        Self::new(what, vec!["dead-letters", what], body, how)
    }

    pub(super) fn replay(body: Map<String, Value>, how: &How) -> Self {
        Self::new("replay", vec!["replay"], body, how)
    }

    fn new(what: &'static str, path: Vec<&'static str>, mut body: Map<String, Value>, how: &How) -> Self {
        body.insert("dry_run".to_owned(), json!(how.dry_run));
        body.insert("rate".to_owned(), json!(how.rate));
        Self { what, path, body, is_dry: how.dry_run }
    }
}

#[derive(Deserialize)]
struct Told {
    count: u64,
    #[serde(default)]
    left_out: u64,
    operation: Option<u64>,
}

#[derive(Deserialize)]
struct Operations {
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
struct Operation {
    id: u64,
    state: String,
    count: u64,
    done: u64,
    left_out: u64,
    reached: Option<Timestamp>,
}

/// Gives the order, and watches it to its end.
pub(super) async fn see_done(admin: &Admin, reach: &Reach, ordered: Ordered) -> anyhow::Result<ExitCode> {
    let Ordered { what, path, body, is_dry } = ordered;
    // From before the order on, so that Ctrl-C never leaves it running unseen.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let Told { count, left_out, operation } = admin.post(&path, &Value::Object(body)).await?;
    let Some(id) = operation else {
        if reach.json {
            print(json!({ "count": count, "left_out": left_out, "dry_run": is_dry }));
        } else {
            print(format_args!("{what}: {count}{}{}", but(left_out), if is_dry { " (dry run)" } else { "" }));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let end = watch(admin, reach, what, id, &mut interrupts).await?;
    let Operation { state, count, done, left_out, reached, .. } = end;
    if reach.json {
        let told =
            json!({ "count": count, "done": done, "left_out": left_out, "state": state, "reached": reached });
        print(told);
    } else {
        print(format_args!("{what}: {done} of {count}{}, {state}", but(left_out)));
    }
    if state == "finished" {
        return Ok(ExitCode::SUCCESS);
    }
    match reached.filter(|_| what == "replay") {
        Some(reached) => tell(format_args!("to go on: the same command with --since {}", time(reached))),
        None => tell("to go on: the same command"),
    }
    Ok(ExitCode::FAILURE)
}

fn but(left_out: u64) -> String {
    if left_out == 0 { String::new() } else { format!(", {left_out} left out") }
}

/// Until it has ended. Ctrl-C stops it once; a second one leaves it alone and ends only this command.
async fn watch(
    admin: &Admin,
    reach: &Reach,
    what: &'static str,
    id: u64,
    interrupts: &mut Signal,
) -> anyhow::Result<Operation> {
    let mut operation = look(admin, id).await?;
    let mut progress = Progress::new(reach, what, operation.count);
    let mut stopping = false;
    while operation.state == "running" {
        progress.show(operation.done, operation.count);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = interrupts.recv() => {
                anyhow::ensure!(!stopping, "operation {id} still runs");
                stopping = true;
                let _: Value = admin.post(&["operations", &id.to_string(), "stop"], &json!({})).await?;
            }
        }
        operation = look(admin, id).await?;
    }
    progress.end();
    Ok(operation)
}

async fn look(admin: &Admin, id: u64) -> anyhow::Result<Operation> {
    let Operations { operations } = admin.get(&["operations"], &[]).await?;
    let found = operations.into_iter().find(|operation| operation.id == id);
    found.ok_or_else(|| anyhow::anyhow!("operation {id} is not known any more: the gateway was restarted"))
}
