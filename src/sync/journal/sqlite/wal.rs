//! What `SQLite` does not tell: whether its write-ahead log has lost groups that were acknowledged.
//!
//! `SQLite` reads the log up to the first frame that does not match and silently forgets the rest: after
//! a power cut that is the group being written. More than one group behind such a frame, or a log that
//! is shorter than the index of a killed process says, is damage. Formats: sqlite.org/walformat.html.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

/// Bytes of the log's header.
const HEADER: usize = 32;
/// Bytes before the page of a frame.
const FRAME_HEADER: usize = 24;
/// Bytes of the index's header that are read.
const INDEX_HEADER: usize = 136;
/// The page sizes that `SQLite` knows.
const PAGE_BYTES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// What a log at rest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// Everything that was acknowledged, as far as can be told.
    Whole,
    /// One group is not readable, or not there to its end: the last one of a power cut, which nobody was told
    /// of, or a damaged one.
    Torn,
    /// It lacks groups that were acknowledged.
    Damaged(&'static str),
}

/// Looks at the log of a journal that no process has open.
pub(crate) fn inspect(log: &Path, index: &Path) -> io::Result<Log> {
    let index = Index::read(index)?;
    let frames = match File::open(log) {
        Ok(file) => Frames::read(BufReader::new(file))?,
        Err(error) if error.kind() == ErrorKind::NotFound => Frames::default(),
        Err(error) => return Err(error),
    };
    Ok(judge(&frames, index.as_ref()))
}

/// What was found in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frames {
    header: Header,
    salts: [u8; 8],
    /// Frames up to the last group that can be read.
    readable: u32,
    /// Groups that end behind a frame that does not match.
    unreadable_groups: u32,
    /// It ends within a group.
    is_cut: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Header {
    /// The log is empty, or was never begun.
    #[default]
    None,
    Sound,
    Broken,
}

fn judge(frames: &Frames, index: Option<&Index>) -> Log {
    match (frames.header, frames.unreadable_groups) {
        (Header::Broken, 1..) => return Log::Damaged("the header of its write-ahead log does not match"),
        (_, 2..) => return Log::Damaged("its write-ahead log holds groups behind one that does not match"),
        _ => {}
    }
    let Some(index) = index else {
        return if frames.unreadable_groups == 0 && !frames.is_cut { Log::Whole } else { Log::Torn };
    };
    let known = match frames.header {
        Header::Sound => (index.salts == frames.salts).then_some(index.frames),
        Header::None | Header::Broken => (index.frames > index.moved).then_some(index.frames),
    };
    match known {
        Some(known) if known > frames.readable => Log::Damaged("its write-ahead log is shorter than it was"),
        _ if frames.unreadable_groups > 0 => Log::Torn,
        _ => Log::Whole,
    }
}

impl Frames {
    fn read(mut log: impl Read) -> io::Result<Self> {
        let mut header = [0; HEADER];
        let bytes = fill(&mut log, &mut header)?;
        if bytes < HEADER {
            return Ok(Self { is_cut: bytes > 0, ..Self::default() });
        }
        let salts = part(&header, 16);
        let page_bytes = word(&header, 8);
        let words = Words { big: word(&header, 0) & 1 == 1 };
        let mut sum = words.sum((0, 0), header.get(..24).unwrap_or_default());
        let is_sound = word(&header, 0) & !1 == 0x377f_0682
            && PAGE_BYTES.contains(&page_bytes)
            && page_bytes.is_power_of_two()
            && sum == (word(&header, 24), word(&header, 28));
        let mut found = Self { salts, ..Self::default() };
        found.header = if is_sound { Header::Sound } else { Header::Broken };
        // Where the header tells nothing, the size that Tidegate's journals have.
        let page_bytes = if is_sound { page_bytes as usize } else { super::PAGE_BYTES };
        let mut frame = vec![0; FRAME_HEADER + page_bytes];
        let (mut count, mut readable) = (0, is_sound);
        loop {
            let bytes = fill(&mut log, &mut frame)?;
            if bytes < frame.len() {
                found.is_cut = bytes > 0 || (readable && count > found.readable);
                return Ok(found);
            }
            count += 1;
            let ends_group = word(&frame, 4) != 0;
            if readable {
                let covered = words.sum(sum, frame.get(..8).unwrap_or_default());
                sum = words.sum(covered, frame.get(FRAME_HEADER..).unwrap_or_default());
                readable = part(&frame, 8) == salts && sum == (word(&frame, 16), word(&frame, 20));
            } else if !is_sound && count == 1 {
                found.salts = part(&frame, 8);
            }
            match (readable, ends_group) {
                (true, true) => found.readable = count,
                (false, true) if part(&frame, 8) == found.salts && word(&frame, 0) != 0 => {
                    found.unreadable_groups += 1;
                }
                _ => {}
            }
        }
    }
}

