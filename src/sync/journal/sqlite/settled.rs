//! What is settled: the proof that a destination has had a change, for operators. It decides nothing.
//!
//! A change at or below a destination's frontier that has neither a row of its own nor this proof was never
//! sent to it: it was detached then, or given up with the destination of that name before. Journals of before
//! format 3 kept no proof; `anchors` has the newest change of such a one.

use super::sealed::Sealed;
use super::verify::is_corrupt;
use super::{SqlError, Store};
use crate::clock::Timestamp;
use rusqlite::params;
use std::sync::LazyLock;

/// Since format 3: when a delivery was settled last, and after how many attempts.
pub(super) const TABLE: &str = "
CREATE TABLE settled(
  destination INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  at INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  checksum INTEGER,
  PRIMARY KEY(destination, sequence)
) WITHOUT ROWID;
";

/// Each row is verified when it is shown, and all of them by `tidegate journal check`.
pub(super) const SETTLED: Sealed = Sealed {
    table: "settled",
    identity: &["destination", "sequence"],
    columns: &["destination", "sequence", "at", "attempts"],
};

/// Attempts of a change that is sent again after it was settled are added to those before.
static NOTED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} ON CONFLICT DO UPDATE SET at=?3, attempts=attempts+?4, checksum=CASE WHEN {}
         THEN tidegate_checksum(destination,sequence,?3,attempts+?4) ELSE checksum END",
        SETTLED.insert("INSERT"),
        SETTLED.is_sound("settled")
    )
});

/// Notes that a delivery is settled, after so many attempts.
pub(super) fn note(
    store: &Store,
    destination: i64,
    sequence: u64,
    attempts: u32,
    now: Timestamp,
) -> Result<(), SqlError> {
    let bounds = params![destination, sequence.cast_signed(), now.as_millis().cast_signed(), attempts];
    match store.prepare_cached(&NOTED).and_then(|mut statement| statement.execute(bounds)) {
        Ok(_) => Ok(()),
        // Damage of it stops nobody.
        Err(error) if is_corrupt(&error) => {
            tracing::error!(%error, destination, sequence, "when a delivery was settled is not noted");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// How many rows do not match their checksums.
pub(super) fn damaged(store: &Store) -> Result<u64, SqlError> {
    let sql = format!("SELECT count(*) FROM settled s WHERE NOT {}", SETTLED.is_sound("s"));
    store.query_row(&sql, [], |row| row.get(0))
}
