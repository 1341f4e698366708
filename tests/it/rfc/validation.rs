//! RFC 9111 4.3 validation.
