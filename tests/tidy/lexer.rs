//! Just enough of Rust's surface to check it: comments and literals blanked out, tests cut off,
//! and the paths that begin at the crate's root.

use std::path::{Path, PathBuf};

/// One source file.
pub(crate) struct Source {
    /// Its path from the root.
    pub(crate) path: String,
    /// As it is written.
    pub(crate) text: String,
    /// With comments and literals blanked, line by line in place.
    pub(crate) masked: String,
    /// `masked` with every `#[cfg(test)]` item blanked too.
    pub(crate) code: String,
    /// Lines outside of tests.
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let masked = mask(text);
        let mut code = masked.clone();
        let mut lines = text.lines().count();
        while let Some(begin) = code.find(TEST_ATTRIBUTE) {
            let end = begin + item_length(&code[begin..]);
            lines -= code[begin..end].lines().count();
            code.replace_range(begin..end, &blank(&code[begin..end]));
        }
        Self { path: path.into(), text: text.into(), masked, code, lines }
    }

    /// A file that holds nothing but tests and what they stand on.
    pub(crate) fn is_test(&self) -> bool {
        let names = ["tests.rs", "testing.rs", "tests"];
        Path::new(&self.path).iter().any(|part| names.iter().any(|name| part == *name))
    }

    /// The module of the crate's root that this file is or belongs to; none for `lib.rs`, `main.rs`.
    pub(crate) fn module(&self) -> Option<String> {
        let first = Path::new(&self.path).iter().nth(1)?.to_str()?.trim_end_matches(".rs");
        (!["lib", "main"].contains(&first) && !self.is_test()).then(|| first.to_owned())
    }

    /// Where the files of the modules declared here lie.
    pub(crate) fn children_folder(&self) -> PathBuf {
        let path = Path::new(&self.path);
        let folder = path.parent().unwrap().to_path_buf();
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("lib" | "main" | "mod") | None => folder,
            Some(stem) => folder.join(stem),
        }
    }

    /// The names in `mod name;` and `mod name {`.
    pub(crate) fn declared_modules(&self) -> Vec<String> {
        let names = self.masked.lines().filter_map(|line| {
            let (before, after) = line.split_once("mod ")?;
            let visible = before.trim().is_empty() || before.trim().starts_with("pub");
            let name = after.split([';', ' ', '{']).next()?;
            (visible && after.contains([';', '{']) && name.chars().all(is_ident)).then(|| name.to_owned())
        });
        names.collect()
    }

    /// The modules of the crate's root that the code names, with the line of each.
    pub(crate) fn root_modules(&self) -> Vec<(usize, String)> {
        let depth = self.children_folder().iter().count().saturating_sub(1);
        let to_root = "super::".repeat(depth);
        let mut found = Vec::new();
        for prefix in ["crate::", to_root.as_str()].iter().filter(|prefix| !prefix.is_empty()) {
            for (at, _) in self.code.match_indices(prefix) {
                let before = self.code[..at].chars().next_back();
                if before.is_some_and(|c| is_ident(c) || c == ':') {
                    continue;
                }
                found.extend(heads(&self.code, at + prefix.len()));
            }
        }
        found.into_iter().map(|(at, name)| (self.code[..at].matches('\n').count() + 1, name)).collect()
    }

    /// Whether the code names the crate `name`, and not a module of the crate's root of that name.
    pub(crate) fn names_crate(&self, name: &str) -> bool {
        let shadowed = self.root_modules().iter().any(|(_, module)| module == name);
        self.code.match_indices(&format!("{name}::")).any(|(at, _)| {
            let before = &self.code[..at];
            match before.strip_suffix("::") {
                Some(path) => !path.ends_with(is_ident) && !path.ends_with('>'),
                None => !shadowed && !before.ends_with(is_ident),
            }
        })
    }

    /// The function `name` as written, with the comments and attributes above it.
    pub(crate) fn function(&self, name: &str) -> Option<String> {
        let lines: Vec<_> = self.text.lines().collect();
        let at = lines.iter().position(|line| line.contains(&format!("fn {name}(")))?;
        let belongs =
            |line: &&&str| line.trim_start().starts_with("//") || line.trim_start().starts_with("#[");
        let above = lines[..at].iter().rev().take_while(belongs).count();
        let indent = lines[at].len() - lines[at].trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let body = lines[at..].iter().position(|line| **line == closing).unwrap_or(0);
        Some(lines[at - above..=at + body].join("\n"))
    }
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in `text` as a word of its own.
pub(crate) fn is_word(text: &str, word: &str) -> bool {
    text.split(|c| !is_ident(c)).any(|each| each == word)
}

const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

/// The length of the item that `code` begins with: to its semicolon, or to the end of its braces.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// As many bytes and lines, all of them empty.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The first name of each path that begins at `start`: one, or those in braces.
fn heads(code: &str, start: usize) -> Vec<(usize, String)> {
    let name_at = |at: usize| {
        let name: String = code[at..].chars().take_while(|c| is_ident(*c)).collect();
        (!name.is_empty()).then_some((at, name))
    };
    if !code[start..].starts_with('{') {
        return name_at(start).into_iter().collect();
    }
    let mut found = Vec::new();
    let (mut depth, mut item_begins) = (0_usize, false);
    for (offset, c) in code[start..].char_indices() {
        match c {
            '{' => (depth, item_begins) = (depth + 1, depth == 0),
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => item_begins = true,
            c if item_begins && is_ident(c) => {
                found.extend(name_at(start + offset));
                item_begins = false;
            }
            _ => {}
        }
    }
    found
}

/// `text` with comments and literals blanked out; lines keep their numbers, bytes their places.
fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal_length(rest, masked.chars().next_back()).unwrap_or(0);
        if length == 0 {
            masked.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (literal, after) = rest.split_at(length);
        masked.push_str(&blank(literal));
        rest = after;
    }
    masked
}

/// The length of the comment or literal that `rest` begins with.
fn literal_length(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if rest.starts_with('"') {
        return Some(quoted_length(rest));
    }
    if rest.starts_with('r') && !before.is_some_and(|c| is_ident(c) && c != 'b') {
        let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
        let opened = rest[1 + hashes..].starts_with('"');
        let closing = format!("\"{}", "#".repeat(hashes));
        let end = rest.get(hashes + 2..).and_then(|inner| inner.find(&closing));
        return opened.then(|| end.map_or(rest.len(), |end| hashes + 2 + end + closing.len()));
    }
    let inner = rest.strip_prefix('\'')?;
    if let Some(escaped) = inner.strip_prefix('\\') {
        let skipped = escaped.chars().next()?.len_utf8();
        return escaped[skipped..].find('\'').map(|end| end + skipped + 3);
    }
    let width = inner.chars().next()?.len_utf8();
    inner[width..].starts_with('\'').then_some(width + 2)
}

fn quoted_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}
