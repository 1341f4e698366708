//! Pure: what a log has lost, by what Redis tells of it.

use super::LOG_LENGTH;
use crate::redis::{LogExtent, LogPosition};

/// What a log has lost at its beginning, or had deleted, cannot be known: stamps before this mean nothing.
pub(super) fn floor(extent: LogExtent) -> LogPosition {
    if is_whole(extent) { LogPosition::default() } else { trimmed_to(extent).max(extent.deleted) }
}

/// Whether it has all that was ever appended behind a position. Up to that at least `appended` were, if it is known.
pub(super) fn goes_on(extent: LogExtent, position: LogPosition, appended: Option<u64>) -> bool {
    if is_whole(extent) {
        return true;
    }
    // What is gone is not more than what stood up to there, of which all goes first.
    let gone = extent.appended.and_then(|all| all.checked_sub(extent.length));
    let is_before = gone.zip(appended).is_some_and(|(gone, appended)| gone <= appended);
    extent.deleted <= position && (is_before || trimmed_to(extent) <= position)
}

pub(super) fn is_whole(extent: LogExtent) -> bool {
    match extent.appended {
        Some(appended) => appended == extent.length,
        // It is trimmed where it is as long as it may be; or all of it was.
        None => {
            extent.length < LOG_LENGTH as u64
                && (extent.length > 0 || extent.newest == LogPosition::default())
        }
    }
}

/// Its first entry, or the last there was.
fn trimmed_to(extent: LogExtent) -> LogPosition {
    extent.first.unwrap_or(extent.newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> LogPosition {
        LogPosition { millis, sequence: 0 }
    }

    #[test]
    fn i5_what_a_log_still_tells() {
        let extent = |first: Option<u64>, length, appended, deleted| LogExtent {
            first: first.map(at),
            newest: at(50),
            length,
            appended,
            deleted: at(deleted),
        };
        // Five were appended, at 10 to 50; a follower has read so far, which were so many.
        let rows = [
            ("whole", extent(Some(10), 5, Some(5), 0), 0, (0, Some(0)), true),
            ("trimmed to what was read last", extent(Some(20), 4, Some(5), 0), 20, (20, Some(2)), true),
            ("trimmed just behind it", extent(Some(30), 3, Some(5), 0), 30, (20, Some(2)), true),
            ("and one further", extent(Some(40), 2, Some(5), 0), 40, (20, Some(2)), false),
            ("all of it", extent(None, 0, Some(5), 0), 50, (50, Some(5)), true),
            ("all, and one was not read", extent(None, 0, Some(5), 0), 50, (40, Some(4)), false),
            ("not known how many", extent(Some(30), 3, Some(5), 0), 30, (20, None), false),
            ("fewer were known of", extent(Some(30), 3, Some(5), 0), 30, (20, Some(1)), false),
            ("deleted before", extent(Some(10), 4, Some(5), 20), 20, (20, Some(2)), true),
            ("deleted behind", extent(Some(10), 4, Some(5), 30), 30, (20, Some(2)), false),
            ("the newest deleted", extent(Some(10), 4, Some(5), 50), 50, (20, Some(2)), false),
            ("an old server", extent(Some(10), 5, None, 0), 0, (0, None), true),
            ("an old server, all of it", extent(None, 0, None, 0), 50, (40, None), false),
        ];
        for (what, extent, lost_to, (read, appended), expected) in rows {
            assert_eq!(floor(extent), at(lost_to), "{what}");
            assert_eq!(goes_on(extent, at(read), appended), expected, "{what}");
        }
    }
}
