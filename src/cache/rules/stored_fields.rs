//! Which fields are stored with a response (RFC 9111 3.1).

use super::{Exchange, date, hop_by_hop, tags};
use http::HeaderMap;
use http::header::{AGE, DATE};

/// The fields of a response as they are stored: without those of the connection, its age, which is
/// computed anew for each answer, and the tags that are not passed on; with a Date where it lacked a
/// readable one
/// (RFC 9110 6.6.1).
#[must_use]
pub fn of_response(fields: &HeaderMap, exchange: &Exchange) -> HeaderMap {
    let mut stored = fields.clone();
    hop_by_hop::remove(&mut stored);
    tags::remove_private(&mut stored);
    stored.remove(AGE);
    if date::of_field(&stored, &DATE, exchange.received_at).is_none() {
        stored.insert(DATE, date::format(exchange.received_at));
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::purge::Fence;
    use crate::clock::Timestamp;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn rfc9111_3_1_what_is_not_stored() {
        let given = [
            ("connection", "keep-alive, X-Hop"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-t"),
            ("upgrade", "h2c"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("age", "7"),
            ("surrogate-key", "a"),
            ("cache-tag", "a"),
            ("cache-groups", "\"a\""),
            ("cdn-cache-control", "max-age=1"),
            ("date", "yesterday"),
            ("x-kept", "1"),
        ];
        let fields = given
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let at = Timestamp::from_millis(784_111_777_400);
        let exchange = Exchange { requested_at: at, received_at: at, fence: Fence(0), jitter: 0.0 };
        let stored = of_response(&fields, &exchange);
        let mut names: Vec<&str> = stored.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-groups", "cdn-cache-control", "date", "x-kept"]);
        assert_eq!(stored.get(DATE).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
