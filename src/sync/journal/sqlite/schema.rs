//! The tables, their versions, and what keeps each row's checksum.
//!
//! Triggers give every row that decides something a checksum over what it says, whoever writes it; a row
//! that does not match is not made sound by a later update. `anchors` holds what a lost row would
//! contradict. `SQLite`'s own pages have no checksums.

use super::{SqlError, Store, accepted, answers};
use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
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
  id INTEGER PRIMARY KEY,
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
ALTER TABLE destinations ADD COLUMN proven INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destinations ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destinations ADD COLUMN adopted_number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destinations ADD COLUMN adopted_routes TEXT NOT NULL DEFAULT '[]';
CREATE INDEX changes_route ON changes(route, sequence) WHERE sequence IS NOT NULL;
ALTER TABLE changes ADD COLUMN previous INTEGER;
ALTER TABLE changes ADD COLUMN for_source BLOB;
ALTER TABLE changes ADD COLUMN checksum INTEGER;
ALTER TABLE contents ADD COLUMN key TEXT;
ALTER TABLE destinations ADD COLUMN checksum INTEGER;
DROP INDEX changes_key;
CREATE INDEX changes_key ON changes(key, sequence);
ALTER TABLE deliveries ADD COLUMN redriven INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN replay INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN checksum INTEGER;
CREATE INDEX deliveries_replay ON deliveries(destination, state) WHERE replay=1;
ALTER TABLE dead_letters ADD COLUMN checksum INTEGER;
UPDATE changes SET previous=(SELECT max(p.sequence) FROM changes p WHERE p.sequence<changes.sequence);
";

/// New in format 3: when and after how many attempts a delivery was settled.
const SETTLED: &str = "
CREATE TABLE settled(
  destination INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  at INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  PRIMARY KEY(destination, sequence)
) WITHOUT ROWID;
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
  ('retained_to', (SELECT CASE WHEN m.value > coalesce(max(c.sequence), 0) THEN m.value
                          ELSE coalesce(min(c.sequence) - 1, 0) END
                   FROM meta m LEFT JOIN changes c WHERE m.name='last_sequence'));
CREATE TRIGGER changes_opened AFTER INSERT ON changes WHEN NEW.state IN (0,1,5,6)
BEGIN UPDATE anchors SET value=value+1 WHERE name='open'; END;
CREATE TRIGGER changes_decided AFTER UPDATE OF state ON changes
WHEN (NEW.state IN (0,1,5,6)) IS NOT (OLD.state IN (0,1,5,6))
BEGIN UPDATE anchors SET value=value+(NEW.state IN (0,1,5,6))-(OLD.state IN (0,1,5,6)) WHERE name='open'; END;
CREATE TRIGGER changes_deleted AFTER DELETE ON changes WHEN OLD.state IN (0,1,5,6)
BEGIN UPDATE anchors SET value=value-1 WHERE name='open'; END;
";

/// A table whose rows carry a checksum.
pub(crate) struct Sealed {
    pub(crate) table: &'static str,
    /// What names a row.
    pub(crate) identity: &'static [&'static str],
    /// What the checksum covers; a column that is added decides nothing before it stands here.
    pub(crate) columns: &'static [&'static str],
}

const CHANGES: Sealed = Sealed {
    table: "changes",
    identity: &["number"],
    columns: &[
        "id",
        "state",
        "sequence",
        "previous",
        "lane",
        "key",
        "route",
        "source",
        "method",
        "target",
        "recorded_at",
        "destinations",
        "for_source",
    ],
};

/// Accepted changes on their way to their source.
pub(crate) const ACCEPTED: Sealed = Sealed {
    table: "accepted",
    identity: &["number"],
    columns: &[
        "number",
        "source",
        "turn",
        "state",
        "parks",
        "conditions",
        "next_at",
        "sent",
        "attempts",
        "waited",
        "first_at",
        "answer_lost",
        "last_error",
        "class",
        "code",
        "status",
        "last_at",
        "answer",
        "overtaken",
    ],
};

/// Clients' Idempotency-Keys; each is verified when it is asked for.
pub(crate) const ANSWERS: Sealed = Sealed {
    table: "answers",
    identity: &["scope"],
    columns: &["scope", "fingerprint", "change", "accepted", "state", "until", "head", "body"],
};

