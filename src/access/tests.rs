//! Who comes in, by tables: every way alone, several together, and every token that must not pass.

use super::jwt::KeySet;
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderName;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const NOW_SECONDS: u64 = 1_800_000_000;

/// An RSA key of 2048 bits and tokens signed with it by OpenSSL, good until 2100.
const RSA_N: &str = "6mzALEu6T9tfaCbyPHUfxoDC8yCKT92BgDt4scTWgJD-dcyfm2sa1e0-uRHfw7z_ZHg3ZtkC0jiFPP530Tycai9B0ejpb0BsrI1-QHXoMBu5xi2JTN2HAepAZwl5fhiOFQ__roePtcTVinbTMpSImc6ZuwvXHkCyPdmZqAQQbhdS_VoIfxlVxSfL8qS90Q89OwqEPIbZpx-yWyPSkrQYPXcWi0gnV19gs-b1Y2-HrO77NFDVw8ZjbA1CaTcU83uyBn8CaUH0_thBe0l_W1rngMrwy0sLLfjHOFLtN6iTd_Fbl67TrLiTo5NwufhkCNR_hCy0f8ZbeM0fEzTnIhCHZw";
const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJpIiwiYXVkIjoiYSIsInN1YiI6Im1lIiwiZXhwIjo0MTAyNDQ0ODAwfQ.oPS5IVAkYahJrr0ftAYwSO-gVzf_zDE6N_wfZmptaj9ZU5-nllJrc1fKPEeTDoDrEFinzBkpYk3NPhQZZ4NYctwHNHEvBsXkLjPYrGA0w9IiwXnLItHzrqgmTrs_QwfabzdiJx-dSaaLlxGy3aURc3NoiIrazGORjsbx7YlTatJJ1BeUMyTP3p0dIsBBx0d5P22JCH_3m2JPNaIjCQxT-gf1qUwrtCyydZTFWbqRef4yOHere-2cDm5evxI_ugyAh95Ngq5tqsyM3Os9YuxUJP6MeYngPMYxIO9WUG9mq_grkNGPQTs8QmdBNr5M9R1a_9S1X-wTj9bV0PW6R5THGw";
const PS256: &str = "eyJhbGciOiJQUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJpIiwiYXVkIjoiYSIsInN1YiI6Im1lIiwiZXhwIjo0MTAyNDQ0ODAwfQ.KtvOZ3-KOymJjvuDje2Hu7lUwQkLJ8NEkZoMn9ARE-QG5GJpzkKzTmeCm8kwOyyMga7KcgK5x8v2qygesAmb8KqK1c7qO3PgdqRff8K9JFYR80x9k9bUyoijw3WjTmXQ47gZhGHglImkSStE1fXZknZyYZ3-PEUfw9ch8QQanCiWnXGAHPdhWa8MX0PLq0wJtXNnOqQWzl7UwIMCR8uD1dh7oYfLkgnJbvHDuztzQkBEhLOjPdx4pcdRpZp2rRCooqjtCbOC_dIpRVaXPmz20lwJoLEenrbpD914IDNKY72-UiL2WL9Ny7o9GPRqpTL-pFt-_2FKBb5u-wq6pXCByw";

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Keys of a P-256 and an Ed25519 signer, drawn for one test.
struct Signers {
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Signers {
    fn new() -> Self {
        let random = SystemRandom::new();
        let way = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(way, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            p256: EcdsaKeyPair::from_pkcs8(way, p256.as_ref(), &random).unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        }
    }

    fn set(&self) -> KeySet {
        let point = self.p256.public_key().as_ref();
        let set = json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "e", "x": base64url(&point[1..33]), "y": base64url(&point[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "d", "alg": "EdDSA", "use": "sig",
              "x": base64url(self.ed25519.public_key()) },
            { "kty": "RSA", "kid": "r", "n": RSA_N, "e": "AQAB" },
            { "kty": "RSA", "kid": "enc", "use": "enc", "n": RSA_N, "e": "AQAB" },
            { "kty": "oct", "kid": "o", "k": base64url("secret") },
            { "kty": "new kind" },
        ]});
        KeySet::parse(set.to_string().as_bytes()).unwrap()
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = match header["kid"].as_str() {
            Some("d") => base64url(self.ed25519.sign(message.as_bytes())),
            _ => base64url(self.p256.sign(&SystemRandom::new(), message.as_bytes()).unwrap()),
        };
        format!("{message}.{signature}")
    }
}

