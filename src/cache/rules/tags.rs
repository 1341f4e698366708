//! Tags: names under which responses are purged together (RFC 9875, and two fields of common use).

use http::{HeaderMap, HeaderName};

/// RFC 9875 2: a structured list of strings, passed on.
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// RFC 9875 3: on responses to unsafe methods, the groups that became old.
pub const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
/// Tags between spaces, not passed on.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// Tags between commas, not passed on.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// Tags of one response; further ones are dropped.
pub const TAGS_MAX: usize = 64;
/// Bytes of one tag; a longer one is dropped.
pub const TAG_BYTES_MAX: usize = 256;

/// The tags of a response, the route's first, without repetitions.
#[must_use]
pub fn of_response(fields: &HeaderMap, route: &[String]) -> Vec<String> {
    bounded(route.iter().cloned().chain(of_fields(fields)))
}

fn of_fields(fields: &HeaderMap) -> impl Iterator<Item = String> {
    let groups = groups(fields, &CACHE_GROUPS);
    let keys = words(fields, &SURROGATE_KEY, |byte| byte == ' ' || byte == '\t');
    let tags = words(fields, &CACHE_TAG, |byte| byte == ',');
    groups.into_iter().chain(keys).chain(tags)
}

/// How many of a response's tags its stored form has not: beyond the bounds they are dropped, and a purge
/// by them does not find it.
#[must_use]
pub fn dropped(fields: &HeaderMap, kept: &[String]) -> usize {
    if ![CACHE_GROUPS, SURROGATE_KEY, CACHE_TAG].iter().any(|name| fields.contains_key(name)) {
        return 0;
    }
    let is_dropped = |tag: &String| !tag.is_empty() && !kept.contains(tag);
    of_fields(fields).filter(is_dropped).count()
}

/// The groups that a response to an unsafe request names as old (RFC 9875 3).
#[must_use]
pub fn invalidated_groups(fields: &HeaderMap) -> Vec<String> {
    bounded(groups(fields, &CACHE_GROUP_INVALIDATION).into_iter())
}

/// Whether a field speaks to this gateway alone: it is neither stored nor passed on.
#[must_use]
pub fn is_private(name: &HeaderName) -> bool {
    name == SURROGATE_KEY || name == CACHE_TAG
}

/// Each tag once, within the bounds, in the order in which they came.
pub(super) fn bounded(tags: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for tag in tags.filter(|tag| !tag.is_empty() && tag.len() <= TAG_BYTES_MAX) {
        if kept.len() == TAGS_MAX {
            break;
        }
        if !kept.contains(&tag) {
            kept.push(tag);
        }
    }
    kept
}

/// A structured list of strings; parameters are ignored. A list that cannot be read, or that has another
/// member than strings, is as if absent (RFC 9651 2, 4.2).
fn groups(fields: &HeaderMap, name: &HeaderName) -> Vec<String> {
    if !fields.contains_key(name) {
        return Vec::new();
    }
    let joined =
        fields.get_all(name).iter().map(http::HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
    let Ok(list) = sfv::Parser::new(&joined).parse::<sfv::List>() else { return Vec::new() };
    let string = |member: &sfv::ListEntry| match member {
        sfv::ListEntry::Item(item) => item.bare_item.as_string().map(|text| text.as_str().to_owned()),
        sfv::ListEntry::InnerList(_) => None,
    };
    list.iter().map(string).collect::<Option<_>>().unwrap_or_default()
}

fn words(fields: &HeaderMap, name: &HeaderName, separates: fn(char) -> bool) -> Vec<String> {
    let lines = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(separates))
        .map(|word| word.trim_matches([' ', '\t']).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn tags_come_from_three_fields_and_the_route() {
        let fields = fields(&[
            (CACHE_GROUPS, "\"a b\", \"B\";p=1"),
            (CACHE_GROUPS, "\"c,d\""),
            (SURROGATE_KEY, " e  f "),
            (CACHE_TAG, "g h,, f"),
        ]);
        assert_eq!(
            of_response(&fields, &["r".into(), "e".into()]),
            ["r", "e", "a b", "B", "c,d", "f", "g h"]
        );
    }

    #[test]
    fn what_speaks_to_this_gateway_alone() {
        for (name, expected) in [(SURROGATE_KEY, true), (CACHE_TAG, true), (CACHE_GROUPS, false)] {
            assert_eq!(is_private(&name), expected, "{name}");
        }
    }

    #[test]
    fn rfc9875_2_an_unreadable_list_is_absent() {
        for list in ["\"a\", \"b", "\"a\", b", "\"a\", 7", "\"a\", (\"b\")", "\"a\",", "a b", "\"\u{e4}\""] {
            let read = of_response(&fields(&[(CACHE_GROUPS, list)]), &["r".into()]);
            assert_eq!(read, ["r"], "{list}");
        }
        assert_eq!(invalidated_groups(&fields(&[(CACHE_GROUP_INVALIDATION, "\"a\", \"\"")])), ["a"]);
    }

    #[test]
    fn rfc9875_2_as_many_and_as_long_as_must_be_supported() {
        let names: Vec<String> = (0..32).map(|number| format!("{number:032}")).collect();
        let list = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        assert_eq!(of_response(&fields(&[(CACHE_GROUPS, &list)]), &[]), names);
        assert_eq!(invalidated_groups(&fields(&[(CACHE_GROUP_INVALIDATION, &list)])), names);
    }

    #[test]
    fn i10_tags_are_bounded() {
        let many = (0..100).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(of_response(&fields(&[(CACHE_TAG, &many)]), &[]).len(), TAGS_MAX);
        let many = fields(&[(CACHE_TAG, &many)]);
        assert_eq!(dropped(&many, &of_response(&many, &[])), 100 - TAGS_MAX);
        let long = "x".repeat(TAG_BYTES_MAX + 1);
        assert_eq!(dropped(&fields(&[(SURROGATE_KEY, &long), (CACHE_TAG, "a")]), &["a".to_owned()]), 1);
        assert_eq!(of_response(&fields(&[(CACHE_TAG, &long)]), &[]), Vec::<String>::new());
        assert_eq!(of_response(&fields(&[(CACHE_TAG, long.get(1..).unwrap())]), &[]).len(), 1);
    }
}
