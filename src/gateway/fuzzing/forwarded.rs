//! X-Forwarded-For and Forwarded of any content, from a trusted proxy and from anybody.

use crate::gateway::forwarded::{client_address, trust};
use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// Field lines of one input; further ones are left out.
const LINES_MAX: usize = 16;

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Checks one input: lines that begin with `f` are Forwarded, others X-Forwarded-For.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let trusted: Vec<IpNet> =
        ["10.0.0.0/8", "2001:db8::/32"].iter().filter_map(|net| net.parse().ok()).collect();
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let xff = HeaderName::from_static("x-forwarded-for");
    let (mut fields, mut deeper) = (HeaderMap::new(), HeaderMap::new());
    // What stands further left was written by whoever likes to.
    for (name, lie) in [(&xff, "10.6.6.6, 203.0.113.6"), (&FORWARDED, "for=10.6.6.6, for=203.0.113.6")] {
        deeper.append(name.clone(), HeaderValue::from_static(lie));
    }
    for line in data.split(|byte| *byte == b'\n').take(LINES_MAX) {
        let (name, value) = match line {
            [b'f', value @ ..] => (FORWARDED, value),
            value => (xff.clone(), value),
        };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        fields.append(name.clone(), value.clone());
        deeper.append(name, value);
    }
    let ask = |fields: &HeaderMap, peer| client_address(fields, peer, trust(peer, &trusted), &trusted);
    assert_eq!(ask(&fields, STRANGER), STRANGER, "a stranger's word is not asked for");
    let client = ask(&fields, PROXY);
    assert_eq!(client, client.to_canonical(), "one form of each address");
    let both = fields.contains_key(&xff) && fields.contains_key(FORWARDED);
    if both && !is_trusted(client) {
        assert_eq!(ask(&deeper, PROXY), client, "what stands left of the client changes nothing");
    }
}
