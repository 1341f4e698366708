//! Configurations of any text: settings, or faults with a place (the fuzz target `config`). Only built for that
//! and for its replay.

use super::parse;
use std::path::Path;

/// Checks one input.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read =
        || parse(text, "f", Path::new("/nowhere"), &|name| (name == "SET").then(|| "value".to_owned()));
    match (read(), read()) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.digest, second.digest);
            assert!(!first.gateway.routes.is_empty() || !first.sources.is_empty());
        }
        (Err(first), Err(second)) => {
            let lines: Vec<String> = first.as_slice().iter().map(ToString::to_string).collect();
            let again: Vec<String> = second.as_slice().iter().map(ToString::to_string).collect();
            assert_eq!(lines, again, "the same text has the same faults");
            assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with("f:")), "{lines:?}");
        }
        _ => panic!("the same text is read in two ways"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_kept_corpus_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
        let mut inputs = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            super::check(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 10, "{inputs}");
    }
}
