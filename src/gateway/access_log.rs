//! The access log: one JSON object a line, of a closed set of fields, for the requests that its rule takes.
//!
//! Nothing that may be a secret is in a line: no path, query, field or cookie. A request hands its line over
//! when its body is gone, through a bounded queue; where that is full the line is dropped and counted, so that
//! no answer waits for a disk.

mod refusals;
mod writer;

pub(super) use refusals::Refusals;

use super::body::Body;
use super::cache_status::{CacheStatus, LABELS};
use crate::clock::Timestamp;
use crate::telemetry::metrics as names;
use http::{HeaderMap, Method, StatusCode};
use metrics::{Counter, counter};
use serde::Serialize;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Lines that wait to be written; further ones are dropped.
const QUEUE_LINES: usize = 4096;
/// How long the last lines may take at the end.
const FINISH: Duration = Duration::from_secs(2);

/// Which requests are logged, and where (`[server.access_log]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Where the lines go.
    pub to: LogTarget,
    /// One request of so many, chosen at random; 0: none by chance.
    pub one_in: u32,
    /// Which answers are logged besides.
    pub errors: LoggedErrors,
}

/// Where the lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error, between the lines of the log.
    StandardError,
    /// A file, to which is appended.
    File(PathBuf),
}

/// Which answers are logged whatever the sampling says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedErrors {
    /// None.
    None,
    /// 5xx.
    Server,
    /// 4xx and 5xx.
    All,
}

impl AccessLogSettings {
    const fn is_on(&self) -> bool {
        self.one_in > 0 || !matches!(self.errors, LoggedErrors::None)
    }

    /// Whether an answer is logged; `drawn` is any number.
    fn takes(&self, status: StatusCode, drawn: u32) -> bool {
        let as_error = match self.errors {
            LoggedErrors::None => false,
            LoggedErrors::Server => status.is_server_error(),
            LoggedErrors::All => status.is_server_error() || status.is_client_error(),
        };
        as_error || drawn.checked_rem(self.one_in) == Some(0)
    }
}

/// What of a request stands in its line.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) began: Timestamp,
    pub(super) since: Instant,
    /// `None`: it was refused before it said so.
    pub(super) method: Option<Method>,
    pub(super) client: IpAddr,
}

/// A line; its fields are all there are.
#[derive(Debug, Serialize)]
struct Line {
    time: String,
    route: Option<String>,
    method: Option<String>,
    status: u16,
    cache_status: &'static str,
    /// Of the body, as far as it was sent.
    bytes: u64,
    /// Until the body was sent, or given up.
    seconds: f64,
    client: IpAddr,
    change: Option<String>,
}

/// A request whose line is written when its body is gone.
#[derive(Debug)]
pub(super) struct Pending {
    asked: Asked,
    route: Option<Arc<str>>,
    status: StatusCode,
    cache_status: CacheStatus,
    change: Option<String>,
    bytes: u64,
    log: Arc<Queue>,
}

impl Pending {
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let line = Line {
            time: humantime::format_rfc3339_millis(self.asked.began.to_system_time()).to_string(),
            route: self.route.as_deref().map(str::to_owned),
            method: self.asked.method.as_ref().map(Method::to_string),
            status: self.status.as_u16(),
            cache_status: LABELS.get(self.cache_status.index()).copied().unwrap_or_default(),
            bytes: self.bytes,
            seconds: self.asked.since.elapsed().as_secs_f64(),
            client: self.asked.client,
            change: self.change.take(),
        };
        if self.log.lines.try_send(line).is_err() {
            self.log.dropped.increment(1);
        }
    }
}

struct Queue {
    lines: mpsc::Sender<Line>,
    dropped: Counter,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

/// The access log of a gateway. Its writer ends once nobody can log any more, or when it is told to.
#[derive(Debug)]
pub(super) struct AccessLog {
    settings: AccessLogSettings,
    queue: Arc<Queue>,
    writing: Mutex<Option<Writing>>,
}

impl AccessLog {
    /// Starts the writer on the current runtime; `None` where nothing is logged.
    pub(super) fn new(settings: &AccessLogSettings) -> Option<Arc<Self>> {
        // The series is there from the start, also while the log is off.
        let dropped = counter!(names::ACCESS_LOG_DROPPED);
        if !settings.is_on() {
            return None;
        }
        let (lines, unwritten) = mpsc::channel(QUEUE_LINES);
        let finish = CancellationToken::new();
        let writer = writer::Writer::new(settings.to.clone(), dropped.clone());
        let task = tokio::spawn(writer.run(unwritten, finish.clone()));
        let writing = Writing { finish, task };
        Some(Arc::new(Self {
            settings: settings.clone(),
            queue: Arc::new(Queue { lines, dropped }),
            writing: Mutex::new(Some(writing)),
        }))
    }

    /// Writes what still waits, and ends.
    pub(super) async fn finish(&self) {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Writing { finish, task }) = writing else { return };
        finish.cancel();
        if tokio::time::timeout(FINISH, task).await.is_err() {
            tracing::warn!("the last lines of the access log are not written");
        }
    }

    /// The line of a request, where its answer is logged.
    pub(super) fn pending(
        &self,
        asked: &Asked,
        route: Option<&Arc<str>>,
        (status, cache_status): (StatusCode, CacheStatus),
        fields: &HeaderMap,
    ) -> Option<Pending> {
        let change = || fields.get(super::write::TIDEGATE_CHANGE)?.to_str().ok().map(str::to_owned);
        self.settings.takes(status, fastrand::u32(..)).then(|| Pending {
            asked: asked.clone(),
            route: route.cloned(),
            status,
            cache_status,
            change: change(),
            bytes: 0,
            log: Arc::clone(&self.queue),
        })
    }
}

/// A body whose bytes are counted for the line that follows it.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(super) body: Body,
    pub(super) pending: Pending,
}

/// The writer at work.
#[derive(Debug)]
struct Writing {
    finish: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_takes_errors_and_one_in_so_many() {
        for (one_in, errors, status, drawn, taken) in [
            (0, LoggedErrors::None, 500, 0, false),
            (1, LoggedErrors::None, 200, 7, true),
            (100, LoggedErrors::None, 200, 300, true),
            (100, LoggedErrors::None, 200, 301, false),
            (0, LoggedErrors::Server, 503, 1, true),
            (0, LoggedErrors::Server, 404, 1, false),
            (0, LoggedErrors::All, 404, 1, true),
            (0, LoggedErrors::All, 304, 1, false),
        ] {
            let settings = AccessLogSettings { to: LogTarget::StandardError, one_in, errors };
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(settings.takes(status, drawn), taken, "{settings:?} {status} {drawn}");
        }
    }

    /// A full queue drops lines and counts them; nothing waits.
    #[tokio::test]
    async fn i10_beyond_the_queue_lines_are_dropped_and_counted() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let settings =
            AccessLogSettings { to: LogTarget::StandardError, one_in: 1, errors: LoggedErrors::None };
        let log = ::metrics::with_local_recorder(&recorder, || AccessLog::new(&settings)).unwrap();
        let asked = Asked {
            began: Timestamp::from_millis(1),
            since: Instant::now(),
            method: Some(Method::GET),
            client: [127, 0, 0, 1].into(),
        };
        for _ in 0..QUEUE_LINES + 3 {
            drop(log.pending(&asked, None, (StatusCode::OK, CacheStatus::Own), &HeaderMap::new()));
        }
        let text = recorder.handle().render();
        assert!(text.contains("tidegate_access_log_dropped_total 3"), "{text}");
    }
}
