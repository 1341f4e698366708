//! Sending a write in doubt once more, with the same Idempotency-Key, where the source takes that
//! (`idempotent`): it does not act twice, and says what became of the first.
//!
//! It goes in Tidegate's own name: the client's Authorization and Cookie are not kept. A refusal decides
//! only for a POST: the other methods are read back, so that nobody takes the source's word for a key that
//! it has forgotten.

use super::engine::Inner;
use super::journal::record::{Keyed, Verdict};
use super::journal::sqlite::{self, Stored};
use super::key::bounded;
use super::ports::{SourceWritten, WriteSource};
use super::resolve::Doubt;
use http::{Method, StatusCode};
use std::sync::Arc;

/// What an answer to a repeated write decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decides {
    Committed,
    Aborted,
    Nothing,
}

fn decides(method: &Method, status: StatusCode) -> Decides {
    match (status.as_u16(), method == Method::POST) {
        (200..=299 | 303, _) => Decides::Committed,
        // Tidegate's own fields may be refused where the client's were not; a conflict may be with the first
        // one, which is still running.
        (401 | 403 | 407 | 408 | 409 | 425 | 429, _) => Decides::Nothing,
        (400..=499, true) => Decides::Aborted,
        (_, _) => Decides::Nothing,
    }
}

impl Inner {
    /// Sends a write in doubt again; `None` where that decides nothing.
    pub(super) async fn repeat(&self, doubt: &Doubt) -> Option<Verdict> {
        let id = doubt.id;
        let open = self.journal.readers().read(move |store| sqlite::open_change(store, id)).await.ok()??;
        let (Stored::Sound { head, body, .. }, Some(for_source)) = (open.content, open.for_source) else {
            return None;
        };
        let head = Arc::unwrap_or_clone(head);
        let mut fields = head.fields();
        fields.extend(for_source.conditions());
        let _permit = self.source_reads.acquire().await.ok()?;
        let method = head.method();
        let answer = (self.ports.write_source)(WriteSource {
            source: head.source,
            route: head.route,
            method: method.clone(),
            authority: head.authority,
            client_path_and_query: head.client_path_and_query,
            path_and_query: head.path_and_query,
            fields,
            idempotency_key: for_source.idempotency_key,
            body,
        });
        let SourceWritten::Answered { status, location, .. } = answer.await else { return None };
        match decides(&method, status) {
            Decides::Committed => {
                let key = location.filter(|_| for_source.keyed == Keyed::ByLocation).map(bounded);
                Some(Verdict::Committed { key })
            }
            Decides::Aborted => Some(Verdict::Aborted),
            Decides::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_to_a_repeated_write_decides() {
        for (status, of_post, of_others) in [
            (200, Decides::Committed, Decides::Committed),
            (303, Decides::Committed, Decides::Committed),
            (304, Decides::Nothing, Decides::Nothing),
            (400, Decides::Aborted, Decides::Nothing),
            (401, Decides::Nothing, Decides::Nothing),
            (404, Decides::Aborted, Decides::Nothing),
            (409, Decides::Nothing, Decides::Nothing),
            (412, Decides::Aborted, Decides::Nothing),
            (422, Decides::Aborted, Decides::Nothing),
            (429, Decides::Nothing, Decides::Nothing),
            (500, Decides::Nothing, Decides::Nothing),
            (503, Decides::Nothing, Decides::Nothing),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(decides(&Method::POST, status), of_post, "POST {status}");
            assert_eq!(decides(&Method::DELETE, status), of_others, "DELETE {status}");
        }
    }
}
