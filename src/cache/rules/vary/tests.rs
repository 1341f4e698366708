use super::*;

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn rfc9110_12_5_5_names() {
    let names = |lines: &[(&str, &str)]| match Vary::of_response(&fields(lines)) {
        Vary::Anything => vec!["*".to_owned()],
        Vary::Fields(names) => names.iter().map(|name| name.as_str().to_owned()).collect(),
    };
    for (lines, expected) in [
        (&[][..], &[][..]),
        (&[("vary", "Foo, bar,, foo"), ("vary", "Accept")], &["accept", "bar", "foo"]),
        (&[("vary", "foo, *")], &["*"]),
        (&[("vary", "foo"), ("vary", "*")], &["*"]),
        (&[("vary", "foo bar")], &["*"]),
        (&[("vary", "")], &[]),
        (&[("vary", "a"), ("vary", "b , ,*,c")], &["*"]),
        (&[("vary", "a\u{e4}")], &["*"]),
        // What the source gets from the gateway.
        (&[("vary", "X-Forwarded-For")], &["*"]),
        (&[("vary", "forwarded, a")], &["*"]),
        (&[("vary", "Via")], &["*"]),
        (&[("vary", "CDN-Loop")], &["*"]),
        (&[("vary", "X-Request-Id")], &["*"]),
        (&[("vary", "Authorization, Cookie")], &["authorization", "cookie"]),
    ] {
        assert_eq!(names(lines), expected, "{lines:?}");
    }
    let many = (0..=SELECTING_FIELDS_MAX).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(",");
    assert_eq!(names(&[("vary", &many)]), ["*"], "I10");
    let most = many.rsplit_once(',').unwrap().0;
    assert_eq!(names(&[("vary", most)]).len(), SELECTING_FIELDS_MAX, "as many as there may be");
}

#[test]
fn rfc9111_4_1_selection() {
    for (section, name, stored, request, same) in [
        ("4.1: equal", "foo", &["1"][..], &["1"][..], true),
        ("4.1: both absent", "foo", &[], &[], true),
        ("4.1: one absent", "foo", &["1"], &[], false),
        ("4.1: absent is not empty", "foo", &[""], &[], false),
        ("4.1: other value", "foo", &["1"], &["2"], false),
        ("4.1: lines joined", "foo", &["1", "2"], &["1, 2"], true),
        ("4.1: order counts", "foo", &["1", "2"], &["2", "1"], false),
        ("4.1: unknown syntax keeps its case", "foo", &["a"], &["A"], false),
        ("4.1: and its space", "foo", &["a  b"], &["a b"], false),
        ("5.6.1: space within a member", "accept-language", &["e n"], &["en"], false),
        ("5.6.1: space within a member", "accept", &["a/b ;c=d e"], &["a/b;c=de"], false),
        ("12.5.4", "accept-language", &["en-GB , de;q=0.5"], &["EN-gb,de; q=0.5"], true),
        ("4.1: the order of lines counts", "foo", &["1", "2"], &["2", "1"], false),
        ("4.1: space around", "foo", &[" 1 "], &["1"], true),
        ("4.1: empty is empty", "foo", &[""], &[""], true),
        ("4.1: two empty lines are a list", "foo", &["", ""], &[""], false),
        ("11.6.2: credentials have case", "authorization", &["Basic YQ=="], &["Basic yq=="], false),
        ("12.5.4: q=1", "accept-language", &["en;q=1, de;q=0.50"], &["en, de;q=0.5"], true),
        ("12.5.4: order by weight", "accept-language", &["de;q=0.5, en"], &["en, de;q=0.5"], true),
        ("12.5.4: lines joined", "accept-language", &["en", "de;q=0.5"], &["en, de;q=0.5"], true),
        ("12.5.4: another weight", "accept-language", &["en, de;q=0.5"], &["en, de;q=0.6"], false),
        ("12.5.4: absent is not empty", "accept-language", &[""], &[], false),
        ("12.5.2", "accept-charset", &["UTF-8;q=1.0 , latin1;q=0.1"], &["latin1;q=0.1,utf-8"], true),
        ("12.5.1: case of types", "accept", &["Text/HTML"], &["text/html"], true),
        ("12.5.1: order by weight", "accept", &["a/b;q=0.5, c/d"], &["c/d, a/b;q=0.5"], true),
        ("12.5.3: empty is identity", "accept-encoding", &[""], &["identity"], true),
        ("12.5.3: lines", "accept-encoding", &["gzip", "br"], &["br, gzip"], true),
        ("12.5.4: no order within a weight", "accept-language", &["en, de"], &["de, en"], true),
        ("12.5.1", "accept", &["text/html , a/b; p=\"x , y\""], &["text/html,a/b;p=\"x , y\""], true),
        ("12.5.1: quoted space", "accept", &["a/b;p=\"x , y\""], &["a/b;p=\"x,y\""], false),
        ("12.5.1: parameters may be case-sensitive", "accept", &["a/b;p=X"], &["a/b;p=x"], false),
        ("12.5.3", "accept-encoding", &["gzip, br"], &["br;q=0.9, gzip, foo"], true),
        ("12.5.3: nothing said", "accept-encoding", &["identity"], &[], false),
    ] {
        let with = |values: &[&str]| fields(&values.iter().map(|value| (name, *value)).collect::<Vec<_>>());
        let selecting = selecting_fields(vec![name.parse().unwrap()], &with(stored));
        assert_eq!(matches(&selecting, &with(request)), same, "{section}: {stored:?} {request:?}");
    }
}

