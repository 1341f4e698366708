//! RFC 9111 3 storing.
