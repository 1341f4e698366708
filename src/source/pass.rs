//! A request on its way: it has a place toward the source, and is tried until there is a head, or nothing
//! more to try.

use super::Source;
use super::address::Load;
use super::addresses::{Grace, Visit, Visited};
use super::body::{self, RequestBody, SourceBody, Upload};
use super::draft::{Besides, Draft, Line};
use super::ejection::{Report, Set, Then};
use super::error::SourceError;
use super::exchange::{self, Failed, Patience};
use super::limit::{Heard, Sample};
use super::places::Place;
use super::pool::Lease;
use super::retry::{self, Kind, Next, Progress, Spending};
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A place toward a source, and how long its request may take. Dropped, it gives the place back.
#[derive(Debug)]
pub struct Pass<'a> {
    source: &'a Source,
    place: Place,
    patience: Patience,
}

/// The head of an answer, the connection on which the rest comes, and what that is to its address.
struct Answered {
    response: Response<Incoming>,
    lease: Lease,
    load: Load,
}

/// What was tried for one request.
struct Tries<'a> {
    addresses: Set,
    retries: u32,
    /// On which connection it goes next.
    line: Line,
    /// What the retry under way holds of the budget.
    spending: Option<Spending<'a>>,
}

impl<'a> Pass<'a> {
    pub(super) const fn new(source: &'a Source, place: Place, patience: Patience) -> Self {
        Self { source, place, patience }
    }

    /// Sends a request and waits for the head of the answer; while content still moves toward the source the
    /// time begins anew. The request's URI is a path and query ([`Source::uri`]). A safe request whose pooled
    /// connection closes before any byte of an answer is sent once more, on a new one (RFC 9110 9.2.2,
    /// RFC 9112 9.3.1); beyond that `retry` says what is sent again.
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn send(
        self,
        request: Request<RequestBody>,
        besides: Besides,
        upload: Option<&Upload>,
    ) -> Result<Response<SourceBody>, SourceError> {
        let Self { source, place, patience } = self;
        let (sent_at, in_flight) = (Instant::now(), source.places.active());
        let outcome = tried(source, &Draft::new(request, besides), upload, patience).await;
        let now = Instant::now();
        // How long an upload takes is its client's affair.
        if let Some(heard) = heard(&outcome, now - sent_at).filter(|_| upload.is_none())
            && patience.is_enough(sent_at)
        {
            source.places.learn(Sample { sent_at, in_flight, heard }, now);
        }
        let Answered { response, lease, load } = outcome?;
        source.counted.head_seconds.record(now - sent_at);
        source.usual.observe(now - sent_at);
        let idle = body::idle_of(response.headers(), source.settings.body_idle);
        let early_ends = Arc::clone(&source.counted.early_ends);
        Ok(response.map(|incoming| SourceBody::new((incoming, lease), idle, early_ends, (place, load))))
    }
}

/// What an outcome tells of how many requests the source can take; `None` where it tells nothing.
fn heard(outcome: &Result<Answered, SourceError>, took: Duration) -> Option<Heard> {
    match outcome {
        Ok(Answered { response, .. }) => Some(match exchange::report(response.status()) {
            Report::Well => Heard::Head(took),
            Report::Unwell | Report::Missing(_) | Report::Overdue | Report::Nothing => Heard::Failure,
        }),
        Err(SourceError::Timeout | SourceError::Connect(_) | SourceError::Closed(_)) => Some(Heard::Failure),
        Err(_) => None,
    }
}

/// Tries until there is a head, or nothing more to try.
async fn tried(
    source: &Source,
    draft: &Draft,
    upload: Option<&Upload>,
    patience: Patience,
) -> Result<Answered, SourceError> {
    let besides = draft.besides();
    let visited = besides.visited.as_ref();
    let addresses = visited.map(Visited::addresses).unwrap_or_default();
    let mut tries = Tries { addresses, retries: 0, line: draft.line(), spending: None };
    // As for a timeout: at least half of its time tells something of the source.
    let silent_after = patience.timeout / 2;
    let grace = Grace { overdue_after: source.overdue_after().min(silent_after), silent_after };
    let mut last = None;
    loop {
        let visit = match source.addresses.visit(draft.risk(), tries.addresses, (grace, upload)) {
            Ok(visit) => visit.ok_or(SourceError::Unsayable)?,
            // What was tried says more than that the breaker has opened over it.
            Err(outage) => return Err(last.unwrap_or_else(|| source.refused(outage))),
        };
        let request = draft.request(&visit.address, &source.settings.host);
        let request = request.ok_or(SourceError::Unsayable)?;
        tries.addresses = tries.addresses.with(visit.number);
        if let Some(visited) = visited {
            visited.add(visit.number);
        }
        let way = (&*visit.address, line(source, draft, &tries, &visit));
        match exchange::exchange(&source.client, way, request, besides, upload, patience).await {
            Ok((response, lease)) => {
                let load = visit.ended(exchange::report(response.status()), Then::Over);
                return Ok(Answered { response, lease, load });
            }
            Err(failed) => {
                if failed.progress == Progress::Worn {
                    visit.address.wore_out(source.clock.now().plus(source.settings.idle_timeout));
                    tries.line = Line::Own;
                }
                let goes_on = !visit.decides_for_all() && goes_on(source, &mut tries, draft, &failed);
                let then = if goes_on { Then::Again } else { Then::Over };
                drop(visit.ended(failed.report(), then));
                if !goes_on {
                    return Err(failed.error);
                }
                last = Some(failed.error);
            }
        }
    }
}

/// On which connection a request goes. Not on a pooled one after a pooled one was worn, where the source has
/// just closed others and this request could not be sent again, or to probe: whether a new connection can
/// be made is part of the question.
fn line(source: &Source, draft: &Draft, tries: &Tries<'_>, visit: &Visit<'_>) -> Line {
    let is_risky = draft.kind() != Kind::Safe && visit.address.is_worn(source.clock.now());
    if visit.is_probe() || is_risky { Line::Own } else { tries.line }
}

/// Whether a request is sent again.
fn goes_on<'a>(source: &'a Source, tries: &mut Tries<'a>, draft: &Draft, failed: &Failed) -> bool {
    // What the last retry held is free for the next.
    tries.spending = None;
    let elsewhere = source.addresses.elsewhere(tries.addresses);
    match retry::next(failed.progress, draft.kind(), tries.retries, elsewhere) {
        Next::Never => return false,
        Next::Again => {}
        Next::AgainOnBudget => {
            tries.spending = source.budget.take(source.places.active());
            if tries.spending.is_none() {
                source.counted.over_budget.increment(1);
                return false;
            }
        }
    }
    source.counted.again.increment(1);
    tries.retries += 1;
    true
}
