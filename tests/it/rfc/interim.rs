//! RFC 9110 15.2 interim responses; RFC 8297.
