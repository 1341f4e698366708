//! Dead letters as operators list them, a page at a time: those of destinations, then those of sources.

use super::engine::Engine;
use super::error::CommandError;
use super::journal::sqlite::{self, LISTED_MAX, SqlError, Store};
use super::status::{DeadLetterFilter, DeadLetterView, DeadLetters};
use std::fmt;
use std::str::FromStr;

/// Where a dead letter stands in the list. As a text it is what the next page is asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterPlace {
    /// Among those of destinations.
    Delivery {
        /// The sequence of its change.
        sequence: i64,
        /// The journal's number of the destination.
        destination: i64,
    },
    /// Among those of sources: the journal's number of its change.
    AtSource(i64),
}

impl fmt::Display for LetterPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivery { sequence, destination } => write!(f, "d{sequence}.{destination}"),
            Self::AtSource(number) => write!(f, "s{number}"),
        }
    }
}

/// It is the place of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl FromStr for LetterPlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let number = |text: &str| text.parse().map_err(|_| NoPlace);
        if let Some(text) = text.strip_prefix('s') {
            return number(text).map(Self::AtSource);
        }
        let (sequence, destination) =
            text.strip_prefix('d').and_then(|rest| rest.split_once('.')).ok_or(NoPlace)?;
        Ok(Self::Delivery { sequence: number(sequence)?, destination: number(destination)? })
    }
}

/// Which part of the list.
#[derive(Clone, Copy, Debug)]
pub struct LetterPage {
    /// Those behind this place; `None`: from the beginning.
    pub after: Option<LetterPlace>,
    /// At most so many.
    pub limit: u32,
}

impl LetterPage {
    /// The most that are listed at once, from the beginning.
    pub const FIRST: Self = Self { after: None, limit: LISTED_MAX };
}

impl Engine {
    /// Dead letters that match, in key order, at most a thousand.
    ///
    /// # Errors
    /// [`CommandError`]: an unknown destination, or the journal cannot be read.
    pub async fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        page: LetterPage,
    ) -> Result<DeadLetters, CommandError> {
        self.inner.journal.flushed().await;
        self.is_known(filter.destination.as_deref()).await?;
        let limit = page.limit.min(LISTED_MAX);
        let one_more = LetterPage { limit: limit + 1, ..page };
        let read = move |store: &Store| listed(store, &filter, one_more);
        let mut found = self.inner.journal.readers().read(read).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|(place, _)| place.to_string());
        Ok(DeadLetters { dead_letters: found.into_iter().map(|(_, letter)| letter).collect(), more, next })
    }
}

fn listed(
    store: &Store,
    filter: &DeadLetterFilter,
    LetterPage { after, limit }: LetterPage,
) -> Result<Vec<(LetterPlace, DeadLetterView)>, SqlError> {
    let (delivery, at_source) = match after {
        None => (Some((i64::MIN, 0)), i64::MIN),
        Some(LetterPlace::Delivery { sequence, destination }) => (Some((sequence, destination)), i64::MIN),
        Some(LetterPlace::AtSource(number)) => (None, number),
    };
    let mut found = match delivery.filter(|_| filter.source.is_none()) {
        Some(after) => sqlite::dead_letters(store, filter, after, limit)?,
        None => Vec::new(),
    };
    let room = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
    if filter.destination.is_none() && room > 0 {
        found.extend(sqlite::refused_views(store, filter, at_source, room)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [LetterPlace::Delivery { sequence: 7, destination: 2 }, LetterPlace::AtSource(9)] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for odd in ["", "d", "d7", "d7.", "s", "s7.1", "7", "dx.1", "s99999999999999999999"] {
            assert_eq!(odd.parse::<LetterPlace>(), Err(NoPlace), "{odd}");
        }
    }
}
