//! A circuit breaker as a pure state machine: Redis and each destination have one.
