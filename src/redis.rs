//! The connection to Redis: one breaker and one budget for all uses (I9).
