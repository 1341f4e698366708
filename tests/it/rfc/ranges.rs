//! RFC 9110 14 ranges; RFC 9111 3.3, 3.4.
