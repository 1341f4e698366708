//! What the tests stand on: the real binary, scripted sources, recording destinations, a real Redis.

pub(crate) mod client;
pub(crate) mod destination;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod inventory;
pub(crate) mod redis;
pub(crate) mod relay;
pub(crate) mod server;
pub(crate) mod source;
pub(crate) mod tls;
pub(crate) mod wait;
pub(crate) mod wire;

mod tests;

pub(crate) use self::redis::RedisServer;
pub(crate) use client::{Answer, Ask, Opened, is_broken};
pub(crate) use destination::{Delivery, RecordingDestination};
pub(crate) use gateway::{Gateway, Setup};
pub(crate) use inventory::{Fault, InventorySource};
pub(crate) use relay::Relay;
pub(crate) use server::{Received, Reply, Step};
pub(crate) use source::ScriptedSource;
pub(crate) use wait::{Gate, answers_within, eventually, within};

/// A route named `items` that takes everything; further keys and tables may be appended.
pub(crate) const EVERYTHING: &str =
    "[[route]]\nname = \"items\"\npath = \"/{*rest}\"\nsource = \"inventory\"\n";

/// A gateway in front of a source, with a route for everything and what `more` adds to that route.
pub(crate) async fn gateway_for(source: &ScriptedSource, more: &str) -> Gateway {
    Setup::new(format!("{}{EVERYTHING}{more}", source.table())).start().await
}

/// What makes the route before it deliver to `search`.
pub(crate) const SYNC: &str = "[route.sync]\ndestinations = [\"search\"]\n";

/// A gateway whose one route is synced to `search`.
pub(crate) async fn synced(source: &ScriptedSource, destination: &RecordingDestination) -> Gateway {
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    Setup::new(text).start().await
}

/// A source that takes every write.
pub(crate) async fn obliging_source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| match request.method.as_str() {
        "POST" => Reply::new(201, "").field("Location", "/items/7"),
        "DELETE" => Reply::new(204, ""),
        _ => Reply::ok(""),
    });
    source
}

/// An HTTP date so many seconds from now.
#[expect(clippy::disallowed_methods, reason = "a source's dates are wall-clock dates")]
pub(crate) fn http_date(seconds_from_now: i64) -> String {
    let now = std::time::SystemTime::now();
    let distance = std::time::Duration::from_secs(seconds_from_now.unsigned_abs());
    httpdate::fmt_http_date(if seconds_from_now < 0 { now - distance } else { now + distance })
}