fn jwt(keys: KeySet, algorithms: &[Algorithm]) -> Jwt {
    Jwt {
        issuer: "i".into(),
        audience: vec!["a".into(), "b".into()],
        algorithms: algorithms.to_vec(),
        jwks: JwksOrigin::File("jwks.json".into(), keys),
        leeway: Duration::from_mins(1),
        claim: "sub".into(),
        refresh: Duration::from_mins(10),
    }
}

fn settings() -> Settings {
    Settings {
        name: "x".into(),
        addresses: Vec::new(),
        certificates: Certificates::None,
        keys: Vec::new(),
        key_field: HeaderName::from_static("x-api-key"),
        jwt: None,
        credentials: Credentials::Remove,
        identity_field: None,
        preflight: Preflight::Refuse,
    }
}

fn nothing() -> Shown<'static> {
    Shown {
        address: [192, 0, 2, 1].into(),
        certificate: None,
        key: Credential::None,
        bearer: Credential::None,
    }
}

fn api_key(name: &str, keys: &[&str]) -> ApiKey {
    let digests = keys.iter().map(|key| KeyDigest(Sha256::digest(key).into())).collect();
    ApiKey { name: name.to_owned(), digests }
}

/// The name that comes in, `-` for none, or the reason of the denial.
fn told(access: &Access, shown: Shown<'_>) -> String {
    match access.judge(&shown, NOW) {
        Verdict::Admitted(Some(identity)) => identity.name().to_owned(),
        Verdict::Admitted(None) => "-".to_owned(),
        Verdict::Denied(denial) => denial.as_str().to_owned(),
        Verdict::KeysNeeded => "keys needed".to_owned(),
    }
}

fn bearer(token: &str) -> Shown<'_> {
    Shown { bearer: Credential::One(token.as_bytes()), ..nothing() }
}

fn key(key: &str) -> Shown<'_> {
    Shown { key: Credential::One(key.as_bytes()), ..nothing() }
}

#[tokio::test]
async fn tokens_of_every_kind_of_signer_are_good() {
    let signers = Signers::new();
    let all: Vec<Algorithm> = Algorithm::ALL.iter().map(|(_, one)| *one).collect();
    let access = Settings { jwt: Some(jwt(signers.set(), &all)), ..settings() };
    let access = Access::new(access, None, NOW);
    let claims = json!({ "iss": "i", "aud": "a", "sub": "me", "exp": NOW_SECONDS + 1 });
    for header in [json!({"alg": "ES256", "kid": "e"}), json!({"alg": "EdDSA", "kid": "d", "typ": "at+jwt"})]
    {
        assert_eq!(told(&access, bearer(&signers.signed(&header, &claims))), "me", "{header}");
    }
    // Without a key's name the only one that fits is meant.
    assert_eq!(told(&access, bearer(&signers.signed(&json!({"alg": "ES256"}), &claims))), "me");
    assert_eq!(told(&access, bearer(RS256)), "me");
    assert_eq!(told(&access, bearer(PS256)), "me");
}

