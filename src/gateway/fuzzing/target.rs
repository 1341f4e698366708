//! Targets of any bytes: one canonical form, and the bytes as they came where that is asked for.

use crate::cache::CacheKey;
use crate::target::{Authority, Scheme, Target, TargetForm};

/// Checks one input, as an origin form and, behind a space, a Host.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (came, host) = text.split_once(' ').unwrap_or((text, "h"));
    let Ok(authority) = Authority::parse(host, Scheme::Http) else { return };
    assert_eq!(Authority::parse(authority.as_str(), Scheme::Http).as_ref(), Ok(&authority), "a fixed point");
    let Ok(opaque) = Target::received(Scheme::Http, authority.clone(), came) else { return };
    assert_eq!(opaque.as_forwarded().path_and_query(), came, "opaque is as it came");
    // A path alone with two slashes in front would be taken for an authority: it always stands behind one.
    let url = format!("http://{authority}{came}");
    assert!(url.parse::<http::Uri>().is_ok(), "what passes can be said to a source: {url}");
    let mut canonical = opaque.clone();
    if canonical.take_form(TargetForm::Canonical).is_err() {
        assert!(opaque.unclear().is_some() && Target::new(Scheme::Http, authority, came).is_err());
        return;
    }
    let form = canonical.path_and_query().to_owned();
    assert_eq!(canonical.as_forwarded().path_and_query(), form);
    assert_eq!(Target::new(Scheme::Http, authority.clone(), &form).as_ref(), Ok(&canonical), "a fixed point");
    assert_eq!(Target::parse_absolute(&canonical.to_string()).as_ref(), Ok(&canonical));
    assert!(!canonical.path().starts_with("//"));
    assert_eq!(canonical.query(), came.split_once('?').map(|(_, query)| query), "a query is never changed");
    let same = CacheKey::new(&canonical, None).text() == CacheKey::new(&opaque, None).text();
    assert_eq!(same, form == came, "equal keys are equal bytes");
    let decoded = decoded(canonical.path());
    let segments = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
    for segment in segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default()) {
        assert!(segment != b"." && segment != b"..", "a dot segment in {form}");
    }
    assert!(!decoded.iter().any(u8::is_ascii_control), "a control octet in {form}");
}

fn decoded(path: &str) -> Vec<u8> {
    let (mut bytes, mut out) = (path.bytes(), Vec::new());
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).unwrap_or_default();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => u8::try_from(digit(bytes.next()) * 16 + digit(bytes.next())).unwrap_or_default(),
            other => other,
        });
    }
    out
}
