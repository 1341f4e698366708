//! A request that may have to be sent more than once: to another address, or on another connection.

use super::address::Address;
use super::addresses::Visited;
use super::body::{RequestBody, empty, full};
use super::ejection::Risk;
use super::exchange::OnInterim;
use super::retry::Kind;
use super::settings::HostSent;
use super::switch::Asks;
use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// What goes with a request besides what is sent.
#[derive(Default)]
pub struct Besides {
    /// Its content, where all of it is held: with it a QUERY can be sent once more.
    pub held: Option<Bytes>,
    /// Where others go for the same.
    pub visited: Option<Visited>,
    /// What its connection is asked to be switched to.
    pub asks: Option<Asks>,
    /// Who is told of interim responses.
    pub interim: Option<OnInterim>,
}

/// A request before it is sent.
pub(super) struct Draft {
    method: Method,
    path: Option<PathAndQuery>,
    fields: HeaderMap,
    besides: Besides,
    content: Content,
}

/// Which connection a request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Any that is free: it is free for others afterwards.
    Shared,
    /// One of its own, from which others get nothing: another protocol may be spoken on it.
    Own,
}

enum Content {
    None,
    Held(Bytes),
    /// It streams, and can be had back while nobody has read of it.
    Streams(Slot),
}

type Slot = Arc<Mutex<Option<RequestBody>>>;

impl Draft {
    pub(super) fn new(request: Request<RequestBody>, mut besides: Besides) -> Self {
        let (head, body) = request.into_parts();
        let content = match besides.held.take() {
            _ if body.is_end_stream() => Content::None,
            Some(bytes) => Content::Held(bytes),
            None => Content::Streams(Arc::new(Mutex::new(Some(body)))),
        };
        Self {
            method: head.method,
            path: head.uri.into_parts().path_and_query,
            fields: head.headers,
            besides,
            content,
        }
    }

    /// What may be done with it now.
    pub(super) fn kind(&self) -> Kind {
        let is_safe = self.line() == Line::Shared
            && matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::QUERY);
        match &self.content {
            Content::None | Content::Held(_) if is_safe => Kind::Safe,
            Content::None | Content::Held(_) => Kind::Untouched,
            Content::Streams(slot) if is_there(slot) => Kind::Untouched,
            Content::Streams(_) => Kind::Spent,
        }
    }

    /// What goes with it.
    pub(super) const fn besides(&self) -> &Besides {
        &self.besides
    }

    pub(super) fn line(&self) -> Line {
        if self.besides.asks.is_some() { Line::Own } else { Line::Shared }
    }

    pub(super) fn risk(&self) -> Risk {
        match self.kind() {
            Kind::Safe => Risk::Taken,
            Kind::Untouched | Kind::Spent => Risk::Avoided,
        }
    }

    /// The request for an address; `None` where no URI can say it.
    pub(super) fn request(&self, address: &Address, host: &HostSent) -> Option<Request<RequestBody>> {
        let uri = address.target(self.path.as_ref()?)?;
        let mut request = Request::new(match &self.content {
            Content::None => empty(),
            Content::Held(bytes) => full(bytes.clone()),
            Content::Streams(slot) => lent(slot),
        });
        self.method.clone_into(request.method_mut());
        *request.uri_mut() = uri;
        self.fields.clone_into(request.headers_mut());
        if let (HostSent::Source, Some(own)) = (host, address.host()) {
            request.headers_mut().insert(HOST, own.clone());
        }
        Some(request)
    }
}

fn is_there(slot: &Slot) -> bool {
    slot.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

fn lent(slot: &Slot) -> RequestBody {
    let size = slot.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Body::size_hint);
    let lent = Lent { slot: Arc::clone(slot), size: size.unwrap_or_default(), body: None };
    RequestBody::Streams(lent.boxed_unsync())
}

/// Content that stays in its slot until somebody reads of it: then a connection stands.
struct Lent {
    slot: Slot,
    size: SizeHint,
    body: Option<RequestBody>,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = <RequestBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.body.is_none() {
            this.body = this.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        match &mut this.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| self.size, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Endpoint;
    use futures_util::FutureExt;

    fn draft(method: Method, body: RequestBody, held: Option<&'static str>) -> Draft {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = "/a".parse().unwrap();
        let held = held.map(|held| Bytes::from_static(held.as_bytes()));
        Draft::new(request, Besides { held, ..Besides::default() })
    }

    fn address() -> Address {
        Address::new("s", &Endpoint::new(url::Url::parse("http://h:1/base").unwrap()))
    }

    #[test]
    fn safe_requests_may_be_repeated_where_their_content_is_held() {
        let content = || full(Bytes::from_static(b"content"));
        for (method, body, held, kind) in [
            (Method::GET, empty(), None, Kind::Safe),
            (Method::HEAD, empty(), None, Kind::Safe),
            (Method::OPTIONS, empty(), None, Kind::Safe),
            (Method::QUERY, content(), Some("content"), Kind::Safe),
            (Method::QUERY, content(), None, Kind::Untouched),
            (Method::GET, content(), None, Kind::Untouched),
            // Idempotent, and yet nobody wants it twice (RFC 9110 9.2.2 allows it, a write may overtake).
            (Method::PUT, content(), Some("content"), Kind::Untouched),
            (Method::DELETE, empty(), None, Kind::Untouched),
            (Method::POST, empty(), None, Kind::Untouched),
        ] {
            assert_eq!(draft(method.clone(), body, held).kind(), kind, "{method} {held:?}");
        }
    }

    #[test]
    fn what_asks_for_another_protocol_is_never_repeated_and_goes_on_its_own_connection() {
        let asks = Some(Asks(crate::source::Protocol::parse("websocket").unwrap()));
        let draft = Draft::new(Request::new(empty()), Besides { asks, ..Besides::default() });
        assert_eq!((draft.kind(), draft.line()), (Kind::Untouched, Line::Own));
    }

    #[test]
    fn content_that_nobody_read_of_can_be_sent_elsewhere() {
        let draft = draft(Method::POST, full(Bytes::from_static(b"content")), None);
        let unread = draft.request(&address(), &HostSent::Client).unwrap();
        assert_eq!(unread.body().size_hint().exact(), Some(7));
        assert!(!unread.body().is_end_stream());
        drop(unread);
        assert_eq!(draft.kind(), Kind::Untouched);
        let read = draft.request(&address(), &HostSent::Source).unwrap();
        assert_eq!(read.headers()[HOST], "h:1");
        assert_eq!(read.uri(), "/base/a");
        let whole = read.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
        assert_eq!(whole, "content");
        assert_eq!(draft.kind(), Kind::Spent);
    }
}
