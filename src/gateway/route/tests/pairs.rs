//! I8 over generated pairs of requests: equal keys mean equal bytes at the source, and one route.

use super::super::{PathPattern, without_query};
use crate::cache::CacheKey;
use crate::target::{Authority, Scheme, Target, TargetForm};

/// Pairs that are tried.
const PAIRS: usize = 1_000_000;

/// Of those at least so many have one key: the generator makes variants of one target.
const SAME_MIN: usize = 50_000;

/// Parts of targets that are alike to somebody.
const PARTS: [&str; 32] = [
    "a", "A", "%61", "%41", "b", "/", "/", "/", "//", "%2f", "%2F", ";", "%3B", "+", "%20", "~", "%7e",
    "%7E", ".", "..", "%2e", "%5c", "%00", "%zz", "%C3%A9", "%c3%a9", "?", "?", "&", "=", "utm_x=1", "x",
];

const HOSTS: [&str; 10] = ["h", "H", "h.", "h:80", "h:443", "h:8080", "H:08080", "h:", "i", "[::1]"];

/// What a source is sent, and what found it a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Canonical,
    Opaque,
    LessQuery,
}

struct Sent {
    key: CacheKey,
    host: String,
    bytes: String,
    is_matched: [bool; 3],
}

fn sent(
    kind: Kind,
    scheme: Scheme,
    host: &str,
    origin_form: &str,
    patterns: &[PathPattern; 3],
) -> Option<Sent> {
    let authority = Authority::parse(host, scheme).ok()?;
    let mut target = Target::received(scheme, authority, origin_form).ok()?;
    let form = if kind == Kind::Opaque { TargetForm::Opaque } else { TargetForm::Canonical };
    target.take_form(form).ok()?;
    let ignored: &[String] =
        if kind == Kind::LessQuery { &["utm_*".to_owned(), "x".to_owned()] } else { &[] };
    let kept = without_query(&target, ignored);
    Some(Sent {
        key: CacheKey::new(&kept, None),
        host: target.authority().to_string(),
        bytes: kept.as_forwarded().path_and_query().to_owned(),
        is_matched: [0, 1, 2].map(|at| patterns[at].matches(target.path())),
    })
}

/// A target, and one that differs in a part or two, or not at all.
fn pair(random: &mut fastrand::Rng) -> (String, String) {
    let first: Vec<&str> = (0..random.usize(1..8)).map(|_| PARTS[random.usize(..PARTS.len())]).collect();
    let mut second = first.clone();
    for _ in 0..random.usize(..3) {
        let at = random.usize(..second.len());
        second[at] = PARTS[random.usize(..PARTS.len())];
    }
    (format!("/{}", first.concat()), format!("/{}", second.concat()))
}

#[test]
fn i8_equal_keys_are_equal_bytes_over_a_million_pairs() {
    let patterns = ["/a/{*rest}", "/{id}", "/{*rest}"].map(|pattern| PathPattern::parse(pattern).unwrap());
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut same = 0;
    for _ in 0..PAIRS {
        let kind = [Kind::Canonical, Kind::Opaque, Kind::LessQuery][random.usize(..3)];
        let scheme = if random.bool() { Scheme::Http } else { Scheme::Https };
        let (first, second) = pair(&mut random);
        let host = HOSTS[random.usize(..HOSTS.len())];
        let other_host = if random.bool() { host } else { HOSTS[random.usize(..HOSTS.len())] };
        let (one, other) =
            (sent(kind, scheme, host, &first, &patterns), sent(kind, scheme, other_host, &second, &patterns));
        let (Some(one), Some(other)) = (one, other) else { continue };
        let is_same = one.key.text() == other.key.text();
        let bytes = (&one.host, &one.bytes) == (&other.host, &other.bytes);
        assert_eq!(is_same, bytes, "seed {seed}, {kind:?}: {host}{first} and {other_host}{second}");
        if is_same {
            assert_eq!(one.is_matched, other.is_matched, "seed {seed}, {kind:?}: {first} and {second}");
            same += 1;
        }
    }
    assert!(same >= SAME_MIN, "{same} pairs of one key: the generator is blunt");
}
