//! How much room is left for changes. Pure, but for one look at the file system.

use super::sqlite::Pages;
use rustix::fs::StatVfs;
use std::path::Path;

/// In hundredths: from here on delivered changes go before their retention is over, and the log says so.
const SQUEEZE_PERCENT: u64 = 80;
/// In hundredths of `max_size`: from here on intents are refused; the rest is for settling.
const FULL_PERCENT: u64 = 95;
/// What the file system must have left for deliveries and settling while intents are taken.
const RESERVE_BYTES: u64 = 16 << 20;
/// Of a small file system the reserve takes one part in so many.
const RESERVE_SHARE: u64 = 5;
/// One part in so many of it stands in a file of its own, where nobody else can take it; the rest is for what is
/// written before the next look.
const HELD_SHARE: u64 = 2;
/// That file is made where so many times as much is free.
const HELD_OF_FREE: u64 = 3;
/// Less than this helps nobody.
const HELD_MIN_BYTES: u64 = 1 << 20;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    Squeezed,
    Full,
}

/// What the journal may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// `sync.max_size`, in bytes.
    pub(super) max_size_bytes: u64,
    /// What the file system can give, in bytes; `None`: it does not tell.
    pub(super) available_bytes: Option<u64>,
    /// What it can hold of everybody, in bytes.
    pub(super) disk_bytes: Option<u64>,
    /// The largest file that this process may write, in bytes (`ulimit -f`).
    pub(super) file_bytes_max: Option<u64>,
    /// What of the file system is reserved for the journal, in bytes.
    pub(super) held_bytes: u64,
}

impl Bounds {
    /// As they are now.
    pub(super) fn of(folder: &Path, max_size_bytes: u64, held_bytes: u64) -> Self {
        let told = rustix::fs::statvfs(folder).ok();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
        let bytes = |blocks: fn(&StatVfs) -> u64| {
            told.as_ref().map(|told| blocks(told).saturating_mul(told.f_frsize))
        };
        Self {
            max_size_bytes,
            available_bytes: bytes(|told| told.f_bavail),
            disk_bytes: bytes(|told| told.f_blocks),
            file_bytes_max: limit.current,
            held_bytes,
        }
    }

    /// What is to be left for deliveries and settling, in bytes.
    fn reserve_bytes(self) -> u64 {
        let most = self.disk_bytes.into_iter().chain(self.file_bytes_max).min().unwrap_or(u64::MAX);
        RESERVE_BYTES.min(most / RESERVE_SHARE)
    }

    /// What of it is to stand in a file of its own, in bytes; 0: there is not enough room beside it.
    pub(super) fn to_hold_bytes(self) -> u64 {
        let wanted = self.reserve_bytes().min(self.max_size_bytes / RESERVE_SHARE) / HELD_SHARE;
        let has_room = self.available_bytes.unwrap_or_default() / HELD_OF_FREE >= wanted;
        if wanted >= HELD_MIN_BYTES && has_room { wanted } else { 0 }
    }
}

