//! The admin API's description against what the listener answers.

use crate::support::{Ask, EVERYTHING, RecordingDestination, Reply, SYNC, ScriptedSource, Setup, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The description; nothing that it does not name may stand in an answer.
struct Described(Value);

impl Described {
    fn new(mut document: Value) -> Self {
        close(&mut document["components"]);
        Self(document)
    }

    fn operations(&self) -> impl Iterator<Item = (String, String)> {
        let paths = self.0["paths"].as_object().expect("paths").iter();
        paths.flat_map(|(path, item)| {
            item.as_object().expect("methods").keys().map(move |method| (path.clone(), method.clone()))
        })
    }

    /// Checks a value against a schema of the description.
    fn check(&self, schema: &Value, value: &Value, what: &str) {
        let whole = json!({ "allOf": [schema], "components": self.0["components"] });
        let validator = jsonschema::validator_for(&whole).unwrap_or_else(|fault| panic!("{what}: {fault}"));
        let faults: Vec<_> = validator.iter_errors(value).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{what}: {faults:?} in {value}");
    }

    /// Checks the examples of every operation against their schemas.
    fn check_examples(&self) {
        for (path, method) in self.operations() {
            let operation = &self.0["paths"][&path][&method];
            let request = operation["requestBody"]["content"].as_object();
            let responses = operation["responses"].as_object().expect("responses").iter();
            let contents =
                responses.filter_map(|(_, response)| response["content"].as_object()).chain(request);
            for (kind, content) in contents.flatten() {
                let what = format!("example of {method} {path} ({kind})");
                assert!(kind == "text/plain" || content.get("example").is_some(), "there is no {what}");
                if let Some(example) = content.get("example") {
                    self.check(&content["schema"], example, &what);
                }
            }
        }
    }
}

/// Allows nothing that is not named.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(members) => members.iter_mut().for_each(close),
        _ => {}
    }
}

