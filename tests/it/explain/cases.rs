//! Random requests at random states: what is explained is what the next request gets.

use super::{assert_agrees, explained};
use crate::support::server::Received;
use crate::support::{Ask, Gateway, RecordingDestination, Reply, ScriptedSource, Setup};
use fastrand::Rng;
use serde_json::json;
use std::collections::BTreeMap;

/// Cases in each of the tasks that run at once.
const CASES: usize = 600;
const TASKS: u64 = 3;

const WHOLE: &str = "0123456789";

type Fields = Vec<(String, String)>;

/// Each route is reached by its first segment.
const ROUTES: &str = r#"
[[route]]
name = "off"
path = "/off/{*rest}"
source = "inventory"
[route.cache]
enabled = false
[[route]]
name = "honour"
path = "/honour/{*rest}"
source = "inventory"
[route.cache]
request_directives = "honour"
[[route]]
name = "window"
path = "/window/{*rest}"
source = "inventory"
[route.cache]
stale_while_revalidate = "1h"
[[route]]
name = "limited"
path = "/limited/{*rest}"
source = "inventory"
[[route.limit]]
name = "edge"
requests = 2
per = "1h"
key = "header:X-Case"
[[route]]
name = "spared"
path = "/spared/{*rest}"
source = "inventory"
[[route.limit]]
name = "source"
requests = 1
per = "1h"
key = "header:X-Case"
stage = "source"
[[route]]
name = "upgrade"
path = "/upgrade/{*rest}"
source = "inventory"
upgrade = ["websocket"]
[[route]]
name = "reads"
path = "/reads/{*rest}"
methods = ["GET", "HEAD"]
source = "inventory"
[[route]]
name = "accepted"
path = "/accepted/{*rest}"
source = "inventory"
[route.sync]
mode = "accept"
destinations = ["search"]
[[route]]
name = "synced"
path = "/synced/{*rest}"
source = "inventory"
[route.sync]
destinations = ["search"]
[[route]]
name = "plain"
path = "/plain/{*rest}"
source = "inventory"
"#;

const SEGMENTS: [&str; 14] = [
    "off", "honour", "honour", "honour", "honour", "window", "limited", "spared", "upgrade", "reads",
    "accepted", "synced", "plain", "nowhere",
];

/// What the source is told to answer, in the query.
const REPLIES: [&str; 15] = [
    "cc=max-age%3D600",
    "cc=max-age%3D600&etag=1",
    "cc=max-age%3D600&vary=Accept-Language",
    "cc=max-age%3D600&vary=Accept-Encoding&etag=1",
    "cc=max-age%3D600&parts=1&etag=1",
    "cc=max-age%3D600%2Cpublic&parts=1&etag=1",
    "cc=max-age%3D10%2Cstale-while-revalidate%3D600&age=60&etag=1",
    "cc=max-age%3D10%2Cstale-if-error%3D600&age=60&etag=1",
    "cc=max-age%3D10%2Cmust-revalidate&age=60&etag=1",
    "cc=max-age%3D10&age=60&etag=1",
    "cc=no-cache&etag=1",
    "cc=private",
    "cc=max-age%3D600&cookie=1",
    "cc=s-maxage%3D600&status=404",
    "etag=1",
];

/// Fields that a request may have, each with its weight.
const LINES: [(&str, &str); 28] = [
    ("Accept-Language", "en"),
    ("Accept-Language", "de"),
    ("Accept-Encoding", "gzip"),
    ("Accept-Encoding", "br"),
    ("Cache-Control", "no-cache"),
    ("Cache-Control", "max-age=0"),
    ("Cache-Control", "max-age=30"),
    ("Cache-Control", "max-stale"),
    ("Cache-Control", "max-stale"),
    ("Cache-Control", "max-stale"),
    ("Cache-Control", "min-fresh=1000"),
    ("Cache-Control", "only-if-cached"),
    ("Cache-Control", "no-store"),
    ("Range", "bytes=0-3"),
    ("Range", "bytes=2-3"),
    ("Range", "bytes=8-9"),
    ("If-None-Match", "\"a\""),
    ("If-Match", "\"a\""),
    ("Authorization", "Bearer canary"),
    ("X-Fail", "503"),
    ("X-Fail", "503"),
    ("Incremental", "?1"),
    ("CDN-Loop", "tidegate"),
    ("Expect", "the-best"),
    ("Tidegate-Min-Version", "what"),
    ("Max-Forwards", "0"),
    ("Idempotency-Key", "\"\""),
    ("Upgrade", "websocket"),
];

