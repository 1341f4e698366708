//! Black-box tests of what Tidegate promises: the real binary on port 0, sources and destinations
//! that a test scripts, a real Redis. Names say the promise; I1 to I12 are the invariants of
//! docs/ARCHITECTURE.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::format_push_string,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says with what numbers"
)]

mod accept;
mod access;
mod addresses;
mod admin;
mod again;
mod background;
mod coherence;
mod collapsing;
mod corpus;
mod crash;
mod crowds;
mod deliveries;
mod demo;
mod doubt;
mod explain;
mod fields;
mod floods;
mod formats;
mod forwarding;
mod hit_for_miss;
mod hits;
mod idempotency;
mod identity;
mod journal;
mod lanes;
mod lifecycle;
mod limits;
mod min_version;
mod observe;
mod openapi;
mod operators;
mod outcomes;
mod overload;
mod pacing;
mod page;
mod purges;
mod quotas;
mod reads;
mod reload;
mod rfc;
mod shared;
mod source;
mod support;
mod targets;
mod tls;
mod upgrade;
mod validation;
mod writes;
