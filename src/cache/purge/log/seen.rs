//! How far the log was read, in a file, so that the next start notices a log that was taken back meanwhile.

use super::own::Place;
use std::io;
use std::path::Path;

/// The file in the folder.
const FILE_NAME: &str = "purges-seen";
/// A longer file is none of these.
const BYTES_MAX: u64 = 128;

/// What an earlier run has seen last; `None` where nobody has noted it.
pub(super) fn read(folder: &Path) -> Option<Place> {
    let path = folder.join(FILE_NAME);
    let is_short = std::fs::metadata(&path).is_ok_and(|file| file.len() <= BYTES_MAX);
    let text = is_short.then(|| std::fs::read_to_string(&path).ok()).flatten()?;
    let (epoch, position) = text.trim_end().split_once(' ')?;
    Some(Place { epoch: epoch.parse().ok()?, position: position.parse().ok()? })
}

/// Notes it. It outlives this process; what the machine loses with its power is only noticed later.
pub(super) fn write(folder: &Path, seen: Place) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{FILE_NAME}.new"));
    std::fs::write(&beside, format!("{} {}\n", seen.epoch, seen.position))?;
    std::fs::rename(beside, folder.join(FILE_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::LogPosition;

    #[test]
    fn what_is_noted_is_read_back_and_anything_else_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        let seen = Place { epoch: u64::MAX, position: LogPosition { millis: 7, sequence: 9 } };
        for _ in 0..2 {
            write(folder.path(), seen).unwrap();
            assert_eq!(read(folder.path()), Some(seen));
        }
        for text in ["", "1", "1 2", "x 1-2", "1 1-2 3", &"1".repeat(1000)] {
            std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
            assert_eq!(read(folder.path()), None, "{text}");
        }
    }
}
