//! What becomes of an answer that a fill has got: it is shared and stored, or handed to the leader alone.

use super::{Arrived, BeganBy, Fill, Private, Wants, pump};
use crate::cache::StoredResponse;
use crate::cache::collapse::Lead;
use crate::cache::growing::Growing;
use crate::cache::rules::partial::{self, Forwarded, Piece};
use crate::cache::rules::reuse::{Failure, Verdict, assess, may_use_on_failure};
use crate::cache::rules::storable::{self, Admitted};
use crate::cache::rules::{Exchange, NoStoreReason, RequestHead, ResponseHead};
use crate::cache::rules::{early, incremental, tags};
use crate::gateway::cache_status::Stored;
use crate::gateway::forward;
use crate::gateway::landing::{Audience, Landing, Shared};
use crate::gateway::{part, trailers};
use crate::in_flight::Work;
use crate::source::SourceBody;
use crate::telemetry::metrics as names;
use bytes::Bytes;
use http::header::AGE;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What is stored when the content is complete.
enum ToStore {
    Whole(Box<Admitted>),
    Part(Box<Piece>),
}

impl ToStore {
    fn head(&self) -> StoredResponse {
        match self {
            Self::Whole(admitted) => admitted.head().clone(),
            Self::Part(piece) => piece.head(),
        }
    }
}

/// Who may have an answer, and what is stored of it.
struct Judged {
    shareable: Result<(), NoStoreReason>,
    to_store: Result<ToStore, NoStoreReason>,
}

impl Fill {
    /// Shares and stores an answer, or hands it to the leader alone.
    pub(super) async fn take(
        &self,
        lead: &Lead<Landing>,
        arrived: Arrived,
        private: Option<oneshot::Sender<Private>>,
    ) {
        let Judged { shareable, to_store } = self.judged(&arrived);
        match (shareable, to_store) {
            (Ok(()), to_store) => self.share(lead, arrived, to_store, Audience::All).await,
            // It may be stored, to be validated before each use; those who waited ask for themselves.
            (Err(_), Ok(to_store)) => self.share(lead, arrived, Ok(to_store), Audience::Leader).await,
            (Err(reason), Err(not_stored)) => {
                let Arrived { mut parts, body, exchange } = arrived;
                self.not_storable(not_stored, parts.status, &exchange);
                lead.close();
                lead.land(Landing::Alone);
                if let Some(private) = private {
                    forward::end_to_end(&mut parts.headers);
                    // A leader whose client has left has no use for it.
                    drop(private.send((Response::from_parts(parts, body), Stored::No(reason))));
                }
            }
        }
    }

    fn judged(&self, arrived: &Arrived) -> Judged {
        let Arrived { parts, body, exchange } = arrived;
        let (policy, request) = (&self.route.settings.cache, self.request());
        let head = ResponseHead { status: parts.status, fields: &parts.headers };
        if self.wants != Wants::Whole && parts.status == StatusCode::PARTIAL_CONTENT {
            let forwarded = Forwarded { request, policy, exchange };
            let piece = part::admit(&self.gateway, forwarded, head, body);
            return Judged {
                shareable: partial::may_share(forwarded, head),
                to_store: piece.map(|piece| ToStore::Part(Box::new(piece))),
            };
        }
        let admitted = self.admitted(head, body, exchange);
        Judged {
            shareable: storable::may_share(request, head, policy, exchange),
            to_store: admitted.map(|admitted| ToStore::Whole(Box::new(admitted))),
        }
    }

