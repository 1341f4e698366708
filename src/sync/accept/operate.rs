//! Dead letters of sources: shown, sent again in key order, given up.

use super::worker::{Handle, Worker};
use crate::sync::Run;
use crate::sync::delivery::{Act, Acted};
use crate::sync::engine::Engine;
use crate::sync::error::CommandError;
use crate::sync::journal::at_source::AtSource;
use crate::sync::journal::record::{Record, Unwritten};
use crate::sync::journal::sqlite::{self, Refused};
use crate::sync::status::DeadLetterFilter;
use tokio::sync::oneshot;

/// A request to a worker: what is done with matching dead letters, at most `limit` after a number.
#[derive(Debug)]
pub(in crate::sync) struct Command {
    filter: DeadLetterFilter,
    act: Act,
    run: Run,
    after: u64,
    limit: u32,
    done: oneshot::Sender<Result<Acted, Unwritten>>,
}

impl Engine {
    /// The workers of the sources whose dead letters may match.
    pub(in crate::sync) async fn sources_of(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<Handle>, CommandError> {
        if filter.destination.is_some() {
            return Ok(Vec::new());
        }
        let meant = |handle: &&Handle| filter.source.as_ref().is_none_or(|name| *name == handle.source);
        let meant: Vec<Handle> = self.inner.roster.load().sources.iter().filter(meant).cloned().collect();
        if let Some(name) = filter.source.as_ref().filter(|_| meant.is_empty()) {
            let is_left = self.accepted().await?.iter().any(|left| left.source == *name);
            return Err(if is_left { CommandError::NotConfigured } else { CommandError::UnknownSource });
        }
        Ok(meant)
    }
}

impl Handle {
    /// One step through matching dead letters of the source.
    pub(in crate::sync) async fn step(
        &self,
        filter: DeadLetterFilter,
        act: Act,
        run: Run,
        after: u64,
        limit: u32,
    ) -> Result<Acted, CommandError> {
        let (done, told) = oneshot::channel();
        let command = Command { filter, act, run, after, limit, done };
        self.commands.send(command).await.map_err(|_| CommandError::Unavailable)?;
        Ok(told.await.map_err(|_| CommandError::Unavailable)??)
    }
}

impl Worker {
    /// The worker itself does it, between two looks, so that nothing newer of these keys can begin
    /// meanwhile (I3).
    pub(super) async fn obey(&mut self, command: Command) {
        let Command { filter, act, run, after, limit, done } = command;
        let page = self.refused(filter, after, limit).await;
        let acted = match page {
            Ok(page) => self.act_on(page, act, run).await,
            Err(Unwritten) => Err(Unwritten),
        };
        self.look_again();
        // Whoever asked may have gone.
        drop(done.send(acted));
    }

    async fn refused(
        &self,
        filter: DeadLetterFilter,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Refused>, Unwritten> {
        let source = self.carrier.settings.name.clone();
        let read =
            move |store: &sqlite::Store| sqlite::refused(store, &source, &filter, after.cast_signed(), limit);
        self.carrier.inner.journal.readers().read(read).await
    }

    async fn act_on(&mut self, page: Vec<Refused>, act: Act, run: Run) -> Result<Acted, Unwritten> {
        let next = page.last().map(|last| last.number.cast_unsigned());
        let found = page.len() as u64;
        let chosen = page.into_iter().filter(|refused| self.may(act, refused));
        let numbers: Vec<i64> = chosen.map(|refused| refused.number).collect();
        let left_out = found - numbers.len() as u64;
        let count = match (run, act) {
            (Run::Dry, _) => numbers.len() as u64,
            (Run::Real, Act::Redrive) => {
                let now = self.carrier.inner.clock.now();
                let due = numbers.into_iter().map(|number| (number, now)).collect();
                self.write(AtSource::Redrive { due }).await?
            }
            (Run::Real, Act::Discard) => self.write(AtSource::Discard { numbers }).await?,
        };
        Ok(Acted { count, left_out, next })
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
