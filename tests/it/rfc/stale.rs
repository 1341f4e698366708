//! RFC 9111 4.2.4 serving stale; RFC 5861.
