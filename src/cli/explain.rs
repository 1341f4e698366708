//! `tidegate explain`: why a running gateway answers a URL as it does.

use super::admin::{self, Admin, Reach};
use super::print;
use super::table::{Table, harmless};
use crate::explanation::{Explanation, Figure};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// The arguments of `tidegate explain`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tidegate explain http://api.example.com/items/7 --header 'Accept-Language: de' \
                        --admin http://127.0.0.1:9090"
)]
pub struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// The URL, as clients ask for it
    #[arg(value_name = "URL")]
    url: String,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A field that the request has; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
}

/// Asks and shows: 0 told, 1 not.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    admin::run(ask(arguments))
}

async fn ask(Arguments { reach, url, method, headers }: &Arguments) -> anyhow::Result<ExitCode> {
    let mut query = vec![("url", Some(url.as_str())), ("method", Some(method.as_str()))];
    query.extend(headers.iter().map(|line| ("header", Some(line.as_str()))));
    let told: Value = Admin::new(reach)?.get(&["explain"], &query).await?;
    if reach.json {
        print(told);
    } else {
        print(shown(&Explanation::deserialize(&told)?));
    }
    Ok(ExitCode::SUCCESS)
}

/// For people: the decision first, then what it rests on.
fn shown(told: &Explanation) -> String {
    let reason = told.reason.as_deref().unwrap_or("neither hit nor forwarded");
    let mut lines = vec![
        line("decision", &format!("{} ({reason})", told.decision.as_str())),
        line("because", &format!("{} [{}]", told.rule.says, told.rule.section)),
    ];
    let mut add = |name, text: Option<String>| lines.extend(text.map(|text| line(name, &text)));
    add("answer", told.answer.as_ref().map(|answer| format!("{} {}", answer.status, answer.detail)));
    add("target", told.target.clone());
    add("key", told.key.clone());
    add("variant", told.variant.as_ref().filter(|variant| !variant.is_empty()).map(selecting));
    add("tier", told.tier.clone());
    add(
        "route",
        told.route.as_ref().map(|route| format!("{} (number {}, {})", route.name, route.place, route.path)),
    );
    for passed in &told.passed_over {
        add("", Some(format!("not {}: another {}", passed.name, passed.because)));
    }
    add(
        "marker",
        told.marker.as_ref().map(|marker| {
            format!("not waited for: {} (status {}), {:.0} s more", marker.reason, marker.status, marker.left)
        }),
    );
    add("fence", Some(told.fence.to_string()));
    for quota in &told.quotas {
        let state = format!("{} ({}, {}): {} left", quota.name, quota.stage, quota.mode, quota.remaining);
        add("quota", Some(state));
    }
    if let Some(source) = &told.source {
        let state = format!(
            "{}, breaker {}, {} of {} under way",
            source.name, source.breaker, source.active, source.concurrency
        );
        add("source", Some(state));
        for out in source.addresses.iter().filter(|address| address.ejected) {
            add("", Some(format!("ejected: {}", out.address)));
        }
    }
    let tables = [freshness(told), variants(told)].into_iter().flatten();
    std::iter::once(lines.join("\n"))
        .chain(tables.map(|table| table.to_string()))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn line(name: &str, text: &str) -> String {
    format!("{name:10}{}", harmless(text))
}

fn selecting(fields: &BTreeMap<String, Option<String>>) -> String {
    let field = |(name, value): (&String, &Option<String>)| {
        value.as_ref().map_or_else(|| format!("{name} absent"), |value| format!("{name}: {value}"))
    };
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

fn freshness(told: &Explanation) -> Option<Table> {
    let freshness = told.freshness.as_ref()?;
    let mut table = Table::new(&["FRESHNESS", "SECONDS", "FROM"]);
    let figures: [(&str, &Figure); 8] = [
        ("lifetime", &freshness.lifetime),
        ("initial age", &freshness.initial_age),
        ("resident time", &freshness.resident_time),
        ("current age", &freshness.current_age),
        ("ttl", &freshness.ttl),
        ("stale while revalidate", &freshness.stale_while_revalidate),
        ("stale if error", &freshness.stale_if_error),
        ("stale on disconnect", &freshness.stale_on_disconnect),
    ];
    for (name, figure) in figures {
        table.row([name.to_owned(), format!("{:.1}", figure.seconds), figure.from.clone()]);
    }
    Some(table)
}

fn variants(told: &Explanation) -> Option<Table> {
    let mut table = Table::new(&["HELD", "STATUS", "AGE", "TTL", "STANDING", "SELECTED", "VARIANT"]);
    for one in &told.variants {
        let standing = [std::slice::from_ref(&one.standing), &one.purged_by].concat().join(" ");
        let selected = if one.selected { "yes" } else { "no" }.to_owned();
        let (age, ttl) = (format!("{:.0}", one.age), format!("{:.0}", one.ttl));
        table.row([
            one.tier.clone(),
            one.status.to_string(),
            age,
            ttl,
            standing,
            selected,
            selecting(&one.variant),
        ]);
    }
    (!told.variants.is_empty()).then_some(table)
}