const METHODS: [&str; 16] = [
    "GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "HEAD", "QUERY", "OPTIONS", "PUT",
    "POST", "TRACE",
];

/// Paths that are refused, or not, as the gate sees them.
const ODD: [&str; 7] = ["a/../b", "%zz", "a%5Cb", "x%2F..%2Fy", "..;x/", "a;b", "%41/%2f"];

/// Answers as the query says.
fn scripted(request: &Received) -> Reply {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let told: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    if request.fields.get("X-Fail").is_some() {
        return Reply::new(503, "no");
    }
    let tag = told.contains_key("etag").then_some("\"a\"");
    let fielded = |reply: Reply| {
        let named = [("cc", "Cache-Control"), ("vary", "Vary"), ("age", "Age")];
        let given = named.into_iter().filter_map(|(key, name)| Some((name, told.get(key)?)));
        let reply = given.fold(reply, |reply, (name, value)| reply.field(name, value));
        let reply = tag.into_iter().fold(reply, |reply, tag| reply.field("ETag", tag));
        if told.contains_key("cookie") { reply.field("Set-Cookie", "a=b") } else { reply }
    };
    if tag.is_some() && request.fields.get("If-None-Match") == tag {
        return fielded(Reply::new(304, ""));
    }
    let range = request.fields.get("Range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
    });
    let Some((first, last)) = range.filter(|_| told.contains_key("parts")) else {
        let status = told.get("status").and_then(|status| status.parse().ok()).unwrap_or(200);
        return fielded(Reply::new(status, WHOLE));
    };
    let content_range = format!("bytes {first}-{last}/{}", WHOLE.len());
    fielded(Reply::new(206, &WHOLE.as_bytes()[first..=last])).field("Content-Range", &content_range)
}

#[derive(Debug)]
struct Case {
    target: String,
    setup: Vec<(&'static str, Fields)>,
    purge: Option<&'static str>,
    method: &'static str,
    fields: Fields,
}

fn any<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

fn fields(random: &mut Rng, case: &str, fitting: &str, most: usize) -> Fields {
    let mut fields: Fields = vec![("X-Case".into(), case.into())];
    let fits: Vec<_> = LINES.into_iter().filter(|(name, _)| fitting.contains(name)).collect();
    for _ in 0..random.usize(..=most) {
        let among: &[_] = if fits.is_empty() || random.u8(..) < 64 { &LINES } else { &fits };
        let (name, value) = any(random, among);
        if fields.iter().any(|(own, _)| own == name) {
            continue;
        }
        fields.push((name.into(), value.into()));
        if name == "Upgrade" {
            fields.push(("Connection".into(), "upgrade".into()));
        }
    }
    fields
}

impl Case {
    fn any(random: &mut Rng, name: &str) -> Self {
        let segment = any(random, &SEGMENTS);
        let reply = any(random, &REPLIES);
        let odd = if random.u8(..) < 16 { any(random, &ODD) } else { name };
        // What is validated in the background would change between the explanation and the request.
        let is_settled = !reply.contains("while-revalidate") && segment != "window";
        let most = if is_settled { 2 } else { 1 };
        let fitting = match (segment, reply) {
            (_, reply) if reply.contains("parts") => "Range",
            (_, reply) if reply.contains("vary") => "Accept-Language, Accept-Encoding",
            ("honour", _) => "Cache-Control",
            (_, reply) if reply.contains("age=60") => "X-Fail",
            _ => "",
        };
        let before = if fitting == "X-Fail" { "" } else { fitting };
        let setup = (0..random.usize(..=most)).map(|_| {
            let method = any(random, &["GET", "GET", "GET", "HEAD"]);
            (method, fields(random, name, before, 1))
        });
        Self {
            target: format!("/{segment}/{odd}?{reply}&case={name}"),
            setup: setup.collect(),
            purge: (random.u8(..) < 24).then(|| any(random, &["hard", "soft"])),
            method: any(random, &METHODS),
            fields: fields(random, name, fitting, 2),
        }
    }

