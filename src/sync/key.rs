//! What orders changes: the key of a write, read from its request by a template. Pure.

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, Method};
use sha2::{Digest, Sha256};

/// The longest key, in bytes; a longer one is replaced by its hash.
const KEY_BYTES_MAX: usize = 1024;
/// What stands before the hash of a key that was too long.
const HASHED_PREFIX: &str = "sha256:";

/// A template of texts and parts of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Location,
    Path,
    Name(String),
    Header(HeaderName),
    Json(String),
}

/// Why a key template is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTemplateError {
    /// A part that is neither known nor a name of the path pattern.
    #[error("unknown part {{{0}}}")]
    UnknownPart(String),
    /// A field that carries a credential: keys are logged, shown and sent to destinations (I12).
    #[error("the field {0} is a secret, and keys are not")]
    Secret(HeaderName),
    /// A brace without its partner.
    #[error("unbalanced braces")]
    Braces,
    /// No part at all: every change would have the same key.
    #[error("no part in braces")]
    Constant,
}

/// What a key template reads. `path` is in the source's own space (after `strip`).
#[derive(Clone, Copy, Debug)]
pub struct KeySource<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The path as forwarded.
    pub path: &'a str,
    /// What the path pattern's names matched.
    pub names: &'a [(&'a str, &'a str)],
    /// The request's fields.
    pub fields: &'a HeaderMap,
    /// The request's content.
    pub body: &'a [u8],
}

/// What is known of a key before the source has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftKey {
    /// Writes of this key pass one at a time.
    Known(String),
    /// POST by `{location}`: the path of the answer's Location, else this.
    FromLocation {
        /// The key where the answer has no Location.
        otherwise: String,
    },
}

impl KeyTemplate {
    /// Reads `"{location}"`, `"{path}"`, `"{header:X-Tenant}"`, `"{json:/id}"`, names of the path
    /// pattern, and texts between them.
    ///
    /// # Errors
    /// [`KeyTemplateError`] for what is not one of these.
    pub fn parse(text: &str, pattern_names: &[&str]) -> Result<Self, KeyTemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, after) = rest.split_once('{').unwrap_or((rest, ""));
            if before.contains('}') || (before.len() < rest.len() && after.is_empty()) {
                return Err(KeyTemplateError::Braces);
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            if before.len() == rest.len() {
                break;
            }
            let (inside, behind) = after.split_once('}').ok_or(KeyTemplateError::Braces)?;
            if inside.contains('{') {
                return Err(KeyTemplateError::Braces);
            }
            parts.push(Part::parse(inside, pattern_names)?);
            rest = behind;
        }
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            return Err(KeyTemplateError::Constant);
        }
        Ok(Self { parts })
    }

    /// The key of a request. A missing part is replaced by the path.
    #[must_use]
    pub fn resolve(&self, request: &KeySource<'_>) -> DraftKey {
        if *request.method == Method::POST && self.parts == [Part::Location] {
            return DraftKey::FromLocation { otherwise: bounded(request.path.to_owned()) };
        }
        let parts = self.parts.iter().map(|part| {
            part.resolve(request).filter(|text| !text.is_empty()).unwrap_or_else(|| request.path.to_owned())
        });
        DraftKey::Known(bounded(parts.collect()))
    }
}

impl Part {
    fn parse(inside: &str, pattern_names: &[&str]) -> Result<Self, KeyTemplateError> {
        let unknown = || KeyTemplateError::UnknownPart(inside.to_owned());
        if let Some(name) = inside.strip_prefix("header:") {
            let name: HeaderName = name.parse().map_err(|_| unknown())?;
            let is_secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name);
            return if is_secret { Err(KeyTemplateError::Secret(name)) } else { Ok(Self::Header(name)) };
        }
        if let Some(pointer) = inside.strip_prefix("json:") {
            return if pointer.starts_with('/') {
                Ok(Self::Json(pointer.to_owned()))
            } else {
                Err(unknown())
            };
        }
        match inside {
            "location" => Ok(Self::Location),
            "path" => Ok(Self::Path),
            _ if pattern_names.contains(&inside) => Ok(Self::Name(inside.to_owned())),
            _ => Err(unknown()),
        }
    }

    fn resolve(&self, request: &KeySource<'_>) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Location | Self::Path => Some(request.path.to_owned()),
            Self::Name(wanted) => {
                request.names.iter().find(|(name, _)| name == wanted).map(|(_, value)| (*value).to_owned())
            }
            Self::Header(name) => {
                request.fields.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
            }
            Self::Json(pointer) => {
                let content: serde_json::Value = serde_json::from_slice(request.body).ok()?;
                match content.pointer(pointer)? {
                    serde_json::Value::Null => None,
                    serde_json::Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                }
            }
        }
    }
}

