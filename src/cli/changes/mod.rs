//! `tidegate changes`: what became of changes; sending again, giving up, deciding doubts.

mod again;
mod moment;
mod progress;
mod shown;

use super::admin::{self, Admin, Reach};
use super::print;
use clap::Subcommand;
use moment::Moment;
use serde_json::{Map, Value, json};
use std::num::NonZeroU32;
use std::process::ExitCode;

/// The arguments of `tidegate changes`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tidegate changes dead-letters --destination search\n  tidegate changes redrive --destination search --dry-run"
)]
pub struct Arguments {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List changes with their deliveries, the oldest first
    #[command(after_help = "Example:\n  tidegate changes list --state in-doubt --limit 20")]
    List {
        /// Only in this state, e.g. `in-doubt` or `committed`
        #[arg(long)]
        state: Option<String>,
        /// Only those for this destination
        #[arg(long)]
        destination: Option<String>,
        /// Only of this key
        #[arg(long)]
        key: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<NonZeroU32>,
        /// Only behind this change
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Show one change, and each of its deliveries
    #[command(after_help = "Example:\n  tidegate changes show 01900000-0000-7000-8000-000000000000")]
    Show {
        /// Its id, as in Tidegate-Change
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List dead letters: what could not be delivered
    #[command(after_help = "Example:\n  tidegate changes dead-letters --destination search --since 2h")]
    DeadLetters {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<NonZeroU32>,
        /// Only behind those that were shown: as the end of the list says
        #[arg(long, value_name = "PLACE")]
        after: Option<String>,
    },
    /// Send dead letters again: same ids, in key order, with what waits behind them
    #[command(
        after_help = "Example:\n  tidegate changes redrive --destination search --code http_status --dry-run\n  \
                      tidegate changes redrive --destination search --rate 50"
    )]
    Redrive {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        how: How,
    },
    /// Give dead letters up: what waits behind them goes on without them
    #[command(after_help = "Example:\n  tidegate changes discard --destination search --key-prefix /items/7")]
    Discard {
        #[command(flatten)]
        filter: Filter,
        /// Where nothing else says which: every dead letter
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        how: How,
    },
    /// Decide a change in doubt
    #[command(
        after_help = "Example:\n  tidegate changes resolve 01900000-0000-7000-8000-000000000000 --as committed"
    )]
    Resolve {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// What is true: the source did it, or did not
        #[arg(long = "as", value_name = "WORD", value_parser = ["committed", "aborted"])]
        truth: String,
    },
    /// Send what a destination has had again, each key up to its newest change
    #[command(after_help = "Example:\n  tidegate changes replay --destination search --since 2h --rate 100")]
    Replay {
        /// Who gets it
        #[arg(long)]
        destination: String,
        /// Keys that changed at or after: a time (RFC 3339, or milliseconds), or an age like 2h
        #[arg(long, value_name = "TIME")]
        since: Option<Moment>,
        /// Keys that changed before
        #[arg(long, value_name = "TIME")]
        until: Option<Moment>,
        #[command(flatten)]
        how: How,
    },
}

/// Which dead letters.
#[derive(Clone, Debug, Default, clap::Args)]
struct Filter {
    /// Only of this change
    #[arg(value_name = "ID")]
    change: Option<String>,
    /// Only of this destination
    #[arg(long)]
    destination: Option<String>,
    /// Only of this source: accepted changes that it refused
    #[arg(long, conflicts_with = "destination")]
    source: Option<String>,
    /// Only with this code, e.g. `http_status` or `given_up`
    #[arg(long)]
    code: Option<String>,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<String>,
    /// Only those that died at or after: a time (RFC 3339, or milliseconds), or an age like 2h
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only those that died before
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

impl Filter {
    fn named(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("change", self.change.as_deref()),
            ("destination", self.destination.as_deref()),
            ("source", self.source.as_deref()),
            ("code", self.code.as_deref()),
            ("key_prefix", self.key_prefix.as_deref()),
            ("since", self.since.as_ref().map(Moment::as_str)),
            ("until", self.until.as_ref().map(Moment::as_str)),
        ]
    }

    fn is_empty(&self) -> bool {
        self.named().iter().all(|(_, value)| value.is_none())
    }

    /// The body of an order, as far as it says which.
    fn order(&self) -> Map<String, Value> {
        let given =
            self.named().into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
        given.collect()
    }
}

/// How an order is carried out.
#[derive(Clone, Debug, clap::Args)]
struct How {
    /// Only tell how many
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second; left out: as fast as the destination takes them
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
}

/// Runs one of them: 0 done, 1 not.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    admin::run(obey(arguments))
}

async fn obey(Arguments { reach, command }: &Arguments) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(reach)?;
    let ordered = match command {
        Command::List { state, destination, key, limit, after } => {
            let limit = limit.map(|limit| limit.to_string());
            let query = [
                ("state", state.as_deref()),
                ("destination", destination.as_deref()),
                ("key", key.as_deref()),
                ("limit", limit.as_deref()),
                ("after", after.as_deref()),
            ];
            show(reach, admin.get(&["changes"], &query).await?, shown::changes)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Show { id } => {
            show(reach, admin.get(&["changes", id], &[]).await?, shown::change)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::DeadLetters { filter, limit, after } => {
            let limit = limit.map(|limit| limit.to_string());
            let page = [("limit", limit.as_deref()), ("after", after.as_deref())];
            let query = [&filter.named()[..], &page].concat();
            show(reach, admin.get(&["dead-letters"], &query).await?, shown::dead_letters)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Resolve { id, truth } => {
            let told = admin.post(&["changes", id, "resolve"], &json!({ "as": truth })).await?;
            show(reach, told, |_: &Value| Ok(format!("{id} is {truth}")))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Redrive { filter, how } => again::Ordered::letters("redrive", filter.order(), how),
        Command::Discard { filter, all, how } => {
            if filter.is_empty() && !all {
                anyhow::bail!("discard of which dead letters? Name them, or give --all");
            }
            again::Ordered::letters("discard", filter.order(), how)
        }
        Command::Replay { destination, since, until, how } => {
            let time = |moment: &Option<Moment>| {
                moment.as_ref().map_or(Value::Null, |moment| json!(moment.as_str()))
            };
            let body = [("destination", json!(destination)), ("since", time(since)), ("until", time(until))];
            let body = body.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            again::Ordered::replay(body, how)
        }
    };
    again::see_done(&admin, reach, ordered).await
}

/// Prints what came: as it is for machines, else as a table.
fn show(reach: &Reach, told: Value, table: impl Fn(&Value) -> anyhow::Result<String>) -> anyhow::Result<()> {
    if reach.json {
        print(told);
    } else {
        print(table(&told)?);
    }
    Ok(())
}
