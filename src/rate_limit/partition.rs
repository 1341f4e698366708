//! What a quota counts apart: the partition key of a request. Pure.

use super::{Caller, QuotaKey};
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv6 address that name a client: what one subscriber is given.
const IPV6_CLIENT_BITS: u32 = 64;

/// The partition key of a request. Of fixed size, whatever a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Partition {
    /// A client.
    Client(IpAddr),
    /// The values of a field, as a digest.
    Field([u8; 32]),
    /// The name in a certificate, as a digest.
    Certificate([u8; 32]),
    /// Who was let in by name, as a digest.
    Identity([u8; 32]),
    /// Everybody without the field, or without a name in a certificate.
    Absent,
}

/// The partition of a request; `None` where the quota counts all of them together.
pub(super) fn partition(key: &QuotaKey, caller: &Caller<'_>) -> Option<Partition> {
    match key {
        QuotaKey::Client => Some(Partition::Client(client(caller.address))),
        QuotaKey::Header(name) => Some(field(name, caller.fields)),
        QuotaKey::Certificate => Some(
            caller
                .certificate
                .map_or(Partition::Absent, |name| Partition::Certificate(Sha256::digest(name).into())),
        ),
        QuotaKey::Identity => Some(caller.identity.map_or_else(
            || Partition::Client(client(caller.address)),
            |identity| Partition::Identity(Sha256::digest(identity).into()),
        )),
        QuotaKey::Route => None,
    }
}

fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::MAX << (u128::BITS - IPV6_CLIENT_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & network))
        }
    }
}

fn field(name: &HeaderName, fields: &HeaderMap) -> Partition {
    let mut lines = fields.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Partition::Absent;
    }
    let mut digest = Sha256::new();
    for line in lines {
        digest.update(line.as_bytes());
        // No value contains a line feed, so two lines differ from one.
        digest.update(b"\n");
    }
    Partition::Field(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            let [one, other] = [one, other].map(|text| client(text.parse().unwrap()));
            assert_eq!(one == other, same, "{one} {other}");
        }
    }

    #[test]
    fn those_without_the_field_share_one_partition() {
        let name = HeaderName::from_static("x-api-key");
        let with = |values: &[&'static str]| {
            let lines = values.iter().map(|value| (name.clone(), HeaderValue::from_static(value)));
            field(&name, &lines.collect())
        };
        assert_eq!(with(&[]), Partition::Absent);
        assert_eq!(with(&["a"]), with(&["a"]));
        for (one, other) in [(vec!["a"], vec!["b"]), (vec!["a", "b"], vec!["ab"]), (vec![""], vec![])] {
            assert_ne!(with(&one), with(&other), "{one:?} {other:?}");
        }
    }
}
