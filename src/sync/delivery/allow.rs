//! Which addresses may be connected to. Pure.
//!
//! An address is judged as what it reaches: the forms of IPv6 that stand for an IPv4 address
//! (mapped, and NAT64's well-known prefix) are judged as that address.

use crate::sync::settings::Allow;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 that not the whole Internet can reach, or that is no host's (IANA's special-purpose registry).
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),           // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by a provider's customers
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, and clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // relays of 6to4
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, and broadcast
];

/// The one block of IPv6 that global addresses are given from.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What of it is not: Teredo, benchmarking, ORCHID and other protocols, documentation, 6to4.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// NAT64's well-known prefix (RFC 6052 2.1): what follows is an IPv4 address.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

impl Allow {
    /// Whether an address may be connected to.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = reached(address);
        match self {
            Self::Any => true,
            Self::Public => is_public(address),
            Self::Networks(networks) => networks.iter().any(|network| network.contains(&address)),
        }
    }

    /// Whether a network can hold any address as it is judged: none of the forms that stand for IPv4.
    #[must_use]
    pub fn can_match(network: &IpNet) -> bool {
        let IpNet::V6(v6) = network else { return true };
        v6.prefix_len() < 96 || reached(IpAddr::V6(v6.network())).is_ipv6()
    }
}

/// The address that is reached by connecting to this one.
fn reached(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if within_v6(v6, NAT64) {
        let [.., a, b, c, d] = v6.octets();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    v6.to_ipv4_mapped().map_or(address, IpAddr::V4)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|block| within_v4(v4, *block)),
        IpAddr::V6(v6) => within_v6(v6, GLOBAL_V6) && !SPECIAL_V6.iter().any(|block| within_v6(v6, *block)),
    }
}

const fn within_v4(address: Ipv4Addr, (network, prefix): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

const fn within_v6(address: Ipv6Addr, (network, prefix): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_whole_internet_can_reach() {
        for (public, addresses) in [
            (
                true,
                "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.1.0 198.17.0.1 198.20.0.1",
            ),
            (true, "223.255.255.255 126.0.0.1 128.0.0.1 169.253.0.1 192.167.0.1 11.0.0.0 9.255.255.255"),
            (true, "2606:4700::1111 2001:4860:4860::8888 2a00:1450::1 3fff:1000:: 2001:200:: 2003::1"),
            (true, "::ffff:8.8.8.8 64:ff9b::8.8.8.8"),
            (
                false,
                "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1",
            ),
            (false, "169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1"),
            (
                false,
                "198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255",
            ),
            (false, "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:a00:1"),
            (false, "64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::8.8.8.8"),
            (false, ":: ::1 ::8.8.8.8 100::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 4000::1 5f00::1"),
            (
                false,
                "2001::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff:: 2001:db8::1 2002:7f00:1::1 2002:808:808:: 3fff::1",
            ),
        ] {
            for text in addresses.split(' ') {
                assert_eq!(Allow::Public.permits(text.parse().unwrap()), public, "{text}");
                assert!(Allow::Any.permits(text.parse().unwrap()));
            }
        }
    }

    #[test]
    fn networks_hold_an_address_in_every_form() {
        let networks =
            |list: &[&str]| Allow::Networks(list.iter().map(|text| text.parse().unwrap()).collect());
        let allow = networks(&["10.0.0.0/8", "fd00::/8"]);
        for (text, permitted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("64:ff9b::10.1.2.3", true),
            ("fd12::1", true),
            ("11.0.0.1", false),
            ("::ffff:11.0.0.1", false),
            ("::10.1.2.3", false),
            ("2002:a01:203::1", false),
            ("fc00::1", false),
        ] {
            assert_eq!(allow.permits(text.parse().unwrap()), permitted, "{text}");
        }
        let all_v6 = networks(&["::/0"]);
        assert!(all_v6.permits("::1".parse().unwrap()));
        for text in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            assert!(!all_v6.permits(text.parse().unwrap()), "{text} is IPv4");
        }
    }

    #[test]
    fn a_network_of_ipv4_in_the_form_of_ipv6_would_hold_nothing() {
        for (text, can_match) in [
            ("10.0.0.0/8", true),
            ("::/0", true),
            ("fd00::/8", true),
            ("2000::1/128", true),
            ("::ffff:10.0.0.0/104", false),
            ("64:ff9b::/96", false),
            ("64:ff9b:1::/96", true),
        ] {
            assert_eq!(Allow::can_match(&text.parse().unwrap()), can_match, "{text}");
        }
    }
}
