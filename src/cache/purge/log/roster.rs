//! Who follows the log, and how far each has applied it: a line for each replica in one hash of Redis.
//!
//! With a secret only lines that have its tag count, and each has a tag of what its replica has read of the log.
//! A line ages by the clock of Redis. It counts for as long as its replica may serve memory that it
//! could not verify: one that is cut off is listed as pending until what it has is validated.

use super::own::Place;
use super::seal::Seal;
use super::seen;
use super::{Following, PURGE_BUDGET, Reading};
use crate::cache::purge::PurgeScope;
use crate::redis::LogPosition;
use crate::telemetry::metrics;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a replica writes its line where nothing moves it.
const SIGN_EVERY: Duration = Duration::from_secs(1);
/// At least so long between two lines: purges that come together are told together.
const SIGN_PAUSE: Duration = Duration::from_millis(50);
/// A replica that has not written for so long is not counted among those at work.
const AT_WORK: Duration = Duration::from_secs(5);
/// A line outlives `max_unverified` by so much.
const LINE_KEPT: Duration = Duration::from_secs(10);
/// Lines that are read; beyond, replicas are not listed.
const REPLICAS_MAX: usize = 1024;
/// Lines of replicas that are gone that are struck out at once.
const STRUCK_MAX: usize = 64;
/// What one command of it may take; nobody waits for it.
const SIGN_BUDGET: Duration = Duration::from_millis(500);

/// Which replicas have applied a purge (`GET /v1/purges/{seq}`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PurgeStatus {
    /// The number that its gateway gave it.
    pub seq: u64,
    /// Who knows of it.
    pub scope: PurgeScope,
    /// The replicas that have applied it, by the names that they give themselves at start.
    pub applied: Vec<String>,
    /// Those that have not told so yet.
    pub pending: Vec<String>,
}

/// A replica's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    name: String,
    pub(super) epoch: u64,
    pub(super) position: LogPosition,
    /// When it was written, by the clock of Redis.
    at_millis: u64,
    /// All of that, and its name: what the tags are of.
    pub(super) said: String,
    /// It vouches for what it has read behind this position.
    pub(super) after: LogPosition,
    /// The tag of that.
    pub(super) trail: String,
}

impl Peer {
    /// Reads a line. What stands behind the first three parts is there with a secret only.
    fn parse(seal: &Seal, (name, line): (String, String)) -> Option<Self> {
        let mut parts = line.split(' ');
        let epoch = parts.next()?.parse().ok()?;
        let position = parts.next()?.parse().ok()?;
        let at_millis = parts.next()?.parse().ok()?;
        let (after, tag, trail) = match (parts.next(), parts.next(), parts.next()) {
            (Some(after), Some(tag), Some(trail)) => (after.parse().ok()?, tag, trail.to_owned()),
            _ => (position, "", String::new()),
        };
        let said = said(&name, epoch, position, at_millis, after);
        let is_believed = seal.vouches_for(tag, [said.as_bytes()]) || !seal.vouches();
        is_believed.then_some(Self { name, epoch, position, at_millis, said, after, trail })
    }

    fn is_younger(&self, than: Duration, now_millis: u64) -> bool {
        u128::from(now_millis.saturating_sub(self.at_millis)) <= than.as_millis()
    }

    /// Whether it has applied what stands at `place`; `epoch` is the one in force here.
    fn has_applied(&self, place: Place, epoch: Option<u64>) -> bool {
        if self.epoch == place.epoch {
            self.position >= place.position
        } else {
            // In another epoch than the purge's it has validated everything older.
            Some(self.epoch) == epoch
        }
    }
}

/// What a line says of a replica.
fn said(name: &str, epoch: u64, last: LogPosition, at_millis: u64, after: LogPosition) -> String {
    format!("{name} {epoch} {last} {at_millis} {after}")
}

/// Writes and reads lines until it is dropped.
pub(super) async fn sign(log: Arc<Following>) {
    let mut moved = log.moved.subscribe();
    let (mut noted, mut noted_at) = (None, Instant::now());
    loop {
        let signed_at = Instant::now();
        moved.mark_unchanged();
        sign_once(&log).await;
        if noted_at.elapsed() >= SIGN_EVERY {
            note(&log, &mut noted).await;
            noted_at = Instant::now();
        }
        tokio::select! {
            () = sleep_until(signed_at + SIGN_EVERY) => {}
            // Its sender lives as long as this task.
            _ = moved.changed() => sleep_until(signed_at + SIGN_PAUSE).await,
        }
    }
}

