//! A client's Idempotency-Key on a synced write (draft-ietf-httpapi-idempotency-key-header): the same
//! write is sent once, and answered alike.
//!
//! The key is a structured string; a bare token stands for the same string, because many clients send one.
//! It is told from others by route and by who asks, which is the route's `identity`, or where that splits
//! nothing Authorization and Cookie: nobody is ever given what somebody else's write was answered. All of that is
//! hashed before it leaves here (I12).
//!
//! Kept are answers to what has happened, and final refusals of the source. What says "not now" (408, 409,
//! 425, 429, 5xx), and what was never sent, is not: the same write may then be sent again.

use super::begun;
use super::body::Body;
use super::cache_status::CacheStatus;
use super::problem::GatewayError;
use super::reply::Answer;
use super::request::Request;
use super::route::Route;
use super::write::{TIDEGATE_CHANGE, Verdict};
use crate::cache::rules::identity::{TIDEGATE_AUTHORIZED, TIDEGATE_IDENTITY};
use crate::in_flight::Share;
use crate::sync::{ChangeId, ClientKey, Hash, KeptAnswer, KeptHead};
use crate::telemetry::metrics as names;
use http::header::{AUTHORIZATION, COOKIE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sha2::{Digest, Sha256};

/// The field's name.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A key that cannot be read: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// The key of a request, if it has one.
///
/// # Errors
/// [`Unreadable`]: it is no string, empty, too long, or there are several.
pub(crate) fn key(fields: &HeaderMap) -> Result<Option<String>, Unreadable> {
    let mut lines = fields.get_all(IDEMPOTENCY_KEY).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Unreadable);
    }
    let key = if line.as_bytes().starts_with(b"\"") {
        let item: sfv::Item = sfv::Parser::new(line.as_bytes()).parse().map_err(|_| Unreadable)?;
        item.bare_item.as_string().ok_or(Unreadable)?.as_str().to_owned()
    } else {
        let is_bare = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
        if !line.as_bytes().iter().all(is_bare) {
            return Err(Unreadable);
        }
        line.to_str().map_err(|_| Unreadable)?.to_owned()
    };
    if key.is_empty() || key.len() > KEY_BYTES_MAX { Err(Unreadable) } else { Ok(Some(key)) }
}

/// What tells a write with a key from others.
pub(crate) fn client_key(route: &Route, request: &Request, key: &str, content: &[u8]) -> ClientKey {
    let mut who: Vec<&[u8]> = vec![route.name.as_bytes(), key.as_bytes()];
    let identity = &route.settings.cache.identity;
    if identity.splits() {
        // What is kept outlives the process, and so does this hash: it has no key.
        who.push(b"identity");
        who.extend(identity.parts(&request.fields));
    } else {
        for (name, tag) in [
            (AUTHORIZATION, &b"a"[..]),
            (COOKIE, b"c"),
            (TIDEGATE_IDENTITY, b"i"),
            (TIDEGATE_AUTHORIZED, b"n"),
        ] {
            let lines = request.fields.get_all(&name).iter();
            // The tag keeps lines of the one field from being taken for the other's.
            who.extend(lines.flat_map(|line| [tag, line.as_bytes()]));
        }
    }
    let (authority, target) = (request.target.authority().as_str(), request.target.as_forwarded());
    let target = target.path_and_query();
    let what = [request.method.as_str().as_bytes(), authority.as_bytes(), target.as_bytes(), content];
    ClientKey { scope: hash(&who), fingerprint: hash(&what) }
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Whether an answer is given again to whoever repeats the write.
pub(super) fn keeps(verdict: Verdict, status: StatusCode) -> bool {
    match verdict {
        Verdict::Committed => true,
        Verdict::Aborted => status.is_client_error() && !matches!(status.as_u16(), 409 | 425 | 429),
        Verdict::InDoubt => false,
    }
}

/// Reads an answer that is to be kept, which goes on to its client all the same; `None` where it is too
/// large or too slow to be kept, breaks off, or there is no room for it.
pub(super) async fn captured(answer: &mut Answer, share: Share) -> Option<KeptAnswer> {
    let body = std::mem::replace(answer.response.body_mut(), Body::Empty);
    let (body, content) = begun::read(body, share).await;
    *answer.response.body_mut() = body;
    let Some(body) = content else {
        metrics::counter!(names::IDEMPOTENCY, "result" => "not-kept").increment(1);
        return None;
    };
    let fields = answer.response.headers().iter().filter(|(name, _)| *name != TRAILER);
    let fields = fields.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    Some(KeptAnswer { head: KeptHead { status: answer.response.status().as_u16(), fields }, body })
}

/// The answer that the first write with this key got.
///
/// # Errors
/// [`GatewayError::Panicked`]: it is none; what is written here is.
pub(super) fn again(change: ChangeId, kept: KeptAnswer) -> Result<Answer, GatewayError> {
    let mut response = Response::new(Body::Full(kept.body));
    *response.status_mut() = StatusCode::from_u16(kept.head.status).map_err(|_| GatewayError::Panicked)?;
    let fields = response.headers_mut();
    for (name, value) in kept.head.fields {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
            fields.append(name, value);
        }
    }
    if let Ok(change) = HeaderValue::try_from(change.to_string()) {
        fields.insert(TIDEGATE_CHANGE, change);
    }
    metrics::counter!(names::IDEMPOTENCY, "result" => "answered").increment(1);
    Ok(Answer { response, status: CacheStatus::Own, quota: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_structured_string_or_a_bare_one() {
        let long = "x".repeat(KEY_BYTES_MAX);
        let (quoted, longer) = (format!("\"{long}\""), format!("{long}x"));
        for (line, key) in [
            ("\"8e03978e-40d5\"", Ok("8e03978e-40d5")),
            ("8e03978e-40d5", Ok("8e03978e-40d5")),
            ("\"a \\\"b\\\" c\"", Ok("a \"b\" c")),
            ("\"a\";p=1", Ok("a")),
            (quoted.as_str(), Ok(long.as_str())),
            (longer.as_str(), Err(Unreadable)),
            ("", Err(Unreadable)),
            ("\"\"", Err(Unreadable)),
            ("\"a", Err(Unreadable)),
            ("\"a\", \"b\"", Err(Unreadable)),
            ("a b", Err(Unreadable)),
            ("a,b", Err(Unreadable)),
            ("a;b", Err(Unreadable)),
            ("\u{e9}", Err(Unreadable)),
        ] {
            let fields: HeaderMap =
                [(IDEMPOTENCY_KEY, HeaderValue::from_bytes(line.as_bytes()).unwrap())].into_iter().collect();
            assert_eq!(super::key(&fields), key.map(|key| Some(key.to_owned())), "{line}");
        }
        let mut several = HeaderMap::new();
        assert_eq!(super::key(&several), Ok(None));
        several.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        several.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert_eq!(super::key(&several), Err(Unreadable));
    }

    #[test]
    fn what_is_kept() {
        for (verdict, status, kept) in [
            (Verdict::Committed, 201, true),
            (Verdict::Committed, 303, true),
            (Verdict::Aborted, 400, true),
            (Verdict::Aborted, 404, true),
            (Verdict::Aborted, 422, true),
            (Verdict::Aborted, 409, false),
            (Verdict::Aborted, 429, false),
            (Verdict::Aborted, 307, false),
            (Verdict::Aborted, 501, false),
            (Verdict::InDoubt, 500, false),
            (Verdict::InDoubt, 408, false),
        ] {
            assert_eq!(keeps(verdict, StatusCode::from_u16(status).unwrap()), kept, "{verdict:?} {status}");
        }
    }
}
