//! The canonical form of paths, and what may stand in targets as it is.

use super::TargetError;

/// The canonical form of an origin form, and the length of its path.
pub(super) fn form(origin_form: &str) -> Result<(String, usize), TargetError> {
    let (path, query) = parts(origin_form);
    let mut path_and_query = canonical_path(path)?;
    let path_len = path_and_query.len();
    if let Some(query) = query {
        if !query.bytes().all(is_query_byte) {
            return Err(TargetError::Character);
        }
        path_and_query.reserve_exact(query.len() + 1);
        path_and_query.push('?');
        path_and_query.push_str(query);
    }
    Ok((path_and_query, path_len))
}

/// The length of the path of an origin form that is canonical as it stands; `None`: it is another, or none.
pub(super) fn clean_path_len(origin_form: &str) -> Option<usize> {
    let (path, query) = parts(origin_form);
    let is_clean = path.starts_with('/')
        && !path.starts_with("//")
        && is_canonical(path)
        && query.is_none_or(|query| query.bytes().all(is_query_byte));
    is_clean.then_some(path.len())
}

/// Path and query of an origin form.
pub(super) fn parts(origin_form: &str) -> (&str, Option<&str>) {
    let mark = memchr::memchr(b'?', origin_form.as_bytes());
    match mark.and_then(|mark| origin_form.split_at_checked(mark)) {
        Some((path, query)) => (path, query.get(1..)),
        None => (origin_form, None),
    }
}

/// Visible ASCII less what no target may contain raw (RFC 3986 2.2) and some parser refuses. What browsers
/// leave as it is passes.
const fn is_target_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E) && !matches!(byte, b'#' | b'\\' | b'<' | b'>')
}

/// Whether an absolute path can stay as it is, as nearly all can: nothing is escaped, and no segment begins
/// with a dot.
fn is_canonical(path: &str) -> bool {
    let mut before = b'/';
    path.bytes().skip(1).all(|byte| {
        let is_dotted = before == b'/' && byte == b'.';
        before = byte;
        is_path_byte(byte) && byte != b'%' && !is_dotted
    })
}

/// Whether a path may contain this byte as it is.
#[must_use]
pub const fn is_path_byte(byte: u8) -> bool {
    is_target_byte(byte) && byte != b'`'
}

/// Whether a query may contain this byte as it is.
#[must_use]
pub const fn is_query_byte(byte: u8) -> bool {
    is_target_byte(byte) && byte != b'"'
}

/// The canonical form of an absolute path, as a route, a purge or a configuration names it.
///
/// # Errors
/// The first [`TargetError`] of the path.
pub fn canonical_path(path: &str) -> Result<String, TargetError> {
    if !path.starts_with('/') || path.starts_with("//") {
        return Err(TargetError::Path);
    }
    if is_canonical(path) {
        return Ok(path.to_owned());
    }
    let mut canonical = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if !is_path_byte(byte) {
            return Err(TargetError::Character);
        }
        if byte != b'%' {
            canonical.push(char::from(byte));
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(TargetError::Escape);
        };
        let escaped = u8::try_from(high * 16 + low).map_err(|_| TargetError::Escape)?;
        match escaped {
            0..=0x1F | 0x7F | b'\\' => return Err(TargetError::Character),
            b'-' | b'.' | b'_' | b'~' => canonical.push(char::from(escaped)),
            _ if escaped.is_ascii_alphanumeric() => canonical.push(char::from(escaped)),
            _ => {
                canonical.push('%');
                for digit in [escaped >> 4, escaped & 15] {
                    let digit = char::from_digit(digit.into(), 16).unwrap_or('0');
                    canonical.push(digit.to_ascii_uppercase());
                }
            }
        }
    }
    if has_dot_segment(&canonical) {
        return Err(TargetError::DotSegment);
    }
    Ok(canonical)
}

/// Whether a segment is `.` or `..` for anybody who decodes `%2F` or cuts `;parameters`.
fn has_dot_segment(canonical: &str) -> bool {
    canonical
        .split('/')
        .flat_map(|segment| segment.split("%2F"))
        .map(|segment| segment.split([';']).next().unwrap_or_default())
        .map(|segment| segment.split("%3B").next().unwrap_or_default())
        .any(|segment| matches!(segment, "." | ".."))
}