async fn sign_once(log: &Following) {
    let Some(line) = line(log) else { return };
    let Ok(lines) = log.redis.sign_roster(&log.roster_key, (&log.name(), &line), SIGN_BUDGET).await else {
        return;
    };
    let (peers, gone) = sorted(lines, log);
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    ::metrics::gauge!(metrics::PURGE_FOLLOWERS).set(at_work(&peers, log.redis_millis()) as f64);
    log.state().peers = peers;
    if !gone.is_empty() {
        // Somebody strikes them out sooner or later.
        log.redis.strike_roster(&log.roster_key, &gone, SIGN_BUDGET).await.unwrap_or_default();
    }
}

/// Notes how far the log was read, for the next start.
async fn note(log: &Following, noted: &mut Option<Place>) {
    let seen = {
        let state = log.state();
        state.epoch.map(|epoch| Place { epoch, position: state.last })
    };
    let (Some(folder), Some(seen)) = (log.data.clone(), seen.filter(|seen| Some(*seen) != *noted)) else {
        return;
    };
    let written = tokio::task::spawn_blocking(move || seen::write(&folder, seen)).await;
    match written {
        Ok(Ok(())) => *noted = Some(seen),
        Ok(Err(error)) => tracing::debug!(%error, "how far the log of purges was read is not noted"),
        Err(_) => {}
    }
}

/// The own line; `None`: the log is not followed yet.
fn line(log: &Following) -> Option<String> {
    let at_millis = log.redis_millis();
    let (epoch, last, stretch, floor) = {
        let state = log.state();
        let stretch = state.trail.stretch(state.kept);
        // At the end of a log that was trimmed to nothing: what is older is validated.
        let ended = state.extent.filter(|_| state.reading == Reading::Following);
        let last = ended.map_or(state.last, |extent| state.last.max(state.floor.min(extent.newest)));
        (state.epoch?, last, stretch, state.floor)
    };
    if !log.seal.vouches() {
        return Some(format!("{epoch} {last} {at_millis}"));
    }
    let (after, sum) = stretch.map_or((last.max(floor), 0), |stretch| (stretch.after, stretch.sum));
    let said = said(&log.name(), epoch, last, at_millis, after);
    let tag = log.seal.of_line([said.as_bytes()]);
    let trail = log.seal.of_line([said.as_bytes(), &sum.to_be_bytes()]);
    Some(format!("{epoch} {last} {at_millis} {after} {tag} {trail}"))
}

/// Those whose lines count, by name, and names of those who are gone for long.
fn sorted(lines: Vec<(String, String)>, log: &Following) -> (Vec<Peer>, Vec<String>) {
    let (now, kept) = (log.redis_millis(), log.max_unverified + LINE_KEPT);
    let peers = lines.into_iter().filter_map(|line| Peer::parse(&log.seal, line));
    let (mut live, gone): (Vec<_>, Vec<_>) = peers.partition(|peer| peer.is_younger(kept, now));
    live.sort_by(|one, other| one.name.cmp(&other.name));
    live.truncate(REPLICAS_MAX);
    let gone = gone.into_iter().filter(|peer| !peer.is_younger(kept * 2, now)).take(STRUCK_MAX);
    (live, gone.map(|peer| peer.name).collect())
}

fn at_work(peers: &[Peer], now_millis: u64) -> usize {
    peers.iter().filter(|peer| peer.is_younger(AT_WORK, now_millis)).count()
}

impl Following {
    /// How this run of this gateway is named among the replicas.
    pub(super) fn name(&self) -> String {
        format!("{:016x}", self.gateway)
    }

    /// The other replicas that are at work.
    pub(super) fn at_work(&self, lines: Vec<(String, String)>) -> Vec<Peer> {
        let (now, own) = (self.redis_millis(), self.name());
        let others = sorted(lines, self).0.into_iter().filter(|peer| peer.name != own);
        others.filter(|peer| peer.is_younger(AT_WORK, now)).collect()
    }

