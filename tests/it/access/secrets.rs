//! I12: canaries for every kind of secret that a configuration or a request can carry, searched for in every
//! output: logs at trace level, access log, all that `/v1` answers, metrics, problems, events, what `check` says,
//! what lies in the journal and in Redis.
//!
//! What a journal must hold of a write is its path and content, where no canary stands, and the answer to one with an
//! Idempotency-Key, which is to be given again as it was, Set-Cookie included.

use super::{door, with_key};
use crate::support::tls::{Authority, securing};
use crate::support::{
    Answer, Ask, EVERYTHING, Gateway, RecordingDestination, RedisServer, Reply, ScriptedSource, Setup,
    eventually,
};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Kinds of secrets; each has a value of its own.
const KINDS: [&str; 23] = [
    "admin-token",
    "operator-token",
    "source-user",
    "source-field",
    "destination-user",
    "destination-query",
    "destination-field",
    "redis-password",
    "cache-secret",
    "route-field",
    "response-field",
    "jwks-query",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "api-key",
    "wrong-key",
    "idempotency-key",
    "query",
    "explained-key",
    "explained-cookie",
    "jwt",
];

fn canary(kind: &str) -> String {
    assert!(KINDS.contains(&kind), "{kind}");
    format!("CANARY-{kind}-CANARY")
}

/// `webhook` in base64, which stands in the configuration; both are searched for.
const WEBHOOK: &str = "Q0FOQVJZLXdlYmhvb2stQ0FOQVJZLUNBTkFSWQ==";

/// Everything that is searched for.
fn needles(key_pem: &str) -> Vec<String> {
    let line = key_pem.lines().nth(1).expect("a PEM file has lines").to_owned();
    let all = KINDS.iter().map(|kind| canary(kind));
    all.chain([WEBHOOK.to_owned(), "CANARY-webhook".to_owned(), line, super::sha256("key-ada")]).collect()
}

#[track_caller]
fn assert_clean(where_: &str, text: &[u8], needles: &[String]) {
    for needle in needles {
        let found = text.windows(needle.len()).position(|part| part == needle.as_bytes());
        if let Some(at) = found {
            let around = &text[at.saturating_sub(300)..(at + needle.len() + 20).min(text.len())];
            panic!("{needle} in {where_}: {}", String::from_utf8_lossy(around));
        }
    }
}

