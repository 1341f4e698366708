//! Another configuration while the gateway runs: all of it is in force from then on, or nothing; what was
//! consumed, learned, stored and opened stays.

mod destinations;
mod kept;
mod load;
mod refusals;
mod triggers;

use crate::support::{Ask, Gateway, ScriptedSource, Setup};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// A route of the source `inventory` for everything below a path, and what more there is of it.
fn route(name: &str, path: &str, more: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\npath = \"{path}/{{*rest}}\"\nsource = \"inventory\"\n{more}\n")
}

/// The digest of a text, as `sha256sum` writes it.
fn digest(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a text takes digits");
        digits
    })
}

/// Writes other tables and reloads; they must be in force then.
async fn reload(gateway: &Gateway, setup: Setup, rest: impl Into<String>) -> Setup {
    let setup = setup.rest(rest);
    setup.write();
    let answer = gateway.admin_post("/v1/reload", &json!({})).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), gateway.log_text());
    assert_eq!(answer.json()["digest"], digest(&setup.text()), "{}", answer.text());
    setup
}

/// Writes a text and reloads; it must be refused. Its faults.
async fn refused(gateway: &Gateway, setup: &Setup, text: &str) -> Vec<Value> {
    std::fs::write(setup.file(), text).expect("the file can be written");
    let answer = gateway.admin_post("/v1/reload", &json!({})).await;
    answer.assert_problem(422);
    answer.json()["faults"].as_array().cloned().expect("faults")
}

/// What `/readyz` says of the configuration.
async fn config(gateway: &Gateway) -> Value {
    gateway.admin_get("/readyz").await.json()["config"].clone()
}

/// Sends a GET and tells its status.
async fn status(gateway: &Gateway, target: &str) -> u16 {
    gateway.send(Ask::get(target)).await.status
}

/// A gateway with these tables behind those of the source.
async fn started(source: &ScriptedSource, rest: &str) -> (Setup, Gateway) {
    let setup = Setup::new(format!("{}{rest}", source.table()));
    let gateway = setup.start().await;
    (setup, gateway)
}
