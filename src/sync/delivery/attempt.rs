//! One request to a destination, with a typed outcome.
//!
//! hyper's client and not a URL library sends it: the target goes out byte for byte (I8), redirects
//! are not followed, proxy variables are not read, nothing is decompressed or repeated.

use super::answer::Keeper;
use super::connector::{Connector, InTime, Unreached};
use super::outcome::{Before, Code, Failure, Meanings, Outcome, retry_after};
use super::request::{Delivery, Requests};
use crate::clock::Clock;
use crate::sync::settings::DestinationSettings;
use crate::tls::TlsFault;
use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http::Request;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

/// How long an unused connection is kept; short, so that the other side rarely closes it first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The way to one destination.
#[derive(Debug)]
pub(crate) struct Sender {
    transport: Transport,
    requests: Requests,
    meanings: Meanings,
    keeper: Keeper,
    timeout: Duration,
    clock: Clock,
}

#[derive(Debug)]
enum Transport {
    Plain(Client<InTime<Connector>, Full<Bytes>>),
    Tls(Client<InTime<HttpsConnector<Connector>>, Full<Bytes>>),
}

impl Transport {
    fn to(settings: &DestinationSettings) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new());
        builder.timer(TokioTimer::new());
        builder.pool_idle_timeout(IDLE_TIMEOUT);
        builder.pool_max_idle_per_host(settings.concurrency);
        builder.http1_max_buf_size(HEAD_BYTES_MAX);
        let connector = Connector::new(settings.allow.clone());
        // The plain one refuses what does not say http.
        let Some(config) = settings.tls.config() else {
            return Self::Plain(builder.build(InTime(connector.of_http_only())));
        };
        let tls = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
        Self::Tls(builder.build(InTime(tls.wrap_connector(connector))))
    }
}

impl Sender {
    pub(crate) fn new(settings: &DestinationSettings, clock: Clock) -> Self {
        let requests = Requests::new(settings);
        Self {
            transport: Transport::to(settings),
            keeper: Keeper::new(settings, requests.authorization()),
            requests,
            meanings: Meanings { format: settings.format, given: settings.outcome.clone() },
            timeout: settings.timeout,
            clock,
        }
    }

    /// Sends one delivery and reads the answer.
    pub(crate) async fn attempt(&self, delivery: Delivery<'_>, before: Before) -> Outcome {
        let Some((request, span)) = self.requests.of(&delivery, self.clock.wall()) else {
            return Outcome::of_silence(Failure::of(Code::Unsendable));
        };
        let method = request.method().clone();
        let exchanged = self.exchange(request).await;
        let told = span.map(|span| {
            (
                span,
                exchanged.as_ref().map_or_else(
                    |failure| Err(failure.code),
                    |answered| Ok(answered.status.unwrap_or_default()),
                ),
            )
        });
        let outcome = match exchanged {
            Ok(answered) => self.meanings.of(&method, before, answered),
            Err(failure) => Outcome::of_silence(failure),
        };
        if let Some((mut span, ended)) = told {
            match ended {
                Ok(status) => span.answered(status),
                Err(code) => span.failed(code.as_str()),
            }
            span.with("tidegate.outcome", outcome.as_str());
        }
        outcome
    }

    /// The answer, as the failure that it is where its status is no success.
    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Failure, Failure> {
        let connection = capture_connection(&mut request);
        let answering = match &self.transport {
            Transport::Plain(client) => client.request(request),
            Transport::Tls(client) => client.request(request),
        };
        let deadline = pin!(tokio::time::sleep(self.timeout));
        let (response, deadline) = match select(answering, deadline).await {
            Either::Left((response, deadline)) => (response.map_err(|error| failure(&error))?, deadline),
            // Without a connection nothing was sent.
            Either::Right(_) if connection.connection_metadata().is_none() => {
                return Err(Failure::of(Code::Timeout));
            }
            Either::Right(_) => return Err(Failure::lost(Code::Timeout)),
        };
        let after = retry_after(response.headers(), self.clock.wall());
        let (status, mut held) = (response.status(), BytesMut::new());
        // The status decides; an answer whose content breaks off or stalls has been given all the same.
        select(pin!(self.keeper.read(response.into_body(), &mut held)), deadline).await;
        Ok(Failure::answered(status, after, self.keeper.shown(&held)))
    }
}

fn failure(error: &ClientError) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<Unreached>() {
            Some(Unreached::Unresolved(_)) => return Failure::of(Code::Dns),
            Some(Unreached::Denied) => return Failure::of(Code::AddressDenied),
            None => {}
        }
        if let Some(fault) = TlsFault::of(error) {
            return Failure::of(Code::Tls(fault));
        }
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_parse() => return Failure::lost(Code::Garbage),
            // It was never begun.
            Some(error) if error.is_canceled() => return Failure::of(Code::Connect),
            Some(_) | None => {}
        }
        // What an I/O error holds is not its source: that is the source of what it holds.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    // Once connected the request may have arrived, whatever broke afterwards.
    if error.is_connect() { Failure::of(Code::Connect) } else { Failure::lost(Code::Connect) }
}