    /// Whether, as far as is known, this is the one at work of the lowest name: what one of all does is its affair.
    pub(super) fn is_first(&self) -> bool {
        let (state, now) = (self.state(), self.redis_millis());
        let first = state.peers.iter().find(|peer| peer.is_younger(AT_WORK, now));
        first.is_some_and(|first| first.name == self.name())
    }

    /// How many replicas are at work, this one included, as far as is known.
    pub(super) fn replicas(&self) -> usize {
        at_work(&self.state().peers, self.redis_millis()).max(1)
    }

    /// Who has applied an own purge; `None`: it is not known here.
    pub(super) async fn status(&self, number: u64) -> Option<PurgeStatus> {
        self.state().own.get(number)?;
        let lines = self.redis.roster(&self.roster_key, PURGE_BUDGET).await;
        let (known, own) = (lines.map(|lines| sorted(lines, self).0), self.name());
        let state = self.state();
        // Asked for again: it may have been read back meanwhile.
        let place = state.own.get(number)?.place;
        // Without Redis those who were known last.
        let peers = known.unwrap_or_else(|_| state.peers.clone());
        let others = peers.iter().filter(|peer| peer.name != own);
        let (applied, pending): (Vec<&Peer>, Vec<&Peer>) =
            others.partition(|peer| place.is_some_and(|place| peer.has_applied(place, state.epoch)));
        let names = |peers: Vec<&Peer>| peers.into_iter().map(|peer| peer.name.clone()).collect::<Vec<_>>();
        let mut applied = names(applied);
        applied.insert(0, own);
        let is_shared = place.is_some() || state.outbox.is_sent(number);
        let scope = if is_shared { PurgeScope::Shared } else { PurgeScope::Local };
        Some(PurgeStatus { seq: number, scope, applied, pending: names(pending) })
    }

    /// Strikes the own line out, so that nobody waits for this gateway any more.
    pub(super) async fn sign_off(&self) {
        let struck = self.redis.strike_roster(&self.roster_key, &[self.name()], PURGE_BUDGET).await;
        // Without Redis it expires by itself.
        struck.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secret: Option<&str>) -> Seal {
        crate::cache::purge::log::seal::tests::seal("n", secret)
    }

    fn at(millis: u64) -> LogPosition {
        LogPosition { millis, sequence: 0 }
    }

    #[test]
    fn who_has_applied_what() {
        let place = Place { epoch: 1, position: at(10) };
        for (epoch, position, in_force, applied) in
            [(1, 9, 1, false), (1, 10, 1, true), (1, 11, 2, true), (2, 0, 2, true), (3, 99, 2, false)]
        {
            let line = format!("{epoch} {} 5", at(position));
            let peer = Peer::parse(&seal(None), ("a".into(), line)).unwrap();
            assert_eq!(peer.has_applied(place, Some(in_force)), applied, "{epoch} {position} {in_force}");
        }
        for line in ["", "1", "1 2-0", "x 2-0 5", "1 2 5"] {
            assert_eq!(Peer::parse(&seal(None), ("a".into(), line.into())), None, "{line}");
        }
    }

    #[test]
    fn with_a_secret_only_its_lines_count() {
        let (ours, plain) = (seal(Some("s")), seal(None));
        let tag = ours.of_line([said("a", 1, at(2), 5, at(1)).as_bytes()]);
        let line = format!("1 2-0 5 1-0 {tag} x");
        let parsed = |seal: &Seal, name: &str, line: &str| Peer::parse(seal, (name.into(), line.into()));
        assert!(parsed(&ours, "a", &line).is_some());
        assert!(parsed(&plain, "a", &line).is_some(), "a replica without it reads what it always did");
        for (name, line) in [
            ("b", line.as_str()),
            ("a", &line.replace(" 5 ", " 6 ")),
            ("a", "1 2-0 5"),
            ("a", "1 2-0 5 1-0  "),
        ] {
            assert_eq!(parsed(&ours, name, line), None, "{name} {line}");
        }
    }

    #[test]
    fn lines_age_by_the_clock_of_redis() {
        let peer = |at: u64| Peer::parse(&seal(None), ("a".into(), format!("1 2-0 {at}"))).unwrap();
        let now = 100_000;
        let work = u64::try_from(AT_WORK.as_millis()).unwrap();
        assert_eq!(at_work(&[peer(now), peer(now + 9), peer(now - work), peer(now - work - 1)], now), 3);
    }
}
