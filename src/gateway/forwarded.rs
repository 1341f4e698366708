//! Who asked, as told by the proxies in front; and the fields by which clients could lie about it.
//!
//! Of the chain that X-Forwarded-For or Forwarded (RFC 7239) tells, only what trusted proxies wrote is believed:
//! from the right, up to the first address that is none of theirs. A proxy that writes one of the two may pass
//! the other on as its client sent it; where they name different clients, neither is believed.

use super::request::Trust;
use crate::target::{Scheme, Target};
use bytes::Bytes;
use http::header::{Entry, FORWARDED};
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme by which the client asked, as far as is known.
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// No field of HTTP, but what CGI makes of it is the variable that names a proxy for everybody (httpoxy).
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// The most addresses of a forwarding chain that are looked at.
const CHAIN_MAX: usize = 64;

/// Room for a member of Forwarded without its host.
const MEMBER_BYTES: usize = 96;

/// Whether a peer's word on who asked is believed.
pub(crate) fn trust(peer: IpAddr, trusted_proxies: &[IpNet]) -> Trust {
    let peer = peer.to_canonical();
    if trusted_proxies.iter().any(|range| range.contains(&peer)) { Trust::Proxy } else { Trust::Nobody }
}

/// The peer, or behind trusted proxies the rightmost address that is none of them.
pub(crate) fn client_address(
    fields: &HeaderMap,
    peer: IpAddr,
    trust: Trust,
    trusted_proxies: &[IpNet],
) -> IpAddr {
    let peer = peer.to_canonical();
    if trust == Trust::Nobody {
        return peer;
    }
    let through = |name, address_of: fn(&[u8]) -> Option<IpAddr>| {
        fields
            .contains_key(name)
            .then(|| nearest_stranger(members(fields, name), address_of, peer, trusted_proxies))
    };
    match (through(&X_FORWARDED_FOR, address), through(&FORWARDED, forwarded_for)) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(client), _) | (None, Some(client)) => client,
        (None, None) => peer,
    }
}

/// The first address of a chain, from the right, that is no trusted proxy's. Behind what cannot be read nothing
/// is believed.
fn nearest_stranger<'a>(
    chain: impl Iterator<Item = &'a [u8]>,
    address_of: fn(&[u8]) -> Option<IpAddr>,
    peer: IpAddr,
    trusted_proxies: &[IpNet],
) -> IpAddr {
    let mut nearest = peer;
    for hop in chain.take(CHAIN_MAX) {
        let Some(address) = address_of(hop) else { return nearest };
        nearest = address.to_canonical();
        if !trusted_proxies.iter().any(|range| range.contains(&nearest)) {
            return nearest;
        }
    }
    nearest
}

/// The members of a list field, from the right. A quoted comma parts too: what it parts cannot be read.
fn members<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.get_all(name).iter().rev();
    lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// An address as proxies write it: with a port, too, and IPv6 in brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port)
}

/// The address of an element's `for`; `None` where it is hidden or unknown (RFC 7239 6).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut nodes = element.split(|byte| *byte == b';').filter_map(|pair| {
        let (name, node) = pair.trim_ascii().split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(node)
    });
    let (node, None) = (nodes.next()?, nodes.next()) else { return None };
    let quoted = node.strip_prefix(b"\"").and_then(|node| node.strip_suffix(b"\""));
    address(quoted.unwrap_or(node))
}

/// The scheme by which the client asked: what a trusted proxy says of the last hop in front of it, else that of
/// the connection.
pub(crate) fn scheme(fields: &HeaderMap, trust: Trust, own: Scheme) -> Scheme {
    if trust == Trust::Nobody {
        return own;
    }
    match members(fields, &X_FORWARDED_PROTO).next() {
        Some(said) if said.eq_ignore_ascii_case(b"https") => Scheme::Https,
        Some(said) if said.eq_ignore_ascii_case(b"http") => Scheme::Http,
        Some(_) | None => own,
    }
}

