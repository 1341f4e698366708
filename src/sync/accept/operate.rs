//! Dead letters of sources: shown, sent again in key order, given up.

use super::worker::{Handle, Worker};
use crate::sync::Run;
use crate::sync::delivery::Act;
use crate::sync::engine::Engine;
use crate::sync::error::CommandError;
use crate::sync::journal::at_source::AtSource;
use crate::sync::journal::record::{Record, Unwritten};
use crate::sync::journal::sqlite::{self, LISTED_MAX, Refused};
use crate::sync::status::{DeadLetterFilter, DeadLetterView};
use tokio::sync::oneshot;

/// A request to a worker: what is done with matching dead letters; it tells how many.
#[derive(Debug)]
pub(in crate::sync) struct Command {
    filter: DeadLetterFilter,
    act: Act,
    run: Run,
    done: oneshot::Sender<Result<u64, Unwritten>>,
}

impl Engine {
    /// Dead letters of sources that match, at most `limit`.
    pub(in crate::sync) async fn refused(
        &self,
        filter: DeadLetterFilter,
        limit: u32,
    ) -> Result<Vec<DeadLetterView>, CommandError> {
        if filter.destination.is_some() {
            return Ok(Vec::new());
        }
        let readers = self.inner.journal.readers();
        Ok(readers.read(move |store| sqlite::refused_views(store, &filter, limit)).await?)
    }

    /// Does it with matching dead letters of sources; how many.
    pub(in crate::sync) async fn act_at_sources(
        &self,
        filter: &DeadLetterFilter,
        act: Act,
        run: Run,
    ) -> Result<u64, CommandError> {
        if filter.destination.is_some() {
            return Ok(0);
        }
        let meant = |handle: &&Handle| filter.source.as_ref().is_none_or(|name| *name == handle.source);
        let mut meant = self.at_sources.iter().filter(meant).peekable();
        if meant.peek().is_none() && filter.source.is_some() {
            return Err(CommandError::UnknownSource);
        }
        let mut count = 0;
        for handle in meant {
            let (done, told) = oneshot::channel();
            let command = Command { filter: filter.clone(), act, run, done };
            handle.commands.send(command).await.map_err(|_| CommandError::Unavailable)?;
            count += told.await.map_err(|_| CommandError::Unavailable)??;
        }
        Ok(count)
    }
}

impl Worker {
    /// The worker itself does it, between two looks, so that nothing newer of these keys can begin
    /// meanwhile (I3).
    pub(super) async fn obey(&mut self, command: Command) {
        let Command { filter, act, run, done } = command;
        let count = self.act(&filter, act, run).await;
        self.look_again();
        // Whoever asked may have gone.
        done.send(count).unwrap_or_default();
    }

    async fn act(&mut self, filter: &DeadLetterFilter, act: Act, run: Run) -> Result<u64, Unwritten> {
        let (mut after, mut count) = (0, 0);
        loop {
            let (source, wanted) = (self.carrier.settings.name.clone(), filter.clone());
            let read =
                move |store: &sqlite::Store| sqlite::refused(store, &source, &wanted, after, LISTED_MAX);
            let page = self.carrier.inner.journal.readers().read(read).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = last.number;
            let chosen = page.into_iter().filter(|refused| self.may(act, refused));
            let numbers: Vec<i64> = chosen.map(|refused| refused.number).collect();
            count += match (run, act) {
                (Run::Dry, _) => numbers.len() as u64,
                (Run::Real, Act::Redrive) => {
                    let now = self.carrier.inner.clock.now();
                    let due = numbers.into_iter().map(|number| (number, now)).collect();
                    self.write(AtSource::Redrive { due }).await?
                }
                (Run::Real, Act::Discard) => self.write(AtSource::Discard { numbers }).await?,
            };
        }
    }

    async fn write(&self, step: AtSource) -> Result<u64, Unwritten> {
        self.carrier.inner.journal.write(Record::AtSource(Box::new(step))).await
    }

    fn may(&self, act: Act, refused: &Refused) -> bool {
        let newer_under_way =
            refused.turn.is_some() && self.on_their_way.values().any(|turn| *turn == refused.turn);
        let overtaken = refused.overtaken || newer_under_way;
        if act == Act::Redrive && overtaken {
            let source = &self.carrier.settings.name;
            tracing::info!(%source, number = refused.number, "left out: its key has got a newer change");
        }
        act == Act::Discard || !overtaken
    }
}