#[test]
fn rfc9110_12_5_3_folding() {
    for (given, folded) in [
        ("gzip, deflate, br, zstd", "zstd, br, gzip, identity"),
        ("X-GZIP;Q=0.5", "gzip, identity"),
        ("", "identity"),
        ("deflate", "identity"),
        ("*", "zstd, br, gzip, identity"),
        ("*;q=0", "identity;q=0"),
        ("gzip, *;q=0", "gzip, identity;q=0"),
        ("gzip;q=0, *", "zstd, br, identity"),
        ("gzip;q=0.000", "identity"),
        ("gzip;q=0.001", "gzip, identity"),
        ("gzip;q=x", "identity"),
        ("gzip, gzip;q=0", "identity"),
        ("gzip;q=0, gzip", "identity"),
        ("identity;q=0, br", "br, identity;q=0"),
    ] {
        assert_eq!(
            folded_accept_encoding(&fields(&[("accept-encoding", given)])).unwrap(),
            folded,
            "{given}"
        );
    }
    assert_eq!(folded_accept_encoding(&fields(&[])), None);
    for (usual, folded) in USUAL_CODINGS {
        let otherwise = format!("{usual} ");
        for given in [usual, &otherwise] {
            assert_eq!(folded_accept_encoding(&fields(&[("accept-encoding", given)])).unwrap(), folded);
        }
        let refusing = fields(&[("accept-encoding", usual), ("accept-encoding", "gzip;q=0")]);
        assert!(!folded_accept_encoding(&refusing).unwrap().to_str().unwrap().contains("gzip"));
    }
}

proptest::proptest! {
    #[test]
    fn normalising_is_idempotent(value in "[ -~]{0,40}", weighted in "((gzip|br|zstd|identity|\\*|x)(;q=(0|1|0\\.5))?,? ?){0,5}") {
        for name in [ACCEPT, ACCEPT_LANGUAGE, ACCEPT_ENCODING, http::header::COOKIE] {
            for text in [&value, &weighted] {
                let given = fields(&[(name.as_str(), text)]);
                let once = normalised(&given, &name).unwrap();
                let again: HeaderMap = [(name.clone(), once.clone())].into_iter().collect();
                proptest::prop_assert_eq!(normalised(&again, &name).unwrap(), once);
            }
        }
    }
}
