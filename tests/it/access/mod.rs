//! Who may come in (`route.access`): every way in, every way of a request, and what is shared among those let in.

mod certificates;
mod every_way;
mod roles;
mod secrets;
mod shared;
mod tokens;

use crate::support::{Answer, Ask, EVERYTHING, Gateway, Reply, ScriptedSource, Setup};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The SHA-256 of a key, as the configuration has it.
fn sha256(key: &str) -> String {
    Sha256::digest(key).iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a text takes digits");
        digits
    })
}

/// An `[[access]]` named `door` with the keys `key-ada` and `key-bob`, and what more there is of it.
fn door(more: &str) -> String {
    let key = |name: &str| {
        format!("[[access.key]]\nname = \"{name}\"\nsha256 = [\"{}\"]\n", sha256(&format!("key-{name}")))
    };
    format!("[[access]]\nname = \"door\"\n{more}\n{}{}", key("ada"), key("bob"))
}

/// A source that tells whom it was asked for, for everybody to store.
async fn telling_source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| {
        let field = |name| request.fields.get(name).unwrap_or("-").to_owned();
        let said = format!("{} {} {}", field("X-Api-Key"), field("Authorization"), field("X-User"));
        Reply::ok(said).cache_control("max-age=60")
    });
    source
}

/// A gateway whose one route has that access, and what more there is of the route.
async fn guarded(source: &ScriptedSource, access: &str, route: &str) -> Gateway {
    let text = format!("{}{access}{EVERYTHING}access = \"door\"\n{route}", source.table());
    Setup::new(text).start().await
}

fn with_key(ask: Ask, key: &str) -> Ask {
    ask.field("X-Api-Key", key)
}

/// 401 or 403 as it has to be: a problem, for nobody to keep, that says how to come in.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16) {
    answer.assert_problem(status);
    assert_eq!(answer.field("Cache-Control"), "no-store");
    assert_eq!(answer.field("WWW-Authenticate").is_empty(), status != 401, "{answer:?}");
}
