//! Watching the configuration's file by what the system says of it, through every symbolic link on the way: so
//! an editor's rename and a mounted folder whose links are swapped are seen like any other change. It is
//! looked at now and then, and acted on only once it has been left alone for a while.

use super::reload::{Judgement, Reloader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So many looks in a row find the same before it is acted on: whoever writes it is done by then.
const SAME_LOOKS: u32 = 3;

/// What the system says of a file: another one says something else, and so does another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Missing,
    File { device: u64, inode: u64, bytes: u64, modified: (i64, i64), changed: (i64, i64) },
}

impl Signature {
    /// Of what a path leads to now.
    pub(super) fn of(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() => Self::File {
                device: found.dev(),
                inode: found.ino(),
                bytes: found.len(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            Ok(_) | Err(_) => Self::Missing,
        }
    }
}

/// Whether a file is left alone. Pure.
#[derive(Debug, Default)]
struct Settling {
    /// What was acted on last.
    judged: Option<Signature>,
    seen: Option<Signature>,
    looks: u32,
}

impl Settling {
    /// Whether what was found now is to be acted on.
    fn is_due(&mut self, found: Signature) -> bool {
        self.looks = if self.seen == Some(found) { self.looks.saturating_add(1) } else { 1 };
        self.seen = Some(found);
        self.judged != Some(found) && self.looks >= SAME_LOOKS
    }

    /// It was acted on.
    fn judged(&mut self, found: Signature) {
        self.judged = Some(found);
    }
}

/// Watches until it is dropped.
pub(super) async fn watch(path: Arc<Path>, reloader: Arc<Reloader>) {
    let mut settling = Settling::default();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looked_at = Arc::clone(&path);
        let Ok(found) = tokio::task::spawn_blocking(move || Signature::of(&looked_at)).await else {
            continue;
        };
        if settling.is_due(found) && reloader.reload_changed(found).await == Judgement::Passed {
            settling.judged(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_size(bytes: u64) -> Signature {
        Signature::File { device: 1, inode: 2, bytes, modified: (3, 4), changed: (5, 6) }
    }

    #[test]
    fn a_file_is_acted_on_once_and_only_when_it_is_left_alone() {
        let mut settling = Settling::default();
        let mut acted_on = Vec::new();
        // It is there; it grows; it is gone for a moment; it is there as before; it is gone for good.
        let looks = [1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 0, 4, 4, 4, 0, 0, 0, 0, 0, 5, 5, 5];
        for (at, bytes) in looks.into_iter().enumerate() {
            let found = if bytes == 0 { Signature::Missing } else { of_size(bytes) };
            if settling.is_due(found) {
                acted_on.push((at, bytes));
                settling.judged(found);
            }
        }
        assert_eq!(acted_on, [(2, 1), (8, 4), (16, 0), (21, 5)]);
    }

    #[test]
    fn what_could_not_be_judged_is_looked_at_again() {
        let mut settling = Settling::default();
        let due: Vec<bool> = (0..5).map(|_| settling.is_due(of_size(1))).collect();
        assert_eq!(due, [false, false, true, true, true]);
    }

    #[test]
    fn signatures_differ_by_content_and_by_what_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(Signature::of(&path("none")), Signature::Missing);
        assert_eq!(Signature::of(folder.path()), Signature::Missing, "a folder is no file");
        for (name, text) in [("one", "a"), ("two", "a")] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join("f"), text).unwrap();
        }
        std::os::unix::fs::symlink("one", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/f", path("f")).unwrap();
        let before = Signature::of(&path("f"));
        assert_eq!(before, Signature::of(&path("one").join("f")));
        std::os::unix::fs::symlink("two", path("..next")).unwrap();
        std::fs::rename(path("..next"), path("..data")).unwrap();
        assert_ne!(Signature::of(&path("f")), before, "the link was swapped");
    }
}