/// What the index of a process that was killed says of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index {
    salts: [u8; 8],
    /// Frames of all groups that were durable.
    frames: u32,
    /// Those of them that stand in the main file.
    moved: u32,
}

impl Index {
    /// `None`: there is none, or it does not match itself.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; INDEX_HEADER];
        Ok(if fill(&mut file, &mut bytes)? == bytes.len() { Self::of(&bytes) } else { None })
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (first, second) = (bytes.get(..48)?, bytes.get(48..96)?);
        let own = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let words = Words { big: cfg!(target_endian = "big") };
        let sum = words.sum((0, 0), bytes.get(..40)?);
        let is_initialized = *bytes.get(12)? != 0;
        let is_sound = first == second && is_initialized && Some(sum) == own(40).zip(own(44));
        is_sound.then_some(Self { salts: part(bytes, 32), frames: own(16)?, moved: own(96)? })
    }
}

/// Reads up to the end of a buffer, or of what is read; how many bytes.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    u32::from_be_bytes(four.unwrap_or_default())
}

fn part(bytes: &[u8], at: usize) -> [u8; 8] {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).unwrap_or_default()
}

/// How the words are stored that a log's checksum runs over.
#[derive(Clone, Copy, Debug)]
struct Words {
    big: bool,
}

impl Words {
    fn sum(self, (mut first, mut second): (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let read = if self.big { u32::from_be_bytes } else { u32::from_le_bytes };
        let (fours, _) = bytes.as_chunks::<4>();
        for pair in fours.chunks_exact(2) {
            let [one, two] = pair else { continue };
            first = first.wrapping_add(read(*one)).wrapping_add(second);
            second = second.wrapping_add(read(*two)).wrapping_add(first);
        }
        (first, second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log as a killed process leaves it: `groups` commits, and the index.
    fn killed(folder: &Path, groups: usize) -> (Vec<u8>, Vec<u8>) {
        let store = rusqlite::Connection::open(folder.join("a")).unwrap();
        store.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        for _ in 1..groups {
            store.execute("INSERT INTO t VALUES(zeroblob(9000))", []).unwrap();
        }
        (std::fs::read(folder.join("a-wal")).unwrap(), std::fs::read(folder.join("a-shm")).unwrap())
    }

    fn look(folder: &Path, log: &[u8], index: &[u8]) -> Log {
        std::fs::write(folder.join("log"), log).unwrap();
        std::fs::write(folder.join("index"), index).unwrap();
        inspect(&folder.join("log"), &folder.join("index")).unwrap()
    }

    #[test]
    fn i2_a_log_that_lost_acknowledged_groups_is_told_from_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let (log, index) = killed(folder.path(), 6);
        let frame = FRAME_HEADER + 4096;
        let frames = (log.len() - HEADER) / frame;
        assert_eq!(look(folder.path(), &log, &index), Log::Whole);
        assert_eq!(look(folder.path(), &log, &[]), Log::Whole);
        let flipped = |at: usize| {
            let mut log = log.clone();
            log[at] ^= 1;
            log
        };
        // Without the index nothing but the groups behind it can tell.
        let last = HEADER + (frames - 1) * frame;
        assert_eq!(look(folder.path(), &flipped(last + 2000), &[]), Log::Torn);
        for (what, at) in [("header", 3), ("salt", 17), ("first frame", HEADER + 9), ("page", HEADER + 3000)]
        {
            assert!(matches!(look(folder.path(), &flipped(at), &[]), Log::Damaged(_)), "{what}");
        }
        for at in (0..log.len()).step_by(97) {
            assert!(matches!(look(folder.path(), &flipped(at), &index), Log::Damaged(_)), "{at}");
        }
        for cut in [0, 10, HEADER, HEADER + frame, log.len() - 1] {
            assert!(matches!(look(folder.path(), &log[..cut], &index), Log::Damaged(_)), "cut at {cut}");
        }
        // Without the index the end of a group may be that of the log, and nothing else.
        for cut in [10, HEADER + 10, HEADER + frame - 1, last + 30, log.len() - 1] {
            assert_eq!(look(folder.path(), &log[..cut], &[]), Log::Torn, "cut at {cut}");
        }
        // An index that does not match itself says nothing.
        let mut broken = index.clone();
        broken[20] ^= 1;
        assert_eq!(look(folder.path(), &log, &broken), Log::Whole);
    }

    #[test]
    fn a_log_that_was_moved_into_the_file_may_be_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = rusqlite::Connection::open(folder.path().join("a")).unwrap();
        store.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); PRAGMA wal_checkpoint").unwrap();
        let index = std::fs::read(folder.path().join("a-shm")).unwrap();
        assert_eq!(look(folder.path(), &[], &index), Log::Whole);
    }
}
