//! The tables and their versions.
//!
//! Every row that decides something has a checksum over what it says, see `sealed`; a row that does not
//! match is not made sound by a later update. `anchors` holds what a lost row would contradict. `SQLite`'s
//! own pages have no checksums.

use super::sealed::{ANCHORS, ANSWERS, CHANGES, SMALL, Sealed};
use super::settled::SETTLED;
use super::{SqlError, Store, accepted, answers, settled};
use std::fmt::Write as _;

/// The version of the format; a newer one is refused, an older one is upgraded in place.
pub(crate) const FORMAT: i64 = 3;

const SCHEMA: &str = "
CREATE TABLE changes(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id BLOB NOT NULL UNIQUE,
  state INTEGER NOT NULL,
  sequence INTEGER UNIQUE,
  lane INTEGER NOT NULL,
  key TEXT NOT NULL,
  route TEXT NOT NULL,
  source TEXT NOT NULL,
  method TEXT NOT NULL,
  target TEXT NOT NULL,
  recorded_at INTEGER NOT NULL,
  destinations TEXT NOT NULL,
  previous INTEGER,
  for_source BLOB,
  checksum INTEGER
);
CREATE INDEX changes_open ON changes(state, number) WHERE state IN (0, 1);
CREATE INDEX changes_unplaced ON changes(recorded_at) WHERE sequence IS NULL;
CREATE INDEX changes_key ON changes(key, sequence);
CREATE INDEX changes_route ON changes(route, sequence) WHERE sequence IS NOT NULL;
CREATE TABLE contents(
  number INTEGER PRIMARY KEY,
  head BLOB NOT NULL,
  body BLOB NOT NULL,
  checksum INTEGER NOT NULL,
  key TEXT
);
CREATE TABLE destinations(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  frontier INTEGER NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0,
  waits_until INTEGER NOT NULL DEFAULT 0,
  proven INTEGER NOT NULL DEFAULT 0,
  detached INTEGER NOT NULL DEFAULT 0,
  adopted_number INTEGER NOT NULL DEFAULT 0,
  adopted_routes TEXT NOT NULL DEFAULT '[]',
  checksum INTEGER
);
CREATE TABLE deliveries(
  destination INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  key TEXT NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  excused INTEGER NOT NULL DEFAULT 0,
  waited INTEGER NOT NULL DEFAULT 0,
  first_at INTEGER,
  answer_lost INTEGER NOT NULL DEFAULT 0,
  next_at INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  redriven INTEGER NOT NULL DEFAULT 0,
  replay INTEGER NOT NULL DEFAULT 0,
  checksum INTEGER,
  PRIMARY KEY(destination, sequence)
) WITHOUT ROWID;
CREATE INDEX deliveries_key ON deliveries(destination, key, sequence);
CREATE INDEX deliveries_state ON deliveries(destination, state, sequence);
CREATE INDEX deliveries_replay ON deliveries(destination, state) WHERE replay=1;
CREATE TABLE dead_letters(
  destination INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  id BLOB NOT NULL,
  key TEXT NOT NULL,
  class TEXT NOT NULL,
  code TEXT NOT NULL,
  status INTEGER,
  attempts INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  answer TEXT NOT NULL,
  overtaken INTEGER NOT NULL DEFAULT 0,
  checksum INTEGER,
  PRIMARY KEY(destination, sequence)
) WITHOUT ROWID;
CREATE INDEX dead_letters_key ON dead_letters(destination, key);
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('last_sequence', 0), ('journal', random());
";

/// From format 1 to 2.
const UPGRADE_1: &str = "
ALTER TABLE deliveries ADD COLUMN excused INTEGER NOT NULL DEFAULT 0;
INSERT INTO meta VALUES('journal', random());
";

/// From format 2 to 3.
const UPGRADE_2: &str = "
ALTER TABLE destinations RENAME TO destinations_before;
CREATE TABLE destinations(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  frontier INTEGER NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0,
  waits_until INTEGER NOT NULL DEFAULT 0,
  proven INTEGER NOT NULL DEFAULT 0,
  detached INTEGER NOT NULL DEFAULT 0,
  adopted_number INTEGER NOT NULL DEFAULT 0,
  adopted_routes TEXT NOT NULL DEFAULT '[]',
  checksum INTEGER
);
INSERT INTO destinations(id, name, frontier, paused, waits_until)
  SELECT id, name, frontier, paused, waits_until FROM destinations_before;
