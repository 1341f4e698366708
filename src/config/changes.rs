//! What another configuration changes of the one in force, and what of it needs a restart. Pure.

use super::Keys;
use super::fault::{Fault, Faults};
use super::keys::Subject;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What of a key or table takes effect at a start only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fixed {
    /// Its value, and that of every key in it.
    Value,
    /// Whether it is there.
    Presence,
}

/// Keys and tables that take effect at a start only, with the reason.
const FIXED: &[(&str, Fixed, &str)] = &[
    ("admin.listen", Fixed::Value, "an open listener is kept, and no other is opened"),
    ("cache.memory", Fixed::Value, "the room for stored responses is fixed at the start"),
    ("cache.shared", Fixed::Value, "the connection to Redis and what it holds are fixed at the start"),
    ("server.listen", Fixed::Value, "open listeners are kept, and no others are opened"),
    ("server.threads", Fixed::Value, "the threads are started once"),
    ("server.tls", Fixed::Presence, "a listener speaks TLS or not from its start"),
    ("sync.data", Fixed::Value, "the journal is open"),
];

/// What becomes of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// It is new.
    Added,
    /// It goes on with other values.
    Changed,
    /// It goes.
    Removed,
}

/// One change of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of what.
    #[serde(flatten)]
    pub subject: Subject,
    /// What becomes of it.
    pub change: Verb,
    /// Which of its keys have other values, where it is changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// What a configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// What `new` changes of `old`.
    ///
    /// # Errors
    /// A fault for every key that cannot change without a restart.
    pub fn between(old: &Keys, new: &Keys) -> Result<Self, Faults> {
        let subjects: BTreeSet<&Subject> = old.values.keys().chain(new.values.keys()).collect();
        let of = |subject: &&Subject| change((*subject).clone(), old, new);
        let mut changes: Vec<Change> = subjects.iter().filter_map(of).collect();
        if order(&old.routes, &new.routes) != order(&new.routes, &old.routes) {
            let subject = Subject::Section { name: "route".to_owned() };
            changes.push(Change { subject, change: Verb::Changed, keys: vec!["order".to_owned()] });
        }
        let refused: Vec<Fault> = changes.iter().flat_map(|change| refusals(change, old, new)).collect();
        Faults::of(refused).map_or(Ok(Self(changes)), Err)
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many subjects it changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether anything of a subject changes that was there before and stays.
    #[must_use]
    pub fn alters(&self, subject: &Subject) -> bool {
        self.0.iter().any(|one| one.subject == *subject && one.change == Verb::Changed)
    }
}

/// What becomes of one subject; `None`: nothing.
fn change(subject: Subject, old: &Keys, new: &Keys) -> Option<Change> {
    let none = BTreeMap::new();
    // A section that is left out has its defaults; an element of a list is there or not.
    let is_section = matches!(subject, Subject::Section { .. });
    let (before, after) = (old.values.get(&subject), new.values.get(&subject));
    let (before, after) = match (before, after) {
        (None, Some(_)) if !is_section => return Some(Change { subject, change: Verb::Added, keys: vec![] }),
        (Some(_), None) if !is_section => {
            return Some(Change { subject, change: Verb::Removed, keys: vec![] });
        }
        (before, after) => (before.unwrap_or(&none), after.unwrap_or(&none)),
    };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&&String| before.get(**name) != after.get(**name);
    let keys: Vec<String> = names.iter().filter(differs).map(|name| (*name).clone()).collect();
    (!keys.is_empty()).then_some(Change { subject, change: Verb::Changed, keys })
}

/// Those of `own` that are in `other` too, in their order.
fn order<'a>(own: &'a [String], other: &[String]) -> Vec<&'a String> {
    own.iter().filter(|name| other.contains(name)).collect()
}

/// The faults of a change that needs a restart: one for each of its keys, or for a table that comes or goes.
fn refusals(change: &Change, old: &Keys, new: &Keys) -> Vec<Fault> {
    let is_there = |keys: &Keys, table: &str| {
        let values = keys.values.get(&change.subject);
        values.is_some_and(|values| values.keys().any(|key| is_within(key, table)))
    };
    let mut faults = Vec::new();
    for (fixed, what, why) in FIXED {
        let mut keys: Vec<&str> =
            change.keys.iter().map(String::as_str).filter(|key| is_within(key, fixed)).collect();
        if !keys.is_empty() && is_there(old, fixed) != is_there(new, fixed) {
            keys = vec![fixed];
        } else if *what == Fixed::Presence {
            keys.clear();
        }
        faults.extend(keys.into_iter().map(|key| {
            let (line, column) = new.place(key);
            Fault {
                file: new.file.clone(),
                line,
                column,
                key: key.to_owned(),
                message: format!("cannot change while the gateway runs: {why}"),
                remedy: "needs a restart; without one write it as it was: nothing of this file is applied"
                    .to_owned(),
            }
        }));
    }
    faults
}

/// Whether a dotted key is a table or stands in it.
fn is_within(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests;