/// A command of Redis, word by word.
fn words(command: &str) -> redis::Cmd {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    command.arg(words.collect::<Vec<_>>());
    command
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

/// A configuration with a secret of each kind.
fn configuration(source: &ScriptedSource, destination: &RecordingDestination, redis: &RedisServer) -> String {
    let with_user =
        |text: String, kind: &str| text.replace("http://", &format!("http://user:{}@", canary(kind)));
    let source_table = with_user(source.table(), "source-user");
    let field = |kind| format!("headers = {{ authorization = \"Bearer {}\" }}\n", canary(kind));
    let query = format!("/?key={}\"", canary("destination-query"));
    let destination_table = with_user(destination.table("search"), "destination-user");
    let url = destination_table.lines().find(|line| line.starts_with("url")).expect("a url").to_owned();
    let other = destination_table.replace("\"search\"", "\"other\"").replace(
        &url,
        &format!(
            "{}{query}",
            destination
                .table("other")
                .lines()
                .find(|line| line.starts_with("url"))
                .expect("a url")
                .trim_end_matches('"')
        ),
    );
    let redis_url = redis.url().replace("redis://", &format!("redis://user:{}@", canary("redis-password")));
    format!(
        "[[admin.operator]]\nname = \"ci\"\ntoken = \"{}\"\n\
         [cache.shared]\nredis = \"{redis_url}\"\nsecret = \"{}\"\n\
         {source_table}{}{destination_table}secrets = [\"whsec_{WEBHOOK}\"]\n{}{other}format = \"cloudevents\"\n\
         {}[access.jwt]\nissuer = \"i\"\naudience = [\"a\"]\njwks = \"{}/jwks?key={}\"\n\
         {EVERYTHING}access = \"door\"\n\
         request_headers = {{ set = {{ X-Secret = \"{}\" }} }}\n\
         response_headers = {{ set = {{ X-Session = \"{}\" }} }}\n\
         [route.cache]\nidentity = \"access\"\n\
         [[route.limit]]\nname = \"l\"\nrequests = 1000\nper = \"1s\"\nkey = \"header:X-Api-Key\"\n\
         [route.sync]\ndestinations = [\"search\", \"other\"]\n",
        canary("operator-token"),
        canary("cache-secret"),
        field("source-field"),
        field("destination-field"),
        door(""),
        source.url(),
        canary("jwks-query"),
        canary("route-field"),
        canary("response-field"),
    )
    .replace(&super::sha256("key-bob"), &super::sha256(&canary("api-key")))
}

/// What a client sends that is nobody else's affair.
fn secretive(ask: Ask) -> Ask {
    let ask = ask.field("Host", "a.example").field("Cookie", &format!("session={}", canary("cookie")));
    ask.field("Authorization", &format!("Basic {}", canary("authorization")))
        .field("Proxy-Authorization", &format!("Basic {}", canary("proxy-authorization")))
}

async fn traffic(gateway: &Gateway, way: SocketAddr) -> Vec<Answer> {
    let query = canary("query");
    let key = canary("api-key");
    let mut answers = Vec::new();
    for ask in [
        with_key(Ask::get(&format!("/kept?token={query}")), &key),
        with_key(Ask::get(&format!("/kept?token={query}")), &key),
        with_key(Ask::get(&format!("/missing?token={query}")), &key),
        with_key(Ask::get(&format!("/broken?token={query}")), &key),
        with_key(Ask::put("/item", "content"), &key)
            .field("Idempotency-Key", &format!("\"{}\"", canary("idempotency-key"))),
        with_key(Ask::put("/refused", "content"), &key),
        with_key(Ask::get("/kept"), &canary("wrong-key")),
    ] {
        answers.push(secretive(ask).send(way).await.unwrap());
    }
    let token = Ask::get("/kept").field("Host", "a.example");
    answers.push(
        token.field("Authorization", &format!("Bearer {}.a.b", canary("jwt"))).send(way).await.unwrap(),
    );
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 404, 502, 200, 409, 401, 401], "{answers:?}\n{}", gateway.log_text());
    answers
}

