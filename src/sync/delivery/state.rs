//! `format = "state"`: in a change's place goes what its source has afterwards. What was read after several
//! changes of a key stands for all of them.

use crate::sync::engine::Inner;
use crate::sync::journal::record::{Head, kept_fields};
use crate::sync::ports::{ReadSource, SourceState};
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keys of which is known up to where the destination has them; beyond that all are forgotten, and what is
/// forgotten is sent once more (I10).
const COVERED_MAX: usize = 65_536;

/// What a destination is sent in a change's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) head: Head,
    pub(super) body: Bytes,
    /// Every change up to this sequence had happened when the source was read.
    pub(super) as_of: u64,
}

/// The states that one destination gets.
#[derive(Debug)]
pub(super) struct States {
    inner: Arc<Inner>,
    /// By key: the destination has what its source had after this sequence.
    covered: Mutex<HashMap<Arc<str>, u64>>,
}

impl States {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, covered: Mutex::default() }
    }

    /// Whether the destination has a state already that was read after this change.
    pub(super) fn covers(&self, key: &str, sequence: u64) -> bool {
        let mut covered = self.covered();
        match covered.get(key) {
            Some(up_to) if *up_to >= sequence => true,
            Some(_) => {
                covered.remove(key);
                false
            }
            None => false,
        }
    }

    /// The destination has what was read.
    pub(super) fn delivered(&self, key: &Arc<str>, sequence: u64, as_of: u64) {
        // Nothing newer had happened anywhere: nothing is covered but the change itself.
        if as_of <= sequence {
            return;
        }
        let mut covered = self.covered();
        if covered.len() >= COVERED_MAX {
            covered.clear();
        }
        covered.insert(Arc::clone(key), as_of);
    }

    /// Reads what the source has now; `None` where it does not tell.
    pub(super) async fn read(&self, head: Head, key: &str) -> Option<Snapshot> {
        // Taken before the read: what happened by now, the read sees.
        let as_of = *self.inner.journal.newest().borrow();
        let path_and_query = target(&head, key);
        let request = ReadSource {
            source: head.source.clone(),
            authority: head.authority.clone(),
            path_and_query: path_and_query.clone(),
            accept: head.fields().get(header::ACCEPT).cloned(),
            known_etag: None,
        };
        let state = (self.inner.ports.read_source)(request).await;
        let (method, fields, body) = match state {
            SourceState::Present { fields, body, .. } => (Method::PUT, fields, body),
            SourceState::Absent => (Method::DELETE, HeaderMap::new(), Bytes::new()),
            SourceState::Unchanged | SourceState::Unreadable => return None,
        };
        let fields = kept_fields(&fields);
        Some(Snapshot {
            head: Head { method: method.to_string(), path_and_query, fields, ..head },
            body,
            as_of,
        })
    }

    fn covered(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.covered.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
