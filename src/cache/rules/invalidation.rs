//! What a request with an unsafe method makes old (RFC 9111 4.4, RFC 9875 3).

use super::ResponseHead;
use super::tags::invalidated_groups;
use crate::cache::purge::Purge;
use crate::target::Target;
use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderValue, Method};
use url::Url;

/// Whether a method may change what the source has; one that is not known may.
#[must_use]
pub fn is_unsafe(method: &Method) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::QUERY];
    !safe.contains(method)
}

/// What a response to an unsafe request for `target` makes old: its own path, and those that Location
/// and Content-Location name of the same origin, with every query; and that origin's groups that it
/// names (RFC 9875 3). Nothing, where the response is an error: then nothing is known to have changed.
#[must_use]
pub fn invalidated(target: &Target, response: ResponseHead<'_>) -> Vec<Purge> {
    if !(response.status.is_success() || response.status.is_redirection()) {
        return Vec::new();
    }
    let located = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| response.fields.get(name));
    let mut purges = vec![path_of(target)];
    for target in located.filter_map(|reference| resolve(target, reference)) {
        let purge = path_of(&target);
        if !purges.contains(&purge) {
            purges.push(purge);
        }
    }
    purges.extend(invalidated_groups(response.fields).into_iter().map(|group| Purge::Group {
        scheme: target.scheme().as_str().to_owned(),
        authority: target.authority().as_str().to_owned(),
        group,
    }));
    purges
}

/// The canonical target that a reference means (RFC 3986 5), if it is of the same origin
/// (RFC 9110 4.3.1): nobody speaks for another's responses (RFC 9111 4.4).
#[must_use]
pub fn resolve(base: &Target, reference: &HeaderValue) -> Option<Target> {
    let reference = reference.to_str().ok()?;
    let reference = reference.split('#').next().unwrap_or_default();
    // The path as it was written has the same canonical form as a request for it; resolution of relative
    // references would decode and encode it anew.
    let target = if reference.starts_with('/') && !reference.starts_with("//") {
        Target::new(base.scheme(), base.authority().clone(), reference)
    } else {
        Target::parse_absolute(reference)
    };
    let resolved = |_| {
        let url = Url::parse(&base.to_string()).and_then(|base| base.join(reference)).ok()?;
        Target::parse_absolute(url.as_str()).ok()
    };
    let target = target.map_or_else(resolved, Some)?;
    (target.scheme() == base.scheme() && target.authority() == base.authority()).then_some(target)
}

fn path_of(target: &Target) -> Purge {
    Purge::Path { authority: target.authority().as_str().to_owned(), path: target.path().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::rules::tags::CACHE_GROUP_INVALIDATION;
    use http::{HeaderMap, StatusCode};

    fn purged(status: u16, fields: &HeaderMap) -> Vec<String> {
        let target = Target::parse_absolute("http://h:80/items/1?x=y").unwrap();
        let response = ResponseHead { status: StatusCode::from_u16(status).unwrap(), fields };
        let text = |purge| match purge {
            Purge::Path { authority, path } => format!("{authority}{path}"),
            Purge::Group { scheme, authority, group } => format!("{scheme}://{authority} {group}"),
            other => format!("{other:?}"),
        };
        invalidated(&target, response).into_iter().map(text).collect()
    }

    #[test]
    fn rfc9111_4_4_what_is_made_old() {
        for (section, reference, expected) in [
            ("path", "/items/7?z", &["h/items/1", "h/items/7"][..]),
            ("path, canonical", "/%69tems/7#f", &["h/items/1", "h/items/7"]),
            ("absolute", "http://H:80/a", &["h/items/1", "h/a"]),
            ("relative", "7", &["h/items/1", "h/items/7"]),
            ("relative, dots", "../b", &["h/items/1", "h/b"]),
            ("dots in a path", "/a/../b", &["h/items/1", "h/b"]),
            ("a query as it was written", "/items/7?x='", &["h/items/1", "h/items/7"]),
            ("query only", "?q", &["h/items/1"]),
            ("network path", "//h/c", &["h/items/1", "h/c"]),
            ("itself", "/items/1", &["h/items/1"]),
            ("other host", "http://other/a", &["h/items/1"]),
            ("other port", "http://h:81/a", &["h/items/1"]),
            ("other scheme", "https://h/a", &["h/items/1"]),
            ("no scheme of HTTP", "mailto:a@h", &["h/items/1"]),
            ("no reference", "http://[", &["h/items/1"]),
            ("a longer host", "http://h.evil/a", &["h/items/1"]),
            ("user info", "http://h@evil/a", &["h/items/1"]),
        ] {
            for name in [LOCATION, CONTENT_LOCATION] {
                let fields = [(name, HeaderValue::from_static(reference))].into_iter().collect();
                assert_eq!(purged(201, &fields), expected, "{section}: {reference}");
            }
        }
    }

    #[test]
    fn i8_a_reference_means_the_target_that_a_request_for_it_has() {
        let base = Target::parse_absolute("http://h/a").unwrap();
        for reference in ["/items/1?x='a'", "http://h/items/1?x='a'"] {
            let target = resolve(&base, &HeaderValue::from_static(reference));
            assert_eq!(target.map(|target| target.to_string()).as_deref(), Some("http://h/items/1?x='a'"));
        }
    }

    #[test]
    fn rfc9111_4_4_only_without_an_error() {
        for (status, count) in [
            (200, 1),
            (204, 1),
            (299, 1),
            (301, 1),
            (303, 1),
            (399, 1),
            (400, 0),
            (412, 0),
            (500, 0),
            (600, 0),
        ] {
            assert_eq!(purged(status, &HeaderMap::new()).len(), count, "{status}");
        }
    }

    #[test]
    fn rfc9875_3_groups() {
        let groups = HeaderValue::from_static("\"a\", \"b\"");
        let fields = [(CACHE_GROUP_INVALIDATION, groups)].into_iter().collect();
        assert_eq!(purged(200, &fields), ["h/items/1", "http://h a", "http://h b"]);
        assert!(purged(500, &fields).is_empty());
    }

    #[test]
    fn rfc9110_9_2_1_unknown_methods_are_unsafe() {
        let unknown = Method::from_bytes(b"FROB").unwrap();
        assert!(is_unsafe(&unknown) && is_unsafe(&Method::POST));
        assert!(!is_unsafe(&Method::QUERY) && !is_unsafe(&Method::HEAD));
    }

    proptest::proptest! {
        #[test]
        fn resolving_never_leaves_the_authority(reference in "[ -~]{0,40}") {
            let base = Target::parse_absolute("http://h/a").unwrap();
            if let Some(target) = HeaderValue::try_from(reference).ok().and_then(|value| resolve(&base, &value)) {
                proptest::prop_assert_eq!(target.authority().as_str(), "h");
            }
        }
    }
}
