//! One form for lists of alternatives with weights: Accept, Accept-Charset, Accept-Language (RFC 9110
//! 12.4.2, 12.5). What two lists that mean the same may differ in is taken away: optional space, empty
//! members (5.6.1.2), case where it does not count, how a weight is written, and the order of members
//! with different weights. Languages and charsets of one weight are put in order too: their order means
//! nothing that a client may rely on (12.5.4). Media ranges of one weight keep theirs.

/// A weight in thousandths; a member without one has this.
const FULL: u16 = 1000;

/// Which letters of a member have no case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// All of them: language ranges, names of charsets.
    Folded,
    /// Those of the media type and of the names of its parameters; values may be case-sensitive.
    FoldedBesideValues,
}

/// The one form of a list. What cannot be read as one keeps its order and its weights as they are.
pub(super) fn normalised(list: &[u8], case: Case) -> Vec<u8> {
    let list = without_list_space(list);
    let members = || split(&list, b',').filter(|member| !member.is_empty());
    let weighted: Option<Vec<_>> = members().map(|member| weighted(member, case)).collect();
    match weighted {
        Some(mut members) => {
            if case == Case::Folded {
                members.sort();
            }
            members.sort_by_key(|(_, weight)| FULL.saturating_sub(*weight));
            joined(members.into_iter().map(|(range, weight)| with_weight(range, weight)))
        }
        None => joined(members().map(|member| folded(member, case))),
    }
}

/// Takes the optional space around `,` and `;` away where no quoted string holds it (5.6.1).
fn without_list_space(value: &[u8]) -> Vec<u8> {
    let mut kept: Vec<u8> = Vec::with_capacity(value.len());
    let (mut quoted, mut after_separator) = (Quoted::default(), false);
    for &byte in value.trim_ascii() {
        let inside = quoted.is_open();
        quoted.take(byte);
        if inside {
            kept.push(byte);
            continue;
        }
        match byte {
            b' ' | b'\t' if after_separator => continue,
            b',' | b';' => {
                let end = kept.trim_ascii_end().len();
                kept.truncate(end);
            }
            _ => {}
        }
        after_separator = matches!(byte, b',' | b';');
        kept.push(byte);
    }
    kept
}

/// Where a quoted string is open (5.6.4).
#[derive(Clone, Copy, Default)]
struct Quoted {
    open: bool,
    escaped: bool,
}

impl Quoted {
    const fn is_open(self) -> bool {
        self.open
    }

    fn take(&mut self, byte: u8) {
        let ends_or_begins = byte == b'"' && !self.escaped;
        self.escaped = self.open && !self.escaped && byte == b'\\';
        self.open ^= ends_or_begins;
    }
}

/// The parts between separators that stand outside of quoted strings.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = Quoted::default();
    text.split(move |byte| {
        let separates = *byte == separator && !quoted.is_open();
        quoted.take(*byte);
        separates
    })
}

/// A member without its weight, and the weight; `None` where it is not `range *( ";" parameter )` with at
/// most one weight, at the end.
fn weighted(member: &[u8], case: Case) -> Option<(Vec<u8>, u16)> {
    let mut quoted = Quoted::default();
    for byte in member {
        quoted.take(*byte);
    }
    let parts: Vec<&[u8]> = split(member, b';').collect();
    let is_weight = |part: &&[u8]| matches!(part, [b'q' | b'Q'] | [b'q' | b'Q', b'=', ..]);
    let (last, before) = parts.split_last()?;
    let is_odd = quoted.is_open() || parts.first().is_some_and(|range| range.is_empty());
    if is_odd || before.iter().any(is_weight) {
        return None;
    }
    if is_weight(last) {
        let weight = thousandths(last.get(2..)?)?;
        let range = member.get(..member.len().checked_sub(last.len() + 1)?)?;
        Some((folded(range, case), weight))
    } else {
        Some((folded(member, case), FULL))
    }
}

/// A weight as it may be written (12.4.2): `0` or `1`, and at most three digits behind the point.
pub(super) fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, digits) = match text {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut value = match whole {
        b'0' => 0,
        b'1' => FULL,
        _ => return None,
    };
    for (digit, unit) in digits.iter().zip([100, 10, 1]) {
        value +=
            u16::from(char::from(*digit).to_digit(10).and_then(|digit| u8::try_from(digit).ok())?) * unit;
    }
    (value <= FULL).then_some(value)
}

