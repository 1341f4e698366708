//! Who of the replicas forwards for a key that several miss at once.

use super::Cache;
use crate::cache::tiers::lease::{Awaited, Lease, Turn};
use crate::cache::{CacheKey, Found, Lookup};
use crate::redis::Patience;
use crate::telemetry::metrics;
use http::HeaderMap;

/// What a fill has before it asks its source.
#[derive(Debug)]
pub enum Begun {
    /// It forwards; while it holds this, other replicas wait for it.
    Forward(FillTurn),
    /// Another replica has filled it meanwhile.
    Found(Found),
}

/// What keeps other replicas from forwarding for a key, if anything does.
#[derive(Debug)]
pub struct FillTurn(Option<Lease>);

/// What a fill brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// Something that was stored, or was to be.
    Storable,
    /// What may not be stored.
    NotStorable,
    /// No answer.
    Nothing,
}

impl Cache {
    /// Takes the turn of a key among the replicas, or waits for the one that has it: a bounded time, once.
    pub async fn begin_fill(&self, key: &CacheKey, request: &HeaderMap, patience: &Patience) -> Begun {
        let Some(shared) = &self.shared else { return Begun::Forward(FillTurn(None)) };
        let counted =
            |result: &'static str| ::metrics::counter!(metrics::FILL_TURNS, "result" => result).increment(1);
        match shared.tier.take_turn(key, patience).await {
            Turn::Own(lease) => {
                counted("taken");
                return Begun::Forward(FillTurn(Some(lease)));
            }
            Turn::Everybody => return Begun::Forward(FillTurn(None)),
            Turn::Other => {}
        }
        match shared.tier.another_fills(key, request, patience).await {
            Awaited::Stored(found) => {
                if let Some(Lookup::Fresh(found)) = self.promoted(key, found, self.clock.now()) {
                    counted("found");
                    return Begun::Found(found);
                }
                counted("missing");
            }
            Awaited::NotStorable => counted("not-storable"),
            Awaited::Nothing => counted("late"),
        }
        Begun::Forward(FillTurn(None))
    }

    /// Lets other replicas go on.
    pub fn end_fill(&self, key: &CacheKey, turn: FillTurn, brought: Brought) {
        let (Some(shared), Some(lease)) = (&self.shared, turn.0) else { return };
        match brought {
            Brought::Storable => shared.tier.release_behind_writes(key, lease),
            Brought::NotStorable => lease.not_storable(),
            Brought::Nothing => drop(lease),
        }
    }
}