/// All that operators are told.
async fn told(gateway: &Gateway, needles: &[String]) {
    let operator = |ask: Ask| ask.field("Authorization", &format!("Bearer {}", canary("admin-token")));
    let explain = format!(
        "/v1/explain?url=https://a.example/kept&header=X-Api-Key:%20{}&header=Cookie:%20{}",
        canary("explained-key"),
        canary("explained-cookie")
    );
    let mut seen = 0;
    for path in [
        "/v1/config",
        "/v1/destinations",
        "/v1/changes",
        "/v1/dead-letters",
        "/v1/status",
        "/v1/operations",
        "/metrics",
        "/readyz",
        "/livez",
        "/openapi.json",
        "/",
        &explain,
    ] {
        let answer = gateway.operate(operator(Ask::get(path))).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_clean(path, format!("{answer:?}{}", answer.text()).as_bytes(), needles);
        seen += usize::from(path.starts_with("/v1/"));
    }
    assert_eq!(seen, 7);
    let mut events = operator(Ask::get("/v1/events")).open(gateway.admin).await.unwrap();
    let first = events.next().await.unwrap().expect("an event");
    assert_clean("an event", &first, needles);
    for (path, body) in [("/v1/purge", "{\"all\":true}"), ("/v1/reload", "{}"), ("/v1/nothing", "{}")] {
        let ask = operator(Ask::post(path, body)).field("Content-Type", "application/json");
        let answer = gateway.operate(ask).await;
        assert_clean(path, format!("{answer:?}{}", answer.text()).as_bytes(), needles);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_no_secret_of_any_kind_is_in_any_output() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let redis = RedisServer::start().await;
    let user = format!("ACL SETUSER user on >{} ~* &* +@all", canary("redis-password"));
    redis.command::<()>(&words(&user)).await;
    source.on("*", |_| {
        Reply::ok("x").cache_control("max-age=60").field("Set-Cookie", &format!("s={}", canary("set-cookie")))
    });
    source.always("/kept", Reply::ok("x").cache_control("max-age=60"));
    source.always("/missing", Reply::new(404, "no"));
    source.always("/broken", Reply::none(crate::support::Step::Reset));
    source.always("/refused", Reply::new(409, "no"));
    source.always("/jwks", Reply::new(500, "no"));
    destination.answer(|_| Reply::new(403, "who are you"));
    let authority = Authority::new("test authority");
    let shown = authority.issue(&["127.0.0.1", "a.example"]);
    let mut setup = Setup::new(configuration(&source, &destination, &redis))
        .server("tls = { cert = \"server.pem\", key = \"server.key\" }\naccess_log = { one_in = 1 }")
        .admin(&format!("token = \"{}\"", canary("admin-token")));
    setup.environment("TIDEGATE_LOG", "trace");
    shown.write(setup.folder(), "server");
    let needles = needles(&shown.key);
    let gateway = setup.start().await;
    let way = securing(authority.trusting(None, &[]), "a.example", gateway.public).await;
    let asked = std::sync::atomic::AtomicU32::new(0);
    eventually("the gateway uses Redis", async || {
        let number = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let ask = Ask::get(&format!("/kept?number={number}")).field("Host", "a.example");
        with_key(ask, &canary("api-key")).send(way.address).await.unwrap();
        gateway.metric("tidegate_stored_total{tier=\"shared\"}").await > 0
    })
    .await;
    let answers = traffic(&gateway, way.address).await;
    destination.wait_for(2).await;
    for answer in answers.iter().filter(|answer| answer.field("Content-Type") == "application/problem+json") {
        assert_clean("a problem", format!("{answer:?}{}", answer.text()).as_bytes(), &needles);
    }
    told(&gateway, &needles).await;
    for (name, value) in redis.everything().await {
        assert_clean("Redis", &[name, value].concat(), &needles);
    }
    let exit = gateway.terminate().await;
    assert!(exit.stderr.contains("TRACE"), "it was logged at trace level");
    assert_clean("the log", exit.stderr.as_bytes(), &needles);
    let own: Vec<String> = needles.iter().filter(|one| **one != canary("set-cookie")).cloned().collect();
    for file in files(&setup.data()) {
        assert_clean("the journal", &file, &own);
    }
    checked(&setup, &needles).await;
}

/// What `check` says of a good file and of a broken one; who else can read it is told.
async fn checked(setup: &Setup, needles: &[String]) {
    let (file, key) = (setup.write(), setup.folder().join("server.key"));
    let name = file.display().to_string();
    let check = async || crate::support::gateway::run(&["check", "--config", &name], setup.folder()).await;
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        for path in [&file, &key] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let said = check().await;
        assert!(said.status.success(), "{said:?}");
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(told.contains("tidegate.toml: warning: holds secrets"), warned, "{told}");
        assert_eq!(told.contains("server.key: warning: holds secrets"), warned, "{told}");
        assert_clean("check", &[said.stdout, said.stderr].concat(), needles);
    }
    // Faults quote no value.
    let broken =
        setup.text().replace("threads = 2", "threads = 0").replace("whsec_", "").replace("http://", "htp://");
    std::fs::write(&file, broken).unwrap();
    let said = check().await;
    assert_eq!(said.status.code(), Some(2));
    assert_clean("faults", &[said.stdout, said.stderr].concat(), needles);
}

/// What stands in the environment is in no file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_others_can_read_is_told_once_at_the_start_if_it_holds_secrets() {
    let source = ScriptedSource::start().await;
    for (token, warned) in [("token = \"written\"", 1), ("token = \"${ADMIN_TOKEN_OF_THE_TEST}\"", 0)] {
        let mut setup = Setup::new(format!("{}{EVERYTHING}", source.table())).admin(token);
        setup.environment("ADMIN_TOKEN_OF_THE_TEST", "given");
        std::fs::set_permissions(setup.write(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let log = setup.start().await.terminate().await.stderr;
        assert_eq!(log.matches("holds secrets").count(), warned, "{log}");
    }
}
