//! Power cuts: a preloaded library keeps what was synced apart from what was only written
//! (`power_cut.c`); at a cut the journal's folder is put back to that.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

use crate::support::Setup;

/// What is lost as a whole, or kept.
const BLOCK: usize = 4096;

/// Whether the gateway's fsyncs do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fsync {
    On,
    Off,
}

/// What a cut leaves of what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsynced {
    Lost,
    /// Each block by chance: a disk writes in any order.
    Torn,
}

/// A disk that forgets.
#[derive(Debug)]
pub(super) struct PowerCut {
    library: PathBuf,
    folder: TempDir,
}

impl PowerCut {
    /// Builds the library with the compiler that the journal's own C code needs.
    pub(super) fn build() -> Self {
        let folder = TempDir::with_prefix("tidegate-power-cut-").expect("a temporary folder can be made");
        let library = folder.path().join("power_cut.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash/power_cut.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("there is a C compiler, as the build needs one");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        fs::create_dir(folder.path().join("durable")).expect("the folder is ours");
        Self { library, folder }
    }

    fn durable(&self) -> PathBuf {
        self.folder.path().join("durable")
    }

    /// What is in the journal's folder is on the disk; the next start of the gateway gets this disk.
    pub(super) fn insert(&self, setup: &mut Setup, fsync: Fsync) {
        let data = setup.data();
        fs::create_dir_all(&data).expect("the temporary folder can be written");
        let data = data.canonicalize().expect("it exists");
        for name in files(&self.durable()) {
            fs::remove_file(self.durable().join(name)).expect("the folder is ours");
        }
        for name in files(&data) {
            fs::copy(data.join(&name), self.durable().join(name)).expect("a file can be copied");
        }
        let mode = if fsync == Fsync::On { "on" } else { "off" };
        for (name, value) in [
            ("LD_PRELOAD", self.library.as_path()),
            ("POWER_CUT_FOLDER", &data),
            ("POWER_CUT_DURABLE", &self.durable()),
            ("POWER_CUT_MODE", Path::new(mode)),
        ] {
            setup.environment(name, value.to_str().expect("a path in UTF-8"));
        }
    }

    /// Takes the disk out again.
    pub(super) fn remove(setup: &mut Setup) {
        setup.environment("LD_PRELOAD", "");
    }

    /// The power was cut when the process died.
    pub(super) fn strike(&self, setup: &Setup, unsynced: Unsynced, random: &mut fastrand::Rng) {
        let (data, durable) = (setup.data(), self.durable());
        let shared_memory = data.join("journal.sqlite-shm");
        if shared_memory.exists() {
            fs::remove_file(shared_memory).expect("the folder is ours");
        }
        let names: BTreeSet<OsString> = files(&data).into_iter().chain(files(&durable)).collect();
        for name in names {
            let written = fs::read(data.join(&name)).unwrap_or_default();
            let synced = fs::read(durable.join(&name)).ok();
            let left = match (synced, unsynced) {
                (synced, Unsynced::Lost) => synced,
                (synced, Unsynced::Torn) => {
                    Some(torn(&synced.unwrap_or_default(), &written, |()| random.bool()))
                }
            };
            match left {
                Some(left) => fs::write(data.join(&name), left).expect("the folder is ours"),
                None => fs::remove_file(data.join(&name)).expect("the folder is ours"),
            }
        }
    }
}

/// Files whose content counts after a cut.
fn files(folder: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(folder).expect("the folder is ours").filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name());
    names.filter(|name| name != "lock" && !name.to_string_lossy().ends_with("-shm")).collect()
}

/// Blocks of what was written among those that were synced.
fn torn(synced: &[u8], written: &[u8], mut survives: impl FnMut(()) -> bool) -> Vec<u8> {
    let mut left = synced.to_vec();
    for (number, block) in written.chunks(BLOCK).enumerate() {
        let from = number * BLOCK;
        let known = synced.get(from..from + block.len()) == Some(block);
        if known || !survives(()) {
            continue;
        }
        if left.len() < from + block.len() {
            left.resize(from + block.len(), 0);
        }
        left[from..from + block.len()].copy_from_slice(block);
    }
    left
}

#[test]
fn a_torn_file_has_whole_blocks_of_either() {
    let (synced, written) = (vec![1; BLOCK * 2], vec![2; BLOCK * 3]);
    let mut turn = 0;
    let left = torn(&synced, &written, |()| {
        turn += 1;
        turn == 3
    });
    assert_eq!((left[0], left[BLOCK], left[BLOCK * 2], left.len()), (1, 1, 2, BLOCK * 3));
    assert_eq!(torn(&synced, &written, |()| false), synced);
}
