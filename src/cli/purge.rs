//! `tidegate purge`: makes stored responses of a running gateway old, or gone.

use super::admin::{self, Admin, Reach};
use super::print;
use clap::ArgGroup;
use serde::Deserialize;
use serde_json::{Value, json};
use std::process::ExitCode;

/// The arguments of `tidegate purge`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false))]
#[command(
    after_help = "Example:\n  tidegate purge --url http://api.example.com/items/7 --url http://api.example.com/items\n  \
                        tidegate purge --tag items --soft --admin http://127.0.0.1:9090"
)]
pub struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// An absolute URL, with every variant; may be repeated
    #[arg(long = "url", value_name = "URL", group = "what")]
    urls: Vec<String>,
    /// Everything that carries this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG", group = "what")]
    tags: Vec<String>,
    /// Everything that begins so: a path, of any host, or an absolute URL
    #[arg(long, value_name = "PREFIX", group = "what")]
    prefix: Option<String>,
    /// Everything
    #[arg(long, group = "what")]
    all: bool,
    /// Make it stale instead of gone: it is validated, and serves where the source fails
    #[arg(long)]
    soft: bool,
}

#[derive(Deserialize)]
struct Applied {
    seq: u64,
    scope: String,
}

/// Purges: 0 done, 1 not.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    admin::run(purge(arguments))
}

async fn purge(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { reach, urls, tags, prefix, all, soft } = arguments;
    let mode = if *soft { "soft" } else { "hard" };
    let order = json!({ "urls": urls, "tags": tags, "prefix": prefix, "all": all, "mode": mode });
    let told: Value = Admin::new(reach)?.post(&["purge"], &order).await?;
    if reach.json {
        print(told);
    } else {
        let Applied { seq, scope } = Applied::deserialize(&told)?;
        let who = match scope.as_str() {
            "shared" => "here, and for the other gateways in Redis",
            _ => "here; other gateways, if any, hear of it when Redis is back",
        };
        print(format_args!("purged ({mode}): number {seq}, scope {scope}: {who}"));
    }
    Ok(ExitCode::SUCCESS)
}
