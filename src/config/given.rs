//! Values as a file gives them: with their place, and with secrets that never print (I12).

use crate::redis::{Server, UrlFault};
use crate::secret::{Endpoint, REDACTED, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::ops::{Deref, Range};

/// A value and where it stands.
pub(super) struct Given<T> {
    value: T,
    pub(super) span: Range<usize>,
}

impl<T> Deref for Given<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { span: spanned.span(), value: spanned.into_inner() })
    }
}

impl<T: Serialize> Serialize for Given<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A text that is a secret. Empty counts as left out.
#[derive(Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String", extend("x-secret" = "text"))]
pub(super) struct Hidden(Secret);

impl Hidden {
    pub(super) fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The secret; `None` where it is empty.
    pub(super) fn secret(&self) -> Option<Secret> {
        (!self.expose().is_empty()).then(|| self.0.clone())
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.secret().serialize(serializer)
    }
}

/// The text of the URL of Redis, which may name several hosts and carry a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-secret" = "password"))]
pub(super) struct RedisUrl(String);

impl RedisUrl {
    pub(super) fn server(&self) -> Result<Server, UrlFault> {
        Server::parse(&self.0)
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.server() {
            Ok(server) => server.serialize(serializer),
            Err(_) => serializer.serialize_str(REDACTED),
        }
    }
}

/// The text of a URL that may carry a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-secret" = "password"))]
pub(super) struct Address(String);

impl Address {
    pub(super) fn url(&self) -> Result<url::Url, url::ParseError> {
        url::Url::parse(&self.0)
    }

    /// Whether it is meant as a URL: where that is not needed, it can be a path.
    pub(super) fn is_url(&self) -> bool {
        self.0.contains("://")
    }

    /// The path that it is otherwise.
    pub(super) fn path(&self) -> &str {
        &self.0
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.url() {
            Ok(url) => Endpoint::new(url).serialize(serializer),
            // The path of a file has no secret.
            Err(_) if !self.is_url() => serializer.serialize_str(&self.0),
            Err(_) => serializer.serialize_str(REDACTED),
        }
    }
}
