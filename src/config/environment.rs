//! `${NAME}` and `${NAME:-default}` inside strings. Pure: who knows the variables is passed in.

/// Why a string could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// A variable that is not set, and no default.
    Missing(String),
    /// `${` without `}`, or what stands between is no name.
    Malformed,
}

/// Replaces every variable of `text`. A `$` that no `{` follows stands for itself; what a variable
/// holds is not read again. As in a shell, `:-` also replaces an empty variable.
pub(super) fn expand(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let (inside, behind) = after.split_once('}').ok_or(ExpandError::Malformed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(ExpandError::Malformed);
        }
        match (environment(name), default) {
            (Some(value), None) => expanded.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => expanded.push_str(&value),
            (_, Some(default)) => expanded.push_str(default),
            (None, None) => return Err(ExpandError::Missing(name.to_owned())),
        }
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced() {
        let environment = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        };
        let missing = |name: &str| Err(ExpandError::Missing(name.to_owned()));
        for (text, expanded) in [
            ("plain $5 {x}", Ok("plain $5 {x}")),
            ("${A}-${A}", Ok("1-1")),
            ("${A:-2}", Ok("1")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-2}", Ok("2")),
            ("${NO:-}", Ok("")),
            ("${NO:-a:-b}", Ok("a:-b")),
            ("${NESTED}", Ok("${A}")),
        ] {
            assert_eq!(expand(text, &environment).as_deref(), expanded.as_ref().map(|text| *text), "{text}");
        }
        assert_eq!(expand("${NO}", &environment), missing("NO"));
        for text in ["${A", "${}", "${1A}", "${A B}", "${:-x}"] {
            assert_eq!(expand(text, &environment), Err(ExpandError::Malformed), "{text}");
        }
    }
}
