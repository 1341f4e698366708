//! `config/tidegate.toml`, compiled in: the reference is where the defaults come from.

use std::sync::LazyLock;
use toml::de::{DeTable, DeValue};

/// The reference file.
pub(super) const TEXT: &str = include_str!("../../config/tidegate.toml");

/// Its best-effort reading: the tests prove that it has no fault.
static TABLE: LazyLock<DeTable<'static>> = LazyLock::new(|| DeTable::parse_recoverable(TEXT).0.into_inner());

/// The reference as a table.
pub(super) fn table() -> &'static DeTable<'static> {
    &TABLE
}

/// The text that the reference gives for a key.
pub(super) fn text(path: &[&str]) -> Option<&'static str> {
    let (last, tables) = path.split_last()?;
    let table = tables.iter().try_fold(table(), |table, key| table.get(*key)?.get_ref().as_table())?;
    match table.get(*last)?.get_ref() {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}
