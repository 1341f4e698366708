//! `config/tidegate.toml`, compiled in: the reference is where the defaults come from.

use std::sync::LazyLock;
use toml::de::DeTable;

/// The reference file.
pub(super) const TEXT: &str = include_str!("../../config/tidegate.toml");

/// Its best-effort reading: the tests prove that it has no fault.
static TABLE: LazyLock<DeTable<'static>> = LazyLock::new(|| DeTable::parse_recoverable(TEXT).0.into_inner());

/// The reference as a table.
pub(super) fn table() -> &'static DeTable<'static> {
    &TABLE
}
