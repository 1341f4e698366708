//! What must hold for any bytes that a client sends: the checks of the fuzz targets (`fuzz/`), replayed over the
//! kept corpora by `make test`. Only built for those two.

pub mod forwarded;
pub mod strict;
pub mod target;

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 10, "{inputs} inputs in {}", folder.display());
    }

    #[test]
    fn kept_corpora_hold() {
        replay("forwarded", super::forwarded::check);
        replay("strict", super::strict::check);
        replay("target", super::target::check);
    }
}
