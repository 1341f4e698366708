//! `format = "state"`: in a change's place goes what its source has afterwards.

use super::covered::Target;
use super::outcome::retry_after;
use super::reads::Unread;
use crate::sync::change::ChangeId;
use crate::sync::engine::Inner;
use crate::sync::journal::record::{Head, fields_in_place};
use crate::sync::ports::{ReadSource, SourceState, Unreadable};
use bytes::Bytes;
use http::{HeaderMap, Method, header};

/// What a destination is sent in a change's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) change: ChangeId,
    pub(super) head: Head,
    pub(super) body: Bytes,
    pub(super) target: Target,
    /// Every change up to this sequence had happened when the source was read.
    pub(super) as_of: u64,
}

/// What came of reading a source for a change.
#[derive(Debug)]
pub(super) enum Seen {
    /// The destination has a state of its target that was read after it: nothing was read.
    Covered,
    State(Box<Snapshot>),
    /// The source did not tell.
    Unread(Unread),
}

/// Reads what the source of a change has now, unless it is one of these targets.
pub(super) async fn read(inner: &Inner, change: ChangeId, head: Head, key: &str, covered: &[Target]) -> Seen {
    let path_and_query = target(&head, key);
    let target = Target::of(&head.source, &head.authority, &path_and_query);
    if covered.contains(&target) {
        return Seen::Covered;
    }
    // Taken before the read: what happened by now, the read sees.
    let as_of = *inner.journal.newest().borrow();
    let request = ReadSource {
        source: head.source.clone(),
        authority: head.authority.clone(),
        path_and_query: path_and_query.clone(),
        accept: head.fields().get(header::ACCEPT).cloned(),
        known_etag: None,
    };
    let (method, fields, body) = match (inner.ports.read_source)(request).await {
        SourceState::Present { fields, body, .. } => (Method::PUT, fields, body),
        SourceState::Absent => (Method::DELETE, HeaderMap::new(), Bytes::new()),
        SourceState::Unreadable(Unreadable::Answered { status, fields }) => {
            let retry_after = retry_after(&fields, inner.clock.wall());
            return Seen::Unread(Unread { source: head.source, status: Some(status.as_u16()), retry_after });
        }
        SourceState::Unchanged | SourceState::Unreadable(Unreadable::Unanswered) => {
            return Seen::Unread(Unread { source: head.source, status: None, retry_after: None });
        }
    };
    let fields = fields_in_place(&head, &fields);
    let head = Head { method: method.to_string(), path_and_query, fields, ..head };
    Seen::State(Box::new(Snapshot { change, head, body, target, as_of }))
}

/// What is read and sent: the change's own target; of a POST what it made, where its key tells that.
fn target(head: &Head, key: &str) -> String {
    let path = head.path_and_query.split_once('?').map_or(head.path_and_query.as_str(), |(path, _)| path);
    if head.method() == Method::POST && key.starts_with('/') && key != path {
        return key.to_owned();
    }
    head.path_and_query.clone()
}

#[cfg(test)]
impl Snapshot {
    /// Of the change with this sequence; its target is one of three.
    pub(super) fn sample(sequence: u64, as_of: u64) -> Self {
        let text = String::new;
        let path_and_query = format!("/{}", sequence % 3);
        let target = Target::of("", "", &path_and_query);
        let head = Head {
            route: text(),
            source: text(),
            method: "PUT".into(),
            authority: text(),
            client_path_and_query: text(),
            path_and_query,
            fields: Vec::new(),
            known_etag: None,
        };
        let change = ChangeId(uuid::Uuid::from_u64_pair(0, sequence));
        Self { change, head, body: Bytes::new(), target, as_of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_post_what_it_made_is_sent() {
        for (method, path_and_query, key, expected) in [
            ("PUT", "/items/7?x=1", "/items/7", "/items/7?x=1"),
            ("PATCH", "/items/7", "tenant", "/items/7"),
            ("POST", "/items", "/items/7", "/items/7"),
            ("POST", "/items?dry=1", "/items", "/items?dry=1"),
            ("POST", "/items", "7", "/items"),
        ] {
            let head = Head {
                route: "r".into(),
                source: "s".into(),
                method: method.into(),
                authority: "h".into(),
                client_path_and_query: path_and_query.into(),
                path_and_query: path_and_query.into(),
                fields: Vec::new(),
                known_etag: None,
            };
            assert_eq!(target(&head, key), expected, "{method} {path_and_query} {key}");
        }
    }
}
