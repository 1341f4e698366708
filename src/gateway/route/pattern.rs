//! Path patterns: `/exact`, `/items/{id}`, `/items/{*rest}`. Pure.

use std::fmt;

/// A path pattern: `/exact`, `/items/{id}`, `/items/{*rest}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Name(String),
    Rest(String),
}

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with `/`.
    #[error("a path pattern begins with /")]
    Slash,
    /// `{*rest}` stands before the end.
    #[error("{{*name}} is allowed at the end only")]
    RestNotLast,
    /// A brace within a segment, or an empty or repeated name.
    #[error("a segment is a text, {{name}} or, at the end, {{*name}}, and names are unique")]
    Segment,
    /// A literal that no canonical path contains.
    #[error("{0}")]
    Target(#[from] crate::target::TargetError),
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`]
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let path = text.strip_prefix('/').ok_or(PatternError::Slash)?;
        let parts: Vec<&str> = path.split('/').collect();
        let mut segments: Vec<Segment> = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let segment = match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(name) => match name.strip_prefix('*') {
                    Some(_) if index + 1 < parts.len() => return Err(PatternError::RestNotLast),
                    Some(name) => Segment::Rest(parse_name(name, &segments)?),
                    None => Segment::Name(parse_name(name, &segments)?),
                },
                None if part.contains(['{', '}']) => return Err(PatternError::Segment),
                None => {
                    let canonical = crate::target::canonical_path(&format!("/{part}"))?;
                    Segment::Literal(canonical.trim_start_matches('/').to_owned())
                }
            };
            segments.push(segment);
        }
        Ok(Self { segments })
    }

    /// The names of its parts, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Literal(_) => None,
                Segment::Name(name) | Segment::Rest(name) => Some(name.as_str()),
            })
            .collect()
    }

    /// Whether it matches a canonical path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.walk(path, |_, _| {})
    }

    /// What its names match in a canonical path; `None` where it does not match.
    #[must_use]
    pub fn matching<'a>(&'a self, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut names = Vec::new();
        self.walk(path, |name, part| names.push((name, part))).then_some(names)
    }

    /// Tells what each name meets on the way; whether the way leads to the end.
    fn walk<'a>(&'a self, path: &'a str, mut meet: impl FnMut(&'a str, &'a str)) -> bool {
        let mut rest = path.strip_prefix('/');
        for segment in &self.segments {
            let Some(current) = rest else { return false };
            if let Segment::Rest(name) = segment {
                meet(name, current);
                return true;
            }
            let (part, after) = match current.split_once('/') {
                Some((part, after)) => (part, Some(after)),
                None => (current, None),
            };
            match segment {
                Segment::Literal(literal) if literal == part => {}
                Segment::Name(name) if !part.is_empty() => meet(name, part),
                Segment::Literal(_) | Segment::Name(_) | Segment::Rest(_) => return false,
            }
            rest = after;
        }
        rest.is_none()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => write!(f, "/{text}"),
            Segment::Name(name) => write!(f, "/{{{name}}}"),
            Segment::Rest(name) => write!(f, "/{{*{name}}}"),
        })
    }
}

fn parse_name(name: &str, before: &[Segment]) -> Result<String, PatternError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let used = before.iter().any(|segment| match segment {
        Segment::Literal(_) => false,
        Segment::Name(other) | Segment::Rest(other) => other == name,
    });
    if name.is_empty() || used || !name.bytes().all(allowed) {
        return Err(PatternError::Segment);
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        for (pattern, path, names) in [
            ("/exact", "/exact", Some(vec![])),
            ("/{*rest}", "no-slash", None),
            ("/exact", "/exact/", None),
            ("/items/{id}", "/items/7", Some(vec![("id", "7")])),
            ("/items/{id}", "/items/", None),
            ("/items/{id}", "/items/7/8", None),
            ("/admin/{*rest}", "/admin/", Some(vec![("rest", "")])),
            ("/admin/{*rest}", "/admin/a/b", Some(vec![("rest", "a/b")])),
            ("/admin/{*rest}", "/admin", None),
            ("/{*rest}", "/", Some(vec![("rest", "")])),
            ("/", "/", Some(vec![])),
            ("/a/{x}/c", "/a/b/c", Some(vec![("x", "b")])),
        ] {
            let parsed = PathPattern::parse(pattern).unwrap();
            assert_eq!(parsed.to_string(), pattern);
            assert_eq!(parsed.matching(path), names, "{pattern} {path}");
            assert_eq!(parsed.matches(path), names.is_some(), "{pattern} {path}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for (pattern, error) in [
            ("items", PatternError::Slash),
            ("/{*a}/b", PatternError::RestNotLast),
            ("/a{b}", PatternError::Segment),
            ("/{}", PatternError::Segment),
            ("/{a}/{a}", PatternError::Segment),
            ("/../a", PatternError::Target(crate::target::TargetError::DotSegment)),
        ] {
            assert_eq!(PathPattern::parse(pattern), Err(error), "{pattern}");
        }
    }
}
