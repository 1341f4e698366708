//! `[[access]]`: who may come in.

use super::Check;
use super::scalar::{Bound, OWN_FIELDS};
use crate::access::{
    Algorithm, ApiKey, Certificates, Credentials, JwksOrigin, Jwt, KEYS_MAX, KeyDigest, KeySet, Preflight,
    Settings,
};
use crate::config::file::{self, Access, Text};
use crate::config::given::{Address, Given, Hidden};
use crate::gateway::is_unkeyed;
use http::HeaderName;
use std::time::Duration;
use url::{Host, Url};

/// The most that clocks may differ.
const LEEWAY_MAX: Duration = Duration::from_mins(10);

/// How old fetched keys may become at most, and at least.
const REFRESH: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);

/// Digests of one key: two while it is being replaced.
const DIGESTS_MAX: usize = 2;

impl Check<'_, '_> {
    pub(super) fn access(&mut self, given: &Access) -> Option<Settings> {
        let (name, file) = (given.name.to_string(), self.file);
        let ways = [!given.addresses.is_empty(), !given.certificates.is_empty(), !given.key.is_empty()];
        if given.jwt.is_none() && !ways.contains(&true) {
            let remedy = "add addresses, certificates, [[access.key]] or [access.jwt]";
            self.report.fault(&given.name.span, "nobody could ever come in", remedy);
        }
        if let (Some(first), true) =
            (given.certificates.first(), file.server.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()))
        {
            let message = "clients show no certificate without server.tls.client_ca";
            self.report.fault(&first.span, message, "set client_ca, or leave it out");
        }
        let addresses = given.addresses.iter().map(|range| self.network(&range.span, range));
        let addresses = addresses.collect::<Vec<_>>().into_iter().flatten().collect();
        let names: Vec<String> = given.certificates.iter().map(|name| name.to_string()).collect();
        Some(Settings {
            name,
            addresses,
            certificates: match names.as_slice() {
                [] => Certificates::None,
                names if names.iter().any(|name| name == "*") => Certificates::Any,
                _ => Certificates::Of(names),
            },
            keys: self.api_keys(&given.key),
            key_field: self.read_field(&given.key_field)?,
            jwt: match &given.jwt {
                None => None,
                Some(jwt) => Some(self.jwt(jwt)?),
            },
            credentials: match *given.credentials {
                file::Credentials::Remove => Credentials::Remove,
                file::Credentials::Forward => Credentials::Forward,
            },
            identity_field: match &given.identity_field {
                None => None,
                Some(field) => Some(self.written_field(field)?),
            },
            preflight: match *given.preflight {
                file::Preflight::Refuse => Preflight::Refuse,
                file::Preflight::Pass => Preflight::Pass,
            },
        })
    }

    fn api_keys(&mut self, given: &[Given<file::Key>]) -> Vec<ApiKey> {
        if let Some(one_too_many) = given.get(KEYS_MAX) {
            let message = format!("there are more than {KEYS_MAX} keys");
            self.report.fault(&one_too_many.name.span, message, "let their owners have tokens instead");
        }
        self.unique(given.iter().map(|key| &key.name), "key");
        let mut seen = std::collections::HashMap::new();
        let mut keys = Vec::with_capacity(given.len());
        for key in given {
            if !(1..=DIGESTS_MAX).contains(&key.sha256.len()) {
                let message = "must be one digest, or two while the key is being replaced";
                self.report.fault(&key.sha256.span, message, "write sha256 = [\"..\"]");
            }
            let mut digests = Vec::with_capacity(key.sha256.len());
            for digest in key.sha256.iter() {
                let Some(read) = self.digest(digest) else { continue };
                if seen.insert(read, key.name.as_str()).is_some() {
                    let message = "is there twice: nobody could tell whose key it is";
                    self.report.fault(&digest.span, message, "give each its own key");
                }
                digests.push(read);
            }
            keys.push(ApiKey { name: key.name.to_string(), digests });
        }
        keys
    }

    fn digest(&mut self, given: &Given<Hidden>) -> Option<KeyDigest> {
        let read = hexadecimal(given.expose());
        if read.is_none() {
            let remedy = "write what `printf %s KEY | sha256sum` prints";
            self.report.fault(&given.span, "is no SHA-256 in 64 hexadecimal digits", remedy);
        }
        read
    }

    fn jwt(&mut self, given: &file::Jwt) -> Option<Jwt> {
        for (text, what) in [(&given.issuer, "issuer"), (&given.claim, "claim")] {
            if text.is_empty() {
                self.report.fault(&text.span, "is empty", format!("write the {what} of your tokens"));
            }
        }
        if given.audience.is_empty() {
            let message = "tokens for anybody else would be good here";
            self.report.fault(&given.audience.span, message, "name the `aud` of tokens for this gateway");
        }
        let algorithms: Vec<Algorithm> =
            given.algorithms.iter().filter_map(|name| self.algorithm(name)).collect();
        if given.algorithms.is_empty() {
            self.report.fault(&given.algorithms.span, "no token would be good", "write [\"RS256\"]");
        }
        let leeway = self.duration(&given.leeway, Bound::ZeroAllowed);
        if leeway > LEEWAY_MAX {
            self.report.fault(&given.leeway.span, "must be at most 10m", "write a shorter time");
        }
        let refresh = self.duration(&given.refresh, Bound::Positive);
        if !REFRESH.contains(&refresh) {
            self.report.fault(&given.refresh.span, "must be from 10s to 24h", "write \"10m\"");
        }
        Some(Jwt {
            issuer: given.issuer.to_string(),
            audience: given.audience.iter().map(|text| text.to_string()).collect(),
            algorithms,
            jwks: self.jwks(given)?,
            leeway,
            claim: given.claim.to_string(),
            refresh,
        })
    }

    fn algorithm(&mut self, given: &Given<String>) -> Option<Algorithm> {
        let algorithm = Algorithm::named(given);
        if algorithm.is_none() {
            let names: Vec<&str> = Algorithm::ALL.iter().map(|(name, _)| *name).collect();
            let message = match given.as_str() {
                name if name.starts_with("HS") => {
                    "is not taken: who can verify it could also sign, and a public key could pass for its secret"
                }
                "none" => "is no signature",
                _ => "is no signature that is understood",
            };
            self.report.fault(&given.span, message, format!("write some of {}", names.join(", ")));
        }
        algorithm
    }

    fn jwks(&mut self, given: &file::Jwt) -> Option<JwksOrigin> {
        let (place, ca) = (&given.jwks, given.ca.as_ref());
        if !place.is_url() {
            return self.jwks_file(place);
        }
        let endpoint = self.endpoint(place)?;
        if !endpoint.expose().username().is_empty() || endpoint.expose().password().is_some() {
            self.report.fault(&place.span, "public keys need no user info", "leave it out");
        }
        if endpoint.expose().scheme() == "http" && !is_loopback(endpoint.expose()) {
            let message = "whoever is on the way could put keys of their own there";
            self.report.fault(&place.span, message, "write https://, or name a file");
        }
        let files = super::tls::ClientGiven { ca, cert: None, key: None };
        let tls = self.client_tls(&files, &[place]);
        Some(JwksOrigin::Url(endpoint, tls?))
    }

    fn jwks_file(&mut self, given: &Given<Address>) -> Option<JwksOrigin> {
        let path = self.base.join(given.path());
        let text = JwksOrigin::read(&path)
            .map_err(|cause| {
                let message = format!("cannot be read: {cause}");
                self.report.fault(
                    &given.span,
                    message,
                    "name a JSON Web Key Set that can be read, or its URL",
                );
            })
            .ok()?;
        let keys = KeySet::parse(&text).map_err(|fault| {
            self.report.fault(&given.span, fault.to_string(), "name a JSON Web Key Set with public keys");
        });
        Some(JwksOrigin::File(path, keys.ok()?))
    }

    /// A field of a client that is looked at.
    fn read_field(&mut self, given: &Text) -> Option<HeaderName> {
        let name = given.parse::<HeaderName>().ok().filter(|name| {
            !OWN_FIELDS.contains(&name.as_str())
                && !name.as_str().starts_with("tidegate-")
                && *name != http::header::COOKIE
        });
        if name.is_none() {
            self.report.fault(&given.span, "is no field that could hold a key", "write \"X-Api-Key\"");
        }
        name
    }

    /// A field that Tidegate alone writes, for sources to believe.
    pub(super) fn written_field(&mut self, given: &Text) -> Option<HeaderName> {
        let is_free = |name: &HeaderName| {
            let name = name.as_str();
            name.starts_with("x-") && !is_unkeyed(name) && name != "x-request-id"
                || name.starts_with("client-")
                || name == "remote-user"
        };
        let name = given.parse::<HeaderName>().ok().filter(is_free);
        if name.is_none() {
            let message =
                "is no field for a client's name: another part writes it, or sources read it otherwise";
            self.report.fault(&given.span, message, "write one such as \"X-Client-Name\" or \"Client-Name\"");
        }
        name
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn hexadecimal(text: &str) -> Option<KeyDigest> {
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(KeyDigest(digest))
}