/// The room that is left. `log_bytes` of the write-ahead log wait to be moved into the file. Used pages
/// count, not the file: unused ones are used again.
pub(super) fn room(pages: Pages, log_bytes: u64, bounds: Bounds) -> Room {
    let used = pages.used_bytes.saturating_add(log_bytes);
    let share = |of: u64, percent: u64| u128::from(of) * u128::from(percent) / 100;
    let free = bounds.available_bytes.map(|bytes| bytes.saturating_add(bounds.held_bytes));
    let most = free.map(|bytes| pages.file_bytes.saturating_add(bytes));
    let most = most.into_iter().chain(bounds.file_bytes_max).min().unwrap_or(u64::MAX);
    let reserve = bounds.reserve_bytes();
    let is = |used: u64, limit: u128| u128::from(used) >= limit;
    if is(used, share(bounds.max_size_bytes, FULL_PERCENT)) || used.saturating_add(reserve) >= most {
        Room::Full
    } else if is(used, share(bounds.max_size_bytes, SQUEEZE_PERCENT))
        || is(used, share(most, SQUEEZE_PERCENT))
    {
        Room::Squeezed
    } else {
        Room::Enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_what_is_full_and_what_is_nearly() {
        const MIB: u64 = 1 << 20;
        let free = |mib: u64| Some(mib * MIB);
        for (used, file, log, max_size, available, file_max, expected) in [
            (1, 1, 0, 100, None, None, Room::Enough),
            (79, 90, 0, 100, None, None, Room::Enough),
            (80, 90, 0, 100, None, None, Room::Squeezed),
            (94, 90, 0, 100, None, None, Room::Squeezed),
            (95, 95, 0, 100, None, None, Room::Full),
            // What waits in the log counts, unused pages do not.
            (60, 100, 35, 100, None, None, Room::Full),
            (60, 100, 0, 100, None, None, Room::Enough),
            // The file system: 16 MiB are kept, less where it is small.
            (1, 1, 0, 1000, free(1000), None, Room::Enough),
            (1, 1, 0, 1000, free(17), None, Room::Enough),
            (70, 70, 0, 1000, free(16), None, Room::Full),
            (63, 76, 0, 1000, free(1), None, Room::Full),
            (60, 76, 0, 1000, free(1), None, Room::Enough),
            (60, 90, 0, 1000, free(1), None, Room::Enough),
            (84, 84, 0, 1000, free(21), None, Room::Squeezed),
            (1, 1, 0, 1000, free(9), None, Room::Enough),
            (8, 8, 0, 1000, free(2), None, Room::Full),
            // A file that may not grow.
            (60, 60, 0, 1000, free(1000), free(70), Room::Full),
            (10, 10, 0, 1000, free(1000), free(70), Room::Enough),
        ] {
            let pages = Pages { used_bytes: used * MIB, file_bytes: file * MIB };
            let bounds = Bounds {
                max_size_bytes: max_size * MIB,
                available_bytes: available,
                disk_bytes: available.map(|bytes| bytes + file * MIB),
                file_bytes_max: file_max,
                held_bytes: 0,
            };
            let held = bounds.available_bytes.map_or(0, |bytes| bytes / 2);
            let reserved = Bounds {
                available_bytes: bounds.available_bytes.map(|bytes| bytes - held),
                held_bytes: held,
                ..bounds
            };
            assert_eq!(room(pages, log * MIB, reserved), expected, "what is reserved is room: {reserved:?}");
            assert_eq!(room(pages, log * MIB, bounds), expected, "{used} of {file}, {bounds:?}");
        }
    }

    #[test]
    fn i10_what_others_take_leaves_the_reserve_as_large() {
        const MIB: u64 = 1 << 20;
        for (available, expected) in [(17, Room::Enough), (15, Room::Full), (1, Room::Full)] {
            let bounds = Bounds {
                max_size_bytes: 1000 * MIB,
                available_bytes: Some(available * MIB),
                disk_bytes: Some(1000 * MIB),
                file_bytes_max: None,
                held_bytes: 0,
            };
            let pages = Pages { used_bytes: MIB, file_bytes: MIB };
            assert_eq!(room(pages, 0, bounds), expected, "{available}");
        }
    }

    #[test]
    fn what_is_reserved() {
        const MIB: u64 = 1 << 20;
        for (max_size, disk, available, file_max, held) in [
            (10_000, 1000, 1000, None, 8),
            (10_000, 1000, 25, None, 8),
            (10_000, 1000, 23, None, 0),
            (10_000, 40, 40, None, 4),
            (10_000, 9, 9, None, 0),
            (20, 1000, 1000, None, 2),
            (10_000, 1000, 1000, Some(30), 3),
        ] {
            let bounds = Bounds {
                max_size_bytes: max_size * MIB,
                available_bytes: Some(available * MIB),
                disk_bytes: Some(disk * MIB),
                file_bytes_max: file_max.map(|bytes: u64| bytes * MIB),
                held_bytes: 0,
            };
            assert_eq!(bounds.to_hold_bytes(), held * MIB, "{bounds:?}");
        }
    }

    #[test]
    fn the_file_system_tells() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Bounds::of(folder.path(), 1, 0).available_bytes.is_some_and(|bytes| bytes > 0));
    }
}