/// Fields that sources act on although no key holds them: from clients that are not trusted they are
/// removed (web cache poisoning).
#[must_use]
pub fn is_unkeyed(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["x-forwarded-", "x-original-", "x-rewrite-", "x-override-"];
    // Also by which other proxies and networks of proxies say who a client is, and how it came.
    const NAMES: [&str; 35] = [
        "client-cert",
        "forwarded-proto",
        "front-end-https",
        "wl-proxy-ssl",
        "x-arr-ssl",
        "x-backend-host",
        "x-envoy-original-path",
        "x-forward-proto",
        "x-http-destinationurl",
        "x-http-path-override",
        "x-scheme",
        "x-url-scheme",
        "forwarded",
        "forwarded-for",
        "forwarded-for-ip",
        "x-forwarded",
        "x-forward-for",
        "x-http-method",
        "x-host",
        "proxy",
        "cdn-src-ip",
        "cf-connecting-ipv6",
        "cf-pseudo-ipv4",
        "cloudfront-viewer-address",
        "x-appengine-remote-addr",
        "x-appengine-user-ip",
        "x-azure-socketip",
        "x-envoy-external-address",
        "x-nf-client-connection-ip",
        "x-originating-ip",
        "x-proxyuser-ip",
        "x-remote-addr",
        "x-remote-ip",
        "x-source-ip",
        "x-vercel-forwarded-for",
    ];
    const SUFFIXES: [&str; 5] = ["-method-override", "client-ip", "clientip", "-connecting-ip", "-real-ip"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        || NAMES.contains(&name)
}

/// Whether a source that reads `_` as `-` takes the one for the other.
pub(crate) fn reads_as(one: &HeaderName, other: &HeaderName) -> bool {
    let read = |byte| if byte == b'_' { b'-' } else { byte };
    one.as_str().bytes().map(read).eq(other.as_str().bytes().map(read))
}

/// Removes the field by which clients are told apart, unless a trusted proxy sent it; and in any case those
/// that a source may take for it because it reads `_` as `-`.
pub(crate) fn remove_claim(fields: &mut HeaderMap, claim: &HeaderName, trust: Trust) {
    let is_false = |name: &&HeaderName| reads_as(name, claim) && (trust == Trust::Nobody || *name != claim);
    let lies: Vec<HeaderName> = fields.keys().filter(is_false).cloned().collect();
    for name in lies {
        fields.remove(name);
    }
}

/// Whether a field could be a lie about who asked, and does not go on: of what is not keyed strangers keep what the
/// route lets through, which is part of its keys.
pub(crate) fn is_lie(name: &HeaderName, trust: Trust, let_through: &[HeaderName]) -> bool {
    let may_lie = match trust {
        Trust::Nobody => is_unkeyed(name.as_str()),
        // Proxies in front pass it on as it came.
        Trust::Proxy => *name == PROXY,
    };
    may_lie && !let_through.contains(name)
}

/// Sets X-Forwarded-For, -Proto, -Host and Forwarded (RFC 7239): anew, or extended where they were let through.
pub(crate) fn tell(fields: &mut HeaderMap, told: &Told, scheme: Scheme) {
    append(fields, &X_FORWARDED_FOR, told.value(&told.peer));
    append(fields, &FORWARDED, told.value(&(0..told.bytes.len())));
    for (name, value) in
        [(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str())), (X_FORWARDED_HOST, told.host())]
    {
        fields.entry(name).or_insert(value);
    }
}

/// A member of Forwarded, of which the older fields have parts: written once, and shared.
pub(crate) struct Told {
    bytes: Bytes,
    peer: Range<usize>,
    host: Range<usize>,
}

impl Told {
    pub(crate) fn of(peer: IpAddr, target: &Target) -> Self {
        let mut member = String::with_capacity(MEMBER_BYTES + target.authority().as_str().len());
        let (opening, closing) =
            if peer.is_ipv4() { ("for=", ";host=\"") } else { ("for=\"[", "]\";host=\"") };
        member.push_str(opening);
        let peer = written(&mut member, |text| match peer {
            IpAddr::V4(address) => write_octets(text, address),
            // A string takes everything.
            IpAddr::V6(address) => write!(text, "{address}").unwrap_or_default(),
        });
        member.push_str(closing);
        let host = written(&mut member, |text| text.push_str(target.authority().as_str()));
        member.push_str("\";proto=");
        member.push_str(target.scheme().as_str());
        Self { bytes: Bytes::from(member), peer, host }
    }

    /// The host that was asked.
    pub(crate) fn host(&self) -> HeaderValue {
        self.value(&self.host)
    }

