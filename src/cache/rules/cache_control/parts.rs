//! Cuts a line of Cache-Control into directives (RFC 9111 5.2; lists, tokens and quoted strings as RFC 9110
//! 5.6 has them).
//!
//! A member of the list that is not well-formed is read word by word, so that it cannot hide a
//! prohibition: each word counts as a directive with a malformed argument. Where such a member has a
//! quote, nobody can say which of the commas behind it stand in quotes, so this goes on to the line's end.

use super::delta_seconds;
use std::time::Duration;

/// A directive, or a word that could be meant as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directive<'a> {
    /// As it is written.
    pub name: &'a [u8],
    pub argument: Argument<'a>,
}

/// What a directive's name is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    /// Nothing.
    Absent,
    /// `=token`.
    Token(&'a [u8]),
    /// `="quoted string"`, without its quotes.
    Quoted(&'a [u8]),
    /// Something that the syntax does not have.
    Malformed,
}

impl Argument<'_> {
    /// The number of seconds, from either form (5.2); `None` where it is none.
    pub(super) fn seconds(self) -> Option<Duration> {
        match self {
            Self::Absent | Self::Malformed => None,
            Self::Token(token) => delta_seconds(token.iter().copied()),
            Self::Quoted(text) => delta_seconds(unquoted(text)),
        }
    }
}

/// The text of a quoted string, its quoted pairs replaced (RFC 9110 5.6.4).
fn unquoted(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = text.iter().copied();
    std::iter::from_fn(move || match bytes.next() {
        Some(b'\\') => bytes.next(),
        next => next,
    })
}

/// The directives of a line.
pub(super) fn parts(line: &[u8]) -> impl Iterator<Item = Directive<'_>> {
    let mut reader = Reader { rest: line, trust: Trust::Full };
    std::iter::from_fn(move || reader.next_part())
}

/// Whether what comes next is read by the syntax, or word by word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Full,
    /// Word by word up to the next comma.
    AfterComma,
    /// Word by word up to the end.
    Never,
}

struct Reader<'a> {
    rest: &'a [u8],
    trust: Trust,
}

impl<'a> Reader<'a> {
    fn next_part(&mut self) -> Option<Directive<'a>> {
        loop {
            let name = self.token();
            if !name.is_empty() {
                return Some(Directive { name, argument: self.argument() });
            }
            let (first, rest) = self.rest.split_first()?;
            self.rest = rest;
            match first {
                b',' if self.trust == Trust::AfterComma => self.trust = Trust::Full,
                b',' | b' ' | b'\t' => {}
                _ => self.distrust(*first),
            }
        }
    }

    fn argument(&mut self) -> Argument<'a> {
        if self.trust != Trust::Full {
            return Argument::Malformed;
        }
        let before = self.rest;
        let argument = match before.split_first() {
            Some((b'=', rest)) => {
                self.rest = rest;
                self.value()
            }
            _ => Some(Argument::Absent),
        };
        if let Some(argument) = argument.filter(|_| self.is_at_end_of_member()) {
            return argument;
        }
        self.rest = before;
        self.trust = Trust::AfterComma;
        Argument::Malformed
    }

    fn value(&mut self) -> Option<Argument<'a>> {
        let Some((b'"', text)) = self.rest.split_first() else {
            let token = self.token();
            return (!token.is_empty()).then_some(Argument::Token(token));
        };
        let mut is_escaped = false;
        let end = text.iter().position(|byte| {
            let ends = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            ends
        })?;
        let (text, rest) = text.split_at_checked(end)?;
        self.rest = rest.get(1..)?;
        Some(Argument::Quoted(text))
    }

    fn token(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.rest = rest;
        token
    }

    fn is_at_end_of_member(&self) -> bool {
        matches!(self.rest.trim_ascii_start().first(), None | Some(b','))
    }

    fn distrust(&mut self, byte: u8) {
        if byte == b'"' {
            self.trust = Trust::Never;
        } else if self.trust == Trust::Full {
            self.trust = Trust::AfterComma;
        }
    }
}

/// RFC 9110 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}
