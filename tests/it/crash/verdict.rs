//! What must hold of the deliveries after any number of deaths. Pure, so that each can be seen to fail.

use super::traffic::{COLLECTION, Ledger};
use crate::support::Delivery;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Stands for the value of a path that a side does not have.
const ABSENT: &str = "absent";

/// Path -> value.
type State = BTreeMap<String, String>;

/// I2: changes that were acknowledged and never accepted by the destination.
pub(super) fn missing(ledger: &Ledger, deliveries: &[Delivery]) -> Vec<String> {
    let delivered: HashSet<&str> =
        deliveries.iter().filter(|one| one.answered / 100 == 2).map(|one| one.id.as_str()).collect();
    let lost = ledger.acknowledged.iter().filter(|write| !delivered.contains(write.change.as_str()));
    lost.map(|write| format!("{} {:?} ({})", write.what, write.body, write.change)).collect()
}

/// Path, value at the source, value at the destination, wherever they differ.
pub(super) fn differences(source: &State, destination: &State) -> Vec<(String, String, String)> {
    let paths: BTreeSet<&String> = source.keys().chain(destination.keys()).collect();
    let value = |state: &State, path: &String| state.get(path).cloned().unwrap_or_else(|| ABSENT.to_owned());
    paths
        .into_iter()
        .filter(|path| source.get(*path) != destination.get(*path))
        .map(|path| (path.clone(), value(source, path), value(destination, path)))
        .collect()
}

/// The differences that no change in doubt explains. A POST whose answer was lost is in doubt until an
/// operator decides: the source may have what nobody was told of and the destination therefore lacks.
pub(super) fn unexplained(
    source: &State,
    destination: &State,
    ledger: &Ledger,
) -> Vec<(String, String, String)> {
    let acknowledged: HashSet<&str> = ledger.acknowledged.iter().map(|write| write.body.as_str()).collect();
    let of_collection = |path: &str| path.strip_prefix(COLLECTION).is_some_and(|rest| rest.starts_with('/'));
    let mut differences = differences(source, destination);
    differences.retain(|(path, value, delivered)| {
        !(of_collection(path) && delivered == ABSENT && !acknowledged.contains(value.as_str()))
    });
    differences
}

pub(super) fn nothing_acknowledged_is_missing(ledger: &Ledger, deliveries: &[Delivery]) {
    let lost = missing(ledger, deliveries);
    assert!(lost.is_empty(), "{} acknowledged changes were lost: {lost:?}", lost.len());
}

/// I3: within a key neither sequences nor values go backwards, repeats included.
pub(super) fn no_key_goes_backwards(deliveries: &[Delivery]) {
    let mut last: HashMap<&str, (u64, String)> = HashMap::new();
    for delivery in deliveries {
        let (sequence, value) = last.entry(&delivery.key).or_default();
        let (key, next) = (&delivery.key, delivery.sequence);
        assert!(*sequence <= next, "{key}: {next} after {sequence}");
        *sequence = next;
        // A DELETE has no value. The state of a collection is compared as a whole.
        let text = delivery.request.text();
        if text.is_empty() || delivery.key == COLLECTION {
            continue;
        }
        assert!(*value <= text, "{key}: {text} after {value}");
        *value = text;
    }
}

/// I2: the same change is the same request every time.
pub(super) fn repeated_deliveries_are_equal(deliveries: &[Delivery]) {
    let mut first: HashMap<&str, &Delivery> = HashMap::new();
    for delivery in deliveries {
        let before = *first.entry(&delivery.id).or_insert(delivery);
        let content = |one: &Delivery| {
            (
                one.request.method.clone(),
                one.request.target.clone(),
                one.request.body.clone(),
                one.key.clone(),
            )
        };
        assert_eq!(content(before), content(delivery), "change {}", delivery.id);
        assert_eq!(before.sequence, delivery.sequence, "change {}", delivery.id);
        assert_eq!(
            before.request.fields.get("Idempotency-Key"),
            delivery.request.fields.get("Idempotency-Key"),
            "change {}",
            delivery.id
        );
    }
}

/// I2: a death repeats at most what was in flight. `deaths` has the number of attempts until each; the most
/// that one of them had accepted twice. What was repeated because its answer was lost says so: by then it is
/// another attempt.
pub(super) fn repeats_of_one_death(deliveries: &[Delivery], deaths: &[usize]) -> usize {
    let mut accepted: HashMap<(&str, u32), usize> = HashMap::new();
    let mut repeats: HashMap<usize, usize> = HashMap::new();
    for (number, delivery) in deliveries.iter().enumerate().filter(|(_, one)| one.answered / 100 == 2) {
        let life = deaths.partition_point(|until| *until <= number);
        if let Some(before) = accepted.insert((&delivery.id, delivery.attempt), life) {
            *repeats.entry(before).or_default() += 1;
        }
    }
    repeats.into_values().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Acknowledged, Ledger};
    use super::{missing, no_key_goes_backwards, repeated_deliveries_are_equal, repeats_of_one_death};
    use crate::support::wire::Fields;
    use crate::support::{Delivery, Received};

    fn delivery(id: &str, key: &str, sequence: u64, body: &str) -> Delivery {
        let request = Received {
            method: "PUT".to_owned(),
            target: key.to_owned(),
            fields: Fields::default(),
            body: body.into(),
            trailers: Fields::default(),
        };
        let at = tokio::time::Instant::now();
        let (id, key) = (id.to_owned(), key.to_owned());
        Delivery { id, key, sequence, attempt: 1, request, answered: 200, at }
    }

    #[test]
    fn a_lost_change_is_seen() {
        let write = |change: &str| Acknowledged {
            change: change.to_owned(),
            what: "PUT /a".to_owned(),
            body: String::new(),
        };
        let ledger = Ledger { acknowledged: vec![write("one"), write("two")], unknown: 0 };
        let lost = missing(&ledger, &[delivery("one", "/a", 1, "1")]);
        assert_eq!(lost, ["PUT /a \"\" (two)"]);
    }

    #[test]
    #[should_panic(expected = "1 after 2")]
    fn an_older_sequence_is_seen() {
        no_key_goes_backwards(&[delivery("b", "/a", 2, "2"), delivery("a", "/a", 1, "2")]);
    }

    #[test]
    #[should_panic(expected = "/a: 1 after 2")]
    fn an_older_value_is_seen() {
        no_key_goes_backwards(&[delivery("a", "/a", 1, "2"), delivery("b", "/a", 2, "1")]);
    }

    #[test]
    #[should_panic(expected = "change a")]
    fn a_repeat_with_other_content_is_seen() {
        repeated_deliveries_are_equal(&[delivery("a", "/a", 1, "1"), delivery("a", "/a", 1, "2")]);
    }

    #[test]
    fn repeats_belong_to_the_death_that_caused_them() {
        let one = |id: &str| delivery(id, "/a", 1, "1");
        let all = [one("a"), one("b"), one("a"), one("b"), one("c"), one("c"), one("b")];
        assert_eq!(repeats_of_one_death(&all, &[2, 5]), 2, "a and b of the first, c and b of the second");
        assert_eq!(repeats_of_one_death(&all, &[7]), 4, "all in one life");
        let late = Delivery { attempt: 2, ..one("a") };
        assert_eq!(repeats_of_one_death(&[one("a"), late], &[1]), 0, "its answer was lost");
    }
}
