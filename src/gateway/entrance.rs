//! Who gets in: connections at once in all and from one address, and descriptors left for the rest.

use super::Settings;
use super::forwarded;
use super::request::Trust;
use super::strict::Refusal;
use crate::telemetry::metrics as names;
use ipnet::Ipv6Net;
use metrics::{Gauge, gauge};
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of the descriptors that the process may have, one in so many is kept from clients: for the journal, the
/// operators, Redis, sources and destinations.
const DESCRIPTORS_KEPT: u64 = 4;

/// Bits of an IPv6 address that name a client.
const IPV6_CLIENT_BITS: u8 = 64;

/// The entrance of all public listeners.
pub(crate) struct Entrance {
    open: AtomicUsize,
    open_now: Gauge,
    by_address: ByAddress,
}

/// Connections by address; an address without any is not there, so it is bounded by all connections.
#[derive(Debug, Default)]
struct ByAddress(Mutex<HashMap<IpAddr, usize>>);

/// A place of one connection, until it is dropped.
pub(crate) struct Place {
    entrance: Arc<Entrance>,
    of_address: Option<IpAddr>,
}

impl Entrance {
    pub(crate) fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            open_now: gauge!(names::CONNECTIONS),
            by_address: ByAddress::default(),
        }
    }

    /// A place for a connection that was just accepted, by the bounds of `settings`.
    ///
    /// # Errors
    /// The bound that is reached.
    pub(crate) fn enter(
        self: &Arc<Self>,
        settings: &Settings,
        stream: &impl AsRawFd,
        peer: IpAddr,
    ) -> Result<Place, Refusal> {
        // The lowest free number is given: so many are in use at least.
        let descriptors = u64::try_from(stream.as_raw_fd()).unwrap_or_default();
        if descriptors >= descriptors_for_clients(getrlimit(Resource::Nofile).current) {
            return Err(Refusal::Descriptors);
        }
        let entered = |open: usize| (open < settings.limits.connections).then_some(open + 1);
        let entered = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, entered);
        entered.map_err(|_| Refusal::Connections)?;
        self.open_now.increment(1.0);
        let mut place = Place { entrance: Arc::clone(self), of_address: None };
        if let Some(most) = settings.limits.connections_per_address
            && forwarded::trust(peer, &settings.trusted_proxies) == Trust::Nobody
        {
            let address = client(peer);
            self.by_address.enter(address, most)?;
            place.of_address = Some(address);
        }
        Ok(place)
    }
}

impl ByAddress {
    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, address: IpAddr, most: usize) -> Result<(), Refusal> {
        let mut open = self.open();
        let connections = open.get(&address).copied().unwrap_or_default();
        if connections >= most {
            return Err(Refusal::ConnectionsOfAddress);
        }
        open.insert(address, connections + 1);
        Ok(())
    }

    fn leave(&self, address: IpAddr) {
        if let Entry::Occupied(mut connections) = self.open().entry(address) {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.entrance.open.fetch_sub(1, Ordering::Relaxed);
        self.entrance.open_now.decrement(1.0);
        if let Some(address) = self.of_address {
            self.entrance.by_address.leave(address);
        }
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entrance")
    }
}

/// How many descriptors clients may have; `None` where the process may have any number.
fn descriptors_for_clients(process_max: Option<u64>) -> u64 {
    process_max.map_or(u64::MAX, |most| most - most / DESCRIPTORS_KEPT)
}

fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Net::new(address, IPV6_CLIENT_BITS)
            .map_or(IpAddr::V6(address), |network| IpAddr::V6(network.network())),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_an_address_has_so_many_places_and_gets_them_back() {
        let by_address = ByAddress::default();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        assert!(by_address.enter(one, 2).is_ok() && by_address.enter(one, 2).is_ok());
        assert_eq!(by_address.enter(one, 2), Err(Refusal::ConnectionsOfAddress));
        assert_eq!(by_address.enter(other, 2), Ok(()));
        by_address.leave(one);
        assert_eq!(by_address.enter(one, 2), Ok(()));
        for address in [one, one, other] {
            by_address.leave(address);
        }
        assert!(by_address.open().is_empty());
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1:2:3:4", "2001:db8::"),
        ] {
            assert_eq!(client(address.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn a_quarter_of_the_descriptors_is_kept() {
        for (most, for_clients) in [(Some(1024), 768), (Some(100), 75), (Some(0), 0), (None, u64::MAX)] {
            assert_eq!(descriptors_for_clients(most), for_clients);
        }
    }
}
