//! What the shape of the sources promises, checked like anything else: floors, file length, module
//! documentation, dead files, banned names, and that each invariant names tests which cite it.
//! Every test here lists all faults at once, each as `file:line: what is wrong`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, and says where")]

#[path = "tidy/lexer.rs"]
mod lexer;

use lexer::{Source, is_word};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `src/lib.rs`, from the top; imports go to a later row only.
const FLOORS: &[&[&str]] = &[
    &["cli"],
    &["app"],
    &["config"],
    &["gateway", "admin"],
    &["access", "cache", "sync", "rate_limit", "source"],
    &["redis", "in_flight", "explanation"],
    &["breaker", "secret", "target", "telemetry", "tls"],
    &["clock"],
];

/// Lines a file may have, its tests left out.
const LINES_MAX: usize = 400;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "core"];

/// What must not stand in `src` outside tests.
const BANNED_CODE: &[&str] = &["todo!", "unimplemented!", "dbg!", ".unwrap()", "#[ignore"];

/// Whether a file, given by its path, may name a crate.
type Home = fn(&str) -> bool;

/// Which files may name which crate.
const CRATE_HOMES: &[(&str, Home)] = &[
    ("axum", |path| ["src/admin", "src/app", "src/cli/demo"].iter().any(|home| path.starts_with(home))),
    ("redis", |path| path.contains("redis") || path.contains("shared")),
    ("rusqlite", |path| path.starts_with("src/sync/journal")),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under `folders`, as paths from the root, sorted.
fn files(folders: &[&str]) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|child| child.unwrap().path()));
        } else if path.is_file() {
            found.insert(path.strip_prefix(root()).unwrap().to_path_buf());
        }
    }
    found.into_iter().collect()
}

/// The Rust sources under `folders`, read and masked.
fn sources(folders: &[&str]) -> Vec<Source> {
    let rust = files(folders).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| Source::new(path.to_str().unwrap(), &fs::read_to_string(root().join(&path)).unwrap()))
        .collect()
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn floor_faults(source: &Source) -> Vec<String> {
    let Some(own) = source.module() else { return Vec::new() };
    let Some(own_floor) = floor_of(&own) else {
        return vec![format!("{}:1: module `{own}` stands on no floor of tests/tidy.rs", source.path)];
    };
    let climbs = |(line, module): (usize, String)| {
        let goes_down = floor_of(&module).is_none_or(|floor| floor > own_floor);
        (module != own && !goes_down).then(|| {
            format!("{}:{line}: `{own}` must not import `{module}`: imports go down only", source.path)
        })
    };
    source.root_modules().into_iter().filter_map(climbs).collect()
}

#[test]
fn imports_go_down_only() {
    assert_none(&sources(&["src"]).iter().flat_map(floor_faults).collect::<Vec<_>>());
}

#[test]
fn floors_are_those_of_the_map_in_lib_rs() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared: BTreeSet<_> = Source::new("src/lib.rs", &map).declared_modules().into_iter().collect();
    let drawn: BTreeSet<_> = FLOORS.iter().flat_map(|floor| floor.iter().map(ToString::to_string)).collect();
    assert_eq!(declared, drawn, "src/lib.rs and the floors here name different modules");
    let undrawn: Vec<_> = drawn.iter().filter(|name| !map.contains(name.as_str())).collect();
    assert!(undrawn.is_empty(), "not drawn in src/lib.rs: {undrawn:?}");
}

fn crate_faults(source: &Source) -> Vec<String> {
    let misplaced = CRATE_HOMES.iter().filter(|(name, home)| source.names_crate(name) && !home(&source.path));
    misplaced.map(|(name, _)| format!("{}:1: the crate `{name}` has no place here", source.path)).collect()
}

#[test]
fn crates_stay_where_they_belong() {
    let checked = sources(&["src"]);
    assert_none(
        &checked.iter().filter(|source| !source.is_test()).flat_map(crate_faults).collect::<Vec<_>>(),
    );
}

