//! JSON Web Tokens: keys fetched from a URL or a file, rotated, and never more often than they may be.

use super::{assert_refused, telling_source};
use crate::support::{Ask, EVERYTHING, Gateway, Reply, ScriptedSource, Setup, eventually};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Somebody who signs tokens.
struct Signer {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let (way, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(way, &random).unwrap();
        Self { id, pair: EcdsaKeyPair::from_pkcs8(way, document.as_ref(), &random).unwrap() }
    }

    fn key(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
                "x": base64url(&point[1..33]), "y": base64url(&point[33..]) })
    }

    fn signed(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": self.id, "typ": "JWT" });
        let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", base64url(signature))
    }

    fn token(&self, subject: &str) -> String {
        self.signed(
            &json!({ "iss": "https://id.example", "aud": "items", "sub": subject, "exp": 4_102_444_800_u64 }),
        )
    }
}

fn set(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.key()).collect::<Vec<_>>() }).to_string()
}

fn access(keys: &str) -> String {
    format!(
        "[[access]]\nname = \"door\"\n[access.jwt]\nissuer = \"https://id.example\"\naudience = [\"items\"]\n\
         algorithms = [\"ES256\"]\n{keys}\n"
    )
}

async fn ask(gateway: &Gateway, token: &str) -> crate::support::Answer {
    gateway.send(Ask::get("/x").field("Authorization", &format!("Bearer {token}"))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_fetched_once_and_again_for_an_unknown_signer_at_a_bounded_rate() {
    let (source, issuer) = (telling_source().await, ScriptedSource::start().await);
    let (first, second, stranger) = (Signer::new("1"), Signer::new("2"), Signer::new("3"));
    issuer.always("/jwks", Reply::ok(set(&[&first])));
    let keys = format!("jwks = \"{}/jwks\"", issuer.url());
    let route = "[route.cache]\nidentity = \"access\"\n";
    let text = format!("{}{}{EVERYTHING}access = \"door\"\n{route}", source.table(), access(&keys));
    let gateway = Setup::new(text).start().await;
    let answer = ask(&gateway, &first.token("ada")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "- - -"), "the token goes no further");
    assert!(ask(&gateway, &first.token("ada")).await.is_hit());
    assert!(!ask(&gateway, &first.token("bob")).await.is_hit(), "another's");
    assert_eq!(issuer.count("/jwks"), 1);
    for forged in 0..20 {
        let answer = ask(&gateway, &stranger.token(&forged.to_string())).await;
        assert_refused(&answer, 401);
        assert_eq!(answer.field("WWW-Authenticate"), "Bearer realm=\"tidegate\", error=\"invalid_token\"");
    }
    assert!(issuer.count("/jwks") <= 2, "{}", issuer.count("/jwks"));
    let expired = json!({ "iss": "https://id.example", "aud": "items", "sub": "ada", "exp": 1_000 });
    assert_refused(&ask(&gateway, &first.signed(&expired)).await, 401);
    let other =
        json!({ "iss": "https://id.example", "aud": "bills", "sub": "ada", "exp": 4_102_444_800_u64 });
    assert_refused(&ask(&gateway, &first.signed(&other)).await, 401);
    for reason in ["signer", "expired", "audience"] {
        let counted = format!("tidegate_access_denied_total{{route=\"items\",reason=\"{reason}\"");
        assert!(gateway.metric(&counted).await > 0, "{reason}");
    }
    // The issuer takes another key: its tokens are good as soon as the keys may be fetched again.
    issuer.always("/jwks", Reply::ok(set(&[&first, &second])));
    eventually("the new signer is known", async || ask(&gateway, &second.token("ada")).await.status == 200)
        .await;
    assert_eq!(ask(&gateway, &first.token("ada")).await.status, 200);
    assert!(issuer.count("/jwks") <= 3, "{}", issuer.count("/jwks"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_keys_nobody_is_judged_and_nobody_comes_in() {
    let (source, issuer) = (telling_source().await, ScriptedSource::start().await);
    let signer = Signer::new("1");
    issuer.always("/jwks", Reply::new(500, set(&[&signer])));
    let keys = format!("jwks = \"{}/jwks\"", issuer.url());
    let text = format!("{}{}{EVERYTHING}access = \"door\"\n", source.table(), access(&keys));
    let gateway = Setup::new(text).start().await;
    let answer = ask(&gateway, &signer.token("ada")).await;
    answer.assert_problem(503);
    assert_eq!((answer.field("Cache-Control"), answer.field("Retry-After")), ("no-store", "1"));
    assert_refused(&gateway.get("/x").await, 401);
    assert_eq!(source.requests.all().len(), 0);
    assert_eq!(gateway.metric("tidegate_access_key_fetches_total{result=\"failed\"").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_a_file_are_taken_up_by_a_reload() {
    let source = telling_source().await;
    let (first, second) = (Signer::new("1"), Signer::new("2"));
    let text = format!("{}{}{EVERYTHING}access = \"door\"\n", source.table(), access("jwks = \"jwks.json\""));
    let setup = Setup::new(text);
    std::fs::write(setup.folder().join("jwks.json"), set(&[&first])).unwrap();
    let gateway = setup.start().await;
    assert_eq!(ask(&gateway, &first.token("ada")).await.status, 200);
    std::fs::write(setup.folder().join("jwks.json"), set(&[&second])).unwrap();
    assert_eq!(ask(&gateway, &second.token("ada")).await.status, 200, "read again for an unknown signer");
    assert_refused(&ask(&gateway, &first.token("ada")).await, 401);
}
