//! What an answer may cost in instructions: a committed file, and the verdict over a new count.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// An answer that costs so much more than its budget, in percent, fails.
const GROWTH_MAX_PERCENT: u64 = 5;

/// The file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    pub(crate) date: String,
    /// Of the sources that were counted.
    pub(crate) commit: String,
    pub(crate) rustc: String,
    /// Of one answer, by its name.
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// How a count stands to its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Within,
    /// So much cheaper that the budget should be renewed.
    Cheaper,
    Over,
}

impl Budget {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("{}: --write makes it", path.display()))?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = format!("# Instructions of one answer; renewed by make instructions flags=--write\n{}", {
            toml::to_string(self)?
        });
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// What a count of `name` may be at most compared with.
    pub(crate) fn of(&self, name: &str) -> anyhow::Result<u64> {
        match self.instructions.get(name) {
            Some(budget) => Ok(*budget),
            None => bail!("no budget for {name}: --write makes one"),
        }
    }
}

impl Standing {
    pub(crate) const fn of(counted: u64, budget: u64) -> Self {
        let grown = budget.saturating_mul(100 + GROWTH_MAX_PERCENT);
        let shrunk = budget.saturating_mul(100 - GROWTH_MAX_PERCENT);
        match counted.saturating_mul(100) {
            hundredfold if hundredfold > grown => Self::Over,
            hundredfold if hundredfold < shrunk => Self::Cheaper,
            _ => Self::Within,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Within => "pass",
            Self::Cheaper => "pass; cheaper by more than 5 %: renew the budget",
            Self::Over => "OVER",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_cost_a_twentieth_more_and_no_instruction_beyond() {
        for (counted, standing) in [
            (1_000, Standing::Within),
            (1_050, Standing::Within),
            (1_051, Standing::Over),
            (950, Standing::Within),
            (949, Standing::Cheaper),
        ] {
            assert_eq!(Standing::of(counted, 1_000), standing, "{counted}");
        }
    }

    #[test]
    fn the_file_is_read_as_it_was_written_and_a_name_without_a_budget_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budget.toml");
        assert!(Budget::read(&path).is_err());
        let text = |text: &str| text.to_owned();
        let instructions = [(text("hit"), 20_000), (text("304"), 18_000)].into();
        let budget = Budget { date: text("d"), commit: text("c"), rustc: text("r"), instructions };
        budget.write(&path).unwrap();
        let read = Budget::read(&path).unwrap();
        assert_eq!(read, budget);
        assert_eq!(read.of("304").unwrap(), 18_000);
        assert!(read.of("forward").is_err());
    }
}
