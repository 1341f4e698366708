//! What is written to the journal, as values: `SQLite` is not known here.

use super::at_source::{Acceptance, AtSource};
use super::sqlite::Forgetting;
use crate::clock::Timestamp;
use crate::sync::answers::{ClientKey, KeptAnswer};
use crate::sync::change::ChangeId;
use crate::sync::settings::{DestinationSettings, OnFailure, Start};
use crate::telemetry::trace;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What destinations and the resolver need of a change; everything but the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) route: String,
    pub(crate) source: String,
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) client_path_and_query: String,
    pub(crate) path_and_query: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) known_etag: Option<String>,
}

impl Head {
    /// The method that is delivered.
    pub(crate) fn method(&self) -> Method {
        Method::from_bytes(self.method.as_bytes()).unwrap_or(Method::PUT)
    }

    /// The kept fields.
    pub(crate) fn fields(&self) -> HeaderMap {
        parsed(&self.fields)
    }
}

/// The fields of what goes in a change's place: those of a source's answer, under the trace of the change.
pub(crate) fn fields_in_place(head: &Head, answer: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let own = head.fields.iter().filter(|(name, _)| trace::is_field(name)).cloned();
    let answered = kept_fields(answer).into_iter().filter(|(name, _)| !trace::is_field(name));
    answered.chain(own).collect()
}

fn parsed(fields: &[(String, Vec<u8>)]) -> HeaderMap {
    let parsed = fields.iter().filter_map(|(name, value)| {
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(value).ok()?))
    });
    parsed.collect()
}

/// The fields of a request that destinations get: Content-*, Accept*, Prefer and those of its trace, and of
/// these not Content-Length, which the body gives anew.
pub(crate) fn kept_fields(fields: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let kept = |name: &str| {
        (name.starts_with("content-") && name != "content-length")
            || name.starts_with("accept")
            || name == "prefer"
            || trace::is_field(name)
    };
    let pairs = fields.iter().filter(|(name, _)| kept(name.as_str()));
    pairs.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// A destination in force.
#[derive(Clone, Debug)]
pub(crate) struct Enlisted {
    pub(crate) name: String,
    /// Where it starts if it is new.
    pub(crate) start: Start,
}

impl From<&DestinationSettings> for Enlisted {
    fn from(settings: &DestinationSettings) -> Self {
        Self { name: settings.name.clone(), start: settings.start.clone() }
    }
}

#[cfg(test)]
impl From<&str> for Enlisted {
    fn from(name: &str) -> Self {
        Self { name: name.into(), start: Start::Now }
    }
}

/// An intent to be recorded.
#[derive(Clone, Debug)]
pub(crate) struct NewChange {
    pub(crate) id: ChangeId,
    pub(crate) key: String,
    pub(crate) destinations: Vec<String>,
    pub(crate) head: Head,
    pub(crate) body: Bytes,
    pub(crate) recorded_at: Timestamp,
    /// The client's Idempotency-Key, if it sent one.
    pub(crate) client_key: Option<ClientKey>,
    /// Kept where the source takes a write again.
    pub(crate) for_source: Option<ForSource>,
    /// `Some`: its client is answered before its source is asked.
    pub(crate) accepted: Option<Acceptance>,
}

/// What of a write the source alone gets, where it may be sent to it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForSource {
    /// The client's, or the change's own, as it stands in the field.
    pub(crate) idempotency_key: String,
    conditions: Vec<(String, Vec<u8>)>,
    pub(crate) keyed: Keyed,
}

/// Where the key of a write comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Keyed {
    /// Its request.
    Before,
    /// The Location of its answer.
    ByLocation,
}

impl ForSource {
    /// The Idempotency-Key, the client's or the change's own, and the preconditions.
    pub(crate) fn of(fields: &HeaderMap, id: ChangeId, keyed: Keyed) -> Self {
        let conditions = fields.iter().filter(|(name, _)| name.as_str().starts_with("if-"));
        let own = fields.get("idempotency-key").and_then(|key| key.to_str().ok());
        Self {
            idempotency_key: own.map_or_else(|| format!("\"{id}\""), str::to_owned),
            conditions: conditions
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect(),
            keyed,
        }
    }

    /// The preconditions.
    pub(crate) fn conditions(&self) -> HeaderMap {
        parsed(&self.conditions)
    }
}

