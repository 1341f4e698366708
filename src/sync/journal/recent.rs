//! Contents that were recorded a moment ago: what is delivered at once is not read back from the disk.
//!
//! Only what this process wrote itself and was told to be durable is here, and only so much of it. A
//! destination that has fallen behind finds nothing here, and reads.

use super::at_source::Acceptance;
use super::record::{Head, NewChange, Past, Verdict};
use super::sqlite::{Stored, ToSend};
use crate::sync::change::ChangeId;
use crate::sync::settings::OnRefusal;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of contents that are kept.
const BYTES_MAX: usize = 8 << 20;
/// The largest body that is kept: to read one that is larger costs little beside sending it.
const BODY_BYTES_MAX: usize = 64 << 10;
/// What a content takes besides its body, about.
const OVERHEAD_BYTES: usize = 1 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    contents: HashMap<ChangeId, Content>,
    places: HashMap<u64, ChangeId>,
    /// Accepted changes by their number, until they have an outcome.
    accepted: HashMap<i64, ChangeId>,
    oldest_first: VecDeque<ChangeId>,
    bytes: usize,
}

#[derive(Debug)]
struct Content {
    head: Arc<Head>,
    body: Bytes,
    /// Of an accepted change, its number too.
    accepted: Option<(i64, Acceptance)>,
    /// Once it has an outcome.
    sequence: Option<u64>,
}

impl Recent {
    /// An intent is durable; `number` is that of an accepted change.
    pub(super) fn recorded(&self, change: NewChange, number: i64) {
        let NewChange { id, head, body, accepted, .. } = change;
        if body.len() > BODY_BYTES_MAX {
            return;
        }
        // A copy: what came in holds its share of the bytes in flight as long as anybody has it.
        let body = Bytes::copy_from_slice(&body);
        let accepted = accepted.map(|acceptance| (number, acceptance));
        let content = Content { head: Arc::new(head), body, accepted, sequence: None };
        let mut window = self.window();
        if content.accepted.is_some() {
            window.accepted.insert(number, id);
        }
        window.bytes += content.weight();
        window.contents.insert(id, content);
        window.oldest_first.push_back(id);
        while window.bytes > BYTES_MAX {
            let Some(oldest) = window.oldest_first.pop_front() else { break };
            window.forget(oldest);
        }
    }

    /// An outcome is durable, and this is the place it was given, if any.
    pub(super) fn decided(&self, id: ChangeId, verdict: &Verdict, sequence: u64) {
        let mut window = self.window();
        match verdict {
            Verdict::Committed { .. } if sequence > 0 => {
                let Some(content) = window.contents.get_mut(&id) else { return };
                content.sequence = Some(sequence);
                if let Some((number, _)) = content.accepted.take() {
                    window.accepted.remove(&number);
                }
                window.places.insert(sequence, id);
            }
            Verdict::InDoubt => {}
            // It is not delivered, or something else is.
            Verdict::Committed { .. } | Verdict::Aborted | Verdict::Reconciled { .. } => window.forget(id),
        }
    }

    /// What is delivered of a change, if it is here.
    pub(super) fn get(&self, sequence: u64) -> Option<Stored> {
        let window = self.window();
        let id = *window.places.get(&sequence)?;
        let content = window.contents.get(&id)?;
        Some(Stored::Sound { id, head: Arc::clone(&content.head), body: content.body.clone() })
    }

    /// What is sent of an accepted change that has never been tried, if it is here.
    pub(super) fn untried(&self, number: i64) -> Option<ToSend> {
        let window = self.window();
        let id = *window.accepted.get(&number)?;
        let content = window.contents.get(&id)?;
        let (_, acceptance) = content.accepted.as_ref()?;
        Some(ToSend {
            content: Stored::Sound { id, head: Arc::clone(&content.head), body: content.body.clone() },
            conditions: acceptance.conditions.clone(),
            past: Past::default(),
            parks: acceptance.on_refusal == OnRefusal::ParkKey,
            sent: false,
        })
    }

