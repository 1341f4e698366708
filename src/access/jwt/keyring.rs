//! The signers' keys that are held, the one owner of them: fetched when they are needed first, when they have
//! become old, and for a signer that is not known, at a bounded rate.

use super::algorithm::Algorithm;
use super::claims;
use super::fetch::JwksOrigin;
use super::key_set::KeySet;
use super::token::Unverified;
use crate::access::Denial;
use crate::access::settings::Jwt;
use crate::clock::Timestamp;
use crate::telemetry::metrics as names;
use arc_swap::ArcSwapOption;
use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Between two fetches, whoever asks: tokens of unknown signers cost the one who has the keys no more than this.
const FETCH_EVERY: Duration = Duration::from_secs(10);

/// Keys are used for so long when newer ones cannot be fetched.
const KEPT_MAX: Duration = Duration::from_hours(24);

/// Why a token names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::access) enum Unjudged {
    Denied(Denial),
    /// The keys that are held do not tell.
    KeysNeeded,
}

/// The keys of one origin.
pub(in crate::access) struct Keyring {
    origin: JwksOrigin,
    held: ArcSwapOption<Held>,
    /// When a fetch last began; locked while one is under way.
    fetched: Mutex<Option<Timestamp>>,
}

struct Held {
    keys: KeySet,
    since: Timestamp,
}

impl Keyring {
    /// Begins to fetch, unless the keys came with the configuration.
    pub(in crate::access) fn new(jwt: &Jwt, now: Timestamp) -> Arc<Self> {
        let held = match &jwt.jwks {
            JwksOrigin::File(_, keys) => Some(Arc::new(Held { keys: keys.clone(), since: now })),
            JwksOrigin::Url(..) => None,
        };
        let begins = held.is_none();
        let fetched = Mutex::new(None);
        let keyring = Arc::new(Self { origin: jwt.jwks.clone(), held: ArcSwapOption::new(held), fetched });
        if begins {
            keyring.begin(now);
        }
        keyring
    }

    /// Whether the keys are those of this configuration. A file that held others then is read anew.
    pub(in crate::access) fn is_of(&self, jwt: &Jwt) -> bool {
        self.origin == jwt.jwks
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// [`Unjudged`]
    pub(in crate::access) fn subject(
        self: &Arc<Self>,
        token: &[u8],
        jwt: &Jwt,
        now: Timestamp,
    ) -> Result<String, Unjudged> {
        let token = Unverified::parse(token).map_err(Unjudged::Denied)?;
        let algorithm = Algorithm::named(&token.header.alg).filter(|one| jwt.algorithms.contains(one));
        let algorithm = algorithm.ok_or(Unjudged::Denied(Denial::Algorithm))?;
        let held = self.held(now).ok_or(Unjudged::KeysNeeded)?;
        if now.since(held.since) > jwt.refresh {
            self.begin(now);
        }
        let candidates = held.keys.candidates(token.header.kid.as_deref(), algorithm);
        if candidates.is_empty() {
            return Err(Unjudged::KeysNeeded);
        }
        let verifies =
            |key: &&super::algorithm::PublicKey| algorithm.verifies(key, token.message, &token.signature);
        if !candidates.iter().any(verifies) {
            return Err(Unjudged::Denied(Denial::Signature));
        }
        let claimed = token.payload().map_err(Unjudged::Denied)?;
        claims::subject(&claimed, jwt, now).map_err(Unjudged::Denied)
    }

    /// Whether any key is held that may still be used.
    pub(in crate::access) fn has_keys(&self, now: Timestamp) -> bool {
        self.held(now).is_some()
    }

    fn held(&self, now: Timestamp) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| now.since(held.since) <= KEPT_MAX)
    }

    /// Has the keys fetched, unless that has just been done; waits for a fetch that is under way.
    pub(in crate::access) async fn renewed(self: &Arc<Self>, now: Timestamp) {
        if self.fetched.try_lock().is_ok_and(|fetched| !is_due(*fetched, now)) {
            return;
        }
        let own = Arc::clone(self);
        // In a task of its own: a client that leaves takes nothing from the next one.
        let fetching = tokio::spawn(async move {
            let mut fetched = own.fetched.lock().await;
            own.fetch(&mut fetched, now).await;
        });
        if let Err(error) = fetching.await {
            tracing::error!(%error, "fetching the keys of tokens has died");
        }
    }

    /// The same, without waiting.
    fn begin(self: &Arc<Self>, now: Timestamp) {
        let own = Arc::clone(self);
        if self.fetched.try_lock().is_ok_and(|fetched| is_due(*fetched, now)) {
            tokio::spawn(async move {
                let mut fetched = own.fetched.lock().await;
                own.fetch(&mut fetched, now).await;
            });
        }
    }

    async fn fetch(&self, fetched: &mut Option<Timestamp>, now: Timestamp) {
        if !is_due(*fetched, now) {
            return;
        }
        *fetched = Some(now);
        let outcome = self.origin.fetch().await;
        let result = if outcome.is_ok() { "fetched" } else { "failed" };
        metrics::counter!(names::ACCESS_KEY_FETCHES, "result" => result).increment(1);
        match outcome {
            Ok(keys) => self.held.store(Some(Arc::new(Held { keys, since: now }))),
            Err(error) => {
                let cause = error.source().map(ToString::to_string);
                tracing::warn!(
                    origin = %self.origin,
                    %error,
                    cause,
                    "the keys of tokens cannot be fetched: those from before are used for at most 24 h"
                );
            }
        }
    }
}

fn is_due(fetched: Option<Timestamp>, now: Timestamp) -> bool {
    fetched.is_none_or(|at| now.since(at) >= FETCH_EVERY)
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.origin)
    }
}
