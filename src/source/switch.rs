//! Another protocol on a connection (RFC 9110 7.8): which one is asked for, which 101 is the answer to
//! that, and the connection once it has come.

use super::address::Load;
use super::body::SourceBody;
use super::places::Place;
use crate::in_flight::Share;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;

/// Protocols that carry requests: behind their upgrade these would pass no gate, no route and no quota.
const CARRIERS: [&str; 4] = ["http", "h2c", "h2", "tls"];

/// A protocol, as Upgrade names it: `name` or `name/version`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol(HeaderValue);

/// Why a text names no protocol that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// It is not of the form `name` or `name/version`.
    #[error("is no name of a protocol")]
    Name,
    /// It would carry requests past the gateway.
    #[error("would carry requests past the gateway")]
    Carrier,
}

impl Protocol {
    /// Reads a name as a configuration has it.
    ///
    /// # Errors
    /// [`ProtocolError`]
    pub fn parse(text: &str) -> Result<Self, ProtocolError> {
        let text = text.to_ascii_lowercase();
        // The name of a field is a token too (RFC 9110 5.6.2).
        let is_token = |part: &str| HeaderName::from_bytes(part.as_bytes()).is_ok();
        let (name, version) = text.split_once('/').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
        if !is_token(name) || !version.is_none_or(is_token) {
            return Err(ProtocolError::Name);
        }
        if CARRIERS.contains(&name) {
            return Err(ProtocolError::Carrier);
        }
        HeaderValue::from_str(&text).map(Self).map_err(|_| ProtocolError::Name)
    }

    /// The first protocol of those allowed that a request's fields ask for.
    #[must_use]
    pub fn asked_for(allowed: &[Self], fields: &HeaderMap) -> Option<Self> {
        if !has_upgrade_option(fields) {
            return None;
        }
        let find = |member: &[u8]| allowed.iter().find(|protocol| protocol.is(member));
        members(fields, &UPGRADE).find_map(find).cloned()
    }

    /// Its name as the value of a field.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    fn is(&self, member: &[u8]) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(member)
    }

    /// Whether a 101 with these fields switches to it, and to nothing else.
    pub(super) fn is_switched_to(&self, version: Version, fields: &HeaderMap) -> bool {
        let mut named = members(fields, &UPGRADE);
        let alone = named.next().is_some_and(|member| self.is(member)) && named.next().is_none();
        version == Version::HTTP_11 && alone && has_upgrade_option(fields)
    }
}

/// Upgrade counts only where Connection names it (RFC 9110 7.8).
fn has_upgrade_option(fields: &HeaderMap) -> bool {
    members(fields, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// The members of a list (RFC 9110 5.6.1).
fn members<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.get_all(name).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The protocol that a request asks its connection to be switched to. It
/// goes on a connection of its own, and is never sent again once anything of it was sent.
#[derive(Clone, Debug)]
pub struct Asks(pub Protocol);

/// A source's side of a tunnel: a connection on which another protocol is spoken. It holds its place
/// toward the source until it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    /// What is read and written.
    pub io: TokioIo<Upgraded>,
    /// The source's `body_idle`.
    pub body_idle: Duration,
    _place: (Place, Load, Option<Share>),
}

impl Tunnel {
    /// Takes over the connection on which a 101 came.
    ///
    /// # Errors
    /// The connection has failed since.
    pub async fn taken(mut answer: Response<SourceBody>) -> Result<(Response<()>, Self), hyper::Error> {
        let io = hyper::upgrade::on(&mut answer).await?;
        let (head, body) = answer.into_parts();
        let (body_idle, place) = body.into_place();
        let tunnel = Self { io: TokioIo::new(io), body_idle, _place: place };
        Ok((Response::from_parts(head, ()), tunnel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for &(name, value) in lines {
            fields.append(name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn what_may_be_allowed() {
        for (text, expected) in [
            ("websocket", Ok("websocket")),
            ("WebSocket", Ok("websocket")),
            ("iris/2.0", Ok("iris/2.0")),
            ("", Err(ProtocolError::Name)),
            ("a b", Err(ProtocolError::Name)),
            ("a,b", Err(ProtocolError::Name)),
            ("a/", Err(ProtocolError::Name)),
            ("a/b/c", Err(ProtocolError::Name)),
            ("h2c", Err(ProtocolError::Carrier)),
            ("HTTP/2.0", Err(ProtocolError::Carrier)),
            ("TLS/1.3", Err(ProtocolError::Carrier)),
        ] {
            let parsed = Protocol::parse(text).map(|protocol| protocol.0.to_str().unwrap().to_owned());
            assert_eq!(parsed, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn rfc9110_7_8_what_is_asked_for() {
        let allowed = ["websocket", "iris/2.0"].map(|text| Protocol::parse(text).unwrap());
        for (lines, expected) in [
            (&[("connection", "Upgrade"), ("upgrade", "WebSocket")][..], Some("websocket")),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "h2c, websocket")], Some("websocket")),
            (&[("connection", "upgrade"), ("upgrade", "IRIS/2.0, websocket")], Some("iris/2.0")),
            (
                &[("connection", "a"), ("connection", "upgrade"), ("upgrade", ","), ("upgrade", "websocket")],
                Some("websocket"),
            ),
            (&[("connection", "upgrade"), ("upgrade", "iris")], None),
            (&[("connection", "upgrade"), ("upgrade", "websocket/13")], None),
            (&[("connection", "upgrade"), ("upgrade", "h2c")], None),
            (&[("connection", "upgrade")], None),
            (&[("connection", "close"), ("upgrade", "websocket")], None),
            (&[("upgrade", "websocket")], None),
        ] {
            let asked = Protocol::asked_for(&allowed, &fields(lines));
            assert_eq!(asked, expected.map(|text| Protocol::parse(text).unwrap()), "{lines:?}");
        }
        let upgrade = fields(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        assert_eq!(Protocol::asked_for(&[], &upgrade), None);
    }

    #[test]
    fn rfc9110_15_2_2_which_101_switches() {
        let asked = Protocol::parse("websocket").unwrap();
        for (lines, version, switches) in [
            (&[("connection", "Upgrade"), ("upgrade", "WebSocket")][..], Version::HTTP_11, true),
            (&[("connection", "Upgrade"), ("upgrade", "websocket")], Version::HTTP_10, false),
            (&[("connection", "upgrade"), ("upgrade", "other")], Version::HTTP_11, false),
            (&[("connection", "upgrade"), ("upgrade", "websocket, other")], Version::HTTP_11, false),
            (&[("connection", "upgrade")], Version::HTTP_11, false),
            (&[("upgrade", "websocket")], Version::HTTP_11, false),
        ] {
            assert_eq!(asked.is_switched_to(version, &fields(lines)), switches, "{lines:?} {version:?}");
        }
    }
}
