use super::*;

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        })
        .collect()
}

fn response(line: &str) -> Directives {
    Directives::of_response(&fields(&[("cache-control", line)]))
}

#[test]
fn rfc9111_5_2_numbers() {
    for (section, line, max_age) in [
        ("5.2.2.1", "max-age=60", Some(60)),
        ("5.2: case", "MAX-AGE=60", Some(60)),
        ("5.2: both forms", "max-age=\"60\"", Some(60)),
        ("5.6.1 of 9110: empty elements", ",, max-age=60 ,", Some(60)),
        ("1.2.2: leading zeros", "max-age=0060", Some(60)),
        ("1.2.2: overflow", "max-age=99999999999999999999999", Some(1 << 31)),
        ("1.2.2: over the largest", "max-age=2147483649", Some(1 << 31)),
        ("4.2.1: the more restrictive", "max-age=60, max-age=5", Some(5)),
        ("4.2.1: the more restrictive", "max-age=5, max-age=60", Some(5)),
        ("4.2.1: no integer is stale", "max-age=6.5", Some(0)),
        ("4.2.1: no integer is stale", "max-age=-1", Some(0)),
        ("4.2.1: no integer is stale", "max-age=60a", Some(0)),
        ("4.2.1: no integer is stale", "max-age='60'", Some(0)),
        ("4.2.1: no integer is stale", "max-age", Some(0)),
        ("4.2.1: no integer is stale", "max-age=", Some(0)),
        ("5.2: no space around =", "max-age =60", Some(0)),
        ("5.2: no space around =", "max-age= 60", Some(0)),
        ("5.2: no space around =", "max-age\t=\t60", Some(0)),
        ("5.6.4 of 9110: quoted pairs", "max-age=\"6\\0\"", Some(60)),
        ("5.6.4 of 9110: a quoted space", "max-age=\" 60\"", Some(0)),
        ("5.6.4 of 9110: no end", "max-age=\"60", Some(0)),
        ("5.6.4 of 9110: only quotes", "max-age=\"\"", Some(0)),
        ("5.6.1 of 9110: spaces and tabs", " \tmax-age=60\t ,foo", Some(60)),
        ("1.2.2: many zeros", "max-age=000000000000000000000000000000000060", Some(60)),
        ("1.2.2: the largest", "max-age=2147483648", Some(1 << 31)),
        ("4.2.1: no integer is stale", "max-age=+60", Some(0)),
        ("4.2.1: no integer is stale", "max-age=0x3c", Some(0)),
        ("4.2.1: no integer is stale", "max-age=1e3", Some(0)),
        ("4.2.1: no integer is stale", "max-age==60", Some(0)),
        ("4.2.1: no integer is stale", "max-age=60;foo", Some(0)),
        ("4.2.1: no integer is stale", "max-age=60 foo", Some(0)),
        ("4.2.1: no integer is stale", "max-age=60, max-age=x", Some(0)),
        ("5.2.3: what follows an unknown one", "foo=a/b, max-age=60", Some(60)),
        ("5.2.3: what follows an unknown one", "foo = bar, max-age=60", Some(60)),
        ("5.2.3: what follows an unknown one", "foo=\"a\\\\\", max-age=60", Some(60)),
        ("a doubtful quote gives no time", "foo=\"bar, max-age=60", Some(0)),
        ("a doubtful quote gives no time", "foo=\"a\"b, max-age=60", Some(0)),
        ("a doubtful quote gives no time", "foo=\"bar;, max-age=60", Some(0)),
        ("what belongs to nothing gives no time", ";max-age=60", Some(0)),
        ("5.2.3: unknown", "foo=bar, max-ages=60", None),
        ("5.6.4 of 9110: quoted commas", "foo=\"a, max-age=60\"", None),
        ("5.6.4 of 9110: escaped quotes", "foo=\"a\\\", max-age=60\"", None),
    ] {
        assert_eq!(response(line).max_age, max_age.map(Duration::from_secs), "{section}: {line}");
    }
}