/// A path of the description, the status that is expected, and the request with what it asks for.
type Call = (&'static str, u16, (Ask, String));

/// Calls of everything, of a gateway with a stored response, a delivered change and a dead letter.
fn calls(url: &str, change: &str) -> Vec<Call> {
    let explain = format!("/v1/explain?url={url}");
    let (change, resolve) = (format!("/v1/changes/{change}"), format!("/v1/changes/{change}/resolve"));
    let get = |path: &str| (Ask::get(path), path.to_owned());
    let post = |path: &str, body: Value| {
        (Ask::post(path, body.to_string()).field("Content-Type", "application/json"), path.to_owned())
    };
    vec![
        ("/livez", 200, get("/livez")),
        ("/livez", 400, get("/livez?x=1")),
        ("/readyz", 200, get("/readyz")),
        ("/metrics", 200, get("/metrics")),
        ("/openapi.json", 200, get("/openapi.json")),
        ("/v1/config", 200, get("/v1/config")),
        ("/v1/status", 200, get("/v1/status")),
        ("/v1/events", 400, get("/v1/events?x=1")),
        ("/", 200, get("/")),
        ("/", 400, get("/?x=1")),
        ("/page/{file}", 200, get("/page/page.css")),
        ("/page/{file}", 404, get("/page/none.css")),
        ("/v1/reload", 200, post("/v1/reload", json!({}))),
        ("/v1/reload", 400, post("/v1/reload", json!({"x": 1}))),
        ("/v1/reload", 400, post("/v1/reload", json!([]))),
        ("/v1/explain", 200, get(&explain)),
        ("/v1/explain", 200, get(&format!("{explain}&method=PUT"))),
        ("/v1/explain", 200, get("/v1/explain?url=http://h/a/../b")),
        ("/v1/explain", 400, get("/v1/explain")),
        ("/v1/explain", 422, get("/v1/explain?url=x")),
        ("/v1/destinations", 200, get("/v1/destinations")),
        ("/v1/destinations/{name}/pause", 200, post("/v1/destinations/search/pause", json!({}))),
        ("/v1/destinations/{name}/resume", 200, post("/v1/destinations/search/resume", json!({}))),
        ("/v1/destinations/{name}/resume", 404, post("/v1/destinations/nobody/resume", json!({}))),
        ("/v1/changes", 200, get("/v1/changes")),
        ("/v1/changes", 400, get("/v1/changes?after=x")),
        ("/v1/changes", 422, get("/v1/changes?state=odd")),
        ("/v1/changes", 404, get("/v1/changes?destination=nobody")),
        ("/v1/changes/{id}", 200, get(&change)),
        ("/v1/changes/{id}", 404, get("/v1/changes/x")),
        ("/v1/changes/{id}/resolve", 409, post(&resolve, json!({"as": "committed"}))),
        ("/v1/changes/{id}/resolve", 400, post(&resolve, json!({"as": "odd"}))),
        ("/v1/dead-letters", 200, get("/v1/dead-letters?since=5&until=2999-01-01T00:00:00Z")),
        ("/v1/dead-letters", 200, get("/v1/dead-letters?limit=1&after=s0")),
        ("/v1/dead-letters", 400, get("/v1/dead-letters?after=x")),
        ("/v1/dead-letters/redrive", 400, post("/v1/dead-letters/redrive", json!([null, "search"]))),
        ("/v1/dead-letters/redrive", 202, post("/v1/dead-letters/redrive", json!({"dry_run": true}))),
        ("/v1/dead-letters/redrive", 415, (Ask::post("/v1/dead-letters/redrive", "x"), String::new())),
        ("/v1/dead-letters/discard", 202, post("/v1/dead-letters/discard", json!({"background": true}))),
        ("/v1/replay", 202, post("/v1/replay", json!({"destination": "search", "rate": 1}))),
        ("/v1/replay", 422, post("/v1/replay", json!({"destination": "search", "since": "soon"}))),
        ("/v1/operations", 200, get("/v1/operations")),
        ("/v1/operations/{id}/stop", 200, post("/v1/operations/1/stop", json!({}))),
        ("/v1/operations/{id}/stop", 404, post("/v1/operations/x/stop", json!({}))),
        ("/v1/purge", 202, post("/v1/purge", json!({"urls": [url], "mode": "soft"}))),
        ("/v1/purge", 422, post("/v1/purge", json!({}))),
        ("/v1/purges/{seq}", 200, get("/v1/purges/1")),
        ("/v1/purges/{seq}", 404, get("/v1/purges/x")),
        ("/v1/purge", 403, {
            let (ask, path) = post("/v1/purge", json!({"all": true}));
            (ask.field("Origin", "http://evil.example"), path)
        }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_as_described_and_everything_described_is_answered() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.on("*", |request| match request.method.as_str() {
        "GET" => Reply::ok("x").cache_control("max-age=600").field("Vary", "Accept-Language"),
        _ => Reply::ok(""),
    });
    destination.answer(|delivery| {
        if delivery.request.body.starts_with(b"bad") { Reply::new(400, "no") } else { Reply::ok("") }
    });
    let quota = "[[route.limit]]\nname = \"edge\"\nrequests = 100\nper = \"1s\"\n";
    let text = format!("{}{}{EVERYTHING}{quota}{SYNC}", source.table(), destination.table("search"));
    let gateway = Setup::new(text).admin("token = \"right\"").start().await;
    gateway.get("/items/1").await;
    let good = gateway.put("/items/2", "good").await.field("Tidegate-Change").to_owned();
    gateway.put("/items/3", "bad").await;
    let authorized = |ask: Ask| ask.field("Authorization", "Bearer right");
    eventually("one is dead", async || {
        let letters = gateway.operate(authorized(Ask::get("/v1/dead-letters"))).await.json();
        letters["dead_letters"].as_array().is_some_and(|letters| letters.len() == 1)
    })
    .await;
    let document = gateway.admin_get("/openapi.json").await;
    assert_eq!((document.status, document.field("Content-Type")), (200, "application/json"));
    let described = Described::new(document.json());
    assert_eq!(described.0["openapi"].as_str().map(|version| &version[..2]), Some("3."));
    described.check_examples();

    let calls = calls(&format!("http://{}/items/1", gateway.public), &good);
    let mut met = BTreeSet::new();
    for (path, status, (ask, target)) in calls {
        let method = if format!("{ask:?}").contains("\"POST\"") { "post" } else { "get" };
        let what = format!("{method} {path} ({target})");
        let answer = gateway.operate(authorized(ask)).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let response = &described.0["paths"][path][method]["responses"][status.to_string()];
        let kind = answer.field("Content-Type").split(';').next().unwrap_or_default();
        let content = &response["content"][kind];
        assert!(content.is_object(), "{what}: {status} {kind} is not described");
        if kind.ends_with("json") {
            described.check(&content["schema"], &answer.json(), &what);
        }
        met.insert((path.to_owned(), method.to_owned()));
    }
    let missed: Vec<_> = described.operations().filter(|operation| !met.contains(operation)).collect();
    assert!(missed.is_empty(), "described, and never asked for here: {missed:?}");
    for path in ["/v1/config", "/v1/explain"] {
        let answer = gateway.admin_get(path).await;
        answer.assert_problem(401);
        let content = &described.0["paths"][path]["get"]["responses"]["401"]["content"];
        described.check(&content["application/problem+json"]["schema"], &answer.json(), path);
    }
}