    fn request(&self) -> RequestHead<'_> {
        RequestHead { method: &self.head.method, fields: &self.request_fields }
    }

    /// What a whole is stored as, where it may be and there is room for it until it is complete.
    fn admitted(
        &self,
        response: ResponseHead<'_>,
        body: &SourceBody,
        exchange: &Exchange,
    ) -> Result<Admitted, NoStoreReason> {
        let admitted = storable::admit(self.request(), response, &self.route.settings.cache, exchange)?;
        let length = body.size_hint().exact();
        // What is read as it goes on may never end.
        let is_too_large = length.is_some_and(|length| length > self.gateway.cache.object_bytes_max());
        if is_too_large || incremental::is_sent(response.fields) {
            return Err(NoStoreReason::TooLarge);
        }
        let is_of_the_range =
            self.wants != Wants::Whole && response.status == StatusCode::RANGE_NOT_SATISFIABLE;
        if is_of_the_range || self.is_worse_than_stored(response.status) {
            return Err(NoStoreReason::Status);
        }
        if !self.gateway.in_flight.admits_copy(length.unwrap_or_default()) {
            return Err(NoStoreReason::Overload);
        }
        count_dropped_tags(response.fields, &admitted);
        Ok(admitted)
    }

    /// What an answer that may not be stored leaves behind: a marker, and nothing of what was asked about.
    fn not_storable(&self, reason: NoStoreReason, status: StatusCode, exchange: &Exchange) {
        let cache = &self.gateway.cache;
        if let Some(stale) = self.stale.as_ref().filter(|_| storable::supersedes(reason, status)) {
            cache.discard(&self.key, stale);
        }
        match status {
            // It tells of the next parts what the whole of it would tell of the next wholes.
            StatusCode::PARTIAL_CONTENT if self.wants != Wants::Whole => {
                cache.mark(&self.key.of_parts(), reason, StatusCode::OK, exchange);
            }
            _ => cache.mark(&self.key, reason, status, exchange),
        }
    }

    /// Whether an error came although what is stored may still be used in its place: then it is not
    /// stored over it, whatever freshness it claims (RFC 9111 4.3.3). In the background no error is.
    fn is_worse_than_stored(&self, status: StatusCode) -> bool {
        if self.began_by == BeganBy::Hit && status.is_server_error() {
            return true;
        }
        let now = self.gateway.clock.now();
        Failure::of_status(status).is_some_and(|failure| {
            self.stale.as_deref().is_some_and(|stale| may_use_on_failure(stale, now, failure))
        })
    }

    async fn share(
        &self,
        lead: &Lead<Landing>,
        arrived: Arrived,
        to_store: Result<ToStore, NoStoreReason>,
        audience: Audience,
    ) {
        let Arrived { parts, body, exchange } = arrived;
        let response = ResponseHead { status: parts.status, fields: &parts.headers };
        let length = body.size_hint().exact();
        // What is not stored needs no more than a window for those who read along.
        let whole_bytes_max = to_store.as_ref().map_or(0, |_| self.gateway.cache.object_bytes_max());
        let growing = Growing::new(whole_bytes_max, self.gateway.in_flight.share(Work::Copy));
        // Whatever becomes of this task, nobody reads on for ever.
        let _unfinished = growing.unfinished();
        let start = growing.reader();
        let head = match &to_store {
            Ok(to_store) => to_store.head(),
            Err(_) => storable::unstored(self.request(), response, &exchange),
        };
        let stored = match &to_store {
            Ok(_) if self.gateway.cache.is_held(&self.key, &head.tags) => Stored::No(NoStoreReason::Purged),
            Ok(_) => Stored::Yes,
            Err(reason) => Stored::No(*reason),
        };
        // Late comers may join only what they could have been given from the store.
        let fresh = to_store.is_ok() && assess(&head, self.gateway.clock.now()) == Verdict::Fresh;
        if !fresh || audience == Audience::Leader {
            lead.close();
        }
        let announced = trailers::announced(&parts.headers);
        let age = parts.headers.get_all(AGE).iter().cloned().collect();
        let range = match &self.wants {
            Wants::Whole | Wants::Head => None,
            Wants::Part(range) => Some(range.clone()),
        };
        let shared = Shared { head, body: Arc::clone(&growing), length, stored, age, range, announced };
        let shared = Arc::new(shared);
        lead.land(match audience {
            Audience::All => Landing::Shared(shared),
            Audience::Leader => Landing::SharedOnce(shared),
        });
        let store = |content: Bytes| {
            let stored = match to_store {
                Ok(ToStore::Whole(admitted)) => self.store(admitted.into_stored(content)),
                Ok(ToStore::Part(piece)) => {
                    self.store_part(*piece, content, &exchange);
                    None
                }
                Err(_) => None,
            };
            // Before anybody sees the end: who then asks for another variant must not meet this flight.
            lead.close();
            stored
        };
        pump::pump(lead, body, (&growing, start), self.began_by, store).await;
    }

    /// Stores a whole; its body as the store has it.
    fn store(&self, whole: StoredResponse) -> Option<Bytes> {
        let cache = &self.gateway.cache;
        // A full answer says that what it was asked about is not suitable any more (RFC 9111 4.3.3). Selected
        // by other fields, that would not be replaced, but chosen and asked about again and again.
        if let Some(stale) = self.stale.as_ref().filter(|old| old.selecting_fields != whole.selecting_fields)
        {
            cache.discard(&self.key, stale);
        }
        let whole = match &self.stale {
            Some(stale) => early::smoothed(whole, stale),
            None => whole,
        };
        // Purged meanwhile: those who waited have it, nobody else will.
        cache.store(&self.key, whole).ok().map(|stored| stored.body.clone())
    }

    /// Stores the content of a part, if it is as long as Content-Range says.
    fn store_part(&self, piece: Piece, content: Bytes, exchange: &Exchange) {
        if content.len() as u64 == piece.bytes() {
            let policy = &self.route.settings.cache;
            let forwarded = Forwarded { request: self.request(), policy, exchange };
            self.gateway.cache.store_piece(&self.key, piece, content, forwarded);
        }
    }
}

/// At the bounds it says so (I10): whoever purges by a tag must be able to know that it was dropped.
fn count_dropped_tags(fields: &HeaderMap, admitted: &Admitted) {
    let dropped = tags::dropped(fields, &admitted.head().tags);
    if dropped > 0 {
        metrics::counter!(names::TAGS_DROPPED).increment(dropped as u64);
    }
}
