//! A response to POST that may answer later GET and HEAD requests (RFC 9110 9.3.3, RFC 9111 3).

use super::freshness::LifetimeSource;
use super::invalidation::resolve;
use super::storable::{self, Admitted};
use super::{Exchange, NoStoreReason, RequestHead, ResponseHead};
use crate::cache::policy::Policy;
use crate::target::Target;
use http::header::CONTENT_LOCATION;
use http::{Method, StatusCode};

/// Whether the content of a response to POST is a representation of its target: 200, and one
/// Content-Location that means the target itself (RFC 9110 8.7). `asked` is the target as the client or
/// the source may speak of it; being any of them is enough.
#[must_use]
pub fn represents_target(method: &Method, response: ResponseHead<'_>, asked: &[Target]) -> bool {
    let mut lines = response.fields.get_all(CONTENT_LOCATION).iter();
    // A second line is no permission.
    let (Some(reference), None) = (lines.next(), lines.next()) else { return false };
    *method == Method::POST
        && response.status == StatusCode::OK
        && asked.iter().any(|target| resolve(target, reference).as_ref() == Some(target))
}

/// Decides on storing such a response as the target's. What a GET's could, and only with freshness that
/// the response states: neither the route nor a guess gives it any, and an unreadable lifetime is none.
///
/// # Errors
/// Why it may not be stored.
pub fn admit(
    request: RequestHead<'_>,
    response: ResponseHead<'_>,
    policy: &Policy,
    exchange: &Exchange,
) -> Result<Admitted, NoStoreReason> {
    // From here on it is the answer to a GET of the target.
    let request = RequestHead { method: &Method::GET, ..request };
    let admitted = storable::admit(request, response, policy, exchange)?;
    let given =
        |source| matches!(source, LifetimeSource::Negative | LifetimeSource::Ttl | LifetimeSource::Heuristic);
    match admitted.lifetime() {
        Some(lifetime) if !given(lifetime.source) && !lifetime.duration.is_zero() => Ok(admitted),
        Some(_) | None => Err(NoStoreReason::NoFreshness),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::purge::Fence;
    use crate::clock::Timestamp;
    use http::{HeaderMap, HeaderName, HeaderValue};
    use std::time::Duration;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn rfc9110_8_7_whose_representation_it_is() {
        let asked = [
            Target::parse_absolute("http://h/items/1?a=b").unwrap(),
            Target::parse_absolute("https://source:8443/v2/items/1?a=b").unwrap(),
        ];
        for (what, locations, is) in [
            ("path and query", &["/items/1?a=b"][..], true),
            ("canonical", &["/%69tems/1?a=b"], true),
            ("absolute", &["http://H:80/items/1?a=b"], true),
            ("relative", &["1?a=b"], true),
            ("query only", &["?a=b"], true),
            ("same document", &[""], true),
            ("as the source was asked", &["/v2/items/1?a=b"], true),
            ("as the source was asked, absolute", &["https://source:8443/v2/items/1?a=b"], true),
            ("none", &[], false),
            ("without the query", &["/items/1"], false),
            ("another query", &["/items/1?a=c"], false),
            ("another path", &["/items/2?a=b"], false),
            ("another host", &["http://other/items/1?a=b"], false),
            ("another port", &["http://h:81/items/1?a=b"], false),
            ("another scheme", &["https://h/items/1?a=b"], false),
            ("two", &["/items/1?a=b", "/items/1?a=b"], false),
            ("no reference", &["http://["], false),
        ] {
            let lines: Vec<_> = locations.iter().map(|line| ("content-location", *line)).collect();
            let fields = fields(&lines);
            let response = ResponseHead { status: StatusCode::OK, fields: &fields };
            assert_eq!(represents_target(&Method::POST, response, &asked), is, "{what}");
            assert!(!represents_target(&Method::PUT, response, &asked), "{what}");
            for status in [StatusCode::CREATED, StatusCode::PARTIAL_CONTENT, StatusCode::SEE_OTHER] {
                assert!(!represents_target(&Method::POST, ResponseHead { status, ..response }, &asked));
            }
        }
    }

    #[test]
    fn rfc9110_9_3_3_only_with_stated_freshness() {
        use NoStoreReason::{NoFreshness, NoStore, Private, SetCookie, VaryStar};
        let policy = Policy {
            ttl: Some(Duration::from_mins(1)),
            negative: vec![(StatusCode::OK, Duration::from_mins(1))],
            ..Policy::default()
        };
        let at = Timestamp::from_millis(784_111_777_000);
        let exchange = Exchange { requested_at: at, received_at: at, fence: Fence(7), jitter: 0.0 };
        for (what, lines, expected) in [
            ("max-age", &[("cache-control", "max-age=60")][..], Ok(60)),
            ("s-maxage", &[("cache-control", "s-maxage=50, max-age=60")], Ok(50)),
            ("targeted", &[("cdn-cache-control", "max-age=40"), ("cache-control", "no-store")], Ok(40)),
            ("Expires", &[("expires", "Sun, 06 Nov 1994 08:50:37 GMT")], Ok(60)),
            ("nothing", &[], Err(NoFreshness)),
            ("a validator", &[("etag", "\"a\"")], Err(NoFreshness)),
            ("a guess", &[("last-modified", "Sun, 06 Nov 1983 08:49:37 GMT")], Err(NoFreshness)),
            ("public", &[("cache-control", "public")], Err(NoFreshness)),
            ("unreadable", &[("cache-control", "max-age=x")], Err(NoFreshness)),
            ("no-store", &[("cache-control", "max-age=60, no-store")], Err(NoStore)),
            ("private", &[("cache-control", "max-age=60, private")], Err(Private)),
            ("cookie", &[("cache-control", "max-age=60"), ("set-cookie", "a=b")], Err(SetCookie)),
            ("vary", &[("cache-control", "max-age=60"), ("vary", "*")], Err(VaryStar)),
        ] {
            let (asked, answered) = (HeaderMap::new(), fields(lines));
            let request = RequestHead { method: &Method::POST, fields: &asked };
            let response = ResponseHead { status: StatusCode::OK, fields: &answered };
            let admitted = admit(request, response, &policy, &exchange);
            let seconds = admitted.as_ref().map(|admitted| admitted.head().freshness_lifetime.as_secs());
            assert_eq!(seconds.map_err(|reason| *reason), expected, "{what}");
            if let Ok(admitted) = admitted {
                assert_eq!(admitted.head().fence, Fence(7), "{what}");
                let asked = fields(&[("authorization", "Basic eA==")]);
                let request = RequestHead { method: &Method::POST, fields: &asked };
                let shared = admit(request, response, &policy, &exchange).is_ok();
                assert_eq!(shared, what == "s-maxage", "{what} with Authorization");
            }
        }
    }
}
