//! What is made for one client as it goes on: neither collapsed nor stored. An event stream never ends, and
//! `Incremental: ?1` (draft-ietf-httpbis-incremental) says that each part counts when it comes.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

const INCREMENTAL: HeaderName = HeaderName::from_static("incremental");

/// Whether a request says that it is read as it goes on.
#[must_use]
pub fn is_asked_for(request: &HeaderMap) -> bool {
    let mut lines = request.get_all(INCREMENTAL).iter();
    // An Item has one line; what cannot be read says nothing (RFC 9651 4.2).
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let item = sfv::Parser::new(line.as_bytes()).parse::<sfv::Item>();
    item.is_ok_and(|item| item.bare_item.as_boolean() == Some(true))
}

/// Whether a response is sent as it goes on.
#[must_use]
pub fn is_sent(response: &HeaderMap) -> bool {
    let is_event_stream = |value: &HeaderValue| {
        let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    is_asked_for(response) || response.get(CONTENT_TYPE).is_some_and(is_event_stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9651_4_2_only_a_readable_true_counts() {
        for (lines, counts) in [
            (&["?1"][..], true),
            (&["?1;a=b"], true),
            (&["?0"], false),
            (&["1"], false),
            (&["true"], false),
            (&["?1", "?1"], false),
            (&[], false),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(INCREMENTAL, HeaderValue::from_static(line));
            }
            assert_eq!(is_asked_for(&fields), counts, "{lines:?}");
            assert_eq!(is_sent(&fields), counts, "{lines:?}");
        }
    }

    #[test]
    fn event_streams_go_on() {
        for (value, goes_on) in
            [("text/event-stream", true), ("Text/Event-Stream; charset=utf-8", true), ("text/plain", false)]
        {
            let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_sent(&fields), goes_on, "{value}");
        }
    }
}
