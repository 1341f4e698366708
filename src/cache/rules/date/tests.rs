use super::*;

/// Sun, 22 Nov 2026 12:00:00 GMT.
const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_000);

fn seconds(text: &str) -> Option<u64> {
    parse(&HeaderValue::from_str(text).unwrap(), NOW).map(whole_seconds)
}

#[test]
fn rfc9110_5_6_7_reads_three_forms_and_writes_one() {
    for form in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994",
        "sUN, 06 nOV 1994 08:49:37 gmt",
        "SUNDAY, 06-NOV-94 08:49:37 Gmt",
    ] {
        assert_eq!(seconds(form), Some(784_111_777), "{form}");
    }
    assert_eq!(format(Timestamp::from_millis(784_111_777_999)), "Sun, 06 Nov 1994 08:49:37 GMT");
}

#[test]
fn rfc9110_5_6_7_what_is_no_date() {
    for (why, text) in [
        ("9111 5.3", "0"),
        ("9111 5.3", "-1"),
        ("empty", ""),
        ("a number", "784111777"),
        ("9111 4.2: no GMT", "Sun, 06 Nov 1994 08:49:37 UTC"),
        ("9111 4.2: no GMT", "Sun, 06 Nov 1994 08:49:37 AEST"),
        ("9111 4.2: no GMT", "Sun, 06 Nov 1994 08:49:37 +0000"),
        ("9111 4.2: no GMT", "Sun, 06 Nov 1994 08:49:37"),
        ("a day of the next year, which is that weekday", "Sun, 32 Dec 1994 08:49:37 GMT"),
        ("after its end", "Sun, 06 Nov 1994 08:49:37 GMT;"),
        ("after its end", "Sun Nov  6 08:49:37 1994 GMT"),
        ("two", "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT"),
        ("no comma", "Sun 06 Nov 1994 08:49:37 GMT"),
        ("two spaces", "Sun, 06 Nov 1994  08:49:37 GMT"),
        ("one digit", "Sun, 6 Nov 1994 08:49:37 GMT"),
        ("one digit", "Sun, 06 Nov 1994 8:49:37 GMT"),
        ("two digits of a year", "Sun, 06 Nov 94 08:49:37 GMT"),
        ("four digits of a year", "Sunday, 06-Nov-1994 08:49:37 GMT"),
        ("dashes", "Sun, 06-Nov-1994 08:49:37 GMT"),
        ("points", "Sun, 06 Nov 1994 08.49.37 GMT"),
        ("the long name", "Sunday, 06 Nov 1994 08:49:37 GMT"),
        ("the short name", "Sun, 06-Nov-94 08:49:37 GMT"),
        ("no weekday", "06 Nov 1994 08:49:37 GMT"),
        ("no such hour", "Sun, 06 Nov 1994 24:00:00 GMT"),
        ("no such minute", "Sun, 06 Nov 1994 08:60:37 GMT"),
        ("no leap second", "Sun, 06 Nov 1994 08:49:60 GMT"),
        ("no such day", "Thu, 31 Nov 1994 08:49:37 GMT"),
        ("no such day", "Wed, 29 Feb 1995 08:49:37 GMT"),
        ("no such day", "Mon, 00 Nov 1994 08:49:37 GMT"),
        ("not on that weekday", "Mon, 06 Nov 1994 08:49:37 GMT"),
        ("no such month", "Sun, 06 Foo 1994 08:49:37 GMT"),
        ("a sign", "Sun, +6 Nov 1994 08:49:37 GMT"),
    ] {
        assert_eq!(seconds(text), None, "{why}: {text}");
    }
    assert_eq!(parse(&HeaderValue::from_bytes(b"Sun, 06 Nov 1994 08:49:37 GM\xd4").unwrap(), NOW), None);
}

#[test]
fn rfc9110_5_6_7_years_of_two_digits() {
    let year = |text: &str, now: u64| {
        let at = parse(&HeaderValue::from_str(text).unwrap(), Timestamp::from_millis(now * 1000)).unwrap();
        format(at).to_str().unwrap().get(12..16).unwrap().to_owned()
    };
    let in_2026 = whole_seconds(NOW);
    for (text, now, expected) in [
        ("Wednesday, 01-Jan-25 00:00:00 GMT", in_2026, "2025"),
        ("Tuesday, 22-Nov-50 00:00:00 GMT", in_2026, "2050"),
        ("Sunday, 22-Nov-76 12:00:00 GMT", in_2026, "2076"),
        ("Monday, 22-Nov-76 12:00:01 GMT", in_2026, "1976"),
        ("Saturday, 01-Jan-77 00:00:00 GMT", in_2026, "1977"),
        ("Sunday, 06-Nov-94 08:49:37 GMT", in_2026, "1994"),
        // In 2060, 2105 is nearer than 2005.
        ("Thursday, 01-Jan-05 00:00:00 GMT", 2_840_140_800, "2105"),
    ] {
        assert_eq!(year(text, now), expected, "{text}");
    }
    // 2070 is 44 years ahead, and its first day is no Thursday.
    assert_eq!(seconds("Thursday, 01-Jan-70 00:00:00 GMT"), None);
}

#[test]
fn rfc9111_4_2_the_nearest_time_that_is_not_later() {
    for (text, expected) in [
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_799),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", 0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LAST_SECOND),
        ("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800),
        ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
    ] {
        assert_eq!(seconds(text), Some(expected), "{text}");
    }
}

#[test]
fn no_timestamp_is_too_late_to_be_written() {
    assert_eq!(format(Timestamp::from_millis(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
}

proptest::proptest! {
    #[test]
    fn reading_never_panics(text in "[ -~]{0,40}", now in 0u64..) {
        let now = Timestamp::from_millis(now);
        let _read = HeaderValue::try_from(text).map(|value| parse(&value, now));
    }

    #[test]
    fn what_is_written_is_read(seconds in 0u64..=LAST_SECOND) {
        let written = format(Timestamp::from_millis(seconds * 1000));
        proptest::prop_assert_eq!(parse(&written, NOW).map(whole_seconds), Some(seconds));
    }
}

#[test]
fn of_several_lines_the_first_is_the_date() {
    let name = http::header::EXPIRES;
    let mut fields = HeaderMap::new();
    assert_eq!(of_field(&fields, &name, NOW), None);
    for line in ["Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 07 Nov 1994 08:49:37 GMT"] {
        fields.append(&name, HeaderValue::from_static(line));
        assert_eq!(of_field(&fields, &name, NOW).map(whole_seconds), Some(784_111_777), "{line}");
    }
}