/// What became of an intent.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// The source did it; `key` replaces the intent's where the answer named one.
    Committed { key: Option<String> },
    /// The source did not.
    Aborted,
    /// Nobody knows yet.
    InDoubt,
    /// The source was read again: this is what is delivered.
    Reconciled { head: Box<Head>, body: Bytes },
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Delivered,
    Absent,
    Superseded,
}

/// The past of a delivery that has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// Attempts made.
    pub(crate) attempts: u32,
    /// Those of them that tell nothing of the delivery itself: probes of a destination in trouble, and
    /// those that it refused as such.
    pub(crate) excused: u32,
    /// Milliseconds spent in the other attempts and after them; pauses and holds left out.
    pub(crate) waited_millis: u64,
    /// When the first attempt began.
    pub(crate) first_at: Option<Timestamp>,
    /// Whether an attempt's answer was lost: the destination may have acted on it.
    pub(crate) answer_lost: bool,
    /// It was a dead letter: what it meets says nothing to the breaker.
    pub(crate) redriven: bool,
    /// The destination has had it before.
    pub(crate) replay: bool,
}

impl Past {
    /// Attempts that count toward giving up.
    pub(crate) const fn counted(&self) -> u32 {
        self.attempts.saturating_sub(self.excused)
    }
}

/// A delivery that ended without success.
#[derive(Clone, Debug)]
pub(crate) struct Burial {
    pub(crate) change: ChangeId,
    pub(crate) class: &'static str,
    pub(crate) code: &'static str,
    pub(crate) status: Option<u16>,
    pub(crate) last_at: Timestamp,
    pub(crate) answer: String,
}

/// What the later changes of a key do in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followers {
    /// They wait for an earlier one.
    Behind,
    /// They wait for a dead letter; where none is left any more, as the others do.
    Parked,
}

/// A delivery worker's word on one destination. `frontier`: every change up to it is settled or has
/// a row of its own.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) destination: i64,
    pub(crate) frontier: u64,
    pub(crate) step: Step,
}

/// What happened to deliveries of one key.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// One is done; earlier dead letters of its key are older than what the destination has.
    Settle { key: Arc<str>, sequence: u64, settled: Settled, attempts: u32 },
    /// One waits; those of its key that were read already wait behind it.
    Defer {
        key: Arc<str>,
        sequence: u64,
        past: Past,
        next_at: Timestamp,
        last_error: String,
        behind: Vec<u64>,
        destination_waits_until: Option<Timestamp>,
    },
    /// One is a dead letter; those of its key go on or are parked.
    Bury {
        key: Arc<str>,
        sequence: u64,
        past: Past,
        burial: Box<Burial>,
        followers: Vec<u64>,
        on_failure: OnFailure,
    },
    /// Changes were read whose keys wait.
    Spill { rows: Vec<(Arc<str>, u64, Followers)> },
}

/// A change whose record does not match its checksum, by what is still known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suspect {
    /// The number of its row.
    Number(i64),
    /// Its place in its lane.
    Sequence(u64),
}

/// One thing to be written.
#[derive(Debug)]
pub(crate) enum Record {
    Intent(Box<NewChange>),
    Outcome {
        change: ChangeId,
        verdict: Verdict,
        /// Kept for the change's Idempotency-Key, if it has one.
        answer: Option<Box<KeptAnswer>>,
    },
    Progress(Box<Progress>),
    /// An accepted change moves on at its source.
    AtSource(Box<AtSource>),
    /// Another configuration is about to be in force: its destinations are known from now on, and only they
    /// keep retention waiting. Told once it is written, or refused.
    InForce {
        destinations: Vec<Enlisted>,
        max_size_bytes: u64,
    },
    /// A destination starts, with this `on_failure`: rows that another one left behind dead letters
    /// wait or are parked as it says.
    Adopt {
        destination: i64,
        on_failure: OnFailure,
    },
    /// Dead letters of a destination wait again; behind an older one that parks they are parked.
    Redrive {
        destination: i64,
        sequences: Vec<u64>,
        on_failure: OnFailure,
    },
    /// Dead letters are given up.
    Discard {
        destination: i64,
        sequences: Vec<u64>,
    },
    /// What waits of a key is marked as parked or not, after a sequence; one step of it.
    Arrange {
        destination: i64,
        key: Arc<str>,
        on_failure: OnFailure,
        after: u64,
    },
    /// What a destination has got of a key, from a change on, waits to be sent again; one step of it.
    Replay {
        destination: i64,
        key: Arc<str>,
        from: u64,
    },
    /// Resuming ends the wait that the destination asked for.
    Pause {
        destination: i64,
        paused: bool,
    },
    /// The waits of single deliveries end, after a sequence; one step of it.
    Wake {
        destination: i64,
        after: u64,
    },
    /// Nothing is kept for a destination any more, until it is attached again.
    Detach {
        destination: i64,
    },
    /// What waits for a detached destination goes; one step of it.
    Clear {
        destination: i64,
    },
    /// A detached destination for which nothing is left starts at the newest change, which is told.
    Attach {
        destination: i64,
    },
    /// A destination that is not in force goes with all that the journal has for it; one step of it.
    Forget {
        destination: i64,
    },
    /// A destination has taken its first delivery.
    Proven {
        destination: i64,
    },
    /// One step of retention, behind the change up to which the last one looked: delivered changes go.
    Retain {
        delivered_before: Timestamp,
        after: u64,
    },
    /// Changes whose records do not match their checksums.
    Quarantine {
        suspects: Vec<Suspect>,
    },
    /// One step of forgetting clients' Idempotency-Keys.
    ForgetAnswers(Forgetting),
    /// Writes nothing: told once everything that was queued before it is durable.
    Flush,
}

