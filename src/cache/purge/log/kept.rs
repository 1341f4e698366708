//! Purges that Redis does not have yet, in a file, so that they are sent at the next start.
//!
//! The file is made when the first purge has to be kept, appended to while Redis is away, and emptied
//! once it has everything. It belongs to one process: another that finds it locked keeps its own in
//! memory only. What cannot be read back may have been any purge, and counts as one of everything.

use super::Following;
use crate::cache::purge::{Purge, PurgeMode};
use rapidhash::v3::rapidhash_v3;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The file in the folder.
const FILE_NAME: &str = "purges-unsent";
/// How long a purge may be on its way before it is kept, while Redis is there.
const GRACE: Duration = Duration::from_millis(20);
/// Bytes of the file; beyond, it holds one purge of everything.
const BYTES_MAX: u64 = 8 << 20;
/// Bytes in front of a record: its length and its checksum.
const HEAD_BYTES: usize = 4 + 8;

/// Purges of one number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) mode: PurgeMode,
    pub(super) purges: Vec<Purge>,
}

impl Record {
    fn everything() -> Self {
        Self { mode: PurgeMode::Hard, purges: vec![Purge::All] }
    }
}

/// The file, or that it is not there yet.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Kept {
    /// What an earlier run could not send, oldest first.
    pub(super) fn open(folder: &Path) -> (Self, Vec<Record>) {
        let mut kept = Self { path: folder.join(FILE_NAME), file: None, bytes: 0 };
        let records = match kept.read_back() {
            Ok(records) => records,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(path = %kept.path.display(), %error, "purges that were not sent cannot be read");
                Vec::new()
            }
        };
        (kept, records)
    }

    fn read_back(&mut self) -> io::Result<Vec<Record>> {
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        file.try_lock()?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(BYTES_MAX * 2).read_to_end(&mut bytes)?;
        (self.bytes, self.file) = (bytes.len() as u64, Some(file));
        Ok(records(&bytes))
    }

    /// Adds records: they outlive this process when it returns, and the machine once they are synced.
    fn append(&mut self, added: &[Record]) -> io::Result<()> {
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&self.path)?;
            file.try_lock()?;
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = encoded(added);
        if self.bytes.saturating_add(bytes.len() as u64) > BYTES_MAX {
            file.set_len(0)?;
            (self.bytes, bytes) = (0, encoded(&[Record::everything()]));
        }
        file.seek(SeekFrom::Start(self.bytes))?;
        file.write_all(&bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// What syncs the file, beside what else is done with it.
    fn syncing(&self) -> Option<JoinHandle<()>> {
        let file = self.file.as_ref()?.try_clone().ok()?;
        Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = file.sync_data() {
                tracing::warn!(%error, "purges that wait for Redis may be lost with the machine");
            }
        }))
    }

    fn clear(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_mut().filter(|_| self.bytes > 0) {
            file.set_len(0)?;
            self.bytes = 0;
        }
        Ok(())
    }
}

fn encoded(added: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in added {
        // Plain data into a Vec does not fail; an empty record is read back as a purge of everything.
        let record = postcard::to_stdvec(record).unwrap_or_default();
        let length = u32::try_from(record.len()).unwrap_or_default();
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&rapidhash_v3(&record).to_be_bytes());
        bytes.extend_from_slice(&record);
    }
    bytes
}

/// What a file has; where it ends in something else, everything is purged.
fn records(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let Some((record, rest)) = record(bytes) else {
            records.push(Record::everything());
            break;
        };
        records.push(record);
        bytes = rest;
    }
    records
}

fn record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let (length, checksum) = head.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (record, rest) = rest.split_at_checked(length)?;
    let is_whole = rapidhash_v3(record).to_be_bytes() == checksum;
    Some((postcard::from_bytes(record).ok().filter(|_| is_whole)?, rest))
}

/// Keeps what waits for Redis until it is dropped; the file has what is unsent up to the number `kept_to`.
/// Nobody waits for the disk: only for the write, which takes no time that counts.
pub(super) async fn keep(log: Arc<Following>, mut kept: Kept, mut kept_to: u64) {
    let (mut syncing, mut is_synced): (Option<JoinHandle<()>>, _) = (None, true);
    loop {
        if log.redis.is_connected() {
            // Most are sent by then.
            tokio::time::sleep(GRACE).await;
        }
        let (added, number, is_clear) = {
            let state = log.state();
            let (added, number) = state.outbox.unsent_behind(kept_to);
            (added, number, !state.outbox.has_unsent())
        };
        if is_clear || !added.is_empty() {
            let written = tokio::task::spawn_blocking(move || {
                let written = if is_clear { kept.clear() } else { kept.append(&added) };
                (kept, written)
            });
            let Ok((file, written)) = written.await else { return };
            (kept, is_synced) = (file, is_clear);
            if let Err(error) = written {
                tracing::warn!(path = %kept.path.display(), %error, "purges that wait for Redis are only in memory");
            }
        }
        // What was sent may have to be sent again.
        kept_to = if is_clear { 0 } else { kept_to.max(number) };
        log.kept_to.send_replace(kept_to);
        if !is_synced && syncing.is_none() {
            (syncing, is_synced) = (kept.syncing(), true);
        }
        tokio::select! {
            () = log.to_keep.notified() => {}
            () = ended(&mut syncing) => syncing = None,
        }
    }
}

/// The end of what may be under way.
async fn ended(syncing: &mut Option<JoinHandle<()>>) {
    match syncing {
        Some(syncing) => drop(syncing.await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> Record {
        Record { mode: PurgeMode::Soft, purges: vec![Purge::Tag(name.into())] }
    }

    #[test]
    fn i5_what_is_kept_is_read_back_and_what_is_torn_purges_everything() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kept, before) = Kept::open(folder.path());
        assert!(before.is_empty() && !folder.path().join(FILE_NAME).exists(), "made when it is needed");
        kept.append(&[tag("a"), tag("b")]).unwrap();
        kept.append(&[tag("c")]).unwrap();
        let (_, foreign) = Kept::open(folder.path());
        assert_eq!(foreign, [], "it is locked");
        drop(kept);
        let (mut kept, before) = Kept::open(folder.path());
        assert_eq!(before, [tag("a"), tag("b"), tag("c")]);
        let bytes = std::fs::read(folder.path().join(FILE_NAME)).unwrap();
        for cut in 1..bytes.len() {
            let records = records(&bytes[..cut]);
            let whole = records.iter().filter(|record| **record != Record::everything()).count();
            assert!(
                records.contains(&Record::everything()) || cut == encoded(&before[..whole]).len(),
                "{cut}"
            );
        }
        kept.clear().unwrap();
        drop(kept);
        assert_eq!(Kept::open(folder.path()).1, []);
    }

    #[test]
    fn i10_the_file_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kept, _) = Kept::open(folder.path());
        let long = tag(&"x".repeat(1 << 20));
        for _ in 0..20 {
            kept.append(std::slice::from_ref(&long)).unwrap();
            assert!(kept.bytes <= BYTES_MAX);
        }
        drop(kept);
        assert!(Kept::open(folder.path()).1.contains(&Record::everything()));
    }
}
