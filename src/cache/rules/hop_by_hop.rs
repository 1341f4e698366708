//! Fields that belong to one connection (RFC 9110 7.6.1) and never pass through.

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, VIA};
use http::{HeaderMap, HeaderName};

/// The field that keeps requests from going in circles (RFC 8586).
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// Fields that nobody can have removed by naming them in Connection.
const PROTECTED: [HeaderName; 8] =
    [HOST, CONTENT_LENGTH, AUTHORIZATION, COOKIE, CACHE_CONTROL, VIA, CDN_LOOP, FORWARDED];

/// Beginnings of such fields: what proxies say of a client, and what Tidegate does.
const PROTECTED_BEGIN: [&str; 2] = ["x-forwarded-", "tidegate-"];

/// Whether a field belongs to one connection, or to one proxy (RFC 9111 3.1), whether Connection names it or
/// not. Trailer announces what this message brings; whoever passes trailers on says so anew.
/// HTTP2-Settings is no more (RFC 9113 3.1), and was for the next hop alone.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    is_of_connection(name.as_str())
}

fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The fields that Connection names, and that go for it; those that go anyway are not among them.
#[must_use]
pub fn named(fields: &HeaderMap) -> Vec<HeaderName> {
    if !fields.contains_key(CONNECTION) {
        return Vec::new();
    }
    let members =
        fields.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_protected(name) && !is_hop_by_hop(name))
        .collect()
}

/// Whether somebody who reads `_` as `-` takes it for a field that frames a message, or belongs to its
/// connection.
#[must_use]
pub fn is_impostor(name: &HeaderName) -> bool {
    name.as_str().contains('_') && {
        let read_as = name.as_str().replace('_', "-");
        read_as == CONTENT_LENGTH.as_str() || is_of_connection(&read_as)
    }
}

/// Removes what Connection names, besides what belongs to the connection anyway. From then on nobody sees
/// a field that the next hop will not get: what selects a stored response is what its maker was told.
pub fn remove_named(fields: &mut HeaderMap) {
    for name in named(fields) {
        fields.remove(name);
    }
}

fn is_protected(name: &HeaderName) -> bool {
    PROTECTED.contains(name) || PROTECTED_BEGIN.iter().any(|beginning| name.as_str().starts_with(beginning))
}

/// Removes what belongs to the connection that the fields came by, and what could be read as such.
pub fn remove(fields: &mut HeaderMap) {
    remove_with(fields, |_| false);
}

/// As [`remove`], and what else goes.
pub fn remove_with(fields: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let goes = |name: &&HeaderName| is_hop_by_hop(name) || is_impostor(name) || goes(name);
    // Connection, which names others, goes itself.
    if !fields.keys().any(|name| goes(&name)) {
        return;
    }
    remove_named(fields);
    let gone: Vec<HeaderName> = fields.keys().filter(goes).cloned().collect();
    for name in gone {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn rfc9110_7_6_1_what_belongs_to_one_connection() {
        for name in
            ["connection", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"]
        {
            assert!(is_hop_by_hop(&HeaderName::from_static(name)), "{name}");
        }
        assert!(PROTECTED.iter().all(|name| !is_hop_by_hop(name)));
    }

    #[test]
    fn what_reads_as_framing_goes_with_the_connections_own() {
        let names =
            ["content_length", "transfer_encoding", "proxy_connection", "keep_alive", "http2_settings"];
        let kept =
            ["content-length", "content_type", "content_length_", "_transfer_encoding", "x_connection"];
        let mut fields = HeaderMap::new();
        for name in names.iter().chain(&kept) {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        remove(&mut fields);
        assert!(names.iter().all(|name| !fields.contains_key(*name)), "{fields:?}");
        assert!(kept.iter().all(|name| fields.contains_key(*name)), "{fields:?}");
    }

    #[test]
    fn rfc9110_7_6_1_connection_names_fields_to_remove() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop, authorization, X-Forwarded-For, forwarded"),
            ("x-forwarded-for", "kept"),
            ("forwarded", "kept"),
            ("connection", "\u{e9}, , x-beside\t"),
            ("x-hop", "1"),
            ("x-hop", "2"),
            ("x-beside", "1"),
            ("authorization", "kept"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "no"),
            ("x-end", "kept"),
        ] {
            fields.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        remove(&mut fields);
        let mut left: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "forwarded", "x-end", "x-forwarded-for"]);
    }
}
