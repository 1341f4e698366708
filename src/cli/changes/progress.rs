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
    Lines { what: &'static str, last_at: Instant },
    Silent,
}

impl Progress {
    pub(super) fn new(reach: &Reach, what: &'static str, count: u64) -> Self {
        if reach.json {
            return Self::Silent;
        }
        if !stderr().is_terminal() {
            return Self::Lines { what, last_at: Instant::now() };
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
            Self::Bar(bar) => bar.set_position(done),
            Self::Lines { what, last_at } if last_at.elapsed() >= LINE_EVERY => {
                *last_at = Instant::now();
                tell(format_args!("{what}: {done} of {count}"));
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
