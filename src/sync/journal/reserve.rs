//! Room on the disk that nobody else can take: a file beside the journal, given up when the disk is full, so
//! that deliveries and settling go on; taken again once there is room for it.

use super::room::Bounds;
use rustix::fs::FallocateFlags;
use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The file in the journal's folder.
const FILE: &str = "reserve";
/// With less than this left by the file system when a journal is opened, the reserve is given up for it.
const OPENING_BYTES: u64 = 2 << 20;
/// The unit in which a file's blocks are told (POSIX leaves it open; it is this everywhere).
const BLOCK_BYTES: u64 = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes.
    Held(u64),
    GivenUp,
    /// The file system cannot reserve.
    Unsupported,
}

impl Reserve {
    /// That of a folder, as it is. On a full disk it is given up at once: to open a journal takes room, too.
    pub(super) fn of(folder: &Path) -> Self {
        let path = folder.join(FILE);
        // A copy of the file may have no blocks of its own.
        let held =
            path.metadata().map_or(0, |file| file.blocks().saturating_mul(BLOCK_BYTES).min(file.len()));
        let state = if held > 0 { State::Held(held) } else { State::GivenUp };
        let reserve = Self { path, state: Cell::new(state) };
        if Bounds::of(folder, 0, 0).available_bytes.is_some_and(|bytes| bytes < OPENING_BYTES) {
            reserve.give_up();
        }
        reserve
    }

    pub(super) fn held_bytes(&self) -> u64 {
        match self.state.get() {
            State::Held(bytes) => bytes,
            State::GivenUp | State::Unsupported => 0,
        }
    }

    /// Takes it, where there is enough room beside it.
    pub(super) fn take(&self, bounds: Bounds) {
        let wanted = bounds.to_hold_bytes();
        if self.state.get() != State::GivenUp || wanted == 0 {
            return;
        }
        let taken = File::create(&self.path).and_then(|file| {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, wanted)?;
            Ok(())
        });
        self.state.set(match taken {
            Ok(()) => State::Held(wanted),
            Err(error) => {
                tracing::warn!(%error, "no room on the disk can be reserved for deliveries");
                drop(std::fs::remove_file(&self.path));
                State::Unsupported
            }
        });
    }

    /// Gives it up to the journal; whether there was any.
    pub(super) fn give_up(&self) -> bool {
        let State::Held(bytes) = self.state.get() else { return false };
        match std::fs::remove_file(&self.path) {
            Ok(()) => {
                self.state.set(State::GivenUp);
                tracing::warn!(bytes, "the disk is full: what was reserved on it is used for deliveries");
                true
            }
            Err(error) => {
                self.state.set(State::Unsupported);
                tracing::error!(%error, "what is reserved on the disk cannot be given up");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(available_bytes: u64) -> Bounds {
        Bounds {
            max_size_bytes: u64::MAX,
            available_bytes: Some(available_bytes),
            disk_bytes: Some(1 << 30),
            file_bytes_max: None,
            held_bytes: 0,
        }
    }

    #[test]
    fn it_is_taken_where_there_is_room_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(folder.path());
        assert_eq!((reserve.held_bytes(), reserve.give_up()), (0, false));
        reserve.take(bounds(3 << 20));
        assert_eq!(reserve.held_bytes(), 0, "the disk is nearly full");
        reserve.take(bounds(1 << 30));
        let held = reserve.held_bytes();
        assert!(held > 0);
        assert_eq!(Reserve::of(folder.path()).held_bytes(), held);
        assert!(reserve.give_up() && !folder.path().join(FILE).exists());
        reserve.take(bounds(1 << 30));
        assert_eq!(reserve.held_bytes(), held);
    }

    #[test]
    fn a_copy_without_blocks_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join(FILE)).unwrap().set_len(8 << 20).unwrap();
        let reserve = Reserve::of(folder.path());
        assert_eq!(reserve.held_bytes(), 0);
        reserve.take(bounds(1 << 30));
        assert!(reserve.held_bytes() > 0);
    }
}
