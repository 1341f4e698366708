//! The body of a fill, on its way from the source to those who read along: how long it goes on, and for whom.

use crate::cache::collapse::Lead;
use crate::cache::growing::{Growing, Kept, Pushed, Reader};
use crate::gateway::fill::BeganBy;
use crate::gateway::landing::Landing;
use crate::gateway::trailers;
use crate::source::SourceBody;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::Instant;

/// A fill without readers goes on if at most so many bytes are missing (or half is done).
const MISSING_BYTES_MAX: u64 = 1024 * 1024;

/// How long a fill without readers goes on whose end is not known: it may have none.
const LONELY_MAX: Duration = Duration::from_secs(10);

/// How long a fill without readers goes on at all: it may trickle, and it holds a place toward the source.
const UNREAD_MAX: Duration = Duration::from_mins(1);

/// Moves a body from the source into the growing one. Where all of it was kept, the whole is stored
/// before anybody can see its end: whoever has read it finds it stored. A body that breaks off, or that
/// nobody reads far from its end, is aborted. `start` stands for those who were told of it and do not read
/// yet: the beginning is kept for them as for a reader.
pub(super) async fn pump(
    lead: &Lead<Landing>,
    body: SourceBody,
    (growing, start): (&Growing, Option<Reader>),
    began_by: BeganBy,
    store: impl FnOnce(Bytes) -> Option<Bytes>,
) {
    let all_read = async {
        lead.decided().await;
        drop(start);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = pumped(lead, body, growing, began_by, store) => {}
        () = all_read => {}
    }
}

async fn pumped(
    lead: &Lead<Landing>,
    mut body: SourceBody,
    growing: &Growing,
    began_by: BeganBy,
    store: impl FnOnce(Bytes) -> Option<Bytes>,
) {
    let mut received = 0u64;
    let mut kept = growing.kept();
    let length = body.size_hint().exact();
    let lonely = lonely(lead, lonely_max(began_by, length));
    tokio::pin!(lonely);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = &mut lonely => return growing.abort(),
            () = lead.deserted(), if !worth_finishing(began_by, received, length, kept) => {
                return growing.abort();
            }
        };
        match frame {
            None => return growing.complete(store),
            Some(Err(error)) => {
                tracing::warn!(target: "tidegate::source", error = %error, "the answer broke off");
                lead.close();
                return growing.abort();
            }
            Some(Ok(frame)) => {
                let data = match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => {
                        let all = frame.into_trailers().ok();
                        all.and_then(trailers::permitted).into_iter().for_each(|some| growing.trail(some));
                        continue;
                    }
                };
                received += data.len() as u64;
                if length == Some(received) {
                    return growing.complete_with(data, store);
                }
                let pushed = tokio::select! {
                    pushed = growing.push(data) => pushed,
                    () = lead.deserted(), if kept == Kept::Window => Pushed::Abandoned,
                };
                match pushed {
                    Pushed::Done(now) if now == kept => {}
                    // It has outgrown every tier: whoever comes now leads a flight of their own.
                    Pushed::Done(now) => {
                        lead.close();
                        kept = now;
                    }
                    // Nobody reads it, and it is not stored: whoever is about to finds it aborted.
                    Pushed::Abandoned => {
                        lead.close();
                        return growing.abort();
                    }
                }
            }
        }
    }
}

/// Resolves when nobody follows, and nobody did `most` ago; then the flight is closed.
async fn lonely(lead: &Lead<Landing>, most: Duration) {
    let began = Instant::now();
    loop {
        lead.abandoned().await;
        // Somebody may come and go meanwhile.
        let until = lead.left_at().max(began) + most;
        tokio::time::sleep_until(until).await;
        if lead.left_at() + most <= until && lead.leave_if_abandoned() {
            return;
        }
    }
}

/// How long a fill may be without readers. What a hit began never had any: its end is what it is for.
const fn lonely_max(began_by: BeganBy, length: Option<u64>) -> Duration {
    match (began_by, length) {
        (BeganBy::Request, None) => LONELY_MAX,
        (BeganBy::Request, Some(_)) | (BeganBy::Hit, _) => UNREAD_MAX,
    }
}

/// Whether a fill that nobody waits for is so far on that it is finished all the same: to be stored, or
/// because its end is as near as a new connection. Of a body that does not say its length, as much as may
/// be missing is awaited. What a hit began is finished where it can be stored.
const fn worth_finishing(began_by: BeganBy, received: u64, length: Option<u64>, kept: Kept) -> bool {
    match (began_by, length, kept) {
        (BeganBy::Hit, _, Kept::Whole) => true,
        (_, Some(length), _) if length.saturating_sub(received) <= MISSING_BYTES_MAX => true,
        (_, Some(length), Kept::Whole) => received.saturating_mul(2) >= length,
        (_, None, Kept::Whole) => received <= MISSING_BYTES_MAX,
        (_, _, Kept::Window) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::collapse::{Flights, Lane, Role};
    use crate::cache::{CacheKey, Fence};
    use crate::target::Target;

    #[test]
    fn fills_without_readers_are_finished_when_little_is_missing_or_half_is_done() {
        const MIB: u64 = 1024 * 1024;
        for (received, length, kept, finished) in [
            (0, Some(MIB), Kept::Whole, true),
            (0, Some(MIB + 1), Kept::Whole, false),
            (4 * MIB, Some(8 * MIB), Kept::Whole, true),
            (3 * MIB, Some(8 * MIB), Kept::Whole, false),
            (7 * MIB, Some(8 * MIB), Kept::Whole, true),
            (MIB, None, Kept::Whole, true),
            (MIB + 1, None, Kept::Whole, false),
            (6 * MIB, Some(8 * MIB), Kept::Window, false),
            (7 * MIB, Some(8 * MIB), Kept::Window, true),
            (0, None, Kept::Window, false),
        ] {
            let finishes = |by| worth_finishing(by, received, length, kept);
            assert_eq!(finishes(BeganBy::Request), finished, "{received} of {length:?}, {kept:?}");
            let stored = finished || kept == Kept::Whole;
            assert_eq!(finishes(BeganBy::Hit), stored, "for a hit: {received} of {length:?}, {kept:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_came_and_went_meanwhile_counts() {
        let key = CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None);
        let flights = Flights::<Landing>::new();
        let Role::Lead(lead) = flights.join(&key, Lane::Any, Fence(0), |_| true) else {
            panic!("nobody leads")
        };
        let began = Instant::now();
        let readers = async {
            let first = lead.follow();
            tokio::time::sleep(LONELY_MAX).await;
            drop(first);
            tokio::time::sleep(LONELY_MAX / 2).await;
            drop(lead.follow());
        };
        tokio::join!(lonely(&lead, LONELY_MAX), readers);
        assert_eq!(began.elapsed(), LONELY_MAX * 5 / 2);
        assert!(flights.is_empty());
    }

    #[test]
    fn i10_no_fill_goes_on_without_readers_for_ever() {
        assert_eq!(lonely_max(BeganBy::Request, None), LONELY_MAX, "it may have no end");
        for (by, length) in [(BeganBy::Request, Some(1)), (BeganBy::Hit, None), (BeganBy::Hit, Some(1))] {
            assert_eq!(lonely_max(by, length), UNREAD_MAX, "{by:?} {length:?}");
        }
    }
}
