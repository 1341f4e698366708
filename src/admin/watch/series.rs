//! What the recorder has, read from the text that it renders: there is one bookkeeping, that of the metrics.

use std::borrow::Cow;

/// One line of the Prometheus text.
#[derive(Debug, PartialEq)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: f64,
}

impl Series<'_> {
    /// A label's value; empty where there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    }
}

/// The lines of a text that are no comments and can be read.
pub(super) fn read(text: &str) -> impl Iterator<Item = Series<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line)
}

fn line(line: &str) -> Option<Series<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at_checked(end)?;
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, behind) = rest.trim_start_matches(',').split_once("=\"")?;
            let end = closing_quote(behind)?;
            let (value, behind) = behind.split_at_checked(end)?;
            labels.push((label, unescaped(value)));
            rest = behind.strip_prefix('"')?;
        }
        rest = rest.strip_prefix('}')?;
    }
    Some(Series { name, labels, value: rest.split_whitespace().next()?.parse().ok()? })
}

/// Where the first quote stands that no backslash escapes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, char)| {
        let ends = char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        ends.then_some(at)
    })
}

fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match (char, if char == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => plain.push('\n'),
            (_, Some(escaped)) => plain.push(escaped),
            (plainly, None) => plain.push(plainly),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_name_labels_and_a_value() {
        let read =
            |text| read(text).next().map(|one| (one.name.to_owned(), one.label("b").to_owned(), one.value));
        let found = |name: &str, label: &str, value| Some((name.to_owned(), label.to_owned(), value));
        for (text, expected) in [
            ("a 1", found("a", "", 1.0)),
            ("a{b=\"c\"} 2.5", found("a", "c", 2.5)),
            ("a{x=\"}\",b=\"q\\\"\\\\\\n,\"} 3", found("a", "q\"\\\n,", 3.0)),
            ("a{b=\"\"} NaN_", None),
            ("# HELP a b", None),
            ("a{b=\"c} 1", None),
            ("", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert!(super::read("a +Inf").next().is_some_and(|one| one.value.is_infinite()));
    }
}
