//! What a word was probably meant to be. Pure.

/// Words longer than this are compared with nothing.
const WORD_BYTES_MAX: usize = 64;

/// What was probably meant: at most a third of the letters differ.
pub(super) fn closest<'c>(text: &str, known: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if text.len() > WORD_BYTES_MAX {
        return None;
    }
    let (distance, known) = known.map(|known| (distance(text, known), known)).min()?;
    (distance * 3 <= text.len().max(3)).then_some(known)
}

/// Letters to insert, remove or replace to make one text of the other (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(right.chars()) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            before = replaced.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(cell) = row.first_mut() {
            *cell = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_close_or_absent() {
        for (text, expected) in [
            ("listn", Some("listen")),
            ("Listen", Some("listen")),
            ("thread", Some("threads")),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(closest(text, ["listen", "threads"].into_iter()), expected, "{text}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