    fn value(&self, part: &Range<usize>) -> HeaderValue {
        // An address and a host are checked: they are field values.
        HeaderValue::from_maybe_shared(self.bytes.slice(part.clone())).unwrap_or(HeaderValue::from_static(""))
    }
}

/// Where in a text stands what is written.
fn written(text: &mut String, write: impl FnOnce(&mut String)) -> Range<usize> {
    let start = text.len();
    write(text);
    start..text.len()
}

/// As the address is displayed, at a tenth of the cost: each forward says who asked.
fn write_octets(text: &mut String, address: Ipv4Addr) {
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
}

/// Adds a member to a list field, keeping it one line.
pub(crate) fn append(fields: &mut HeaderMap, name: &HeaderName, member: HeaderValue) {
    match fields.entry(name) {
        Entry::Vacant(place) => {
            place.insert(member);
        }
        Entry::Occupied(mut lines) => {
            let mut list = Vec::new();
            for line in lines.iter() {
                list.extend_from_slice(line.as_bytes());
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(member.as_bytes());
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(list)) {
                lines.insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let peer = "10.0.0.1".parse().unwrap();
        for (chain, client) in [
            (&[][..], "10.0.0.1"),
            (&[("x-forwarded-for", "1.1.1.1, 2.2.2.2")][..], "2.2.2.2"),
            (&[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.9.9.9")], "2.2.2.2"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "3.3.3.3")], "3.3.3.3"),
            (&[("x-forwarded-for", "1.1.1.1, unknown")], "10.0.0.1"),
            (&[("x-forwarded-for", "10.1.1.1")], "10.1.1.1"),
            (&[("x-forwarded-for", "1.1.1.1:5000")], "1.1.1.1"),
            (&[("x-forwarded-for", "1.1.1.1, [2001:db8::1]:5000")], "2001:db8::1"),
            (&[("x-forwarded-for", "[2001:db8::1]")], "2001:db8::1"),
            (&[("x-forwarded-for", "::ffff:1.1.1.1")], "1.1.1.1"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "")], "10.0.0.1"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "\u{e9}, 10.2.2.2")], "10.2.2.2"),
            (&[("forwarded", "for=1.1.1.1;proto=http, For=2.2.2.2")], "2.2.2.2"),
            (&[("forwarded", "by=9.9.9.9; for=\"[2001:db8::1]:80\"")], "2001:db8::1"),
            (&[("forwarded", "for=1.1.1.1, for=\"10.1.1.1:80\"")], "1.1.1.1"),
            (&[("forwarded", "for=1.1.1.1, for=_hidden")], "10.0.0.1"),
            (&[("forwarded", "for=1.1.1.1, for=unknown, for=10.3.3.3")], "10.3.3.3"),
            (&[("forwarded", "for=1.1.1.1;for=2.2.2.2")], "10.0.0.1"),
            (&[("forwarded", "for=\"1.1.1.1, for=2.2.2.2\"")], "10.0.0.1"),
            (&[("forwarded", "proto=http")], "10.0.0.1"),
            (&[("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
            (&[("forwarded", "for=2.2.2.2"), ("x-forwarded-for", "1.1.1.1")], "10.0.0.1"),
        ] {
            let address = client_address(&fields(chain), peer, trust(peer, &trusted), &trusted);
            assert_eq!(address.to_string(), client, "{chain:?}");
        }
        let stranger = "::ffff:9.9.9.9".parse().unwrap();
        let lie = fields(&[("x-forwarded-for", "1.1.1.1")]);
        let address = client_address(&lie, stranger, trust(stranger, &trusted), &trusted);
        assert_eq!(address.to_string(), "9.9.9.9");
    }

    #[test]
    fn a_trusted_proxy_says_how_it_was_asked() {
        for (trust, said, scheme) in [
            (Trust::Proxy, &[("x-forwarded-proto", "https")][..], Some(Scheme::Https)),
            (Trust::Proxy, &[("x-forwarded-proto", "http, HTTPS")], Some(Scheme::Https)),
            (Trust::Proxy, &[("x-forwarded-proto", "https, Http")], Some(Scheme::Http)),
            (Trust::Proxy, &[("x-forwarded-proto", "https, ftp")], None),
            (Trust::Proxy, &[], None),
            (Trust::Nobody, &[("x-forwarded-proto", "https")], None),
            (Trust::Nobody, &[("x-forwarded-proto", "http")], None),
        ] {
            for own in [Scheme::Http, Scheme::Https] {
                let expected = scheme.unwrap_or(own);
                assert_eq!(super::scheme(&fields(said), trust, own), expected, "{trust:?} {said:?} {own:?}");
            }
        }
    }

    #[test]
    fn i7_only_a_trusted_proxy_says_who_a_client_is() {
        let claim = HeaderName::from_static("x-user");
        let given = fields(&[("x-user", "a"), ("x_user", "b"), ("x-user-agent", "c")]);
        for (trust, left) in [
            (Trust::Nobody, &[("x-user-agent", "c")][..]),
            (Trust::Proxy, &[("x-user", "a"), ("x-user-agent", "c")]),
        ] {
            let mut given = given.clone();
            remove_claim(&mut given, &claim, trust);
            assert_eq!(given, fields(left), "{trust:?}");
        }
    }

    #[test]
    fn an_address_is_told_as_it_is_displayed() {
        let target = Target::parse_absolute("https://h:8443/").unwrap();
        for (address, node) in [
            ("0.9.10.99", "0.9.10.99"),
            ("100.101.199.255", "100.101.199.255"),
            ("2001:db8::1", "\"[2001:db8::1]\""),
        ] {
            let told = Told::of(address.parse().unwrap(), &target);
            assert_eq!(told.value(&told.peer), address);
            assert_eq!(told.value(&told.host), "h:8443");
            assert_eq!(told.value(&(0..told.bytes.len())), format!("for={node};host=\"h:8443\";proto=https"));
        }
    }

    #[test]
    fn what_sources_act_on_and_no_key_holds() {
        for name in [
            "forwarded",
            "forwarded-for",
            "x-forwarded",
            "proxy",
            "x-forwarded-anything",
            "x-original-url",
            "x-rewrite-url",
            "x-override-url",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-host",
            "x-real-ip",
            "client-ip",
            "true-client-ip",
            "x-azure-clientip",
            "x-azure-socketip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "do-connecting-ip",
            "ali-cdn-real-ip",
            "x-envoy-external-address",
            "x-vercel-forwarded-for",
        ] {
            assert!(is_unkeyed(name), "{name}");
        }
        for name in [
            "accept",
            "x-forward",
            "x-hosts",
            "x-originally",
            "real-ip",
            "x-http-methods",
            "x-ip",
            "cf-ray",
            "cf-ipcountry",
            "remote-addr",
            "via",
            "proxy-status",
        ] {
            assert!(!is_unkeyed(name), "{name}");
        }
    }

    #[test]
    fn strangers_cannot_set_unkeyed_inputs() {
        let target = Target::parse_absolute("http://h/").unwrap();
        let peer = "9.9.9.9".parse().unwrap();
        let lies = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=1.1.1.1"),
            ("x-original-url", "/admin"),
            ("x-rewrite-url", "/admin"),
            ("x-http-method-override", "DELETE"),
            ("true-client-ip", "1.1.1.1"),
            ("x-host", "evil"),
            ("proxy", "http://evil"),
        ];
        let set = |given: &HeaderMap, trust, let_through: &[HeaderName]| {
            let passes = |(name, _): &(&HeaderName, _)| !is_lie(name, trust, let_through);
            let passing = given.iter().filter(passes).map(|(name, value)| (name.clone(), value.clone()));
            let mut fields: HeaderMap = passing.collect();
            tell(&mut fields, &Told::of(peer, &target), target.scheme());
            fields
        };
        let given = fields(&lies);
        let through = set(&given, Trust::Nobody, &[HeaderName::from_static("x-original-url")]);
        assert_eq!(through.get("x-original-url").unwrap(), "/admin");
        assert_eq!(through.get("x-rewrite-url"), None);
        let given = set(&given, Trust::Nobody, &[]);
        let expected = fields(&[
            ("x-forwarded-for", "9.9.9.9"),
            ("forwarded", "for=9.9.9.9;host=\"h\";proto=http"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "h"),
        ]);
        assert_eq!(given, expected);
        let given =
            [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("proxy", "http://evil")];
        let given = set(&fields(&given), Trust::Proxy, &[]);
        assert_eq!(given.get("x-forwarded-for").unwrap(), "1.1.1.1, 9.9.9.9");
        assert_eq!(given.get("x-forwarded-proto").unwrap(), "https");
        assert_eq!(given.get("proxy"), None);
    }
}
