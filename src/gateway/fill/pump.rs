//! The body of a fill, on its way from the source to those who read along: how long it goes on, and for whom.

use crate::cache::collapse::Lead;
use crate::cache::growing::{Growing, Kept, Pushed};
use crate::gateway::landing::Landing;
use crate::gateway::trailers;
use crate::source::SourceBody;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use std::time::Duration;

/// A fill without readers goes on if at most so many bytes are missing (or half is done).
const MISSING_BYTES_MAX: u64 = 1024 * 1024;

/// How long a fill without readers goes on whose end is not known: it may have none.
const LONELY_MAX: Duration = Duration::from_secs(10);

/// Moves a body from the source into the growing one. Where all of it was kept, the whole is stored
/// before anybody can see its end: whoever has read it finds it stored. A body that breaks off, or that
/// nobody reads far from its end, is aborted.
pub(super) async fn pump(
    lead: &Lead<Landing>,
    mut body: SourceBody,
    growing: &Growing,
    store: impl FnOnce(Bytes),
) {
    let mut received = 0u64;
    let mut kept = growing.kept();
    let length = body.size_hint().exact();
    let lonely = lonely(lead);
    tokio::pin!(lonely);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = &mut lonely, if length.is_none() => return growing.abort(),
            () = lead.abandoned(), if !worth_finishing(received, length, kept) => {
                if lead.close_if_abandoned() {
                    return growing.abort();
                }
                continue;
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
                    () = lead.abandoned(), if kept == Kept::Window => {
                        if lead.close_if_abandoned() { Pushed::Abandoned } else { Pushed::Done(kept) }
                    }
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

/// Resolves when nobody has followed for [`LONELY_MAX`]; then the flight is closed.
async fn lonely(lead: &Lead<Landing>) {
    loop {
        lead.abandoned().await;
        tokio::time::sleep(LONELY_MAX).await;
        if lead.close_if_abandoned() {
            return;
        }
    }
}

/// Whether a fill that nobody waits for is so far on that it is finished all the same: to be stored, or
/// because its end is as near as a new connection. Of a body that does not say its length, as much as may
/// be missing is awaited.
const fn worth_finishing(received: u64, length: Option<u64>, kept: Kept) -> bool {
    match (length, kept) {
        (Some(length), _) if length.saturating_sub(received) <= MISSING_BYTES_MAX => true,
        (Some(length), Kept::Whole) => received.saturating_mul(2) >= length,
        (None, Kept::Whole) => received <= MISSING_BYTES_MAX,
        (_, Kept::Window) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(
                worth_finishing(received, length, kept),
                finished,
                "{received} of {length:?}, {kept:?}"
            );
        }
    }
}