#[test]
fn files_are_short_enough_to_read() {
    let long = sources(&["src", "load-tests"]).into_iter().filter(|source| !source.is_test());
    let faults = long.filter_map(|source| {
        let lines = source.lines;
        (lines > LINES_MAX)
            .then(|| format!("{}:1: {lines} lines without tests, {LINES_MAX} at most", source.path))
    });
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is() {
    let faults = sources(&["src", "tests", "load-tests"]).into_iter().filter_map(|source| {
        // Unit tests in a file of their own belong to the module above them, which says what it is.
        let documented = source.text.starts_with("//! ") || source.path.ends_with("/tests.rs");
        (!documented)
            .then(|| format!("{}:1: the first line is no module documentation (`//! `)", source.path))
    });
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn no_file_is_dead() {
    let mut alive = BTreeSet::new();
    let mut waiting = vec![PathBuf::from("src/lib.rs"), PathBuf::from("src/main.rs")];
    while let Some(path) = waiting.pop() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        let source = Source::new(path.to_str().unwrap(), &text);
        for module in source.declared_modules() {
            let folder = source.children_folder();
            waiting.push(folder.join(format!("{module}.rs")));
            waiting.push(folder.join(module).join("mod.rs"));
        }
        alive.insert(path);
    }
    let dead = files(&["src"])
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs") && !alive.contains(path));
    assert_none(&dead.map(|path| format!("{}:1: no `mod` leads here", path.display())).collect::<Vec<_>>());
}

fn name_faults(source: &Source) -> Vec<String> {
    let in_path =
        Path::new(&source.path).iter().map(|part| part.to_str().unwrap().trim_end_matches(".rs").to_owned());
    let names: Vec<_> = in_path.chain(source.declared_modules()).collect();
    let empty = names.into_iter().filter(|name| EMPTY_NAMES.contains(&name.as_str()));
    empty.map(|name| format!("{}:1: `{name}` says nothing about what is inside", source.path)).collect()
}

#[test]
fn names_say_what_is_inside() {
    assert_none(&sources(&["src", "tests", "load-tests"]).iter().flat_map(name_faults).collect::<Vec<_>>());
}

fn code_faults(source: &Source) -> Vec<String> {
    let lines = source.code.lines().enumerate();
    let hits = lines.flat_map(|(at, line)| {
        BANNED_CODE.iter().filter(move |what| line.contains(*what)).map(move |what| (at + 1, what))
    });
    hits.map(|(line, what)| format!("{}:{line}: `{what}` outside tests", source.path)).collect()
}

#[test]
fn nothing_unfinished_and_nothing_that_panics_carelessly() {
    let checked = sources(&["src"]);
    let faults = checked.iter().filter(|source| !source.is_test()).flat_map(code_faults);
    let skipped = sources(&["src", "tests"]).into_iter().filter(|source| source.masked.contains("#[ignore"));
    let skipped = skipped.map(|source| format!("{}:1: a test that is ignored", source.path));
    assert_none(&faults.chain(skipped).collect::<Vec<_>>());
}

#[test]
fn no_path_of_one_machine() {
    let homes = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let folders = [
        "src",
        "tests",
        "load-tests",
        "deploy",
        "docs",
        "config",
        ".ci",
        "Makefile",
        "Cargo.toml",
        "README.md",
    ];
    let more = ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "clippy.toml", "deny.toml"];
    let mut faults = Vec::new();
    for path in files(&folders).into_iter().chain(files(&more)) {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (at, line) in text.lines().enumerate() {
            let found = homes.iter().filter(|home| line.contains(*home));
            faults.extend(found.map(|home| format!("{}:{}: a path under `{home}`", path.display(), at + 1)));
        }
    }
    assert_none(&faults);
}

