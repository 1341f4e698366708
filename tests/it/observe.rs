//! What operators watch a gateway by: metrics with the rules and the dashboard over them, traces, the access log
//! and the audit log.

mod logs;
mod metrics;
#[cfg(feature = "otlp")]
mod spans;
mod traces;
