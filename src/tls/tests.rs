use super::*;
use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn params(common_name: Option<&str>, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params
}

/// Writes a self-signed pair as `name.pem` and `name.key`.
fn pair(folder: &Path, name: &str, params: &CertificateParams) -> Pair {
    let key = KeyPair::generate().unwrap();
    let files = Pair { cert: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
    fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

fn folder() -> TempDir {
    TempDir::with_prefix("tidegate-tls-").unwrap()
}

#[test]
fn the_name_of_a_client_is_its_common_name_else_the_first_alternative_one() {
    let folder = folder();
    let mut uri = params(None, &[]);
    uri.subject_alt_names.push(SanType::URI("spiffe://example/reader".try_into().unwrap()));
    for (params, name) in [
        (params(Some("reader"), &["a.example"]), Some("reader")),
        (params(Some(""), &["a.example", "b.example"]), Some("a.example")),
        (params(Some("two\nlines"), &["a.example"]), Some("a.example")),
        (params(Some(&"x".repeat(257)), &["a.example"]), Some("a.example")),
        (params(None, &["a.example"]), Some("a.example")),
        (uri, Some("spiffe://example/reader")),
        (params(None, &["192.0.2.1"]), None),
    ] {
        let files = pair(folder.path(), "client", &params);
        let certificate = CertificateDer::from_pem_file(&files.cert).unwrap();
        assert_eq!(name::of_client(&certificate).as_deref(), name);
    }
}

#[test]
fn every_file_that_cannot_be_used_is_told() {
    let folder = folder();
    let sound = pair(folder.path(), "sound", &params(None, &["a.example"]));
    let other = pair(folder.path(), "other", &params(None, &["b.example"]));
    let [empty, garbage] = ["empty", "garbage"].map(|name| folder.path().join(name));
    fs::write(&empty, "").unwrap();
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let missing = folder.path().join("missing");
    let pairs = vec![
        Pair { cert: missing.clone(), key: empty.clone() },
        Pair { cert: sound.cert.clone(), key: other.key },
        Pair { cert: garbage.clone(), key: sound.key.clone() },
        Pair { cert: empty.clone(), key: missing },
        sound,
    ];
    let faults = ServerFiles { pairs, client_ca: Some(garbage) }.load().unwrap_err();
    let told: Vec<_> = faults.iter().map(|(place, error)| (*place, error.to_string())).collect();
    let begins = [
        (Place::Cert(0), "cannot be read: No such file"),
        (Place::Key(0), "cannot be read: there is no private key in it"),
        (Place::Key(1), "is not the key of the certificate"),
        (Place::Cert(2), "cannot be used: "),
        (Place::Cert(3), "cannot be read: there is no certificate in it"),
        (Place::Key(3), "cannot be read: No such file"),
        (Place::Ca, "cannot be used: "),
    ];
    assert_eq!(told.len(), begins.len(), "{told:?}");
    for ((place, text), (expected, begin)) in told.iter().zip(begins) {
        assert!(*place == expected && text.starts_with(begin), "{place:?} {text}: {expected:?} {begin}");
    }
}

#[test]
fn how_to_connect_is_the_same_as_long_as_the_files_hold_the_same() {
    let folder = folder();
    let mut authority = params(Some("authority"), &[]);
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = folder.path().join("ca.pem");
    let write = || {
        let issuer = CertifiedIssuer::self_signed(authority.clone(), KeyPair::generate().unwrap()).unwrap();
        fs::write(&ca, issuer.pem()).unwrap();
    };
    let load = || ClientFiles { ca: Some(ca.clone()), own: None }.load(SystemRoots::Needed).unwrap();
    write();
    let before = load();
    assert_eq!(before, load());
    write();
    assert_ne!(before, load());
    assert!(ClientFiles::default().load(SystemRoots::Unneeded).unwrap().config().is_none());
}
