//! The connections to a source's addresses: those that are idle, and new ones.
//!
//! ```text
//! send -> an idle one that is still good, the one used last by this thread first; else a new one
//!      -> closed before anything of the request was sent: the next one, unless it was new
//! end of the answer -> idle, until it is used, closed by the source, or old
//! ```

mod shelves;

use super::address::Address;
use super::body::RequestBody;
use super::connector::{BoxError, Connector, Uses};
use super::draft::Line;
use super::exchange::Until;
use super::link::{self, Driven, Link};
use super::strictness;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use shelves::{Idle, Shelves};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Idle connections are looked after at most so often, unless one of them wakes.
const TENDED_EVERY_MIN: Duration = Duration::from_millis(100);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// No connection came to stand.
    Unconnected(BoxError),
    /// The connection broke, or what came is no HTTP; what it had carried.
    Closed(hyper::Error, Uses),
    /// Nothing came in time.
    Late,
}

/// Connects, and keeps connections; its clones keep them together.
#[derive(Clone, Debug)]
pub(super) struct Client(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    connector: Connector,
    builder: Builder,
    idle: Shelves,
    /// The most idle ones of an address (I10).
    idle_max: usize,
    idle_timeout: Duration,
    /// Whether a task looks after the idle ones.
    is_tended: AtomicBool,
    /// Told when an idle one wakes.
    woken: Arc<Notify>,
}

impl Client {
    /// Keeps at most `idle_max` idle connections of each address.
    pub(super) fn new(connector: Connector, idle_max: usize, idle_timeout: Duration) -> Self {
        let mut builder = Builder::new();
        builder.max_buf_size(strictness::HEAD_BYTES_MAX).max_headers(strictness::FIELDS_MAX);
        Self(Arc::new(Pool {
            connector,
            builder,
            idle: Shelves::default(),
            idle_max,
            idle_timeout,
            is_tended: AtomicBool::new(false),
            woken: Arc::default(),
        }))
    }

    /// Sends a request to an address, whose path and query there it has, and waits for the head of the answer.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub(super) async fn send(
        &self,
        address: &Address,
        mut request: Request<RequestBody>,
        on: Line,
        mut until: Until<'_>,
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        let pool = &self.0;
        loop {
            let idle = match on {
                Line::Shared => pool.take(address.shown()),
                Line::Own => None,
            };
            let mut link = match idle {
                Some(link) => link,
                // In a box: most requests find one that stands, and none of them shall carry this.
                None => Box::pin(pool.connected(address, &mut until)).await?,
            };
            if on == Line::Own || !request.body().is_end_stream() {
                link.part();
            }
            let was_used = link.uses().any();
            match link.ask(request, &mut until).await {
                Ok(response) => {
                    let keeps = (on == Line::Shared).then(|| (Arc::clone(pool), address.name()));
                    return Ok((response, Lease { uses: link.uses().clone(), link: Some(link), keeps }));
                }
                Err(link::Unanswered::Late) => return Err(Unanswered::Late),
                Err(link::Unanswered::Closed(mut refused)) => {
                    match refused.take_message().filter(|_| was_used) {
                        Some(unsent) => request = unsent,
                        None => return Err(Unanswered::Closed(refused.into_error(), link.uses().clone())),
                    }
                }
            }
        }
    }
}

impl Pool {
    async fn connected(&self, address: &Address, until: &mut Until<'_>) -> Result<Box<Link>, Unanswered> {
        let mut connecting = pin!(async {
            let origin = address.origin().ok_or("the address is no URI")?;
            let stream = self.connector.connect(origin.clone()).await?;
            Ok(Box::new(Link::new(&self.builder, stream, &self.woken).await?))
        });
        loop {
            match tokio::time::timeout_at(until.at(), connecting.as_mut()).await {
                Ok(connected) => return connected.map_err(Unanswered::Unconnected),
                Err(_) if until.is_put_off() => {}
                Err(_) => return Err(Unanswered::Late),
            }
        }
    }

    /// An idle connection that is still good.
    fn take(&self, address: &str) -> Option<Box<Link>> {
        loop {
            let Idle { mut link, since } = self.idle.take(address)?;
            if since.elapsed() < self.idle_timeout && link.is_ready() {
                return Some(link);
            }
        }
    }

    fn keep(self: &Arc<Self>, address: Arc<str>, link: Box<Link>) {
        if !link.uses().may_go_on() {
            return;
        }
        link.rest();
        self.idle.put(address, Idle { link, since: Instant::now() }, self.idle_max);
        if !self.is_tended.load(Ordering::Relaxed) && !self.is_tended.swap(true, Ordering::Relaxed) {
            tokio::spawn(tend(Arc::downgrade(self), Arc::clone(&self.woken), self.idle_timeout));
        }
    }

    /// Lets go of those that are old or closed; how long until the next is old.
    fn tend(&self) -> Duration {
        let mut next = self.idle_timeout;
        self.idle.retain(|Idle { link, since }| {
            let left = self.idle_timeout.saturating_sub(since.elapsed());
            let stays = !left.is_zero() && link.is_ready();
            if stays {
                link.rest();
                next = next.min(left);
            }
            stays
        });
        next
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.woken.notify_one();
    }
}

/// Looks after the idle connections of a pool, as long as there is one.
async fn tend(pool: Weak<Pool>, woken: Arc<Notify>, mut wait: Duration) {
    loop {
        let wait_for = wait.max(TENDED_EVERY_MIN);
        // It is time, or one of them has woken.
        drop(tokio::time::timeout(wait_for, woken.notified()).await);
        let Some(pool) = pool.upgrade() else { return };
        wait = pool.tend();
    }
}

/// The connection on which an answer comes.
#[derive(Debug)]
pub(super) struct Lease {
    /// `None`: the answer has ended.
    link: Option<Box<Link>>,
    uses: Uses,
    /// Where it goes then; `None`: nowhere.
    keeps: Option<(Arc<Pool>, Arc<str>)>,
}

impl Lease {
    /// What the connection has carried.
    pub(super) const fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Drives the connection until what is awaited of it is there.
    pub(super) fn drive<T>(
        &mut self,
        context: &mut Context<'_>,
        mut awaited: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match &mut self.link {
            Some(link) => link.drive(context, awaited),
            None => awaited(context),
        }
    }

    /// The answer has ended: the connection is free for others.
    pub(super) fn end(&mut self) {
        let (Some(mut link), Some((pool, address))) = (self.link.take(), self.keeps.take()) else { return };
        match link.driven() {
            None => {}
            Some(Driven::ByWhoWaits) => pool.keep(address, link),
            Some(Driven::ByItsTask) => {
                tokio::spawn(async move {
                    if link.is_free().await {
                        pool.keep(address, link);
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
