//! RFC 9111 5.2.1 requests' Cache-Control; 5.4 Pragma.
