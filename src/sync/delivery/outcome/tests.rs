use super::*;

fn meanings(format: Format, given: &[(u16, Class)]) -> Meanings {
    Meanings { format, given: given.iter().copied().collect() }
}

fn answered(status: u16, retry_after: Option<u64>) -> Failure {
    let status = StatusCode::from_u16(status).unwrap();
    Failure::answered(status, retry_after.map(Duration::from_secs), String::new())
}

fn class(
    meanings: &Meanings,
    method: &Method,
    before: Before,
    answer: Failure,
) -> (&'static str, Option<Blame>) {
    let outcome = meanings.of(method, before, answer);
    let blame = match outcome {
        Outcome::Retry(_, blame) => Some(blame),
        _ => None,
    };
    (outcome.as_str(), blame)
}

#[test]
fn what_a_failure_says() {
    let lost = Failure::lost(Code::Timeout);
    assert!(lost.answer_lost && !Failure::of(Code::Timeout).answer_lost);
    let large = Failure::answered(StatusCode::PAYLOAD_TOO_LARGE, None, "no".into());
    assert_eq!((large.code, large.status, large.answer.as_str()), (Code::TooLarge, Some(413), "no"));
    assert_eq!(answered(400, None).code, Code::HttpStatus);
    assert_eq!(answered(400, None).summary(), "the destination answered 400");
    assert_eq!(lost.summary(), Code::Timeout.as_str());
    assert_eq!(Failure::of(Code::Tls(TlsFault::Protocol)).summary(), "tls");
    assert_eq!(Outcome::Hold(lost.clone()).failure(), Some(&lost));
    assert_eq!(Outcome::Superseded.failure(), None);
}

/// Every status there is, for a PUT without a Retry-After.
#[test]
fn every_status_has_its_class() {
    let replay = meanings(Format::Replay, &[]);
    for status in 100..=999_u16 {
        let expected = match status {
            200..=299 => ("delivered", None),
            404 | 423 => ("retry", Some(Blame::Change)),
            408 | 409 | 421 | 425 | 429 => ("retry", Some(Blame::Destination)),
            401 | 402 | 403 | 407 | 511 => ("hold", None),
            300..=499 | 501 | 505 => ("permanent", None),
            _ => ("retry", Some(Blame::Destination)),
        };
        let got = class(&replay, &Method::PUT, Before::Nothing, answered(status, None));
        assert_eq!(got, expected, "{status}");
    }
}

/// The table of outcomes, row by row.
#[test]
fn the_table() {
    use Before::{AnswerLost as Lost, Nothing};
    let (replay, events) = (meanings(Format::Replay, &[]), meanings(Format::CloudEvents, &[]));
    let mut rows = Vec::new();
    for status in [200, 201, 202, 204, 206, 299] {
        rows.push((&replay, Method::PUT, status, None, Nothing, "delivered"));
    }
    rows.push((&replay, Method::POST, 409, None, Lost, "delivered"));
    rows.push((&replay, Method::POST, 409, None, Nothing, "retry"));
    rows.push((&replay, Method::PUT, 409, None, Lost, "retry"));
    rows.push((&events, Method::POST, 409, None, Lost, "delivered"));
    for status in [404, 410] {
        rows.push((&replay, Method::DELETE, status, None, Nothing, "absent"));
    }
    for status in [404, 408, 409, 425, 429, 500, 502, 503, 504] {
        rows.push((&replay, Method::PUT, status, None, Nothing, "retry"));
        rows.push((&replay, Method::PUT, status, Some(1), Nothing, "retry"));
    }
    rows.push((&replay, Method::PUT, 413, Some(1), Nothing, "retry"));
    for status in [401, 403, 407] {
        rows.push((&replay, Method::DELETE, status, None, Nothing, "hold"));
        rows.push((&events, Method::POST, status, None, Nothing, "hold"));
    }
    rows.push((&events, Method::POST, 404, None, Nothing, "hold"));
    rows.push((&events, Method::POST, 410, None, Nothing, "permanent"));
    for status in [400, 405, 410, 412, 413, 414, 415, 422, 501, 505, 300, 301, 302, 303, 304, 307, 308] {
        rows.push((&replay, Method::PUT, status, None, Nothing, "permanent"));
        rows.push((&replay, Method::POST, status, None, Lost, "permanent"));
    }
    for (meanings, method, status, after, before, expected) in rows {
        let (class, _) = class(meanings, &method, before, answered(status, after));
        assert_eq!(class, expected, "{method} {status} {after:?} {before:?} {meanings:?}");
    }
}

