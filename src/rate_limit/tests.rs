//! What a route's quotas do together; the arithmetic has its tests in `quota.rs`.

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn quota(name: &str, requests: u32, key: QuotaKey) -> QuotaSettings {
    let requests = NonZeroU32::new(requests).unwrap();
    QuotaSettings {
        name: name.to_owned(),
        requests,
        per: Duration::from_secs(1),
        burst: requests,
        key,
        mode: Mode::Enforce,
        stage: Stage::Edge,
        scope: Scope::Local,
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

/// One request of an address without fields.
fn ask(quotas: &Quotas, stage: Stage, address: impl Into<IpAddr>, now: Timestamp) -> Verdict {
    let fields = HeaderMap::new();
    quotas.admit(
        stage,
        &Caller { address: address.into(), fields: &fields, certificate: None, identity: None },
        now,
    )
}

fn limit_of(verdict: &Verdict) -> String {
    let fields = match verdict {
        Verdict::Admit(fields) => fields,
        Verdict::Deny(denied) => &denied.fields,
    };
    fields.limit().map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn denied(verdict: Verdict) -> Denied {
    match verdict {
        Verdict::Deny(denied) => denied,
        Verdict::Admit(fields) => panic!("admitted: {fields:?}"),
    }
}

const CLIENT: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn fields_tell_what_is_left_and_when_there_is_more() {
    let quotas = Quotas::new("items", &[quota("per-client", 4, QuotaKey::Client)]);
    for expected in [3, 2, 1, 0] {
        let verdict = ask(&quotas, Stage::Edge, CLIENT, at(0));
        assert_eq!(limit_of(&verdict), format!("\"per-client\";r={expected};t=1"));
        let Verdict::Admit(fields) = verdict else { panic!("within the burst") };
        let mut answer = HeaderMap::new();
        answer.insert(RATELIMIT, HeaderValue::from_static("the source's"));
        fields.apply(&mut answer);
        assert_eq!(answer[RATELIMIT_POLICY], "\"per-client\";q=4;w=1");
        assert_eq!(answer[RATELIMIT], format!("\"per-client\";r={expected};t=1"));
    }
    let refused = denied(ask(&quotas, Stage::Edge, CLIENT, at(0)));
    assert_eq!(refused.retry_after, Duration::from_millis(250));
    assert_eq!(refused.retry_after_seconds(), 1);
    assert_eq!(refused.violated, [Arc::from("per-client")]);
    denied(ask(&quotas, Stage::Edge, CLIENT, at(249)));
    assert_eq!(limit_of(&ask(&quotas, Stage::Edge, CLIENT, at(250))), "\"per-client\";r=0;t=1");
}

#[test]
fn all_are_charged_or_none() {
    let quotas =
        Quotas::new("items", &[quota("wide", 10, QuotaKey::Route), quota("narrow", 2, QuotaKey::Client)]);
    for left in [9, 8] {
        let limit = limit_of(&ask(&quotas, Stage::Edge, CLIENT, at(0)));
        assert!(limit.starts_with(&format!("\"wide\";r={left};")), "{limit}");
    }
    for _ in 0..20 {
        let refused = denied(ask(&quotas, Stage::Edge, CLIENT, at(0)));
        assert_eq!(refused.violated, [Arc::from("narrow")]);
        let limit = refused.fields.limit().unwrap().to_str().unwrap();
        assert!(limit.starts_with("\"wide\";r=8;"), "a denial charges nothing: {limit}");
    }
    let other = ask(&quotas, Stage::Edge, Ipv4Addr::new(192, 0, 2, 1), at(0));
    assert!(limit_of(&other).starts_with("\"wide\";r=7;"), "others go on");
}

#[test]
fn all_violated_quotas_are_named_and_the_longest_wait_counts() {
    let mut slow = quota("slow", 1, QuotaKey::Client);
    slow.per = Duration::from_millis(2500);
    let quotas = Quotas::new("items", &[quota("fast", 1, QuotaKey::Client), slow]);
    assert!(matches!(ask(&quotas, Stage::Edge, CLIENT, at(0)), Verdict::Admit(_)));
    let refused = denied(ask(&quotas, Stage::Edge, CLIENT, at(0)));
    assert_eq!(refused.violated, [Arc::from("fast"), Arc::from("slow")]);
    assert_eq!((refused.retry_after, refused.retry_after_seconds()), (Duration::from_millis(2500), 3));
    assert_eq!(refused.fields.policy().unwrap(), "\"fast\";q=1;w=1, \"slow\";q=1;w=3");
    let limit = refused.fields.limit().unwrap();
    assert_eq!(limit, "\"fast\";r=0;t=1, \"slow\";r=0;t=3", "t is the moment of Retry-After");
}

#[test]
fn stages_are_counted_apart_and_told_together() {
    let mut source = quota("source", 1, QuotaKey::Route);
    source.stage = Stage::Source;
    let quotas = Quotas::new("items", &[quota("edge", 5, QuotaKey::Client), source]);
    let hit = ask(&quotas, Stage::Edge, CLIENT, at(0));
    assert_eq!(limit_of(&hit), "\"edge\";r=4;t=1, \"source\";r=1;t=0", "a hit costs the source nothing");
    let forwarded = ask(&quotas, Stage::Source, CLIENT, at(0));
    assert_eq!(limit_of(&forwarded), "\"edge\";r=4;t=1, \"source\";r=0;t=1");
    assert_eq!(denied(ask(&quotas, Stage::Source, CLIENT, at(0))).violated, [Arc::from("source")]);
    assert!(matches!(ask(&quotas, Stage::Edge, CLIENT, at(0)), Verdict::Admit(_)));
}

#[test]
fn shadow_counts_and_never_denies() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let mut shadow = quota("shadow", 1, QuotaKey::Client);
    shadow.mode = Mode::Shadow;
    let quotas = metrics::with_local_recorder(&recorder, || {
        Quotas::new("items", &[shadow, quota("real", 3, QuotaKey::Client)])
    });
    for left in [2, 1, 0] {
        let verdict = ask(&quotas, Stage::Edge, CLIENT, at(0));
        assert!(matches!(verdict, Verdict::Admit(_)));
        assert_eq!(limit_of(&verdict), format!("\"real\";r={left};t=1"), "shadow is not told");
    }
    assert_eq!(denied(ask(&quotas, Stage::Edge, CLIENT, at(0))).violated, [Arc::from("real")]);
    let text = recorder.handle().render();
    for (limit, count) in [("shadow", 3), ("real", 1)] {
        let line = format!("tidegate_quota_denied_total{{route=\"items\",limit=\"{limit}\"}} {count}");
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn clients_are_networks_and_fields_are_values() {
    let quotas = Quotas::new("items", &[quota("per-client", 1, QuotaKey::Client)]);
    let [one, neighbour, other]: [Ipv6Addr; 3] =
        ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
    assert!(matches!(ask(&quotas, Stage::Edge, one, at(0)), Verdict::Admit(_)));
    denied(ask(&quotas, Stage::Edge, neighbour, at(0)));
    assert!(matches!(ask(&quotas, Stage::Edge, other, at(0)), Verdict::Admit(_)));

    let name = HeaderName::from_static("x-api-key");
    let quotas = Quotas::new("items", &[quota("per-key", 1, QuotaKey::Header(name.clone()))]);
    let mut with = HeaderMap::new();
    with.insert(name, HeaderValue::from_static("a"));
    let without = HeaderMap::new();
    for (fields, passes) in [(&with, true), (&without, true), (&with, false), (&without, false)] {
        let verdict = quotas.admit(
            Stage::Edge,
            &Caller { address: CLIENT.into(), fields, certificate: None, identity: None },
            at(0),
        );
        assert_eq!(matches!(verdict, Verdict::Admit(_)), passes, "{fields:?}");
    }
}

#[test]
fn i10_beyond_the_bound_newcomers_share_one_quota() {
    let quotas =
        Quotas::of("items", &[quota("per-client", 1, QuotaKey::Client)], |one| Quota::new("items", one, 10));
    let passed = (0..100u32)
        .filter(|number| {
            let address = Ipv4Addr::from_bits(*number);
            matches!(ask(&quotas, Stage::Edge, address, at(0)), Verdict::Admit(_))
        })
        .count();
    assert_eq!(passed, 11, "ten of their own and one for all others");
}

#[test]
fn what_was_consumed_is_kept_by_those_that_succeed() {
    let (client, route) = (QuotaKey::Client, QuotaKey::Route);
    for (what, settings, left) in [
        ("the same", quota("q", 4, client.clone()), 1),
        ("more", quota("q", 6, client.clone()), 3),
        ("fewer", quota("q", 3, client.clone()), 0),
        ("another name", quota("r", 4, client.clone()), 3),
        ("another key", quota("q", 4, route), 3),
    ] {
        let first = Quotas::new("items", &[quota("q", 4, client.clone())]);
        for _ in 0..2 {
            assert!(matches!(ask(&first, Stage::Edge, CLIENT, at(0)), Verdict::Admit(_)));
        }
        let second = first.succeed("items", std::slice::from_ref(&settings), at(0));
        let verdict = ask(&second, Stage::Edge, CLIENT, at(0));
        assert!(limit_of(&verdict).contains(&format!(";r={left};")), "{what}: {verdict:?}");
        let later = ask(&first, Stage::Edge, CLIENT, at(0));
        let shared = limit_of(&later).contains(";r=0;");
        assert_eq!(shared, what == "the same", "{what}: one that is under way charges both: {later:?}");
    }
}

#[test]
fn without_quotas_everything_passes_and_nothing_is_told() {
    let verdict = ask(&Quotas::new("items", &[]), Stage::Edge, CLIENT, at(0));
    assert_eq!(verdict, Verdict::Admit(Fields::default()));
}

#[test]
fn requests_at_once_never_pass_more_than_the_burst() {
    let settings = [quota("wide", 1000, QuotaKey::Route), quota("narrow", 50, QuotaKey::Client)];
    let quotas = Quotas::new("items", &settings);
    let passed: usize = std::thread::scope(|scope| {
        let count = || {
            let pass = |_: &u32| matches!(ask(&quotas, Stage::Edge, CLIENT, at(0)), Verdict::Admit(_));
            (0..100).filter(pass).count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 50);
    assert!(limit_of(&ask(&quotas, Stage::Edge, CLIENT, at(0))).starts_with("\"wide\";r=950;"));
}
