//! Tidegate: a caching data-sync gateway.
//!
//! Clients speak plain HTTP to Tidegate as if it were the source. Reads are answered from memory,
//! from Redis, or by one request to the source however many clients ask. Writes go to the source
//! and are recorded; every destination gets every change, in order per key, until it has it.
//!
//! Where to start reading: `gateway/pipeline.rs` is the way of a request, `sync/mod.rs` the way of
//! a change, `cache/mod.rs` what a lookup can answer. Imports go down only:
//!
//! ```text
//! main, cli                              arguments -> command -> exit code
//!   app                                  builds every part from Settings, starts and stops them
//!     config                             a file -> Settings, or every fault of it at once
//!       gateway, admin                   what happens to one request; the operators' listener
//!         access, cache, sync, rate_limit, source   who comes in; stored responses; changes; quotas; who is asked
//!           redis, in_flight, explanation   ground floor, three steps: connections, bytes held, answers,
//!             breaker, secret, target, telemetry, tls               values and rules,
//!               clock                                               and time
//! ```
//!
//! Modules of one floor do not import each other; `tests/tidy.rs` checks that.

pub mod access;
pub mod admin;
pub mod app;
pub mod breaker;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod explanation;
pub mod gateway;
pub mod in_flight;
pub mod rate_limit;
pub mod redis;
pub mod secret;
pub mod source;
pub mod sync;
pub mod target;
pub mod telemetry;
pub mod tls;