/// The tables that only hold what is not settled: they are verified as a whole when a journal is opened.
pub(crate) const SMALL: [Sealed; 6] = [
    ACCEPTED,
    Sealed { table: "resting", identity: &["source"], columns: &["source", "until"] },
    Sealed {
        table: "destinations",
        identity: &["id"],
        columns: &[
            "id",
            "name",
            "frontier",
            "paused",
            "waits_until",
            "proven",
            "detached",
            "adopted_number",
            "adopted_routes",
        ],
    },
    Sealed {
        table: "deliveries",
        identity: &["destination", "sequence"],
        columns: &[
            "destination",
            "sequence",
            "key",
            "state",
            "attempts",
            "excused",
            "waited",
            "first_at",
            "answer_lost",
            "next_at",
            "last_error",
            "redriven",
            "replay",
        ],
    },
    Sealed {
        table: "dead_letters",
        identity: &["destination", "sequence"],
        columns: &[
            "destination",
            "sequence",
            "id",
            "key",
            "class",
            "code",
            "status",
            "attempts",
            "first_at",
            "last_at",
            "answer",
            "overtaken",
        ],
    },
    Sealed { table: "anchors", identity: &["name"], columns: &["name", "value"] },
];

impl Sealed {
    /// The checksum of a row, as SQL over the columns of `of`.
    fn sum(&self, of: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| format!("{of}.{column}")).collect();
        format!("tidegate_checksum({})", columns.join(","))
    }

    /// Whether a row is as it was written, as SQL.
    pub(crate) fn is_sound(&self, of: &str) -> String {
        format!("({of}.checksum IS {})", self.sum(of))
    }

    fn triggers(&self) -> String {
        let table = self.table;
        let row: Vec<String> = self.identity.iter().map(|name| format!("{name}=NEW.{name}")).collect();
        let seal = format!(
            "BEGIN UPDATE {table} SET checksum={} WHERE {}; END;",
            self.sum("NEW"),
            row.join(" AND ")
        );
        format!(
            "CREATE TRIGGER {table}_sealed AFTER INSERT ON {table} WHEN NEW.checksum IS NULL {seal}
             CREATE TRIGGER {table}_resealed AFTER UPDATE OF {} ON {table}
             WHEN NEW.checksum IS OLD.checksum AND {} {seal}",
            self.columns.join(","),
            self.is_sound("OLD"),
        )
    }
}

/// Whether the row of `changes` that is called `c` is as it was written, as SQL.
pub(crate) fn is_sound_change() -> String {
    CHANGES.is_sound("c")
}

/// Makes a new journal of an empty file, or the newest format of an older one.
pub(crate) fn make(store: &mut Store, format: i64) -> Result<(), SqlError> {
    let steps: &[&str] = match format {
        0 => &[SCHEMA, SETTLED, accepted::TABLES, answers::TABLE, DAMAGE],
        1 => &[UPGRADE_1, UPGRADE_2, SETTLED, accepted::TABLES, answers::TABLE, DAMAGE],
        2 => &[UPGRADE_2, SETTLED, accepted::TABLES, answers::TABLE, DAMAGE],
        _ => return Ok(()),
    };
    let transaction = store.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    for sealed in [&CHANGES, &ANSWERS].into_iter().chain(&SMALL) {
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

/// Makes the checksum known to a connection. Part of the format.
pub(super) fn teach(store: &Connection) -> Result<(), SqlError> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    store.create_scalar_function("tidegate_checksum", -1, flags, |values| Ok(sum(values)))
}

fn sum(values: &Context<'_>) -> i64 {
    let mut text = Vec::with_capacity(256);
    for at in 0..values.len() {
        let (kind, bytes): (u8, &[u8]) = match values.get_raw(at) {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(number) => {
                text.push(1);
                text.extend_from_slice(&number.to_le_bytes());
                continue;
            }
            ValueRef::Real(number) => {
                text.push(2);
                text.extend_from_slice(&number.to_le_bytes());
                continue;
            }
            ValueRef::Text(bytes) => (3, bytes),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        text.push(kind);
        text.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        text.extend_from_slice(bytes);
    }
    rapidhash::v3::rapidhash_v3(&text).cast_signed()
}