fn with_weight(mut range: Vec<u8>, weight: u16) -> Vec<u8> {
    if weight < FULL {
        let digits = format!("{weight:03}");
        let digits = digits.trim_end_matches('0');
        range.extend_from_slice(if digits.is_empty() { b";q=0" } else { b";q=0." });
        range.extend_from_slice(digits.as_bytes());
    }
    range
}

fn folded(member: &[u8], case: Case) -> Vec<u8> {
    if case == Case::Folded {
        return member.to_ascii_lowercase();
    }
    let mut kept = Vec::with_capacity(member.len());
    for (index, part) in split(member, b';').enumerate() {
        if index > 0 {
            kept.push(b';');
        }
        let name = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        let (name, value) = part.split_at(name);
        kept.extend(name.to_ascii_lowercase());
        kept.extend_from_slice(value);
    }
    kept
}

fn joined(members: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    members.collect::<Vec<_>>().join(&b","[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(list: &str) -> String {
        String::from_utf8(normalised(list.as_bytes(), Case::Folded)).unwrap()
    }

    fn media(list: &str) -> String {
        String::from_utf8(normalised(list.as_bytes(), Case::FoldedBesideValues)).unwrap()
    }

    #[test]
    fn rfc9110_12_5_4_what_means_the_same_has_one_form() {
        for (section, given, expected) in [
            ("5.6.1 space", " en-GB ,\tde ; q=0.5 ", "en-gb,de;q=0.5"),
            ("5.6.1.2 empty members", ",en,,de,", "de,en"),
            ("5.6.1.2 nothing", " , ", ""),
            ("12.4.2 q=1", "en;q=1", "en"),
            ("12.4.2 q=1.000", "en;Q=1.000, de;q=1.", "de,en"),
            ("12.4.2 zeros", "en;q=0.500, de;q=0.000", "en;q=0.5,de;q=0"),
            ("12.4.2 order by weight", "de;q=0.5, en, fr;q=0.75", "en,fr;q=0.75,de;q=0.5"),
            ("12.5.4 one weight: no order", "fr, de;q=1.0, en;q=1", "de,en,fr"),
            ("12.4.2 no weight: as it is", "de;q=0.5,en;q=2", "de;q=0.5,en;q=2"),
            ("12.4.2 four digits", "de;q=0.5,en;q=0.1234", "de;q=0.5,en;q=0.1234"),
            ("12.4.2 above one", "de;q=0.5,en;q=1.001", "de;q=0.5,en;q=1.001"),
            ("12.4.2 no digits", "de;q=0.5,en;q", "de;q=0.5,en;q"),
            ("12.4.2 two weights", "de;q=0.5;q=1,en", "de;q=0.5;q=1,en"),
            ("12.4.2 a weight of nothing", "de;q=0.5,;q=1", "de;q=0.5,;q=1"),
        ] {
            assert_eq!(language(given), expected, "{section}");
        }
    }

    #[test]
    fn rfc9110_12_5_1_media_ranges() {
        for (section, given, expected) in [
            ("8.3.1 type and names have no case", "Text/HTML;Level=X", "text/html;level=X"),
            ("12.5.1 one weight: order kept", "c/d, a/b", "c/d,a/b"),
            ("12.5.1 order by weight", "a/b;q=0.1, c/d;p=1;q=0.2", "c/d;p=1;q=0.2,a/b;q=0.1"),
            ("5.6.4 quoted separators", "a/b;p=\"x , Y;q=0\" ; q=1", "a/b;p=\"x , Y;q=0\""),
            ("5.6.4 quoted escape", "a/b;p=\"\\\" , \";q=0.1 , c/d", "c/d,a/b;p=\"\\\" , \";q=0.1"),
            ("5.6.4 never closed", "a/b;q=0.1, c/d;p=\"x , Y", "a/b;q=0.1,c/d;p=\"x , Y"),
            ("12.5.1 a parameter behind the weight", "a/b;q=0.1;x=1, c/d", "a/b;q=0.1;x=1,c/d"),
        ] {
            assert_eq!(media(given), expected, "{section}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_one_form_is_its_own(
            any in "[ -~]{0,40}",
            list in "([aA*]/?[bB]?( ?; ?([qQ]=(0|1|0\\.5|1\\.0|2|\"x\")|p=\"[,;\\\\ ]?\"?))?,? ?){0,5}",
        ) {
            for text in [&any, &list] {
                for case in [Case::Folded, Case::FoldedBesideValues] {
                    let once = normalised(text.as_bytes(), case);
                    proptest::prop_assert_eq!(normalised(&once, case), once);
                }
            }
        }
    }
}