/// The key itself, or its hash where it is longer than [`KEY_BYTES_MAX`].
pub(super) fn bounded(key: String) -> String {
    if key.len() <= KEY_BYTES_MAX {
        return key;
    }
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().fold(HASHED_PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The lane of a key, of 256: the first byte of its SHA-256. Part of the journal's format.
pub(super) fn lane(key: &str) -> u8 {
    Sha256::digest(key.as_bytes()).first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(template: &str, method: &Method, body: &[u8]) -> DraftKey {
        let mut fields = HeaderMap::new();
        fields.insert("x-tenant", "acme".parse().unwrap());
        let names = [("id", "7"), ("rest", "")];
        let request = KeySource { method, path: "/items/7", names: &names, fields: &fields, body };
        KeyTemplate::parse(template, &["id", "rest"]).unwrap().resolve(&request)
    }

    #[test]
    fn keys_are_read_from_the_request() {
        let body = br#"{"id":12,"name":"x","none":null}"#;
        for (template, key) in [
            ("{path}", "/items/7"),
            ("{location}", "/items/7"),
            ("item-{id}", "item-7"),
            ("{header:X-Tenant}/{id}!", "acme/7!"),
            ("{header:X-Missing}", "/items/7"),
            ("{json:/id}", "12"),
            ("{json:/name}", "x"),
            ("{json:/none}", "/items/7"),
            ("{json:/missing}", "/items/7"),
            ("{rest}", "/items/7"),
        ] {
            assert_eq!(known(template, &Method::PUT, body), DraftKey::Known(key.into()), "{template}");
        }
        let post = known("{location}", &Method::POST, body);
        assert_eq!(post, DraftKey::FromLocation { otherwise: "/items/7".into() });
        assert_eq!(known("a{location}", &Method::POST, body), DraftKey::Known("a/items/7".into()));
    }

    #[test]
    fn faulty_templates_are_refused() {
        for (template, error) in [
            ("", KeyTemplateError::Constant),
            ("all", KeyTemplateError::Constant),
            ("{", KeyTemplateError::Braces),
            ("{path", KeyTemplateError::Braces),
            ("path}", KeyTemplateError::Braces),
            ("{a{b}}", KeyTemplateError::Braces),
            ("{path}}", KeyTemplateError::Braces),
            ("{nope}", KeyTemplateError::UnknownPart("nope".into())),
            ("{header:a b}", KeyTemplateError::UnknownPart("header:a b".into())),
            ("{json:id}", KeyTemplateError::UnknownPart("json:id".into())),
            // I12
            ("{header:Authorization}", KeyTemplateError::Secret(AUTHORIZATION)),
            ("{header:proxy-authorization}", KeyTemplateError::Secret(PROXY_AUTHORIZATION)),
            ("a-{header:COOKIE}", KeyTemplateError::Secret(COOKIE)),
        ] {
            assert_eq!(KeyTemplate::parse(template, &["id"]), Err(error), "{template}");
        }
    }

    #[test]
    fn i10_long_keys_become_their_hash() {
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        assert_eq!(bounded(long.clone()).len(), HASHED_PREFIX.len() + 64);
        assert_ne!(bounded(long.clone()), bounded(long + "y"));
        assert_eq!(lane("a"), 0xca, "the first byte of SHA-256 of \"a\": part of the format");
    }
}
