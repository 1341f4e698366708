//! `[server]` and `[admin]`.

use super::Check;
use super::scalar::Bound;
use crate::config::file::Errors;
use crate::target::Scheme;
use crate::{admin, gateway};
use std::net::{IpAddr, SocketAddr};

/// The most worker threads.
const THREADS_MAX: i64 = 1024;

/// The largest head and target: they are held in memory for each request.
const HEAD_BYTES_MAX: u64 = 1 << 20;

/// The most field lines.
const FIELDS_MAX: i64 = 10_000;

/// The most connections.
const CONNECTIONS_MAX: i64 = 1_000_000;

/// Of how many requests one may be logged.
const ONE_IN_MAX: i64 = 1_000_000;

/// The least bound of bodies in flight: with less, hardly anything could be forwarded.
const IN_FLIGHT_BYTES_MIN: u64 = 1 << 20;

impl Check<'_, '_> {
    pub(super) fn threads(&mut self) -> usize {
        match &self.file.server.threads {
            Some(given) => self.count(given, 1..=THREADS_MAX),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The public addresses and where operators are listened to; no address twice.
    pub(super) fn listeners(&mut self) -> (Vec<SocketAddr>, Option<admin::Listen>) {
        let (server, given) = (&self.file.server, &self.file.admin);
        if server.listen.is_empty() {
            let remedy = "write listen = [\"127.0.0.1:8080\"]";
            self.report.fault(&server.listen.span, "there is no listener", remedy);
        }
        let socket = given.listen.strip_prefix("unix:");
        let admin = if socket.is_some() { None } else { Some(&given.listen) };
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for listen in server.listen.iter().chain(admin) {
            let Some(address) = self.socket(listen) else { continue };
            let clash = addresses.iter().find(|taken| clashes(**taken, address));
            if let Some(clash) = clash {
                let message = format!("another listener has {clash}");
                self.report.fault(&listen.span, message, "choose another port");
            }
            addresses.push(address);
        }
        if let Some(path) = socket {
            return (addresses, self.unix_socket(path));
        }
        let address = given.listen.parse::<SocketAddr>().ok();
        if address.is_some() {
            addresses.pop();
        }
        (addresses, address.map(admin::Listen::Address))
    }

    /// What the public listeners speak.
    pub(super) fn public_scheme(&self) -> Scheme {
        if self.file.server.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// The public side without its routes.
    pub(super) fn gateway(&mut self, listen: Vec<SocketAddr>) -> gateway::Settings {
        let server = &self.file.server;
        gateway::Settings {
            listen,
            tls: server.tls.as_ref().and_then(|tls| self.server_tls(tls)),
            trusted_proxies: server
                .trusted_proxies
                .iter()
                .filter_map(|given| self.network(&given.span, given))
                .collect(),
            request_timeout: self.duration(&server.request_timeout, Bound::Positive),
            shutdown_grace: self.duration(&server.shutdown_grace, Bound::ZeroAllowed),
            limits: self.limits(),
            access_log: self.access_log(),
            client_name_field: server.tls.as_ref().and_then(|tls| self.client_name_field(tls)),
            access: Vec::new(),
            routes: Vec::new(),
        }
    }

    fn access_log(&mut self) -> gateway::AccessLogSettings {
        let given = &self.file.server.access_log;
        if given.to.is_empty() {
            self.report.fault(&given.to.span, "is empty", "write \"stderr\" or the path of a file");
        }
        gateway::AccessLogSettings {
            to: match given.to.as_str() {
                "stderr" => gateway::LogTarget::StandardError,
                file => gateway::LogTarget::File(self.base.join(file)),
            },
            one_in: self.count(&given.one_in, 0..=ONE_IN_MAX),
            errors: match *given.errors {
                Errors::None => gateway::LoggedErrors::None,
                Errors::Server => gateway::LoggedErrors::Server,
                Errors::All => gateway::LoggedErrors::All,
            },
        }
    }

    fn limits(&mut self) -> gateway::Limits {
        let given = &self.file.server.limits;
        gateway::Limits {
            head_bytes: self.size_up_to(&given.head, HEAD_BYTES_MAX),
            fields: self.count(&given.fields, 1..=FIELDS_MAX),
            target_bytes: self.size_up_to(&given.target, HEAD_BYTES_MAX),
            body_bytes: match given.body.as_str() {
                "none" => None,
                _ => Some(self.size(&given.body, Bound::ZeroAllowed)),
            },
            in_flight_bytes: self.size_from(&given.in_flight, IN_FLIGHT_BYTES_MIN),
            connections: self.count(&given.connections, 1..=CONNECTIONS_MAX),
            connections_per_address: given
                .connections_per_address
                .as_ref()
                .map(|most| self.count(most, 1..=CONNECTIONS_MAX)),
            header_timeout: self.duration(&given.header_timeout, Bound::Positive),
            idle_timeout: self.duration(&given.idle_timeout, Bound::Positive),
            body_rate_bytes: self.size(&given.body_rate, Bound::ZeroAllowed),
        }
    }
}

/// Whether two addresses cannot be listened on at once. Port 0 asks for any free one.
fn clashes(left: SocketAddr, right: SocketAddr) -> bool {
    let (left_ip, right_ip) = (left.ip().to_canonical(), right.ip().to_canonical());
    left.port() != 0
        && left.port() == right.port()
        && (left_ip == right_ip || covers(left_ip, right_ip) || covers(right_ip, left_ip))
}

/// Whether a listener on `all` takes connections to `one`: `[::]` takes those of IPv4 too.
fn covers(all: IpAddr, one: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_clash_where_one_covers_the_other() {
        for (left, right, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
        ] {
            let [left, right] = [left, right].map(|address| address.parse().unwrap());
            assert_eq!(clashes(left, right), expected, "{left} {right}");
            assert_eq!(clashes(right, left), expected, "{right} {left}");
        }
    }
}