#[test]
fn rfc9111_5_2_2_flags() {
    for (section, line, flag) in [
        ("5.2.2.5", "no-store", Flag::NoStore),
        ("5.2.2.5: argument ignored", "no-store=\"x\"", Flag::NoStore),
        ("5.2.2.4", "No-Cache", Flag::NoCache),
        ("5.2.2.4: field names", "no-cache=\"set-cookie, a\"", Flag::NoCache),
        ("5.2.2.7", "private", Flag::Private),
        ("5.2.2.7: field names", "private=\"a\", max-age=1", Flag::Private),
        ("5.2.2.7: token", "private = a", Flag::Private),
        ("5.2.2.9", "max-age=1,public", Flag::Public),
        ("5.2.2.2", "must-revalidate", Flag::MustRevalidate),
        ("5.2.2.8", "proxy-revalidate", Flag::ProxyRevalidate),
        ("5.2.2.3", "must-understand", Flag::MustUnderstand),
        ("5.2.2.7: nothing after =", "private=", Flag::Private),
        ("an open quote hides nothing", "foo=\"bar, no-store", Flag::NoStore),
        ("an open quote hides nothing", "foo=\"bar, no-store, x=\"y\"", Flag::NoStore),
        ("an escaped end is none", "foo=\"bar\\\", no-store", Flag::NoStore),
        ("a quote within a token hides nothing", "foo=b\"ar, no-store, \"", Flag::NoStore),
        ("a quote without = hides nothing", "\"foo, no-store, bar\"", Flag::NoStore),
        ("no comma", "no-cache; no-store", Flag::NoStore),
        ("no comma", "max-age=60 no-store", Flag::NoStore),
        ("not one word", "no-store/1", Flag::NoStore),
    ] {
        assert!(response(line).has(flag), "{section}: {line}");
    }
    for line in ["foo=\"a, no-store\", max-age=1", "x-no-store, no-stores", "foo=no-store", "no-store-x"] {
        assert!(!response(line).has(Flag::NoStore), "{line}");
    }
}

#[test]
fn only_what_is_well_formed_allows() {
    for (section, line, allows) in [
        ("5.2.2.9", "Public", true),
        ("5.2.2.9", "public=x", false),
        ("5.2.2.9", "public=\"\"", false),
        ("5.2.2.9", "max-age=1; public", false),
        ("5.2.2.9", "foo=\"bar, public", false),
        ("5.2.2.2", "must-revalidate", true),
        ("5.2.2.2", "must-revalidate=1", false),
        ("5.2.2.8", "proxy-revalidate", false),
        ("5.2.2.10", "s-maxage=0", true),
        ("5.2.2.10", "s-maxage=\"7\"", true),
        ("5.2.2.10", "s-maxage", false),
        ("5.2.2.10", "s-maxage=x", false),
        ("5.2.2.10", "s-maxage=-1", false),
        ("5.2.2.1", "max-age=60", false),
    ] {
        assert_eq!(response(line).allows_sharing_with_authorization(), allows, "{section}: {line}");
        let targeted = Directives::of_response(&fields(&[("cdn-cache-control", line)]));
        let both_read = line.is_ascii() && line == line.to_lowercase() && !line.contains([';', 'f']);
        assert!(
            !both_read || targeted.allows_sharing_with_authorization() == (allows && !line.contains('"'))
        );
    }
    assert!(response("must-understand").grants(Flag::MustUnderstand), "5.2.2.3");
    let doubtful = response("must-understand=x");
    assert!(doubtful.has(Flag::MustUnderstand) && !doubtful.grants(Flag::MustUnderstand), "5.2.2.3");
}

#[test]
fn several_lines_are_one_field() {
    let fields = fields(&[("cache-control", "max-age=60"), ("cache-control", "no-store, s-maxage=5")]);
    let directives = Directives::of_response(&fields);
    assert!(directives.has(Flag::NoStore));
    assert_eq!(directives.s_maxage, Some(Duration::from_secs(5)));
}

