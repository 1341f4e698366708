//! RFC 9211 Cache-Status; RFC 9209 Proxy-Status.
