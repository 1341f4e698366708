//! What must hold for any bytes that a client sends: the checks of the fuzz targets (`fuzz/`), replayed over the
//! kept corpora by `make test`. Only built for those two.

pub mod forwarded;
pub mod strict;
pub mod target;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Changed forms of each kept input that are tried too; `PROPTEST_CASES` makes it more.
    const CHANGED: usize = 64;

    fn kept(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files = std::fs::read_dir(&folder).unwrap();
        let inputs: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(inputs.len() >= 10, "{} inputs in {}", inputs.len(), folder.display());
        inputs
    }

    /// Some bytes of an input put in, left out, changed, doubled, or another's in their place.
    fn changed(input: &[u8], other: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..=bytes.len());
            let to = random.usize(at..=(at + 8).min(bytes.len()));
            match random.u32(..5) {
                0 => bytes.insert(at, b"\r\n \t:;,%/.\\0x\0\x0b\x0c\xff"[random.usize(..16)]),
                1 => drop(bytes.drain(at..to)),
                2 if at < bytes.len() => bytes[at] = random.u8(..),
                3 => bytes.splice(at..at, bytes[at..to].to_vec()).for_each(drop),
                _ => {
                    let from = random.usize(..=other.len());
                    let part = &other[from..random.usize(from..=other.len())];
                    bytes.splice(at..to, part.iter().copied()).for_each(drop);
                }
            }
        }
        bytes
    }

    fn replay(target: &str, check: fn(&[u8])) {
        let inputs = kept(target);
        let more = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for input in &inputs {
            check(input);
            for _ in 0..more.unwrap_or(CHANGED) {
                let other = &inputs[random.usize(..inputs.len())];
                let changed = changed(input, other, &mut random);
                let holds = std::panic::catch_unwind(|| check(&changed)).is_ok();
                assert!(holds, "{target}, seed {seed}: {:?}", String::from_utf8_lossy(&changed));
            }
        }
    }

    #[test]
    fn kept_corpora_hold() {
        replay("forwarded", super::forwarded::check);
        replay("strict", super::strict::check);
        replay("target", super::target::check);
    }
}
