//! One exchange: a request, and the head of its answer or why there is none.

use super::address::Address;
use super::body::{Awaits, RequestBody, Upload};
use super::connector::{BoxError, Uses};
use super::draft::{Besides, Line};
use super::ejection::{Outage, Report};
use super::error::SourceError;
use super::pool::{Client, Lease, Unanswered};
use super::retry::Progress;
use super::strictness;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
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

/// Until when an answer is waited for. A request that is still being sent has not begun to wait for it.
#[derive(Debug)]
pub(super) struct Until<'a> {
    at: Instant,
    timeout: Duration,
    upload: Option<&'a Upload>,
}

impl Until<'_> {
    /// So long after now, whatever is sent.
    pub(super) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout, upload: None }
    }

    pub(super) const fn at(&self) -> Instant {
        self.at
    }

    /// It is over: whether it is put off, because content has moved since.
    pub(super) fn is_put_off(&mut self) -> bool {
        let later = self.upload.and_then(Upload::moved_at).map(|at| at + self.timeout);
        let later = later.filter(|later| *later > self.at);
        self.at = later.unwrap_or(self.at);
        later.is_some()
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

    fn unconnected(error: BoxError) -> Self {
        Self { error: SourceError::Connect(error), progress: Progress::Unsent, time: Time::Enough }
    }

    fn closed(error: hyper::Error, uses: &Uses) -> Self {
        let progress = match (uses.heard(), uses.any()) {
            (true, _) => Progress::Begun,
            (false, true) => Progress::Worn,
            (false, false) => Progress::Unheard,
        };
        Self { error: SourceError::Closed(error), progress, time: Time::Enough }
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
    let time = if patience.is_enough(Instant::now()) { Time::Enough } else { Time::Short };
    let until = Until { at: patience.deadline, timeout: patience.timeout, upload };
    let mut answer = pin!(client.send(address, request, line, until));
    let waited = poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(waited) => Poll::Ready(Some(waited)),
        Poll::Pending => flood.poll(context).map(|()| None),
    });
    match waited.await.ok_or_else(|| Failed::begun(SourceError::Flood))? {
        Ok((response, lease)) => {
            lease.uses().count();
            let fault = match strictness::check(&response, besides.asks.as_ref()) {
                Ok(()) if !lease.uses().is_foul() => return Ok((response, lease)),
                // Nothing of the answer has gone out: what is known to break is no answer.
                Ok(()) => SourceError::Framing,
                Err(error) => error,
            };
            lease.uses().condemn();
            Err(Failed::begun(fault))
        }
        Err(Unanswered::Late) => {
            let is_sent = upload.is_none_or(|upload| upload.awaits() == Awaits::Source);
            let time = if is_sent { time } else { Time::Short };
            Err(Failed { time, ..Failed::begun(SourceError::Timeout) })
        }
        // Its connection is closed for that: nobody can answer half a request.
        Err(_) if upload.is_some_and(|upload| upload.awaits() == Awaits::Nobody) => {
            Err(Failed::begun(SourceError::Unfinished))
        }
        Err(Unanswered::Unconnected(error)) => Err(Failed::unconnected(error)),
        Err(Unanswered::Closed(error, uses)) => Err(Failed::closed(error, &uses)),
    }
}

/// How many interim responses have come.
#[derive(Debug, Default)]
struct Flood {
    count: AtomicUsize,
    /// Who waits for an answer behind them.
    waiting: AtomicWaker,
}

impl Flood {
    /// Counts one; whether there are too many.
    fn rises(&self) -> bool {
        let is_over = self.count.fetch_add(1, Ordering::Relaxed) >= INTERIM_MAX;
        if is_over {
            self.waiting.wake();
        }
        is_over
    }

    /// Resolves when there are too many.
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        // Registered before the look, so that nothing is missed.
        self.waiting.register(context.waker());
        if self.count.load(Ordering::Relaxed) > INTERIM_MAX { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Counts interim responses, and tells of those that are not too many.
fn bound_interim(request: &mut Request<RequestBody>, told: Option<OnInterim>) -> Arc<Flood> {
    let flood = Arc::<Flood>::default();
    let counted = Arc::clone(&flood);
    hyper::ext::on_informational(request, move |interim| {
        if let (false, Some(OnInterim(told))) = (counted.rises(), &told) {
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
