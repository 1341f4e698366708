//! One exchange: a request, and the head of its answer or why there is none.

use super::address::Address;
use super::body::{Awaits, RequestBody, Upload};
use super::draft::{Besides, Line};
use super::ejection::{Outage, Report};
use super::error::SourceError;
use super::pool::{Client, Lease, Unanswered};
use super::retry::Progress;
use super::strictness;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most interim responses (1xx) before a final one.
const INTERIM_MAX: usize = 1000;

/// What is told of each interim response (1xx but 101).
#[derive(Clone)]
pub struct OnInterim(Arc<Told>);

type Told = dyn Fn(StatusCode, &HeaderMap) + Send + Sync;

impl OnInterim {
    /// Calls `told` for each.
    #[must_use]
    pub fn new(told: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }
}

/// How long an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// When the head must have come.
    pub(super) deadline: Instant,
    /// While content still moves, this long after it moved last.
    pub(super) timeout: Duration,
}

impl Patience {
    /// Whether at least half of the time is left at `now`: then a timeout tells something of the source.
    pub(super) fn is_enough(&self, now: Instant) -> bool {
        self.deadline.saturating_duration_since(now) * 2 >= self.timeout
    }
}

/// Why an exchange brought no head.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: SourceError,
    pub(super) progress: Progress,
    /// Whether the source had the time that it is given.
    pub(super) time: Time,
}

/// How much of its time a source had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// At least half of it.
    Enough,
    /// The rest was spent waiting for a place, on other addresses, or for the client's content: a timeout says
    /// nothing of this one.
    Short,
}

impl Failed {
    fn begun(error: SourceError) -> Self {
        Self { error, progress: Progress::Begun, time: Time::Enough }
    }

    fn of(unanswered: Unanswered) -> Self {
        let (error, progress) = match unanswered {
            Unanswered::Unconnected(error) => (SourceError::Connect(error), Progress::Unsent),
            Unanswered::Closed(error, uses) => {
                let progress = match (uses.heard(), uses.any()) {
                    (true, _) => Progress::Begun,
                    (false, true) => Progress::Worn,
                    (false, false) => Progress::Unheard,
                };
                (SourceError::Closed(error), progress)
            }
        };
        Self { error, progress, time: Time::Enough }
    }

    /// What it tells of the address.
    pub(super) fn report(&self) -> Report {
        match (&self.error, self.progress) {
            (SourceError::Timeout, _) if self.time == Time::Short => Report::Nothing,
            (SourceError::Timeout, _) => Report::Missing(Outage::Silent),
            (SourceError::Connect(_), _) | (SourceError::Closed(_), Progress::Unheard) => {
                Report::Missing(Outage::Disconnected)
            }
            // A worn connection had most likely been closed before the request came.
            (SourceError::Closed(_), Progress::Worn)
            | (
                SourceError::Busy
                | SourceError::Yielded
                | SourceError::Full
                | SourceError::Open(_)
                | SourceError::Unsayable
                | SourceError::Unfinished,
                _,
            ) => Report::Nothing,
            // It did answer, though nothing that can be used.
            (
                SourceError::Closed(_)
                | SourceError::Switched
                | SourceError::HeadTooLarge
                | SourceError::Framing
                | SourceError::Flood,
                _,
            ) => Report::Unwell,
        }
    }
}

/// What a status tells of the address: a gateway before the source that cannot reach it is as good as no
/// source, any other error is the source's own word.
pub(super) fn report(status: StatusCode) -> Report {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Report::Unwell
        }
        _ => Report::Well,
    }
}

/// Sends a request and waits for the head of its answer.
pub(super) async fn exchange(
    client: &Client,
    (address, line): (&Address, Line),
    mut request: Request<RequestBody>,
    besides: &Besides,
    upload: Option<&Upload>,
    patience: Patience,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let flood = bound_interim(&mut request, besides.interim.clone());
    let answer = client.send(address, request, line);
    tokio::pin!(answer);
    let mut deadline = patience.deadline;
    let time = if patience.is_enough(Instant::now()) { Time::Enough } else { Time::Short };
    loop {
        let waited = tokio::select! {
            waited = tokio::time::timeout_at(deadline, &mut answer) => waited,
            () = flood.notified() => return Err(Failed::begun(SourceError::Flood)),
        };
        match waited {
            Ok(Ok((response, lease))) => {
                lease.uses().count();
                let fault = match strictness::check(&response, besides.asks.as_ref()) {
                    Ok(()) if !lease.uses().is_foul() => return Ok((response, lease)),
                    // Nothing of the answer has gone out: what is known to break is no answer.
                    Ok(()) => SourceError::Framing,
                    Err(error) => error,
                };
                lease.uses().condemn();
                return Err(Failed::begun(fault));
            }
            // Its connection is closed for that: nobody can answer half a request.
            Ok(Err(_)) if upload.is_some_and(|upload| upload.awaits() == Awaits::Nobody) => {
                return Err(Failed::begun(SourceError::Unfinished));
            }
            Ok(Err(error)) => return Err(Failed::of(error)),
            // A request that is still being sent has not begun to wait for its answer.
            Err(_) => {
                let moved_at = upload.and_then(Upload::moved_at);
                let later = moved_at.map(|at| at + patience.timeout).filter(|later| *later > deadline);
                let is_sent = upload.is_none_or(|upload| upload.awaits() == Awaits::Source);
                let time = if is_sent { time } else { Time::Short };
                deadline = later.ok_or_else(|| Failed { time, ..Failed::begun(SourceError::Timeout) })?;
            }
        }
    }
}

/// Counts interim responses; who is told when there are too many.
fn bound_interim(request: &mut Request<RequestBody>, told: Option<OnInterim>) -> Arc<Notify> {
    let flood = Arc::new(Notify::new());
    let over = Arc::clone(&flood);
    let count = AtomicUsize::new(0);
    hyper::ext::on_informational(request, move |interim| {
        if count.fetch_add(1, Ordering::Relaxed) >= INTERIM_MAX {
            over.notify_one();
        } else if let Some(OnInterim(told)) = &told {
            told(interim.status(), interim.headers());
        }
    });
    flood
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_had_little_time_is_not_called_silent() {
        for (time, report) in
            [(Time::Enough, Report::Missing(Outage::Silent)), (Time::Short, Report::Nothing)]
        {
            let failed = Failed { time, ..Failed::begun(SourceError::Timeout) };
            assert_eq!(failed.report(), report, "{time:?}");
        }
    }
}
