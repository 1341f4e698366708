//! `Max-Forwards` (RFC 9110 7.6.2): how many more hops an OPTIONS request may take. TRACE, its other use,
//! is not served. Pure.

use super::body::Body;
use super::cache_status::CacheStatus;
use super::proxy_status;
use super::reply::Answer;
use http::header::{ALLOW, CONTENT_LENGTH, MAX_FORWARDS};
use http::{HeaderMap, HeaderValue, Method, Response};

/// The most hops that are passed on, whatever a request asks for.
const FORWARDS_MAX: u64 = 1_000_000;

/// How far a request may still go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwards {
    /// As far as it needs.
    Any,
    /// So many hops behind this one.
    Left(u64),
    /// No further: Tidegate answers as the last recipient.
    Last,
}

impl Forwards {
    /// What a request says. Other methods than OPTIONS have no use for it, and what is no number says
    /// nothing.
    pub(crate) fn of(method: &Method, fields: &HeaderMap) -> Self {
        if *method != Method::OPTIONS {
            return Self::Any;
        }
        let mut lines = fields.get_all(MAX_FORWARDS).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return Self::Any };
        let digits = line.as_bytes().trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Self::Any;
        }
        let number = digits.iter().fold(0u64, |number, digit| {
            number.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0')))
        });
        match number.checked_sub(1) {
            Some(left) => Self::Left(left.min(FORWARDS_MAX)),
            None => Self::Last,
        }
    }

    /// Puts what is left into the fields of the forwarded request.
    pub(crate) fn update(self, fields: &mut HeaderMap) {
        if let Self::Left(left) = self {
            fields.insert(MAX_FORWARDS, left.into());
        }
    }
}

/// The answer to a request that may go no further: what this route takes, as far as it says so.
pub(crate) fn answer(methods: Option<&[Method]>) -> Answer {
    let mut response = Response::new(Body::Empty);
    response.headers_mut().insert(CONTENT_LENGTH, 0.into());
    let list = methods.map(|methods| methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "));
    if let Some(value) = list.and_then(|list| HeaderValue::try_from(list).ok()) {
        response.headers_mut().insert(ALLOW, value);
    }
    proxy_status::failed("proxy_internal_response", response.headers_mut());
    Answer { response, status: CacheStatus::Own, quota: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_7_6_2_how_far_a_request_may_go() {
        for (method, lines, forwards) in [
            (Method::OPTIONS, &["0"][..], Forwards::Last),
            (Method::OPTIONS, &["00"], Forwards::Last),
            (Method::OPTIONS, &["1"], Forwards::Left(0)),
            (Method::OPTIONS, &["10"], Forwards::Left(9)),
            (Method::OPTIONS, &["99999999999999999999999"], Forwards::Left(FORWARDS_MAX)),
            (Method::OPTIONS, &["-1"], Forwards::Any),
            (Method::OPTIONS, &["+1"], Forwards::Any),
            (Method::OPTIONS, &["1.0"], Forwards::Any),
            (Method::OPTIONS, &["a"], Forwards::Any),
            (Method::OPTIONS, &[""], Forwards::Any),
            (Method::OPTIONS, &["0", "0"], Forwards::Any),
            (Method::OPTIONS, &[], Forwards::Any),
            (Method::GET, &["0"], Forwards::Any),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(MAX_FORWARDS, HeaderValue::from_static(line));
            }
            assert_eq!(Forwards::of(&method, &fields), forwards, "{method} {lines:?}");
        }
    }
}
