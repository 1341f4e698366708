//! RFC 9111 4.4 invalidation.
