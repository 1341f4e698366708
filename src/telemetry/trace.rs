//! W3C Trace Context (Level 1): the trace that a client began goes on to sources, is kept with a change, and
//! goes to destinations, each time with a span id of its own.
//!
//! Where a client sends none, none is made but by `spans.rs`: a gateway that records no spans would only take
//! the decision whether the trace is sampled away from the source.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The trace, the sender's span, and whether it is sampled.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest tracestate that is passed on, all its lines together; the specification asks for 512 (3.3.1.5).
const TRACESTATE_BYTES_MAX: usize = 4096;
/// The length of what version 00 of traceparent says.
const PARENT_BYTES: usize = 55;
/// The flag "sampled", and Level 2's "random": what is passed on of the flags.
const FLAGS_KEPT: u8 = 0x03;

/// The flag "sampled": who sends it records a span.
const SAMPLED: u8 = 0x01;

/// A trace that somebody has begun, and the span that it has come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trace {
    id: u128,
    span: u64,
    flags: u8,
}

/// A span of its own in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// `None`: the trace begins with it.
    pub(super) parent: Option<u64>,
}

/// Whether a field belongs to the trace.
#[must_use]
pub fn is_field(name: &str) -> bool {
    name == TRACEPARENT.as_str() || name == TRACESTATE.as_str()
}

/// Makes the fields those of a new span of the same trace, and gives it where the trace is sampled. Without a
/// trace, or with one that cannot be read, both fields go (3.2.2, 4.3).
pub(super) fn go_on(fields: &mut HeaderMap) -> Option<Place> {
    // Names are compared faster than they are looked up, and most requests have neither.
    if !fields.keys().any(|name| *name == TRACEPARENT || *name == TRACESTATE) {
        return None;
    }
    let Some(trace) = Trace::of(fields) else {
        fields.remove(TRACEPARENT);
        fields.remove(TRACESTATE);
        return None;
    };
    let span = fastrand::u64(1..);
    fields.insert(TRACEPARENT, traceparent(trace.id, span, trace.flags));
    let state_bytes: usize = fields.get_all(TRACESTATE).iter().map(HeaderValue::len).sum();
    if state_bytes > TRACESTATE_BYTES_MAX {
        fields.remove(TRACESTATE);
    }
    trace.is_sampled().then_some(Place { trace: trace.id, span, parent: Some(trace.span) })
}

/// As [`go_on`], of a trace that is sampled; where there is none that can be read and `begins` says so, one
/// begins. Else the fields stay as they are.
pub(super) fn enter(fields: &mut HeaderMap, begins: impl FnOnce() -> bool) -> Option<Place> {
    match Trace::of(fields) {
        Some(trace) if trace.is_sampled() => go_on(fields),
        None if begins() => {
            let place = Place { trace: fastrand::u128(1..), span: fastrand::u64(1..), parent: None };
            fields.insert(TRACEPARENT, traceparent(place.trace, place.span, SAMPLED));
            fields.remove(TRACESTATE);
            Some(place)
        }
        Some(_) | None => None,
    }
}

