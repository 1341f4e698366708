//! Changes and dead letters as tables.

use crate::cli::table::{Table, harmless};
use crate::clock::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// What is shown of the answer that a dead letter keeps.
const ANSWER_LETTERS: usize = 60;

#[derive(Deserialize)]
struct Changes {
    changes: Vec<Change>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Change {
    id: String,
    key: String,
    sequence: Option<u64>,
    state: String,
    route: String,
    source: String,
    method: String,
    target: String,
    recorded_at: Timestamp,
    at_source: Option<AtSource>,
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
struct AtSource {
    state: String,
    attempts: u32,
    next_attempt_at: Option<Timestamp>,
    last_error: Option<String>,
}

#[derive(Deserialize)]
struct Delivery {
    destination: String,
    state: String,
    attempts: Option<u32>,
    settled_at: Option<Timestamp>,
    next_attempt_at: Option<Timestamp>,
    last_error: Option<String>,
}

#[derive(Deserialize)]
struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct DeadLetter {
    change: String,
    destination: Option<String>,
    source: Option<String>,
    key: String,
    code: String,
    status: Option<u16>,
    attempts: u32,
    last_at: Timestamp,
    answer: String,
}

/// A page of changes.
pub(super) fn changes(told: &Value) -> anyhow::Result<String> {
    let Changes { changes, next } = Changes::deserialize(told)?;
    let mut table = Table::new(&["ID", "STATE", "METHOD", "TARGET", "KEY", "RECORDED", "DELIVERIES"]);
    for Change { id, state, method, target, key, recorded_at, deliveries, .. } in changes {
        let deliveries: Vec<String> =
            deliveries.into_iter().map(|one| format!("{}={}", one.destination, one.state)).collect();
        table.row([id, state, method, target, key, time(recorded_at), deliveries.join(" ")]);
    }
    let more = next.map(|id| format!("\nmore: --after {id}")).unwrap_or_default();
    Ok(format!("{table}{more}"))
}

/// One change with its deliveries.
pub(super) fn change(told: &Value) -> anyhow::Result<String> {
    let change = Change::deserialize(told)?;
    let sequence = change.sequence.map_or_else(|| "none yet".to_owned(), |sequence| sequence.to_string());
    let rows = [
        ("change", change.id),
        ("state", change.state),
        ("write", format!("{} {}", change.method, change.target)),
        ("key", change.key),
        ("sequence", sequence),
        ("route", change.route),
        ("source", change.source),
        ("recorded", time(change.recorded_at)),
    ];
    let lines = rows.into_iter().map(|(name, value)| format!("{name:10}{}", harmless(&value)));
    let mut head = lines.collect::<Vec<_>>().join("\n");
    if let Some(at_source) = change.at_source {
        let mut table = Table::new(&["AT ITS SOURCE", "ATTEMPTS", "NEXT ATTEMPT", "LAST ERROR"]);
        let AtSource { state, attempts, next_attempt_at, last_error } = at_source;
        let next = next_attempt_at.map_or_else(|| "-".to_owned(), time);
        table.row([state, attempts.to_string(), next, last_error.unwrap_or_default()]);
        head = format!("{head}\n\n{table}");
    }
    let mut table =
        Table::new(&["DESTINATION", "STATE", "ATTEMPTS", "SETTLED", "NEXT ATTEMPT", "LAST ERROR"]);
    for one in change.deliveries {
        let moment = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), time);
        let (settled, next) = (moment(one.settled_at), moment(one.next_attempt_at));
        let error = one.last_error.unwrap_or_default();
        let attempts = one.attempts.map_or_else(|| "-".to_owned(), |attempts| attempts.to_string());
        table.row([one.destination, one.state, attempts, settled, next, error]);
    }
    Ok(format!("{head}\n\n{table}"))
}

/// Dead letters.
pub(super) fn dead_letters(told: &Value) -> anyhow::Result<String> {
    let DeadLetters { dead_letters, next } = DeadLetters::deserialize(told)?;
    let mut table =
        Table::new(&["CHANGE", "DESTINATION", "KEY", "CODE", "STATUS", "ATTEMPTS", "LAST", "ANSWER"]);
    for one in dead_letters {
        let whom = one.destination.or(one.source.map(|name| format!("source {name}"))).unwrap_or_default();
        let status = one.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let answer = one.answer.chars().take(ANSWER_LETTERS).collect();
        let (attempts, last) = (one.attempts.to_string(), time(one.last_at));
        table.row([one.change, whom, one.key, one.code, status, attempts, last, answer]);
    }
    let more = next.map(|place| format!("\nmore: --after {place}")).unwrap_or_default();
    Ok(format!("{table}{more}"))
}

/// In seconds, as RFC 3339 writes it.
pub(super) fn time(at: Timestamp) -> String {
    humantime::format_rfc3339_seconds(at.to_system_time()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_accepted_change_is_shown_with_its_way_to_its_source() {
        let change = json!({
            "id": "01", "key": "/a", "sequence": null, "state": "accepted", "route": "items", "source": "s",
            "method": "PUT", "target": "/a", "recorded_at": 1000, "deliveries": [],
            "at_source": {"state": "waiting", "attempts": 4, "next_attempt_at": 3000,
                          "last_error": "the source answered 503"},
        });
        let text = super::change(&change).unwrap();
        for part in ["AT ITS SOURCE", "waiting  ", "4", "1970-01-01T00:00:03Z", "the source answered 503"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_change_is_shown_with_its_deliveries() {
        let change = json!({
            "id": "01", "key": "/a", "sequence": 7, "state": "committed", "route": "items", "source": "s",
            "method": "PUT", "target": "/a", "recorded_at": 1000,
            "deliveries": [{"destination": "search", "state": "waiting", "attempts": 2, "settled_at": null,
                            "next_attempt_at": 3000, "last_error": "the destination answered 503"}],
        });
        let text = super::change(&change).unwrap();
        for part in
            ["PUT /a", "1970-01-01T00:00:01Z", "search", "waiting", "1970-01-01T00:00:03Z", "answered 503"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        let list = changes(&json!({"changes": [change], "next": "01"})).unwrap();
        assert!(list.contains("search=waiting") && list.ends_with("more: --after 01"), "{list}");
    }
}
