use super::*;
use crate::config::{Settings, parse};
use std::path::Path;

const BASE: &str = r#"
[server]
listen = ["127.0.0.1:8080"]
[admin]
listen = "127.0.0.1:9090"
[[source]]
name = "s"
urls = ["http://h:1"]
headers = { authorization = "canary" }
[[destination]]
name = "d"
url = "http://h:2"
[[route]]
name = "a"
path = "/a"
source = "s"
[[route.limit]]
name = "q"
requests = 5
per = "1s"
[[route]]
name = "b"
path = "/b"
source = "s"
"#;

fn read(text: &str) -> Settings {
    parse(text, "f", Path::new(""), &|_| None).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

/// One line a change: `route a changed path`.
fn shown(changes: &Changes) -> Vec<String> {
    let line = |change: &Change| {
        let (what, name) = match &change.subject {
            Subject::Section { name } => ("section", name.clone()),
            Subject::Source { name } => ("source", name.clone()),
            Subject::Access { name } => ("access", name.clone()),
            Subject::Destination { name } => ("destination", name.clone()),
            Subject::Route { name } => ("route", name.clone()),
            Subject::Quota { route, name } => ("quota", format!("{route}/{name}")),
        };
        let verb = serde_json::to_value(change.change).unwrap();
        format!("{what} {name} {} {}", verb.as_str().unwrap(), change.keys.join(" ")).trim().to_owned()
    };
    changes.0.iter().map(line).collect()
}

#[test]
fn what_is_kept_added_changed_and_removed() {
    let quota = "[[route.limit]]\nname = \"q\"\nrequests = 5\nper = \"1s\"\n";
    let route_b = "[[route]]\nname = \"b\"\npath = \"/b\"\nsource = \"s\"\n";
    let route_a = BASE.split_once("[[route]]").unwrap().1.split_once("[[route]]").unwrap().0;
    let swapped = BASE.split_once("[[route]]").unwrap().0.to_owned() + route_b + "[[route]]" + route_a;
    for (what, text, expected) in [
        ("the same", BASE.to_owned(), vec![]),
        ("a comment", format!("# new\n{BASE}"), vec![]),
        ("a default written out", BASE.replace("[admin]", "request_timeout = \"60s\"\n[admin]"), vec![]),
        ("a number in another way", BASE.replace("requests = 5", "requests = 0x5"), vec![]),
        ("tables in another order", BASE.replace(route_b, "") + route_b, vec![]),
        (
            "a section",
            BASE.replace("[admin]", "request_timeout = \"9s\"\nlimits.fields = 7\n[admin]"),
            vec!["section server changed server.limits.fields server.request_timeout"],
        ),
        (
            "a section that was left out",
            format!("[sync]\nretention = \"1h\"\n{BASE}"),
            vec!["section sync changed sync.retention"],
        ),
        ("a source", BASE.replace("h:1", "h:3"), vec!["source s changed urls"]),
        // A secret is compared, though nobody is shown it.
        ("a secret", BASE.replace("canary", "other"), vec!["source s changed headers.authorization"]),
        ("a destination", BASE.replace("h:2", "h:3"), vec!["destination d changed url"]),
        ("figures", BASE.replace("requests = 5", "requests = 6"), vec!["quota a/q changed burst requests"]),
        ("no quota", BASE.replace(quota, ""), vec!["quota a/q removed"]),
        ("another quota", BASE.replace("\"q\"", "\"r\""), vec!["quota a/q removed", "quota a/r added"]),
        (
            "a route that went, with its quota",
            BASE.replace(&format!("[[route]]{route_a}"), ""),
            vec!["route a removed", "quota a/q removed"],
        ),
        (
            "another name",
            BASE.replace("name = \"d\"", "name = \"e\""),
            vec!["destination d removed", "destination e added"],
        ),
        ("the order of routes", swapped, vec!["section route changed order"]),
        (
            "an optional table",
            BASE.replace(
                "source = \"s\"\n[[route.limit]]",
                "source = \"s\"\n[route.cache]\nttl = \"1s\"\n[[route.limit]]",
            ),
            vec!["route a changed"],
        ),
    ] {
        let changes = Changes::between(&read(BASE).keys, &read(&text).keys).unwrap();
        let shown = shown(&changes);
        if what == "an optional table" {
            assert!(shown.len() == 1 && shown[0].starts_with("route a changed cache."), "{shown:?}");
        } else if what == "figures" {
            // `burst` is left out: it follows `requests` without being a key of its own.
            assert_eq!(shown, ["quota a/q changed requests"]);
        } else {
            assert_eq!(shown, expected, "{what}");
        }
        assert_eq!(changes.is_empty(), expected.is_empty(), "{what}");
    }
}

#[test]
fn what_needs_a_restart_is_refused_at_its_place() {
    let shared = "[cache.shared]\nredis = \"redis://h\"\n";
    for (old, new, key, place) in [
        (BASE.to_owned(), BASE.replace("8080", "8081"), "server.listen", (3, 10)),
        (
            BASE.to_owned(),
            BASE.replace("[server]\nlisten", "[server]\nthreads = 7\nlisten"),
            "server.threads",
            (3, 11),
        ),
        (BASE.to_owned(), BASE.replace("9090", "9091"), "admin.listen", (5, 10)),
        (BASE.to_owned(), format!("[cache]\nmemory = \"1MiB\"\n{BASE}"), "cache.memory", (2, 10)),
        // What is not written any more is placed at its table.
        (format!("[sync]\ndata = \"x\"\n{BASE}"), format!("\n[sync]\n{BASE}"), "sync.data", (2, 1)),
        (BASE.to_owned(), format!("{shared}{BASE}"), "cache.shared", (1, 1)),
        (format!("{shared}{BASE}"), BASE.to_owned(), "cache.shared", (1, 1)),
        (
            format!("{shared}{BASE}"),
            format!("{shared}object = \"1MiB\"\n{BASE}"),
            "cache.shared.object",
            (3, 10),
        ),
    ] {
        let faults = Changes::between(&read(&old).keys, &read(&new).keys).unwrap_err();
        let [fault] = faults.as_slice() else { panic!("one fault: {faults}") };
        assert_eq!((fault.key.as_str(), (fault.line, fault.column)), (key, place), "{faults}");
        assert!(fault.remedy.contains("needs a restart") && fault.file == "f", "{faults}");
    }
    let both = BASE.replace("8080", "8081").replace("9090", "9091").replace("h:1", "h:5");
    assert_eq!(Changes::between(&read(BASE).keys, &read(&both).keys).unwrap_err().as_slice().len(), 2);
}

#[test]
fn i12_nothing_that_is_kept_to_compare_shows_a_value() {
    let settings = read(BASE);
    assert!(!format!("{:?}", settings.keys).contains("canary"));
    let changes = Changes::between(&settings.keys, &read(&BASE.replace("canary", "other")).keys).unwrap();
    assert!(!serde_json::to_string(&changes).unwrap().contains("other"));
}
