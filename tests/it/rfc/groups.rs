//! RFC 9875 Cache Groups; Surrogate-Key and Cache-Tag.
