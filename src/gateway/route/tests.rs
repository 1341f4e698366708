mod pairs;

use super::*;

#[test]
fn i8_other_readings_of_a_path() {
    assert!(other_readings("/plain/path").is_empty());
    let readings = other_readings("/a%2Fb;x//c");
    for reading in ["/a/b;x//c", "/a%2Fb//c", "/a%2Fb;x/c", "/a/b/c"] {
        assert!(readings.iter().any(|path| path == reading), "{reading} in {readings:?}");
    }
}

#[test]
fn i8_every_reading_of_a_path_without_a_canonical_form() {
    let readings = every_reading("/a/%2e%2e%5Cb/../c;x");
    for reading in ["/a/%2e%2e%5Cb/../c;x", "/a/c;x", "/c;x", "/a/..", "/c"] {
        let is_there = readings.iter().any(|path| path == reading);
        assert_eq!(is_there, reading != "/a/..", "{reading} in {readings:?}");
    }
}

#[test]
fn ignored_query_parameters() {
    let ignored = ["utm_*".to_owned(), "x".to_owned()];
    for (pair, is) in [("utm_source=1", true), ("utm", false), ("x", true), ("x=1", true), ("xy=1", false)] {
        assert_eq!(is_ignored(pair, &ignored), is, "{pair}");
    }
}
