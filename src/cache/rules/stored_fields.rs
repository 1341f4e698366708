//! Which fields are stored with a response (RFC 9111 3.1).

use super::{Exchange, date, hop_by_hop, tags};
use http::HeaderMap;
use http::header::{AGE, DATE};

/// The fields of a response as they are stored: without those of the connection, its age, which is
/// computed anew for each answer, and the tags that are not passed on; with a Date where it lacked a
/// readable one (RFC 9110 6.6.1).
#[must_use]
pub fn of_response(fields: &HeaderMap, exchange: &Exchange) -> HeaderMap {
    let mut stored = fields.clone();
    hop_by_hop::remove_with(&mut stored, |name| tags::is_private(name) || name == AGE);
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

    /// 784111777.4 s after the epoch.
    fn stored(given: &[(&str, &str)]) -> HeaderMap {
        let fields = given
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let at = Timestamp::from_millis(784_111_777_400);
        of_response(&fields, &Exchange { requested_at: at, received_at: at, fence: Fence(0), jitter: 0.0 })
    }

    const DATE_OF_ARRIVAL: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn rfc9111_3_1_what_is_not_stored() {
        let stored = stored(&[
            ("connection", "keep-alive, X-Hop"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "a=b"),
            ("proxy-authorization", "Basic"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("trailer", "x-t"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-hop", "1"),
            ("x-hop", "2"),
            ("x-other", "1"),
            ("age", "7"),
            ("surrogate-key", "a"),
            ("cache-tag", "a"),
        ]);
        let names: Vec<&str> = stored.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["date"]);
    }

    #[test]
    fn rfc9111_3_1_everything_else_is_stored_as_it_came() {
        let given = [
            ("x-unknown", "a  b;\t\u{e9}\"c"),
            ("x-unknown", ""),
            ("x-unknown", "a, b"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("clear-site-data", "\"cache\""),
            ("warning", "299 - \"x\""),
            ("content-security-policy", "default-src 'self'"),
            ("content-md5", "x"),
            ("content-range", "bytes */1"),
            ("content-location", "/a"),
            ("cache-control", "max-age=1,  foo"),
            ("cdn-cache-control", "max-age=1"),
            ("cache-groups", "\"a\""),
            ("surrogate-control", "max-age=1"),
            ("pragma", "no-cache"),
            ("expires", "0"),
            ("alt-svc", "clear"),
            ("etag", "W/\"a\""),
            ("www-authenticate", "Basic"),
            ("date", "Sunday, 06-Nov-94 08:49:37 GMT"),
        ];
        let stored = stored(&given);
        assert_eq!(stored.len(), given.len());
        for (name, _) in given {
            let wanted: Vec<&[u8]> =
                given.iter().filter(|(other, _)| *other == name).map(|(_, value)| value.as_bytes()).collect();
            let kept: Vec<&[u8]> = stored.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(kept, wanted, "{name}");
        }
    }

    #[test]
    fn rfc9110_6_6_1_a_readable_date_is_stored() {
        for given in [&[][..], &[("date", "yesterday")], &[("date", "0")], &[("date", "0"), ("date", "1")]] {
            let stored = stored(given);
            let dates: Vec<_> = stored.get_all(DATE).iter().collect();
            assert_eq!(dates, [DATE_OF_ARRIVAL], "{given:?}");
        }
    }
}
