//! What a route does to fields besides what every gateway must: some are removed, then some set
//! (`request_headers`, `response_headers`).

use super::forwarded;
use super::request::Trust;
use http::header::{CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Changes of fields.
#[derive(Clone, Debug, Default)]
pub struct FieldChanges {
    /// Fields that go.
    pub remove: Vec<HeaderName>,
    /// Fields that take the place of what was there. Their values may be secrets, and say so.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

/// The fields of a 304 (RFC 9110 15.4.5).
const OF_NOT_MODIFIED: [HeaderName; 6] = [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY];

impl FieldChanges {
    /// Makes the changes to a request's fields. What a source takes for one of them because it reads `_` as `-` goes
    /// as well.
    pub(crate) fn apply(&self, fields: &mut HeaderMap) {
        for name in self.names() {
            forwarded::remove_claim(fields, name, Trust::Nobody);
        }
        self.apply_where(fields, |_| true);
    }

    /// Whether trailers that are announced so would say again what the route has removed or set.
    pub(crate) fn are_undone_by(&self, announced: &HeaderValue) -> bool {
        let names = announced.to_str().unwrap_or_default().split(',');
        let mut names = names.filter_map(|name| HeaderName::try_from(name.trim()).ok());
        names.any(|name| self.names().any(|own| forwarded::reads_as(own, &name)))
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }

    fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.remove.iter().chain(self.set.iter().map(|(name, _)| name))
    }

    /// Makes the changes to a response's fields; a 304 gets none that it should not have.
    pub(crate) fn apply_to_response(&self, status: StatusCode, fields: &mut HeaderMap) {
        let is_not_modified = status == StatusCode::NOT_MODIFIED;
        self.apply_where(fields, |name| !is_not_modified || OF_NOT_MODIFIED.contains(name));
    }

    fn apply_where(&self, fields: &mut HeaderMap, may_set: impl Fn(&HeaderName) -> bool) {
        for name in &self.remove {
            fields.remove(name);
        }
        for (name, value) in self.set.iter().filter(|(name, _)| may_set(name)) {
            fields.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_as_what_is_changed_goes_too() {
        let (gone, set) = (HeaderName::from_static("x-gone"), HeaderName::from_static("x-set"));
        let changes = FieldChanges { remove: vec![gone], set: vec![(set, HeaderValue::from_static("1"))] };
        let mut fields = HeaderMap::new();
        for name in ["x_gone", "x_set", "x-set", "x_kept"] {
            fields.append(name, HeaderValue::from_static("a"));
        }
        changes.apply(&mut fields);
        let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-set", "x_kept"]);
        assert_eq!(fields["x-set"], "1");
        for (announced, undone) in [("x-kept", false), ("x-kept, X_Set", true), ("x-gone", true)] {
            assert_eq!(changes.are_undone_by(&HeaderValue::from_static(announced)), undone, "{announced}");
        }
    }

    #[test]
    fn what_is_set_takes_the_place_of_all_that_was_there() {
        let name = |name| HeaderName::from_static(name);
        let value = |value| HeaderValue::from_static(value);
        let changes = FieldChanges {
            remove: vec![name("x-gone"), name("x-both")],
            set: vec![(name("x-set"), value("1")), (name("x-both"), value("2")), (CACHE_CONTROL, value("3"))],
        };
        let mut fields = HeaderMap::new();
        for (name, value) in
            [("x-gone", "a"), ("x-gone", "b"), ("x-set", "c"), ("x-set", "d"), ("x-kept", "e")]
        {
            fields.append(name, value.parse().unwrap());
        }
        let mut not_modified = fields.clone();
        changes.apply(&mut fields);
        let mut lines: Vec<_> =
            fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        lines.sort_unstable();
        assert_eq!(lines, [("cache-control", "3"), ("x-both", "2"), ("x-kept", "e"), ("x-set", "1")]);
        not_modified.remove("x-set");
        changes.apply_to_response(StatusCode::NOT_MODIFIED, &mut not_modified);
        let mut names: Vec<_> = not_modified.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "x-kept"], "RFC 9110 15.4.5");
    }
}
