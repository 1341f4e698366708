//! What callgrind writes: costs by instruction and by function, its own and with all that it calls.
//!
//! Read as written with `--dump-instr=yes --dump-line=no --compress-strings=no --compress-pos=no`: a line
//! that begins with `0x` is an address and what was spent there; one behind `calls=` is what a call from
//! there has cost.

use anyhow::Context;
use std::collections::BTreeMap;

/// Digits of the hash at the end of a name.
const HASH_DIGITS: usize = 16;

/// One dump.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    /// All instructions.
    pub(crate) total: u64,
    pub(crate) functions: BTreeMap<String, Cost>,
    /// What was spent at each address of the program that was asked for.
    pub(crate) places: Vec<Place>,
}

/// Of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) own: u64,
    /// Of what it calls, itself left out.
    pub(crate) called: u64,
}

impl Cost {
    /// With all that it calls, of `total`. Functions of one name are one here, so that what one of them calls
    /// through others would count twice.
    pub(crate) fn whole(self, total: u64) -> u64 {
        self.own.saturating_add(self.called).min(total)
    }
}

/// An address at which something was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: u64,
    pub(crate) instructions: u64,
    /// Where it is a call: what is called, in the same program.
    pub(crate) calls: Option<Callee>,
}

/// What an address calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    Here(u64),
    /// In another object.
    Elsewhere,
}

impl Place {
    /// What is called there in the same program.
    pub(crate) const fn callee(&self) -> Option<u64> {
        match self.calls {
            Some(Callee::Here(callee)) => Some(callee),
            Some(Callee::Elsewhere) | None => None,
        }
    }
}

impl Profile {
    /// Reads a dump; `program` is the path of the program whose addresses are wanted.
    pub(crate) fn read(dump: &str, program: &str) -> anyhow::Result<Self> {
        let mut profile = Self::default();
        let (mut object, mut callee_object) = ("", None);
        let (mut from, mut to) = (String::new(), String::new());
        let mut call: Option<u64> = None;
        for line in dump.lines() {
            if let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_word(key)) {
                match key {
                    "ob" => object = value,
                    "cob" => callee_object = Some(value),
                    "fn" => from = readable(value),
                    "cfn" => to = readable(value),
                    "calls" => {
                        let entry = value.split(' ').nth(1).context("a call without a target")?;
                        call = Some(address(entry)?);
                    }
                    _ => {}
                }
            } else if line.starts_with("0x") {
                let (at, spent) = line.split_once(' ').context("an address without a cost")?;
                let (at, spent) = (address(at)?, spent.trim().parse::<u64>()?);
                let cost = profile.functions.entry(from.clone()).or_default();
                let target = call.take();
                match target {
                    None => cost.own += spent,
                    Some(_) if to != from => cost.called += spent,
                    Some(_) => {}
                }
                if target.is_none() {
                    profile.total += spent;
                }
                if object == program {
                    let is_here = callee_object.is_none_or(|object| object == program);
                    let callee = |target| if is_here { Callee::Here(target) } else { Callee::Elsewhere };
                    let place = Place { address: at, instructions: spent, calls: target.map(callee) };
                    profile.places.push(place);
                }
                callee_object = None;
            }
        }
        Ok(profile)
    }

    /// The functions that cost most with all that they call, most first.
    pub(crate) fn dearest(&self, count: usize) -> Vec<(&str, Cost)> {
        let mut all: Vec<_> = self.functions.iter().map(|(name, cost)| (name.as_str(), *cost)).collect();
        all.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.whole(self.total)));
        all.truncate(count);
        all
    }

    /// Where the addresses that are `within` spend, and what they call spends, each once.
    pub(crate) fn within(&self, within: impl Fn(u64) -> bool) -> impl Iterator<Item = &Place> {
        let counts = move |place: &Place| {
            // What is called within counts at its own addresses.
            within(place.address) && !place.callee().is_some_and(&within)
        };
        self.places.iter().filter(move |place| counts(place))
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn address(text: &str) -> anyhow::Result<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).with_context(|| format!("no address: {text}"))
}

/// A name without what only machines need: the mark of a copy for recursion, the linker's hash.
fn readable(name: &str) -> String {
    let is_copy = |(_, number): &(&str, &str)| number.bytes().all(|byte| byte.is_ascii_digit());
    let name = name.rsplit_once('\'').filter(is_copy).map_or(name, |(name, _)| name);
    let is_hashed = |(_, hash): &(&str, &str)| hash.len() == HASH_DIGITS;
    name.rsplit_once("::h").filter(is_hashed).map_or(name, |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `main` calls `gate` twice from one place, which calls `search` and itself; a library is called as well.
    const DUMP: &str = "# callgrind format
version: 1
cmd: /p/tidegate serve
positions: instr
events: Ir

ob=/p/tidegate
fl=src/main.rs
fn=main::h0123456789abcdef
0x10 5
cfn=gate
calls=2 0x20
0x11 90
cob=/lib/libc.so
cfn=memcpy
calls=1 0x900
0x12 7

fn=gate
0x20 30
0x21 10
cfn=search
calls=3 0x30
0x22 40
cfn=gate'2
calls=1 0x20
0x23 10

fn=search
0x30 40

ob=/lib/libc.so
fn=memcpy
0x900 7
totals: 92
";

    #[test]
    fn functions_have_what_they_spend_and_what_they_call() {
        let profile = Profile::read(DUMP, "/p/tidegate").unwrap();
        assert_eq!(profile.total, 92);
        let of = |name| profile.functions.get(name).copied().unwrap();
        assert_eq!(of("main"), Cost { own: 5, called: 97 });
        assert_eq!(of("gate"), Cost { own: 40, called: 40 }, "its calls of itself are its own");
        assert_eq!((of("search").whole(92), of("memcpy").whole(92), of("main").whole(92)), (40, 7, 92));
        let dearest: Vec<_> = profile.dearest(2).iter().map(|(name, _)| *name).collect();
        assert_eq!(dearest, ["main", "gate"]);
    }

    #[test]
    fn what_lies_within_counts_once_with_all_that_it_calls() {
        let profile = Profile::read(DUMP, "/p/tidegate").unwrap();
        let within = |first: u64, end: u64| -> u64 {
            profile.within(|at| (first..end).contains(&at)).map(|place| place.instructions).sum()
        };
        // Its calls of itself are neither left out nor counted twice.
        assert_eq!(within(0x20, 0x24), 80);
        assert_eq!(within(0x20, 0x31), 80, "the search is within as well");
        assert_eq!(within(0x12, 0x13), 7, "a call of a library");
        assert_eq!(within(0x900, 0x901), 0, "addresses of another object");
    }

    #[test]
    fn names_are_those_that_a_reader_knows() {
        for (name, known) in [
            ("a::b::h0123456789abcdef", "a::b"),
            ("a::b::h0123456789abcdef'2", "a::b"),
            ("a::hit", "a::hit"),
            ("f<&'static str>", "f<&'static str>"),
        ] {
            assert_eq!(readable(name), known);
        }
    }
}
