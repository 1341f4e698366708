//! How far long work is: a bar on a terminal, plain lines where there is none, nothing for machines.

use crate::cli::admin::Reach;
use crate::cli::tell;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::Duration;
use tokio::time::Instant;

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Drawn on standard error.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { what: &'static str, began: Instant, last_at: Instant },
    Silent,
}

impl Progress {
    pub(super) fn new(reach: &Reach, what: &'static str, count: u64) -> Self {
        if reach.json {
            return Self::Silent;
        }
        if !stderr().is_terminal() {
            let now = Instant::now();
            return Self::Lines { what, began: now, last_at: now };
        }
        let bar = ProgressBar::new(count);
        // A template of ours is well-formed.
        if let Ok(style) =
            ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}, {eta} left, Ctrl-C stops")
        {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self::Bar(bar)
    }

    pub(super) fn show(&mut self, done: u64, count: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(count);
                bar.set_position(done);
            }
            Self::Lines { what, began, last_at } if last_at.elapsed() >= LINE_EVERY => {
                *last_at = Instant::now();
                tell(format_args!("{what}: {done} of {count}{}", left(began.elapsed(), done, count)));
            }
            Self::Lines { .. } | Self::Silent => {}
        }
    }

    pub(super) fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// How long the rest takes if it goes on as it did; empty where nobody can tell.
fn left(took: Duration, done: u64, count: u64) -> String {
    let ahead = u128::from(count.saturating_sub(done)) * took.as_millis();
    let seconds = ahead.checked_div(u128::from(done)).unwrap_or_default().div_ceil(1000);
    match u64::try_from(seconds) {
        Ok(0) | Err(_) => String::new(),
        Ok(seconds) => format!(", {} left", humantime::format_duration(Duration::from_secs(seconds))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        for (took, done, count, told) in [
            (2000, 20, 49, ", 3s left"),
            (60_000, 1, 241, ", 4h left"),
            (2000, 0, 49, ""),
            (2000, 49, 49, ""),
            (2000, 50, 49, ""),
            (u64::MAX, 1, u64::MAX, ""),
        ] {
            assert_eq!(left(Duration::from_millis(took), done, count), told, "{done} of {count}");
        }
    }
}
