//! `request_headers` and `response_headers` of a route.

use super::Check;
use super::scalar::OWN_FIELDS;
use crate::config::file;
use crate::config::given::Given;
use crate::gateway::FieldChanges;
use http::{HeaderName, HeaderValue};
use std::ops::Range;

/// Fields, and beginnings of fields, of requests that Tidegate writes, or by which it tells what is stored.
const OF_REQUESTS: [&str; 9] = [
    "accept-encoding",
    "cdn-loop",
    "content-encoding",
    "forwarded",
    "range",
    "via",
    "x-request-id",
    "if-",
    "x-forwarded-",
];

/// Fields of responses that Tidegate writes, or that say what the content is.
const OF_RESPONSES: [&str; 9] = [
    "age",
    "cache-status",
    "content-encoding",
    "content-range",
    "proxy-status",
    "ratelimit",
    "ratelimit-policy",
    "via",
    "x-request-id",
];

/// Whose fields are changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Request,
    Response,
}

impl Check<'_, '_> {
    pub(super) fn field_changes(
        &mut self,
        given: Option<&Given<file::FieldChanges>>,
        of: Message,
    ) -> FieldChanges {
        let Some(given) = given else { return FieldChanges::default() };
        let remove = given
            .remove
            .iter()
            .filter_map(|name: &Given<String>| self.changed_field(name, &name.span, of))
            .collect();
        let set = given.set.iter().filter_map(|(name, value)| {
            let name = self.changed_field(name, &value.span, of);
            let value = self.field_value(value);
            name.zip(value)
        });
        FieldChanges { set: set.collect(), remove }
    }

    fn changed_field(&mut self, name: &str, span: &Range<usize>, of: Message) -> Option<HeaderName> {
        let Ok(name) = name.parse::<HeaderName>() else {
            self.report.fault(span, "is no name of a field", "rename it");
            return None;
        };
        if is_own(name.as_str(), of) {
            self.report.fault(span, "is a field that Tidegate sets itself", "leave it out");
            return None;
        }
        Some(name)
    }

    fn field_value(&mut self, given: &Given<crate::config::given::Hidden>) -> Option<HeaderValue> {
        if let Ok(mut value) = HeaderValue::from_str(given.expose()) {
            // It may be a secret: it never prints (I12).
            value.set_sensitive(true);
            return Some(value);
        }
        let message = "has a character that no field value may contain";
        self.report.fault(&given.span, message, "use visible ASCII characters, spaces and tabs");
        None
    }
}

fn is_own(name: &str, of: Message) -> bool {
    let list = match of {
        Message::Request => &OF_REQUESTS,
        Message::Response => &OF_RESPONSES,
    };
    let is_listed = |listed: &&str| *listed == name || listed.ends_with('-') && name.starts_with(*listed);
    OWN_FIELDS.contains(&name) || name.starts_with("tidegate-") || list.iter().any(is_listed)
}