#[test]
fn what_says_nothing_of_the_destination_does_not_count_against_it() {
    let replay = meanings(Format::Replay, &[]);
    for (status, after) in [(404, None), (413, Some(1))] {
        let (_, blame) = class(&replay, &Method::PUT, Before::Nothing, answered(status, after));
        assert_eq!(blame, Some(Blame::Change), "{status}");
    }
}

#[test]
fn the_operator_has_the_last_word() {
    use Before::{AnswerLost, Nothing};
    let put = |given: &[(u16, Class)], method: Method, status, before| {
        class(&meanings(Format::Replay, given), &method, before, answered(status, None))
    };
    for (given, method, status, before, expected) in [
        (Class::Superseded, Method::PUT, 409, Nothing, ("superseded", None)),
        (Class::Superseded, Method::POST, 409, AnswerLost, ("superseded", None)),
        (Class::Delivered, Method::PUT, 304, Nothing, ("delivered", None)),
        (Class::Absent, Method::PUT, 410, Nothing, ("absent", None)),
        (Class::Permanent, Method::DELETE, 404, Nothing, ("permanent", None)),
        (Class::Retry, Method::DELETE, 404, Nothing, ("retry", Some(Blame::Change))),
        (Class::Retry, Method::PUT, 202, Nothing, ("retry", Some(Blame::Change))),
        (Class::Retry, Method::PUT, 422, Nothing, ("retry", Some(Blame::Change))),
        (Class::Retry, Method::PUT, 403, Nothing, ("retry", Some(Blame::Destination))),
        (Class::Retry, Method::PUT, 501, Nothing, ("retry", Some(Blame::Destination))),
        (Class::Hold, Method::PUT, 503, Nothing, ("hold", None)),
        (Class::Permanent, Method::PUT, 500, Nothing, ("permanent", None)),
    ] {
        assert_eq!(put(&[(status, given)], method.clone(), status, before), expected, "{method} {status}");
    }
    assert_eq!(put(&[(409, Class::Hold)], Method::PUT, 200, Nothing), ("delivered", None), "only that one");
    let events = meanings(Format::CloudEvents, &[(404, Class::Retry)]);
    let got = class(&events, &Method::POST, Nothing, answered(404, None));
    assert_eq!(got, ("retry", Some(Blame::Destination)));
}

#[test]
fn silence_has_its_class_too() {
    for (code, expected) in [
        (Code::Connect, "retry"),
        (Code::Dns, "retry"),
        (Code::Timeout, "retry"),
        (Code::Garbage, "retry"),
        (Code::Tls(TlsFault::Expired), "hold"),
        (Code::AddressDenied, "hold"),
        (Code::Unsendable, "permanent"),
        (Code::Damaged, "permanent"),
    ] {
        assert_eq!(Outcome::of_silence(Failure::of(code)).as_str(), expected, "{code:?}");
    }
}

#[test]
fn rfc9110_10_2_3_retry_after() {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    for (value, wait) in [
        ("120", Some(120)),
        (" 7 ", Some(7)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
        ("Sun Nov  6 08:50:37 1994", Some(60)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1, 2", None),
    ] {
        let mut fields = HeaderMap::new();
        fields.insert(header::RETRY_AFTER, value.parse().unwrap());
        assert_eq!(retry_after(&fields, wall), wait.map(Duration::from_secs), "{value}");
    }
}
