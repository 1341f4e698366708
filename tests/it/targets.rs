//! `target = "opaque"`: bytes go on as they came, and what was stored by them is found and purged by them.

use crate::support::{Gateway, Reply, ScriptedSource, Setup};
use serde_json::json;

const ROUTES: &str = "[[route]]\nname = \"admin\"\npath = \"/admin/{*rest}\"\nsource = \"inventory\"\n\
                      [[route]]\nname = \"objects\"\npath = \"/{*rest}\"\ntarget = \"opaque\"\nsource = \"inventory\"\n";

/// Forms of targets that a canonical route would decode, rewrite or refuse.
const FORMS: [&str; 9] = [
    "/%61%2fb?c=%7e",
    "/a%2Fb?c=%7e",
    "/a%2fb?c=%7e",
    "//bucket/key",
    "/bucket/../key",
    "/bucket/%2E%2e/key",
    "/bucket/a%5Cb",
    "/bucket/a%00",
    "/bucket/100%",
];

async fn objects() -> (ScriptedSource, Gateway) {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.target.clone()).cache_control("max-age=60"));
    let gateway = Setup::new(format!("{}{ROUTES}", source.table())).start().await;
    (source, gateway)
}

fn targets(source: &ScriptedSource) -> Vec<String> {
    source.requests.all().into_iter().map(|request| request.target).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_bytes_are_forwarded_as_they_came_and_each_form_is_stored_for_itself() {
    let (source, gateway) = objects().await;
    for form in FORMS {
        let (first, second) = (gateway.get(form).await, gateway.get(form).await);
        assert_eq!((first.status, first.text().as_str(), first.is_hit()), (200, form, false));
        assert_eq!((second.text().as_str(), second.is_hit()), (form, true));
    }
    assert_eq!(targets(&source), FORMS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_purge_by_url_and_a_write_make_every_form_old() {
    let (source, gateway) = objects().await;
    for (purged, forms) in
        [("/a%2fb?c=%7e", &FORMS[..3]), ("/bucket/../key", &FORMS[4..5]), ("//bucket/key", &FORMS[3..4])]
    {
        for form in forms {
            gateway.get(form).await;
            assert!(gateway.get(form).await.is_hit(), "{form}");
        }
        let url = format!("http://{}{purged}", gateway.public);
        assert_eq!(gateway.admin_post("/v1/purge", &json!({ "urls": [url] })).await.status, 202);
        for form in forms {
            assert!(!gateway.get(form).await.is_hit(), "{form} behind a purge of {purged}");
        }
    }
    for form in FORMS {
        gateway.get(form).await;
        assert!(gateway.get(form).await.is_hit(), "{form}");
        assert_eq!(gateway.put(form, "new").await.status, 200);
        assert_eq!(source.requests.all().last().map(|request| request.target.clone()).as_deref(), Some(form));
        assert!(!gateway.get(form).await.is_hit(), "{form} behind a write");
    }
}

/// Data is data only where no reading of it leads elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_what_could_be_another_routes_is_refused() {
    let (source, gateway) = objects().await;
    for target in
        ["/x/../admin/1", "/x/%2e%2e/admin/1", "/admin/../x", "/admin%2f1", "/x/..%5cadmin/1", "//admin/1"]
    {
        gateway.get(target).await.assert_problem(400);
    }
    assert_eq!(targets(&source), Vec::<String>::new());
}

/// The canonical form by another way than the gateway's own: `None` where there is none.
fn canonical(path: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let byte = u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?;
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            0..=31 | 127 | b'\\' => return None,
            other => out.push_str(&format!("%{other:02X}")),
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    let is_dot = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
    let read = out.replace("%2F", "/").replace("%3B", ";");
    (!out.starts_with("//") && !read.split('/').any(is_dot)).then_some(out)
}

/// Through the binary: whatever form was asked for before, what comes back was made for exactly these bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_what_is_answered_was_asked_of_the_source_in_this_form() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.target.clone()).cache_control("max-age=60"));
    let gateway = crate::support::gateway_for(&source, "").await;
    let parts = [
        "a", "%61", "b", "/", "//", "%2f", "%2F", ";", "+", "%7e", "~", ".", "%2e", "%5c", "%C3%a9", "..",
        "%3b",
    ];
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut hits, mut refused) = (0, 0);
    for _ in 0..1500 {
        let path: String = (0..random.usize(1..4)).map(|_| parts[random.usize(..parts.len())]).collect();
        let (path, query) = (format!("/{path}"), ["", "?q=%61", "?q=a"][random.usize(..3)]);
        let answer = gateway.get(&format!("{path}{query}")).await;
        let Some(form) = canonical(&path) else {
            assert_eq!(answer.status, 400, "seed {seed}: {path}");
            refused += 1;
            continue;
        };
        assert_eq!((answer.status, answer.text()), (200, format!("{form}{query}")), "seed {seed}: {path}");
        hits += usize::from(answer.is_hit());
    }
    assert!(hits > 100 && refused > 100, "{hits} hits, {refused} refused");
}