fn traceparent(trace: u128, span: u64, flags: u8) -> HeaderValue {
    let text = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
    // Digits and hyphens are a field value.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

impl Trace {
    fn of(fields: &HeaderMap) -> Option<Self> {
        let mut lines = fields.get_all(TRACEPARENT).iter();
        let only = lines.next()?;
        if lines.next().is_some() { None } else { Self::parse(only.to_str().ok()?) }
    }

    /// Reads `version-trace-span-flags` (3.2.2); of a later version what version 00 has (3.2.4).
    fn parse(value: &str) -> Option<Self> {
        let (known, more) = value.split_at_checked(PARENT_BYTES)?;
        let mut parts = known.split('-');
        let mut next = |digits: usize| parts.next().filter(|part| part.len() == digits && is_lower_hex(part));
        let (version, id, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let more_fits = more.is_empty() || (version != "00" && more.starts_with('-'));
        if parts.next().is_some() || version == "ff" || !more_fits {
            return None;
        }
        let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        Some(Self { id, span, flags: u8::from_str_radix(flags, 16).ok()? & FLAGS_KEPT })
    }

    const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn trace_context_3_2_traceparent() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for (value, sampled) in [
            (good.clone(), Some(1)),
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), Some(0)),
            (format!("00-{TRACE}-00f067aa0ba902b7-ff"), Some(3)),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01"), Some(1)),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01-more"), Some(1)),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01.more"), None),
            (format!("{good}-more"), None),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), None),
            (good.to_uppercase(), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{TRACE}-00f067aa0ba902b7-0"), None),
            (format!("00-{TRACE}-00f067aa0ba902b7-+1"), None),
            (format!("00+{TRACE}-00f067aa0ba902b7-01"), None),
            (format!("00-{TRACE}-00f067aa0ba902b\u{e9}-1"), None),
            (String::new(), None),
        ] {
            let read = Trace::parse(&value);
            assert_eq!(read.map(|trace| trace.flags), sampled, "{value}");
            assert!(read.is_none_or(|trace| format!("{:032x}", trace.id) == TRACE), "{value}");
        }
    }

    #[test]
    fn a_trace_goes_on_with_another_span() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let mut fields = HeaderMap::new();
        fields.insert(TRACEPARENT, parent.parse().unwrap());
        fields.append(TRACESTATE, HeaderValue::from_static("a=1"));
        fields.append(TRACESTATE, HeaderValue::from_static("b=2"));
        go_on(&mut fields);
        let next = fields[TRACEPARENT].to_str().unwrap().to_owned();
        assert!(
            next.starts_with(&format!("00-{TRACE}-")) && next.ends_with("-01") && next != parent,
            "{next}"
        );
        assert!(Trace::parse(&next).is_some());
        assert_eq!(fields.get_all(TRACESTATE).iter().count(), 2);
        fields.append(TRACESTATE, HeaderValue::try_from("x".repeat(TRACESTATE_BYTES_MAX)).unwrap());
        go_on(&mut fields);
        assert!(fields.contains_key(TRACEPARENT) && !fields.contains_key(TRACESTATE), "beyond the bound");
    }

    #[test]
    fn a_span_is_told_of_where_the_trace_is_sampled() {
        for (parent, begins, is_recorded) in [
            (Some("01"), false, true),
            (Some("03"), false, true),
            (Some("00"), true, false),
            (None, true, true),
            (None, false, false),
        ] {
            let mut fields = HeaderMap::new();
            let given = parent.map(|flags| format!("00-{TRACE}-00f067aa0ba902b7-{flags}"));
            if let Some(given) = &given {
                fields.insert(TRACEPARENT, given.parse().unwrap());
            }
            fields.insert(TRACESTATE, HeaderValue::from_static("a=1"));
            let place = enter(&mut fields, || begins);
            assert_eq!(place.is_some(), is_recorded, "{parent:?} {begins}");
            let sent = fields.get(TRACEPARENT).map(|value| value.to_str().unwrap().to_owned());
            let Some(Place { trace, span, parent: before }) = place else {
                assert_eq!(sent, given, "what is not recorded goes through as it is");
                continue;
            };
            assert!(sent.unwrap().starts_with(&format!("00-{trace:032x}-{span:016x}-0")));
            assert_eq!(before, parent.map(|_| 0x00f0_67aa_0ba9_02b7));
            assert_eq!(fields.contains_key(TRACESTATE), parent.is_some(), "it belongs to the trace");
            let next = go_on(&mut fields).unwrap();
            assert_eq!((next.trace, next.parent), (trace, Some(span)));
        }
    }

    #[test]
    fn a_trace_that_cannot_be_read_ends_here() {
        for parents in [&["nonsense"][..], &[], &[TRACE, TRACE]] {
            let mut fields = HeaderMap::new();
            for parent in parents {
                let parent = format!("00-{parent}-00f067aa0ba902b7-01");
                fields.append(TRACEPARENT, parent.parse().unwrap());
            }
            fields.append(TRACESTATE, HeaderValue::from_static("a=1"));
            go_on(&mut fields);
            assert!(fields.is_empty(), "{parents:?}");
        }
    }
}