/// The faults of one row of the invariants' table: its id, what holds, the tests in backticks.
fn invariant_faults(line: usize, row: &str) -> Vec<String> {
    let at = format!("docs/ARCHITECTURE.md:{line}");
    let id =
        row.trim_start_matches('|').trim().split([' ', '|']).next().unwrap_or_default().trim_matches('*');
    let tests: Vec<_> =
        row.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::")).collect();
    if tests.is_empty() {
        return vec![format!("{at}: {id} names no test (`path/file.rs::test`)")];
    }
    let faults = tests.into_iter().filter_map(|(file, name)| {
        let path = format!("{file}.rs");
        let Ok(written) = fs::read_to_string(root().join(&path)) else {
            return Some(format!("{at}: {path} does not exist"));
        };
        let Some(test) = Source::new(&path, &written).function(name) else {
            return Some(format!("{at}: no `fn {name}` in {path}"));
        };
        // The documentation of a file that proves few things at length may cite for all its tests.
        let mut documentation = written.lines().take_while(|line| line.starts_with("//!"));
        let cited = is_word(&test, id)
            || name.starts_with(&format!("{}_", id.to_lowercase()))
            || documentation.any(|line| is_word(line, id));
        (!cited).then(|| format!("{at}: {path}::{name} does not cite {id}"))
    });
    faults.collect()
}

#[test]
fn every_invariant_names_tests_that_cite_it() {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let is_row = |line: &str| {
        let id = line.trim_start_matches(['|', ' ', '*']);
        line.starts_with('|') && id.starts_with('I') && id[1..].starts_with(|c: char| c.is_ascii_digit())
    };
    let rows: Vec<_> = text.lines().enumerate().filter(|(_, line)| is_row(line)).collect();
    assert!(!rows.is_empty(), "docs/ARCHITECTURE.md has no table of invariants");
    assert_none(&rows.into_iter().flat_map(|(at, row)| invariant_faults(at + 1, row)).collect::<Vec<_>>());
}

/// The faults of one row of a table of promises: it names at least one test that is there.
fn promise_faults(line: usize, row: &str) -> Vec<String> {
    let named = row.split('`').skip(1).step_by(2).filter(|code| code.contains(".rs::")).count();
    if named > 0 { Vec::new() } else { vec![format!("docs/HARDENING.md:{line}: names no test")] }
}

#[test]
fn every_row_of_hardening_names_a_test() {
    let text = fs::read_to_string(root().join("docs/HARDENING.md")).unwrap();
    let is_row = |line: &str| {
        line.starts_with("| ") && !line.starts_with("| What comes |") && !line.starts_with("| What happens |")
    };
    let rows: Vec<_> = text.lines().enumerate().filter(|(_, line)| is_row(line)).collect();
    assert!(rows.len() >= 40, "{} rows", rows.len());
    assert_none(&rows.into_iter().flat_map(|(at, row)| promise_faults(at + 1, row)).collect::<Vec<_>>());
}

/// Files, and tests in them, that a document names in backticks, from the root or from `src`, and that are
/// not there.
fn dangling(document: &str, text: &str) -> Vec<String> {
    let is_path = |code: &str| {
        let file = code.split("::").next().unwrap_or(code);
        let ends = [".rs", ".md", ".toml", "/"].iter().any(|end| file.ends_with(end));
        ends && file[1..].contains('/') && !file.starts_with('/') && !file.contains([' ', '{', ':'])
    };
    let exists = |code: &str| {
        let mut parts = code.splitn(2, "::");
        let (file, function) = (parts.next().unwrap_or_default(), parts.next());
        let path = [root().join(file), root().join("src").join(file)].into_iter().find(|path| path.exists());
        let has = |path: &PathBuf, name: &str| {
            fs::read_to_string(path).is_ok_and(|written| written.contains(&format!("fn {name}(")))
        };
        path.is_some_and(|path| function.is_none_or(|name| has(&path, name)))
    };
    let lines = text.lines().enumerate();
    let named =
        lines.flat_map(|(at, line)| line.split('`').skip(1).step_by(2).map(move |code| (at + 1, code)));
    let missing = named.filter(|(_, code)| !code.is_empty() && is_path(code) && !exists(code));
    missing.map(|(line, code)| format!("{document}:{line}: `{code}` does not exist")).collect()
}