DROP TABLE destinations_before;
CREATE INDEX changes_route ON changes(route, sequence) WHERE sequence IS NOT NULL;
ALTER TABLE changes ADD COLUMN previous INTEGER;
ALTER TABLE changes ADD COLUMN for_source BLOB;
ALTER TABLE changes ADD COLUMN checksum INTEGER;
ALTER TABLE contents ADD COLUMN key TEXT;
DROP INDEX changes_key;
CREATE INDEX changes_key ON changes(key, sequence);
ALTER TABLE deliveries ADD COLUMN redriven INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN replay INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN checksum INTEGER;
CREATE INDEX deliveries_replay ON deliveries(destination, state) WHERE replay=1;
ALTER TABLE dead_letters ADD COLUMN checksum INTEGER;
UPDATE changes SET previous=(SELECT max(p.sequence) FROM changes p WHERE p.sequence<changes.sequence);
";

/// New in format 3, and filled from what there is.
const DAMAGE: &str = "
CREATE TABLE damaged(
  number INTEGER PRIMARY KEY,
  sequence INTEGER,
  id BLOB,
  key TEXT,
  found_at INTEGER NOT NULL
);
CREATE TABLE anchors(name TEXT PRIMARY KEY, value INTEGER NOT NULL, checksum INTEGER) WITHOUT ROWID;
INSERT INTO anchors(name, value) VALUES
  ('open', (SELECT count(*) FROM changes WHERE state IN (0,1,5,6))),
  ('unproven_to', (SELECT value FROM meta WHERE name='last_sequence')),
  ('retained_to', (SELECT CASE WHEN m.value > coalesce(max(c.sequence), 0) THEN m.value
                          ELSE coalesce(min(c.sequence) - 1, 0) END
                   FROM meta m LEFT JOIN changes c WHERE m.name='last_sequence'));
";

/// What counts the open changes, whoever opens or decides one.
fn counting() -> String {
    let by = |count: &str| {
        format!("{} WHERE name='open'", ANCHORS.update(&[("value", &format!("value+({count})"))]))
    };
    let (is_open, was_open) = ("(NEW.state IN (0,1,5,6))", "(OLD.state IN (0,1,5,6))");
    format!(
        "CREATE TRIGGER changes_opened AFTER INSERT ON changes WHEN {is_open} BEGIN {}; END;
         CREATE TRIGGER changes_decided AFTER UPDATE OF state ON changes WHEN {is_open} IS NOT {was_open}
         BEGIN {}; END;
         CREATE TRIGGER changes_deleted AFTER DELETE ON changes WHEN {was_open} BEGIN {}; END;",
        by("1"),
        by(&format!("{is_open}-{was_open}")),
        by("-1"),
    )
}

/// Makes a new journal of an empty file, or the newest format of an older one.
pub(crate) fn make(store: &mut Store, format: i64) -> Result<(), SqlError> {
    let steps: &[&str] = match format {
        0 => &[SCHEMA, settled::TABLE, accepted::TABLES, answers::TABLE, DAMAGE],
        1 => &[UPGRADE_1, UPGRADE_2, settled::TABLE, accepted::TABLES, answers::TABLE, DAMAGE],
        2 => &[UPGRADE_2, settled::TABLE, accepted::TABLES, answers::TABLE, DAMAGE],
        _ => return Ok(()),
    };
    let transaction = store.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.execute_batch(&counting())?;
    for sealed in [&CHANGES, &ANSWERS, &SETTLED].into_iter().chain(&SMALL) {
        let Sealed { table, .. } = sealed;
        transaction.execute_batch(&format!("UPDATE {table} SET checksum={}", sealed.sum(table)))?;
        transaction.execute_batch(&sealed.triggers())?;
    }
    transaction
        .execute("INSERT INTO anchors(name, value) VALUES('schema', ?1)", [sum_of_schema(&transaction)?])?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// A checksum over the text of every table, index and trigger that is not `SQLite`'s own.
pub(crate) fn sum_of_schema(store: &Store) -> Result<i64, SqlError> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL
               AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY type, name";
    let mut statement = store.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut text = String::new();
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            // Writing to a String does not fail.
            writeln!(text, "{}", row.get::<_, String>(column)?).unwrap_or_default();
        }
    }
    Ok(rapidhash::v3::rapidhash_v3(text.as_bytes()).cast_signed())
}
