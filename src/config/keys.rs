//! The keys of a configuration as it was read, defaults filled in, each with the digest of its value and its
//! place: what two configurations are compared by. Values may be secrets, and are not kept (I12).

use super::fault::Report;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Subject {
    /// A table that is there once, such as `[server]`.
    Section {
        /// Its key.
        name: String,
    },
    /// A `[[source]]`.
    Source {
        /// Its name.
        name: String,
    },
    /// A `[[destination]]`.
    Destination {
        /// Its name.
        name: String,
    },
    /// An `[[access]]`.
    Access {
        /// Its name.
        name: String,
    },
    /// A `[[route]]`.
    Route {
        /// Its name.
        name: String,
    },
    /// A `[[route.limit]]`.
    Quota {
        /// The name of its route.
        route: String,
        /// Its name.
        name: String,
    },
}

/// A line and a column, from 1.
pub(super) type Place = (usize, usize);

/// Every key of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// What the file is called in faults.
    pub(super) file: String,
    /// By subject and the key within it: the digest of the value.
    pub(super) values: BTreeMap<Subject, BTreeMap<String, [u8; 32]>>,
    /// The names of routes, the first that matches first.
    pub(super) routes: Vec<String>,
    /// Of keys of sections and of the sections themselves, by their dotted key.
    places: BTreeMap<String, Place>,
}

impl Keys {
    /// The keys of a tree that was walked without faults.
    pub(super) fn of(file: &str, tree: &DeTable<'_>, report: &Report<'_>) -> Self {
        let mut keys = Self { file: file.to_owned(), ..Self::default() };
        for (name, value) in tree {
            let name = name.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Array(tables) => {
                    for table in tables.iter().filter_map(|table| table.get_ref().as_table()) {
                        keys.element(name, table);
                    }
                }
                DeValue::Table(_) => {
                    keys.places(name, value, report);
                    keys.leaves(&Subject::Section { name: name.to_owned() }, name, value.get_ref());
                }
                _ => {}
            }
        }
        keys
    }

    /// Where a dotted key of a section stands; one that is not there, at the table that it would be in.
    pub(super) fn place(&self, key: &str) -> Place {
        let mut ancestors =
            std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(table, _)| table));
        ancestors.find_map(|key| self.places.get(key)).copied().unwrap_or((1, 1))
    }

    /// A table of a list, by its name.
    fn element(&mut self, list: &str, table: &DeTable<'_>) {
        let name = name_of(table);
        let subject = match list {
            "source" => Subject::Source { name },
            "destination" => Subject::Destination { name },
            "access" => Subject::Access { name },
            _ => {
                self.routes.push(name.clone());
                Subject::Route { name }
            }
        };
        // Also one without keys of its own is there.
        self.values.entry(subject.clone()).or_default();
        for (key, value) in table {
            match (&subject, key.get_ref().as_ref(), value.get_ref()) {
                (Subject::Route { name: route }, "limit", DeValue::Array(limits)) => {
                    for limit in limits.iter().filter_map(|limit| limit.get_ref().as_table()) {
                        let quota = Subject::Quota { route: route.clone(), name: name_of(limit) };
                        for (key, value) in limit {
                            self.leaves(&quota, key.get_ref(), value.get_ref());
                        }
                    }
                }
                (_, key, value) => self.leaves(&subject, key, value),
            }
        }
    }

    fn leaves(&mut self, subject: &Subject, key: &str, value: &DeValue<'_>) {
        if let DeValue::Table(table) = value {
            for (name, value) in table {
                self.leaves(subject, &format!("{key}.{}", name.get_ref()), value.get_ref());
            }
            return;
        }
        let mut digest = Sha256::new();
        feed(&mut digest, value);
        let values = self.values.entry(subject.clone()).or_default();
        values.insert(key.to_owned(), digest.finalize().into());
    }

    fn places(&mut self, key: &str, value: &Spanned<DeValue<'_>>, report: &Report<'_>) {
        self.places.insert(key.to_owned(), place(value.span(), report));
        if let DeValue::Table(table) = value.get_ref() {
            for (name, value) in table {
                self.places(&format!("{key}.{}", name.get_ref()), value, report);
            }
        }
    }
}

fn place(span: Range<usize>, report: &Report<'_>) -> Place {
    report.place_of(&span)
}

fn name_of(table: &DeTable<'_>) -> String {
    let name = table.get("name").and_then(|name| name.get_ref().as_str());
    name.unwrap_or_default().to_owned()
}

/// Adds a value so that two different ones never say the same: lengths and kinds go in front.
fn feed(digest: &mut Sha256, value: &DeValue<'_>) {
    let mut text = |kind: u8, text: &str| {
        digest.update([kind]);
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    match value {
        DeValue::String(value) => text(0, value),
        DeValue::Integer(value) => text(1, &integer(value)),
        DeValue::Float(value) => text(2, value.as_str()),
        DeValue::Boolean(value) => text(3, if *value { "true" } else { "false" }),
        DeValue::Datetime(value) => text(4, &value.to_string()),
        DeValue::Array(values) => {
            text(5, &values.len().to_string());
            values.iter().for_each(|value| feed(digest, value.get_ref()));
        }
        DeValue::Table(table) => {
            text(6, &table.len().to_string());
            for (key, value) in table {
                feed(digest, &DeValue::String(key.get_ref().clone()));
                feed(digest, value.get_ref());
            }
        }
    }
}

/// `0x10` and `16` are the same.
fn integer(value: &toml::de::DeInteger<'_>) -> String {
    let parsed = i64::from_str_radix(value.as_str(), value.radix());
    parsed.map_or_else(|_| value.as_str().to_owned(), |number| number.to_string())
}