#[test]
fn rfc9213_targeted() {
    let seconds = Duration::from_secs;
    for (section, targeted, origin, max_age) in [
        ("2.2", "max-age=60", Origin::Targeted, Some(seconds(60))),
        ("2.2: says nothing", "foo", Origin::Targeted, None),
        ("2.1: empty", "", Origin::Untargeted, Some(seconds(1))),
        ("2.1: unreadable", "max-age=60, =", Origin::Untargeted, Some(seconds(1))),
        ("2.1: upper case is no key", "Max-Age=60", Origin::Untargeted, Some(seconds(1))),
        ("2.1: a decimal is not consumed", "max-age=60.5", Origin::Targeted, None),
        ("2.1: a string is not consumed", "max-age=\"60\"", Origin::Targeted, None),
        ("9651 3.2: the last counts", "max-age=60, max-age=5", Origin::Targeted, Some(seconds(5))),
        ("2.1: parameters are ignored", "max-age=60;a=1", Origin::Targeted, Some(seconds(60))),
        ("2.1: a token is not consumed", "max-age=x", Origin::Targeted, None),
        ("2.1: a boolean is not consumed", "max-age", Origin::Targeted, None),
        ("2.1: an inner list is not consumed", "max-age=(60)", Origin::Targeted, None),
        ("2.1: nor what was before it", "max-age=60, max-age=x", Origin::Targeted, None),
        ("4.2.1 of 9111: less than zero", "max-age=-60", Origin::Targeted, Some(seconds(0))),
        ("1.2.2 of 9111: huge", "max-age=999999999999999", Origin::Targeted, Some(seconds(1 << 31))),
        ("9651 3.3.1: too long", "max-age=9999999999999999", Origin::Untargeted, Some(seconds(1))),
        ("2.1: only spaces", "  ", Origin::Untargeted, Some(seconds(1))),
        ("9651 4.2: a comma at the end", "max-age=60,", Origin::Untargeted, Some(seconds(1))),
        ("9651 4.2: spaces around commas", "foo \t,\t max-age=60", Origin::Targeted, Some(seconds(60))),
        ("9651 4.2: an open quote", "foo=\"bar, max-age=60", Origin::Untargeted, Some(seconds(1))),
        (
            "2.1: unknown ones of any type",
            "a=?0, b=:aGk=:, c=(1 2), max-age=60",
            Origin::Targeted,
            Some(seconds(60)),
        ),
    ] {
        let fields = fields(&[("cache-control", "max-age=1"), ("cdn-cache-control", targeted)]);
        let directives = Directives::of_response(&fields);
        assert_eq!((directives.origin, directives.max_age), (origin, max_age), "{section}: {targeted}");
    }
    let fields =
        fields(&[("cache-control", "no-store"), ("cdn-cache-control", "private=\"a\", no-cache=?0")]);
    let directives = Directives::of_response(&fields);
    assert!(
        !directives.has(Flag::NoStore) && !directives.has(Flag::NoCache) && directives.has(Flag::Private)
    );
    for prohibits in ["no-store=1", "no-store=\"x\"", "no-store=x", "no-store=(a)", "no-store;a"] {
        let directives = Directives::of_response(&self::fields(&[("cdn-cache-control", prohibits)]));
        assert!(directives.has(Flag::NoStore), "{prohibits}");
    }
}

#[test]
fn rfc9213_2_1_lines_are_joined() {
    let lines =
        [("cdn-cache-control", "max-age=60"), ("cdn-cache-control", "no-store"), ("cache-control", "public")];
    let directives = Directives::of_response(&fields(&lines));
    assert!(directives.has(Flag::NoStore) && !directives.has(Flag::Public));
    assert_eq!((directives.origin, directives.max_age), (Origin::Targeted, Some(Duration::from_mins(1))));
    let lines =
        [("cdn-cache-control", "max-age=60"), ("cdn-cache-control", "="), ("cache-control", "public")];
    assert_eq!(Directives::of_response(&fields(&lines)).origin, Origin::Untargeted);
}

#[test]
fn rfc9111_5_2_1_requests() {
    let request = |lines: &[(&str, &str)]| Directives::of_request(&fields(lines));
    assert!(request(&[("pragma", "x, no-cache")]).has(Flag::NoCache), "5.4");
    assert!(!request(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]).has(Flag::NoCache), "5.4");
    let unbounded = request(&[("cache-control", "max-stale, only-if-cached")]);
    assert_eq!(unbounded.max_stale, Some(Duration::from_secs(1 << 31)), "5.2.1.2");
    assert!(unbounded.has(Flag::OnlyIfCached), "5.2.1.7");
    assert_eq!(
        request(&[("cache-control", "min-fresh=3")]).min_fresh,
        Some(Duration::from_secs(3)),
        "5.2.1.3"
    );
}

proptest::proptest! {
    #[test]
    fn reading_never_panics(line in "[ -~\u{80}-\u{ff}]{0,60}", targeted in "[ -~]{0,60}") {
        let fields = fields(&[("cache-control", &line), ("cdn-cache-control", &targeted)]);
        let _response = Directives::of_response(&fields);
        let _request = Directives::of_request(&fields);
    }

    /// Whatever stands around it: what is not in a quoted string of its own counts.
    #[test]
    fn a_prohibition_is_never_lost(before in "[a-z=;\\\\\", ]{0,12}", after in "[a-z=;\\\\ ,]{0,12}") {
        let line = format!("{before}, no-store, {after}");
        proptest::prop_assert!(response(&line).has(Flag::NoStore), "{}", line);
    }

    /// What surrounds it can take a permission away, never make it larger.
    #[test]
    fn nothing_around_it_makes_a_lifetime_longer(before in "[a-z=;\\\\\", ]{0,12}", after in "[a-z=;\\\\\", ]{0,12}") {
        let line = format!("{before}, max-age=60, {after}");
        let max_age = response(&line).max_age;
        proptest::prop_assert!(max_age.is_none_or(|age| age <= Duration::from_mins(1)), "{}", line);
    }
}
