//! The checksums of rows: what they cover, and the SQL that writes and compares them.
//!
//! Triggers seal every row, whoever writes it. What is written most often brings its checksum along, so that
//! it is written once.

use super::SqlError;
use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;

/// A table whose rows carry a checksum.
pub(crate) struct Sealed {
    pub(crate) table: &'static str,
    /// What names a row.
    pub(crate) identity: &'static [&'static str],
    /// What the checksum covers; a column that is added decides nothing before it stands here.
    pub(crate) columns: &'static [&'static str],
}

pub(super) const CHANGES: Sealed = Sealed {
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

/// How far each destination is.
pub(super) const DESTINATIONS: Sealed = Sealed {
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
};

/// What is known of deliveries that are not settled.
pub(super) const DELIVERIES: Sealed = Sealed {
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
};

/// What a lost row would contradict.
pub(super) const ANCHORS: Sealed =
    Sealed { table: "anchors", identity: &["name"], columns: &["name", "value"] };

/// The tables that only hold what is not settled: they are verified as a whole when a journal is opened.
pub(crate) const SMALL: [Sealed; 6] = [
    ACCEPTED,
    Sealed { table: "resting", identity: &["source"], columns: &["source", "until"] },
    DESTINATIONS,
    DELIVERIES,
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
    ANCHORS,
];

impl Sealed {
    /// The checksum of a row, as SQL over the columns of `of`.
    pub(super) fn sum(&self, of: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| format!("{of}.{column}")).collect();
        format!("tidegate_checksum({})", columns.join(","))
    }

    /// Whether a row is as it was written, as SQL.
    pub(crate) fn is_sound(&self, of: &str) -> String {
        format!("({of}.checksum IS {})", self.sum(of))
    }

    /// Writes a whole row with its checksum: of every column that it covers a parameter, in their order.
    pub(crate) fn insert(&self, verb: &str) -> String {
        let values: Vec<String> = (1..=self.columns.len()).map(|number| format!("?{number}")).collect();
        let (columns, values) = (self.columns.join(","), values.join(","));
        let table = self.table;
        format!("{verb} INTO {table}({columns},checksum) VALUES({values},tidegate_checksum({values}))")
    }

    /// Sets columns, and the checksum of a row that was sound: what the triggers do for every update, without
    /// a second one.
    pub(crate) fn update(&self, set: &[(&str, &str)]) -> String {
        let new =
            |column: &&'static str| set.iter().find(|(name, _)| name == column).map(|(_, value)| *value);
        let values: Vec<&str> = self.columns.iter().map(|column| new(column).unwrap_or(column)).collect();
        let set: Vec<String> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (table, set, values) = (self.table, set.join(","), values.join(","));
        format!(
            "UPDATE {table} SET {set}, checksum=CASE WHEN {} THEN tidegate_checksum({values}) ELSE checksum END",
            self.is_sound(table)
        )
    }

    pub(super) fn triggers(&self) -> String {
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