    /// Runs it; what the request got, in a few words.
    async fn run(&self, gateway: &Gateway) -> String {
        for (method, fields) in &self.setup {
            gateway.send(ask(method, &self.target, fields)).await;
        }
        if let Some(mode) = self.purge {
            let url = format!("http://{}{}", gateway.public, self.target);
            gateway.admin_post("/v1/purge", &json!({"urls": [url], "mode": mode})).await;
        }
        let told = explained(gateway, self.method, &self.target, &self.fields).await;
        let real = gateway.send(ask(self.method, &self.target, &self.fields)).await;
        assert_agrees(&told, &real, &format!("{self:?}"));
        let status = real.cache_status();
        let detail = status.iter().filter_map(|part| part.strip_prefix("detail="));
        let detail = detail.filter(|detail| detail.starts_with("stale") || detail.starts_with("max-stale"));
        let reason = told["reason"].as_str().map_or_else(|| real.status.to_string(), str::to_owned);
        let decision = told["decision"].as_str().unwrap_or_default();
        format!("{decision} {reason} {}", detail.collect::<String>()).trim().to_owned()
    }
}

fn ask(method: &str, target: &str, fields: &Fields) -> Ask {
    fields.iter().fold(Ask::new(method, target), |ask, (name, value)| ask.field(name, value))
}

/// What must have been met in the end.
const REACHED: [&str; 24] = [
    "fresh hit",
    "stale hit stale-while-revalidate",
    "stale hit max-stale",
    "validate stale",
    "validate stale stale-if-error",
    "validate request",
    "forward stale",
    "forward request",
    "forward uri-miss",
    "forward vary-miss",
    "forward partial",
    "forward bypass",
    "forward method",
    "own 200",
    "own 202",
    "own 400",
    "own 404",
    "own 405",
    "own 417",
    "own 429",
    "own 504",
    "own 508",
    "fresh hit HEAD",
    "fresh hit Range",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_explained_is_what_the_next_request_gets() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.on("*", scripted);
    let text = format!("{}{}{ROUTES}", source.table(), destination.table("search"));
    let gateway = std::sync::Arc::new(Setup::new(text).start().await);
    let seed = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let gateway = std::sync::Arc::clone(&gateway);
            tokio::spawn(async move {
                let (mut random, mut met) = (Rng::with_seed(seed + task), BTreeMap::<String, usize>::new());
                for number in 0..CASES {
                    let case = Case::any(&mut random, &format!("{task}-{number}"));
                    let mut words = case.run(&gateway).await;
                    *met.entry(words.clone()).or_default() += 1;
                    let is_plain_hit = words == "fresh hit";
                    if is_plain_hit
                        && case.method == "HEAD"
                        && case.setup.iter().all(|(method, _)| *method == "HEAD")
                    {
                        words += " HEAD";
                        *met.entry(words).or_default() += 1;
                    } else if is_plain_hit && case.fields.iter().any(|(name, _)| name == "Range") {
                        *met.entry(words + " Range").or_default() += 1;
                    }
                }
                met
            })
        })
        .collect();
    let mut met = BTreeMap::<String, usize>::new();
    for task in tasks {
        for (words, count) in task.await.unwrap_or_else(|fault| panic!("seed {seed}: {fault}")) {
            *met.entry(words).or_default() += count;
        }
    }
    let missed: Vec<_> = REACHED.iter().filter(|words| !met.contains_key(**words)).collect();
    assert!(missed.is_empty(), "seed {seed}: {missed:?} never met, but {met:#?}");
}
