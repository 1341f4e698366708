//! `/v1/status` and `/v1/events`: the figures once, or as they move (server-sent events).

use super::input::{Nothing, Parameters};
use super::problem::Problem;
use super::serve::Life;
use super::watch::{Status, Told, WATCHERS_MAX, Watch};
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::{Extension, Json};
use futures_util::stream::{self, Stream};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// The figures as they are now.
#[utoipa::path(
    get, path = "/v1/status", tag = "page", operation_id = "status",
    responses((status = 200, body = Status, example = json!({
        "at": 1_767_225_600_000_u64, "version": "0.1.0",
        "readiness": {
            "status": "ready", "parts": { "gateway": "ready", "journal": "ready", "shared_tier": "not-configured" },
            "config": { "digest": "9f86d081884c7d65..", "loaded_at": 1_767_225_000_000_u64, "last_reload": null }
        },
        "figures": {
            "routes": { "items": { "requests": 10.0, "spared": 7.0, "collapsed": 1.0, "by_status": { "hit": 6.0 } } },
            "sources": {}, "tiers": { "memory_bytes": 0.0, "memory_responses": 0.0, "lookups": {} }, "quotas": [],
            "journal_used_bytes": 0.0, "in_flight_bytes": 0.0, "connections": 1.0
        },
        "latency": {
            "hits": { "count": 6.0, "p50": 0.0001, "p95": 0.0002, "p99": 0.0002 },
            "forwards": { "count": 0.0, "p50": null, "p95": null, "p99": null }
        },
        "destinations": []
    }))),
)]
pub(super) async fn show(State(watch): State<Arc<Watch>>, _: Parameters<Nothing>) -> Json<Status> {
    Json(watch.look().await)
}

/// The figures once a second, and with each point the curves of the last half hour: events named `status`
/// (as `/v1/status` answers) and `curves`. It ends by itself after some minutes: ask again.
#[utoipa::path(
    get, path = "/v1/events", tag = "page", operation_id = "events",
    responses((status = 200, body = String, content_type = "text/event-stream", example = "event: status\ndata: {}\n\n")),
)]
pub(super) async fn events(
    State(watch): State<Arc<Watch>>,
    life: Option<Extension<Life>>,
    _: Parameters<Nothing>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let (told, place) = watch.subscribe().ok_or_else(|| {
        Problem::busy(format!("{WATCHERS_MAX} others watch already: close a page that nobody looks at"))
    })?;
    let life = life.map(|Extension(life)| life);
    let watcher = Watcher { told, status: None, points: 0, life, _place: place };
    let events = stream::unfold(watcher, async |mut watcher| {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    });
    Ok(Sse::new(events))
}

struct Watcher {
    told: watch::Receiver<Told>,
    /// What is to be told next.
    status: Option<Arc<str>>,
    /// How many points the curves had that were told last.
    points: u64,
    life: Option<Life>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next event: a reader that is slow is told the newest only. What was seen before it came may be old
    /// and is not told. `None`: it is time to end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(status) = self.status.take() {
                return Some(Event::default().event("status").data(status));
            }
            if let Some(curves) = self.curves() {
                return Some(Event::default().event("curves").data(curves));
            }
            let Self { told, life, .. } = self;
            let over = async {
                match life {
                    Some(life) => life.over().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = told.changed() => changed.ok()?,
                () = over => return None,
            }
            self.status.clone_from(&told.borrow_and_update().status);
        }
    }

    /// Curves with a point that was not told yet.
    fn curves(&mut self) -> Option<Arc<str>> {
        let told = self.told.borrow();
        let newer = (told.points > self.points).then(|| Arc::clone(&told.curves));
        self.points = told.points;
        newer
    }
}