impl Record {
    /// An outcome without an answer that is kept.
    pub(crate) const fn outcome(change: ChangeId, verdict: Verdict) -> Self {
        Self::Outcome { change, verdict, answer: None }
    }

    /// About how much it adds to a group.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Intent(change) => change.body.len(),
            Self::Outcome { verdict: Verdict::Reconciled { body, .. }, .. } => body.len(),
            Self::Outcome { answer: Some(answer), .. } => answer.body.len(),
            _ => 0,
        }
    }
}

/// Why a record was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written")]
pub(crate) struct Unwritten;

/// Bits of a sequence below its milliseconds. With eleven, sequences stay below 2^53 (exact in
/// JSON) until the year 2109; more than 2,048 changes in a millisecond carry into the next.
pub(crate) const SEQUENCE_COUNTER_BITS: u32 = 11;

/// The sequence after `last`: a hybrid clock, larger than every one before.
pub(crate) fn next_sequence(last: u64, now: Timestamp) -> u64 {
    (now.as_millis() << SEQUENCE_COUNTER_BITS).max(last.saturating_add(1))
}

/// The smallest sequence of a time. It stays within what the journal can store.
pub(crate) fn first_sequence(at: Timestamp) -> u64 {
    at.as_millis().min(i64::MAX.unsigned_abs() >> SEQUENCE_COUNTER_BITS) << SEQUENCE_COUNTER_BITS
}

/// When a sequence was given.
pub(crate) fn sequence_time(sequence: u64) -> Timestamp {
    Timestamp::from_millis(sequence >> SEQUENCE_COUNTER_BITS)
}

