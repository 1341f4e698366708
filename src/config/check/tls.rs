//! Certificates and keys: they are read here, so that what does not fit is told with its place.

use super::Check;
use crate::config::file::{Text, Tls};
use crate::config::given::{Address, Given};
use crate::tls::{ClientFiles, ClientTls, FileError, Pair, Place, ServerFiles, ServerTls, SystemRoots};
use http::HeaderName;
use std::ops::Range;

/// The most certificates of the public listeners.
const CERTIFICATES_MAX: usize = 1000;

/// The files that a source or destination names.
pub(super) struct ClientGiven<'g> {
    pub ca: Option<&'g Text>,
    pub cert: Option<&'g Text>,
    pub key: Option<&'g Text>,
}

impl Check<'_, '_> {
    /// TLS on the public listeners.
    pub(super) fn server_tls(&mut self, given: &Tls) -> Option<ServerTls> {
        if let Some(one_too_many) = given.certificate.get(CERTIFICATES_MAX) {
            let message = format!("there are more than {CERTIFICATES_MAX}");
            self.report.fault(&one_too_many.span, message, "put several names into one certificate");
        }
        let further = given.certificate.iter().map(|further| (&further.cert, &further.key));
        let pairs: Vec<(&Text, &Text)> = std::iter::once((&given.cert, &given.key)).chain(further).collect();
        let path = |text: &Text| self.base.join(text.as_str());
        let files = ServerFiles {
            pairs: pairs.iter().map(|(cert, key)| Pair { cert: path(cert), key: path(key) }).collect(),
            client_ca: given.client_ca.as_ref().map(path),
        };
        self.secret_files.extend(files.pairs.iter().map(|pair| pair.key.clone()));
        files
            .load()
            .map_err(|faults| {
                for (place, error) in faults {
                    let span = match place {
                        Place::Cert(number) => pairs.get(number).map(|(cert, _)| &cert.span),
                        Place::Key(number) => pairs.get(number).map(|(_, key)| &key.span),
                        Place::Ca => given.client_ca.as_ref().map(|given| &given.span),
                    };
                    self.file_fault(span.unwrap_or(&given.cert.span), &error);
                }
            })
            .ok()
    }

    /// The field for the names in clients' certificates, which are only shown where they are asked for.
    pub(super) fn client_name_field(&mut self, given: &Tls) -> Option<HeaderName> {
        let field = given.client_name_field.as_ref()?;
        if given.client_ca.is_none() {
            let message = "clients show no certificate without client_ca";
            self.report.fault(&field.span, message, "set client_ca, or leave it out");
        }
        self.written_field(field)
    }

    /// How a source or destination is connected to, whose URLs are these.
    pub(super) fn client_tls(
        &mut self,
        given: &ClientGiven<'_>,
        urls: &[&Given<Address>],
    ) -> Option<ClientTls> {
        let secured = urls.iter().find(|url| url.url().is_ok_and(|url| url.scheme() == "https"));
        let named = [given.ca, given.cert, given.key].into_iter().flatten().next();
        if let (None, Some(named)) = (secured, named) {
            let message = "has no effect: no URL begins with https://";
            self.report.fault(&named.span, message, "write https:// in the URL, or leave it out");
            return None;
        }
        let own = match (given.cert, given.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(alone), None) | (None, Some(alone)) => {
                let message = "a certificate and its key go together: the other one is missing";
                self.report.fault(&alone.span, message, "name both in cert and key, or leave both out");
                return None;
            }
        };
        let path = |text: &Text| self.base.join(text.as_str());
        let files = ClientFiles {
            ca: given.ca.map(path),
            own: own.map(|(cert, key)| Pair { cert: path(cert), key: path(key) }),
        };
        self.secret_files.extend(files.own.iter().map(|own| own.key.clone()));
        let system = if secured.is_some() { SystemRoots::Needed } else { SystemRoots::Unneeded };
        files
            .load(system)
            .map_err(|faults| {
                for (place, error) in faults {
                    let span = match place {
                        Place::Cert(_) => own.map(|(cert, _)| &cert.span),
                        Place::Key(_) => own.map(|(_, key)| &key.span),
                        Place::Ca => given.ca.map(|ca| &ca.span).or(secured.map(|url| &url.span)),
                    };
                    self.file_fault(span.unwrap_or(&(0..0)), &error);
                }
            })
            .ok()
    }

    fn file_fault(&mut self, span: &Range<usize>, error: &FileError) {
        let remedy = match error {
            FileError::Mismatch => "name the key that the certificate was made for",
            FileError::NoSystemRoots(_) => "install ca-certificates, or name a file in ca",
            FileError::Unusable(_) => "name an X.509 certificate with an RSA, ECDSA or Ed25519 key",
            FileError::Unreadable(_)
            | FileError::TooLarge
            | FileError::NotPem
            | FileError::NoCertificate
            | FileError::NoKey => "name a PEM file that can be read",
        };
        self.report.fault(span, error.to_string(), remedy);
    }
}
