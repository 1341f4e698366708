//! The connection to Redis: one breaker and one budget for all uses (I9).

#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct OpenError;