/// The checksum over a change's content: rapidhash v3 over length-prefixed parts. Part of the format.
pub(crate) fn checksum(id: ChangeId, key: &str, head: &[u8], body: &[u8]) -> i64 {
    let mut text = Vec::with_capacity(64 + key.len() + head.len() + body.len());
    for part in [id.0.as_bytes().as_slice(), key.as_bytes(), head, body] {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part);
    }
    rapidhash::v3::rapidhash_v3(&text).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::answers::KeptHead;

    #[test]
    fn i3_sequences_only_grow() {
        let at = |millis| Timestamp::from_millis(millis);
        let first = next_sequence(0, at(1_700_000_000_000));
        assert_eq!(sequence_time(first), at(1_700_000_000_000));
        assert_eq!(next_sequence(first, at(1_700_000_000_000)), first + 1);
        assert_eq!(next_sequence(first, at(5)), first + 1, "a clock that went back");
        assert!(next_sequence(first, at(4_000_000_000_000)) < 1 << 53);
    }

    #[test]
    fn what_a_client_sent_for_the_source_alone_is_not_kept() {
        let mut fields = HeaderMap::new();
        for name in ["content-type", "content-length", "accept-language", "prefer", "authorization", "cookie"]
            .into_iter()
            .chain(["traceparent", "tracestate", "baggage"])
            .chain(["if-match", "tidegate-key", "webhook-id", "ce-id", "idempotency-key"])
        {
            fields.insert(name, HeaderValue::from_static("x"));
        }
        let mut names: Vec<_> = kept_fields(&fields).into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["accept-language", "content-type", "prefer", "traceparent", "tracestate"]);
    }

    fn head(method: &str, fields: &[(&str, &[u8])]) -> Head {
        Head {
            route: "items".into(),
            source: "inventory".into(),
            method: method.into(),
            authority: "localhost".into(),
            client_path_and_query: "/items/1".into(),
            path_and_query: "/items/1".into(),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect(),
            known_etag: None,
        }
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_head_is_read_as_it_was_kept() {
        for method in ["PUT", "DELETE", "PATCH", "GET"] {
            assert_eq!(head(method, &[]).method().as_str(), method);
        }
        assert_eq!(head("no method", &[]).method(), Method::PUT, "one that nobody can have written");
        let kept = head("PUT", &[("content-type", b"a/b"), ("accept", b"c"), ("accept", b"d"), ("\0", b"e")]);
        assert_eq!(kept.fields(), map(&[("content-type", "a/b"), ("accept", "c"), ("accept", "d")]));
    }

    #[test]
    fn what_goes_in_the_place_of_a_change_has_the_answers_fields_and_its_trace() {
        let own = head("PUT", &[("content-type", b"own"), ("traceparent", b"own"), ("prefer", b"own")]);
        let answer = map(&[("content-type", "answer"), ("traceparent", "answer"), ("etag", "\"a\"")]);
        let fields = fields_in_place(&own, &answer);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert_eq!(fields, [("content-type", &b"answer"[..]), ("traceparent", b"own")]);
    }

    #[test]
    fn what_a_source_gets_again_has_its_conditions_and_a_key() {
        let id = ChangeId(uuid::Uuid::nil());
        let conditions = map(&[("if-match", "\"a\""), ("if-unmodified-since", "then")]);
        let mut asked = conditions.clone();
        asked.insert("content-type", HeaderValue::from_static("a/b"));
        let kept = ForSource::of(&asked, id, Keyed::Before);
        assert_eq!((kept.conditions(), kept.idempotency_key), (conditions, format!("\"{id}\"")));
        asked.insert("idempotency-key", HeaderValue::from_static("\"own\""));
        assert_eq!(ForSource::of(&asked, id, Keyed::Before).idempotency_key, "\"own\"");
    }

    #[test]
    fn attempts_that_were_excused_do_not_count() {
        for (attempts, excused, counted) in [(0, 0, 0), (5, 0, 5), (5, 2, 3), (5, 5, 0), (1, 2, 0)] {
            assert_eq!(Past { attempts, excused, ..Past::default() }.counted(), counted);
        }
    }

    #[test]
    fn i10_what_a_record_adds_to_a_group_is_its_content() {
        let verdict =
            Verdict::Reconciled { head: Box::new(head("PUT", &[])), body: Bytes::from_static(b"abc") };
        let id = ChangeId(uuid::Uuid::nil());
        assert_eq!(Record::outcome(id, verdict).weight(), 3);
        let change = NewChange {
            id,
            key: "/items/1".into(),
            destinations: Vec::new(),
            head: head("PUT", &[]),
            body: Bytes::from_static(b"12345"),
            recorded_at: Timestamp::default(),
            client_key: None,
            for_source: None,
            accepted: None,
        };
        assert_eq!(Record::Intent(Box::new(change)).weight(), 5);
        let kept = KeptHead { status: 200, fields: Vec::new() };
        let answer = Some(Box::new(KeptAnswer { head: kept, body: Bytes::from_static(b"1234567") }));
        assert_eq!(Record::Outcome { change: id, verdict: Verdict::Aborted, answer }.weight(), 7);
        assert_eq!(Record::outcome(id, Verdict::Aborted).weight(), 0);
        assert_eq!(Record::Flush.weight(), 0);
    }

    #[test]
    fn the_first_sequence_of_a_time_is_before_all_that_were_given_then() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let first = first_sequence(at);
        assert_eq!((sequence_time(first), first.trailing_zeros() >= SEQUENCE_COUNTER_BITS), (at, true));
        assert_eq!(next_sequence(first - 1, at), first);
        assert!(
            i64::try_from(first_sequence(Timestamp::from_millis(u64::MAX))).is_ok(),
            "the journal stores it"
        );
    }

    #[test]
    fn checksums_cover_every_part() {
        let id = ChangeId(uuid::Uuid::nil());
        let sum = checksum(id, "k", b"head", b"body");
        for other in [
            checksum(ChangeId(uuid::Uuid::max()), "k", b"head", b"body"),
            checksum(id, "kh", b"ead", b"body"),
            checksum(id, "k", b"headb", b"ody"),
            checksum(id, "k", b"head", b"bodz"),
        ] {
            assert_ne!(sum, other);
        }
    }
}