    /// From now on only what the file holds counts.
    pub(super) fn clear(&self) {
        *self.window() = Window::default();
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Its place among the oldest stays until it is reached.
    fn forget(&mut self, id: ChangeId) {
        let Some(content) = self.contents.remove(&id) else { return };
        self.bytes = self.bytes.saturating_sub(content.weight());
        if let Some(sequence) = content.sequence {
            self.places.remove(&sequence);
        }
        if let Some((number, _)) = content.accepted {
            self.accepted.remove(&number);
        }
    }
}

impl Content {
    fn weight(&self) -> usize {
        self.body.len().saturating_add(OVERHEAD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn change(number: u128, bytes: usize) -> NewChange {
        let head = Head {
            route: "items".into(),
            source: "inventory".into(),
            method: "PUT".into(),
            authority: "localhost".into(),
            client_path_and_query: "/items/1".into(),
            path_and_query: "/items/1".into(),
            fields: Vec::new(),
            known_etag: None,
        };
        NewChange {
            id: ChangeId(uuid::Uuid::from_u128(number)),
            key: "/items/1".into(),
            destinations: Vec::new(),
            head,
            body: vec![0; bytes].into(),
            recorded_at: Timestamp::default(),
            client_key: None,
            for_source: None,
            accepted: None,
        }
    }

    fn id(number: u128) -> ChangeId {
        ChangeId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn what_was_committed_is_found_by_its_place_and_nothing_else_is() {
        let recent = Recent::default();
        for number in 1..=4 {
            recent.recorded(change(number, 10), 0);
        }
        assert!(recent.get(0).is_none(), "without an outcome nothing has a place");
        recent.decided(id(1), &Verdict::Committed { key: Some("/items/7".into()) }, 11);
        recent.decided(id(2), &Verdict::Aborted, 0);
        recent.decided(id(3), &Verdict::InDoubt, 0);
        recent.decided(id(3), &Verdict::Committed { key: None }, 13);
        let head = Box::new(change(4, 0).head);
        recent.decided(id(4), &Verdict::Reconciled { head, body: Bytes::from_static(b"other") }, 14);
        recent.decided(id(5), &Verdict::Committed { key: None }, 15);
        recent.recorded(change(6, 10), 0);
        recent.decided(id(6), &Verdict::Committed { key: None }, 0);
        assert!(recent.get(0).is_none() && !recent.window().contents.contains_key(&id(6)), "it goes nowhere");
        for (sequence, found) in [(11, Some(id(1))), (12, None), (13, Some(id(3))), (14, None), (15, None)] {
            let got = recent.get(sequence).map(|stored| match stored {
                Stored::Sound { id, .. } | Stored::Damaged { id } => id,
            });
            assert_eq!(got, found, "{sequence}");
        }
        recent.clear();
        assert!(recent.get(11).is_none());
    }

    #[test]
    fn an_accepted_change_is_found_by_its_number_until_it_has_an_outcome() {
        let recent = Recent::default();
        let conditions = vec![("if-match".to_owned(), b"\"1\"".to_vec())];
        for number in 1..=4 {
            let accepted =
                Acceptance { turn: None, on_refusal: OnRefusal::ParkKey, conditions: conditions.clone() };
            let change = NewChange { accepted: Some(accepted), ..change(number, 10) };
            recent.recorded(change, i64::try_from(number).unwrap() + 100);
        }
        recent.recorded(change(5, 10), 0);
        let untried = recent.untried(101).unwrap();
        assert!(matches!(untried.content, Stored::Sound { id: found, .. } if found == id(1)));
        assert_eq!((untried.conditions, untried.parks, untried.sent), (conditions, true, false));
        recent.decided(id(1), &Verdict::Committed { key: None }, 11);
        recent.decided(id(2), &Verdict::Aborted, 0);
        for (number, found) in [(0, false), (101, false), (102, false), (103, true), (104, true)] {
            assert_eq!(recent.untried(number).is_some(), found, "{number}");
        }
        assert!(recent.get(11).is_some(), "it is delivered now");
        assert_eq!(recent.window().accepted.len(), 2);
        recent.clear();
        assert!(recent.untried(103).is_none());
    }

    #[test]
    fn i10_the_oldest_go_where_the_bound_is_reached() {
        let recent = Recent::default();
        let fit = u64::try_from(BYTES_MAX / (BODY_BYTES_MAX + OVERHEAD_BYTES)).unwrap();
        for number in 1..=fit + 2 {
            recent.recorded(change(number.into(), BODY_BYTES_MAX), 0);
            recent.decided(id(number.into()), &Verdict::Committed { key: None }, number);
        }
        let kept: Vec<u64> = (1..=fit + 2).filter(|sequence| recent.get(*sequence).is_some()).collect();
        assert_eq!(kept, (3..=fit + 2).collect::<Vec<_>>());
        let full = Recent::default();
        for number in 1..=fit {
            full.recorded(change(number.into(), BODY_BYTES_MAX), 0);
        }
        let left = BYTES_MAX - full.window().bytes;
        full.recorded(change(u128::MAX, left - OVERHEAD_BYTES), 0);
        assert_eq!(full.window().bytes, BYTES_MAX, "all of the room is used");
        recent.recorded(change(u128::MAX, BODY_BYTES_MAX + 1), 0);
        recent.decided(id(u128::MAX), &Verdict::Committed { key: None }, u64::MAX);
        assert!(recent.get(u64::MAX).is_none(), "one that is too large for it is not kept");
        let window = recent.window();
        let sizes = (window.contents.len(), window.places.len(), window.oldest_first.len());
        let fit = usize::try_from(fit).unwrap();
        assert_eq!(sizes, (fit, fit, fit));
    }
}