#[test]
fn documents_name_files_that_exist() {
    let documents = files(&["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "load-tests/README.md"]);
    let written = documents.iter().filter(|path| path.extension().is_some_and(|e| e == "md"));
    let faults = written.flat_map(|path| {
        let text = fs::read_to_string(root().join(path)).unwrap();
        dangling(path.to_str().unwrap(), &text)
    });
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn planted_faults_are_seen() {
    let up = Source::new(
        "src/cache/rules/key.rs",
        "//! x\nuse crate::{clock::{self, Clock}, sync};\nuse super::super::super::gateway::Gate;\n",
    );
    assert_eq!(floor_faults(&up).len(), 2, "{:?}", floor_faults(&up));
    let nested =
        Source::new("src/gateway/mod.rs", "use crate::{\n    cache::{rules, Cache},\n    admin,\n};");
    assert_eq!(
        floor_faults(&nested),
        ["src/gateway/mod.rs:3: `gateway` must not import `admin`: imports go down only"]
    );
    assert_eq!(floor_faults(&Source::new("src/odd.rs", "")).len(), 1);
    let in_test =
        "fn a() {}\n#[cfg(test)]\nmod tests {\n    use crate::app;\n    fn b() { c.unwrap(); }\n}\n";
    let tested = Source::new("src/clock.rs", in_test);
    assert!(floor_faults(&tested).is_empty() && code_faults(&tested).is_empty());
    let odd = "#[cfg(test)]\nuse crate::app;\n#[cfg(test)]\nimpl A { fn b() { c.unwrap(); } }\nfn d() { e.unwrap(); }\n";
    let odd = Source::new("src/clock.rs", odd);
    assert!(floor_faults(&odd).is_empty() && odd.lines == 1, "{}", odd.lines);
    assert_eq!(code_faults(&odd), ["src/clock.rs:5: `.unwrap()` outside tests"]);
    let quoted = Source::new(
        "src/clock.rs",
        "// dbg!(1)\nlet a = \"http://x\".parse().unwrap(); let b = r#\"todo!\"#;",
    );
    assert_eq!(code_faults(&quoted), ["src/clock.rs:2: `.unwrap()` outside tests"]);
    for (path, text, faults) in [
        ("src/cache/mod.rs", "use redis::Client;", 1),
        ("src/cache/mod.rs", "use crate::redis; fn a() { redis::connect() }", 0),
        ("src/cache/mod.rs", "use crate::redis; fn a() { ::redis::connect() }", 1),
        ("src/cache/tiers/shared.rs", "use redis::Client;", 0),
        ("src/gateway/mod.rs", "use axum::Router;", 1),
        ("src/sync/mod.rs", "fn a(c: rusqlite::Connection) {}", 1),
    ] {
        assert_eq!(crate_faults(&Source::new(path, text)).len(), faults, "{path}: {text}");
    }
    assert_eq!(name_faults(&Source::new("src/cache/util.rs", "mod helpers;")).len(), 2);
    assert_eq!(promise_faults(1, "| a | b | `tests/tidy.rs` |").len(), 1);
    assert_eq!(promise_faults(1, "| a | b | `tests/tidy.rs::imports_go_down_only` |").len(), 0);
    let text =
        "`src/lib.rs` `src/gone.rs` `cli/gone.rs` `make test` `/a/` `src/main.rs::main` `src/main.rs::gone`";
    assert_eq!(dangling("README.md", text).len(), 3);
    assert_eq!(invariant_faults(1, "| I5 | holds | none |").len(), 1);
    assert_eq!(invariant_faults(1, "| I5 | holds | `tests/tidy.rs::imports_go_down_only` |").len(), 1);
    assert_eq!(invariant_faults(1, "| I5 | holds | `tests/tidy.rs::planted_faults_are_seen` |").len(), 0);
}