/// RFC 8725 2.1, 3.1: what a token says of itself decides nothing.
#[tokio::test]
async fn a_token_that_is_not_what_is_configured_is_refused() {
    let signers = Signers::new();
    let access = Settings { jwt: Some(jwt(signers.set(), &[Algorithm::Es256])), ..settings() };
    let access = Access::new(access, None, NOW);
    let claims = json!({ "iss": "i", "aud": "a", "sub": "me", "exp": NOW_SECONDS + 100 });
    let signed = |header: Value| signers.signed(&header, &claims);
    let good = signed(json!({"alg": "ES256", "kid": "e"}));
    assert_eq!(told(&access, bearer(&good)), "me");
    let (message, signature) = good.rsplit_once('.').unwrap();
    let none = base64url(json!({"alg": "none"}).to_string());
    let payload = message.split('.').nth(1).unwrap();
    let other =
        base64url(json!({"iss": "i", "aud": "a", "sub": "you", "exp": NOW_SECONDS + 100}).to_string());
    let hs256 = format!("{}.{payload}", base64url(json!({"alg": "HS256", "kid": "r"}).to_string()));
    let twice = base64url(r#"{"alg":"ES256","alg":"none","kid":"e"}"#);
    for (token, reason) in [
        (format!("{none}.{payload}."), "algorithm"),
        (format!("{none}.{payload}.{signature}"), "algorithm"),
        (format!("{}.{payload}.", base64url(r#"{"alg":"None"}"#)), "algorithm"),
        (format!("{hs256}.{}", base64url(Sha256::digest(RSA_N))), "algorithm"),
        (RS256.to_owned(), "algorithm"),
        (signed(json!({"alg": "EdDSA", "kid": "d"})), "algorithm"),
        // The key's name does not choose another algorithm, nor the algorithm another key.
        (signed(json!({"alg": "ES256", "kid": "r"})), "keys needed"),
        (signed(json!({"alg": "ES256", "kid": "enc"})), "keys needed"),
        (signed(json!({"alg": "ES256", "kid": "nobody"})), "keys needed"),
        (signed(json!({"alg": "ES256", "kid": "e", "crit": ["exp"]})), "malformed"),
        (signed(json!({"alg": "ES256", "kid": "e", "crit": null})), "malformed"),
        (signed(json!({"alg": "ES256", "kid": "e", "b64": false})), "malformed"),
        (signed(json!({"alg": "ES256", "kid": 1})), "malformed"),
        (format!("{twice}.{payload}.{signature}"), "malformed"),
        (format!("{}.{other}.{signature}", message.split('.').next().unwrap()), "signature"),
        (format!("{message}.{}", base64url([0; 64])), "signature"),
        (format!("{message}."), "signature"),
        (format!("{good}="), "malformed"),
        (format!("{good}.x"), "malformed"),
        (message.to_owned(), "malformed"),
        (String::new(), "malformed"),
        ("a.b.c".to_owned(), "malformed"),
        (format!("{good}{}", "x".repeat(9000)), "malformed"),
    ] {
        assert_eq!(told(&access, bearer(&token)), reason, "{token}");
    }
}

/// RFC 7519 4.1, with a leeway of a minute.
#[tokio::test]
async fn claims_are_judged_by_the_configuration() {
    let signers = Signers::new();
    let access = Settings { jwt: Some(jwt(signers.set(), &[Algorithm::Es256])), ..settings() };
    let access = Access::new(access, None, NOW);
    for (change, outcome) in [
        (json!({}), "me"),
        (json!({ "exp": NOW_SECONDS - 59 }), "me"),
        (json!({ "exp": 1_799_999_940.5 }), "me"),
        (json!({ "exp": NOW_SECONDS - 60 }), "expired"),
        (json!({ "exp": null }), "expired"),
        (json!({ "exp": "4102444800" }), "expired"),
        (json!({ "exp": -1 }), "expired"),
        (json!({ "nbf": NOW_SECONDS + 60 }), "me"),
        (json!({ "nbf": NOW_SECONDS + 61 }), "not-yet"),
        (json!({ "nbf": "soon" }), "not-yet"),
        (json!({ "iss": "I" }), "issuer"),
        (json!({ "iss": ["i"] }), "issuer"),
        (json!({ "iss": null }), "issuer"),
        (json!({ "aud": ["z", "b"] }), "me"),
        (json!({ "aud": ["z"] }), "audience"),
        (json!({ "aud": "aa" }), "audience"),
        (json!({ "aud": null }), "audience"),
        (json!({ "aud": { "a": 1 } }), "audience"),
        (json!({ "sub": "" }), "claim"),
        (json!({ "sub": 7 }), "claim"),
        (json!({ "sub": "a\nb" }), "claim"),
        (json!({ "sub": "x".repeat(257) }), "claim"),
    ] {
        let mut claims = json!({ "iss": "i", "aud": "a", "sub": "me", "exp": NOW_SECONDS + 100 });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = signers.signed(&json!({"alg": "ES256", "kid": "e"}), &claims);
        assert_eq!(told(&access, bearer(&token)), outcome, "{change}");
    }
}

#[test]
fn any_way_suffices_and_the_reason_says_most() {
    let keys = vec![api_key("one", &["k1", "k1-new"]), api_key("two", &["k2"])];
    let certificates = Certificates::Of(vec!["billing".into()]);
    let addresses = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let by_key = Access::new(Settings { keys: keys.clone(), ..settings() }, None, NOW);
    for (shown, outcome) in [
        (key("k1"), "one"),
        (key("k1-new"), "one"),
        (key("k2"), "two"),
        (key("K2"), "unknown-key"),
        (key(""), "unknown-key"),
        (Shown { key: Credential::Ambiguous, ..nothing() }, "malformed"),
        (nothing(), "missing"),
        (Shown { certificate: Some("billing"), ..nothing() }, "missing"),
    ] {
        assert_eq!(told(&by_key, shown), outcome, "{shown:?}");
    }
    let by_address = Access::new(Settings { addresses: addresses.clone(), ..settings() }, None, NOW);
    for (address, outcome) in [
        ("10.1.2.3", "-"),
        ("::ffff:10.1.2.3", "-"),
        ("2001:db8::1", "-"),
        ("11.0.0.1", "address"),
        ("2001:db9::1", "address"),
    ] {
        let shown = Shown { address: address.parse().unwrap(), ..nothing() };
        assert_eq!(told(&by_address, shown), outcome, "{address}");
    }
    let by_certificate = Settings { certificates: certificates.clone(), ..settings() };
    let by_certificate = Access::new(by_certificate, None, NOW);
    for (name, outcome) in
        [(Some("billing"), "billing"), (Some("Billing"), "certificate"), (None, "no-certificate")]
    {
        assert_eq!(told(&by_certificate, Shown { certificate: name, ..nothing() }), outcome, "{name:?}");
    }
    let all = Access::new(Settings { addresses, certificates, keys, ..settings() }, None, NOW);
    let inside = |shown| Shown { address: [10, 0, 0, 1].into(), ..shown };
    for (shown, outcome) in [
        (Shown { certificate: Some("billing"), ..key("wrong") }, "billing"),
        (inside(key("k1")), "one"),
        (inside(key("wrong")), "-"),
        (inside(nothing()), "-"),
        (key("wrong"), "unknown-key"),
        (nothing(), "missing"),
    ] {
        assert_eq!(told(&all, shown), outcome, "{shown:?}");
    }
}

#[test]
fn i7_names_of_other_kinds_and_other_accesses_are_others() {
    let values = [
        Identity::new("x", Way::Key, "a"),
        Identity::new("x", Way::Token, "a"),
        Identity::new("x", Way::Certificate, "a"),
        Identity::new("y", Way::Key, "a"),
        Identity::new("x:a", Way::Key, "b"),
        Identity::new("x", Way::Key, "a:b"),
        Identity::of_certificate("a"),
    ];
    for (at, one) in values.iter().enumerate() {
        assert_eq!(format!("{one:?} {:?}", one.value().unwrap()), "Identity Sensitive", "I12");
        for other in &values[at + 1..] {
            assert_ne!(one.value(), other.value());
        }
    }
}

#[test]
fn a_set_of_keys_is_read_without_what_is_not_understood() {
    for (text, fault) in [
        ("", Some(KeySetFault::NoSet)),
        ("[]", Some(KeySetFault::NoSet)),
        (r#"{"keys":1}"#, Some(KeySetFault::NoSet)),
        (r#"{"keys":[]}"#, Some(KeySetFault::NoKey)),
        (r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#, Some(KeySetFault::NoKey)),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, Some(KeySetFault::NoKey)),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#, Some(KeySetFault::NoKey)),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes()).err(), fault, "{text}");
    }
    let contradicts = json!({ "keys": [{ "kty": "RSA", "alg": "ES256", "n": RSA_N, "e": "AQAB" }] });
    assert_eq!(KeySet::parse(contradicts.to_string().as_bytes()), Err(KeySetFault::NoKey));
}

#[test]
fn reasons_are_a_closed_list() {
    let words: std::collections::HashSet<_> = Denial::ALL.iter().map(|denial| denial.as_str()).collect();
    assert_eq!(words.len(), Denial::ALL.len());
    for denial in Denial::ALL {
        assert!(matches!(denial.status().as_u16(), 401 | 403 | 503), "{denial:?}");
    }
}

#[test]
fn kept_corpus_holds() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/jwt");
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        fuzzing::check(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 10, "{inputs} inputs in {}", folder.display());
}
