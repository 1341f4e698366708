//! One connection to a source. Whoever waits for it drives it: between who asks and the socket stands no other
//! task, and what comes is there when they are woken for it.
//!
//! ```text
//! idle    --> it wakes the pool, which lets go of it where the source has closed it
//! waited  --> it wakes the task that drove it last
//! driven  --> it wakes nobody: it is looked at again before its driver waits
//! ```
//! A request with content is another matter: what is sent must go on while nobody takes of the answer, so such a
//! connection gets a task of its own, as does one on which another protocol may be spoken.

use super::body::RequestBody;
use super::connector::{CountedStream, Uses};
use super::exchange::Until;
use crate::clock::Deadline;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a connection that wakes itself is driven on at once; then it is others' turn.
const ROUNDS_MAX: usize = 8;

type Driveable = Connection<TokioIo<CountedStream>, RequestBody>;

/// A connection.
pub(super) struct Link {
    sender: SendRequest<RequestBody>,
    /// `None`: it has ended, or a task of its own drives it. Nobody ever waits for the lock: it makes a body
    /// that has a connection one that can be looked at from several threads.
    connection: Option<Mutex<Driveable>>,
    uses: Uses,
    relay: Arc<Relay>,
    /// The relay.
    waker: Waker,
    /// When its answer is due.
    deadline: Deadline,
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// It has not come in time.
    Late,
    /// hyper's, with the request where nothing of it was sent.
    Closed(Box<TrySendError<Request<RequestBody>>>),
}

/// Who drives a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driven {
    ByWhoWaits,
    ByItsTask,
}

/// Whom a connection wakes.
struct Relay {
    phase: AtomicU8,
    /// The task that drove it last.
    driver: AtomicWaker,
    /// The pool.
    keeper: Arc<Notify>,
}

const IDLE: u8 = 0;
const WAITED: u8 = 1;
const DRIVEN: u8 = 2;
/// It was woken while it was driven.
const WOKEN: u8 = 3;

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.phase.compare_exchange(DRIVEN, WOKEN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(WOKEN) => {}
            Err(IDLE) => self.keeper.notify_one(),
            Err(_) => self.driver.wake(),
        }
    }
}

impl Link {
    /// A connection that stands; while it is idle it wakes `keeper`.
    ///
    /// # Errors
    /// hyper's, of a connection that failed at once.
    pub(super) async fn new(
        builder: &Builder,
        stream: CountedStream,
        keeper: &Arc<Notify>,
    ) -> hyper::Result<Self> {
        let uses = stream.uses();
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let (phase, driver) = (AtomicU8::new(WAITED), AtomicWaker::new());
        let relay = Arc::new(Relay { phase, driver, keeper: Arc::clone(keeper) });
        let waker = Waker::from(Arc::clone(&relay));
        let deadline = Deadline::at(Instant::now());
        Ok(Self { sender, connection: Some(Mutex::new(connection)), uses, relay, waker, deadline })
    }

    /// What it has carried.
    pub(super) const fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Gives it a task of its own.
    pub(super) fn part(&mut self) {
        if let Some(connection) = self.connection.take() {
            // How it ends is told to who waits for an answer on it.
            let connection = connection.into_inner().unwrap_or_else(PoisonError::into_inner);
            tokio::spawn(async move { drop(connection.with_upgrades().await) });
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub(super) async fn ask(
        &mut self,
        request: Request<RequestBody>,
        until: &mut Until<'_>,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.uses.ask();
        self.deadline.move_to(until.at());
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|context| {
            if let Poll::Ready(answer) = self.drive(context, |context| answer.as_mut().poll(context)) {
                return Poll::Ready(answer.map_err(|refused| Unanswered::Closed(Box::new(refused))));
            }
            loop {
                ready!(self.deadline.poll(context));
                if !until.is_put_off() {
                    return Poll::Ready(Err(Unanswered::Late));
                }
                self.deadline.move_to(until.at());
            }
        })
        .await
    }

    /// Drives it until what is awaited of it is there.
    pub(super) fn drive<T>(
        &mut self,
        context: &mut Context<'_>,
        mut awaited: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Some(connection) = self.connection.as_mut().map(unlocked) else { return awaited(context) };
        let phase = &self.relay.phase;
        self.relay.driver.register(context.waker());
        let mut own = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS_MAX {
            phase.store(DRIVEN, Ordering::Release);
            // First, because a body has to be asked for before it is read.
            let mut polled = awaited(&mut own);
            if polled.is_pending() {
                // What woke it until here is looked at now.
                phase.store(DRIVEN, Ordering::Release);
                if Pin::new(&mut *connection).poll(&mut own).is_ready() {
                    self.connection = None;
                    return awaited(context);
                }
                polled = awaited(&mut own);
            }
            let was_woken = phase.swap(WAITED, Ordering::AcqRel) == WOKEN;
            if polled.is_ready() || !was_woken {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Who drives it; `None`: it has ended.
    pub(super) fn driven(&self) -> Option<Driven> {
        match &self.connection {
            Some(_) => Some(Driven::ByWhoWaits),
            None if self.sender.is_closed() => None,
            None => Some(Driven::ByItsTask),
        }
    }

    /// Waits until the next request can be sent on one that a task of its own drives; whether it ever can.
    pub(super) async fn is_free(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Whether the next request can be sent on it now: the source has not closed it, and nothing has come that
    /// nobody asked for.
    pub(super) fn is_ready(&mut self) -> bool {
        let mut own = Context::from_waker(&self.waker);
        self.relay.phase.store(DRIVEN, Ordering::Release);
        let connection = self.connection.as_mut().map(unlocked);
        self.uses.look();
        let ended = connection.is_some_and(|one| Pin::new(one).poll(&mut own).is_ready());
        self.uses.looked();
        let is_ready = !ended && matches!(self.sender.poll_ready(&mut own), Poll::Ready(Ok(())));
        self.relay.phase.store(WAITED, Ordering::Release);
        if ended {
            self.connection = None;
        }
        is_ready
    }

    /// Nobody waits for it: what it says is for the pool.
    pub(super) fn rest(&self) {
        self.relay.phase.store(IDLE, Ordering::Release);
        drop(self.relay.driver.take());
    }
}

fn unlocked(connection: &mut Mutex<Driveable>) -> &mut Driveable {
    connection.get_mut().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("uses", &self.uses).finish_non_exhaustive()
    }
}
